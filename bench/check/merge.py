"""Bring shards' results together: every record checked, nothing overwritten, a contradiction refused. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from bench.errors import RecordError
from bench.records.card import card_path, read_card, write_card
from bench.records.names import history_path, lock_path, predictions_path
from bench.records.predictions import read_attached
from bench.records.run_record import MEASURED_FOLDERS, Record, read_record, real_only, record_files, write_run
from bench.records.sealed import explain_os_error, write_atomic


@dataclass
class Merged:
    """What a merge did: run ids taken over, known already, and replaced (a failed run by a finished one)."""

    taken: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    def summary(self) -> str:
        """One line for a person."""
        text = f"{len(self.taken)} records taken over, {len(self.known)} known already"
        text += f", {len(self.replaced)} failed ones replaced by finished ones" if self.replaced else ""
        return text + (f", {len(self.files)} other measurements" if self.files else "")


def merge(sources: Sequence[Path], results: Path) -> Merged:
    """Copy what several results folders hold into one.

    All is checked before the first file is written, so that a refused merge changes nothing.

    Args:
        sources: Folders of shards.
        results: Where everything goes.

    Raises:
        RecordError: If a record is damaged, a run stands in two folders with different outcomes, cards differ, or
            synthetic records would enter a store of real ones.
    """
    for source in sources:
        if not (source / "records").is_dir():
            raise RecordError(
                f"{source} is no results folder: it holds no records/; give the shards' --results folders"
            )
    merged = Merged()
    chosen = _choose(sources, results, merged)
    _check_cards(sources, results)
    copies = dict(_measurements(sources, results))
    for source in sources:
        for path in sorted((source / "data").glob("*.json")):
            card = read_card(source, path.stem)
            if card is not None and not card_path(results, path.stem).exists():
                write_card(results, card)
    for record, source in chosen:
        _copy(record, source, results)
    for target, origin in copies.items():
        write_atomic(target, origin.read_bytes())
        merged.files.append(target)
    return merged


def _choose(sources: Sequence[Path], results: Path, merged: Merged) -> list[tuple[Record, Path]]:
    """The record to take for each run, best outcome first."""
    have: dict[str, tuple[Record, Path]] = {}
    for folder in (results, *sources):
        for path in record_files(folder):
            record = read_record(path, folder)
            if record.synthetic and real_only(results):
                raise RecordError(
                    f"{path} is synthetic and {results} holds real records only; merge into another folder"
                )
            _check_files(record, path)
            known = have.get(record.run_id)
            if known is None:
                have[record.run_id] = (record, folder)
                if folder != results:
                    merged.taken.append(record.run_id)
            elif _same(known[0], record):
                merged.known.append(record.run_id)
            elif record.status == "done" and known[0].status != "done":
                have[record.run_id] = (record, folder)
                (merged.replaced if known[1] == results else merged.taken).append(record.run_id)
            elif record.status == "done":
                where = f"{known[1]} and {folder}"
                raise RecordError(
                    f"{record.run_id} ended differently in {where}; medbench compare tells how, then remove one of them"
                )
    merged.taken = list(dict.fromkeys(merged.taken))
    return [(record, folder) for record, folder in have.values() if folder != results]


def _same(one: Record, other: Record) -> bool:
    """Whether two records of a run say the same; when and on what they were made may differ."""
    keys = ("status", "val", "test", "test_twin_free", "protocol_digest", "predictions_sha256", "labels_digest")
    return all(getattr(one, key) == getattr(other, key) for key in keys)


def _check_files(record: Record, path: Path) -> None:
    for file, expected in (
        (predictions_path(path), record.predictions_sha256),
        (history_path(path), record.history_sha256),
    ):
        if expected is None:
            continue
        read_attached(file, expected)


def _check_cards(sources: Sequence[Path], results: Path) -> None:
    """One card a data set, in the target and in all sources."""
    known: dict[str, Path] = {}
    for folder in (results, *sources):
        for path in sorted((folder / "data").glob("*.json")):
            first = known.setdefault(path.stem, folder)
            if read_card(first, path.stem) != read_card(folder, path.stem):
                raise RecordError(f"{path} and {card_path(first, path.stem)} describe different data; measure one anew")


def _copy(record: Record, source: Path, results: Path) -> None:
    """Write a run's three files under its lock."""
    origin = record.run.path(source)
    lock = lock_path(results, record.run)
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_os_error(error, results) from None
    with FileLock(lock):
        tables = [
            read_attached(file, digest) if digest else None
            for file, digest in (
                (predictions_path(origin), record.predictions_sha256),
                (history_path(origin), record.history_sha256),
            )
        ]
        write_run(results, record, *tables)


def _measurements(sources: Sequence[Path], results: Path) -> Iterator[tuple[Path, Path]]:
    """Cost, timing and other sealed files that the target lacks: (target, origin)."""
    seen: dict[Path, Path] = {}
    for source in sources:
        for kind in MEASURED_FOLDERS:
            for origin in sorted(path for path in (source / kind).rglob("*") if path.is_file()):
                target = results / origin.relative_to(source)
                other = target if target.exists() else seen.get(target)
                if other is None:
                    seen[target] = origin
                    yield target, origin
                elif other.read_bytes() != origin.read_bytes():
                    raise RecordError(f"{origin} and {other} differ; keep the one that you trust and merge again")
