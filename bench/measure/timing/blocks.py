"""When to stop warming up and when to stop measuring: the arithmetic of a timing, without a clock of its own.

`torch.utils.benchmark.Timer` was the start: it sets the threads, waits for the device and knows medians. But each
of its `timeit` calls runs two more batches as a warm-up, which triples the cost of a cell whose batch takes
seconds, and it reads no device events. So the suite measures its own blocks; a test holds both to the same answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from bench.records.timing_summary import MIN_BLOCKS

WINDOW = 5  # blocks whose median must stand still
STILL = 0.01
MARGIN = 1.2  # a block is planned a little longer than it must be


@dataclass(frozen=True)
class Budget:
    """How long a cell may take in one round.

    Attributes:
        cell_seconds: Everything together; None for as long as the blocks need.
        warm_up_seconds: Warm-up at most; with `cell_seconds` also at most half of that.
        min_blocks: Blocks to measure, fewer where `cell_seconds` ends them.
        block_seconds: Shortest block.
    """

    cell_seconds: float | None = 20.0
    warm_up_seconds: float = 20.0
    min_blocks: int = MIN_BLOCKS
    block_seconds: float = 0.05

    @property
    def warm_up_limit(self) -> float:
        """Seconds after which measuring begins whatever the warm-up looks like."""
        half = math.inf if self.cell_seconds is None else self.cell_seconds / 2
        return min(self.warm_up_seconds, half)


@dataclass(frozen=True)
class Blocks:
    """What was measured: batches a block, seconds of each block, and how the warm-up ended."""

    iterations: int
    seconds: list[float]
    steady: bool
    warm_up_seconds: float


def measure_blocks(run_block: Callable[[int], float], budget: Budget) -> Blocks:
    """Warm up until the median of the last five blocks moves under 1 %, then measure.

    Args:
        run_block: Runs a number of batches, returns their seconds.
        budget: When to stop.

    Returns:
        The blocks. Where the first, cold batch takes more than half of `cell_seconds` it is the only block: a
        second one would take the cell over what it may take.
    """
    first = run_block(1)
    if budget.cell_seconds is not None and first > budget.cell_seconds / 2:
        return Blocks(1, [first], steady=False, warm_up_seconds=0.0)
    iterations, spent, steady = _warm_up(run_block, first, budget)
    warm_up_seconds = spent
    seconds: list[float] = []
    while len(seconds) < budget.min_blocks:
        took = run_block(iterations)
        spent += took
        if took < budget.block_seconds:  # it got faster than planned: all blocks must be long enough
            iterations, seconds = _enough(iterations, took, budget), []
        else:
            seconds.append(took)
        if budget.cell_seconds is not None and seconds and spent + took > budget.cell_seconds:
            break
    return Blocks(iterations, seconds, steady, warm_up_seconds)


def _enough(iterations: int, took: float, budget: Budget) -> int:
    """Batches that fill a block, from a block that took `took` seconds."""
    return max(1, math.ceil(MARGIN * budget.block_seconds * iterations / max(took, 1e-9)))


def _warm_up(run_block: Callable[[int], float], first: float, budget: Budget) -> tuple[int, float, bool]:
    """Batches a block, seconds spent, and whether the median stood still."""
    iterations, spent = _enough(1, first, budget), first
    history: list[float] = []
    took = first
    while spent + took <= budget.warm_up_limit:
        took = run_block(iterations)
        spent += took
        if took < budget.block_seconds:
            iterations, history = _enough(iterations, took, budget), []
        else:
            history.append(took / iterations)
        if len(history) > WINDOW:
            moved = median(history[-WINDOW:]) / median(history[-WINDOW - 1 : -1]) - 1
            if abs(moved) < STILL:
                return iterations, spent, True
    return iterations, spent, False
