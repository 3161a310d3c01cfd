"""Models that timm builds: the entries of `timm_models.toml`, and any other as `timm/<name>`.

Paper:    see each entry.
Source:   timm, https://github.com/huggingface/pytorch-image-models (Apache-2.0), used as a library.
Differs:  nothing; `img_size` is passed to the architectures that take it.
"""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from functools import cache
from typing import Any

import timm
import torch
from torch import nn

from models.catalog import ModelError

PROBE_SECONDS = 5.0


def build_timm(
    *,
    num_classes: int,
    in_chans: int = 3,
    img_size: int = 224,
    pretrained: bool = False,
    timm_name: str,
    pretrained_tag: str = "",
    **options: Any,
) -> nn.Module:
    """Build a timm architecture; (B, in_chans, img_size, img_size) -> logits (B, num_classes).

    Raises:
        ModelError: If timm does not know the name, refuses the size, or the weights cannot be had.
    """
    if timm_name not in timm.list_models(timm_name):
        raise ModelError(f"timm {timm.__version__} has no architecture {timm_name!r}; see timm.list_models()")
    arguments = {"num_classes": num_classes, "in_chans": in_chans, **options}
    if _takes_img_size(timm_name):
        arguments["img_size"] = img_size
    try:
        model: nn.Module = timm.create_model(timm_name, **arguments)
    except (AssertionError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise ModelError(f"timm/{timm_name} cannot be built for {img_size} px images: {_line(error)}") from error
    if pretrained:
        load_pretrained(model, timm_name, pretrained_tag, in_chans=in_chans)
    return model


@cache
def _takes_img_size(timm_name: str) -> bool:
    """Whether an architecture is built for one size; the probe must draw nothing from the caller's generators."""
    try:
        with torch.random.fork_rng(), torch.device("meta"):
            timm.create_model(timm_name, img_size=224)
    except TypeError as error:
        if "img_size" in str(error):
            return False
        raise
    return True


def _line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__


def load_pretrained(model: nn.Module, timm_name: str, tag: str, *, in_chans: int) -> None:
    """Load public weights into all layers but the classifier; a missing network is told within seconds.

    timm retries a missing network for most of a minute, so the host is asked once first.

    Raises:
        ModelError: If the tag is unknown or the weights are neither cached nor downloadable.
    """
    full_name = f"{timm_name}.{tag}"
    config = timm.models.get_pretrained_cfg(full_name)
    if config is None or not config.has_weights:
        raise ModelError(f"timm has no weights {full_name!r}; see timm.list_pretrained({timm_name!r})")
    if not _is_cached(config.hf_hub_id, config.hf_hub_filename):
        _require_hub(full_name, config.hf_hub_id)
    try:
        source = timm.create_model(full_name, pretrained=True, in_chans=in_chans)
    except Exception as error:  # whatever the hub client raises: the user can only fetch the file
        raise ModelError(f"Weights {full_name} could not be fetched: {_line(error)}") from error
    state = {key: value for key, value in source.state_dict().items() if key in model.state_dict()}
    own = model.state_dict()
    model.load_state_dict({key: value for key, value in state.items() if value.shape == own[key].shape}, strict=False)


def _is_cached(hub_id: str | None, filename: str | None) -> bool:
    from huggingface_hub import try_to_load_from_cache

    names = [filename] if filename else ["model.safetensors", "pytorch_model.bin"]
    return hub_id is not None and any(isinstance(try_to_load_from_cache(hub_id, name), str) for name in names)


def _require_hub(full_name: str, hub_id: str | None) -> None:
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    what_to_do = "put the file into the cache on a machine with a network, or choose a protocol that starts from scratch"
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise ModelError(f"Weights {full_name} are not in the cache and HF_HUB_OFFLINE is set; {what_to_do}")
    request = urllib.request.Request(f"{endpoint}/{hub_id}/resolve/main/config.json", method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=PROBE_SECONDS).close()
    except (urllib.error.URLError, OSError) as error:
        raise ModelError(f"Weights {full_name} cannot be fetched from {endpoint} ({error}); {what_to_do}") from error
