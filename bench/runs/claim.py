"""Who does a run: its lock in the results folder and, once it is held, whether the run is still to be done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.records.names import Run, lock_path
from bench.records.run_record import finished_digest, sweep_run
from bench.runs.request import RunRequest

if TYPE_CHECKING:
    from filelock import FileLock


def run_lock(results: Path, run: Run) -> FileLock:
    """The lock of a run, not yet acquired; acquiring it raises `filelock.Timeout` at once where another driver has it.

    Raises:
        OSError: If the results folder refuses.
    """
    from filelock import FileLock

    path = lock_path(results, run)
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path, timeout=0)


def still_to_do(results: Path, request: RunRequest) -> RunRequest | None:
    """The request with the digest of the record that it replaces, or None if another driver has done the run since.

    Call it only while holding the run's lock: what a killed writer left is removed.

    Raises:
        RecordError: If the results folder refuses.
    """
    replaces = finished_digest(request.run.path(results))
    if replaces and not request.redo:
        return None
    sweep_run(results, request.run)
    return replace(request, replaces=replaces)
