"""A process's peak memory is its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

SMALL = "from bench.machine.provenance import peak_memory_mib; print(peak_memory_mib('cpu'))"
LARGE = f"""
import subprocess, sys
from bench.machine.provenance import peak_memory_mib
block = b'x' * (400 * 2**20)
print(peak_memory_mib('cpu'))
print(subprocess.run([sys.executable, '-c', {SMALL!r}], capture_output=True, text=True, check=True).stdout)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_program_does_not_take_over_the_peak_of_the_one_that_started_it() -> None:
    """400 MiB in the parent, which its child's getrusage would show too."""
    done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=True)
    parent, child = (float(line) for line in done.stdout.split())
    assert parent > 400
    assert child < 200
