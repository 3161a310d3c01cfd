"""Means, variances, Wilson's interval and operating points: numbers in, numbers out. No files, no torch.

What an interval lets vary, images and seeds, is `bench.stats.uncertainty`'s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bench.errors import BenchError

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
LEVEL = 0.05
IMAGES, IMAGES_AND_SEEDS = "images", "images and seeds"


class StatsError(BenchError, ValueError):
    """Numbers that no statistic can be made of."""


def mean(values: Sequence[float]) -> float:
    """The mean, rounded once: the same in any order and on any machine."""
    return math.fsum(values) / len(values)


def variance(values: Sequence[float]) -> float:
    """Sample variance, the sums rounded once.

    Raises:
        StatsError: With fewer than two values.
    """
    if len(values) < 2:
        raise StatsError(f"{len(values)} value has no sample variance; two would")
    middle = mean(values)
    return math.fsum((value - middle) ** 2 for value in values) / (len(values) - 1)


def critical(degrees: float, confidence: float = CONFIDENCE) -> float:
    """Student's two-sided bound, the normal one for infinite degrees of freedom."""
    upper = 0.5 + confidence / 2
    return float(special.ndtri(upper) if math.isinf(degrees) else special.stdtrit(degrees, upper))


def wilson(fraction: float, num_images: float, bound: float | None = None) -> tuple[float, float]:
    """Wilson's score interval of a fraction; it stays within [0, 1].

    Args:
        fraction: In [0, 1]; with `num_images` whole it need not be a whole count over it (a printed value is rounded).
        num_images: How many images, or how many independent ones a variance is worth.
        bound: Two-sided bound in standard deviations; by default the normal one at 95 %.
    """
    if not 0.0 <= fraction <= 1.0 or num_images <= 0:
        raise StatsError(f"a fraction {fraction} of {num_images} images has no interval; it is in [0, 1] of at least 1")
    square = (critical(math.inf) if bound is None else bound) ** 2
    centre = fraction + square / (2 * num_images)
    half = math.sqrt(square * (fraction * (1 - fraction) / num_images + square / num_images / num_images / 4))
    scale = 1 + square / num_images
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def youden_threshold(is_positive: NDArray[np.bool_], scores: Floats) -> float:
    """The threshold with the highest sensitivity + specificity - 1, the lower one on a tie; `nan` without both classes.

    Candidates are the scores that occur; an image counts as positive from the threshold upwards. To be called on val.

    Args:
        is_positive: (N,).
        scores: (N,) probability of the positive class.
    """
    positives, negatives = int(is_positive.sum()), int((~is_positive).sum())
    if not positives or not negatives:
        return math.nan
    candidates = np.unique(scores)
    hits = positives - np.searchsorted(np.sort(scores[is_positive]), candidates, side="left")
    alarms = negatives - np.searchsorted(np.sort(scores[~is_positive]), candidates, side="left")
    return float(candidates[np.argmax(hits * negatives - alarms * positives)])  # whole numbers: ties are ties
