"""What the contract's checks work on: a model, its twin, and what a process gives that never built a model."""

from __future__ import annotations

import atexit
import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.errors import BenchError
from bench.machine.foreign import cast, create, seed_generators
from bench.machine.fork_server import ForkServer
from models import ModelError, get_spec, list_models, load_plugin

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
        raise Broken(f"forward returns a {type(output).__name__}, not a tensor of logits")
    if output.shape != (batch, num_classes):
        raise Broken(f"forward returns shape {tuple(output.shape)} instead of {(batch, num_classes)}")
    if output.is_complex():
        raise Broken("forward returns complex logits; return real ones")
    if not output.isfinite().all():
        raise Broken(f"{int((~output.isfinite()).sum())} of {output.numel()} logits are not finite")
    return output


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
    first = str(error).strip().split("\n")[0][:200]
    return first if isinstance(error, (Broken, Skipped, ModelError, BenchError)) else f"{type(error).__name__}: {first}"
