"""Two models on the same images: paired differences, equivalence, McNemar's test. No files, no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bench.errors import BenchError
from bench.stats.intervals import Floats, critical

EQUIVALENCE_MARGIN = 0.02  # a fraction, of AUC and of accuracy; `results/ANALYSIS_PLAN.md` fixes it


class PairingError(BenchError, ValueError):
    """Two runs whose images are not the same in the same order."""


@dataclass(frozen=True)
class Difference:
    """A paired difference with its interval, its p-value, and the narrower interval that equivalence is judged by."""

    value: float
    low: float
    high: float
    p: float
    low_90: float
    high_90: float


def check_pairing(labels: NDArray[Any], others: NDArray[Any], names: tuple[str, str]) -> None:
    """Refuse to pair runs on different images.

    Args:
        labels: (N,) labels of the first run's images, in its order.
        others: The same of the second.
        names: What the runs are called.

    Raises:
        PairingError: In one line.
    """
    first, second = names
    if len(labels) != len(others):
        counts = f"{first} has {len(labels)} test images and {second} has {len(others)}"
        raise PairingError(f"{counts}; pair runs on the same images")
    wrong = np.flatnonzero(np.asarray(labels) != np.asarray(others))
    if len(wrong):
        where = f"the labels of {first} and {second} differ at {len(wrong)} of {len(labels)} test images"
        raise PairingError(f"{where}, first at {wrong[0]}; pair runs on the same images in the same order")


def end_to_end(value: float, first: tuple[float, float], second: tuple[float, float]) -> Difference:
    """A difference that no resample moves because a value is 0 or 1: as wide as the two intervals allow.

    The p-value takes that width for two normal bounds; the narrower interval is not narrower here.
    """
    low, high = first[0] - second[1], first[1] - second[0]
    error = (high - low) / (2 * critical(math.inf))
    p = 1.0 if value == 0.0 else 2 * float(special.ndtr(-abs(value) / error))
    return Difference(value, low, high, p, low, high)


def is_inside(low: float, high: float, margin: float) -> bool:
    """Whether an interval of a difference lies strictly inside a margin around 0."""
    return -margin < low and high < margin


def is_equivalent(difference: Difference, margin: float) -> bool:
    """Two one-sided tests at 5 %: the 90 % interval lies strictly inside the margin."""
    return is_inside(difference.low_90, difference.high_90, margin)


def mcnemar(only_first: NDArray[Any], only_second: NDArray[Any]) -> Floats:
    """Exact two-sided McNemar test: binomial on the images that exactly one of two models gets right.

    Args:
        only_first: (M,) how many images only the first gets right.
        only_second: (M,) only the second.

    Returns:
        (M,) p-values; 1 where none is discordant.
    """
    first, second = np.asarray(only_first, dtype=np.int64), np.asarray(only_second, dtype=np.int64)
    tail: Floats = special.bdtr(np.minimum(first, second).astype(np.float64), first + second, 0.5)
    p: Floats = np.minimum(1.0, 2.0 * tail)
    return p
