"""Rare classes: what a score is worth at a prevalence that the test set does not have. Arrays -> floats, no files.

A test split of 42 positives in 156 images says what rates a model reaches; what they mean where one patient in a
hundred is ill follows from the rates and the prevalence. Thresholds come from val, never from the images that they are
judged on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.stats.intervals import Floats, StatsError

Bools = NDArray[np.bool_]

SENSITIVITY = 0.95  # that a screening threshold must reach on val
COST_RATIOS = (1, 10, 50)  # cost of a positive that is missed over that of a false alarm
TIE = 1e-12  # of two expected costs that rounding alone parts; unequal ones of some hundred images differ by 1e-9
FEWEST_POSITIVES = 5  # in train, below which a cell is declared undecidable before it is run


@dataclass(frozen=True)
class Rates:
    """Sensitivity and false positive rate at every threshold that changes them, the highest threshold first.

    Attributes:
        thresholds: (T,) an image counts as positive from its threshold upwards; the first is infinite: nobody does.
        sensitivity: (T,) rising from 0 to 1.
        false_positives: (T,) rate, rising from 0 to 1.
    """

    thresholds: Floats
    sensitivity: Floats
    false_positives: Floats


def rates(is_positive: Bools, scores: Floats) -> Rates:
    """The points of the ROC curve, equal scores together.

    Args:
        is_positive: (N,).
        scores: (N,) of the positive class, any scale.

    Raises:
        StatsError: If one of the two classes has no image.
    """
    positives, negatives = int(is_positive.sum()), int((~is_positive).sum())
    if not positives or not negatives:
        raise StatsError(f"{positives} positives and {negatives} negatives have no rates; one of each would")
    order = np.argsort(-scores, kind="stable")
    ordered, hits = scores[order], is_positive[order]
    ends = np.append(ordered[1:] != ordered[:-1], True)
    found, alarms = np.cumsum(hits)[ends], np.cumsum(~hits)[ends]
    return Rates(
        np.append(np.inf, ordered[ends]),
        np.append(0, found) / positives,
        np.append(0, alarms) / negatives,
    )


def precision_at(sensitivity: float, false_positives: float, prevalence: float) -> float:
    """Positive predictive value at a prevalence: pi TPR / (pi TPR + (1 - pi) FPR); of no alarm at all, 1."""
    caught, alarms = prevalence * sensitivity, (1.0 - prevalence) * false_positives
    return caught / (caught + alarms) if caught + alarms > 0.0 else 1.0


def average_precision(is_positive: Bools, scores: Floats, prevalence: float) -> float:
    """Average precision at a prevalence: the sum over thresholds of the step in sensitivity times the precision there.

    At the images' own prevalence it is `bench.stats.metrics`'s; scores that tell nothing give the prevalence.

    Args, errors as `rates`; prevalence in (0, 1).
    """
    points = rates(is_positive, scores)
    steps = np.diff(points.sensitivity).tolist()
    pairs = zip(points.sensitivity[1:].tolist(), points.false_positives[1:].tolist(), strict=True)
    return math.fsum(step * precision_at(*pair, prevalence) for step, pair in zip(steps, pairs, strict=True))


def screening_threshold(is_positive: Bools, scores: Floats) -> float:
    """The highest threshold at which `SENSITIVITY` of the positives are found; to be called on val.

    Args, errors as `rates`.
    """
    points = rates(is_positive, scores)
    return float(points.thresholds[int(np.argmax(points.sensitivity >= SENSITIVITY))])


def expected_cost(sensitivity: float, false_positives: float, prevalence: float, ratio: float) -> float:
    """Normalised expected cost: that of the decisions over that of the better of calling all alike.

    (pi c FNR + (1 - pi) FPR) / min(pi c, 1 - pi), c the cost of a missed positive in false alarms. 0 is perfect, 1 is
    worth nothing, and above 1 one should not ask the model.
    """
    missed, alarms = prevalence * ratio, 1.0 - prevalence
    return (missed * (1.0 - sensitivity) + alarms * false_positives) / min(missed, alarms)


def cost_threshold(is_positive: Bools, scores: Floats, prevalence: float, ratio: float) -> float:
    """The threshold of the lowest expected cost, the lowest such one; to be called on val.

    Args, errors as `rates`; prevalence and ratio as `expected_cost`.
    """
    points = rates(is_positive, scores)
    pairs = zip(points.sensitivity.tolist(), points.false_positives.tolist(), strict=True)
    costs = np.array([expected_cost(*pair, prevalence, ratio) for pair in pairs])
    return float(points.thresholds[np.flatnonzero(costs <= costs.min() + TIE)[-1]])


def rates_at(is_positive: Bools, scores: Floats, threshold: float) -> tuple[float, float]:
    """Sensitivity and false positive rate of the images at a threshold.

    Args, errors as `rates`.
    """
    points = rates(is_positive, scores)
    at = int(np.flatnonzero(points.thresholds >= threshold)[-1])
    return float(points.sensitivity[at]), float(points.false_positives[at])


def is_decidable(positives: int) -> bool:
    """Whether train has enough positives for a cell to say something of a model."""
    return positives >= FEWEST_POSITIVES
