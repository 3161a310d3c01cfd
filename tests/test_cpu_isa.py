"""Runs on a CPU are held at one arithmetic, before anything numeric is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import cpu_isa
from bench.cpu_isa import CpuIsa
from bench.exact_sqrt import exact_sqrt
from bench.optimizers import RMSprop

needs_avx2 = pytest.mark.skipif(not cpu_isa.available(CpuIsa.avx2), reason="this CPU has no AVX2")


@pytest.fixture
def unpinned(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment in which nobody has set anything."""
    monkeypatch.setattr(cpu_isa, "_given", {})
    for name in cpu_isa.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


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
from bench import cpu_isa
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
from bench import cpu_isa
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
from bench import cpu_isa
early = []
def pin(isa=cpu_isa.DEFAULT, pin=cpu_isa.pin):
    early.extend(name for name in ("numpy", "torch", "scipy", "sklearn") if name in sys.modules)
    return pin(isa)
cpu_isa.pin = pin
sys.argv = ["medbench", *{command!r}]
from bench.cli import main
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
    expected = np.sqrt(np.array(values, dtype=np.float32).astype(np.float64)).astype(np.float32)
    assert exact_sqrt(torch.tensor(values)).numpy().tobytes() == expected.tobytes()


def test_rmsprop_is_torchs_but_for_the_last_bits() -> None:
    """Same rule, defaults and weight decay: a hundred steps stay within rounding of torch's."""
    weights = []
    for kind in (RMSprop, torch.optim.RMSprop):
        torch.manual_seed(0)
        parameter = torch.nn.Parameter(torch.randn(7, 5))
        optimizer = kind([{"params": [parameter], "weight_decay": 0.1}], lr=1e-2)
        for _ in range(100):
            optimizer.zero_grad()
            ((parameter - 1) ** 4).sum().backward()
            optimizer.step()
        weights.append(parameter.detach())
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-4, atol=1e-6)


def test_rmsprops_first_step_by_hand() -> None:
    """v = 0.01 * 4 = 0.04, so w = 1 - 0.1 * 2 / (0.2 + 1e-8)."""
    parameter = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = RMSprop([{"params": [parameter], "weight_decay": 0.0}], lr=0.1)
    (2 * parameter).sum().backward()
    optimizer.step()
    assert parameter.item() == pytest.approx(1 - 0.1 * 2 / (0.2 + 1e-8), rel=1e-12)
