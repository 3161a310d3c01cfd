"""The models of the suite: `create_model`, `list_models`, `get_spec`.

Importing this package imports no torch; `create_model` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models.catalog import (
    ModelError,
    ModelSpec,
    fingerprint,
    get_spec,
    import_builder,
    list_models,
    load_plugin,
    register_model,
)

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "ModelError",
    "ModelSpec",
    "create_model",
    "fingerprint",
    "get_spec",
    "list_models",
    "load_plugin",
    "register_model",
]


def create_model(
    name: str,
    *,
    num_classes: int,
    in_chans: int = 3,
    img_size: int = 224,
    pretrained: bool = False,
    **model_kwargs: Any,
) -> nn.Module:
    """Build a registered model; it maps (B, in_chans, img_size, img_size) to logits (B, num_classes).

    Args:
        name: A name of `list_models()`, or `timm/<architecture>`.
        num_classes: K, at least 2.
        in_chans: Channels of the input.
        img_size: Height and width in pixels that the model must take.
        pretrained: Load the public ImageNet-1k weights of the spec's `pretrained_tag`.
        **model_kwargs: Options of the builder.

    Raises:
        ModelError: If the name is unknown, the size is one that the model cannot take, or weights are
            asked for that are not public or cannot be fetched.
    """
    spec = get_spec(name)
    if spec.kind != "network":
        raise ModelError(f"{name!r} is fitted, not trained: it has no network to build")
    if not spec.takes(img_size):
        raise ModelError(f"{name} cannot take {img_size} px images; it takes {spec.sizes}")
    if pretrained and not spec.pretrained_tag:
        raise ModelError(f"{name} has no public ImageNet-1k weights ({spec.weights_license}); use pretrained=False")
    arguments = {**spec.options, **model_kwargs}
    if spec.timm_name:
        arguments.update(timm_name=spec.timm_name, pretrained_tag=spec.pretrained_tag)
    builder = import_builder(spec)
    model: nn.Module = builder(
        num_classes=num_classes, in_chans=in_chans, img_size=img_size, pretrained=pretrained, **arguments
    )
    return model
