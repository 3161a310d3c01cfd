"""Where runs execute: each in a process of its own on this machine, N at once.

The driver starts the processes and alone writes results; a worker holds the run's file lock from before it
reads the state until the driver has written, so two drivers on one results folder never do a run twice. A
worker whose driver is gone saves its checkpoint and ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from bench.errors import Interrupted, RecordError
from bench.machine.signals import signals_noted
from bench.records.run_record import Failure, Record, write_run
from bench.runs.request import Event, RunBundle, RunRequest
from bench.runs.runner import failed_record
from bench.runs.worker import GRACE_SECONDS, ending, overdue, process_context, work

BUSY_SECONDS = 1.0
TOLD_TO_STOP = Failure(
    kind="infra",
    message="the run's process was told to stop (SIGTERM) and saved; --overwrite failed goes on from there",
)


@dataclass
class _Worker:
    request: RunRequest
    process: Any
    pipe: Connection
    started: float
    finished: bool = False


class LocalEngine:
    """Runs requests in processes of this machine.

    Args:
        results: The results folder; only this object writes its records.
        devices: The device of each run that goes on at once; its length is how many do.
        timeout: Seconds after which a run is killed and fails, None for never.
        on_event: Told of every start, progress and end.
    """

    def __init__(
        self,
        results: Path,
        *,
        devices: Sequence[str] = ("cpu",),
        timeout: float | None = None,
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self.results, self.free, self.timeout = results, list(devices), timeout
        self.on_event = on_event
        self.context = process_context()
        self.workers: list[_Worker] = []
        self.records: list[Record] = []
        self.signum = 0

    def run(self, requests: Sequence[RunRequest]) -> list[Record]:
        """Do all runs; returns the records written by this call, in the order they ended.

        Raises:
            Interrupted: After SIGINT or SIGTERM, when all workers have saved.
            RecordError: If results cannot be written; the other workers are stopped first.
        """
        waiting = [(0.0, request) for request in requests]  # not to be started before a time
        with signals_noted(self._note_signal):
            try:
                while waiting or self.workers:
                    due = [item for item in waiting if item[0] <= time.monotonic()][: len(self.free)]
                    for item in due if not self.signum else ():
                        waiting.remove(item)
                        self._start(item[1])
                    again = time.monotonic() + BUSY_SECONDS  # another driver has them: look again
                    waiting.extend((again, request) for request in self._listen())
                    if self.signum:
                        raise Interrupted(self.signum)
            finally:
                self._stop_all()
        return self.records

    def _note_signal(self, signum: int, _: Any) -> None:
        self.signum = signum

    def _start(self, request: RunRequest) -> None:
        ours, theirs = self.context.Pipe()
        request = replace(request, device=self.free.pop(0))
        arguments = (request, str(self.results), theirs)
        process = self.context.Process(target=work, args=arguments, name=request.run.run_id)
        process.start()
        theirs.close()
        self.workers.append(_Worker(request, process, ours, time.monotonic()))
        self.on_event(Event("started", request))

    def _listen(self) -> list[RunRequest]:
        """Handle what workers say and how they end; returns the requests that another driver is doing."""
        busy: list[RunRequest] = []
        ready = wait([w.pipe for w in self.workers] + [w.process.sentinel for w in self.workers], timeout=0.2)
        for worker in list(self.workers):
            if worker.pipe in ready:
                self._receive(worker, busy)
            elif worker.process.sentinel in ready:
                self._bury(worker)
            elif self.timeout is not None and time.monotonic() - worker.started > self.timeout:
                worker.process.kill()
                self._fail(worker, overdue(self.timeout))
        return busy

    def _receive(self, worker: _Worker, busy: list[RunRequest]) -> None:
        try:
            kind, content = worker.pipe.recv()
        except (EOFError, OSError):
            self._bury(worker)
            return
        if kind == "progress":
            self.on_event(Event("progress", worker.request, progress=content))
        elif kind == "bundle":
            self._write(worker.request, content)
            worker.finished = True
            with contextlib.suppress(OSError):
                worker.pipe.send("written")
        elif kind == "fatal":
            worker.finished = True
            raise RecordError(content)
        elif kind == "stopped" and not self.signum:  # by somebody else, this run alone
            self._fail(worker, TOLD_TO_STOP)
        else:
            worker.finished = True
            if kind == "busy":
                busy.append(worker.request)
            elif kind == "already":
                self.on_event(Event("finished", worker.request))

    def _write(self, request: RunRequest, bundle: RunBundle) -> None:
        write_run(self.results, bundle.record, bundle.predictions, bundle.history)
        self.records.append(bundle.record)
        self.on_event(Event("finished", request, record=bundle.record))

    def _bury(self, worker: _Worker) -> None:
        """A worker has ended; one that did not finish its run leaves a failed record."""
        worker.process.join()
        if not worker.finished and not self.signum:
            self._fail(worker, ending(worker.process.exitcode))
            return
        self._forget(worker)

    def _fail(self, worker: _Worker, failure: Failure) -> None:
        record = failed_record(worker.request, failure)
        self._forget(worker)
        self._write(worker.request, RunBundle(record))

    def _forget(self, worker: _Worker) -> None:
        worker.process.join()
        worker.pipe.close()
        self.workers.remove(worker)
        self.free.append(worker.request.device)

    def _stop_all(self) -> None:
        """Ask the workers to save and end, then insist; after a failure of ours nothing of theirs is read any more."""
        for worker in self.workers:
            if not self.signum:
                worker.pipe.close()
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.process.pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        for worker in self.workers:
            # A worker that blocks on a full pipe must be read empty, or find it closed, before it can end.
            while worker.process.is_alive() and time.monotonic() < deadline:
                with contextlib.suppress(EOFError, OSError):
                    while worker.pipe.poll(0.05):
                        kind, content = worker.pipe.recv()
                        if kind == "bundle" and self.signum:
                            self._write(worker.request, content)
                            worker.pipe.send("written")
                worker.process.join(0.05)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()
        self.workers.clear()
