"""Sweeps side by side: a round of trials for each, until each has its choice and its record."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from bench import __version__
from bench.data.own import card_path_of
from bench.errors import BenchError
from bench.machine import provenance
from bench.machine.devices import device_slots
from bench.protocols.grid import Grid
from bench.protocols.halving import halve
from bench.records.card import DataCard
from bench.records.names import Run, lock_file, log_path
from bench.records.sealed import write_atomic
from bench.records.tuning.record import Trial, TuningRecord, sweep_id, write_tuning
from bench.records.writing.locks import BusyError, held
from bench.runs.engine_local import LocalEngine
from bench.runs.request import Event, Launch, RunBundle, RunRequest
from bench.runs.tuning.journal import Journal, is_outcome
from bench.runs.tuning.trial import SPLITS, TrialRequest, work_trial
from models import fingerprint, get_spec


def done(sweeps: Sequence[Sweep], launch: Launch, on_event: Callable[[Event], None]) -> Sequence[Sweep]:
    """Do sweeps side by side, round after round, and write their records.

    Raises:
        BenchError: If another command is at one of them, a trial failed, or none was left.
    """
    by_run = {(sweep.base_run.model, sweep.base_run.dataset): sweep for sweep in sweeps}

    def write(request: RunRequest, bundle: RunBundle) -> None:
        by_run[request.run.model, request.run.dataset].note(request, bundle)

    def next_round() -> list[TrialRequest]:
        return [request for sweep in sweeps for request in sweep.next_round()]

    with contextlib.ExitStack() as locks:
        for sweep in sweeps:
            try:
                locks.enter_context(held(lock_file(launch.results, sweep.name)))
            except BusyError:
                raise BenchError(f"{sweep.name} is being swept by another command; wait for it") from None
        devices = device_slots(launch.device, launch.jobs, launch.gpus_per_run)
        engine = LocalEngine(
            launch.results,
            devices=devices,
            timeout=launch.timeout,
            on_event=on_event,
            process=work_trial,
            write=write,
        )
        first = next_round()
        if first:
            engine.run(first, next_round)
    return sweeps


class Sweep:
    """One sweep: rounds of trials until one is chosen.

    Args:
        grid: What is swept.
        run: Its model and data set, under the base with the budget's seed.
        card: The data set's.
        launch: Where and how.
    """

    def __init__(self, grid: Grid, run: Run, card: DataCard, launch: Launch) -> None:
        self.grid, self.base_run, self.card, self.launch = grid, run, card, launch
        self.params = grid.trials()
        self.labels = {split: card.labels_digest[split] for split in SPLITS}
        self.fingerprint = fingerprint(get_spec(run.model))
        self.name = sweep_id(grid.name, run.model, run.dataset)
        self.failed: list[RunBundle] = []
        self.written: TuningRecord | None = None
        isa = launch.cpu_isa if launch.device == "cpu" else launch.device.split(":")[0]
        same = [grid.digest(), self.fingerprint, self.labels, run.model, run.dataset, isa]
        self.journal = Journal.opened(launch.results / "checkpoints" / self.name, same)

    @property
    def record(self) -> TuningRecord:
        """What it left."""
        assert self.written is not None, "the sweep is over"
        return self.written

    def next_round(self) -> list[TrialRequest]:
        """What is to be trained next; where nothing is, the record is written.

        Raises:
            BenchError: If a trial failed, or none was left to choose from.
        """
        if self.written is not None:
            return []
        if self.failed:
            record = self.failed[0].record
            why = f"{record.failure.kind}: {record.failure.message}" if record.failure else record.status
            raise BenchError(f"{record.run_id}, a trial, failed: {why}; the same command tries it again")
        curves = [self.journal.curves.get(n, {}).get(self.grid.budget.metric, []) for n in range(len(self.params))]
        stand = halve(self.grid.budget, curves, self.journal.diverged)
        if stand.todo:
            for number in set(range(len(self.params))) - set(stand.todo):
                if stand.epochs[number] < stand.until or number in self.journal.diverged:
                    self.journal.forget(number)
            return [self._request(number, stand.until) for number in stand.todo]
        if stand.choice is None:
            first = next(iter(self.journal.diverged.values()), f"no {self.grid.budget.metric} is defined")
            raise BenchError(f"{self.name}: no trial was left to choose from: {first}; give the grid lower rates")
        self.written = self._sealed(stand.choice)
        write_tuning(self.launch.results, self.written)
        self.journal.remove()
        return []

    def _request(self, number: int, until: int) -> TrialRequest:
        protocol = self.grid.trial_protocol(self.params[number], number)
        return TrialRequest(
            run=replace(self.base_run, protocol=protocol.name),
            protocol=protocol,
            card=self.card,
            own_data=card_path_of(self.base_run.dataset),
            device=self.launch.device,
            data_root=self.launch.data_root,
            checkpoint_dir=str(self.journal.checkpoints(number)),
            plugins=self.launch.plugins,
            model_fingerprint=self.fingerprint,
            cpu_isa=self.launch.cpu_isa,
            until=until,
        )

    def note(self, request: RunRequest, bundle: RunBundle) -> None:
        """Take over what a trial hands over; one that failed for another reason than its recipe ends the sweep.

        Raises:
            RecordError: If the file system refuses.
        """
        assert isinstance(request, TrialRequest), "a sweep requests trials alone"
        if is_outcome(bundle.record):
            number = int(request.protocol.name.rpartition("-t")[2])
            self.journal.note(number, request.until, bundle)
            return
        self.failed.append(bundle)
        if bundle.log:
            log = bundle.log.encode(errors="backslashreplace")
            write_atomic(log_path(self.launch.results, request.run), log)

    def _sealed(self, choice: int) -> TuningRecord:
        grid, run, journal = self.grid, self.base_run, self.journal
        trials = [
            Trial(
                params=params,
                protocol_digest=grid.trial_protocol(params, number).digest(),
                diverged=journal.diverged.get(number, ""),
                curves=journal.curves[number],
            )
            for number, params in enumerate(self.params)
        ]
        chosen = grid.tuned_protocol(self.params[choice], run.model, run.dataset)
        return TuningRecord(
            suite_version=__version__,
            grid=grid.name,
            grid_digest=grid.digest(),
            rules=grid.model_dump(mode="json"),
            model=run.model,
            dataset=run.dataset,
            synthetic=run.synthetic,
            seed=run.seed,
            trials=trials,
            choice=choice,
            protocol=chosen.name,
            protocol_digest=chosen.digest(),
            epochs=sum(trial.epochs for trial in trials),
            model_fingerprint=self.fingerprint,
            labels_digest=self.labels,
            **journal.machine,
            **provenance.origin(),
        ).sealed()
