"""Seed variances and what is said with them: by hand, against Student, the normal distribution, and limma's model."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from bench.stats.intervals import StatsError, wilson
from bench.stats.power import errors_and_correlation, power_at, smallest_detectable
from bench.stats.seed_variance import FITTED, PRIOR_DEGREES, SeedVariance, moderated, seed_pool
from bench.stats.uncertainty import (
    Uncertainty,
    area_interval,
    difference,
    of_contrast,
    of_difference,
    of_mean,
    plain_interval,
    probability_higher,
    rope,
    share_interval,
    with_images,
)


@pytest.mark.parametrize("degrees", [1.0, 1.5, 2.0, 4.0, 20.0])
def test_seeds_alone_are_students_t(degrees: float) -> None:
    """Tails at up to ten errors and bounds as far out as 102 planned comparisons look, as scipy's t has them."""
    found = Uncertainty(0.0, (SeedVariance(0.04, degrees),))
    for distance in (0.0, 0.1, 0.5, 2.0):
        assert found.tail(distance) == pytest.approx(2 * stats.t.sf(distance / 0.2, degrees), rel=1e-10)
    for confidence in (0.9, 0.95, 1 - 0.05 / 102):
        assert found.half_width(confidence) == pytest.approx(0.2 * stats.t.ppf(0.5 + confidence / 2, degrees), rel=1e-9)


def test_images_alone_are_normal_and_nothing_is_nothing() -> None:
    """1.96 errors; fitted models add none; without any variance only a difference of 0 is no difference."""
    found = Uncertainty(0.01, (FITTED, FITTED))
    assert found.half_width() == pytest.approx(0.1959963984540054)
    assert found.tail(0.1959963984540054) == pytest.approx(0.05)
    nothing = Uncertainty(0.0, (FITTED,))
    assert (nothing.tail(0.0), nothing.tail(0.1), nothing.half_width()) == (1.0, 0.0, 0.0)


def test_between_them_the_reference_is_the_sum_of_both() -> None:
    """A normal image part plus Student's seed part of 3 degrees: the tail of 400,000 drawn sums, within their noise."""
    generator = np.random.default_rng(5)
    drawn = 0.3 * generator.normal(size=400_000) + 0.2 * generator.standard_t(3, size=400_000)
    found = Uncertainty(0.09, (SeedVariance(0.04, 3.0),))
    for distance in (0.5, 1.0, 2.0):
        share = float(np.mean(np.abs(drawn) > distance))
        assert found.tail(distance) == pytest.approx(share, abs=4 * math.sqrt(share / 400_000))


def test_images_crossed_with_seeds_by_hand() -> None:
    """Obuchowski and Rockette: two seeds' covariance is the image part, however many; the rest is the seeds'."""
    block = np.array([[5.0, 3.0, 3.0], [3.0, 5.0, 3.0], [3.0, 3.0, 5.0]])
    assert with_images(block) == pytest.approx(2.0)
    found = of_mean(block, SeedVariance(6.0, 4.0))
    assert found.images == pytest.approx(3.0)
    assert found.seeds == (SeedVariance(2.0, 4.0),)
    single = of_mean(np.array([[5.0]]), SeedVariance(6.0, 4.0, with_images=2.0))
    assert single.images == pytest.approx(3.0)
    assert of_mean(np.array([[5.0]]), FITTED).images == 5.0
    four = np.full((4, 4), 1.0)
    four[:3, :3] = block
    four[3, 3] = 4.0
    pair = of_difference(four, 3, (SeedVariance(6.0, 4.0), SeedVariance(1.0, 9.0, with_images=0.5)))
    assert pair.images == pytest.approx(3.0 + 3.5 - 2.0)
    assert pair.seeds == (SeedVariance(2.0, 4.0), SeedVariance(1.0, 9.0))
    with pytest.raises(StatsError, match="each side needs at least one"):
        of_difference(four, 4, (FITTED, FITTED))


@given(st.floats(0, 0.01), st.floats(0, 0.01), st.floats(1, 40), st.floats(-0.4, 0.4))
def test_differences_mirror_and_agree_with_their_intervals(
    images: float, seeds: float, degrees: float, value: float
) -> None:
    """First less second is second less first turned round, and p is below 5 % just where 0 is outside."""
    found = Uncertainty(images, (SeedVariance(seeds, degrees),))
    one, other = difference([0.5 + value], [0.5], found), difference([0.5], [0.5 + value], found)
    assert (one.value, one.low, one.high, one.p) == pytest.approx((-other.value, -other.high, -other.low, other.p))
    assert one.low <= one.low_90 <= one.value <= one.high_90 <= one.high
    if abs(one.p - 0.05) > 1e-6 and found.error > 0:
        assert (one.p < 0.05) == (one.low > 0 or one.high < 0)


