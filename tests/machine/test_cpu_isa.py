"""Runs on a CPU are held at one arithmetic, before anything numeric is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from bench.machine import cpu_isa
from bench.machine.cpu_isa import CpuIsa
from bench.machine.exact_sqrt import use_exact_sqrt
from bench.measure.timing import process
from bench.report.published.names import shown_name
from bench.report.tidy import unpinned_lines
from tests.making import make_record

needs_avx2 = pytest.mark.skipif(not cpu_isa.available(CpuIsa.avx2), reason="this CPU has no AVX2")


@pytest.fixture
def unpinned(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment in which nobody has set anything."""
    monkeypatch.setattr(cpu_isa, "_given", {})
    for name in cpu_isa.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


class Watch(TorchDispatchMode):
    """Notes the operators that are called."""

    def __init__(self, calls: list[str]) -> None:
        super().__init__()
        self.calls = calls

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls.append(str(operator))
        return operator(*args, **(kwargs or {}))


def with_flags(monkeypatch: pytest.MonkeyPatch, *flags: str) -> None:
    monkeypatch.setattr(cpu_isa, "cpu_flags", lambda: set(flags))


def test_a_pin_is_taken_back_and_leaves_what_the_user_had(unpinned: pytest.MonkeyPatch) -> None:
    """Another pin replaces the first; native restores every variable."""
    with_flags(unpinned, "avx2", "avx512f", "avx512bw")
    unpinned.setenv("MKL_CBWR", "AUTO")
    before = dict(os.environ)
    assert cpu_isa.pin(CpuIsa.avx2) == "avx2"
    assert os.environ["MKL_CBWR"] == "COMPATIBLE"
    assert cpu_isa.native_environment() == before
    assert cpu_isa.pin(CpuIsa.avx512) == "avx512"
    assert os.environ["ONEDNN_MAX_CPU_ISA"] == "AVX512_CORE"
    assert "NPY_DISABLE_CPU_FEATURES" not in os.environ
    assert cpu_isa.pin(CpuIsa.native) == "native"
    assert dict(os.environ) == before


def test_a_machine_without_the_instructions_runs_native(unpinned: pytest.MonkeyPatch) -> None:
    """Nothing is set that the libraries could not follow."""
    with_flags(unpinned, "sse4_2")
    assert cpu_isa.pin(CpuIsa.avx2) == "native"
    assert cpu_isa.variables() == {}
    assert cpu_isa.in_force().startswith("native: ")


@pytest.mark.parametrize(
    ("version", "flags", "expected"),
    [
        ("2.4.6", {"avx2", "avx512bw", "avx512_vbmi2"}, "X86_V4 AVX512_ICL"),
        ("1.26.4", {"avx2", "avx512f", "avx512bw"}, "AVX512F AVX512_SKX"),
        ("2.5.5", {"avx2"}, None),
    ],
)
def test_numpy_is_told_what_it_and_the_cpu_know(
    unpinned: pytest.MonkeyPatch, version: str, flags: set[str], expected: str | None
) -> None:
    """An unknown or absent name would be a warning on every import."""
    with_flags(unpinned, *flags)
    unpinned.setattr(cpu_isa.importlib.metadata, "version", lambda name: version)
    assert cpu_isa.settings(CpuIsa.avx2).get("NPY_DISABLE_CPU_FEATURES") == expected


