"""Blocks of a timing: when a measurement begins and stops."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils import benchmark

from bench.measure.timing.blocks import Budget, measure_blocks
from bench.measure.timing.steps import Clock


def fake_blocks(batch_seconds: Callable[[int], float]) -> tuple[Callable[[int], float], list[int]]:
    """A `run_block` without a clock: batch number -> seconds; and the list of the block sizes it was called with."""
    requested: list[int] = []

    def run_block(iterations: int) -> float:
        start = sum(requested)
        requested.append(iterations)
        return sum(batch_seconds(start + number) for number in range(iterations))

    return run_block, requested


def test_blocks_are_long_enough_and_many_enough() -> None:
    """A batch of 10 ms: blocks of at least 50 ms, 30 of them, after a warm-up that stands still at once."""
    run_block, requested = fake_blocks(lambda number: 0.1 if number == 0 else 0.01)
    blocks = measure_blocks(run_block, Budget())
    assert blocks.steady
    assert len(blocks.seconds) == 30
    assert min(blocks.seconds) >= 0.05
    assert blocks.iterations == 6  # 1.2 x 50 ms over 10 ms
    assert requested[0] == 1  # the cold batch is in no block
    assert blocks.warm_up_seconds == pytest.approx(0.1 + 0.01 * sum(requested[1:-30]))


def test_warm_up_goes_on_while_the_median_moves() -> None:
    """A batch that gets faster by 3 % a block is not measured before it has stopped."""
    run_block, requested = fake_blocks(lambda number: 0.06 * max(0.5, 0.97**number))
    blocks = measure_blocks(run_block, Budget())
    assert blocks.steady
    assert blocks.seconds[0] == pytest.approx(blocks.seconds[-1] / 1, rel=0.01)
    assert sum(requested) - sum([blocks.iterations] * len(blocks.seconds)) > 20


def test_warm_up_ends_after_its_budget() -> None:
    """A batch that slows down for ever is measured after the warm-up's seconds, and reported as still moving."""
    run_block, _ = fake_blocks(lambda number: 0.06 * 1.05**number)
    blocks = measure_blocks(run_block, Budget(cell_seconds=None, warm_up_seconds=2.0, min_blocks=3))
    assert not blocks.steady
    assert blocks.warm_up_seconds <= 2.0
    assert len(blocks.seconds) == 3


def test_blocks_that_turn_out_short_are_measured_anew() -> None:
    """A model that gets ten times faster after the warm-up still has no block under 50 ms."""
    run_block, _ = fake_blocks(lambda number: 0.06 if number < 20 else 0.006)
    blocks = measure_blocks(run_block, Budget())
    assert min(blocks.seconds) >= 0.05
    assert len(blocks.seconds) == 30


@given(batch_seconds=st.floats(1e-4, 60.0), cell_seconds=st.floats(0.5, 30.0))
def test_no_cell_overruns_its_budget(batch_seconds: float, cell_seconds: float) -> None:
    """Whatever a batch takes, a cell ends within its seconds; a batch longer than half of them runs once."""
    run_block, requested = fake_blocks(lambda number: batch_seconds)
    blocks = measure_blocks(run_block, Budget(cell_seconds=cell_seconds))
    total = batch_seconds * sum(requested)
    assert len(blocks.seconds) >= 1
    if batch_seconds > cell_seconds / 2:
        assert (requested, blocks.steady) == ([1], False)
    else:
        assert total <= cell_seconds * 1.001


def test_our_blocks_and_torchs_timer_agree() -> None:
    """The same sleeping workload takes the same by torch.utils.benchmark and by these blocks, within 10 %."""
    step = lambda _: time.sleep(0.01)  # noqa: E731
    ours = measure_blocks(Clock(torch.device("cpu"), step).run_block, Budget(min_blocks=5))
    theirs = benchmark.Timer("step(0)", globals={"step": step}).blocked_autorange(min_run_time=0.2)
    assert np.median(ours.seconds) / ours.iterations == pytest.approx(theirs.median, rel=0.1)


def test_inputs_take_turns() -> None:
    """Batch i uses buffer i modulo the number of buffers, over the ends of blocks too."""
    seen: list[int] = []
    clock = Clock(torch.device("cpu"), seen.append)
    clock.run_block(3)
    clock.run_block(2)
    assert seen == [0, 1, 2, 3, 4]
    assert clock.wall_over_event(2) is None
