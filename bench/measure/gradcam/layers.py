"""Which layers Grad-CAM reads, and how a layer's output becomes a channel-first map.

A registered model names its layers: `models/cam_layers.toml`, else the spec's `target_layer`. For any other
(`timm/<name>`, a plugin) a rule finds one: the module that ran last among those whose output is a map of the image and
moves the prediction. Maps are recognised by their shape, since square images give square maps: (B, C, H, H),
channel-last (B, H, H, C), or tokens (B, N, C) whose N is a square once class and register tokens are left out.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import BenchError
from bench.machine.foreign import create, restored
from models import ModelError, get_spec
from models.catalog import HERE

MIN_SIDE = 3  # of a map: one or four numbers localise nothing
PROBE_SIZE = 224  # pixels at which the rule looks for a layer, so that it is the same at every size
SEED = 0  # of the weights that the rule looks at
TRIED_SIZES = (64, 96, 128, 160, 192, 224, 256, 320, 384, 448)


@dataclass(frozen=True)
class Form:
    """How a layer lays out a map of `side` x `side` positions.

    Attributes:
        layout: `channels_first`, `channels_last` or `tokens`.
        side: Positions a side.
        prefix: Tokens before those of the image (class, registers).
    """

    layout: str
    side: int
    prefix: int = 0

    def to_map(self, output: Tensor) -> Tensor:
        """The layer's output as (B, C, side, side)."""
        if self.layout == "tokens":
            output = output[:, self.prefix :].reshape(len(output), self.side, self.side, -1)
        return output if self.layout == "channels_first" else output.permute(0, 3, 1, 2)

    def back(self, x_BCHW: Tensor, output: Tensor) -> Tensor:
        """The inverse; tokens that are no position come from `output`."""
        if self.layout == "channels_first":
            return x_BCHW
        x_BHWC = x_BCHW.permute(0, 2, 3, 1)
        if self.layout == "channels_last":
            return x_BHWC
        return torch.cat([output[:, : self.prefix], x_BHWC.flatten(1, 2)], dim=1)


@dataclass(frozen=True)
class Target:
    """A layer to explain: module path, what it is, and the form of its map."""

    path: str
    words: str
    form: Form


def form_of(output: Any, num_prefix: int | None = None) -> Form | None:
    """How an output lays out a map, None if it is none.

    Args:
        output: What a module returned.
        num_prefix: Tokens that are no position, where the model says so; else none or one.
    """
    if not isinstance(output, Tensor):
        return None
    shape = output.shape
    if output.ndim == 4 and shape[2] == shape[3]:
        return Form("channels_first", shape[2])
    if output.ndim == 4 and shape[1] == shape[2]:
        return Form("channels_last", shape[1])
    if output.ndim == 3:
        for prefix in (0, 1) if num_prefix is None else (num_prefix,):
            side = math.isqrt(max(0, shape[1] - prefix))
            if side**2 == shape[1] - prefix:
                return Form("tokens", side, prefix)
    return None


def _num_prefix(model: nn.Module) -> int | None:
    """How many tokens are no position, where a model says so (timm's transformers do)."""
    number = getattr(model, "num_prefix_tokens", None)
    return number if isinstance(number, int) else None


