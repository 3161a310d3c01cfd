"""What a score loses when chosen images are left out, beside what it loses by leaving out any others. No files.

Test images that resemble training images are not a random part of a test set: most may be of one class. So the score of
the others is compared with what is left on average when as many images of each class are removed at random. The
difference is a sum of one number an image, as all measures of `bench.stats.delong` are, and its variance over images is
the variance over random removals wherever the chosen images are like the others of their class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.stats.delong import Influence, Labels, auc_influence
from bench.stats.intervals import Floats, StatsError

Bools = NDArray[np.bool_]

CURVE_METRICS = ("auc", "acc")


@dataclass(frozen=True)
class Removal:
    """The scores of some runs without chosen images.

    Attributes:
        left: (R,) on the other images.
        drop: By how much that is below the mean over random removals of as many images of each class.
        error: Standard deviation over such removals of the runs' mean score.
    """

    left: Floats
    drop: Influence
    error: float


def area_removal(labels: NDArray[Any], scores: Floats, kept: Bools, task: str) -> Removal:
    """By AUC, whose mean over random removals within classes is that of all images.

    Args:
        labels: (N,) class indices in [0, K), every class among the kept images.
        scores: (R, N, K) of R runs on the same images.
        kept: (N,) which images are not removed.
        task: As `auc_influence`.

    Raises:
        StatsError: If no image of a class is kept.
    """
    whole = auc_influence(labels, scores, task)
    part = auc_influence(labels[kept], scores[:, kept], task)
    return _removal(whole, part.values, part.parts, kept)


def share_removal(labels: NDArray[Any], right: NDArray[Any], kept: Bools) -> Removal:
    """By accuracy: of the classes as they are mixed in the kept images.

    Args:
        labels: (N,) class indices.
        right: (R, N) whether each image is predicted right.
        kept: (N,) which images are not removed, at least one.
    """
    truth, exact = np.asarray(labels, dtype=np.int64), np.asarray(right, dtype=np.float64)
    num_all = np.bincount(truth)
    num_kept = np.bincount(truth[kept], minlength=len(num_all))
    parts = exact * (num_kept / np.maximum(num_all, 1) / num_kept.sum())[truth]
    whole = Influence(parts.sum(axis=1), parts, truth)
    left = exact[:, kept] / num_kept.sum()
    return _removal(whole, left.sum(axis=1), left, kept)


def _removal(whole: Influence, left: Floats, parts: Floats, kept: Bools) -> Removal:
    """From the influences on the score of all images and on that of the kept ones, (R, n)."""
    truth, drop = whole.strata, whole.parts.copy()
    drop[:, kept] -= _centred(parts, truth[kept])
    drop -= left[:, None] / len(truth)  # the centred part sums to 0, and the whole to the difference
    return Removal(left, Influence(whole.values - left, drop, truth), _removal_error(whole, kept))


def _centred(parts: Floats, strata: Labels) -> Floats:
    centred = parts.copy()
    for stratum in np.unique(strata):
        members = strata == stratum
        centred[:, members] -= centred[:, members].mean(axis=1, keepdims=True)
    return centred


def _removal_error(whole: Influence, kept: Bools) -> float:
    """Sampling without replacement from a class: its variance by 1 / kept - 1 / all; NaN where nothing tells it."""
    mean, variance = whole.parts.mean(axis=0), 0.0
    for stratum in np.unique(whole.strata):
        members = whole.strata == stratum
        num_all, num_kept = int(members.sum()), int((members & kept).sum())
        if num_kept in (0, num_all):
            continue
        spread = num_all**2 * float(mean[members].var(ddof=1))
        variance += spread * (1 / num_kept - 1 / num_all)
    return math.sqrt(variance)


@dataclass(frozen=True)
class Curve:
    """Removals of ever more images, by `CURVE_METRICS`; NaN where a class is lost.

    Attributes:
        left: (2, T, R) as `Removal.left`.
        drop: (2, T, R) values of `Removal.drop`.
        covariance: (2, T, R, R) its covariance over images.
        error: (2, T) as `Removal.error`.
    """

    left: Floats
    drop: Floats
    covariance: Floats
    error: Floats


def removal_curve(
    labels: NDArray[Any], probs: Floats, right: NDArray[Any], similarity: Floats, thresholds: Sequence[float], task: str
) -> Curve:
    """The scores without the images that are at least as similar to others as each threshold.

    Args:
        labels: (N,) class indices in [0, K).
        probs: (R, N, K) of R runs on the same images.
        right: (R, N) whether each image is predicted right.
        similarity: (N,) of each image.
        thresholds: T of them.
        task: As `auc_influence`.
    """
    truth = np.asarray(labels, dtype=np.int64)
    runs, count = len(probs), len(thresholds)
    shapes = ((2, count, runs), (2, count, runs), (2, count, runs, runs), (2, count))
    curve = Curve(*(np.full(shape, np.nan) for shape in shapes))
    last = np.zeros(0, dtype=np.bool_)
    for place, threshold in enumerate(thresholds):
        kept = similarity < threshold
        if np.array_equal(kept, last):
            for values in (curve.left, curve.drop, curve.covariance, curve.error):
                values[:, place] = values[:, place - 1]
            continue
        last = kept
        for metric in range(len(CURVE_METRICS)):
            try:
                found = share_removal(truth, right, kept) if metric else area_removal(truth, probs, kept, task)
                covariance = found.drop.covariance()
            except StatsError:  # a class without an image, or with one
                continue
            curve.left[metric, place], curve.drop[metric, place] = found.left, found.drop.values
            curve.covariance[metric, place], curve.error[metric, place] = covariance, found.error
    return curve
