"""What a run leaves: one JSON record, its predictions and its history. No torch.

`results/records/<protocol>/<model>/<dataset>/seed<k>.json` beside `seed<k>.predictions.parquet` and
`seed<k>.history.parquet`. The parquet files are renamed into place first and the JSON last, so that a kill at
any moment leaves a whole record or none.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, field_validator

from bench.errors import RecordError
from bench.records.sealed import (
    Sealed,
    Strict,
    explain_os_error,
    explain_validation,
    pretty,
    read_sealed,
    write_atomic,
    write_sealed,
)

if TYPE_CHECKING:  # imported where tables are read: a third of `medbench plan`'s second
    import pandas as pd

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)?")
SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
SYNTHETIC_PREFIX = "synthetic-"
MEASURED_FOLDERS = ("costs", "timings", "cams", "self_reported", "reruns")  # sealed evidence beside the records
STORE_FILE = "store.json"  # {"real_only": true} marks a folder that refuses synthetic records

Scores = dict[str, float | None]
Split = Literal["train", "val", "test"]


@dataclass(frozen=True, order=True)
class Run:
    """One execution: model x dataset x protocol x seed."""

    protocol: str
    model: str
    dataset: str
    seed: int

    @property
    def run_id(self) -> str:
        """The id that names the run everywhere: `resnet18__breastmnist__paper-224__s0`."""
        return f"{model_slug(self.model)}__{self.dataset}__{self.protocol}__s{self.seed}"

    @property
    def synthetic(self) -> bool:
        """Whether the data was made here."""
        return self.dataset.startswith(SYNTHETIC_PREFIX)

    def path(self, results: Path) -> Path:
        """Where the record stands in a results folder."""
        folder = results / "records" / self.protocol / model_slug(self.model) / self.dataset
        return folder / f"seed{self.seed}.json"


def model_slug(name: str) -> str:
    """A model's name as a path part: `/` becomes `--`.

    Raises:
        RecordError: If the name could leave its folder or break a page.
    """
    if not NAME.fullmatch(name) or ".." in name or "--" in name:
        raise RecordError(f"{name!r} is no usable model name: letters, digits, '_.+-' and one '/'")
    return name.replace("/", "--")


class DataCard(Strict):
    """What `results/data/<dataset>.json` holds: all that reports need of a data set."""

    schema_version: Literal[1] = 1
    dataset: str
    synthetic: bool
    task: Literal["binary-class", "multi-class", "ordinal-regression"]
    source_size: int
    num_channels: int
    class_names: list[str]
    clinical_positive: int | None
    license: str
    citation: str
    md5: str
    num_images: dict[str, int]
    class_counts: dict[str, list[int]]
    labels_digest: dict[str, str]
    twin_threshold: float
    num_exact_pairs: dict[str, int]
    num_twin_pairs: dict[str, int]
    twins: dict[str, list[list[int]]]
    exact: dict[str, list[list[int]]]
    twin_test_indices: list[int]


class Failure(Strict):
    """Why a run has no scores."""

    kind: Literal["oom", "diverged", "data", "infra", "timeout", "unavailable", "error"]
    message: str
    epoch: int | None = None
    step: int | None = None


def _is_none(value: object) -> bool:
    """A field that older records lack is left out where it is unset, so that their digests stay."""
    return value is None


class Record(Sealed):
    """One run's outcome; fractions in [0, 1], seconds, MiB. `results/README.md` defines each field."""

    suite_version: str
    run_id: str
    model: str
    dataset: str
    protocol: str
    seed: int = Field(ge=0)
    status: Literal["done", "failed", "skipped"]
    failure: Failure | None = None
    synthetic: bool
    best_epoch: int | None = None
    val: Scores | None = None
    test: Scores | None = None
    test_twin_free: Scores | None = None
    num_params: int | None = None
    data_md5: str | None = None
    labels_digest: dict[str, str] | None = None
    protocol_digest: str
    resolved_protocol: dict[str, Any]
    model_fingerprint: str
    weights_sha256: str | None = None
    scan_backend: str | None = None
    predictions_sha256: str | None = None
    history_sha256: str | None = None
    commit: str | None = None
    dirty: bool | None = None
    packages: dict[str, str] = Field(default_factory=dict)
    device: str | None = None
    cpu_isa: str | None = Field(default=None, exclude_if=_is_none)
    cpu_environment: dict[str, str] | None = Field(default=None, exclude_if=_is_none)
    num_threads: int | None = None
    train_seconds: float | None = None
    images_per_second: float | None = None
    peak_memory_mib: float | None = None

    @field_validator("model")
    @classmethod
    def _model_is_a_name(cls, value: str) -> str:
        model_slug(value)
        return value

    @field_validator("dataset", "protocol")
    @classmethod
    def _slug(cls, value: str) -> str:
        if not SLUG.fullmatch(value):
            raise ValueError("lower-case letters, digits and single hyphens only")
        return value

    @property
    def run(self) -> Run:
        """The run that left this record."""
        return Run(self.protocol, self.model, self.dataset, self.seed)


