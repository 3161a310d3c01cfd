"""Two shares of the same images in closed form. No files."""

from __future__ import annotations

import math

import numpy as np
from scipy import optimize

from bench.stats.comparisons import Difference, mcnemar
from bench.stats.intervals import CONFIDENCE, LEVEL, StatsError, critical


def tango_interval(
    only_first: int, only_second: int, num_images: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Tango's (1998) score interval of the difference of two accuracies on the same images.

    It holds every difference that the score test would not reject: at 0 that is McNemar's test without continuity
    correction. It keeps its level with few discordant images, and gives a width where none is discordant.

    Args:
        only_first: Images that only the first model gets right.
        only_second: Only the second.
        num_images: All of them, those included on which the models agree.
        confidence: Two-sided.

    Returns:
        Low and high end of first less second, within [-1, 1].

    Raises:
        StatsError: If there are more discordant images than images.
    """
    if min(only_first, only_second) < 0 or only_first + only_second > num_images or num_images < 1:
        discordant = f"{only_first} and {only_second} discordant images of {num_images}"
        raise StatsError(f"{discordant} are no paired shares; together they are at most all of them")
    bound = critical(math.inf, confidence)
    value = (only_first - only_second) / num_images

    def excess(difference: float, sign: float) -> float:
        return _score(only_first, only_second, num_images, difference) - sign * bound

    ends = [-1.0, 1.0]
    for place, sign in ((0, 1.0), (1, -1.0)):
        outer = ends[place] * (1 - 1e-12)
        if abs(value) < 1.0 or value * ends[place] < 0:
            ends[place] = float(optimize.brentq(excess, outer, value, args=(sign,), xtol=1e-14))
    return ends[0], ends[1]


def _score(only_first: int, only_second: int, num_images: int, difference: float) -> float:
    """The score statistic of a difference: the likelihood is maximised under it, which is a quadratic equation."""
    distance = only_first - only_second - num_images * difference
    slope = (2 * num_images - only_first + only_second) * difference - only_first - only_second
    constant = -only_second * difference * (1 - difference)
    root = math.sqrt(max(0.0, slope * slope - 8 * num_images * constant))
    second = max(0.0, (root - slope) / (4 * num_images))
    variance = num_images * (2 * second + difference * (1 - difference))
    if variance <= 0.0:
        return 0.0 if distance == 0 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def paired_shares(only_first: int, only_second: int, num_images: int) -> Difference:
    """Two fixed sets of weights on the same images: Tango's intervals and McNemar's exact p.

    It says nothing about another training of either model; `bench.stats.uncertainty` does. The exact test keeps its
    level always and is the stricter of the two, so p >= 0.05 may stand beside an interval that just leaves 0 out.

    Args and errors as `tango_interval`.
    """
    low, high = tango_interval(only_first, only_second, num_images)
    low_90, high_90 = tango_interval(only_first, only_second, num_images, 1 - 2 * LEVEL)
    p = float(mcnemar(np.array([only_first]), np.array([only_second]))[0])
    return Difference((only_first - only_second) / num_images, low, high, p, low_90, high_90)
