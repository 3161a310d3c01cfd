"""What stands in a results folder, file by file: each read through its schema, at the path that its content names.

Nothing is believed for where it stands or how it is called: a link, a pipe, a hidden file, JSON that is no evidence and
a table that no record is sealed with are named. No torch.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from bench.check.trust import Rerun, SelfReported, read_row, rerun_path
from bench.errors import RecordError
from bench.records.cam_record import CamRecord, cam_path, images_path, maps_path
from bench.records.card import DataCard, card_path
from bench.records.cost_record import CostCell, CostRecord
from bench.records.names import SYNTHETIC_PREFIX, history_path, predictions_path
from bench.records.predictions import read_attached
from bench.records.run_record import MEASURED_FOLDERS, Record, read_record
from bench.records.sealed import TEMPORARY, read_sealed
from bench.records.timing_record import TimingRecord, timing_path
from bench.records.tracks.card import TrackCard, card_images_path, track_card_path
from bench.records.tracks.record import TrackRecord, logits_path, track_path
from bench.records.tuning.record import TuningRecord, tuning_path
from bench.records.writing.swap import KEPT

Measured = CostRecord | TimingRecord | CamRecord | TrackRecord | TrackCard | TuningRecord
Evidence = Record | DataCard | Measured | Rerun | SelfReported
EVIDENCE = ("data", "records", *MEASURED_FOLDERS)
ROW_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.json")
LEFT = (TEMPORARY, KEPT)  # how the names of files begin that a killed writer left
HERE = Path()


def _read_track(path: Path) -> TrackRecord | TrackCard:
    """A run's record of a track, or a data set's card of it."""
    return read_sealed(path, TrackRecord) if path.name.startswith("seed") else read_sealed(path, TrackCard)


def _track_home(one: TrackRecord | TrackCard) -> Path:
    if isinstance(one, TrackCard):
        return track_card_path(HERE, one.track, one.dataset)
    return track_path(HERE, one.track, one.run)


@dataclass(frozen=True)
class Kind:
    """One kind of evidence: how a file is read, and where its content belongs, relative to the results folder."""

    read: Callable[[Path], Evidence]
    paths: Callable[[Any], list[Path]]


KINDS = {
    "data": Kind(lambda path: read_sealed(path, DataCard), lambda card: [card_path(HERE, card.dataset)]),
    "records": Kind(read_record, lambda record: [record.run.path(HERE)]),
    "costs": Kind(
        lambda path: read_sealed(path, CostRecord),
        lambda cost: [CostCell(cost.model, cost.img_size, cost.num_classes).path(HERE)],
    ),
    "timings": Kind(
        lambda path: read_sealed(path, TimingRecord),
        lambda timing: [
            timing_path(HERE, timing.device, timing.model),
            *([timing_path(HERE, timing.device, timing.model, "torch")] if timing.scan_backend == "torch" else []),
        ],
    ),
    "cams": Kind(lambda path: read_sealed(path, CamRecord), lambda cam: [cam_path(HERE, cam.run)]),
    "tracks": Kind(_read_track, lambda one: [_track_home(one)]),
    "tuning": Kind(
        lambda path: read_sealed(path, TuningRecord),
        lambda sweep: [tuning_path(HERE, sweep.grid, sweep.model, sweep.dataset)],
    ),
    "self_reported": Kind(read_row, lambda row: []),
    "reruns": Kind(lambda path: read_sealed(path, Rerun), lambda rerun: [rerun_path(HERE, rerun.run_id)]),
}


@dataclass
class Inventory:
    """What a results folder holds.

    Attributes:
        folder: The folder.
        evidence: By the file's path below it.
        problems: Why a file is refused, by its path; no such file is in `evidence`.
        left: Files that a killed writer left: temporary ones, and tables whose record was never written.
    """

    folder: Path
    evidence: dict[PurePosixPath, Evidence] = field(default_factory=dict)
    problems: dict[PurePosixPath, str] = field(default_factory=dict)
    left: list[PurePosixPath] = field(default_factory=list)

    def read(self, name: PurePosixPath) -> None:
        """Read one file of evidence, or note why it is none."""
        try:
            self.evidence[name] = read_evidence(self.folder, name)
        except RecordError as error:
            self.problems[name] = str(error).removeprefix(f"{self.folder / name}: ")


def take_inventory(folder: Path, max_bytes: int | None = None) -> Inventory:
    """Read everything below the folders of evidence; what stands beside them is not looked at.

    Args:
        folder: The results folder.
        max_bytes: Larger files are named and not read, None for no limit.
    """
    inventory = Inventory(folder)
    tables: set[PurePosixPath] = set()
    for name, state in _files(folder):
        problem = _unfit(name, state, max_bytes)
        if problem:
            inventory.problems[name] = problem
        elif name.name.startswith(LEFT):
            inventory.left.append(name)
        elif name.suffix == ".parquet":
            tables.add(name)
        else:
            inventory.read(name)
    for name, evidence in list(inventory.evidence.items()):
        for table, sha256 in tables_of(evidence, name).items():
            tables.discard(table)
            try:
                read_attached(folder / table, sha256)
            except RecordError as error:
                inventory.problems[table] = str(error).removeprefix(str(folder / table)).lstrip(": ")
    for name in sorted(tables):
        record = name.with_name(name.name.split(".")[0] + ".json")
        if name.parts[0] in ("records", "cams", "tracks") and record not in {*inventory.evidence, *inventory.problems}:
            inventory.left.append(name)
        else:
            inventory.problems[name] = "no record names this table; remove it"
    return inventory


def read_evidence(folder: Path, name: PurePosixPath) -> Evidence:
    """One file of evidence.

    Args:
        folder: The results folder.
        name: The file's path below it.

    Raises:
        RecordError: If it is not what its schema says, belongs elsewhere, or is of no kind.
    """
    path, kind = folder / name, KINDS.get(name.parts[0])
    if kind is None or name.suffix != ".json":
        raise RecordError(f"{path}: is no evidence; remove it")
    evidence = kind.read(path)
    if name.parts[0] == "self_reported":
        if len(name.parts) != 2 or not ROW_NAME.fullmatch(name.name):
            raise RecordError(f"{path}: a row stands in self_reported/<name>.json")
        return evidence
    homes = [PurePosixPath(home.as_posix()) for home in kind.paths(evidence)]
    if name not in homes:
        raise RecordError(f"{path}: its content belongs to {homes[0]}")
    dataset, synthetic = getattr(evidence, "dataset", ""), getattr(evidence, "synthetic", None)
    if synthetic is not None and synthetic != dataset.startswith(SYNTHETIC_PREFIX):
        raise RecordError(f"{path}: synthetic does not fit the data set's name")
    if isinstance(evidence, CamRecord | TrackRecord) and evidence.run_id != evidence.run.run_id:
        raise RecordError(f"{path}: run_id {evidence.run_id!r} does not fit its names")
    return evidence


def tables_of(evidence: Evidence, name: PurePosixPath) -> dict[PurePosixPath, str]:
    """The tables that evidence is sealed with: path below the results folder -> SHA-256."""
    digests: dict[Path, str | None] = {}
    if isinstance(evidence, Record):
        digests[predictions_path(Path(name))] = evidence.predictions_sha256
        digests[history_path(Path(name))] = evidence.history_sha256
    elif isinstance(evidence, CamRecord):
        digests[maps_path(Path(name))] = evidence.maps_sha256
        digests[images_path(Path(name))] = evidence.images_sha256
    elif isinstance(evidence, TrackRecord):
        digests[logits_path(Path(name))] = evidence.logits_sha256
    elif isinstance(evidence, TrackCard):
        digests[card_images_path(Path(name))] = evidence.images_sha256
    return {PurePosixPath(path.as_posix()): digest for path, digest in digests.items() if digest is not None}


def _files(folder: Path) -> Iterator[tuple[PurePosixPath, os.stat_result]]:
    """Everything below the folders of evidence that is no folder itself, in a fixed order; a link is never followed."""
    for kind in EVIDENCE:
        top = folder / kind
        if top.is_symlink():
            yield PurePosixPath(kind), top.lstat()
            continue
        for path in sorted(top.rglob("*")):
            state = path.lstat()
            if not stat.S_ISDIR(state.st_mode):
                yield PurePosixPath(path.relative_to(folder).as_posix()), state


def _unfit(name: PurePosixPath, state: os.stat_result, max_bytes: int | None) -> str:
    """Why a file is not even read, "" if it may be."""
    if stat.S_ISLNK(state.st_mode):
        return "symbolic links are refused"
    if not stat.S_ISREG(state.st_mode):
        return "is no regular file"
    if any(part.startswith(".") for part in name.parts[:-1]) or (
        name.name.startswith(".") and not name.name.startswith(LEFT)
    ):
        return "hidden files are no evidence; remove it"
    if max_bytes is not None and state.st_size > max_bytes:
        return f"has {state.st_size:,} bytes; a file of evidence has at most {max_bytes:,}"
    return ""
