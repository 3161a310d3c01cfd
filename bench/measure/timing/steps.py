"""The batch that is timed, the clock that times it, and the memory that it takes; for CPU and CUDA."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

import psutil
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.machine import provenance
from bench.records.timing_record import NUM_CLASSES, Setting

CGROUP = Path("/sys/fs/cgroup")
MEMORY_SHARE = 0.9
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Clock:
    """Seconds of a block: device events on CUDA, the monotonic clock on a CPU."""

    def __init__(self, device: torch.device, step: Callable[[int], object]) -> None:
        self.device, self.step, self.number = device, step, 0
        self.ratios: list[float] = []

    def run_block(self, iterations: int) -> float:
        """Run batches one after another, inputs in turn, and wait for the last."""
        if self.device.type == "cuda":
            return self._run_between_events(iterations)
        started = time.perf_counter()
        self._run(iterations)
        return time.perf_counter() - started

    def _run(self, iterations: int) -> None:
        for _ in range(iterations):
            self.step(self.number)
            self.number += 1

    def _run_between_events(self, iterations: int) -> float:
        with torch.cuda.device(self.device):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
            started = time.perf_counter()
            start.record()
            self._run(iterations)
            end.record()
            end.synchronize()
            wall = time.perf_counter() - started
        seconds = float(start.elapsed_time(end)) / 1000
        self.ratios.append(wall / seconds)
        return seconds

    def wall_over_event(self, num_blocks: int) -> float | None:
        """Median wall time over device time of the last blocks, None on a CPU."""
        return round(median(self.ratios[-num_blocks:]), 4) if self.ratios else None


def inference_step(run: Callable[[Tensor], Tensor], batches: Sequence[Tensor]) -> Callable[[int], object]:
    """A forward pass without gradients, inputs in turn."""

    @torch.inference_mode()
    def step(number: int) -> object:
        return run(batches[number % len(batches)])

    return step


def training_step(
    model: nn.Module, run: Callable[[Tensor], Tensor], batches: Sequence[Tensor], dtype: torch.dtype | None
) -> Callable[[int], object]:
    """Forward, cross-entropy, backward, SGD with momentum; autocast around the forward pass alone."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    labels = torch.arange(len(batches[0]), device=batches[0].device) % NUM_CLASSES

    def step(number: int) -> object:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(labels.device.type, dtype=dtype, enabled=dtype is not None):
            logits_BK = run(batches[number % len(batches)])
        F.cross_entropy(logits_BK.float(), labels).backward()  # type: ignore[no-untyped-call]
        return optimizer.step()

    return step


@contextlib.contextmanager
def numerics(setting: Setting, device: torch.device) -> Iterator[None]:
    """tf32 where the setting says so and nowhere else; inference in bf16 and fp16 by autocast.

    Eager, the weights are cast once; a compiled graph casts them in every call.
    """
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = cuda.allow_tf32, cudnn.allow_tf32
    cuda.allow_tf32 = cudnn.allow_tf32 = setting.precision == "tf32"
    dtype = AUTOCAST.get(setting.precision) if setting.mode == "inference" else None
    try:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            yield
    finally:
        cuda.allow_tf32, cudnn.allow_tf32 = before


def wait_for(device: torch.device) -> None:
    """Return when a CUDA device has nothing left to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forget(device: torch.device) -> None:
    """Give memory back and start the peak anew."""
    gc.collect()
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def limit_memory(share: float = MEMORY_SHARE) -> int:
    """Let this process's allocations fail before the system has to kill somebody; returns the limit in bytes.

    Args:
        share: Of the memory that the machine (and the process's control group) has left.
    """
    left = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):  # "max" or no control groups: the machine is the limit
        most, used = (int((CGROUP / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
        left = min(left, most - used)
    limit = int(psutil.Process().memory_info().rss + share * left)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    return limit


def peak_memory_mib(device: torch.device) -> float:
    """Peak since `forget`; where the system cannot start a peak anew, the peak of the process."""
    return round(provenance.peak_memory_mib(str(device)), 1)