def test_intervals_stay_in_range_and_use_the_seeds() -> None:
    """On the logit scale by hand; Wilson's with as many images as the variance is worth; at 1 that of 42 images."""
    found = Uncertainty(0.02**2)
    low, high = area_interval(0.9, found, 42)
    half = 1.959963984540054 * 0.02 / 0.09
    assert (special.logit(low), special.logit(high)) == pytest.approx((math.log(9) - half, math.log(9) + half))
    assert share_interval(0.9, Uncertainty(0.09 / 156), 156) == pytest.approx(wilson(0.9, 156))
    assert area_interval(1.0, Uncertainty(0.0), 42) == pytest.approx(wilson(1.0, 42))
    assert share_interval(0.5, Uncertainty(0.0), 42) == (0.5, 0.5)
    wide = area_interval(0.9, Uncertainty(0.02**2, (SeedVariance(0.02**2, 3.0),)), 42)
    assert 0 < wide[0] < low < high < wide[1] < 1


def test_a_pool_finds_what_it_was_drawn_from() -> None:
    """Eight pools of 400 cells around 0.04 with 4 degrees: on average the scale within 10 %, each 3 to 6 degrees."""
    pools = []
    for seed in range(8):
        generator = np.random.default_rng(seed)
        true = 4 * 0.04 / generator.chisquare(4, size=400)
        pools.append(seed_pool((true * generator.chisquare(2, size=400) / 2).tolist(), [2] * 400))
    assert np.mean([pool.variance for pool in pools]) == pytest.approx(0.04, rel=0.1)
    assert {pool.degrees for pool in pools} <= {3.0, 4.0, 6.0}
    assert (pools[0].total_degrees, pools[0].num_cells) == (800, 400)


def test_the_scale_is_where_the_likelihood_is_highest() -> None:
    """Of the F densities that scipy has, no scale nearby makes the cells likelier."""
    variances, degrees = [0.2, 1.0, 5.0, 0.4, 0.7], [2, 2, 4, 9, 1]
    pool = seed_pool(variances, degrees)

    def likelihood(scale: float) -> float:
        cells = zip(variances, degrees, strict=True)
        return sum(stats.f.logpdf(v / scale, d, pool.degrees) - math.log(scale) for v, d in cells)

    assert math.isfinite(pool.degrees)
    best = likelihood(pool.variance)
    assert max(likelihood(pool.variance * factor) for factor in (0.99, 0.999, 1.001, 1.01)) < best


def test_moderated_variances_lie_between_their_own_and_the_pools() -> None:
    """By hand: (d0 s0 + d s) / (d0 + d) with d0 + d degrees; one seed takes the pool's; none has more than all."""
    pool = seed_pool([0.01, 1.0, 0.02, 3.0], [2, 2, 2, 2], [0.5, 0.1, 0.0, -0.2])
    assert pool.degrees in PRIOR_DEGREES
    assert math.isfinite(pool.degrees)
    found = moderated(pool, 1.0, 2)
    expected = (pool.degrees * pool.variance + 2 * 1.0) / (pool.degrees + 2)
    assert found.variance == pytest.approx(expected)
    assert found.degrees == min(pool.degrees + 2, 8)
    assert found.with_images == pytest.approx(0.1)
    assert moderated(pool) == SeedVariance(pool.variance, pool.degrees, pool.with_images)
    assert moderated(pool, 1.0, 90).degrees == 8


def test_seeds_that_agree_by_chance_do_not_break_the_pool() -> None:
    """A variance of 0 among others keeps a finite pool and is lifted; all 0 stay 0; one cell is its own pool."""
    pool = seed_pool([0.0, 0.01, 0.02, 0.015], [2] * 4)
    assert 0 < moderated(pool, 0.0, 2).variance < pool.variance
    assert seed_pool([0.0, 0.0], [2, 2]).variance == 0.0
    alone = moderated(seed_pool([0.03], [2]))
    assert (alone.variance, alone.degrees) == (0.03, 2)
    for wrong in (([], []), ([-0.1], [2]), ([0.1], [0])):
        with pytest.raises(StatsError, match="make no pool"):
            seed_pool(*wrong)


def test_many_seeds_that_agree_by_chance_leave_a_pool_with_the_others_variance() -> None:
    """Three ties beside one variance: a scale of 0 would be likeliest for few prior degrees, which are not tried."""
    pool = seed_pool([0.0, 0.0, 0.0, 0.04], [2] * 4)
    assert 0.0 < pool.variance <= 0.01
    assert pool.degrees > 6.0
    assert moderated(pool, 0.0, 2).variance > 0.0


