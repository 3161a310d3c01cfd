"""Tidy tables: records -> rows -> CSV; and why a cell is empty, and what fills it. Trains nothing, imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

import pandas as pd

from bench.data.names import PAPER_DATASETS
from bench.errors import BenchError
from bench.machine.cpu_isa import DEFAULT
from bench.plan.selection import refusal
from bench.protocols.loading import list_studies, load_protocol, load_study
from bench.protocols.planned import is_planned, planned_seeds
from bench.records.names import SYNTHETIC_PREFIX
from bench.records.run_record import Record
from bench.report.analysis_plan import is_fitted
from bench.report.evidence import Evidence
from bench.report.formats import quoted
from models.catalog import ModelError, get_spec

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
PARTS = ("val", "test", "test_twin_free")
KIND_ORDER = {"floor": 0, "sklearn": 1, "network": 2}
STAMP = "SYNTHETIC"
NOT_RUN = "not run"
# How a reason begins that a command can mend, and what that command needs beside the names.
MENDED = {NOT_RUN: "", "failed: ": " --overwrite failed", "stale: ": " --overwrite stale"}


def score_rows(records: Sequence[Record]) -> pd.DataFrame:
    """One measurement a row; `results/README.md` defines the columns."""
    rows = [
        (r.protocol, r.model, r.dataset, r.seed, part, metric, value, r.run_id)
        for r in records
        for part in PARTS
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


def ten_digits(value: float) -> float:
    """Ten significant digits, beyond which another machine's exponential may differ."""
    return float(f"{value:.10g}")


def model_order(name: str) -> tuple[int, int, str]:
    """Floors first, then what scikit-learn fits, then networks with MedSpectralNet leading."""
    try:
        kind = get_spec(name).kind
    except ModelError:
        kind = "network"
    return KIND_ORDER[kind], 0 if name.startswith("medspectralnet") else 1, name


def paper_datasets(*, synthetic: bool) -> list[str]:
    """The paper's six sets, or their stand-ins made here."""
    return [SYNTHETIC_PREFIX + flag if synthetic else flag for flag in PAPER_DATASETS]


@cache
def planned(protocol: str, *, synthetic: bool) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
    """What the studies want under a protocol: (model, data set, seeds); their optional parts are not missed."""
    cells: dict[tuple[str, str], set[int]] = {}
    for part in (part for name in list_studies() for part in load_study(name).parts if not part.optional):
        for dataset in (name for name in part.datasets if name.startswith(SYNTHETIC_PREFIX) == synthetic):
            for model in part.models if protocol in part.protocols else ():
                cells.setdefault((model, dataset), set()).update(part.seeds)
    return tuple((model, dataset, tuple(sorted(seeds))) for (model, dataset), seeds in cells.items())


def why_missing(evidence: Evidence, protocol: str, model: str, dataset: str) -> str:
    """Why a cell is empty: how its run ended, what keeps it from running, or that nobody ran it."""
    for record, reason in evidence.without_scores(protocol):
        if (record.model, record.dataset) == (model, dataset):
            return reason
    try:
        return refusal(get_spec(model), load_protocol(protocol)) or NOT_RUN
    except (BenchError, ModelError):
        return NOT_RUN


def lost_lines(evidence: Evidence, protocol: str, models: Iterable[str], dataset: str = "") -> list[str]:
    """What a cell with a mean lacks of its plan, or has beside it.

    `breastmnist: resnet18, seed 2: failed: the loss is NaN`; `breastmnist: seeds 1, 2 not run (convnext_t, medvit_t)`;
    `breastmnist: resnet18, seed 97: no study plans it, in no mean: AUC 0.912, ACC 0.865`.

    Args:
        evidence: The records.
        protocol: The protocol.
        models: Those of the table.
        dataset: One set alone, "" for all.
    """
    shown = set(models)
    have = {(r.model, r.dataset) for r in evidence.records if r.protocol == protocol and r.model in shown}
    lines = [
        f"{record.dataset}: {record.model}, seed {record.seed}: {quoted(reason)}"
        for record, reason in evidence.without_scores(protocol)
        if (record.model, record.dataset) in have and dataset in ("", record.dataset)
    ]
    open_seeds: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for model, name in sorted(have, key=lambda cell: (cell[1], model_order(cell[0]))):
        seeds = _open_seeds(evidence, protocol, model, name)
        if seeds and dataset in ("", name):
            open_seeds.setdefault((name, seeds), []).append(model)
    lines += [
        f"{name}: seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))} not run ({', '.join(found)})"
        for (name, seeds), found in open_seeds.items()
    ]
    return lines + [
        f"{record.dataset}: {record.model}, seed {record.seed}: no study plans it, in no mean: {_test_scores(record)}"
        for record in evidence.unplanned
        if record.protocol == protocol and record.model in shown and dataset in ("", record.dataset)
    ]


