"""What `results/tracks/` holds of a run: its logits and scores on corrupted test images. No torch.

`results/tracks/<track>/<protocol>/<model>/<dataset>/seed<k>.json`, sealed, beside `seed<k>.logits.parquet` with a row
for every corruption, severity and image. It names the run by its predictions: the weights that gave those gave these
logits. Nothing in it depends on when or how often the scoring was interrupted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from bench.errors import ProtocolError, RecordError
from bench.protocols.loading import load_protocol
from bench.records.names import SYNTHETIC_PREFIX, ModelName, Run, SlugName, lock_file, model_slug
from bench.records.own_models import outdated
from bench.records.predictions import frame_bytes, read_attached, read_table
from bench.records.run_record import Record, Scores, check_apart, read_record
from bench.records.scoring import same_score
from bench.records.sealed import Sealed, read_all, sealed_bytes
from bench.records.writing.locks import BusyError, held
from bench.records.writing.swap import replace_together
from bench.stats.metrics import score, softmax
from bench.tracks.loading import load_track
from bench.tracks.schema import CORRUPTIONS, SEVERITIES, cells

WAIT_SECONDS = 60.0  # for another process that writes the same files
NUM_CELLS = len(CORRUPTIONS) * len(SEVERITIES)

CellScores = dict[str, list[Scores]]  # corruption -> the scores of severities 1 to 5


@dataclass(frozen=True)
class TrackLogits:
    """A run's logits on corrupted images.

    Attributes:
        indices: (N,) of the images in the test split, rising.
        logits: (70, N, K) float32, in the order of `bench.tracks.schema.cells`.
    """

    indices: NDArray[np.int64]
    logits: NDArray[np.float32]


class TrackRecord(Sealed):
    """One run's scores on one track; `results/README.md` defines each field."""

    suite_version: str
    run_id: str
    track: SlugName
    model: ModelName
    dataset: SlugName
    protocol: SlugName
    seed: int = Field(ge=0)
    synthetic: bool
    track_digest: str
    protocol_digest: str
    model_fingerprint: str
    labels_digest: str
    data_md5: str
    num_images: int = Field(ge=1)
    pixels_sha256: str
    run_predictions_sha256: str
    logits_sha256: str
    clean: Scores
    scores: CellScores
    commit: str | None
    dirty: bool | None
    packages: dict[str, str]
    device: str
    cpu_isa: str | None
    num_threads: int

    @field_validator("scores")
    @classmethod
    def _every_cell(cls, value: CellScores) -> CellScores:
        if set(value) != set(CORRUPTIONS) or any(len(scores) != len(SEVERITIES) for scores in value.values()):
            raise ValueError("every corruption at every severity, and no other")
        return value

    @property
    def run(self) -> Run:
        """The run whose weights were scored."""
        return Run(self.protocol, self.model, self.dataset, self.seed)


def track_path(results: Path, track: str, run: Run) -> Path:
    """Where a run's record of a track stands."""
    folder = results / "tracks" / track / run.protocol / model_slug(run.model) / run.dataset
    return folder / f"seed{run.seed}.json"


def logits_path(record_path: Path) -> Path:
    """`seed0.json` -> `seed0.logits.parquet`."""
    return record_path.with_suffix(".logits.parquet")


def logits_bytes(found: TrackLogits) -> bytes:
    """Logits as parquet bytes: `corruption`, `severity`, `index`, `logit_0` ..."""
    import pandas as pd

    num_images, num_classes = found.logits.shape[1:]
    names, severities = zip(*cells(), strict=True)
    columns: dict[str, Any] = {
        "corruption": np.repeat(np.array(names, dtype=object), num_images),
        "severity": np.repeat(np.array(severities, dtype=np.int8), num_images),
        "index": np.tile(found.indices.astype(np.int32), NUM_CELLS),
    }
    flat = found.logits.reshape(-1, num_classes).astype(np.float32)
    return frame_bytes(pd.DataFrame({**columns, **{f"logit_{k}": flat[:, k] for k in range(num_classes)}}))


def parse_logits(content: bytes, num_images: int, name: str = "the logits") -> TrackLogits:
    """The table of a track record.

    Args:
        content: The file's bytes.
        num_images: What the record says.
        name: What the message calls it.

    Raises:
        RecordError: If it is damaged, or not every cell has the same images once, in order.
    """
    import pyarrow as pa

    try:
        table = read_table(content, NUM_CELLS * num_images)
        indices = table.column("index").to_numpy().astype(np.int64).reshape(NUM_CELLS, num_images)
        columns = [table.column(f"logit_{k}").to_numpy().astype(np.float32) for k in range(table.num_columns - 3)]
        keys = list(zip(table.column("corruption").to_pylist(), table.column("severity").to_pylist(), strict=True))
        logits = np.stack(columns, axis=1).reshape(NUM_CELLS, num_images, -1)
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError) as error:
        raise RecordError(f"{name}: no table of a track ({error})") from None
    expected = [cell for cell in cells() for _ in range(num_images)]
    if keys != expected or (np.diff(indices[0]) <= 0).any() or (indices != indices[0]).any():
        raise RecordError(f"{name}: not every corruption and severity has the same images, once and in order")
    return TrackLogits(indices[0], logits)


