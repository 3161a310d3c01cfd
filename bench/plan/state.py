"""How each run stands (done, missing, stale or failed), and which of them to do. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Literal, get_args

from bench.errors import BenchError, RecordError, suggestion
from bench.machine.cpu_isa import DEFAULT, CpuIsa
from bench.plan.estimate import CostEstimate, Estimate
from bench.plan.selection import refusal
from bench.protocols.loading import load_protocol
from bench.records.card import DataCard, read_card
from bench.records.names import Run
from bench.records.run_record import Record, read_record
from bench.records.staleness import staleness
from models.catalog import get_spec

State = Literal["done", "missing", "stale", "failed"]
Overwrite = Literal["never", "stale", "failed", "isa", "always"]


@dataclass(frozen=True)
class PlannedRun:
    """A run, how it stands in a results folder, and what it should cost.

    Attributes:
        run: The run.
        state: `done`, `missing`, `stale` or `failed`.
        reason: Why, "" for a run that is done or was never tried.
        refusal: Why its model can never run under its protocol, "" if it can.
        estimate: None for a run that is done or refused, or where there is nothing to estimate from.
        record: What the folder holds of it.
    """

    run: Run
    state: State
    reason: str = ""
    refusal: str = ""
    estimate: Estimate | None = None
    record: Record | None = field(default=None, repr=False)


def stand(run: Run, results: Path, card_of: Callable[[str], DataCard | None]) -> tuple[State, str, Record | None]:
    """How a run stands in a results folder, why, and the record that says so."""
    path = run.path(results)
    if not path.exists():
        return "missing", "", None
    try:
        record = read_record(path, results)
    except RecordError as error:
        return "failed", f"damaged record: {error}", None
    if record.status == "skipped":
        return "missing", record.failure.message if record.failure else "skipped", record
    if record.status == "failed":
        return "failed", f"{record.failure.kind}: {record.failure.message}" if record.failure else "failed", record
    reason = staleness(record, card_of(record.dataset))
    return ("stale" if reason else "done"), reason, record


def make_plan(runs: Sequence[Run], results: Path) -> list[PlannedRun]:
    """How each run stands, with an estimate for those not done."""
    card_of = cache(partial(read_card, results))
    cost = CostEstimate(results, card_of)
    planned = []
    for run in runs:
        state, reason, record = stand(run, results, card_of)
        refused = refusal(get_spec(run.model), load_protocol(run.protocol))
        estimate = None if state == "done" or refused else cost.of(run)
        planned.append(PlannedRun(run, state, reason or refused, refused, estimate, record))
    return planned


def choose(planned: Sequence[PlannedRun], overwrite: Overwrite, isa: CpuIsa = DEFAULT) -> list[PlannedRun]:
    """The runs to do: the missing ones, and what `overwrite` adds to them.

    Args:
        planned: From `make_plan`.
        overwrite: `isa` adds the finished runs of a CPU whose record does not name the arithmetic `isa`.
        isa: The arithmetic of this call.

    Raises:
        BenchError: If `overwrite` is none of `Overwrite`.
    """
    if overwrite not in get_args(Overwrite):
        raise BenchError(f"overwrite {overwrite!r} is unknown; {suggestion(overwrite, get_args(Overwrite))}")
    if overwrite == "isa":
        return [
            item for item in planned if item.state == "missing" or (item.record and item.record.is_of_other_cpu(isa))
        ]
    redo: dict[str, tuple[State, ...]] = {
        "never": ("missing",),
        "stale": ("missing", "stale"),
        "failed": ("missing", "failed"),
        "always": ("missing", "stale", "failed", "done"),
    }
    return [item for item in planned if item.state in redo[overwrite]]
