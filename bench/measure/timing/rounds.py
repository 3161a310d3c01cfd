"""Fill timing records: one process a model and round, rounds over all models in shuffled order. No torch here.

Drift and heat of a machine then hit all models alike, and the spread between rounds shows what is left of them.
A record is written after every cell, and a cell's round that is recorded is not measured again, so an
interrupted measurement goes on where it was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench import __version__
from bench.errors import RecordError
from bench.machine import provenance
from bench.measure.timing.blocks import Budget
from bench.measure.timing.process import TimingPlan, answers
from bench.records.names import lock_file
from bench.records.sealed import read_sealed, write_sealed
from bench.records.timing_record import Round, Scan, Setting, TimingCell, TimingRecord, timing_lock_name
from bench.records.writing.locks import BusyError, held
from bench.records.writing.sweep import sweep_store
from models.catalog import ModelSpec, fingerprint, get_spec

CPU_CELL_SECONDS = 20.0


@dataclass(frozen=True)
class TimingEvent:
    """A cell's round that was just recorded, or a model that cannot be timed (`round` is None)."""

    model: str
    setting: Setting | None
    round: Round | None
    reason: str = ""

    def line(self) -> str:
        """One line for a person."""
        if self.round is None or self.setting is None:
            return f"skipped: {self.reason}"
        head = f"round {self.round.index + 1}: {self.model} {self.setting.label()}"
        if self.round.status != "done":
            return f"{head}: {self.round.status}: {self.round.reason}"
        rates = self.round.images_per_second(self.setting.batch_size)
        steady = "" if self.round.steady else ", still moving"
        return f"{head}: {median(rates):.4g} images/s from {len(rates)} blocks{steady}"


def make_plan(
    models: Sequence[str],
    settings: Sequence[Setting],
    device: str,
    results: Path,
    rounds: int,
    seed: int,
    num_threads: int,
    cell_seconds: float | None,
    plugins: Sequence[Path],
    scan: Scan = "auto",
) -> TimingPlan:
    """A plan over the networks among `models`; on a CPU a cell may take 20 s a round by default.

    Raises:
        ModelError: If a name is unknown.
    """
    if cell_seconds is None and not device.startswith("cuda"):
        cell_seconds = CPU_CELL_SECONDS
    return TimingPlan(
        models=tuple(name for name in dict.fromkeys(models) if get_spec(name).kind == "network"),
        settings=tuple(settings),
        device=device,
        device_name=provenance.device_name(device),
        results=results,
        rounds=rounds,
        seed=seed,
        num_threads=num_threads,
        budget=Budget(cell_seconds=cell_seconds),
        plugins=tuple(str(path.resolve()) for path in plugins),
        scan=scan,
    )


def announcement(plan: TimingPlan, *, overwrite: bool = False) -> str:
    """What is about to happen, and how long it takes at most."""
    cells = plan.rounds * len(plan.models) * len(plan.settings)
    if not overwrite:
        records = {model: load_or_start(plan, model) for model in plan.models if not obstacle(plan, model)}
        order = [(index, model) for index, model in plan.order() if model in records]
        cells = sum(len(missing(records[model], plan, index)) for index, model in order)
    text = f"{plan.label}: {cells} of {plan.rounds * len(plan.models) * len(plan.settings)} cells x rounds to measure"
    if plan.budget.cell_seconds is None:
        return f"{text}."
    minutes = cells * plan.budget.cell_seconds / 60
    return f"{text}, {minutes:.0f} min at most, but for process starts and batches that take longer than a cell."


def refusal(spec: ModelSpec, settings: Sequence[Setting]) -> str:
    """Why a model cannot be timed in these settings, "" if it can."""
    sizes = {setting.img_size for setting in settings}
    bad = [size for size in sizes if not spec.takes(size)]
    return f"{spec.name} cannot take {bad[0]} px images" if bad else ""


def obstacle(plan: TimingPlan, model: str) -> str:
    """Why the record that stands cannot be gone on with, "" if it can, or if there is none."""
    return _standing(plan, model)[1]


def _standing(plan: TimingPlan, model: str) -> tuple[TimingRecord | None, str]:
    """The record to go on with, or None; and why the one that stands cannot be gone on with, "" if it can."""
    path, forgets = plan.path(model), "--overwrite forgets what is recorded"
    if not path.exists():
        return None, ""
    try:
        record = read_sealed(path, TimingRecord)
    except RecordError as error:
        return None, f"{error}; {forgets}"
    then, now = record.packages.get("torch"), provenance.origin()["packages"].get("torch")
    if then != now:
        return None, f"{model} was timed with torch {then}, and would now run {now}; {forgets}"
    if record.model_fingerprint != fingerprint(get_spec(model)):
        return None, f"{model} was timed with other code than what is here; {forgets}"
    return record, ""


