"""From chosen runs to an engine: data checked first, what cannot run is skipped with its reason."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bench.data.own import card_path_of
from bench.errors import BenchError, DataMissingError, RecordError
from bench.machine import cpu_isa, surroundings
from bench.machine.cpu_isa import CpuIsa
from bench.machine.devices import choose_device, device_slots
from bench.machine.signals import interruptible
from bench.plan.selection import Selection, optional_runs
from bench.plan.state import Overwrite, PlannedRun, choose, make_plan
from bench.protocols.loading import load_protocol
from bench.records.card import DataCard, read_card, write_card
from bench.records.names import Run, apart, is_own, lock_path
from bench.records.run_record import Failure, Record, real_only, write_run
from bench.records.sealed import TEMPORARY, explain_os_error
from bench.records.writing.locks import BusyError, held
from bench.records.writing.sweep import sweep_store
from bench.runs.engine_local import LocalEngine
from bench.runs.public_weights import normalisation_notes
from bench.runs.request import Event, Launch, RunRequest
from bench.runs.runner import skipped_record
from bench.runs.tracks.late import ready_track_card
from bench.runs.tracks.scoring import applies
from bench.tracks.loading import load_track
from models import fingerprint, get_spec
from models.catalog import check_timm_names
from models.loading import RUN_ADVICE, RUN_PACKAGES

if TYPE_CHECKING:
    from bench.runs.engine_ray import RayEngine


@dataclass
class Outcome:
    """What a launch left.

    Attributes:
        records: Those that were written, in the order the runs ended.
        skipped: Runs that were not tried, with their reasons.
        left: Failed and stale runs of the selection that `overwrite` does not do again.
        excused: Runs that may be skipped without failing the study that asks for them.
    """

    records: list[Record] = field(default_factory=list)
    skipped: dict[Run, str] = field(default_factory=dict)
    left: list[PlannedRun] = field(default_factory=list)
    excused: set[Run] = field(default_factory=set)

    @property
    def failed(self) -> list[Record]:
        """The records of runs that failed."""
        return [record for record in self.records if record.status == "failed"]

    @property
    def ok(self) -> bool:
        """Whether no run of the selection failed, now or before, or was skipped without an excuse."""
        before = any(item.state == "failed" for item in self.left)
        return not (before or self.failed or self.skipped.keys() - self.excused)


@dataclass(frozen=True)
class Watcher:
    """What a caller hears of a launch; an exception from `on_plan` or `on_start` ends it before anything runs.

    Attributes:
        on_plan: Called with the whole plan and with the failed and stale runs that are left as they are.
        on_start: Called with the runs that are done now, before the first of them, where there is one.
        on_event: Called at every start, progress and end of a run.
        on_skip: Called with each reason for skipped runs, once.
        on_note: Called with what a reader of the scores should know of the runs that are done now.
    """

    on_plan: Callable[[Sequence[PlannedRun], Sequence[PlannedRun]], None] = field(default=lambda planned, left: None)
    on_start: Callable[[Sequence[PlannedRun]], None] = field(default=lambda chosen: None)
    on_event: Callable[[Event], None] = field(default=lambda event: None)
    on_skip: Callable[[str], None] = field(default=lambda line: None)
    on_note: Callable[[str], None] = field(default=lambda line: None)


@interruptible()
def run(
    selection: Selection, launch: Launch, *, overwrite: Overwrite = "never", watcher: Watcher | None = None
) -> Outcome:
    """Do what is missing of a selection.

    Args:
        selection: Which runs.
        launch: Where and how; its plugins are those of the selection and its own.
        overwrite: Which recorded runs are done again.
        watcher: Who is kept informed.

    Raises:
        BenchError, ModelError: If a name is unknown, data are damaged or results cannot be written.
        Interrupted: After SIGINT or SIGTERM; the same call goes on from the checkpoints.
    """
    surroundings.complete()
    watcher = watcher or Watcher()
    plugins = tuple(dict.fromkeys([*launch.plugins, *(str(path.resolve()) for path in selection.plugins)]))
    tracks = selection.tracks(launch.tracks)
    asked = launch.cpu_isa
    launch = replace(launch, plugins=plugins, cpu_isa=cpu_isa.pin(asked), tracks=tracks)
    for name in launch.tracks:
        load_track(name)
    planned = make_plan(selection.runs(), launch.results)
    chosen = choose(planned, overwrite, launch.cpu_isa)
    left = [item for item in planned if item.state in ("failed", "stale") and item not in chosen]
    watcher.on_plan(planned, left)
    sweep_checkpoints([item for item in planned if item not in chosen], launch.results, launch.checkpoint_dir)
    check_timm_names([item.run.model for item in chosen])
    outcome = Outcome()
    if chosen:
        check_installed()
        launch = replace(launch, device=choose_device(launch.device))
        if overwrite == "isa":
            _check_isa(launch, asked)
        watcher.on_start(chosen)
        runs = [item.run for item in chosen]
        for line in normalisation_notes(runs, {run.protocol: load_protocol(run.protocol) for run in runs}):
            watcher.on_note(line)
        outcome = execute(chosen, launch, on_event=watcher.on_event, on_skip=watcher.on_skip)
    outcome.left = left
    if selection.study:  # which asks for every model under every protocol: what can never run there is no failure
        outcome.excused = optional_runs(selection.study) | {item.run for item in chosen if item.refusal}
    return outcome


def _check_isa(launch: Launch, asked: CpuIsa) -> None:
    """Refuse to replace records for the sake of an arithmetic that the new ones would not have either.

    Raises:
        BenchError: If this CPU lacks it, or the runs would go to a GPU.
    """
    if launch.cpu_isa != asked:
        raise BenchError(f"--overwrite isa is refused: this CPU has no {asked.upper()}; run it on one that has")
    if launch.device != "cpu":
        raise BenchError(f"--overwrite isa is refused: {launch.device} has no {asked.upper()}; add --device cpu")


def check_installed() -> None:
    """Refuse to run where only the light set-up is installed, which reads and reports records.

    Raises:
        BenchError: Naming the packages and the command that installs them.
    """
    missing = [name for name in RUN_PACKAGES if find_spec(name) is None]
    if missing:
        raise BenchError(f"Runs need {', '.join(missing)}, not installed here: {RUN_ADVICE}")


def check_store(results: Path, runs: Sequence[Run]) -> None:
    """Refuse a results folder that cannot take these runs, before anything ran.

    Raises:
        RecordError: If the folder cannot be written, has no locks, or runs on synthetic or own data would enter a
            store of real ones.
    """
    kinds = sorted({kind for run in runs if (kind := apart(run.dataset))})
    if kinds and real_only(results):
        what = " and ".join(kinds)
        raise RecordError(f"{results} holds real records only; give runs on {what} another folder with --results")
    probe = results / ".locks" / f"{TEMPORARY}probe-{os.getpid()}"
    try:
        with held(probe):
            probe.write_bytes(b"writable")
            probe.unlink()
    except OSError as error:
        raise explain_os_error(error, results) from None


def check_weights_folder(folder: Path, results: Path) -> None:
    """Refuse a folder that cannot take weights, before anything ran.

    Raises:
        RecordError: If it is no folder, cannot be written, or lies in the results folder, where only evidence stands.
    """
    if folder.resolve().is_relative_to(results.resolve()):
        raise RecordError(f"--keep-weights {folder} lies in the results folder, which is for evidence; name another")
    probe = folder / f"{TEMPORARY}probe-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"writable")
        probe.unlink()
    except OSError as error:
        raise RecordError(f"Cannot write to --keep-weights {folder}: {error.strerror or error}") from None


def ready_card(results: Path, dataset: str, sizes: Sequence[int], data_root: str | None) -> DataCard:
    """A data set's card, measured now if it is not there; every file that the runs need is checked.

    Raises:
        DataMissingError: If a file is neither there nor downloadable.
        DataError: If a file is damaged.
        RecordError: If the card does not fit the file.
    """
    from bench.data.card import measure, own_change
    from bench.data.loading import load

    sizes = sizes[:1] if is_own(dataset) else sizes  # one's own images have one size
    arrays = [load(dataset, size, root=data_root) for size in sizes]
    card = read_card(results, dataset)
    if card is None:
        card = measure(dataset, root=data_root)
        write_card(results, card)
    changed = own_change(card, arrays[0]) if is_own(dataset) else ""
    if changed:
        raise RecordError(
            f"{dataset}: changed since results/data/{dataset}.json was measured: {changed}; give the set another name, "
            f"or measure it anew with medbench measure data --datasets {dataset}, which makes its runs stale"
        )
    for loaded, size in zip(arrays, sizes, strict=True):
        if size == card.source_size and loaded.md5 != card.md5:
            raise RecordError(f"{dataset}: the file's MD5 is {loaded.md5}, results/data/{dataset}.json has {card.md5}")
    return card


def _cards(planned: Sequence[PlannedRun], launch: Launch, outcome: Outcome) -> dict[str, DataCard]:
    """The cards of all available sets; runs on the others are noted as skipped."""
    sizes: dict[str, set[int]] = {}
    for item in planned:
        sizes.setdefault(item.run.dataset, set()).add(load_protocol(item.run.protocol).data.source_size)
    cards: dict[str, DataCard] = {}
    for dataset, wanted in sizes.items():
        try:
            cards[dataset] = ready_card(launch.results, dataset, sorted(wanted), launch.data_root)
        except DataMissingError as error:
            outcome.skipped.update({item.run: str(error) for item in planned if item.run.dataset == dataset})
    return cards


def _skip(results: Path, item: PlannedRun, reason: str, kind: Literal["unavailable", "data"]) -> None:
    """Leave a record that says why a run is missing; a record that says more, or another's work on it, stays."""
    if item.state != "missing":
        return
    record = skipped_record(item.run, load_protocol(item.run.protocol), Failure(kind=kind, message=reason))
    with contextlib.suppress(BusyError), held(lock_path(results, item.run)):
        write_run(results, record, None, None)