def frame_bytes(frame: pd.DataFrame) -> bytes:
    """A table as parquet bytes; the same table gives the same bytes under the same pyarrow."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False, compression="zstd")
    return buffer.getvalue()


def predictions_path(record_path: Path) -> Path:
    """`seed0.json` -> `seed0.predictions.parquet`."""
    return record_path.with_suffix(".predictions.parquet")


def history_path(record_path: Path) -> Path:
    """`seed0.json` -> `seed0.history.parquet`."""
    return record_path.with_suffix(".history.parquet")


def lock_path(results: Path, run: Run) -> Path:
    """The lock file of a run: who writes it, or does it, holds it."""
    return results / ".locks" / f"{run.run_id}.lock"


def is_done(path: Path) -> bool:
    """Whether a record file holds a finished run."""
    return finished_digest(path) != ""


def finished_digest(path: Path) -> str:
    """The digest of a finished run's record, "" where the file holds none."""
    try:
        record = read_record(path)
    except RecordError:
        return ""
    return record.record_digest if record.status == "done" else ""


def write_run(results: Path, record: Record, predictions: bytes | None, history: bytes | None) -> Path:
    """Write a run's files, the JSON last; an older record of the run goes first, so none is ever mixed.

    A record without scores never takes the place of a finished one: what was measured is not lost to a later failure.

    Raises:
        RecordError: If the folder refuses, or a synthetic record would enter a store of real ones.
    """
    if record.synthetic and real_only(results):
        raise RecordError(f"{record.run_id} is synthetic and {results} holds real records only; use another --results")
    path = record.run.path(results)
    if record.status != "done" and is_done(path):
        return path
    sweep_run(results, record.run, keep=False)
    if predictions is not None:
        write_atomic(predictions_path(path), predictions)
    if history is not None:
        write_atomic(history_path(path), history)
    write_sealed(path, record)
    return path


def sweep_run(results: Path, run: Run, *, keep: bool = True) -> None:
    """Remove what a killed writer left of a run; call it only while holding the run's lock.

    Args:
        results: The results folder.
        run: The run.
        keep: Keep a whole record; False removes it too.
    """
    path = run.path(results)
    if not path.parent.is_dir():
        return
    try:
        for left in path.parent.glob(f".tmp-*-seed{run.seed}.*"):
            left.unlink(missing_ok=True)
        if not (keep and path.exists()):
            for file in (path, predictions_path(path), history_path(path)):
                file.unlink(missing_ok=True)
    except OSError as error:
        raise explain_os_error(error, path) from None


