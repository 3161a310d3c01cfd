"""Code that is not the suite's: it builds and runs its model, and moves nothing else.

A model's file, its builder and its forward pass can set what belongs to the whole process: the number of threads,
torch's default type, the seed, the current directory. `Pinned` puts that back, `seed_generators` seeds every global
generator, `create` builds a model between the two, and `restored` leaves a caller's process as it was.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.errors import BenchError
from bench.machine.exact_sqrt import use_exact_sqrt
from models import create_model, get_spec
from models.catalog import import_builder
from models.loading import in_own_code

WORD = 0xFFFFFFFF  # numpy's legacy generator is seeded in words of 32 bits
# Parents before children: a child that says "none" has what its parent says.
FP32_BACKENDS = (
    torch.backends,
    torch.backends.mkldnn,
    torch.backends.cudnn,
    *(getattr(torch.backends.mkldnn, name, None) for name in ("matmul", "conv", "rnn")),
    *(getattr(torch.backends.cudnn, name, None) for name in ("conv", "rnn")),
    torch.backends.cuda.matmul,
)
# How to read a switch of the process, how to set it, and what a run wants: torch's default.
SWITCHES: tuple[tuple[Callable[[], Any], Callable[[Any], Any], Any], ...] = (
    (torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    (torch.is_grad_enabled, torch.set_grad_enabled, True),
    (partial(torch.is_autocast_enabled, "cpu"), partial(torch.set_autocast_enabled, "cpu"), False),
    (partial(torch.is_autocast_enabled, "cuda"), partial(torch.set_autocast_enabled, "cuda"), False),
    (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, False),
    (torch.backends.mha.get_fastpath_enabled, torch.backends.mha.set_fastpath_enabled, True),
    (torch.backends.cuda.flash_sdp_enabled, torch.backends.cuda.enable_flash_sdp, True),
    *(
        (partial(getattr, backend, name), partial(setattr, backend, name), wanted)
        for backend, name, wanted in (
            (torch.backends.mkldnn, "enabled", True),
            (torch.backends.cudnn, "enabled", True),
            (torch.backends.cudnn, "benchmark", False),
            (torch.backends.cudnn, "deterministic", False),
        )
    ),
)


def keep_fp32() -> None:
    """fp32 is fp32: no TF32, which is torch's default for convolutions on a GPU, and no bfloat16 inside a product."""
    for backend in FP32_BACKENDS:
        if getattr(backend, "fp32_precision", "none") not in ("none", "ieee"):
            backend.fp32_precision = "none"  # type: ignore[union-attr]
    if torch.get_float32_matmul_precision() != "highest":
        torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


class Pinned:
    """What a process keeps whatever a model's code sets; as a context it is put back on the way in and out.

    The current directory and torch's default device are those of the moment when this object is made.

    Args:
        num_threads: CPU threads that torch may use.
    """

    def __init__(self, num_threads: int = 1) -> None:
        self.num_threads, self.directory, self.device = num_threads, _directory(), torch.get_default_device()

    def __enter__(self) -> Pinned:
        self.hold()
        return self

    def __exit__(self, *_: object) -> None:
        self.hold()

    def hold(self) -> None:
        """Put everything back; takes some ten microseconds where nothing was changed."""
        if torch.get_num_threads() != self.num_threads:
            torch.set_num_threads(self.num_threads)
        for read, write, wanted in SWITCHES:
            if read() != wanted:
                write(wanted)
        keep_fp32()
        use_exact_sqrt()
        torch.set_flush_denormal(False)  # cannot be read; some libraries switch it on when they are loaded
        if torch.get_default_device() != self.device:
            torch.set_default_device(None if self.device.type == "cpu" else self.device)
        if self.directory is not None and _directory() != self.directory:
            with contextlib.suppress(OSError):
                os.chdir(self.directory)

    def check_threads(self) -> None:
        """Call it after a model's code has run that should have left the threads alone.

        Raises:
            BenchError: If it did not; the threads are put back.
        """
        num_threads = torch.get_num_threads()
        if num_threads != self.num_threads:
            torch.set_num_threads(self.num_threads)
            raise BenchError(
                f"the model sets torch to {num_threads} threads while it runs, and a run uses {self.num_threads}; "
                "remove torch.set_num_threads from its code"
            )


def _directory() -> str | None:
    """The current directory, None where it was removed."""
    try:
        return os.getcwd()
    except OSError:
        return None


def limit_pools() -> None:
    """One thread for each numerical library that is loaded, beside torch: numpy's BLAS, scikit-learn's OpenMP."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    threadpool_limits(limits=1)


def num_threads() -> int:
    """CPU threads that torch or any numerical library of this process may use now, the largest number."""
    from threadpoolctl import threadpool_info

    return max([torch.get_num_threads(), *(int(pool["num_threads"]) for pool in threadpool_info())])


def seed_generators(seed: int) -> None:
    """Seed every global generator, torch's, Python's and numpy's, from one 63-bit number."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed([seed & WORD, seed >> 32])


def create(name: str, *, seed: int, num_threads: int = 1, **options: Any) -> nn.Module:
    """A model whose weights follow from the seed alone, whatever its file does when it is imported.

    Args:
        name: A registered name of a network.
        seed: Of the initial weights.
        num_threads: CPU threads that torch is left with.
        **options: Of `models.create_model`.

    Raises:
        ModelError: As `models.create_model`.
        BenchError: If the model's code exits: a command would end there as if all were well.
    """
    spec = get_spec(name)
    with Pinned(num_threads) as pinned:
        try:
            if spec.kind == "network":
                import_builder(spec)  # before the seed: a file may draw, or seed, when it is imported
                pinned.hold()
            seed_generators(seed)
            return create_model(name, **options)
        except SystemExit as error:
            where = in_own_code(error, spec.file)
            raise BenchError(f"{name} ends the process with sys.exit({error.code!r}){where}; remove that") from error


def cast(model: nn.Module, dtype: torch.dtype, memory_format: torch.memory_format) -> nn.Module:
    """Give parameters and buffers a floating type, in place; complex ones get the complex type of that precision.

    `Module.to(dtype)` would drop imaginary parts, and refuses channels_last for what has five axes.
    """

    def placed(tensor: Tensor) -> Tensor:
        kind = dtype if tensor.is_floating_point() else dtype.to_complex() if tensor.is_complex() else tensor.dtype
        return tensor.to(kind, memory_format=memory_format) if tensor.ndim == 4 else tensor.to(kind)

    placed_model: nn.Module = model._apply(placed)  # type: ignore[no-untyped-call]  # as Module.to does
    return placed_model


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Whatever happens inside, the caller has generators, threads, switches and directory as before."""
    threads, directory, python, legacy = torch.get_num_threads(), _directory(), random.getstate(), np.random.get_state()
    switches = [(write, read()) for read, write, _ in SWITCHES]
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)
            torch.set_num_threads(threads)
            for write, value in switches:
                write(value)
            if directory is not None:
                os.chdir(directory)
