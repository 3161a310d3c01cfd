"""A run's own process: it locks, trains, reports, hands over, and can be killed without hurting anybody.

`work` serves the local engine, which writes on the same disk; `isolate` keeps a run apart inside a worker of
a cluster, so that a plugin which exits or never ends is a failed run and not a lost node.
"""

from __future__ import annotations

import atexit
import contextlib
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.errors import RecordError
from bench.machine.fork_server import END_SECONDS, OUT_OF_MEMORY, ForkServer, ServerLostError, ended_how
from bench.records.names import lock_path
from bench.records.run_record import Failure
from bench.runs.claim import run_lock, still_to_do
from bench.runs.request import Hooks, RunBundle, RunProgress, RunRequest
from bench.runs.runner import failed_record, run_one

PRELOAD = ("bench.machine.preload", "bench.runs.worker")
PROGRESS_SECONDS = 0.5
PATIENCE_SECONDS = 0.2
ATTEMPTS = 3  # at an isolated run that is stopped from outside
INTERRUPTED = (-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)  # exit codes that are nobody's fault
WRITTEN, STOP = "written", "stop"  # a driver's messages


class Link:
    """A worker's end of the pipe: it reports progress at intervals and knows when to stop."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe, self.stopped, self.last = pipe, False, 0.0
        self.signum: int = signal.SIGTERM  # that stopped it
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGINT, self.stop)

    def progress(self, event: RunProgress) -> None:
        """Report to the driver, at most every `PROGRESS_SECONDS`."""
        if time.monotonic() - self.last < PROGRESS_SECONDS:
            return
        self.last = time.monotonic()
        try:
            self.pipe.send(("progress", event))
        except OSError:  # the driver is gone
            self.stopped = True

    def should_stop(self) -> bool:
        """Whether the run should save and end, or its driver is gone: a driver sends nothing else meanwhile."""
        self.stopped = self.stopped or self.pipe.poll()
        return self.stopped

    def stop(self, signum: int, _: Any) -> None:
        """A signal's handler."""
        self.stopped, self.signum = True, signum

    def was_written(self) -> bool:
        """Wait until the driver has written the record; False if it ended before."""
        with contextlib.suppress(EOFError, OSError):
            while self.pipe.recv() != WRITTEN:
                pass
            return True
        return False


def work(request: RunRequest, results: str, pipe: Connection) -> None:
    """A worker's life: lock, look again whether the run is done, run, hand over, wait for the writing."""
    from filelock import Timeout

    from bench.training.trainer import InterruptedTraining

    link = Link(pipe)
    try:
        with run_lock(Path(results), request.run):
            to_do = still_to_do(Path(results), request)
            if to_do is None:
                pipe.send(("already", None))
                return
            bundle = run_one(to_do, Hooks(link.progress, link.should_stop))
            pipe.send(("bundle", bundle))
            if link.was_written() and bundle.record.status == "done":
                forget_checkpoints(to_do)
    except Timeout:
        pipe.send(("busy", None))
    except InterruptedTraining:
        with contextlib.suppress(OSError):
            pipe.send(("stopped", link.signum))
    except RecordError as error:
        pipe.send(("fatal", str(error)))
    except OSError as error:
        with contextlib.suppress(OSError):
            locks = lock_path(Path(results), request.run).parent
            pipe.send(("fatal", f"Cannot use {locks}: {error.strerror or error}"))


def forget_checkpoints(request: RunRequest) -> None:
    """Remove the checkpoints of a finished run."""
    if request.checkpoint_dir is not None:
        from bench.training.checkpoint import Checkpoint

        Checkpoint(Path(request.checkpoint_dir), "").remove()


def ending(exitcode: int | None) -> Failure:
    """Why a run has no scores whose process ended without handing over."""
    if exitcode == -signal.SIGKILL:
        hint = "(the system kills what uses too much memory)"
        return Failure(kind="oom", message=f"the run's process {ended_how(exitcode)} {hint}")
    if exitcode == OUT_OF_MEMORY:
        return Failure(kind="oom", message="the run's process got no memory for its libraries")
    return Failure(kind="error", message=f"the run's process {ended_how(exitcode)}")


def overdue(timeout: float) -> Failure:
    """Why a run has no scores that was killed for taking too long."""
    return Failure(kind="timeout", message=f"the run took longer than {timeout:g} s and was killed")


def _work_alone(request: RunRequest, pipe: Connection) -> None:
    """The life of an isolated run: no lock and no results folder, the driver far away has them."""
    from bench.training.trainer import InterruptedTraining

    link = Link(pipe)
    with contextlib.suppress(OSError):
        try:
            pipe.send(("bundle", run_one(request, Hooks(link.progress, link.should_stop))))
        except InterruptedTraining:
            pipe.send(("stopped", link.signum))
        except RecordError as error:  # a checkpoint folder that refuses: this run's trouble, not the cluster's
            failure = Failure(kind="infra", message=str(error))
            pipe.send(("bundle", RunBundle(failed_record(request, failure))))


class _InterruptedRunError(Exception):
    """A run was stopped from outside, alone or with the server that forked it."""


_servers: list[ForkServer] = []


def _server() -> ForkServer:
    """This process's own fork server, a new one where that was lost."""
    if not _servers or _servers[-1].is_lost:
        _servers.append(ForkServer(PRELOAD))
        atexit.register(_servers[-1].close)
    return _servers[-1]


def isolate(request: RunRequest, timeout: float | None) -> RunBundle:
    """Do one run in a child process and wait for it; a dead or late child becomes a failed record.

    Raises:
        KeyboardInterrupt: If this process received a signal to stop; the child has saved its checkpoint.
    """
    for _ in range(ATTEMPTS):
        with contextlib.suppress(_InterruptedRunError, ServerLostError):
            return _isolate(_server(), request, timeout)
    failure = Failure(kind="infra", message=f"the run's process was stopped from outside {ATTEMPTS} times")
    return RunBundle(failed_record(request, failure))


def _isolate(server: ForkServer, request: RunRequest, timeout: float | None) -> RunBundle:
    """As `isolate`, in a child of this server.

    Raises:
        _InterruptedRunError: If child or server were stopped from outside.
        ServerLostError: If the server is gone.
    """
    child = server.start(_work_alone, request)
    try:
        while timeout is None or child.started is None or time.monotonic() - child.started < timeout:
            server.update()
            if not child.pipe.poll(PATIENCE_SECONDS):
                continue
            try:
                kind, content = child.pipe.recv()
            except (EOFError, OSError):
                if not server.wait(child, END_SECONDS) or child.exitcode in INTERRUPTED:
                    raise _InterruptedRunError from None
                return RunBundle(failed_record(request, ending(child.exitcode)))
            if kind == "stopped":
                raise _InterruptedRunError
            if kind == "bundle":
                bundle: RunBundle = content
                return bundle
        child.send_signal(signal.SIGKILL)
        return RunBundle(failed_record(request, overdue(timeout)))
    except KeyboardInterrupt:
        child.send_signal(signal.SIGTERM)
        raise
    finally:
        child.pipe.close()  # which asks it to end
        if not server.wait(child, END_SECONDS):
            child.send_signal(signal.SIGKILL)
            server.wait(child, END_SECONDS)
