"""`medbench tune`: a sweep over a grid for each model on each data set; what it chooses follows from val alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.data.own import resolve
from bench.errors import BenchError
from bench.machine import cpu_isa, surroundings
from bench.machine.devices import choose_device
from bench.machine.signals import interruptible
from bench.plan.selection import expand, match_models, refusal, refuse_text
from bench.protocols.grid import Grid, load_grid
from bench.records.card import DataCard
from bench.records.names import Run
from bench.records.tuning.record import (
    TuningRecord,
    read_tuning,
    staleness,
    tuning_path,
)
from bench.records.writing.sweep import sweep_store
from bench.runs.launch import check_installed, check_store, ready_card
from bench.runs.request import Event, Launch
from bench.runs.tuning.files import TunedFiles, write_files
from bench.runs.tuning.rounds import Sweep, done
from models import get_spec
from models.catalog import check_timm_names, load_plugin


@dataclass(frozen=True)
class Sweeps:
    """Which sweeps are meant: a grid for each model on each data set.

    Attributes:
        grid: The grid file.
        models: Names; shell patterns stand for what they match.
        datasets: MedMNIST flags, `synthetic-<flag>`, or TOML cards of one's own data sets.
        plugins: Python files with registered models.
        folder: Where the chosen protocols go; None for `tuned-<grid>` beside the grid file.
    """

    grid: Path
    models: tuple[str, ...]
    datasets: tuple[str, ...]
    plugins: tuple[Path, ...] = ()
    folder: Path | None = None

    def __post_init__(self) -> None:
        """Take text for a path, as a notebook gives it.

        Raises:
            BenchError: If a text stands for a tuple.
        """
        refuse_text(self, ("models", "datasets", "plugins"))
        object.__setattr__(self, "grid", Path(self.grid))
        object.__setattr__(self, "plugins", tuple(map(Path, self.plugins)))
        object.__setattr__(self, "folder", None if self.folder is None else Path(self.folder))


@dataclass(frozen=True)
class TuneWatcher:
    """What a caller hears: `on_start` the trainings of all sweeps to do, before the first of them."""

    on_start: Callable[[int], None] = field(default=lambda total: None)
    on_event: Callable[[Event], None] = field(default=lambda event: None)


@dataclass(frozen=True)
class Tuned:
    """What a call leaves: each sweep's record, in the order asked for, and the files of what was chosen."""

    grid: Grid
    records: list[TuningRecord]
    files: TunedFiles


@interruptible()
def tune(sweeps: Sweeps, launch: Launch, watcher: TuneWatcher | None = None) -> Tuned:
    """Do the sweeps that have no record yet, and write the chosen protocols.

    Args:
        sweeps: Which.
        launch: Where and how; on this machine, without Ray.
        watcher: Who is kept informed.

    Raises:
        BenchError, ModelError: If the grid is refused, a name is unknown, data are damaged, a trial failed for another
            reason than its recipe, or a record of the same name is of another grid, or stale.
        Interrupted: After SIGINT or SIGTERM; the same call goes on from the checkpoints.
    """
    surroundings.complete()
    watcher = watcher or TuneWatcher()
    for plugin in sweeps.plugins:
        load_plugin(plugin)
    grid = load_grid(sweeps.grid)
    runs = _cells(grid, sweeps)
    check_installed()
    check_timm_names([run.model for run in runs])
    check_store(launch.results, runs)
    sweep_store(launch.results)
    plugins = tuple(dict.fromkeys([*launch.plugins, *(str(path.resolve()) for path in sweeps.plugins)]))
    launch = replace(launch, plugins=plugins, cpu_isa=cpu_isa.pin(launch.cpu_isa), device=choose_device(launch.device))
    cards = {run.dataset: _card(launch, grid, run.dataset) for run in runs}
    standing = {run: _standing(grid, run, cards[run.dataset], launch.results) for run in runs}
    number = len(grid.trials())
    watcher.on_start(sum(grid.budget.counts(number)) * sum(record is None for record in standing.values()))
    todo = [Sweep(grid, run, cards[run.dataset], launch) for run, record in standing.items() if record is None]
    made = {sweep.base_run: sweep.record for sweep in done(todo, launch, watcher.on_event)}
    records = [record or made[run] for run, record in standing.items()]
    folder = sweeps.folder or sweeps.grid.parent / f"tuned-{grid.name}"
    return Tuned(grid, records, write_files(folder, launch.results, grid))


def _cells(grid: Grid, sweeps: Sweeps) -> list[Run]:
    """The sweeps as runs of the base with the budget's seed.

    Raises:
        BenchError, ModelError: If a model is not trained, cannot run under the base, or shares its protocol's name.
    """
    datasets = [resolve(name) for name in sweeps.datasets]
    runs = []
    names: dict[str, str] = {}
    for model in match_models(sweeps.models):
        spec = get_spec(model)
        if spec.kind != "network":
            raise BenchError(f"{spec.name} is fitted, not trained; a sweep over a recipe is for networks")
        reason = refusal(spec, grid.base)
        if reason:
            raise BenchError(reason)
        for run in expand([grid.base.name], [model], datasets, [grid.budget.seed]):
            name = grid.tuned_protocol(grid.trials()[0], run.model, run.dataset).name
            if names.setdefault(name, run.model) != run.model:
                raise BenchError(f"{run.model} and {names[name]} would share the protocol {name}; tune one of them")
            runs.append(run)
    return list(dict.fromkeys(runs))


def _card(launch: Launch, grid: Grid, dataset: str) -> DataCard:
    return ready_card(launch.results, dataset, [grid.base.data.source_size], launch.data_root)


def _standing(grid: Grid, run: Run, card: DataCard, results: Path) -> TuningRecord | None:
    """The record of a sweep that was done.

    Raises:
        RecordError: If it is damaged.
        BenchError: If it is of another grid, or stale.
    """
    path = tuning_path(results, grid.name, run.model, run.dataset)
    if not path.exists():
        return None
    record = read_tuning(path)
    if record.grid_digest != grid.digest():
        raise BenchError(f"{path} was swept over another grid of the name {grid.name}; rename the grid file")
    reason = staleness(record, card.labels_digest)
    if reason:
        raise BenchError(f"{path} is stale: {reason}; remove it to sweep again")
    return record