def load_or_start(plan: TimingPlan, model: str) -> TimingRecord:
    """The record to go on with; a new one where there is none, or an obstacle."""
    origin, (standing, _) = provenance.origin(), _standing(plan, model)
    if standing is not None:
        return standing.model_copy(update=origin)
    return TimingRecord(
        suite_version=__version__,
        model=model,
        model_fingerprint=fingerprint(get_spec(model)),
        device=plan.label,
        num_threads=plan.num_threads,
        driver=None,
        scan_backend=None,
        cells=[],
        **origin,
    )


def missing(record: TimingRecord, plan: TimingPlan, index: int) -> list[Setting]:
    """Settings without this round; one that ran out of memory is not tried again."""
    have = {
        cell.setting
        for cell in record.cells
        if any(round_.index == index or round_.status == "oom" for round_ in cell.rounds)
    }
    return [setting for setting in plan.settings if setting not in have]


def with_round(record: TimingRecord, setting: Setting, round_: Round) -> TimingRecord:
    """The record with a round added to its cell; cells in the order in which they came."""
    cells = {cell.setting: list(cell.rounds) for cell in record.cells}
    cells.setdefault(setting, []).append(round_)
    return record.model_copy(
        update={"cells": [TimingCell(setting=setting, rounds=rounds) for setting, rounds in cells.items()]}
    )


def without(record: TimingRecord, settings: Sequence[Setting]) -> TimingRecord:
    """The record without these settings."""
    return record.model_copy(update={"cells": [cell for cell in record.cells if cell.setting not in settings]})


def _beside_former(record: TimingRecord, standing: TimingRecord, former: Collection[Setting]) -> TimingRecord:
    """The record with the cells that wait to be measured again; those of another scan would be taken for this one's."""
    cells = [cell for cell in standing.cells if cell.setting in former]
    same = standing.scan_backend == record.scan_backend
    return record.model_copy(update={"cells": [*record.cells, *cells]}) if same else record


def run_timings(plan: TimingPlan, *, overwrite: bool = False) -> Iterator[TimingEvent]:
    """Measure what is missing, round by round; yields after each cell has been written.

    The lock of each record is held from the first round to the last, since two commands would lose each other's.

    Args:
        plan: What to time.
        overwrite: Measure again what is recorded of the plan's settings; each stands until its first new round is. A
            record that cannot be gone on with stands until the first new round of any setting.

    Raises:
        RecordError: If the file system refuses, or has no locks.
    """
    sweep_store(plan.results)
    refused = set[str]()
    former = {model: set(plan.settings if overwrite else ()) for model in plan.models}
    with contextlib.ExitStack() as locks:
        for model in plan.models:
            reason = refusal(get_spec(model), plan.settings) or _busy(plan, model, locks)
            reason = reason or ("" if overwrite else obstacle(plan, model))
            if reason:
                refused.add(model)
                yield TimingEvent(model, None, None, reason)
        for index, model in plan.order():
            if model in refused:
                continue
            for event in _one_model(plan, model, index, former[model]):
                if event.round is None:
                    refused.add(model)
                yield event


def _busy(plan: TimingPlan, model: str, locks: contextlib.ExitStack) -> str:
    """Hold the lock of a model's record, or say that another command does."""
    try:
        locks.enter_context(held(lock_file(plan.results, timing_lock_name(plan.path(model)))))
    except BusyError:
        return f"{model} is being timed by another command; wait for it"
    return ""


def _other_scan(record: TimingRecord, backend: str) -> str:
    return (
        f"{record.model} was timed with the scan {record.scan_backend}, and would now run {backend}; --overwrite "
        "forgets what is recorded, --scan torch keeps a record of its own"
    )


def _one_model(plan: TimingPlan, model: str, index: int, former: set[Setting]) -> Iterator[TimingEvent]:
    """One round of a model; a process that dies loses the cell it was at, and a new one goes on behind it.

    Args:
        plan: What to time.
        model: Whose round.
        index: Which.
        former: Recorded settings to be measured again; a setting leaves it with its first new round.
    """
    standing = load_or_start(plan, model)
    record = without(standing, list(former))
    path = plan.path(model)
    while settings := missing(record, plan, index):
        position = 0
        for answer in answers(plan, model, index, settings):
            if answer["event"] == "refused":
                yield TimingEvent(model, None, None, answer["reason"])
                return
            if answer["event"] == "machine":
                if record.cells and answer["scan_backend"] != record.scan_backend:
                    yield TimingEvent(model, None, None, _other_scan(record, answer["scan_backend"]))
                    return
                record = record.model_copy(update={"scan_backend": answer["scan_backend"], "driver": answer["driver"]})
            elif answer["event"] == "start":
                position = answer["position"]
            elif answer["event"] == "round":
                position = answer.get("position", position)
                round_ = Round.model_validate(answer["round"])
                record = with_round(record, settings[position], round_)
                former.discard(settings[position])
                write_sealed(path, _beside_former(record, standing, former))
                yield TimingEvent(model, settings[position], round_)
