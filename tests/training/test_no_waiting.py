"""A training step reads nothing back from the device: on the meta device, which holds no values, that is an error."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.protocols.loading import list_protocols, load_protocol
from bench.protocols.schema import Protocol
from bench.streams import Streams
from bench.training import trainer as train
from bench.training.trainer import SplitData, Trainer
from models import create_model, get_spec, list_models

META = torch.device("meta")
COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
LARGER = ("medvit_s", "medvit_l", "medmamba_s", "medmamba_b")  # the code of the tiny ones, in more blocks
NETWORKS = [name for name in list_models() if get_spec(name).kind == "network" and not name.startswith(LARGER)]


class Copies(TorchDispatchMode):
    """Names the operators that copy a tensor of the host to the device: a GPU's host waits for each."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._sample_dirichlet.default:  # CUDA has it, meta has not
            return torch.empty_like(args[0])
        out = func(*args, **(kwargs or {}))
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if func in COPIES and out.device == META and any(leaf.device.type == "cpu" for leaf in given):
            self.seen.append(str(func))
        return out


class Literals(TorchFunctionMode):
    """Names the calls that make a tensor of Python's numbers on the device, which is a copy too."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in (torch.tensor, torch.as_tensor, torch.asarray) and out.device == META:
            self.seen.append(func.__name__)
        return out


def make_trainer(protocol: Protocol, model: nn.Module) -> Trainer:
    """A training of 32 images without values."""
    size = protocol.data.source_size
    data = SplitData(
        torch.empty(32, 1, size, size, dtype=torch.uint8, device=META), torch.empty(32, dtype=torch.int64, device=META)
    )
    streams = Streams("any", "breastmnist", 0)
    return Trainer(model, data, data, protocol, streams, task="binary-class", num_classes=2)


@pytest.fixture(autouse=True)
def _no_autocast_on_meta(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.autocast` does not know the meta device."""
    monkeypatch.setattr(train, "_autocast", lambda *_: contextlib.nullcontext())


def step(trainer: Trainer) -> list[str]:
    """Do a second step, since constants are uploaded in the first; what it uploads."""
    trainer.model.train()
    chosen = torch.randperm(32, device=META)[:16]
    with Copies(), Literals():
        trainer._step(chosen, 2)
    with Copies() as copies, Literals() as literals:
        trainer._step(chosen, 2)
    return copies.seen + literals.seen


@pytest.mark.parametrize("name", list_protocols())
def test_a_step_of_no_protocol_waits_for_the_host(name: str) -> None:
    """Whatever it augments, mixes and optimises with."""
    protocol = load_protocol(name)
    in_chans = 3 if protocol.data.channels == "rgb" else 1
    model = create_model("resnet18", num_classes=2, in_chans=in_chans, img_size=protocol.data.img_size)
    assert step(make_trainer(protocol, model.to(META))) == []


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_of_no_model_waits_for_the_host(name: str) -> None:
    """No registered network branches on a value or makes constants anew, but for one of timm's."""
    protocol = load_protocol("lite-96" if get_spec(name).takes(96) else "medmnist-224")
    with META:
        model = create_model(name, num_classes=2, in_chans=3, img_size=protocol.data.img_size)
    # timm's EdgeNeXt makes the frequencies of its position encoding on the host, in each forward pass.
    assert step(make_trainer(protocol, model)) == (["aten._to_copy.default"] if name == "edgenext_s" else [])


class ReadsBack(nn.Module):
    """A model that does what a step must not."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.head, self.how = nn.Linear(3, 2), how

    def forward(self, x_BCHW: Tensor) -> Tensor:
        pooled_BC = x_BCHW.mean((2, 3))
        if self.how == "literal":
            pooled_BC = pooled_BC * torch.tensor([1.0, 2.0, 3.0], device=x_BCHW.device)
        if self.how == "copy":
            pooled_BC = pooled_BC * torch.ones(3).to(x_BCHW.device)
        if self.how == "branch" and pooled_BC.sum() > 0:
            pooled_BC = -pooled_BC
        return self.head(pooled_BC)


def test_what_would_wait_is_seen() -> None:
    """The check can fail: a constant made or copied anew in each step, a branch on a value."""
    protocol = load_protocol("lite-96")
    assert step(make_trainer(protocol, ReadsBack("nothing").to(META))) == []
    assert step(make_trainer(protocol, ReadsBack("literal").to(META))) == ["tensor"]
    assert step(make_trainer(protocol, ReadsBack("copy").to(META))) == ["aten._to_copy.default"]
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        step(make_trainer(protocol, ReadsBack("branch").to(META)))