@contextmanager
def tapped(model: nn.Module, path: str, form: Form) -> Iterator[nn.Module]:
    """A module whose output is the layer's map, channel-first, on the way of the computation; what a CAM hooks on."""
    tap = nn.Identity()

    def pass_through(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        return form.back(tap(form.to_map(output)), output)

    handle = model.get_submodule(path).register_forward_hook(pass_through)
    try:
        yield tap
    finally:
        handle.remove()


@cache
def _listed() -> dict[str, dict[str, str]]:
    return tomllib.loads((HERE / "cam_layers.toml").read_text(encoding="utf-8"))


def target_layers(name: str, in_chans: int = 3, img_size: int = PROBE_SIZE) -> dict[str, str]:
    """Module path -> what it is, of the layers to explain.

    Args:
        name: A model's name.
        in_chans: Input channels that the rule builds the model with.
        img_size: Pixels that it builds the model for if 224 are refused.

    Raises:
        BenchError: If the model names no layer and none qualifies.
        ModelError: If it cannot be built.
    """
    spec = get_spec(name)
    if name in _listed():
        return dict(_listed()[name])
    if spec.target_layer:
        return {spec.target_layer: "its last map"}
    with restored():
        try:
            size, model = PROBE_SIZE, create(name, seed=SEED, num_classes=2, in_chans=in_chans, img_size=PROBE_SIZE)
        except ModelError:
            size, model = img_size, create(name, seed=SEED, num_classes=2, in_chans=in_chans, img_size=img_size)
        path = find_layer(model, torch.rand(1, in_chans, size, size))
    if path is None:
        raise BenchError(
            f"No layer of {name} gives a square map of the image larger than 2x2 that moves its prediction; "
            "name one with target_layer in @register_model"
        )
    return {path: "its last map, found by rule"}


def find_layer(model: nn.Module, x_BCHW: Tensor) -> str | None:
    """The module that ran last among those whose output is a map of the image and moves the prediction.

    Tokens count after a layer norm alone: inside attention, widths are not features. After the last block of a
    transformer with a class token, the other tokens move nothing; so the norm before its attention is chosen.
    """
    candidates: list[tuple[str, Form, Tensor]] = []
    prefix = _num_prefix(model)

    def note(path: str, module: nn.Module, output: Any) -> None:
        form = form_of(output, prefix)
        if form is None or form.side < MIN_SIDE or not output.requires_grad:
            return
        if form.layout != "tokens" or isinstance(module, nn.LayerNorm | nn.RMSNorm):
            candidates.append((path, form, output))

    handles = [
        module.register_forward_hook(lambda module, _, output, path=path: note(path, module, output))
        for path, module in model.named_modules()
        if path
    ]
    try:
        score = model.eval()(x_BCHW)[:, 0].sum()
    finally:
        for handle in handles:
            handle.remove()
    gradients = (
        torch.autograd.grad(score, [output for _, _, output in candidates], allow_unused=True) if candidates else ()
    )
    for (path, form, _), gradient in reversed(list(zip(candidates, gradients, strict=True))):
        if gradient is not None and bool(form.to_map(gradient).any()):
            return path
    return None


def layer_form(model: nn.Module, path: str, x_BCHW: Tensor) -> Form | None:
    """How a layer lays out its map of these images, None if it gives none.

    Raises:
        BenchError: If the model has no such layer.
    """
    outputs: list[Any] = []
    try:
        layer = model.get_submodule(path)
    except AttributeError:
        raise BenchError(f"The model has no layer {path!r}; known: see named_modules()") from None
    handle = layer.register_forward_hook(lambda _, __, output: outputs.append(output))
    try:
        with torch.no_grad():
            model.eval()(x_BCHW)
    finally:
        handle.remove()
    return form_of(outputs[-1], _num_prefix(model)) if outputs else None


def find_targets(name: str, model: nn.Module, in_chans: int, img_size: int) -> list[Target]:
    """The layers of a built model to explain, each with a map larger than 2x2.

    Raises:
        BenchError: If a map localises nothing, naming a size in pixels that would do.
    """
    targets = []
    for path, words in target_layers(name, in_chans, img_size).items():
        form = layer_form(model, path, torch.zeros(1, in_chans, img_size, img_size))
        if form is None:
            raise BenchError(f"{path} of {name} gives no square map of the image; name another target_layer")
        if form.side < MIN_SIDE:
            enough = _enough(name, path, in_chans, img_size)
            hint = f"{enough} px would do: take a protocol with that img_size" if enough else "take larger images"
            raise BenchError(
                f"{path} of {name} gives a {form.side}x{form.side} map at {img_size} px: it localises nothing; {hint}"
            )
        targets.append(Target(path, words, form))
    return targets


def _enough(name: str, path: str, in_chans: int, img_size: int) -> int | None:
    """The smallest tried size in pixels at which a layer's map is larger than 2x2."""
    spec = get_spec(name)
    for size in TRIED_SIZES:
        if size <= img_size or not spec.takes(size):
            continue
        try:
            with restored():
                model = create(name, seed=SEED, num_classes=2, in_chans=in_chans, img_size=size)
            form = layer_form(model, path, torch.zeros(1, in_chans, size, size))
        except (ModelError, RuntimeError):
            continue
        if form is not None and form.side >= MIN_SIDE:
            return size
    return None
