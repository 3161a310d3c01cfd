"""What a test set and a comparison can show, and what a printed score can be: numbers in, numbers out. No files.

The rule asks for p below 5 % after a correction, with seeds counted; a resolution without either is of another rule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from bench.stats.intervals import LEVEL, Floats, StatsError, wilson
from bench.stats.uncertainty import Uncertainty

POWER = 0.8
MAX_RUNS = 5


def accuracy_half_width(reference: float, num_images: int) -> float:
    """Half of Wilson's 95 % interval of an accuracy."""
    low, high = wilson(reference, num_images)
    return (high - low) / 2


def accuracy_error(reference: float, num_images: int) -> float:
    """Standard error of an accuracy: binomial."""
    return math.sqrt(reference * (1 - reference) / num_images)


def auc_error(reference: float, class_counts: Sequence[int], task: str) -> float:
    """Standard error of an AUC by Hanley and McNeil (1982).

    Args:
        reference: The AUC of every class against the rest.
        class_counts: Test images of each class, all at least 1.
        task: `binary-class` has one area; else the error of a mean over classes taken as independent, which makes it
            a lower bound where their areas move together.

    Raises:
        StatsError: If a class has no image.
    """
    total = sum(class_counts)
    if min(class_counts) < 1 or len(class_counts) < 2:
        raise StatsError(f"classes of {list(class_counts)} images have no AUC; each needs at least one, and a rest")
    counts = class_counts[-1:] if task == "binary-class" else class_counts
    variances = [_hanley_mcneil(reference, count, total - count) for count in counts]
    return math.sqrt(math.fsum(variances)) / len(counts)


def _hanley_mcneil(area: float, positives: int, negatives: int) -> float:
    two_positives = area / (2 - area) - area**2
    two_negatives = 2 * area**2 / (1 + area) - area**2
    rest = (positives - 1) * two_positives + (negatives - 1) * two_negatives
    return (area * (1 - area) + rest) / (positives * negatives)


def design_effect(num_images: int, num_scans: int, intraclass: float) -> float:
    """How much larger a variance is where images come in scans: 1 + (images a scan - 1) x intraclass correlation."""
    return 1 + (num_images / num_scans - 1) * intraclass


def reachable(value: float, decimals: int, num_images: int, runs: int) -> bool:
    """Whether a printed accuracy can be the rounded mean of `runs` runs on `num_images` images.

    A mean is a whole count over runs x images. Halves may have been rounded either way. Exact, in fractions.

    Args:
        value: As printed, a fraction.
        decimals: Digits printed after the point, of the fraction (3 for 86.5 %).
        num_images: Test images.
        runs: How many runs were averaged.

    Raises:
        StatsError: If the value has more digits than `decimals`, or is no fraction.
    """
    printed, unit = Fraction(repr(float(value))), Fraction(1, 10**decimals)
    if (printed / unit).denominator != 1 or not 0 <= printed <= 1 or num_images < 1 or runs < 1:
        given = f"{value} with {decimals} decimals on {num_images} images in {runs} runs"
        raise StatsError(f"{given} is no printed accuracy; a fraction with no more digits than that would be")
    total = num_images * runs
    lowest = max(0, math.ceil((printed - unit / 2) * total))
    return lowest <= min(total, math.floor((printed + unit / 2) * total))


def reachable_runs(value: float, decimals: int, num_images: int) -> list[int]:
    """Which numbers of averaged runs, 1 to `MAX_RUNS`, can give a printed accuracy."""
    return [runs for runs in range(1, MAX_RUNS + 1) if reachable(value, decimals, num_images, runs)]


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
