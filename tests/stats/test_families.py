"""Many comparisons: by hand, against statsmodels, and what the corrections promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr
from statsmodels.stats.multitest import multipletests

from bench.errors import ShapeError
from bench.stats.families import discoveries, may_be_best, one_sided, single_step, step_down
from bench.stats.intervals import StatsError

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(P_VALUES, st.floats(0, 1))
def test_a_later_comparison_turns_no_single_step_verdict(p_values: list[float], later: float) -> None:
    """With the plan's size, what is there keeps its adjusted p, which statsmodels' Bonferroni gives too."""
    size = len(p_values) + 1
    before, after = single_step(p_values, size), single_step([*p_values, later], size)
    assert after[:-1] == before
    assert after == pytest.approx(multipletests([*p_values, later], method="bonferroni")[1].tolist(), abs=1e-15)
    with pytest.raises(StatsError, match="in a family of"):
        single_step([*p_values, later], len(p_values))


@settings(max_examples=20, deadline=None)
@given(P_VALUES)
def test_discoveries_are_statsmodels(p_values: list[float]) -> None:
    """As many as statsmodels' Benjamini-Hochberg keeps, the seen and the expected counted beside them."""
    found = discoveries(p_values)
    assert found.kept == int((multipletests(p_values, method="fdr_bh")[1] < 0.05).sum())
    assert (found.tests, found.seen) == (len(p_values), sum(p < 0.05 for p in p_values))
    assert found.expected == pytest.approx(0.05 * len(p_values))
    assert discoveries([]).kept == 0


def test_who_may_be_best_by_hand() -> None:
    """Three models, a bar of 0.025: one leaves whom any other beats; a one-seed model excludes nobody; NaN neither."""
    lower = np.array([[np.nan, 0.6, 0.99], [0.4, np.nan, 0.9], [0.01, 0.1, np.nan]])
    assert may_be_best(lower).tolist() == [True, True, False]
    assert may_be_best(lower, np.array([False, True, True])).tolist() == [True, True, True]
    assert may_be_best(np.full((2, 2), np.nan)).tolist() == [True, True]
    assert may_be_best(np.zeros((1, 1))).tolist() == [True]
    assert (one_sided(0.04, 0.1), one_sided(0.04, -0.1)) == (0.98, 0.02)
    with pytest.raises(ShapeError, match="a row and a column"):
        may_be_best(np.zeros((2, 3)))


@pytest.mark.parametrize("gap", [0.0, 1.0, 2.0])
def test_the_set_holds_the_best(gap: float) -> None:
    """12 models, one the best by `gap` errors: it is in 95 % of 2,000 sets or more, to their noise; bad ones leave."""
    generator = np.random.default_rng(4)
    means = np.array([gap, *np.zeros(8), -6.0, -6.0, -6.0])
    kept, worst = 0, 0
    for _ in range(2000):
        values = means + generator.normal(size=12)
        z = (values[:, None] - values[None, :]) / np.sqrt(2)
        found = may_be_best(ndtr(z))
        kept, worst = kept + found[0], worst + found[-1]
    assert kept / 2000 >= 0.95 - 2 * np.sqrt(0.05 * 0.95 / 2000)
    assert worst / 2000 < 0.4


def test_false_statements_stay_rare() -> None:
    """20 comparisons without any difference, 3,000 times: a false one in at most 5 % of the families."""
    generator = np.random.default_rng(6)
    shared = generator.normal(size=(3000, 1))  # comparisons with one model in common depend on each other
    p_values = 2 * ndtr(-np.abs(0.7 * shared + np.sqrt(1 - 0.49) * generator.normal(size=(3000, 20))))
    false = np.mean([min(single_step(row.tolist(), 20)) < 0.05 for row in p_values])
    assert false <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 3000)


def test_holm_by_hand() -> None:
    """A family of 5 with three made: 0.01 x 5, 0.02 x 4, then 0.03 x 3 that cannot be below its forerunner's 0.08."""
    assert step_down([0.03, 0.01, 0.02], 5) == pytest.approx([0.09, 0.05, 0.08])
    assert step_down([0.02, 0.01], 5) == pytest.approx([0.08, 0.05])
    assert step_down([0.9, 0.01, 0.011], 3) == pytest.approx([0.9, 0.03, 0.03])
    assert step_down([], 3) == []
    with pytest.raises(StatsError):
        step_down([0.1, 0.2], 1)
