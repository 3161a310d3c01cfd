"""Statistics against hand-computed values, scikit-learn, statsmodels and medmnist; what must hold for any input."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.proportion import proportion_confint

from bench.errors import ShapeError
from bench.stats import bootstrap, comparisons, intervals, power
from bench.stats.bootstrap import auc_resamples, image_weights, sum_resamples
from bench.stats.comparisons import PairingError
from bench.stats.intervals import Spread, StatsError

# The six sets of the paper: flag, task, number of classes.
SIX = [
    ("bloodmnist", "multi-class", 8),
    ("breastmnist", "binary-class", 2),
    ("dermamnist", "multi-class", 7),
    ("pneumoniamnist", "binary-class", 2),
    ("organcmnist", "multi-class", 11),
    ("organsmnist", "multi-class", 11),
]


def draw(num_classes: int, num_seeds: int, num_images: int = 90, levels: int = 20) -> tuple[NDArray, NDArray]:
    """Labels (N,) with every class and scores (S, N, K) with many ties."""
    generator = np.random.default_rng(num_classes * 100 + num_seeds)
    labels = generator.permutation(np.arange(num_images) % num_classes)
    scores = generator.random((num_seeds, num_images, num_classes)) + 0.4 * np.eye(num_classes)[labels]
    return labels, np.round(scores * levels) / levels


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


@pytest.mark.parametrize("way", ["sorted", "compared"])
@pytest.mark.parametrize(("flag", "task", "num_classes"), SIX)
def test_a_resampled_auc_is_sklearns_with_sample_weights(flag: str, task: str, num_classes: int, way: str) -> None:
    """Mean over seeds of the one-vs-rest areas, ties one half, whichever way it is computed."""
    labels, scores = draw(num_classes, 2, num_images=220)
    weights = image_weights(labels, flag, stratified=False, num_resamples=5)
    classes = [1] if task == "binary-class" else range(num_classes)
    for found, row in zip(auc_resamples(labels, scores, task, weights, way), weights, strict=True):
        areas = [roc_auc_score(labels == k, s[:, k], sample_weight=row) for s in scores for k in classes]
        assert found == pytest.approx(np.mean(areas), abs=1e-12)


@pytest.mark.parametrize(("flag", "task", "num_classes"), SIX)
def test_every_image_once_gives_medmnists_auc_and_accuracy(flag: str, task: str, num_classes: int) -> None:
    """The bootstrap measures what medmnist's Evaluator defines, to 1e-12."""
    evaluator = pytest.importorskip("medmnist.evaluator")
    labels, scores = draw(num_classes, 1, levels=1000)
    probs = scores / scores.sum(axis=2, keepdims=True)
    ones = np.ones((1, len(labels)), dtype=np.uint8)
    shown = probs[0][:, 1:] if task == "binary-class" else probs[0]
    expected = evaluator.getAUC(labels[:, None], shown, task)
    assert auc_resamples(labels, probs, task, ones)[0] == pytest.approx(expected, abs=1e-12)
    preds = probs[0][:, 1] > 0.5 if task == "binary-class" else probs[0].argmax(axis=1)
    found = sum_resamples((preds == labels)[None], ones)[0, 0] / len(labels)
    assert found == pytest.approx(evaluator.getACC(labels[:, None], shown, task), abs=1e-12)


