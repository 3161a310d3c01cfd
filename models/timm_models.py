"""Models that timm builds: the entries of `timm_models.toml`, and any other as `timm/<name>`.

Paper:    see each entry.
Source:   timm, https://github.com/huggingface/pytorch-image-models (Apache-2.0), used as a library.
Differs:  nothing; `img_size` is passed to the architectures that take it. A size is tried once a process, with one
          image through the model as built, so that what cannot run is told when it is built and not in training.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import urllib.error
import urllib.request
from functools import cache
from typing import Any

import timm
import torch
from huggingface_hub import try_to_load_from_cache
from torch import Tensor, nn

from models.catalog import ModelError

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
PROBE_SECONDS = 5.0
TRIED_SIZES = (28, 64, 96, 128, 224)  # those of protocols and MedMNIST+; a refusal names which would do
BUILD_ERRORS = (AssertionError, IndexError, RuntimeError, ValueError, ZeroDivisionError)
_sizes_that_run: set[tuple[str, int, str]] = set()


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
    if not timm.is_model(timm_name):
        raise ModelError(f"timm {timm.__version__} has no architecture {timm_name!r}; see timm.list_models()")
    try:
        model = _create(timm_name, img_size, num_classes=num_classes, in_chans=in_chans, **options)
        if (timm_name, img_size, repr(options)) not in _sizes_that_run:
            _try_size(model, (1, in_chans, img_size, img_size), num_classes)
            _sizes_that_run.add((timm_name, img_size, repr(options)))
    except BUILD_ERRORS as error:
        sizes = _sizes_taken(timm_name, options)
        raise ModelError(f"timm/{timm_name} cannot take {img_size} px images ({_line(error)}); {sizes}") from error
    if pretrained:
        load_pretrained(model, timm_name, pretrained_tag, in_chans=in_chans)
    return model


def _create(timm_name: str, img_size: int, **arguments: Any) -> nn.Module:
    if _takes_img_size(timm_name):
        arguments["img_size"] = img_size
    model: nn.Module = timm.create_model(timm_name, **arguments)
    return model


def _try_size(model: nn.Module, shape: tuple[int, int, int, int], num_classes: int) -> None:
    """Send one image through a model; its weights, its mode and the generators stay as they are.

    Raises:
        ValueError: If the output is no (1, K) tensor; else what the model raises.
    """
    parameter = next(model.parameters())
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        output = model.eval()(parameter.new_zeros(shape))
    model.train()
    if not isinstance(output, Tensor) or output.shape != (1, num_classes):
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f"it gives {found} instead of logits (1, {num_classes})")


def _sizes_taken(timm_name: str, options: dict[str, Any]) -> str:
    """Which sizes would do, in words; tried on the meta device, which computes shapes alone."""
    tried, taken = sorted({*TRIED_SIZES, _own_size(timm_name)}), []
    for size in tried:
        with contextlib.suppress(*BUILD_ERRORS), torch.random.fork_rng(devices=[]), torch.device("meta"):
            _try_size(_create(timm_name, size, num_classes=2, **options), (1, 3, size, size), 2)
            taken.append(str(size))
    return f"of {', '.join(map(str, tried))} px it takes {', '.join(taken) or 'none'}"


def _own_size(timm_name: str) -> int:
    """The image size that timm configures for an architecture, in pixels."""
    config = timm.models.get_pretrained_cfg(timm_name)
    return 224 if config is None else int(config.input_size[-1])


@cache
def _takes_img_size(timm_name: str) -> bool:
    """Whether an architecture is built for one size; the probe must draw nothing from the caller's generators."""
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            timm.create_model(timm_name, img_size=_own_size(timm_name))
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
    config = _weights_config(full_name)
    if not _is_cached(config.hf_hub_id, config.hf_hub_filename):
        _require_hub(full_name, config.hf_hub_id)
    try:
        source = timm.create_model(full_name, pretrained=True, in_chans=in_chans)
    except Exception as error:  # whatever the hub client raises: the user can only fetch the file
        raise ModelError(f"Weights {full_name} could not be fetched: {_line(error)}") from error
    own = model.state_dict()
    state = {key: value for key, value in source.state_dict().items() if key in own}
    fitting = {key: value for key, value in state.items() if value.shape == own[key].shape}
    classifiers = (config.classifier,) if isinstance(config.classifier, str) else tuple(config.classifier or ())
    heads = tuple(f"{classifier}." for classifier in classifiers)
    left_out = [key for key in own if key not in fitting and not key.startswith(heads)]
    if left_out:
        raise ModelError(f"Weights {full_name} do not fit {left_out[0]} and {len(left_out) - 1} other tensors")
    model.load_state_dict(fitting, strict=False)


def _weights_config(full_name: str) -> Any:
    """What timm knows of public weights; most of its fields may be None."""
    timm_name = full_name.split(".")[0]
    if full_name not in timm.list_pretrained(timm_name):
        raise ModelError(f"timm has no weights {full_name!r}; see timm.list_pretrained({timm_name!r})")
    return timm.models.get_pretrained_cfg(full_name)


def weights_digest(full_name: str) -> str:
    """SHA-256 of the cached file of public weights, `resnet18.a1_in1k` for instance.

    Raises:
        ModelError: If the file is not in the cache.
    """
    config = _weights_config(full_name)
    for name in (config.hf_hub_filename,) if config.hf_hub_filename else WEIGHT_FILES:
        path = try_to_load_from_cache(config.hf_hub_id, name)
        if isinstance(path, str):
            with open(path, "rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
    raise ModelError(f"Weights {full_name} are not in the cache; load them first")


def _is_cached(hub_id: str | None, filename: str | None) -> bool:
    names = (filename,) if filename else WEIGHT_FILES
    return hub_id is not None and any(isinstance(try_to_load_from_cache(hub_id, name), str) for name in names)


def _require_hub(full_name: str, hub_id: str | None) -> None:
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    what_to_do = (
        "put the file into the cache on a machine with a network, or choose a protocol that starts from scratch"
    )
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise ModelError(f"Weights {full_name} are not in the cache and HF_HUB_OFFLINE is set; {what_to_do}")
    request = urllib.request.Request(f"{endpoint}/{hub_id}/resolve/main/config.json", method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=PROBE_SECONDS).close()
    except (urllib.error.URLError, OSError) as error:
        raise ModelError(f"Weights {full_name} cannot be fetched from {endpoint} ({error}); {what_to_do}") from error
