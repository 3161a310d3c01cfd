"""A run's model, and the public weights that it starts from. No torch until one is built."""

from __future__ import annotations

from typing import Any

from bench.protocols.schema import Protocol
from bench.records.card import DataCard
from bench.records.names import Run
from models import ModelError, get_spec


def build_model(run: Run, protocol: Protocol, card: DataCard, streams: Any) -> tuple[Any, int]:
    """The run's model on the CPU, initialised from the run's own stream, and its number of classes.

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
        pretrained=protocol.init.kind == "imagenet",
    )
    return model, num_classes


def check_weights(run: Run, protocol: Protocol) -> str | None:
    """Digest of the public weights that a run starts from, None from scratch.

    Raises:
        ModelError: If they are not those that the protocol pins.
    """
    if protocol.init.kind != "imagenet":
        return None
    from models.timm_models import weights_digest

    pinned = protocol.init.weights[run.model]
    if pinned.tag.partition(".")[2] != get_spec(run.model).pretrained_tag:
        raise ModelError(f"{protocol.name} pins {pinned.tag} for {run.model}, whose builder loads another tag")
    digest = weights_digest(pinned.tag)
    if pinned.sha256 is not None and digest != pinned.sha256:
        raise ModelError(f"Weights {pinned.tag} have SHA-256 {digest}, {protocol.name} pins {pinned.sha256}")
    return digest
