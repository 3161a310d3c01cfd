"""What the blocks of a timing say: medians, quartiles, intervals, agreement. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench.records.timing_record import RoundStatus, TimingCell, WarmUp

CellStatus = Literal["done", "disagrees", "oom", "timeout", "failed"]
FAILURES: tuple[RoundStatus, ...] = ("oom", "timeout", "failed")
WARM_UPS: tuple[WarmUp, ...] = ("steady", "moving", "cold")
NUM_BOOTSTRAPS = 2000
MIN_BLOCKS = 30  # of a cell that a summary can rest on: fewer are measured only where its time ends, and are named


@dataclass(frozen=True)
class Summary:
    """What the blocks of a cell say, in images per second.

    Attributes:
        median: Over all blocks of all rounds.
        q1, q3: Quartiles of the blocks.
        ci_low, ci_high: 95 % percentile bootstrap of the median, rounds drawn first and blocks within them.
        warm_up: Of the round that was warmed up least.
        round_spread: Highest less lowest median of a round, over the median; None with one round.
    """

    status: CellStatus
    num_rounds: int = 0
    num_blocks: int = 0
    warm_up: WarmUp | None = None
    median: float | None = None
    q1: float | None = None
    q3: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    round_spread: float | None = None
    peak_memory_mib: float | None = None
    joules_per_image: float | None = None


def cell_status(cell: TimingCell) -> CellStatus:
    """`done` only if every round is and the logits agree; a mode that disagrees is never a fast mode."""
    if {round_.status for round_ in cell.rounds} != {"done"}:
        return next(status for status in FAILURES if any(round_.status == status for round_ in cell.rounds))
    agreements = [round_.agreement for round_ in cell.rounds if round_.agreement is not None]
    wrong = any(not agreement.holds(cell.setting.precision) for agreement in agreements)
    return "disagrees" if wrong else "done"


def summarise(cell: TimingCell) -> Summary:
    """Medians and intervals of a cell; the bootstrap's seed is fixed, so equal blocks give equal numbers."""
    done = [round_ for round_ in cell.rounds if round_.status == "done"]
    if not done:
        return Summary(cell_status(cell))
    rates = [round_.images_per_second(cell.setting.batch_size) for round_ in done]
    every = np.concatenate(rates)
    medians = [float(np.median(rate)) for rate in rates]
    q1, median, q3 = (float(value) for value in np.percentile(every, [25, 50, 75]))
    low, high = bootstrap_median(rates)
    peaks = [round_.peak_memory_mib for round_ in done if round_.peak_memory_mib is not None]
    images = [cell.setting.batch_size * round_.iterations * len(round_.block_seconds) for round_ in done]
    joules = [r.joules / n for r, n in zip(done, images, strict=True) if r.joules is not None]
    return Summary(
        status=cell_status(cell),
        num_rounds=len(done),
        num_blocks=len(every),
        warm_up=max((round_.warm_up for round_ in done), key=WARM_UPS.index),
        median=median,
        q1=q1,
        q3=q3,
        ci_low=low,
        ci_high=high,
        round_spread=(max(medians) - min(medians)) / median if len(medians) > 1 else None,
        peak_memory_mib=max(peaks, default=None),
        joules_per_image=float(np.median(joules)) if joules else None,
    )


def bootstrap_median(rounds: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """95 % percentile interval of the median: rounds drawn with replacement, then blocks within each.

    Blocks of one process are alike; drawing rounds first keeps the interval as wide as the processes differ.
    """
    random = np.random.default_rng(0)
    lengths = np.array([len(blocks) for blocks in rounds])
    table = np.full((len(rounds), lengths.max()), np.nan)
    for row, blocks in enumerate(rounds):
        table[row, : len(blocks)] = blocks
    chosen = random.integers(len(rounds), size=(NUM_BOOTSTRAPS, len(rounds), 1))
    drawn_columns = (random.random((NUM_BOOTSTRAPS, len(rounds), table.shape[1])) * lengths[chosen]).astype(np.int64)
    drawn = np.where(np.arange(table.shape[1]) < lengths[chosen], table[chosen, drawn_columns], np.nan)
    drawn = np.sort(drawn.reshape(NUM_BOOTSTRAPS, -1), axis=1)  # NaN, what a short round lacks, goes last
    count = lengths[chosen].sum(axis=(1, 2))
    draws = np.arange(NUM_BOOTSTRAPS)
    medians = (drawn[draws, (count - 1) // 2] + drawn[draws, count // 2]) / 2
    low, high = np.percentile(medians, [2.5, 97.5])
    return float(low), float(high)
