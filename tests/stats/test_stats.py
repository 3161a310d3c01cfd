"""Statistics against hand-computed values and statsmodels; what must hold for any input."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.proportion import proportion_confint

from bench.stats import comparisons, intervals, power
from bench.stats.bootstrap import image_weights
from bench.stats.comparisons import PairingError
from bench.stats.intervals import StatsError
from bench.stats.uncertainty import Uncertainty, around


def test_resamples_draw_as_many_images_as_there_are() -> None:
    """Each resample has N images; within classes it keeps every class's number; a name always means the same draw."""
    labels = np.array([0] * 3 + [1] * 10 + [2])
    plain = image_weights(labels, "a", stratified=False, num_resamples=300)
    within = image_weights(labels, "a", stratified=True, num_resamples=300)
    assert (plain.sum(axis=1) == 14).all()
    assert (within[:, :3].sum(axis=1) == 3).all()
    assert (within[:, 3:13].sum(axis=1) == 10).all()
    assert (within[:, 13] == 1).all()
    assert (plain[:, 13] == 0).any()
    assert np.array_equal(plain, image_weights(labels, "a", stratified=False, num_resamples=300))
    assert not np.array_equal(plain, image_weights(labels, "b", stratified=False, num_resamples=300))
    assert abs(plain.std(axis=0).mean() - math.sqrt(13 / 14)) < 0.05  # multinomial: variance 1 - 1/N


def test_wilson_is_statsmodels_and_stays_inside() -> None:
    """Equal to the oracle; nothing of n ends at 0 and reaches z^2 / (n + z^2)."""
    for count, total in ((0, 10), (3, 10), (140, 156), (156, 156)):
        expected = proportion_confint(count, total, method="wilson")
        assert intervals.wilson(count / total, total) == pytest.approx(expected, abs=1e-12)
    square = 1.959963984540054**2
    assert intervals.wilson(0.0, 10) == pytest.approx((0.0, square / (10 + square)), abs=1e-12)
    with pytest.raises(StatsError, match="no interval"):
        intervals.wilson(86.5, 156)  # a percentage


def test_equivalence_needs_the_whole_90_percent_interval_inside() -> None:
    """Two one-sided tests: 1.645 errors from the margin, not 1.96; touching it is not inside."""
    found = around(0.003, Uncertainty(0.01**2))
    edge = 0.003 + 0.016448536269514722
    assert comparisons.is_equivalent(found, edge + 1e-9)
    assert not comparisons.is_equivalent(found, edge - 1e-9)


def test_a_perfect_pair_is_no_proof_of_equality() -> None:
    """Two AUCs of 1 that no resample moves: p 1, and as wide as the two intervals."""
    found = comparisons.end_to_end(0.0, (0.9, 1.0), (0.8, 1.0))
    assert (found.p, found.low, found.high) == (1.0, pytest.approx(-0.1), pytest.approx(0.2))
    assert not comparisons.is_equivalent(found, 0.02)
    assert comparisons.end_to_end(0.5, (0.92, 1.0), (0.5, 0.5)).p < 1e-9
    apart = comparisons.end_to_end(0.1, (0.9, 1.0), (0.7, 0.9))  # 0.3 wide: 0.1 is two thirds of 1.96 errors, 1.3066
    assert apart.p == pytest.approx(0.191334, abs=1e-6)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_statsmodels(only_first: int, only_second: int) -> None:
    """Equal to the exact oracle, and the same from both sides; six against none is 1/32."""
    expected = (
        statsmodels_mcnemar([[5, only_first], [only_second, 5]], exact=True).pvalue if only_first + only_second else 1.0
    )
    found = comparisons.mcnemar(np.array([only_first, only_second]), np.array([only_second, only_first]))
    assert found.tolist() == pytest.approx([expected, expected], abs=1e-12)
    assert comparisons.mcnemar(np.array([6]), np.array([0])).tolist() == [1 / 32]