def test_a_sum_of_means_by_hand() -> None:
    """Weights squared on each cell's own parts, crossed on what two share; a difference is 1 and -1."""
    covariance = np.array([[4.0, 2.0, 1.0, 0.5], [2.0, 4.0, 1.0, 0.5], [1.0, 1.0, 3.0, 0.2], [0.5, 0.5, 0.2, 5.0]])
    seeds = (SeedVariance(6.0, 4.0), FITTED, FITTED)
    found = of_contrast(covariance, (2, 1, 1), (1.0, -1.0, 0.5), seeds)
    crossed = 2 * (-1.0 * 1.0 + 0.5 * 0.5 - 0.5 * 0.2)
    assert found.images == pytest.approx(2.0 + 3.0 + 0.25 * 5.0 + crossed)
    assert [part.variance for part in found.seeds] == [3.0, 0.0, 0.0]
    two = of_difference(covariance[:3, :3], 2, seeds[:2])
    assert two == of_contrast(covariance[:3, :3], (2, 1), (1.0, -1.0), seeds[:2])
    with pytest.raises(StatsError, match="each side needs at least one"):
        of_contrast(covariance, (2, 1), (1.0, -1.0), seeds[:2])


def test_losses_stay_between_0_and_their_highest() -> None:
    """Symmetric around the value, cut at both ends."""
    found = Uncertainty(0.01)
    assert plain_interval(1.0, found, (0.0, 2.0)) == pytest.approx((1 - 0.19599639845, 1 + 0.19599639845))
    assert plain_interval(0.1, found, (0.0, 0.15)) == (0.0, 0.15)
    assert plain_interval(-0.1, found, (-math.inf, math.inf))[0] == pytest.approx(-0.1 - 0.19599639845)


def test_the_smallest_detectable_difference_is_the_textbooks() -> None:
    """2.80 errors uncorrected, 4.33 at the first of Holm's 102 steps; its power is 80 %, without difference 5 %."""
    found = Uncertainty(0.03**2)
    assert smallest_detectable(found) == pytest.approx((1.959963984540054 + 0.8416212335729143) * 0.03)
    bound = -special.ndtri(0.05 / 204)
    assert smallest_detectable(found, 102) == pytest.approx((bound + 0.8416212335729143) * 0.03)
    seeds = Uncertainty(0.03**2, (SeedVariance(0.02**2, 3.0),))
    assert smallest_detectable(seeds, 17) > smallest_detectable(found, 17)
    for tests in (1, 17):
        assert power_at(smallest_detectable(seeds, tests), seeds, tests) == pytest.approx(0.8, abs=2e-3)  # wrong side
        assert power_at(0.0, seeds, tests) == pytest.approx(0.05 / tests)
        assert power_at(-0.05, seeds, tests) == pytest.approx(power_at(0.05, seeds, tests))
    with pytest.raises(StatsError, match="power in"):
        smallest_detectable(found, 1, 0.4)


def test_errors_and_correlation_are_those_of_the_means() -> None:
    """By hand: variances 4 and 9 with covariance 3 correlate by one half; what does not vary has no correlation."""
    assert errors_and_correlation(np.array([[4.0, 3.0], [3.0, 9.0]]), 1) == pytest.approx((2.0, 3.0, 0.5))
    first, second, found = errors_and_correlation(np.array([[0.0, 0.0], [0.0, 9.0]]), 1)
    assert (first, second) == (0.0, 3.0)
    assert math.isnan(found)


@given(st.floats(-0.3, 0.3), st.floats(1e-6, 0.01), st.floats(0, 0.01))
def test_posterior_probabilities_sum_to_1_and_mirror(value: float, images: float, seeds: float) -> None:
    """P(A > B) is 1 less P(B > A); the region's three probabilities are none below 0; p 0.05 is 0.025 or 0.975."""
    found = Uncertainty(images, (SeedVariance(seeds, 4.0),))
    assert probability_higher(value, found) + probability_higher(-value, found) == pytest.approx(1.0)
    parts = rope(value, found, 0.02)
    assert min(parts.lower, parts.inside, parts.higher) >= 0
    assert parts.lower + parts.inside + parts.higher == pytest.approx(1.0)
    assert parts.higher == pytest.approx(rope(-value, found, 0.02).lower)
    assert probability_higher(found.half_width(), found) == pytest.approx(0.975)


def test_a_small_surely_measured_difference_is_inside() -> None:
    """0.001 with an error of 0.002 lies within 0.02; the same with an error of 0.2 is anybody's guess."""
    assert rope(0.001, Uncertainty(0.002**2), 0.02).inside > 0.999
    assert rope(0.001, Uncertainty(0.2**2), 0.02).inside < 0.1
    with pytest.raises(StatsError, match="has no inside"):
        rope(0.0, Uncertainty(1.0), 0.0)
