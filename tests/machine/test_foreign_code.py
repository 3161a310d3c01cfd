"""Code that is not the suite's cannot move a number unseen: it is put back, seeded, or named."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bench.check.contract import check_model
from bench.data.card import measure
from bench.machine import foreign
from bench.machine.foreign import Pinned, cast, num_threads, restored, seed_generators
from bench.measure.timing.blocks import Budget
from bench.measure.timing.worker import CellTimer
from bench.protocols.loading import load_protocol
from bench.records.names import Run, predictions_path
from bench.runs.request import RunBundle, RunRequest
from bench.runs.runner import run_one
from models import catalog, load_plugin

SET = "synthetic-breastmnist"
NET = """
import os
import random

import numpy as np
import torch
from torch import nn

from models import register_model

{imported}


class Extra(nn.Module):
    def __init__(self, side):
        super().__init__()
        {init}

    def forward(self, x):
        {forward}
        return x


@register_model(source="a test")
def {name}(*, num_classes, in_chans=3, img_size=28, pretrained=False):
    {before}
    net = nn.Sequential(nn.Conv2d(in_chans, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), Extra(img_size),
                        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))
    {after}
    return net
"""
# All that a file may leave behind, in one line each.
STATEMENTS = (
    "torch.set_num_threads(3)",
    "torch.set_default_dtype(torch.float64)",
    "torch.set_grad_enabled(False)",
    "torch.set_autocast_enabled('cpu', True)",
    "torch.use_deterministic_algorithms(True)",
    "torch.set_float32_matmul_precision('medium')",
    "torch.backends.mkldnn.enabled = False",
    "torch.backends.cuda.matmul.allow_tf32 = True",
    "torch.backends.mha.set_fastpath_enabled(False)",
    "torch.set_default_device('meta')",
    "torch.manual_seed(42)",
    "random.seed(42)",
    "np.random.seed(42)",
    "os.chdir('/')",
)
# Before it builds, a builder that says one of these builds other weights: its own affair, and `check` names a seed.
OTHER_WEIGHTS = ("torch.set_default_dtype", "torch.set_default_device", "torch.manual_seed")
FILTER = "self.weight = nn.Parameter(torch.randn(8, side, side // 2 + 1, dtype=torch.cfloat))"
FILTERED = (
    "assert self.weight.dtype == x.dtype.to_complex() and self.weight.imag.abs().min() > 0; "
    "x = torch.fft.irfft2(torch.fft.rfft2(x) * self.weight, s=x.shape[-2:])"
)
DRAWN = "x = x * (0.5 + random.random()) + float(np.random.rand()) if self.training else x"

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a plugin whose parts are given, in a folder of its own; it is forgotten when the test ends."""

    def written(name: str = "their_net", **parts: str) -> str:
        monkeypatch.setattr(catalog, "_plugins", {})
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        nothing = {"imported": "", "init": "pass", "forward": "pass", "before": "pass", "after": "pass"}
        path = folder / f"{name}.py"
        path.write_text(NET.format(name=name, **{**nothing, **parts}), encoding="utf-8")
        return str(path)

    return written


def trained(plugin: str, seed: int = 0) -> RunBundle:
    """A run of the plugin's model under `smoke`."""
    run = Run("smoke", "their_net", SET, seed)
    return run_one(RunRequest(run, load_protocol("smoke"), measure(SET), plugins=(plugin,)))


def failure(plugin: str) -> str:
    """Why a run of the plugin's model has no scores; a model's fault."""
    record = trained(plugin).record
    assert record.failure is not None
    assert record.failure.kind == "error"
    return record.failure.message


def broken(plugin: str) -> dict[str, str]:
    """The contract's rows that do not hold for the plugin's model."""
    load_plugin(plugin)
    return {row["check"]: row["detail"] for row in check_model("their_net", img_size=16) if row["holds"] == "no"}


@pytest.mark.parametrize("moment", ["imported", "before", "after"])
def test_what_a_file_or_a_builder_leaves_behind_moves_no_number(write: Write, moment: str) -> None:
    """Threads, types, switches, seeds, directory: the run is bit for bit the one of the same model without them."""
    plain = trained(write())
    assert plain.record.status == "done", plain.record.failure
    lines = [line for line in STATEMENTS if moment != "before" or not line.startswith(OTHER_WEIGHTS)]
    forward = "assert torch.get_num_threads() == 1 and torch.is_grad_enabled() == self.training"
    directory = Path.cwd()
    changed = trained(write(**{moment: "; ".join(lines)}, forward=forward))
    assert changed.record.status == "done", changed.record.failure
    assert (changed.predictions, changed.history) == (plain.predictions, plain.history)
    assert changed.record.num_threads == 1
    assert Path.cwd() == directory