def real_only(results: Path) -> bool:
    """Whether a results folder declares that it takes no synthetic record.

    Raises:
        RecordError: If its declaration is unreadable.
    """
    store = results / STORE_FILE
    if not store.exists():
        return False
    try:
        content = json.loads(store.read_bytes())
        declared = content["real_only"]
    except (OSError, ValueError, RecursionError, TypeError, KeyError):
        declared = None
    if not isinstance(declared, bool):
        raise RecordError(f'{store} is damaged; it should say {{"real_only": true}} or false')
    return declared


def read_record(path: Path, results: Path | None = None) -> Record:
    """Read and check one record: schema, digest, and (with `results`) that it stands where its names say.

    Raises:
        RecordError: Naming the file and the reason.
    """
    record = read_sealed(path, Record)
    if results is not None and record.run.path(results) != path:
        raise RecordError(f"{path}: the record names the run {record.run_id}, which belongs elsewhere")
    if record.run_id != record.run.run_id:
        raise RecordError(f"{path}: run_id {record.run_id!r} does not fit its names")
    return record


def record_files(results: Path) -> Iterator[Path]:
    """All record files of a results folder, in a fixed order."""
    yield from sorted((results / "records").glob("*/*/*/seed*.json"))


def read_records(results: Path) -> tuple[list[Record], list[RecordError]]:
    """Every readable record of a results folder, and why the others were refused."""
    records: list[Record] = []
    problems: list[RecordError] = []
    for path in record_files(results):
        try:
            records.append(read_record(path, results))
        except RecordError as error:
            problems.append(error)
    return records, problems


def read_attached(file: Path, sha256: str | None, of: str = "the record") -> bytes:
    """The bytes of a file that a record is sealed with.

    Args:
        file: Predictions, history or maps.
        sha256: What the record says of it.
        of: What the message calls the record.

    Raises:
        RecordError: If the file is missing or another.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise RecordError(f"{file}: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise RecordError(f"{file} is not the file that {of} was sealed with; restore it or do the run again")
    return content


def read_predictions(source: Path | bytes) -> pd.DataFrame:
    """Predictions as a table: `split, index, label, logit_0 ...`.

    Raises:
        RecordError: If the file is missing or damaged.
    """
    import pandas as pd

    name = source if isinstance(source, Path) else "predictions"
    try:
        return pd.read_parquet(source if isinstance(source, Path) else io.BytesIO(source))
    except (OSError, ValueError) as error:
        raise RecordError(f"{name}: unreadable predictions ({error})") from None


def labels_digest(labels: NDArray[np.int64]) -> str:
    """SHA-256 over labels as little-endian int64: what cards and records know a split by."""
    return hashlib.sha256(labels.astype("<i8").tobytes()).hexdigest()


def card_path(results: Path, dataset: str) -> Path:
    """Where a data set's card stands."""
    return results / "data" / f"{dataset}.json"


def read_card(results: Path, dataset: str) -> DataCard | None:
    """The data set's card, None where it was not measured.

    Raises:
        RecordError: If the card is damaged.
    """
    path = card_path(results, dataset)
    if not path.exists():
        return None
    try:
        return DataCard.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise RecordError(f"{path}: {explain_validation(error)}") from None


def write_card(results: Path, card: DataCard) -> None:
    """Write a data set's card."""
    write_atomic(card_path(results, card.dataset), pretty(card.model_dump(mode="json")))


def to_frame(records: list[Record]) -> pd.DataFrame:
    """Records as one table, one row a run; the scores as `val_auc`, `test_acc`, `test_twin_free_auc` ..."""
    import pandas as pd

    rows = []
    for record in records:
        row: dict[str, Any] = record.model_dump(
            mode="json", exclude={"val", "test", "test_twin_free", "resolved_protocol", "packages", "failure"}
        )
        row["failure"] = record.failure.kind if record.failure else None
        for prefix in ("val", "test", "test_twin_free"):
            scores: Mapping[str, float | None] = getattr(record, prefix) or {}
            row.update({f"{prefix}_{key}": value for key, value in scores.items()})
        rows.append(row)
    return pd.DataFrame(rows)
