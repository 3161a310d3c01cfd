"""What the contract's checks work on: a model, its twin, and what a process gives that never built a model."""

from __future__ import annotations

import atexit
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.errors import BenchError
from bench.machine.foreign import cast, create, seed_generators
from bench.machine.fork_server import ForkServer
from models import ModelError, get_spec, list_models, load_plugin
from models.loading import in_own_code

CLASSES = 7
BATCH = 3
SEED = 20260


class Broken(Exception):
    """A check that does not hold; the message is its detail."""


class Skipped(Exception):
    """A check that does not apply to this model; the message says why."""


class Subject:
    """A model under check and a twin, built one after the other from the same seed.

    Args:
        name: A registered name.
        img_size: Height and width in pixels.
    """

    def __init__(self, name: str, img_size: int) -> None:
        self.spec, self.name, self.img_size = get_spec(name), name, img_size
        self.model, self._twin = self.build(), self.build()
        self.digest, self.twin_digest = digest(self.model), digest(self._twin)
        generator = torch.Generator().manual_seed(SEED)
        self.x_BCHW = torch.randn(BATCH, 3, img_size, img_size, generator=generator)
        self._fresh: Digests | None = None

    def build(self, seed: int = SEED, **changes: Any) -> nn.Module:
        """A build in training mode, as `create_model` leaves it."""
        return create(self.name, seed=seed, **{"num_classes": CLASSES, "img_size": self.img_size, **changes})

    def twin(self) -> nn.Module:
        """The twin with the model's weights again, whatever an earlier check did to it."""
        cast(self._twin, torch.float32, torch.contiguous_format).train()
        self._twin.load_state_dict(self.model.state_dict())
        self._twin.zero_grad(set_to_none=True)
        return self._twin

    def fresh(self) -> Digests:
        """What a process gives that never built a model; it is started once."""
        if self._fresh is None:
            self._fresh = fresh_digests(self)
        return self._fresh


def logits(model: nn.Module, x_BCHW: Tensor, num_classes: int = CLASSES) -> Tensor:
    """(B, K) logits in eval mode without gradients, checked for type, shape and finiteness."""
    with torch.no_grad():
        return checked(model.eval()(x_BCHW), len(x_BCHW), num_classes)


def checked(output: Any, batch: int, num_classes: int) -> Tensor:
    """A model's output, if it is finite logits of shape (batch, num_classes)."""
    if not isinstance(output, Tensor):
        raise Broken(f"forward returns {_named(output)}, not a tensor of logits; {_advice(output)}")
    if output.is_meta and output.shape == (batch, num_classes):
        return output  # a shape without numbers
    if output.shape != (batch, num_classes):
        raise Broken(
            f"forward returns shape {tuple(output.shape)} instead of {(batch, num_classes)}; "
            f"{_shape_advice(tuple(output.shape), batch, num_classes)}"
        )
    if output.is_complex():
        raise Broken("forward returns complex logits; return real ones")
    if not output.isfinite().all():
        raise Broken(f"{int((~output.isfinite()).sum())} of {output.numel()} logits are not finite")
    return output


def _named(output: Any) -> str:
    """`a tuple of 2`, `a dict with the keys logits, aux`."""
    name = type(output).__name__
    if isinstance(output, Mapping):
        return f"a {name} with the keys {', '.join(map(str, list(output)[:4]))}"
    return f"a {name} of {len(output)}" if isinstance(output, (tuple, list)) else f"a {name}"


def _advice(output: Any) -> str:
    """What to return instead of something that is no tensor."""
    if isinstance(output, Mapping):
        keys = [key for key in output if isinstance(output[key], Tensor)]
        key = "logits" if "logits" in keys else next(iter(keys), "logits")
        return f"return its {key!r} alone"
    if isinstance(output, (tuple, list)):
        return "return the logits alone, in training too"
    return "return the last layer's output"


def _shape_advice(shape: tuple[int, ...], batch: int, num_classes: int) -> str:
    """What to change about a model's last layer."""
    if len(shape) > 2 and shape[:2] == (batch, num_classes):
        return "average the map and flatten it, nn.AdaptiveAvgPool2d(1) and nn.Flatten()"
    if shape == (num_classes, batch):
        return "exchange its axes"
    if len(shape) == 2 and shape[0] == batch:
        return "give the last layer num_classes outputs, two of them for two classes"
    return "keep the batch as the first axis and give num_classes logits an image"


def digest(model: nn.Module) -> str:
    """SHA-256 of the names, types and bytes of a state dict."""
    total = hashlib.sha256()
    for key, value in model.state_dict().items():
        total.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        total.update(value.detach().contiguous().flatten().view(torch.uint8).numpy())
    return total.hexdigest()


def step_digest(model: nn.Module, x_BCHW: Tensor) -> str:
    """The digest of a model after one step of AdamW; changes the model."""
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-3)
    seed_generators(SEED)
    output = checked(model(x_BCHW), len(x_BCHW), CLASSES)
    nn.functional.cross_entropy(output, torch.arange(len(x_BCHW))).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return digest(model)


@dataclass(frozen=True)
class Digests:
    """What two processes must agree on.

    Attributes:
        weights: Of a build.
        step: Of the same model after a training step; where that fails, the error in one line.
    """

    weights: str
    step: str


def fresh_digests(subject: Subject) -> Digests:
    """Of a build in a process that never built a model; forked from a server that imported torch."""
    arguments = (subject.name, str(subject.spec.file), subject.x_BCHW.numpy())
    digests: Digests = _server().call(_build_afresh, *arguments)
    return digests


@cache
def _server() -> ForkServer:
    """One for all models that this process checks."""
    server = ForkServer(["bench.machine.preload"])
    atexit.register(server.close)
    return server


def _build_afresh(name: str, file: str, x_BCHW: NDArray[np.float32]) -> Digests:
    if name not in list_models() and not name.startswith("timm/"):
        load_plugin(file)
    model = create(name, seed=SEED, num_classes=CLASSES, img_size=x_BCHW.shape[-1])
    weights = digest(model)
    try:
        return Digests(weights, step_digest(model, torch.from_numpy(x_BCHW)))
    except (Exception, SystemExit) as error:
        return Digests(weights, error_line(error))


def error_line(error: BaseException) -> str:
    """An exception in one line; its own message where it is one that we wrote."""
    first = str(error).strip().split("\n")[0]
    ours = isinstance(error, (Broken, Skipped, ModelError, BenchError))
    return first if ours else f"{type(error).__name__}: {first[:200]}"


def located_line(error: BaseException, file: Path) -> str:
    """As `error_line`, with the line of the model's own code, where the message does not name it already."""
    line, where = error_line(error), in_own_code(error, file)
    return line if where in line else line + where