def sweep_checkpoints(planned: Sequence[PlannedRun], results: Path, checkpoint_dir: Path | None) -> None:
    """Remove what a kill between record and tidying left of finished runs; a run that goes on elsewhere is left alone.

    Args:
        planned: Runs that are not to be done now; those that are not `done` keep what they go on from.
        results: The results folder.
        checkpoint_dir: Where checkpoints go instead of the results folder, None for there.
    """
    parents = [results / "checkpoints", *([checkpoint_dir] if checkpoint_dir is not None else [])]
    for run in [item.run for item in planned if item.state == "done"]:
        for parent in parents:
            if not any((parent / run.run_id).glob("turn*.ckpt")):
                continue
            from bench.training.checkpoint import Checkpoint

            with contextlib.suppress(BusyError, OSError), held(lock_path(results, run)):
                Checkpoint(parent / run.run_id, "").remove()


def execute(
    planned: Sequence[PlannedRun],
    launch: Launch,
    *,
    on_event: Callable[[Event], None] = lambda event: None,
    on_skip: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Do the runs that a plan chose.

    Args:
        planned: What to do.
        launch: Where and how.
        on_event: Called at every start, progress and end.
        on_skip: Called with each reason for skipped runs, once.

    Raises:
        BenchError: If data are damaged or results cannot be written; nothing ran in the first case.
        Interrupted: After SIGINT or SIGTERM.
    """
    check_store(launch.results, [item.run for item in planned])
    sweep_store(launch.results)
    if launch.checkpoint_dir is not None and launch.checkpoint_dir.is_file():
        raise RecordError(f"--checkpoint-dir {launch.checkpoint_dir} is a file; name a folder")
    if launch.keep_weights is not None:
        check_weights_folder(launch.keep_weights, launch.results)
    outcome = Outcome()
    cards = _cards([item for item in planned if not item.refusal], launch, outcome)
    for reason in dict.fromkeys(outcome.skipped.values()):
        on_skip(reason)
    scored = {(name, item.run.dataset) for item in planned for name in _tracks(launch, item.run)}
    for name, dataset in sorted(scored):
        if dataset in cards:
            ready_track_card(launch.results, load_track(name), dataset, launch.data_root)
    requests = []
    for item in planned:
        run = item.run
        if item.refusal:
            outcome.skipped[run] = item.refusal
            on_skip(f"{run.run_id}: {item.refusal}")
            _skip(launch.results, item, item.refusal, "unavailable")
        elif run in outcome.skipped:
            _skip(launch.results, item, f"{run.dataset} was neither on disk nor downloadable", "data")
        else:
            requests.append(_request(item, cards[run.dataset], launch))
    if requests:
        outcome.records = _engine(launch, on_event).run(requests)
    return outcome


def _engine(launch: Launch, on_event: Callable[[Event], None]) -> LocalEngine | RayEngine:
    """The chosen engine, with its part of the launch."""
    if launch.engine == "local":
        return LocalEngine(
            launch.results,
            devices=device_slots(launch.device, launch.jobs, launch.gpus_per_run),
            timeout=launch.timeout,
            on_event=on_event,
            weights=launch.keep_weights,
        )
    from bench.runs.engine_ray import RayEngine

    return RayEngine(
        launch.results,
        address=launch.ray_address,
        jobs=launch.jobs,
        gpus_per_run=launch.gpus_per_run,
        timeout=launch.timeout,
        on_event=on_event,
        weights=launch.keep_weights,
    )


def _request(item: PlannedRun, card: DataCard, launch: Launch) -> RunRequest:
    return RunRequest(
        run=item.run,
        protocol=load_protocol(item.run.protocol),
        card=card,
        own_data=card_path_of(item.run.dataset),
        device=launch.device,
        data_root=launch.data_root,
        checkpoint_dir=_checkpoints(launch, item.run),
        plugins=launch.plugins,
        model_fingerprint=fingerprint(get_spec(item.run.model)),
        cpu_isa=launch.cpu_isa,
        redo=item.state in ("done", "stale"),
        keep_weights=launch.keep_weights is not None,
        tracks=_tracks(launch, item.run),
    )


def _tracks(launch: Launch, run: Run) -> tuple[str, ...]:
    """The launch's tracks that apply to a run."""
    protocol = load_protocol(run.protocol)
    return tuple(name for name in launch.tracks if applies(load_track(name), protocol, run.dataset))


def _checkpoints(launch: Launch, run: Run) -> str | None:
    if launch.checkpoint_dir is not None:
        return str(launch.checkpoint_dir.resolve() / run.run_id)
    return str(launch.results / "checkpoints" / run.run_id) if launch.engine == "local" else None
