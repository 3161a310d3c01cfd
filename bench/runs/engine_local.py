"""Where runs execute: each in a process of its own on this machine, N at once.

The driver starts the processes and alone writes results; a worker holds the run's file lock from before it
reads the state until the driver has written, so two drivers on one results folder never do a run twice. A
worker whose driver is gone saves its checkpoint and ends. A run that was interrupted, by whatever signal to whichever
process, leaves no record: the same command goes on with it.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from bench.errors import BenchError, Interrupted, RecordError
from bench.machine.fork_server import END_SECONDS, NO_PROCESS, Child, ForkServer, ServerLostError
from bench.machine.signals import signals_noted
from bench.records.run_record import Failure, Record
from bench.runs.request import Event, RunBundle, RunRequest
from bench.runs.runner import failed_record
from bench.runs.worker import INTERRUPTED, PRELOAD, STOP, WRITTEN, ending, overdue, work
from bench.runs.writing import write_bundle

BUSY_SECONDS = 1.0
LISTEN_SECONDS = 0.2
POLL_SECONDS = 0.05
LAST_SECONDS = 0.5  # in which the death of the fork server follows that of its processes
SERVER_LOST = "the process that starts the runs was killed, perhaps for want of memory"


@dataclass
class _Worker:
    """A run under way.

    Attributes:
        request: What it does.
        child: Its process.
        finished: Whether it needs no record any more.
        closed: When its pipe ended, which its process soon follows.
    """

    request: RunRequest
    child: Child
    finished: bool = False
    closed: float | None = None


class LocalEngine:
    """Runs requests in processes of this machine.

    Args:
        results: The results folder; only this object writes its records.
        devices: The device of each run that goes on at once; its length is how many do.
        timeout: Seconds after which a run is killed and fails, None for never.
        on_event: Called at every start, progress and end.
        weights: The folder for weights that runs hand over, None to write none.
        process: What each process does, called with the request, the results folder and its end of the pipe.
        write: Puts what a process hands over on the disk.
    """

    def __init__(
        self,
        results: Path,
        *,
        devices: Sequence[str] = ("cpu",),
        timeout: float | None = None,
        on_event: Callable[[Event], None] = lambda event: None,
        weights: Path | None = None,
        process: Callable[..., None] = work,
        write: Callable[[RunRequest, RunBundle], None] | None = None,
    ) -> None:
        self.results, self.free, self.timeout = results, list(devices), timeout
        self.on_event, self.process = on_event, process
        self.write = write or (lambda request, bundle: write_bundle(bundle, results, weights))
        self.workers: list[_Worker] = []
        self.records: list[Record] = []
        self.interrupted: list[tuple[RunRequest, int]] = []  # by which signal to their own process
        self.signum = 0

    def run(
        self, requests: Sequence[RunRequest], more: Callable[[], Sequence[RunRequest]] = lambda: ()
    ) -> list[Record]:
        """Do all runs; returns the records written by this call, in the order they ended.

        Args:
            requests: What to do first.
            more: Called when all of that has been done, and again until it has nothing to add.

        Raises:
            Interrupted: After SIGINT or SIGTERM, to this process or to one of its own, when all workers have saved;
                or when the process that starts them was killed.
            RecordError: If results cannot be written; the other workers are stopped first.
            BenchError: If no process can be started.
        """
        waiting = [(0.0, request) for request in requests]  # not to be started before a time
        with signals_noted(self._note_signal), ForkServer(PRELOAD) as self.server:
            try:
                while waiting or self.workers or (waiting := [(0.0, request) for request in more()]):
                    due = [item for item in waiting if item[0] <= time.monotonic()][: len(self.free)]
                    for item in due:
                        waiting.remove(item)
                        self._start(item[1])
                    again = time.monotonic() + BUSY_SECONDS  # another driver has them: look again
                    waiting.extend((again, request) for request in self._listen())
                    self._check_interruption()
            except ServerLostError:
                raise Interrupted(signal.SIGTERM, SERVER_LOST) from None
            finally:
                self._stop_all()
        if self.interrupted:
            names = ", ".join(request.run.run_id for request, _ in self.interrupted)
            raise Interrupted(self.interrupted[0][1], f"stopped from outside: {names}")
        return self.records

    def _note_signal(self, signum: int, _: Any) -> None:
        self.signum = signum

    def _check_interruption(self) -> None:
        if self.signum:
            raise Interrupted(self.signum)
        if self.server.is_lost:
            raise ServerLostError

    def _start(self, request: RunRequest) -> None:
        request = replace(request, device=self.free.pop(0))
        self.workers.append(_Worker(request, self.server.start(self.process, request, str(self.results))))
        self.on_event(Event("started", request))

    def _listen(self) -> list[RunRequest]:
        """Handle what workers say and how they end; returns the requests that another driver is doing."""
        busy: list[RunRequest] = []
        pipes = [worker.child.pipe for worker in self.workers if worker.closed is None]
        ready = wait([*pipes, self.server.control], timeout=LISTEN_SECONDS)
        self.server.update()
        for worker in list(self.workers):
            child = worker.child
            if child.pipe in ready or child.exitcode is not None:
                self._receive(worker, busy)
            if child.exitcode is not None and worker.closed is not None:
                self._ended(worker)
            elif worker.closed is not None and time.monotonic() - worker.closed > END_SECONDS:
                child.send_signal(signal.SIGKILL)  # a model's code closed the pipe and goes on
            elif self.timeout is not None and time.monotonic() - (child.started or time.monotonic()) > self.timeout:
                child.send_signal(signal.SIGKILL)
                if worker.finished:  # it ends slowly, and its record stands
                    self._forget(worker)
                else:
                    self._fail(worker, overdue(self.timeout))
        return busy

    def _receive(self, worker: _Worker, busy: list[RunRequest]) -> None:
        """Handle what a worker says, to the end of its pipe once it has ended."""
        if worker.closed is not None:
            return
        try:
            kind, content = worker.child.pipe.recv()
        except (EOFError, OSError):
            worker.closed = time.monotonic()
            return
        if kind == "progress":
            self.on_event(Event("progress", worker.request, progress=content))
        elif kind == "bundle":
            self._write(worker.request, content)
            worker.finished = True
            with contextlib.suppress(OSError):
                worker.child.pipe.send(WRITTEN)
        elif kind == "fatal":
            worker.finished = True
            raise RecordError(content)
        else:
            worker.finished = True
            if kind == "busy":
                busy.append(worker.request)
            elif kind == "stopped":  # by somebody else than this driver
                self.interrupted.append((worker.request, content))
            elif kind == "already":
                self.on_event(Event("finished", worker.request))

    def _write(self, request: RunRequest, bundle: RunBundle) -> None:
        self.write(request, bundle)
        self.records.append(bundle.record)
        self.on_event(Event("finished", request, record=bundle.record))

    def _ended(self, worker: _Worker) -> None:
        """A worker has ended; one that did not finish its run leaves a failed record, unless it was interrupted."""
        if worker.finished:
            self._forget(worker)
            return
        if worker.child.refused:
            self.workers.remove(worker)
            raise BenchError(NO_PROCESS)
        self.server.update(LAST_SECONDS if worker.child.exitcode == -signal.SIGKILL else 0.0)
        self._check_interruption()
        code = worker.child.exitcode
        if code in INTERRUPTED:
            self.interrupted.append((worker.request, -code))
            self._forget(worker)
        else:
            self._fail(worker, ending(code))

    def _fail(self, worker: _Worker, failure: Failure) -> None:
        record = failed_record(worker.request, failure)
        self._forget(worker)
        self._write(worker.request, RunBundle(record))

    def _forget(self, worker: _Worker) -> None:
        self.server.wait(worker.child, END_SECONDS)
        worker.child.pipe.close()
        self.workers.remove(worker)
        self.free.append(worker.request.device)

    def _stop_all(self) -> None:
        """Ask the workers to save and end, then insist; after a failure of ours nothing of theirs is read any more."""
        interrupted = bool(self.signum) or self.server.is_lost
        for worker in self.workers:
            if interrupted:
                with contextlib.suppress(OSError):
                    worker.child.pipe.send(STOP)
            else:
                worker.child.pipe.close()
            worker.child.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + END_SECONDS
        for worker in self.workers:
            # A worker that blocks on a full pipe must be read empty, or find it closed, before it can end. Before the
            # server is ready there is none.
            while self.server.is_ready and not self._has_ended(worker) and time.monotonic() < deadline:
                self._read_last(worker, interrupted=interrupted)
                self.server.wait(worker.child, POLL_SECONDS)
            worker.child.send_signal(signal.SIGKILL)
            worker.child.pipe.close()
        self.workers.clear()

    def _has_ended(self, worker: _Worker) -> bool:
        """Whether a process is gone; after the server nobody but its pipe says so."""
        return worker.child.exitcode is not None or (self.server.is_lost and worker.closed is not None)

    def _read_last(self, worker: _Worker, *, interrupted: bool) -> None:
        """Take what a worker still says; a result is written if nothing but an interruption is in the way."""
        try:
            while worker.child.pipe.poll(POLL_SECONDS):
                kind, content = worker.child.pipe.recv()
                if kind == "bundle" and interrupted:
                    self._write(worker.request, content)
                    worker.child.pipe.send(WRITTEN)
        except (EOFError, OSError):
            worker.closed = worker.closed or time.monotonic()
