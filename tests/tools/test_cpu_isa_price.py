"""The price of the pinned arithmetic can be measured again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.machine import cpu_isa
from bench.machine.cpu_isa import CpuIsa

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(not cpu_isa.available(CpuIsa.avx2), reason="needs AVX2")
def test_the_price_is_the_ratio_of_the_best_steps_of_two_processes() -> None:
    """One process is pinned, the other native; each named model gets a ratio that its times give."""
    command = [sys.executable, "-m", "tools.speed.cpu_isa", "--models", "resnet18_28", "--rounds", "2"]
    done = subprocess.run(
        [*command, "--size", "28", "--batch", "2"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=300
    )
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["pinned"] == "avx2"
    assert result["native"].startswith("native: ")
    (row,) = result["rows"]
    assert row["model"] == "resnet18_28"
    assert row["price"] == pytest.approx(row["pinned_ms"] / row["native_ms"], abs=0.02)
