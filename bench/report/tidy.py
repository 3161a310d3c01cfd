"""Tidy tables: records -> rows -> CSV; and in which order tables show them. Trains nothing, imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

import pandas as pd

from bench.data.names import PAPER_DATASETS
from bench.machine.cpu_isa import DEFAULT
from bench.protocols.planned import is_planned, planned_seeds
from bench.records.names import SYNTHETIC_PREFIX
from bench.records.own_models import is_fitted, own_spec
from bench.records.run_record import SCORES, Record
from bench.report.analysis_plan import is_ours
from bench.report.published.names import dataset_name, model_name

SCORE_COLUMNS = ["protocol", "model", "dataset", "seed", "part", "metric", "value", "run_id"]
RUN_COLUMNS = [
    "protocol",
    "model",
    "dataset",
    "seed",
    "status",
    "reason",
    "best_epoch",
    "num_params",
    "train_seconds",
    "images_per_second",
    "peak_memory_mib",
    "device",
    "cpu_isa",
    "commit",
    "dirty",
    "record_digest",
    "run_id",
]
Row = TypeVar("Row")
Key = TypeVar("Key", bound=Hashable)
KIND_ORDER = {"floor": 0, "sklearn": 1, "network": 2}
STAMP = "SYNTHETIC"


def score_rows(records: Sequence[Record]) -> pd.DataFrame:
    """One measurement a row; `results/README.md` defines the columns."""
    rows = [
        (r.protocol, r.model, r.dataset, r.seed, part, metric, value, r.run_id)
        for r in records
        for part in SCORES
        for metric, value in sorted((getattr(r, part) or {}).items())
    ]
    return pd.DataFrame(rows, columns=SCORE_COLUMNS)


def run_rows(records: Sequence[Record]) -> pd.DataFrame:
    """One run a row: how it ended, what it cost, where it ran, and why no mean has it."""
    rows = []
    for record in records:
        row = record.model_dump(include=set(RUN_COLUMNS))
        row.setdefault("cpu_isa", None)  # left out where a record lacks it
        row["reason"] = f"{record.failure.kind}: {record.failure.message}" if record.failure else ""
        if record.status == "done" and not is_planned(record.protocol, record.model, record.dataset, record.seed):
            row["reason"] = "no study plans the seed"
        rows.append([row[column] for column in RUN_COLUMNS])
    frame = pd.DataFrame(rows, columns=RUN_COLUMNS)
    return frame.astype({"best_epoch": "Int64", "num_params": "Int64"})


def csv_bytes(frame: pd.DataFrame) -> bytes:
    """A table as CSV; floats with all their digits, so that a reader gets the record's number back."""
    return frame.to_csv(index=False, lineterminator="\n").encode()


def table(rows: Iterable[object], columns: Sequence[str]) -> pd.DataFrame:
    """Objects as a table for a CSV: a row each, a column an attribute; several names in one field are one text."""
    values = [[getattr(row, column) for column in columns] for row in rows]
    texts = [[" ".join(value) if isinstance(value, tuple) else value for value in row] for row in values]
    return pd.DataFrame(texts, columns=list(columns))


def grouped(rows: Iterable[Row], key: Callable[[Row], Key]) -> dict[Key, list[Row]]:
    """Rows by a key, both in the order of the rows."""
    groups: dict[Key, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def ten_digits(value: float) -> float:
    """Ten significant digits, beyond which another machine's exponential may differ."""
    return float(f"{value:.10g}")


def model_order(name: str) -> tuple[int, int, str]:
    """Floors first, then what scikit-learn fits, then networks with MedSpectralNet leading."""
    spec = own_spec(name)
    kind = "network" if spec is None else spec.kind
    return KIND_ORDER[kind], 0 if is_ours(name) else 1, name


def paper_datasets(*, synthetic: bool) -> list[str]:
    """The paper's six sets, or their synthetic stand-ins."""
    return [SYNTHETIC_PREFIX + flag if synthetic else flag for flag in PAPER_DATASETS]


def seeds_text(protocol: str, model: str, dataset: str, num_seeds: int) -> str:
    """How many seeds a cell has, beside how many are planned where it lacks some: `3`, `1 of 3`."""
    planned_ = len(planned_seeds(protocol, model, dataset))
    return str(num_seeds) if is_fitted(model) or num_seeds >= planned_ else f"{num_seeds} of {planned_}"


def seed_list(seeds: Sequence[int]) -> str:
    """`seed 2`, `seeds 0, 1`."""
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def dirty_lines(records: Iterable[Record]) -> list[str]:
    """Which runs were made by code that had been changed after its commit; nothing where none was."""
    return [
        f"Made by code that was changed after commit {(record.commit or 'none')[:12]}: {record.run_id}."
        for record in sorted(records, key=lambda record: record.run)
        if record.dirty
    ]


def unpinned_lines(records: Iterable[Record]) -> list[str]:
    """Which runs on a CPU give other last bits on another processor; nothing where all are pinned.

    One line for those whose records do not name their arithmetic, one for each other arithmetic than the default.
    """
    unpinned = [record for record in records if record.is_of_other_cpu(DEFAULT)]
    lines = []
    for isa, group in sorted(grouped(unpinned, lambda r: r.cpu_isa or "not recorded").items()):
        ordered = sorted(group, key=lambda record: record.run)
        cells = grouped(
            ordered, lambda record: f"{record.protocol} {model_name(record.model)} on {dataset_name(record.dataset)}"
        )
        runs = ", ".join(f"{cell} {'+'.join(str(record.seed) for record in own)}" for cell, own in cells.items())
        why = "made before runs were pinned; " if isa == "not recorded" else ""
        lines.append(
            f"CPU arithmetic {isa} ({why}another processor gives other last bits; `medbench run --overwrite isa` "
            f"makes them again), with seeds: {runs}."
        )
    return lines
