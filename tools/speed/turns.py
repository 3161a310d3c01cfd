"""What the speed scripts share: ways of doing a thing take turns, so that a busy machine slows them all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

Result = TypeVar("Result")


def clock(device: str) -> Callable[[], float]:
    """Seconds: CPU time of this process, or on CUDA wall time once the device has finished."""

    def on_cuda() -> float:
        import torch

        torch.cuda.synchronize(device)
        return time.perf_counter()

    return on_cuda if device.startswith("cuda") else time.process_time


def timed(call: Callable[[], Result], now: Callable[[], float] = time.process_time) -> tuple[float, Result]:
    """Seconds of a call, and what it returned."""
    started = now()
    result = call()
    return now() - started, result


def take_turns(
    calls: Mapping[str, Callable[[], object]],
    rounds: int,
    now: Callable[[], float] = time.process_time,
    *,
    warm_up: bool = True,
) -> dict[str, list[float]]:
    """Seconds of every call in every round; with `warm_up`, after one round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(-1 if warm_up else 0, rounds):
        for name, call in calls.items():
            seconds, _ = timed(call, now)
            if turn >= 0:
                times[name].append(seconds)
    return times


def median_ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """The median over rounds of the ratio within a round."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))
