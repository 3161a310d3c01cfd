"""What a run leaves: one JSON record, its predictions and its history. No torch.

`results/records/<protocol>/<model>/<dataset>/seed<k>.json` beside `seed<k>.predictions.parquet` and
`seed<k>.history.parquet`. All three are written under temporary names first and renamed then, the JSON last, so that a
kill at any moment leaves the former record whole, the new one, or none where there was none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from bench.errors import RecordError, did_you_mean
from bench.records.names import ModelName, Run, SlugName, apart, history_path, predictions_path
from bench.records.sealed import (
    Sealed,
    Strict,
    explain_os_error,
    read_json,
    read_sealed,
    sealed_bytes,
    sweep_left,
)
from bench.records.writing.swap import put_right, replace_together

if TYPE_CHECKING:  # imported where tables are read: a third of `medbench plan`'s second
    import pandas as pd

# Sealed, beside the records.
MEASURED_FOLDERS = ("costs", "timings", "cams", "tracks", "tuning", "self_reported", "reruns")
STORE_FILE = "store.json"  # {"real_only": true} marks a folder that refuses synthetic records

SCORES = ("val", "test", "test_twin_free", "val_last", "test_last")  # a record's fields of scores
Scores = dict[str, float | None]
Split = Literal["train", "val", "test"]


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
    model: ModelName
    dataset: SlugName
    protocol: SlugName
    seed: int = Field(ge=0)
    status: Literal["done", "failed", "skipped"]
    failure: Failure | None = None
    synthetic: bool
    best_epoch: int | None = None
    val: Scores | None = None
    test: Scores | None = None
    test_twin_free: Scores | None = None
    val_last: Scores | None = Field(default=None, exclude_if=_is_none)
    test_last: Scores | None = Field(default=None, exclude_if=_is_none)
    num_params: int | None = None
    data_md5: str | None = None
    labels_digest: dict[str, str] | None = None
    protocol_digest: str
    resolved_protocol: dict[str, Any]
    model_fingerprint: str
    weights_sha256: str | None = None
    trained_weights_sha256: str | None = Field(default=None, exclude_if=_is_none)
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

    @property
    def run(self) -> Run:
        """The run that left this record."""
        return Run(self.protocol, self.model, self.dataset, self.seed)

    def is_of_other_cpu(self, isa: str) -> bool:
        """Whether it was made on a CPU, and not with the arithmetic `isa` (`bench.machine.cpu_isa.CpuIsa`)."""
        return (self.device or "").startswith("cpu") and self.cpu_isa != isa


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
    """Write a run's files; an older record of the run stands until the new one is whole, and goes last.

    A record without scores never replaces a finished one: what was measured is not lost to a later failure.
    Call it only while holding the run's lock.

    Raises:
        RecordError: If the folder refuses, or a record on synthetic or own data would enter a store of real ones.
    """
    check_apart(results, record.dataset, record.run_id)
    path = record.run.path(results)
    if record.status != "done" and is_done(path):
        return path
    sweep_run(results, record.run)
    tables = {predictions_path(path): predictions, history_path(path): history}
    replace_together(path, sealed_bytes(record), tables)
    return path


def sweep_run(results: Path, run: Run) -> None:
    """Remove what a killed writer left of a run, a whole record excepted; call it only while holding the run's lock."""
    path = run.path(results)
    if not path.parent.is_dir():
        return
    tables = (predictions_path(path), history_path(path))
    put_right(path, tables)
    sweep_left(path.parent, below=False)
    try:
        for file in () if path.exists() else tables:
            file.unlink(missing_ok=True)
    except OSError as error:
        raise explain_os_error(error, path) from None


def existing_folder(folder: Path, advice: str = "give another with --results") -> Path:
    """The folder, which is there.

    Raises:
        RecordError: If it is not, with the sibling of a similar name, or the advice.
    """
    if folder.is_dir():
        return folder
    parent = folder.parent
    siblings = [path.name for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []
    hint = did_you_mean(folder.name, siblings) or advice
    raise RecordError(f"There is no results folder {folder}{'; ' if hint else ''}{hint}")


def results_folder(folder: Path, advice: str = "give another with --results") -> Path:
    """The folder, which is there and holds evidence.

    Raises:
        RecordError: If it is not there, or holds no evidence.
    """
    existing_folder(folder, advice)
    if not any((folder / name).is_dir() for name in ("records", "data", *MEASURED_FOLDERS)):
        hint = advice or "name the folder that does"
        raise RecordError(f"{folder} is no results folder: it holds no records/; {hint}")
    return folder


def check_apart(results: Path, dataset: str, what: str) -> None:
    """Refuse what is of synthetic or own data where a folder holds real records only.

    Args:
        results: The results folder.
        dataset: What the evidence is of.
        what: The evidence's name.

    Raises:
        RecordError: If it would enter such a store.
    """
    kind = apart(dataset)
    if kind and real_only(results):
        raise RecordError(f"{what} is {kind} and {results} holds real records only; use another --results")


def real_only(results: Path) -> bool:
    """Whether a results folder declares that it takes no synthetic record.

    Raises:
        RecordError: If its declaration is unreadable.
    """
    store = results / STORE_FILE
    if not store.exists():
        return False
    try:
        content = read_json(store)
    except RecordError:
        content = None
    declared = content["real_only"] if isinstance(content, dict) and content.keys() == {"real_only"} else None
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


def to_frame(records: list[Record]) -> pd.DataFrame:
    """Records as one table, one row a run; the scores as `val_auc`, `test_acc`, `test_twin_free_auc` ..."""
    import pandas as pd

    rows = []
    for record in records:
        row: dict[str, Any] = record.model_dump(
            mode="json", exclude={*SCORES, "resolved_protocol", "packages", "failure"}
        )
        row["failure"] = record.failure.kind if record.failure else None
        for prefix in SCORES:
            scores: Mapping[str, float | None] = getattr(record, prefix) or {}
            row.update({f"{prefix}_{key}": value for key, value in scores.items()})
        rows.append(row)
    return pd.DataFrame(rows)


def find_record(results: Path, run_id: str) -> tuple[Path, Record]:
    """A run's record and its file.

    Raises:
        RecordError: If there is none, with the closest run that has one.
    """
    slug, *names = run_id.rsplit("__", 3)
    if len(names) == 3:
        parts = (names[1], slug, names[0], f"seed{names[2].removeprefix('s')}.json")
        for path in (path for path in record_files(results) if path.parts[-4:] == parts):
            record = read_record(path, results)
            if record.run_id == run_id:
                return path, record
    hint = did_you_mean(run_id, [record.run_id for record in read_records(results)[0]])
    raise RecordError(f"{results} has no record of {run_id!r}{'; ' if hint else ''}{hint}")
