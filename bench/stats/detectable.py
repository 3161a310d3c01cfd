"""What a comparison can find: from measured errors, for the rule that decides. No files.

The rule asks for p below 5 % after a correction, with seeds counted; a resolution without either is of another rule.
"""

from __future__ import annotations

import math

import numpy as np

from bench.stats.intervals import LEVEL, Floats, StatsError
from bench.stats.power import POWER
from bench.stats.uncertainty import Uncertainty


def smallest_detectable(found: Uncertainty, tests: int = 1, power: float = POWER) -> float:
    """The true difference that a two-sided test at 5 % over `tests` comparisons finds with a given power.

    The distance at which the test rejects, plus how far an estimate falls short of the truth with probability
    1 - power. With images alone that is (z of 1 - level / 2 tests, plus z of power) times the standard error.

    Args:
        found: Of the difference, seeds included where the rule includes them.
        tests: By how many the level is divided: 1 without correction, the family's size at Holm's first step.
        power: Above one half.

    Raises:
        StatsError: If there is no test, or the power is not in (0.5, 1).
    """
    if tests < 1 or not 0.5 < power < 1.0:
        raise StatsError(f"{tests} tests with a power of {power}; at least one test and a power in (0.5, 1) would do")
    return found.half_width(1 - LEVEL / tests) + found.half_width(2 * power - 1)


def power_at(difference: float, found: Uncertainty, tests: int = 1) -> float:
    """Probability that the test rejects where the true difference is `difference`; below 0.8, a run decides little.

    Args:
        difference: The true one.
        found: Of the difference as it would be measured, with the seeds that are planned.
        tests: As in `smallest_detectable`.
    """
    bar = found.half_width(1 - LEVEL / tests)
    return math.fsum(_beyond(found, bar - sign * difference) for sign in (1, -1))


def _beyond(found: Uncertainty, distance: float) -> float:
    """Probability that an estimate is too high by more than `distance`."""
    half = found.tail(distance) / 2
    return half if distance >= 0 else 1 - half


def errors_and_correlation(covariance: Floats, count: int) -> tuple[float, float, float]:
    """Standard errors over images of two cells' means, and the correlation between them, as measured.

    Args:
        covariance: (S + T, S + T) over images, of the first cell's seeds and then the second's.
        count: S.

    Returns:
        Both errors and the correlation; NaN where one of them does not vary.
    """
    sides = [np.arange(len(covariance)) < count, np.arange(len(covariance)) >= count]
    block = [[float(covariance[np.ix_(one, other)].mean()) for other in sides] for one in sides]
    first, second = math.sqrt(block[0][0]), math.sqrt(block[1][1])
    return first, second, block[0][1] / (first * second) if first * second else math.nan
