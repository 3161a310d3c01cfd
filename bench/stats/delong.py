"""AUC and average precision without resampling: variances, and covariances on the same images. No files.

Every measure here is, to first order, a sum of one number an image: its influence. Images are drawn within classes,
so a variance is the sum over classes of what influences vary within the class, and one matrix of influences gives
every variance, every covariance and every paired difference of the runs on a test set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from bench.errors import ShapeError
from bench.stats.intervals import Floats, StatsError

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Influence:
    """What each image adds to a measure of each run.

    Attributes:
        values: (R,) the measure of each run.
        parts: (R, N) whose sum over images is the measure.
        strata: (N,) in which group each image was drawn: its class, or 0 where images are drawn from all.
    """

    values: Floats
    parts: Floats
    strata: Labels

    def covariance(self) -> Floats:
        """(R, R) covariance of the runs' measures over test images, the trained weights being what they are.

        Raises:
            StatsError: If a stratum has one image, whose variance nothing tells.
        """
        centred = np.empty_like(self.parts)
        for stratum in np.unique(self.strata):
            members = self.strata == stratum
            count = int(members.sum())
            if count < 2:
                raise StatsError(f"class {stratum} has one image, which has no variance; two would")
            own = self.parts[:, members]
            centred[:, members] = math.sqrt(count / (count - 1)) * (own - own.mean(axis=1, keepdims=True))
        found: Floats = centred @ centred.T
        return found

    def degrees(self) -> float:
        """How well the variance over images of the runs' mean is known: as that of so many normal values.

        Satterthwaite's: twice the squared variance over the variance of the variance, from fourth powers. Few where a
        few images carry most of the variance; at least 1; infinite where nothing varies.
        """
        mean = self.parts.mean(axis=0)
        squares, noise = 0.0, 0.0
        for stratum in np.unique(self.strata):
            members = mean[self.strata == stratum]
            powers = (members - members.mean()) ** 2
            squares += float(powers.sum())
            noise += float((powers**2).sum() - powers.sum() ** 2 / len(members))
        return max(1.0, 2 * squares**2 / noise) if noise > 0.0 else math.inf


def auc_influence(labels: NDArray[Any], scores: Floats, task: str) -> Influence:
    """DeLong's structural components (DeLong, DeLong and Clarke-Pearson 1988) by midranks, in O(N log N) a column.

    An image's component is the share of the other class that it wins against, a tie counting one half (Sun and Xu
    2014). The macro AUC of `bench.stats.metrics.auc` is a mean of one-vs-rest areas, so an image's influences on them
    are averaged before anything is squared: the areas' own covariances are in. With two classes that is DeLong's
    estimator to the digit.

    Args:
        labels: (N,) class indices in [0, K), every class at least once.
        scores: (R, N, K) of R runs on the same images.
        task: `binary-class` takes the last column alone; else the unweighted mean over classes.

    Raises:
        ShapeError: If the shapes disagree.
        StatsError: If a class has no image.
    """
    truth = np.asarray(labels, dtype=np.int64)
    if scores.ndim != 3 or truth.shape != scores.shape[1:2]:
        raise ShapeError(f"labels {truth.shape}, scores {scores.shape}; expected (N,) and (runs, N, classes)")
    num_classes = scores.shape[2]
    counts = np.bincount(truth, minlength=num_classes)
    if counts.min() == 0 or len(counts) != num_classes or num_classes < 2:
        raise StatsError(f"classes of {counts.tolist()} images have no AUC; each of {num_classes} needs at least one")
    chosen = [num_classes - 1] if task == "binary-class" else list(range(num_classes))
    parts, values = np.zeros(scores.shape[:2]), np.zeros(len(scores))
    for k in chosen:
        is_hit = truth == k
        hits, rest = _components(is_hit, scores[:, :, k])
        area = hits.mean(axis=1)
        values += area / len(chosen)
        # Half of the area is every image's of the class, half the rest's: each part varies as its component does.
        parts[:, is_hit] += (hits - area[:, None] / 2) / (hits.shape[1] * len(chosen))
        parts[:, ~is_hit] += (rest - area[:, None] / 2) / (rest.shape[1] * len(chosen))
    return Influence(values, parts, truth)


def _components(is_hit: NDArray[np.bool_], column: Floats) -> tuple[Floats, Floats]:
    """(R, hits) share of the rest below each hit, and (R, rest) share of the hits above each of the rest."""
    num_hits, num_rest = int(is_hit.sum()), int((~is_hit).sum())
    ranks = rankdata(column, axis=1)
    hits = (ranks[:, is_hit] - rankdata(column[:, is_hit], axis=1)) / num_rest
    rest = 1.0 - (ranks[:, ~is_hit] - rankdata(column[:, ~is_hit], axis=1)) / num_hits
    return hits, rest


def mean_influence(image_values: NDArray[Any]) -> Influence:
    """The influence of a mean over images (accuracy, Brier score, likelihood): its multinomial variance, exactly.

    Args:
        image_values: (R, N) one value an image: right or wrong, or a loss. Images are drawn from all.
    """
    exact = np.asarray(image_values, dtype=np.float64)
    num_images = exact.shape[1]
    return Influence(exact.mean(axis=1), exact / num_images, np.zeros(num_images, dtype=np.int64))


def precision_influence(labels: NDArray[Any], scores: Floats) -> Influence:
    """The influence of `pr_auc`, the mean over classes of the average precision, by its derivative in O(N log N).

    With a weight for each image a class's average precision is a ratio of weighted sums; an image's influence is the
    derivative by its weight (the infinitesimal jackknife). Precision depends on how many images are of the class, so
    images are drawn from all, as for an accuracy.

    Args:
        labels: (N,) class indices in [0, K), every class at least once.
        scores: (R, N, K) of R runs on the same images.
    """
    num_runs, num_images, num_classes = scores.shape
    parts, values = np.zeros((num_runs, num_images)), np.zeros(num_runs)
    for k in range(num_classes):
        derivatives, precisions = _precision_derivatives(np.asarray(labels) == k, scores[:, :, k])
        parts += derivatives / num_classes
        values += precisions / num_classes
    return Influence(values, parts + values[:, None] / num_images, np.zeros(num_images, dtype=np.int64))


def _precision_derivatives(is_hit: NDArray[np.bool_], column: Floats) -> tuple[Floats, Floats]:
    """(R, N) derivative of the average precision by each image's weight, and (R,) the average precision.

    An image moves its own precision, if it is a hit, and that of every hit below it: as one more hit it raises them,
    as one more of the rest it lowers them.
    """
    num_images, num_hits = len(is_hit), int(is_hit.sum())
    order = np.argsort(-column, axis=1, kind="stable")
    ordered, hits, rank = np.take_along_axis(column, order, axis=1), is_hit[order], np.arange(num_images)
    starts = np.ones(column.shape, dtype=np.bool_)
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    ends = np.ones(column.shape, dtype=np.bool_)
    ends[:, :-1] = starts[:, 1:]
    first = np.maximum.accumulate(np.where(starts, rank, 0), axis=1)
    last = np.minimum.accumulate(np.where(ends, rank, num_images)[:, ::-1], axis=1)[:, ::-1]
    above = np.take_along_axis(np.cumsum(hits, axis=1), last, axis=1)  # hits down to an image, ties included
    total = last + 1.0
    precision = above / total
    average = np.sum(precision, axis=1, where=hits) / num_hits
    raised, lowered = (np.where(hits, gain / total**2, 0.0) for gain in (total - above, above))
    below = [np.take_along_axis(np.cumsum(g[:, ::-1], axis=1)[:, ::-1], first, axis=1) for g in (raised, lowered)]
    moved = np.where(hits, precision - average[:, None] + below[0], -below[1]) / num_hits
    derivatives = np.empty_like(moved)
    np.put_along_axis(derivatives, order, moved, axis=1)
    return derivatives, average
