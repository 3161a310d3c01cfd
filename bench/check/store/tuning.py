"""Are sweeps what they say: of these combinations, trained as far as the rule lets them, with the choice that it gives?

All of it follows from the record: no network is trained, and no library but this suite's halving is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench.errors import RecordError
from bench.protocols.grid import Grid
from bench.protocols.halving import halve
from bench.records.card import DataCard
from bench.records.run_record import Record
from bench.records.tuning.record import Trial, TuningRecord, read_tunings, tuning_path


def tuning_problems(
    results: Path, records: Mapping[str, Record], cards: Mapping[str, DataCard]
) -> tuple[list[str], list[str]]:
    """Problems of all sweeps, the runs of their choices among them, and notes on those left out, one line each.

    Args:
        results: The folder.
        records: Of runs, by run id.
        cards: Of data sets.
    """
    sweeps, notes = read_tunings(results)
    problems: list[str] = []
    for sweep in sweeps:
        path = tuning_path(results, sweep.grid, sweep.model, sweep.dataset)
        problems += [f"{path}: {problem}" for problem in sweep_problems(sweep, cards.get(sweep.dataset))]
    problems += _unequal(results, sweeps)
    by_protocol = {(sweep.protocol, sweep.model, sweep.dataset): sweep for sweep in sweeps}
    for record in records.values():
        problem = _run_problem(results, record, by_protocol.get((record.protocol, record.model, record.dataset)))
        if problem:
            problems.append(f"{record.run.path(results)}: {problem}")
    return problems, notes


def sweep_problems(sweep: TuningRecord, card: DataCard | None) -> Iterator[str]:
    """What does not fit in one sweep."""
    try:
        grid, chosen = sweep.grid_rules, sweep.chosen
    except RecordError as error:
        yield str(error)
        return
    if (grid.name, grid.digest(), grid.budget.seed) != (sweep.grid, sweep.grid_digest, sweep.seed):
        yield "grid, grid_digest or seed are not those of its rules"
    if (chosen.name, chosen.digest()) != (sweep.protocol, sweep.protocol_digest):
        yield "protocol and protocol_digest are not those of the trial that was chosen"
    if card is not None and any(card.labels_digest.get(s) != digest for s, digest in sweep.labels_digest.items()):
        yield "its labels are not those of the data set's card"
    if set(sweep.labels_digest) != {"train", "val"}:
        yield f"labels_digest names {', '.join(sorted(sweep.labels_digest))}; a sweep sees train and val"
    yield from _trial_problems(grid, sweep.trials)
    yield from _halving_problems(grid, sweep)


def _trial_problems(grid: Grid, trials: Sequence[Trial]) -> Iterator[str]:
    planned = grid.trials()
    if [trial.params for trial in trials] != planned:
        yield f"its trials are not the {len(planned)} that the grid and its seed give, in their order"
        return
    for number, trial in enumerate(trials):
        if trial.protocol_digest != grid.trial_protocol(trial.params, number).digest():
            yield f"trial {number}: protocol_digest is not that of its rules"


def _halving_problems(grid: Grid, sweep: TuningRecord) -> Iterator[str]:
    """Whether each trial was trained as far as the curves of all let it, and no other was chosen."""
    curves = [trial.curves[grid.budget.metric] for trial in sweep.trials]
    diverged = {number for number, trial in enumerate(sweep.trials) if trial.diverged}
    stand = halve(grid.budget, curves, diverged)
    if stand.todo:
        yield f"trials {', '.join(map(str, stand.todo))} were not trained to {stand.until} epochs, as the rule has it"
        return
    for number, trial in enumerate(sweep.trials):
        if trial.epochs != stand.epochs[number]:
            yield f"trial {number} has {trial.epochs} epochs, the rule gives it {stand.epochs[number]}"
    if sweep.choice != stand.choice:
        yield f"the choice is trial {sweep.choice}, {grid.budget.metric} on val gives {stand.choice}"
    if sweep.epochs != sum(trial.epochs for trial in sweep.trials):
        yield f"epochs is {sweep.epochs}, its trials have {sum(trial.epochs for trial in sweep.trials)}"
    planned = grid.budget.epochs(len(sweep.trials))
    if sweep.epochs > planned or (sweep.epochs < planned and not diverged):
        yield f"{sweep.epochs} epochs were spent, the budget of every model is {planned}"


def _unequal(results: Path, sweeps: Sequence[TuningRecord]) -> Iterator[str]:
    """Sweeps under one name over different grids: their models had different chances."""
    digests: dict[str, str] = {}
    for sweep in sweeps:
        if digests.setdefault(sweep.grid, sweep.grid_digest) != sweep.grid_digest:
            path = tuning_path(results, sweep.grid, sweep.model, sweep.dataset)
            yield f"{path}: another grid or budget than the other sweeps of {sweep.grid}; remove one of them"


def _run_problem(results: Path, record: Record, sweep: TuningRecord | None) -> str:
    """Why a run of a tuned protocol is not of a sweep's choice, "" if it is, or is of another protocol."""
    tuned = record.resolved_protocol.get("tuned")
    if not isinstance(tuned, dict) or record.status != "done":
        return ""
    if sweep is None:
        stands = tuning_path(results, str(tuned.get("grid")), record.model, record.dataset).exists()  # named as stale
        return "" if stands else f"tuned, but there is no sweep over {tuned.get('grid')} for it"
    if (tuned.get("grid_digest"), record.protocol_digest) != (sweep.grid_digest, sweep.protocol_digest):
        return f"its recipe is not what the sweep over {sweep.grid} chose"
    return ""