def test_a_wrong_pairing_is_refused() -> None:
    """Another order, other images, another length: one clear line each."""
    labels = np.array([0, 1, 1, 0])
    comparisons.check_pairing(labels, labels.copy(), ("a", "b"))
    with pytest.raises(PairingError, match="labels of a and b differ at 2 of 4 test images, first at 0"):
        comparisons.check_pairing(labels, np.array([1, 0, 1, 0]), ("a", "b"))
    with pytest.raises(PairingError, match="a has 4 test images and b has 3"):
        comparisons.check_pairing(labels, labels[:3], ("a", "b"))


def test_the_threshold_is_youdens_and_the_lower_on_a_tie() -> None:
    """Scores .1 .4 | .4 .8: from .4 both positives and one alarm, from .8 one and none: a tie, so .4."""
    is_positive, scores = np.array([False, False, True, True]), np.array([0.1, 0.4, 0.4, 0.8])
    assert intervals.youden_threshold(is_positive, scores) == 0.4
    assert intervals.youden_threshold(is_positive, np.array([0.1, 0.4, 0.5, 0.8])) == 0.5
    assert intervals.youden_threshold(is_positive, np.full(4, 0.3)) == 0.3  # constant scores call everything positive
    assert math.isnan(intervals.youden_threshold(np.ones(4, dtype=bool), scores))


@given(st.integers(1, 60), st.integers(1, 5), st.integers(2, 4), st.data())
def test_reachable_is_what_counting_finds(num_images: int, runs: int, decimals: int, data: st.DataObject) -> None:
    """Every count of right images, rounded half up and half down, and nothing else."""
    unit = Fraction(1, 10**decimals)
    printed = Fraction(data.draw(st.integers(0, 10**decimals)), 10**decimals)
    means = [Fraction(count, num_images * runs) for count in range(num_images * runs + 1)]
    expected = any(abs(mean - printed) <= unit / 2 for mean in means)
    assert power.reachable(float(printed), decimals, num_images, runs) == expected


def test_reachable_by_hand() -> None:
    """156 images: 86.5 % is 135 of them; 86.3 % needs three runs (404 of 468); 85.4 % as 85.40 needs more digits."""
    assert power.reachable_runs(0.865, 3, 156) == [1, 2, 3, 4, 5]
    assert power.reachable_runs(0.863, 3, 156)[0] == 3
    assert power.reachable(0.9, 3, 10, 1)
    for value, decimals in ((0.8654, 3), (86.5, 3)):
        with pytest.raises(StatsError, match="no printed accuracy"):
            power.reachable(value, decimals, 156, 1)


def test_what_a_test_set_can_show() -> None:
    """156 images around 0.9 have a half-width of about 4.8 points; scans widen by the design effect."""
    low, high = proportion_confint(0.9 * 156, 156, method="wilson")
    assert power.accuracy_half_width(0.9, 156) == pytest.approx((high - low) / 2)
    assert abs(power.accuracy_half_width(0.9, 156) - 0.048) < 0.001
    error = power.accuracy_error(0.9, 156)
    assert error == pytest.approx(0.3 / math.sqrt(156))
    assert power.design_effect(8216, 70, 0.0) == 1.0
    assert power.design_effect(140, 70, 1.0) == 2.0


def test_hanley_mcneil_by_hand() -> None:
    """Around one half it is Mann and Whitney's variance (m + n + 1) / 12 m n; a mean of K areas errs sqrt(K) less."""
    assert power.auc_error(0.5, [42, 114], "binary-class") == pytest.approx(math.sqrt(157 / (12 * 42 * 114)))
    three = power.auc_error(0.5, [10, 10, 10], "multi-class")
    assert three == pytest.approx(math.sqrt(31 / (12 * 10 * 20)) / math.sqrt(3))
    with pytest.raises(StatsError, match="have no AUC"):
        power.auc_error(0.9, [5, 0], "binary-class")
