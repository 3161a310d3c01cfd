"""Intervals and operating points: numbers in, numbers out. No files, no torch.

A cell's value is a mean over seeds on one set of test images, and both would differ another time. The image part of
its variance is that of the bootstrapped seed mean; the seed part is the sample variance over the number of seeds, for
few seeds cannot be resampled. They are added, with Satterthwaite's degrees of freedom: the seed part has n - 1, the
image part is taken as known. What seeds and images do together is counted in both, so the interval is a little wide,
never too narrow for that reason. One seed leaves the images alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Spread:
    """The variance of a mean over seeds, and how well it is known.

    Attributes:
        variance: Of the mean, images and seeds together.
        degrees: Of freedom, Satterthwaite's; infinite where images are all, or seeds do not differ.
        kind: What varies: `IMAGES` or `IMAGES_AND_SEEDS`.
    """

    variance: float
    degrees: float
    kind: str


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


def spread(resamples: Floats, seed_values: Sequence[float]) -> Spread:
    """Variance of a mean over seeds, images crossed with seeds.

    Args:
        resamples: (B,) the seed mean on resampled images.
        seed_values: The value of each seed on the images as they are.
    """
    images = variance(resamples.tolist())
    if len(seed_values) == 1:
        return Spread(images, math.inf, IMAGES)
    seeds = variance(seed_values) / len(seed_values)
    total = images + seeds
    degrees = math.inf if seeds == 0.0 else (len(seed_values) - 1) * (total / seeds) * (total / seeds)
    return Spread(total, degrees, IMAGES_AND_SEEDS)


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


def fraction_interval(value: float, known: Spread, fewest: int) -> tuple[float, float]:
    """95 % interval of a share of images (accuracy, recall): Wilson's, for the images that its variance is worth.

    value (1 - value) / variance is how many independent images would vary as much; Student's bound takes the normal
    one's place. A value of 0 or 1 that no resample moves is taken as seen on `fewest` images; a value between them that
    nothing moves (constant scores) is what it is.

    Args:
        value: The mean over seeds.
        known: Its variance.
        fewest: Images of the smallest class that the value needs, or all of them for an accuracy.
    """
    product = value * (1.0 - value)
    if known.variance > 0.0 and product > 0.0:
        return wilson(value, product / known.variance, critical(known.degrees))
    return (value, value) if product > 0.0 else wilson(value, fewest, critical(known.degrees))


def area_interval(value: float, known: Spread, fewest: int) -> tuple[float, float]:
    """95 % interval of an AUC: Student's bound on the logit scale, so within [0, 1] and longer towards one half.

    Args as `fraction_interval`, which serves where the logit does not exist or nothing varies.
    """
    product = value * (1.0 - value)
    if known.variance == 0.0 or product == 0.0:
        return fraction_interval(value, known, fewest)
    half = critical(known.degrees) * math.sqrt(known.variance) / product
    middle = float(special.logit(value))
    return float(special.expit(middle - half)), float(special.expit(middle + half))


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
