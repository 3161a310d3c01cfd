"""Shares of images against statsmodels and against likelihoods maximised by search."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from statsmodels.stats.contingency_tables import mcnemar

from bench.stats.intervals import StatsError
from bench.stats.proportions import paired_shares, tango_interval


def profile_score(only_first: int, only_second: int, total: int, difference: float) -> float:
    """The score statistic with the nuisance share found by search on the likelihood instead of by a formula."""
    agree = total - only_first - only_second

    def loss(second: float) -> float:
        shares = (second + difference, second, 1 - 2 * second - difference)
        counts = (only_first, only_second, agree)
        if min(shares) < 0 or any(share <= 0 < count for share, count in zip(shares, counts, strict=True)):
            return 1e9
        return -sum(count * math.log(share) for share, count in zip(shares, counts, strict=True) if count)

    low, high = max(0.0, -difference), (1 - difference) / 2
    second = optimize.minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
    variance = total * (2 * second + difference - difference**2)
    return (only_first - only_second - total * difference) / math.sqrt(variance)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 15), st.integers(0, 15), st.integers(1, 120))
def test_tangos_ends_are_where_the_score_test_just_rejects(only_first: int, only_second: int, agree: int) -> None:
    """At each end the statistic, its nuisance share found by search, is 1.96; swapping the models mirrors the ends."""
    total = only_first + only_second + agree
    low, high = tango_interval(only_first, only_second, total)
    assert -1 <= low <= (only_first - only_second) / total <= high <= 1
    assert profile_score(only_first, only_second, total, low) == pytest.approx(1.959964, abs=2e-3)
    assert profile_score(only_first, only_second, total, high) == pytest.approx(-1.959964, abs=2e-3)
    mirrored = tango_interval(only_second, only_first, total)
    assert mirrored == pytest.approx((-high, -low), abs=1e-9)


@given(st.integers(0, 40), st.integers(0, 40))
def test_tango_leaves_out_0_where_mcnemar_without_correction_rejects(only_first: int, only_second: int) -> None:
    """The score test of no difference is McNemar's: statsmodels' p below 5 % and an interval off 0 come together."""
    if only_first + only_second == 0:
        return
    p = mcnemar([[30, only_first], [only_second, 30]], exact=False, correction=False).pvalue
    low, high = tango_interval(only_first, only_second, 60 + only_first + only_second)
    assert (low > 0 or high < 0) == (p < 0.05)


def test_no_discordant_image_still_has_a_width() -> None:
    """None of 156: 1.96 squared over 156 + 1.96 squared on either side, and p 1; all discordant reaches the end."""
    found = paired_shares(0, 0, 156)
    square = 1.959963984540054**2
    assert (found.low, found.high) == pytest.approx((-square / (156 + square), square / (156 + square)))
    assert (found.value, found.p) == (0.0, 1.0)
    assert tango_interval(5, 0, 5)[1] == 1.0


def test_paired_shares_by_hand() -> None:
    """Six against none of 100: exact p 1/32, a 90 % interval inside the 95 % one."""
    found = paired_shares(6, 0, 100)
    assert (found.value, found.p) == (0.06, 1 / 32)
    assert found.low < found.low_90 < 0.06 < found.high_90 < found.high
    with pytest.raises(StatsError, match="6 and 5 discordant images of 10"):
        paired_shares(6, 5, 10)


@pytest.mark.parametrize(("first", "second"), [(0.05, 0.05), (0.15, 0.05), (0.02, 0.02)])
def test_tango_covers_as_often_as_it_says_and_the_exact_test_keeps_its_level(first: float, second: float) -> None:
    """Every outcome of 156 images with its probability: 93 to 97.5 % covered; a false difference at most 5 %."""
    generator = np.random.default_rng(11)
    draws = generator.multinomial(156, [first, second, 1 - first - second], size=1500)
    tables, counts = np.unique(draws[:, :2], axis=0, return_counts=True)
    found = [paired_shares(int(one), int(other), 156) for one, other in tables]
    covered = sum(n for f, n in zip(found, counts, strict=True) if f.low <= first - second <= f.high)
    assert 0.93 <= covered / 1500 <= 0.975
    if first == second:
        assert sum(n for f, n in zip(found, counts, strict=True) if f.p < 0.05) / 1500 <= 0.05 + 0.011