@needs_avx2
@pytest.mark.parametrize("warned", ["error", "default"])
def test_the_libraries_follow_the_pin(warned: str) -> None:
    """In a new process, torch and NumPy take AVX2 and nothing above it, without a warning."""
    code = """
from bench.machine import cpu_isa
cpu_isa.pin()
import numpy._core._multiarray_umath as umath
import torch
print(torch.backends.cpu.get_cpu_capability(), umath.__cpu_features__.get("X86_V4", False), cpu_isa.in_force())
"""
    done = subprocess.run([sys.executable, "-W", warned, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["AVX2", "False", "avx2"]
    assert "CPU features" not in done.stderr


@needs_avx2
def test_a_pin_that_comes_too_late_is_seen() -> None:
    """What torch chose when it was loaded decides, not what the environment says afterwards."""
    code = """
import torch
chosen = torch.backends.cpu.get_cpu_capability().lower()
from bench.machine import cpu_isa
cpu_isa.pin()
expected = "avx2" if chosen == "avx2" else f"native: {chosen}"
assert cpu_isa.in_force() == expected, (cpu_isa.in_force(), chosen)
"""
    environment = {name: value for name, value in os.environ.items() if name not in cpu_isa.VARIABLES}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


@pytest.mark.parametrize("command", [["run", "--help"], ["plan", "--study", "demo"], ["list", "models"]])
def test_a_command_pins_before_it_loads_anything_numeric(command: list[str], tmp_path: Path) -> None:
    """The pin comes first: a library that is loaded earlier has already chosen its kernels."""
    code = f"""
import sys
from bench.machine import cpu_isa
early = []
def pin(isa=cpu_isa.DEFAULT, pin=cpu_isa.pin):
    early.extend(name for name in ("numpy", "torch", "scipy", "sklearn") if name in sys.modules)
    return pin(isa)
cpu_isa.pin = pin
sys.argv = ["medbench", *{command!r}]
from bench.cli.app import main
try:
    main()
finally:
    assert not early, early
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 2.0**127, width=32), min_size=1, max_size=40))
def test_the_square_root_is_the_correctly_rounded_one(values: list[float]) -> None:
    """MKL's is not: it refines the processor's approximation. The double root, rounded, is exact for 24 bits."""
    use_exact_sqrt()
    expected = np.sqrt(np.array(values, dtype=np.float32).astype(np.float64)).astype(np.float32).tobytes()
    tensor = torch.tensor(values)
    assert tensor.sqrt().numpy().tobytes() == expected
    assert torch.sqrt(tensor, out=torch.empty(0)).numpy().tobytes() == expected
    assert torch._foreach_sqrt([tensor])[0].numpy().tobytes() == expected
    assert tensor.sqrt_().numpy().tobytes() == expected


def test_the_exact_square_root_behaves_as_torchs() -> None:
    """Types, strides, empty tensors, gradients and NaN are as torch has them."""
    use_exact_sqrt()
    assert torch.tensor([4, 9]).sqrt().tolist() == [2.0, 3.0]
    assert torch.tensor([4.0], dtype=torch.bfloat16).sqrt().dtype == torch.bfloat16
    assert torch.tensor([-4.0], dtype=torch.complex64).sqrt().tolist() == [2j]
    assert torch.tensor(-1.0).sqrt().isnan()
    assert torch.empty(0, 3).sqrt().shape == (0, 3)
    turned = torch.arange(6.0).view(2, 3).t()
    assert turned.sqrt().stride() == turned.stride()
    leaf = torch.tensor([4.0], requires_grad=True)
    leaf.sqrt().backward()
    assert leaf.grad is not None
    assert leaf.grad.item() == 0.25


@pytest.mark.parametrize("name", ["Adam", "AdamW", "RMSprop"])
def test_an_optimisers_square_root_is_the_exact_one(name: str) -> None:
    """It is the operator that is replaced, not one of torch's fused loops that have a root of their own."""
    use_exact_sqrt()
    calls = []
    parameter = torch.nn.Parameter(torch.rand(1000))
    parameter.grad = torch.rand(1000)
    optimizer = getattr(torch.optim, name)([parameter], lr=1e-3)
    with Watch(calls):
        optimizer.step()
    assert "aten.sqrt.default" in calls or "aten.sqrt_.default" in calls  # what the override replaces


def test_a_run_that_is_not_pinned_is_named_under_its_table() -> None:
    """Records without their arithmetic and such of another one are listed apart; pinned ones and a GPU's are not."""
    record = make_record().model_copy(update={"device": "cpu: AMD EPYC"})
    native = record.model_copy(update={"seed": 1, "cpu_isa": "native: avx512"})
    pinned = record.model_copy(update={"seed": 2, "cpu_isa": "avx2"})
    card = record.model_copy(update={"seed": 3, "device": "cuda: H100"})
    cell = f"{record.protocol} {shown_name(record.model)} on {shown_name(record.dataset)}"
    lines = unpinned_lines([card, pinned, native, record])
    assert len(lines) == 2
    assert lines[0].startswith("CPU arithmetic native: avx512 (another processor")
    assert lines[0].endswith(f"with seeds: {cell} 1.")
    assert lines[1].startswith("CPU arithmetic not recorded (made before runs were pinned;")
    assert lines[1].endswith(f"with seeds: {cell} {record.seed}.")
    assert unpinned_lines([card, pinned]) == []


@needs_avx2
def test_a_timing_is_native(tmp_path: Path) -> None:
    """The process that measures speed has no pin, though the one that starts it is pinned."""
    assert os.environ["ATEN_CPU_CAPABILITY"] == "avx2"
    with (tmp_path / "output").open("w+") as log:
        worker = process._start(1, log)
        environ = Path(f"/proc/{worker.pid}/environ")
        try:
            deadline = time.monotonic() + 60
            while not environ.read_bytes():  # empty until the kernel has laid out the new program
                assert time.monotonic() < deadline
                time.sleep(0.01)
            given = environ.read_bytes().split(b"\0")
        finally:
            worker.kill()
            worker.communicate()
    names = {entry.partition(b"=")[0].decode() for entry in given}
    assert "OMP_WAIT_POLICY" in names
    assert not names & set(cpu_isa.VARIABLES) - {name for name, value in cpu_isa._given.items() if value is not None}