def _open_seeds(evidence: Evidence, protocol: str, model: str, dataset: str) -> tuple[int, ...]:
    """Planned seeds of a cell that left no record; what is fitted comes out the same for every seed."""
    if is_fitted(model):
        return ()
    runs = [*evidence.records, *evidence.unfinished, *(record for record, _ in evidence.stale)]
    done = {r.seed for r in runs if (r.protocol, r.model, r.dataset) == (protocol, model, dataset)}
    return tuple(seed for seed in planned_seeds(protocol, model, dataset) if seed not in done)


def _test_scores(record: Record) -> str:
    found = record.test or {}
    return ", ".join(f"{key.upper()} {value:.3f}" for key in ("auc", "acc") if (value := found.get(key)) is not None)


def seeds_text(protocol: str, model: str, dataset: str, num_seeds: int) -> str:
    """How many seeds a cell has, beside how many are planned where it lacks some: `3`, `1 of 3`."""
    planned_ = len(planned_seeds(protocol, model, dataset))
    return str(num_seeds) if is_fitted(model) or num_seeds >= planned_ else f"{num_seeds} of {planned_}"


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
    groups: dict[str, list[Record]] = {}
    for record in records:
        if (record.device or "").startswith("cpu") and record.cpu_isa != DEFAULT:
            groups.setdefault(record.cpu_isa or "not recorded", []).append(record)
    lines = []
    for isa, group in sorted(groups.items()):
        seeds: dict[str, list[int]] = {}
        for record in sorted(group, key=lambda record: record.run):
            seeds.setdefault(f"{record.protocol} {record.model} {record.dataset}", []).append(record.seed)
        runs = ", ".join(f"{cell} {'+'.join(map(str, found))}" for cell, found in seeds.items())
        why = "made before runs were pinned; " if isa == "not recorded" else ""
        lines.append(
            f"CPU arithmetic {isa} ({why}another processor gives other last bits; `medbench run --overwrite isa` "
            f"makes them again), with seeds: {runs}."
        )
    return lines


def fill_command(protocol: str, models: Iterable[str], datasets: Iterable[str], seeds: Iterable[int] = (0,)) -> str:
    """The command that fills cells; runs that are done are not run again."""
    seeds = sorted(set(seeds))
    consecutive = len(seeds) > 1 and seeds == list(range(seeds[0], seeds[-1] + 1))
    chosen = f"{seeds[0]}-{seeds[-1]}" if consecutive else ",".join(map(str, seeds))
    names, sets = ",".join(dict.fromkeys(models)), ",".join(dict.fromkeys(datasets))
    return f"medbench run --protocol {protocol} --models {names} --datasets {sets} --seeds {chosen}"


def missing_lines(evidence: Evidence, protocol: str, missing: Sequence[tuple[str, str]]) -> list[str]:
    """Empty cells (model, data set) grouped by reason: `bloodmnist, dermamnist: not run (resnet18, swin_t)`."""
    reasons: dict[str, dict[str, list[str]]] = {}
    for model, dataset in missing:
        reason = why_missing(evidence, protocol, model, dataset)
        reasons.setdefault(reason, {}).setdefault(dataset, []).append(model)
    lines = []
    for reason, by_dataset in reasons.items():
        same: dict[tuple[str, ...], list[str]] = {}
        for dataset, models in by_dataset.items():
            same.setdefault(tuple(models), []).append(dataset)
        lines += [f"{', '.join(sets)}: {quoted(reason)} ({', '.join(models)})" for models, sets in same.items()]
    return lines
