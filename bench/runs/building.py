"""A run's model as it is built, before public weights are loaded. No torch until one is built."""

from __future__ import annotations

from typing import Any

from bench.protocols.schema import Protocol
from bench.records.card import DataCard
from bench.records.names import Run


def build_model(run: Run, protocol: Protocol, card: DataCard, streams: Any) -> tuple[Any, int]:
    """The run's model on the CPU, initialised from the run's own stream, and its number of classes.

    Public weights are not in it: `bench.runs.public_weights.start_from` loads them.

    Raises:
        ModelError: If it cannot be built under the protocol.
    """
    from bench.machine.foreign import create

    num_classes = len(card.class_names)
    in_chans = 3 if protocol.data.channels == "rgb" else card.num_channels
    model = create(
        run.model,
        seed=streams.init(),
        num_classes=num_classes,
        in_chans=in_chans,
        img_size=protocol.data.img_size,
    )
    return model, num_classes
