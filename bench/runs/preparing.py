"""A network's training as it begins: model, weights to start from, train and val on the device. Imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.runs.building import build_model
from bench.runs.public_weights import start_from
from bench.runs.request import Hooks, RunProgress, RunRequest, run_key
from bench.streams import Streams
from bench.training.checkpoint import Checkpoint
from bench.training.trainer import Progress, SplitData, Trainer

if TYPE_CHECKING:
    from bench.data.loading import Arrays


def checkpoint_of(request: RunRequest) -> Checkpoint | None:
    """Where a run's training is saved and goes on from, None for nowhere."""
    return Checkpoint(Path(request.checkpoint_dir), run_key(request)) if request.checkpoint_dir is not None else None


def prepare(request: RunRequest, hooks: Hooks, arrays: Arrays, num_split: int) -> tuple[Trainer, str | None]:
    """The trainer of a run, and the SHA-256 of the public weights that it starts from, None from scratch.

    Args:
        request: The run.
        hooks: Its surroundings.
        arrays: The data set, of which only `train` and `val` are looked at, as the protocol's data rules leave them.
        num_split: Images of the whole training split.
    """
    from bench.machine import foreign

    run, protocol, device = request.run, request.protocol, request.device
    foreign.limit_pools()
    streams = Streams(run.model, run.dataset, run.seed)
    model, num_classes = build_model(run, protocol, request.card, streams)
    weights_sha256 = start_from(model, run, protocol)
    train, val = (SplitData.from_arrays(arrays.images[s], arrays.labels[s], device) for s in ("train", "val"))

    def on_progress(progress: Progress, steps: int) -> None:
        rate = progress.images_seen / max(progress.train_seconds, 1e-9)
        hooks.on_progress(RunProgress(progress.epoch, protocol.schedule.epochs, progress.step, steps, rate))

    trainer = Trainer(
        model.to(device),
        train,
        val,
        protocol,
        streams,
        task=request.card.task,
        num_classes=num_classes,
        num_split=num_split,
        checkpoint=checkpoint_of(request),
        on_progress=on_progress,
        should_stop=hooks.should_stop,
    )
    return trainer, weights_sha256
