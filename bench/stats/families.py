"""Many comparisons: families, false discoveries, and the set that holds the best. No files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from bench.errors import ShapeError
from bench.stats.intervals import LEVEL, Floats, StatsError

Bools = NDArray[np.bool_]


def single_step(p_values: Sequence[float], size: int) -> list[float]:
    """Bonferroni's adjusted p-values: a comparison's verdict rests on its own p and on the plan, on nothing else.

    Holm's is never stricter, but steps down: a small p that comes later lets the others pass at a lower bar. Where a
    plan promises that later runs turn no earlier verdict, this is the rule that keeps it.

    Args:
        p_values: Of the comparisons that were made.
        size: How many were planned.

    Raises:
        StatsError: If more were made than planned.
    """
    _check_size(p_values, size)
    return [min(1.0, size * p) for p in p_values]


def step_down(p_values: Sequence[float], size: int) -> list[float]:
    """Holm's adjusted p-values (1979), planned comparisons that were not made counting as p = 1.

    Args:
        p_values: Of the comparisons that were made.
        size: How many were planned.

    Raises:
        StatsError: If more were made than planned.
    """
    _check_size(p_values, size)
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate((size - np.arange(len(p))) * p[order]))
    return [float(p) for p in adjusted]


def _check_size(p_values: Sequence[float], size: int) -> None:
    if size < len(p_values):
        raise StatsError(f"{len(p_values)} p-values in a family of {size}; a family has at least as many as were made")


@dataclass(frozen=True)
class Discoveries:
    """What a page of uncorrected tests holds.

    Attributes:
        tests: How many.
        seen: With p below the level.
        expected: So many would be, were there no difference anywhere.
        kept: Below the level after Benjamini and Hochberg's correction: of these at most 5 % are false on average.
    """

    tests: int
    seen: int
    expected: float
    kept: int


def discoveries(p_values: Sequence[float], level: float = LEVEL) -> Discoveries:
    """Counts for a page of exploratory tests.

    Benjamini and Hochberg's correction (1995) keeps its promise for independent tests and for those that depend
    positively. Comparisons of one model with others on the same images do; all pairs of models need not.

    Args:
        p_values: Of every test on the page, each in [0, 1].
        level: Of the tests and of the false discoveries.
    """
    if not p_values:
        return Discoveries(0, 0, 0.0, 0)
    adjusted = false_discovery_control(np.asarray(p_values, dtype=np.float64))
    seen = sum(p < level for p in p_values)
    return Discoveries(len(p_values), seen, level * len(p_values), int((adjusted < level).sum()))


def may_be_best(lower: Floats, may_lead: Bools | None = None, level: float = LEVEL) -> Bools:
    """Which models may be the best: a set that holds it with probability at least 95 %.

    A model leaves if another is higher by a one-sided test at level / (others): multiple comparisons with the best
    (Hsu 1984; Gupta's subset selection), by Bonferroni. The set misses the truly best model only if one of the others
    beats it by chance, and those are that many tests, whichever model is the best: no correction over models is needed
    and none over the choice of a leader, for there is no leader. Tests against the model that happens to have the
    highest mean, with Holm's correction over them, take no account of that choice.

    Args:
        lower: (M, M) one-sided p-value that the row's model is not lower than the column's: small where the row is
            lower. NaN where two cannot be compared, which excludes nothing. The diagonal is not read.
        may_lead: (M,) whose results may exclude others, all by default. A model of one seed may stay and lead nothing.
        level: 1 - confidence.

    Returns:
        (M,) whether the model may be the best.

    Raises:
        ShapeError: If the matrix is not square.
    """
    count = len(lower)
    if lower.shape != (count, count):
        raise ShapeError(f"p-values of shape {lower.shape}; expected a row and a column for each model")
    leads = np.ones(count, dtype=np.bool_) if may_lead is None else may_lead
    against = np.where(leads & ~np.eye(count, dtype=np.bool_) & ~np.isnan(lower), lower, 1.0)
    others = np.maximum(1, leads.sum() - leads)
    found: Bools = against.min(axis=1, initial=1.0) * others >= level
    return found


def one_sided(p: float, difference: float) -> float:
    """The p-value that a model is not lower than another, of a two-sided one and the difference that it belongs to.

    Args:
        p: Two-sided, of a symmetric test.
        difference: The model's mean less the other's.
    """
    return p / 2 if difference < 0 else 1 - p / 2
