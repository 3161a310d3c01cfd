"""Exploratory: how probable it is that one model is higher, or that two hardly differ. No files.

With a flat prior the posterior of a difference is its estimate and the reference distribution of
`bench.stats.uncertainty`, read the other way round. It decides nothing; it tells a difference that may be large from
one that is surely small, which "not separated" does not.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.stats.intervals import StatsError
from bench.stats.uncertainty import Uncertainty


@dataclass(frozen=True)
class Rope:
    """Posterior probabilities around a region of practical equivalence; they sum to 1.

    Attributes:
        lower: Of a difference below minus the margin.
        inside: Between.
        higher: Above the margin.
    """

    lower: float
    inside: float
    higher: float


def probability_higher(value: float, found: Uncertainty) -> float:
    """P(A > B): the posterior probability that the true difference is above 0.

    Args:
        value: A's mean less B's.
        found: Of that difference. With the error of two single runs on new images in its place, it is the probability
            that a run of A beats a run of B (Bouthillier and others 2021).
    """
    return _above(value, found)


def rope(value: float, found: Uncertainty, margin: float) -> Rope:
    """Probabilities that the true difference is below, within and above a margin (Benavoli and others 2017).

    Args:
        value: The measured difference.
        found: Of it.
        margin: Half the width of the region, a fraction above 0.

    Raises:
        StatsError: If the margin is not above 0.
    """
    if margin <= 0.0:
        raise StatsError(f"a margin of {margin} has no inside; one above 0 would")
    higher, lower = _above(value - margin, found), _above(-value - margin, found)
    return Rope(lower, max(0.0, 1 - lower - higher), higher)


def _above(value: float, found: Uncertainty) -> float:
    """Posterior probability of a quantity above 0 whose estimate is `value`; one half where nothing varies around 0."""
    half = found.tail(value) / 2
    return 1 - half if value > 0 else half
