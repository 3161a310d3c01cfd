"""A trial: one recipe trained to a rung of its sweep, in a process of its own, on train and val.

Test data never get here: their arrays are dropped before the model is built, and nothing is predicted but val.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from bench.errors import DataError, RecordError
from bench.machine import provenance
from bench.records.card import labels_digest
from bench.records.predictions import frame_bytes
from bench.records.run_record import Failure, Record
from bench.runs.request import Hooks, RunBundle, RunRequest
from bench.runs.runner import OTHER_CODE, base_fields, classify, cpu_arithmetic, fingerprint_here
from bench.runs.subset import cut
from bench.runs.worker import Link

if TYPE_CHECKING:
    from bench.data.loading import Arrays

SPLITS = ("train", "val")


@dataclass(frozen=True)
class TrialRequest(RunRequest):
    """A trial's training, as a run's is requested; `until` is the rung, in epochs, at which it pauses."""

    until: int = 1


def work_trial(request: TrialRequest, results: str, pipe: Connection) -> None:
    """A worker's life: train to the rung, hand over the epochs, wait until they are noted."""
    from bench.training.trainer import InterruptedTraining

    link = Link(pipe)
    try:
        pipe.send(("bundle", train_trial(request, Hooks(link.progress, link.should_stop))))
        link.was_written()
    except InterruptedTraining:
        with contextlib.suppress(OSError):
            pipe.send(("stopped", link.signum))
    except RecordError as error:
        pipe.send(("fatal", str(error)))


def train_trial(request: TrialRequest, hooks: Hooks) -> RunBundle:
    """Train to the rung, or go on to it from the checkpoint.

    Returns:
        The epochs as a run's history, and a record without scores that says how it ended and on what; it is no run's
        record, and is written nowhere.

    Raises:
        InterruptedTraining: If the hooks requested a stop; the checkpoint has been written.
        RecordError: If a checkpoint cannot be written.
    """
    from bench.training.trainer import InterruptedTraining

    known = base_fields(request.run, request.protocol, fingerprint_here(request))
    if request.model_fingerprint not in ("", known["model_fingerprint"]):
        failure = Failure(kind="infra", message=OTHER_CODE.format(model=request.run.model))
        return RunBundle(Record(**known, status="failed", failure=failure).sealed())
    epochs: list[dict[str, float]] = []
    try:
        arithmetic = cpu_arithmetic(request) if request.device == "cpu" else {}
        _train(request, hooks, epochs)
    except (InterruptedTraining, KeyboardInterrupt, RecordError):
        raise
    except Exception as error:
        failure = classify(error, request.run.model)
        record = Record(**known, status="failed", failure=failure).sealed()
        return RunBundle(record, history=_table(epochs), log=traceback.format_exc())
    return RunBundle(Record(**known, status="done", **arithmetic, **_here(request)).sealed(), history=_table(epochs))


def _here(request: TrialRequest) -> dict[str, Any]:
    from bench.machine import foreign

    return {"device": provenance.device_name(request.device), "num_threads": foreign.num_threads()}


def _table(epochs: Sequence[dict[str, float]]) -> bytes:
    import pandas as pd

    return frame_bytes(pd.DataFrame(list(epochs)))


def train_and_val(request: RunRequest) -> Arrays:
    """The data set of a trial, without its test images and labels.

    Raises:
        DataError: If train or val are not those of the card.
    """
    from bench.data import own
    from bench.data.loading import load

    if request.own_data is not None:
        own.resolve(request.own_data)
    run, card = request.run, request.card
    arrays = load(run.dataset, request.protocol.data.source_size, root=request.data_root, download=False)
    arrays = replace(arrays, images={s: arrays.images[s] for s in SPLITS}, labels={s: arrays.labels[s] for s in SPLITS})
    for split, labels in arrays.labels.items():
        if labels_digest(labels) != card.labels_digest[split]:
            raise DataError(f"{run.dataset}: the {split} labels are not those of results/data/{run.dataset}.json")
    return arrays


def _train(request: TrialRequest, hooks: Hooks, epochs: list[dict[str, float]]) -> None:
    """Train to the rung; `epochs` gets what was scored, also where the training fails."""
    from bench.runs.preparing import checkpoint_of, prepare
    from bench.training.trainer import InterruptedTraining

    checkpoint = checkpoint_of(request)
    state = checkpoint.load() if checkpoint is not None else None
    if state is not None and state["progress"]["epoch"] >= request.until:  # paused, and its driver was killed
        epochs.extend(state["progress"]["history"])
        return
    arrays = train_and_val(request)
    num_split = len(arrays.labels["train"])
    arrays = cut(arrays, request.protocol.data, request.card.clinical_positive)
    trainer, _ = prepare(request, hooks, arrays, num_split)

    def is_due() -> bool:
        return trainer.progress.epoch >= request.until

    trainer.should_stop = lambda: is_due() or hooks.should_stop()
    try:
        trainer.fit()
    except InterruptedTraining:
        if not is_due():
            raise
    finally:
        epochs.extend(trainer.progress.history)
