"""Intervals, paired tests and operating points: numbers in, numbers out. No files, no torch.

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
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bench.errors import BenchError

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
LEVEL = 0.05
EQUIVALENCE_MARGIN = 0.02  # a fraction, of AUC and of accuracy; `results/ANALYSIS_PLAN.md` fixes it
IMAGES, IMAGES_AND_SEEDS = "images", "images and seeds"


class StatsError(BenchError, ValueError):
    """Numbers that no statistic can be made of."""


class PairingError(BenchError, ValueError):
    """Two runs whose images are not the same in the same order."""


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


def fraction_interval(value: float, found: Spread, fewest: int) -> tuple[float, float]:
    """95 % interval of a share of images (accuracy, recall): Wilson's, for the images that its variance is worth.

    value (1 - value) / variance is how many independent images would vary as much; Student's bound takes the normal
    one's place. A value of 0 or 1 that no resample moves is taken as seen on `fewest` images; a value between them that
    nothing moves (constant scores) is what it is.

    Args:
        value: The mean over seeds.
        found: Its variance.
        fewest: Images of the smallest class that the value needs, or all of them for an accuracy.
    """
    product = value * (1.0 - value)
    if found.variance > 0.0 and product > 0.0:
        return wilson(value, product / found.variance, critical(found.degrees))
    return (value, value) if product > 0.0 else wilson(value, fewest, critical(found.degrees))


def area_interval(value: float, found: Spread, fewest: int) -> tuple[float, float]:
    """95 % interval of an AUC: Student's bound on the logit scale, so within [0, 1] and longer towards one half.

    Args as `fraction_interval`, which serves where the logit does not exist or nothing varies.
    """
    product = value * (1.0 - value)
    if found.variance == 0.0 or product == 0.0:
        return fraction_interval(value, found, fewest)
    half = critical(found.degrees) * math.sqrt(found.variance) / product
    middle = float(special.logit(value))
    return float(special.expit(middle - half)), float(special.expit(middle + half))


def plain_interval(value: float, found: Spread, floor: float, ceiling: float) -> tuple[float, float]:
    """95 % interval of anything else: Student's bound times the standard error, cut at the ends of the range."""
    half = critical(found.degrees) * math.sqrt(found.variance)
    return max(floor, value - half), min(ceiling, value + half)


def paired_difference(resamples: Floats, seed_differences: Sequence[float]) -> Difference:
    """A difference of two models, mean over common seeds, on the same images.

    The p-value is Student's, two-sided, from the bootstrap's standard error: a count of resamples could not go below
    one in B, which a correction for many comparisons would never let pass.

    Args:
        resamples: (B,) first model's seed mean less the second's, both on the same resampled images.
        seed_differences: First less second, of each common seed on the images as they are.
    """
    value = mean(seed_differences)
    found = spread(resamples, seed_differences)
    error = math.sqrt(found.variance)
    half, narrow = (critical(found.degrees, confidence) * error for confidence in (CONFIDENCE, 1 - 2 * LEVEL))
    if error == 0.0:
        p = 1.0 if value == 0.0 else 0.0
    else:
        size = abs(value) / error
        p = 2 * float(special.ndtr(-size) if math.isinf(found.degrees) else special.stdtr(found.degrees, -size))
    ends = [max(-1.0, min(1.0, value + side)) for side in (-half, half, -narrow, narrow)]
    return Difference(value, ends[0], ends[1], p, ends[2], ends[3])


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


def is_equivalent(found: Difference, margin: float) -> bool:
    """Two one-sided tests at 5 %: the 90 % interval lies strictly inside the margin."""
    return is_inside(found.low_90, found.high_90, margin)


def holm(p_values: Sequence[float], family_size: int | None = None) -> list[float]:
    """Holm's adjusted p-values, in the order given.

    Args:
        p_values: Of the comparisons that were made.
        family_size: How many were planned; those not made count as p = 1. By default as many as were made.

    Raises:
        StatsError: If more were made than planned, or a value is no probability.
    """
    size = len(p_values) if family_size is None else family_size
    if size < len(p_values) or not all(0.0 <= p <= 1.0 for p in p_values):
        raise StatsError(f"{len(p_values)} p-values in a family of {size}; all are in [0, 1] and of the family")
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        highest = max(highest, min(1.0, (size - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


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
    found = positives - np.searchsorted(np.sort(scores[is_positive]), candidates, side="left")
    alarms = negatives - np.searchsorted(np.sort(scores[~is_positive]), candidates, side="left")
    return float(candidates[np.argmax(found * negatives - alarms * positives)])  # whole numbers: ties are ties