def read_logits(results: Path, record: TrackRecord) -> TrackLogits:
    """The stored logits of a track record.

    Raises:
        RecordError: If the file is missing, damaged, or not the record's.
    """
    path = logits_path(track_path(results, record.track, record.run))
    return parse_logits(read_attached(path, record.logits_sha256), record.num_images, str(path))


def score_cells(labels: NDArray[np.int64], found: TrackLogits, task: str) -> CellScores:
    """Every stored score of a track, from its logits alone.

    Args:
        labels: (M,) of the whole test split.
        found: Logits of N of its images.
        task: medmnist's.

    Raises:
        ScoreError: If a logit is not finite.
    """
    truth = labels[found.indices]
    scores: CellScores = {name: [] for name in CORRUPTIONS}
    for (name, _), logits in zip(cells(), found.logits, strict=True):
        scores[name].append(score(truth, softmax(np.ascontiguousarray(logits)), task))
    return scores


def differing_scores(record: TrackRecord, clean: Scores, scores: CellScores) -> list[str]:
    """Where a record's scores are not those that were computed again, one line each."""
    pairs = [("clean", record.clean, clean)]
    pairs += [
        (f"{name} {severity}", record.scores[name][severity - 1], scores[name][severity - 1])
        for name, severity in cells()
    ]
    return [
        f"{place} {metric} is {stored.get(metric)} in the record, {computed.get(metric)} by its logits"
        for place, stored, computed in pairs
        for metric in sorted({*stored, *computed})
        if not same_score(stored.get(metric), computed.get(metric))
    ]


def write_track(results: Path, record: TrackRecord, logits: bytes) -> Path:
    """Write a track record and its table; older ones stand until the new ones are whole.

    Raises:
        RecordError: If the folder refuses, or a synthetic record would enter a store of real ones.
    """
    check_apart(results, record.dataset, record.run_id)
    path = track_path(results, record.track, record.run)
    try:
        with held(lock_file(results, track_lock_name(record.track, record.run)), wait_seconds=WAIT_SECONDS):
            replace_together(path, sealed_bytes(record), {logits_path(path): logits})
    except BusyError:
        raise RecordError(
            f"{path} is being written by another process; wait for it, then run the command again"
        ) from None
    return path


def track_lock_name(track: str, run: Run) -> str:
    """What the lock is called that a writer of a run's record of a track holds."""
    return f"tracks__{track}__{run.run_id}"


def problem_of(record: TrackRecord, path: Path) -> str:
    """Why a record does not count, "" if it does: it stands elsewhere, is stale, or its table is not its own."""
    results = path.parents[5]
    if track_path(results, record.track, record.run) != path or record.run.run_id != record.run_id:
        return f"the record names {record.track} of {record.run_id}, which belongs elsewhere"
    if record.synthetic != record.dataset.startswith(SYNTHETIC_PREFIX):
        return "synthetic does not fit the data set's name"
    reason = staleness(record, results)
    if reason:
        return f"stale, {reason}"
    try:
        read_attached(logits_path(path), record.logits_sha256)
    except RecordError:
        return f"{logits_path(path).name} is missing or is not the file that the record was written with"
    return ""


def staleness(record: TrackRecord, results: Path) -> str:
    """Why a track record no longer counts, "" if it does: the track, the rules, the code, or the run itself changed.

    A protocol in a file of somebody's own that is not loaded here cannot be compared with, nor can their model.
    """
    flag = record.dataset.removeprefix(SYNTHETIC_PREFIX)
    with contextlib.suppress(ProtocolError):
        track = load_track(record.track)
        if flag not in track.datasets or record.track_digest != track.digest(flag):
            return "the track changed"
    with contextlib.suppress(ProtocolError):
        if record.protocol_digest != load_protocol(record.protocol).digest():
            return "the protocol changed"
    reason = outdated(record.model, record.model_fingerprint, record.packages.get("timm", ""))
    if reason:
        return reason.removeprefix("stale, ")
    run = _finished(results, record.run)
    if run is None:
        return "its run has no finished record here"
    same = (record.run_predictions_sha256, record.model_fingerprint)
    if (run.predictions_sha256, run.model_fingerprint) != same:
        return "the run was done again, with other predictions or code"
    return ""


def _finished(results: Path, run: Run) -> Record | None:
    try:
        record = read_record(run.path(results), results)
    except RecordError:
        return None
    return record if record.status == "done" else None


def track_files(results: Path) -> Iterable[Path]:
    """All files of track records."""
    return (results / "tracks").glob("*/*/*/*/seed*.json")


def read_tracks(results: Path) -> tuple[list[TrackRecord], list[str]]:
    """Every track record that counts, and why the others were left out, one line each."""
    return read_all(track_files(results), TrackRecord, problem_of)