@pytest.mark.parametrize("statement", STATEMENTS)
def test_each_setting_is_put_back(statement: str) -> None:
    """On the way out of a context that ran the statement, what it set is as a run wants it."""
    with restored():
        directory, device = Path.cwd(), torch.get_default_device()
        with Pinned():
            exec(statement, {"torch": torch, "os": os, "random": random, "np": np})
        assert torch.get_num_threads() == 1
        assert [read() for read, _, _ in foreign.SWITCHES] == [wanted for _, _, wanted in foreign.SWITCHES]
        assert torch.get_float32_matmul_precision() == "highest"
        assert not torch.backends.cuda.matmul.allow_tf32
        assert (Path.cwd(), torch.get_default_device()) == (directory, device)


@pytest.mark.parametrize("when", ["self.training", "not self.training"])
def test_threads_that_a_forward_pass_sets_fail_the_run_in_one_line(write: Write, when: str) -> None:
    """In training and in scoring; the process is back on one thread, and `check` says it too."""
    plugin = write(forward=f"torch.set_num_threads(4 if {when} else 1)")
    assert failure(plugin) == (
        "the model sets torch to 4 threads while it runs, and a run uses 1; remove torch.set_num_threads from its code"
    )
    assert torch.get_num_threads() == 1
    (row,) = broken(plugin).items()
    assert row[0] == ("backward" if when == "self.training" else "forward")
    assert "4 threads" in row[1]


