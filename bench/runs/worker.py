"""A run's own process: it locks, trains, reports, hands over, and can be killed without hurting anybody.

`work` serves the local engine, which writes on the same disk; `isolate` keeps a run apart inside a worker of
a cluster, so that a plugin which exits or never ends is a failed run and not a lost node.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from bench.errors import RecordError
from bench.records.names import lock_path
from bench.records.run_record import Failure
from bench.runs.claim import run_lock, still_to_do
from bench.runs.request import Hooks, RunBundle, RunProgress, RunRequest
from bench.runs.runner import failed_record, run_one

GRACE_SECONDS = 60.0
PROGRESS_SECONDS = 0.5
PATIENCE_SECONDS = 0.2


class Link:
    """A worker's end of the pipe: it tells progress at intervals and knows when to stop."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe, self.stopped, self.last = pipe, False, 0.0

    def progress(self, event: RunProgress) -> None:
        """Tell the driver, at most every `PROGRESS_SECONDS`."""
        if time.monotonic() - self.last < PROGRESS_SECONDS:
            return
        self.last = time.monotonic()
        try:
            self.pipe.send(("progress", event))
        except OSError:  # the driver is gone
            self.stopped = True

    def should_stop(self) -> bool:
        """Whether somebody asked the run to save and end."""
        return self.stopped

    def stop(self, *_: Any) -> None:
        """A signal's handler."""
        self.stopped = True


def work(request: RunRequest, results: str, pipe: Connection) -> None:
    """A worker's life: lock, look again whether the run is done, run, hand over, wait for the writing."""
    from filelock import Timeout

    from bench.training.trainer import InterruptedTraining

    link = Link(pipe)
    signal.signal(signal.SIGTERM, link.stop)
    signal.signal(signal.SIGINT, link.stop)
    try:
        with run_lock(Path(results), request.run):
            to_do = still_to_do(Path(results), request)
            if to_do is None:
                pipe.send(("already", None))
                return
            bundle = run_one(to_do, Hooks(link.progress, link.should_stop))
            pipe.send(("bundle", bundle))
            with contextlib.suppress(EOFError, OSError):
                pipe.recv()  # written, or the driver is gone
            if bundle.record.status == "done":
                forget_checkpoints(to_do)
    except Timeout:
        pipe.send(("busy", None))
    except InterruptedTraining:
        with contextlib.suppress(OSError):
            pipe.send(("stopped", None))
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


def process_context() -> Any:
    """A fork server that has imported torch once: every run starts in a clean process, at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.runs.runner", "bench.machine.preload"])
    return context


def ending(exitcode: int | None) -> Failure:
    """Why a run has no scores whose process ended without handing over."""
    killed = exitcode is not None and exitcode < 0
    how = f"was killed by {signal.Signals(-(exitcode or 0)).name}" if killed else f"exited with code {exitcode}"
    kind: Literal["oom", "error"] = "oom" if exitcode == -signal.SIGKILL else "error"
    hint = " (the system kills what uses too much memory)" if kind == "oom" else ""
    return Failure(kind=kind, message=f"the run's process {how}{hint}")


def overdue(timeout: float) -> Failure:
    """Why a run has no scores that was killed for taking too long."""
    return Failure(kind="timeout", message=f"the run took longer than {timeout:g} s and was killed")


def _work_alone(request: RunRequest, pipe: Connection) -> None:
    """The life of an isolated run: no lock and no results folder, the driver far away has them."""
    from bench.training.trainer import InterruptedTraining

    link = Link(pipe)
    signal.signal(signal.SIGTERM, link.stop)
    signal.signal(signal.SIGINT, link.stop)
    with contextlib.suppress(InterruptedTraining, OSError):
        try:
            pipe.send(("bundle", run_one(request, Hooks(link.progress, link.should_stop))))
        except RecordError as error:  # a checkpoint folder that refuses: this run's trouble, not the cluster's
            failure = Failure(kind="infra", message=str(error))
            pipe.send(("bundle", RunBundle(failed_record(request, failure))))


def isolate(request: RunRequest, timeout: float | None) -> RunBundle:
    """Do one run in a child process and wait for it; a dead or late child becomes a failed record.

    Raises:
        KeyboardInterrupt: If this process was told to stop; the child has saved its checkpoint.
    """
    context = process_context()
    ours, theirs = context.Pipe()
    child = context.Process(target=_work_alone, args=(request, theirs), name=request.run.run_id)
    child.start()
    theirs.close()
    started = time.monotonic()
    try:
        while timeout is None or time.monotonic() - started < timeout:
            if not ours.poll(PATIENCE_SECONDS):
                continue
            try:
                kind, content = ours.recv()
            except (EOFError, OSError):
                child.join()
                return RunBundle(failed_record(request, ending(child.exitcode)))
            if kind == "bundle":
                bundle: RunBundle = content
                return bundle
        child.kill()
        return RunBundle(failed_record(request, overdue(timeout)))
    except KeyboardInterrupt:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGTERM)
        ours.close()
        child.join(GRACE_SECONDS)
        raise
    finally:
        child.join(GRACE_SECONDS)
        if child.is_alive():
            child.kill()
            child.join()
