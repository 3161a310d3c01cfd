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


def resampled_rates(
    is_positive: NDArray[np.bool_],
    scores: Floats,
    test_positive: NDArray[np.bool_],
    test_scores: Floats,
    weights: NDArray[np.uint8],
) -> Floats:
    """Sensitivity and specificity on test at the threshold that each resample of val would have given.

    Another val gives another threshold: with 78 images that moves a sensitivity more than the test images do.

    Args:
        is_positive: (V,) of val.
        scores: (S, V) probability of the positive class, of S seeds.
        test_positive: (N,) of test, both classes among them.
        test_scores: (S, N) the same probability.
        weights: (B, V) how often each image of val is drawn, drawn within its class.

    Returns:
        (2, S, B).
    """
    positives = int(is_positive.sum())
    # What an image below the threshold takes from sensitivity + specificity - 1, or adds, in whole numbers.
    signed = weights * np.where(is_positive, positives - len(is_positive), positives).astype(np.int64)
    signed = signed.astype(np.int32 if len(is_positive) ** 2 < 2**31 else np.int64)
    rates = np.empty((2, len(scores), len(weights)))
    for seed, (own, shown) in enumerate(zip(scores, test_scores, strict=True)):
        order = np.argsort(own, kind="stable")
        candidates, starts = np.unique(own[order], return_index=True)
        taken, drawn = signed.take(order, axis=1), weights.take(order, axis=1)
        below = np.cumsum(taken, axis=1, dtype=signed.dtype) - taken
        if len(candidates) < len(order):  # ties
            below, drawn = below[:, starts], np.add.reduceat(drawn, starts, axis=1)
        below[drawn == 0] = np.iinfo(signed.dtype).min
        chosen = below.argmax(axis=1)  # the lower threshold on a tie
        hits, rest = np.sort(shown[test_positive]), np.sort(shown[~test_positive])
        rates[0, seed] = (1 - np.searchsorted(hits, candidates, side="left") / len(hits))[chosen]
        rates[1, seed] = (np.searchsorted(rest, candidates, side="left") / len(rest))[chosen]
    return rates
