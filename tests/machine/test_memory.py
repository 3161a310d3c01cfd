"""A lack of memory is known by what libraries say of it."""

from __future__ import annotations

import pytest

from bench.machine.memory import is_out_of_memory
from bench.runs.worker import ending


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("can't start new thread"),
        RuntimeError("std::bad_alloc"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    ],
)
def test_each_library_has_its_own_words(error: Exception) -> None:
    """Also where another error came of it."""
    assert is_out_of_memory(error)
    outer = ImportError("could not import numpy")
    outer.__cause__ = error
    assert is_out_of_memory(outer)


@pytest.mark.parametrize("error", [ValueError("shape mismatch"), OSError(2, "No such file"), ImportError("no torch")])
def test_other_errors_are_not(error: Exception) -> None:
    assert not is_out_of_memory(error)


@pytest.mark.parametrize(("exitcode", "kind"), [(-9, "oom"), (71, "oom"), (7, "error"), (-11, "error")])
def test_how_a_run_ended_says_whether_memory_was_short(exitcode: int, kind: str) -> None:
    """Killed by the system, or without memory for its libraries."""
    assert ending(exitcode).kind == kind