@pytest.mark.parametrize("limit", [bootstrap.FLOAT32_WHOLE, 1])
def test_both_ways_give_the_same_bits(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of whole numbers are exact, in float32 while they fit and in float64 beyond; the way costs time only."""
    monkeypatch.setattr(bootstrap, "FLOAT32_WHOLE", limit)
    for num_classes, num_seeds in ((2, 1), (3, 5), (11, 2)):
        labels, scores = draw(num_classes, num_seeds)
        weights = image_weights(labels, "x", stratified=True, num_resamples=150)
        task = "binary-class" if num_classes == 2 else "multi-class"
        one, other = (auc_resamples(labels, scores, task, weights, way) for way in ("sorted", "compared"))
        assert np.array_equal(one, other)


def test_a_lost_class_makes_the_resample_undefined() -> None:
    """NaN, not a mean over the classes that are left; drawing within classes never gets there."""
    labels, scores = np.array([0, 0, 1, 2]), np.random.default_rng(0).random((1, 4, 3))
    weights = np.array([[1, 1, 1, 1], [2, 1, 1, 0]], dtype=np.uint8)
    for way in ("sorted", "compared"):
        assert np.isnan(auc_resamples(labels, scores, "multi-class", weights, way)).tolist() == [False, True]
    within = image_weights(labels, "x", stratified=True, num_resamples=200)
    assert np.isfinite(auc_resamples(labels, scores, "multi-class", within)).all()


def test_shapes_that_disagree_are_refused() -> None:
    """One line with what came and what is expected."""
    with pytest.raises(ShapeError, match=r"weights \(5, 4\); expected"):
        auc_resamples(np.array([0, 1, 0]), np.ones((1, 3, 2)), "binary-class", np.ones((5, 4), dtype=np.uint8))


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_the_order_of_images_does_not_matter(num_classes: int, seed: int) -> None:
    """Images, scores and weights permuted together give the same AUCs; another pairing does not."""
    labels, scores = draw(num_classes, 2, num_images=40)
    weights = image_weights(labels, "x", stratified=True, num_resamples=20)
    order = np.random.default_rng(seed).permutation(len(labels))
    before = auc_resamples(labels, scores, "multi-class", weights)
    assert np.array_equal(auc_resamples(labels[order], scores[:, order], "multi-class", weights[:, order]), before)


def test_images_and_seeds_add_up() -> None:
    """Hand-computed: resamples vary by 1/3, seeds by 1 over 2; Satterthwaite's degrees are those of the seed part."""
    found = intervals.spread(np.array([0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]) * math.sqrt(7 / 6), [0.0, math.sqrt(2)])
    assert found.variance == pytest.approx(1 / 3 + 1 / 2)
    assert found.degrees == pytest.approx((5 / 6) ** 2 / (1 / 2) ** 2)
    assert found.kind == "images and seeds"
    alone = intervals.spread(np.array([0.0, 1.0]), [0.7])
    assert (alone.variance, alone.degrees, alone.kind) == (0.5, math.inf, "images")
    with pytest.raises(StatsError, match="1 value has no sample variance"):
        intervals.variance([0.5])


def test_wilson_is_statsmodels_and_stays_inside() -> None:
    """Equal to the oracle; nothing of n ends at 0 and reaches z^2 / (n + z^2)."""
    for count, total in ((0, 10), (3, 10), (140, 156), (156, 156)):
        expected = proportion_confint(count, total, method="wilson")
        assert intervals.wilson(count / total, total) == pytest.approx(expected, abs=1e-12)
    square = 1.959963984540054**2
    assert intervals.wilson(0.0, 10) == pytest.approx((0.0, square / (10 + square)), abs=1e-12)
    with pytest.raises(StatsError, match="no interval"):
        intervals.wilson(86.5, 156)  # a percentage


@given(st.floats(0, 1), st.floats(0, 0.2), st.floats(1, 100), st.integers(1, 500))
def test_intervals_of_fractions_hold_their_value_and_stay_in_range(
    value: float, variance: float, degrees: float, fewest: int
) -> None:
    """Also at 0 and 1, and where nothing varies."""
    for interval in (intervals.area_interval, intervals.fraction_interval):
        low, high = interval(value, Spread(variance, degrees, "images"), fewest)
        assert 0.0 <= low <= value + 1e-12
        assert value - 1e-12 <= high <= 1.0


def test_intervals_at_the_ends() -> None:
    """Perfect on 42 images reaches down as Wilson's for 42 of 42; constant scores have no spread and say so."""
    nothing = Spread(0.0, math.inf, "images")
    assert intervals.area_interval(1.0, nothing, 42) == pytest.approx(
        proportion_confint(42, 42, method="wilson"), abs=1e-12
    )
    assert intervals.area_interval(0.5, nothing, 42) == (0.5, 0.5)
    half = 1.959963984540054 * 0.02 / (0.9 * 0.1)  # on the logit scale
    low, high = intervals.area_interval(0.9, Spread(0.02**2, math.inf, "images"), 42)
    assert math.log(low / (1 - low)) == pytest.approx(math.log(9) - half)
    assert math.log(high / (1 - high)) == pytest.approx(math.log(9) + half)


def test_an_interval_covers_as_often_as_it_says() -> None:
    """400 made-up studies, 3 seeds on 40 + 60 images: 95 % within simulation error; images alone fall short."""
    generator = np.random.default_rng(7)
    labels = np.repeat([0, 1], [40, 60])
    weights = image_weights(labels, "coverage", stratified=True, num_resamples=200)
    shifts = 1.5 + 0.25 * np.random.default_rng(8).normal(size=100_000)
    truth = float(np.mean([0.5 * math.erfc(-shift / 2) for shift in shifts]))
    covered, by_images = 0, 0
    for _ in range(400):
        shared, shift = generator.normal(size=100), 1.5 + 0.25 * generator.normal(size=3)
        noise = math.sqrt(0.7) * shared + math.sqrt(0.3) * generator.normal(size=(3, 100))
        scores = labels * shift[:, None] + noise
        probs = np.stack([-scores, scores], axis=2)
        areas = auc_resamples(labels, probs, "binary-class", weights)
        values = [float(np.mean(s[labels == 1][:, None] > s[labels == 0])) for s in scores]
        low, high = intervals.area_interval(intervals.mean(values), intervals.spread(areas, values), 40)
        covered += low <= truth <= high
        low, high = np.quantile(areas, [0.025, 0.975])
        by_images += low <= truth <= high
    assert 0.925 <= covered / 400 <= 0.985
    assert by_images < covered - 10


def test_a_difference_of_1_96_errors_has_p_0_05() -> None:
    """Hand-computed normal and Student values; the interval just touches 0."""
    resamples = np.array([-1.0, 1.0]) * 0.01 / math.sqrt(2)  # sample variance 0.01 squared
    found = comparisons.paired_difference(resamples, [0.01 * 1.959963984540054])
    assert found.p == pytest.approx(0.05)
    assert found.low == pytest.approx(0.0, abs=1e-12)
    assert found.high_90 == pytest.approx(0.01 * (1.959963984540054 + 1.6448536269514722))
    seeds = comparisons.paired_difference(np.zeros(9), [0.1, 0.3])  # 0.2, error 0.1, one degree of freedom
    assert seeds.p == pytest.approx(1 - 2 * math.atan(2) / math.pi)
    assert seeds.high == pytest.approx(min(1.0, 0.2 + 12.706204736 * 0.1))


@given(st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=5), st.integers(0, 1000))
def test_differences_are_antisymmetric(seed_differences: list[float], seed: int) -> None:
    """Model less baseline is baseline less model, mirrored, with the same p."""
    resamples = np.random.default_rng(seed).normal(size=50)
    one = comparisons.paired_difference(resamples, seed_differences)
    other = comparisons.paired_difference(-resamples, [-value for value in seed_differences])
    assert (one.value, one.low, one.high, one.p) == (-other.value, -other.high, -other.low, other.p)
    assert comparisons.is_equivalent(one, 0.3) == comparisons.is_equivalent(other, 0.3)


def test_equivalence_needs_the_whole_90_percent_interval_inside() -> None:
    """Two one-sided tests: 1.645 errors from the margin, not 1.96; touching it is not inside."""
    resamples = np.array([-1.0, 1.0]) * 0.01 / math.sqrt(2)
    found = comparisons.paired_difference(resamples, [0.003])
    edge = 0.003 + 0.016448536269514722
    assert comparisons.is_equivalent(found, edge + 1e-9)
    assert not comparisons.is_equivalent(found, edge - 1e-9)


def test_a_perfect_pair_is_no_proof_of_equality() -> None:
    """Two AUCs of 1 that no resample moves: p 1, and as wide as the two intervals."""
    found = comparisons.end_to_end(0.0, (0.9, 1.0), (0.8, 1.0))
    assert (found.p, found.low, found.high) == (1.0, pytest.approx(-0.1), pytest.approx(0.2))
    assert not comparisons.is_equivalent(found, 0.02)
    assert comparisons.end_to_end(0.5, (0.92, 1.0), (0.5, 0.5)).p < 1e-9


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
