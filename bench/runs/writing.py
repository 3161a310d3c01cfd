"""What a run hands over goes to disk: its weights first, so that no record stands without those it was to keep."""

from __future__ import annotations

import contextlib
from pathlib import Path

from bench.records.names import log_path, weights_path
from bench.records.run_record import write_run
from bench.records.sealed import write_atomic
from bench.records.tracks.record import write_track
from bench.runs.request import RunBundle


def write_bundle(bundle: RunBundle, results: Path, weights: Path | None = None) -> None:
    """Write a run's weights, tracks and log, where it has any, and its record; call it only while holding its lock.

    The record goes behind weights and tracks: a run that was killed between the two is not done, and does both again.

    Args:
        bundle: What the run handed over.
        results: The results folder.
        weights: The folder for weights, None to write none.

    Raises:
        RecordError: If a folder refuses; see `write_run`.
    """
    if weights is not None and bundle.weights is not None:
        write_atomic(weights_path(weights, bundle.record.run), bundle.weights)
    for track in bundle.tracks:
        write_track(results, track.record, track.logits)
    write_run(results, bundle.record, bundle.predictions, bundle.history)
    log = log_path(results, bundle.record.run)
    if bundle.log:
        write_atomic(log, bundle.log.encode(errors="backslashreplace"))
    else:  # that of an earlier failure
        with contextlib.suppress(OSError):
            log.unlink(missing_ok=True)