def test_the_threads_of_a_record_are_measured(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are those that torch and the numerical libraries may use when the run ends, for fitted models too."""
    run = RunRequest(Run("smoke", "floor/prior", SET, 0), load_protocol("smoke"), measure(SET))
    assert num_threads() == run_one(run).record.num_threads == 1
    with restored():
        torch.set_num_threads(2)
        assert num_threads() == 2
        monkeypatch.setattr(foreign, "limit_pools", lambda: None)
        assert run_one(run).record.num_threads == 2


def test_a_timing_has_the_threads_that_it_says(write: Write) -> None:
    """A file that sets threads when it is imported is timed on those that were requested."""
    load_plugin(write(imported="torch.set_num_threads(3)"))
    with restored():
        CellTimer("their_net", "cpu", Budget(), 0, num_threads=2).build(28)
        assert torch.get_num_threads() == 2


def test_complex_parameters_are_trained_as_such(write: Write) -> None:
    """A filter in the frequency domain keeps its imaginary part, in training and scoring; the contract holds."""
    plugin = write(init=FILTER, forward=FILTERED)
    record = trained(plugin).record
    assert record.status == "done", record.failure
    assert broken(plugin) == {}


def test_a_cast_keeps_kinds_and_takes_five_axes() -> None:
    """Complex stays complex in the requested precision, whole numbers stay, channels_last leaves a 3-d kernel alone."""
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Conv3d(1, 2, 3))
    model.filter = nn.Parameter(torch.tensor([1 + 2j, 3 - 4j], dtype=torch.complex64))
    cast(model, torch.float64, torch.channels_last)
    kinds = {value.dtype for value in model.state_dict().values()}
    assert kinds == {torch.float64, torch.complex128, torch.int64}
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    cast(model, torch.float32, torch.contiguous_format)
    assert model.filter.tolist() == [1 + 2j, 3 - 4j]
    assert model.filter.dtype == torch.complex64


def test_complex_logits_are_refused_in_one_line(write: Write) -> None:
    """Their imaginary part would be dropped by the loss: the run fails, and `check` says why."""
    plugin = write(after="net.append(type('Turn', (nn.Module,), {'forward': lambda self, x: x * 1j})())")
    assert "complex logits" in failure(plugin)
    assert "complex logits" in broken(plugin)["forward"]


def test_draws_from_random_and_numpy_are_equal_in_two_processes(write: Write, tmp_path: Path) -> None:
    """The same command twice, each in processes of its own: the predictions are equal bytes."""
    plugin = write(forward=DRAWN, before="random.random()", after="net[0].weight.data *= 1 + np.random.rand()")
    stored = []
    for results in ("one", "two"):
        arguments = ["run", "--protocol", "smoke", "--models", "their_net", "--datasets", SET, "--device", "cpu"]
        done = subprocess.run(
            [sys.executable, "-m", "bench.cli", *arguments, "--plugin", plugin, "--results", results],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        stored.append(predictions_path(Run("smoke", "their_net", SET, 0).path(tmp_path / results)).read_bytes())
    assert stored[0] == stored[1]
    assert trained(plugin).predictions == stored[0]  # and in a process that has done other things
    assert trained(plugin, seed=1).predictions != stored[0]
    assert broken(plugin) == {}


def test_a_model_that_draws_while_it_is_scored_is_scored_alike_after_a_resume(write: Write) -> None:
    """What it draws follows from nothing that ran before; `check` refuses it all the same."""
    plugin = write(forward="x = x + torch.rand(()) + random.random()")
    first = trained(plugin)
    torch.rand(7)
    assert trained(plugin).predictions == first.predictions
    assert "eval determinism" in broken(plugin)


LOADED = "net[0].load_state_dict({'weight': torch.load('{file}'), 'bias': torch.zeros(8)})"
FORMULA = "[p.data.copy_(torch.arange(p.numel()).view_as(p) / p.numel()) for p in net.parameters()]"
# What a builder does -> words of the row `seeds`.
NOT_DRAWN = {
    "seeded": ("torch.manual_seed(42)", "pass", "every parameter is not drawn from the seed"),
    "seeded at the end": ("pass", "torch.manual_seed(42); net[6].reset_parameters()", "2 parameters"),
    "formula": ("pass", FORMULA, "every parameter is not drawn from the seed"),
    "file": ("pass", LOADED, "two seeds give the same 0.weight"),
}


@pytest.mark.parametrize("case", sorted(NOT_DRAWN))
def test_weights_that_are_not_drawn_are_named(write: Write, tmp_path: Path, case: str) -> None:
    """A builder that seeds, computes or loads weights gives the same ones to every seed; `check` says which."""
    before, after, words = NOT_DRAWN[case]
    file = tmp_path / "weights.pt"
    torch.save(torch.arange(216.0).view(8, 3, 3, 3), file)
    failures = broken(write(before=before, after=after.replace("{file}", str(file))))
    assert words in failures["seeds"]
    assert "loaded from a file, written as a formula, or seeded in the builder" in failures["seeds"]


def test_parameters_that_start_from_one_value_are_no_fault(write: Write) -> None:
    """Norms, layer scales and biases of one value are equal for two seeds by design."""
    assert (
        broken(write(init="self.scale = nn.Parameter(torch.full((8, 1, 1), 1e-2))", forward="x = x * self.scale")) == {}
    )


@pytest.mark.parametrize(
    ("imported", "init", "forward"),
    [
        ("", "pass", "x = x * (1 + np.random.default_rng().random())"),
        ("", "self.rng = np.random.default_rng(0)", "x = x * (1 + self.rng.random())"),
        ("", "self.calls = 0", "self.calls += self.training; x = x * (1 + self.calls)"),
        ("", "pass", "x = x * (1 + os.getpid() % 1000)"),
    ],
    ids=["generator without a seed", "generator of its own", "counter", "process"],
)
def test_a_training_step_that_cannot_be_repeated_is_named(write: Write, imported: str, init: str, forward: str) -> None:
    """What draws elsewhere, remembers outside the state dict, or depends on the process breaks the contract."""
    forward = forward if "calls" in forward else f"x = x if not self.training else {forward.removeprefix('x = ')}"
    assert "training step" in broken(write(imported=imported, init=init, forward=forward))["training step"]


def test_checking_leaves_the_caller_alone(write: Write) -> None:
    """Generators, threads and directory are as before, whatever the model's file did."""
    load_plugin(write(imported="; ".join(STATEMENTS), after="os.chdir('/')"))
    seed_generators(5)
    expected = random.random(), np.random.rand(), float(torch.rand(()))
    seed_generators(5)
    directory = Path.cwd()
    check_model("their_net", img_size=16)
    assert (random.random(), np.random.rand(), float(torch.rand(()))) == expected
    assert (torch.get_num_threads(), torch.get_default_dtype(), Path.cwd()) == (1, torch.float32, directory)
