"""Calibration errors, floors and temperatures: by hand, against scikit-learn, and what simulated models show."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from bench.errors import ShapeError
from bench.stats import calibration
from bench.stats.calibration import (
    class_errors,
    error_biases,
    error_influence,
    error_interval,
    floors,
    image_losses,
    is_rare,
    reliability,
    temperatures,
)
from bench.stats.intervals import variance
from bench.stats.metrics import predict, score
from bench.stats.seed_variance import moderated, seed_pool
from bench.stats.uncertainty import Uncertainty, of_mean, with_images

SEEDS = (
    1,
    3,
    10,
    3,
    3,
    3,
    3,
    3,
)  # of simulated cells; the first three are judged, all say how much seeds move an error


def draw(num_classes: int, num_images: int, sharpness: float, seed: int = 0) -> tuple[NDArray, NDArray]:
    """Labels drawn from the softmax of logits, and those logits times `sharpness`: true at 1, too sure above."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(num_images, num_classes)) * 1.5
    cumulated = np.cumsum(softmax(logits, axis=1), axis=1)
    labels = (generator.random((num_images, 1)) > cumulated).sum(axis=1)
    return labels, logits * sharpness


@pytest.mark.parametrize(("task", "num_classes"), [("binary-class", 2), ("multi-class", 5)])
def test_the_error_is_the_one_the_records_hold(task: str, num_classes: int) -> None:
    """Of each of two runs, the bins' error and the sum of the influences are `score`'s `ece`, empty bins included."""
    drawn = [draw(num_classes, 300, sharpness) for sharpness in (2.0, 0.7)]
    labels, probs = drawn[0][0], np.stack([softmax(logits, axis=1) for _, logits in drawn])
    right = np.stack([predict(scores, task) == labels for scores in probs])
    found = reliability(right, probs.max(axis=2))
    expected = [score(labels, scores, task)["ece"] for scores in probs]
    assert found.errors() == pytest.approx(expected, abs=1e-12)
    assert found.counts.sum(axis=1).tolist() == [300, 300]
    influence = error_influence(right, probs.max(axis=2))
    assert influence.parts.sum(axis=1) == pytest.approx(expected, abs=1e-12)
    assert influence.values == pytest.approx(expected, abs=1e-12)


def test_bins_by_hand() -> None:
    """0.9 0.9 0.9 of which two come true, 0.5 of which none: gaps 0.7/3 and 0.5; Kumar's without the bin of one."""
    found = reliability(np.array([[1, 1, 0, 0]]), np.array([[0.9, 0.9, 0.9, 0.5]]))
    assert found.counts[0, [7, 13]].tolist() == [1, 3]
    assert found.counts.sum() == 4
    assert found.frequency[0, [7, 13]].tolist() == [0.0, pytest.approx(2 / 3)]
    assert found.errors() == pytest.approx([(3 * (0.9 - 2 / 3) + 0.5) / 4])
    assert found.squared_errors() == pytest.approx([(0.9 - 2 / 3) ** 2 - (2 / 9) / 2])
    assert np.isnan(reliability(np.array([[1]]), np.array([[0.9]])).squared_errors()).all()
    with pytest.raises(ShapeError, match=r"outcomes \(1, 0\) of probabilities \(1, 0\)"):
        reliability(np.empty((1, 0)), np.empty((1, 0)))


def test_classes_count_alike_in_the_classwise_error() -> None:
    """By hand: one run sure and right on all, 0 of both classes; another sure and wrong, 1 of both."""
    probs = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    found = class_errors(np.array([0, 0, 1]), np.stack([probs, 1 - probs]))
    assert found.tolist() == [[0.0, 0.0], [1.0, 1.0]]
    half = class_errors(np.array([0, 1]), np.array([[[0.5, 0.5], [0.5, 0.5]]]))
    assert half.tolist() == [[0.0, 0.0]]


class Handed(ClassifierMixin, BaseEstimator):
    """A classifier whose logits are its input."""

    def fit(self, x: NDArray, y: NDArray) -> Handed:
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, x: NDArray) -> NDArray:
        return x

    def predict(self, x: NDArray) -> NDArray:
        return x.argmax(axis=1)


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_is_scikit_learns(sharpness: float) -> None:
    """Equal to CalibratedClassifierCV's, within its tolerance, and near the sharpness that was put in."""
    labels, logits = draw(4, 600, sharpness)
    oracle = CalibratedClassifierCV(FrozenEstimator(Handed().fit(logits, labels)), method="temperature")
    oracle.fit(logits, labels)
    found = float(temperatures(labels, logits[None])[0])
    expected = oracle.predict_proba(logits)
    assert softmax(logits / found, axis=1) == pytest.approx(expected, abs=2e-3)
    assert found == pytest.approx(sharpness, rel=0.2)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 6), st.floats(0.3, 5), st.integers(0, 1000))
def test_no_other_temperature_is_likelier(num_classes: int, sharpness: float, seed: int) -> None:
    """On the images that it was found on, of two runs at once; so it takes nothing off below 0 there."""
    labels, logits = draw(num_classes, 80, sharpness, seed)
    both = np.stack([logits, logits * 2])
    found = temperatures(labels, both)
    assert found[1] == pytest.approx(2 * found[0]) or found[1] == calibration.HIGHEST
    losses = [image_losses(labels, both, found * factor).mean(axis=1) for factor in (0.97, 1.0, 1.03)]
    assert (losses[1] <= np.minimum(losses[0], losses[2]) + 1e-12).all()
    plain = image_losses(labels, both, np.ones(2)).mean(axis=1)
    assert plain[0] == pytest.approx(-np.mean(log_softmax(logits, axis=1)[np.arange(80), labels]))
    assert (losses[1] <= plain + 1e-12).all()


def test_a_runs_temperature_does_not_depend_on_the_others() -> None:
    """Alone or beside one that ends at a limit: the same to the last bit."""
    labels, logits = draw(3, 90, 2.0)
    alone = temperatures(labels, logits[None])
    beside = temperatures(labels, np.stack([logits, np.eye(3)[labels], -np.eye(3)[labels]]))
    assert beside.tolist() == [alone[0], calibration.LOWEST, calibration.HIGHEST]


def test_equal_logits_are_no_better_than_chance() -> None:
    """No temperature changes them, whatever the labels; however far apart, right ones are all right."""
    labels = np.array([0, 1, 1])
    logits = np.stack([np.zeros((3, 2)), np.full((3, 2), -5.0), 1e6 * np.eye(2)[labels]])
    assert temperatures(labels, logits).tolist() == [calibration.HIGHEST, calibration.HIGHEST, calibration.LOWEST]


def test_losses_by_hand() -> None:
    """Logits 0 and log 3: 3/4 and 1/4; divided by 1/2 they are 0 and log 9; an impossible label is cut as in `nll`."""
    logits = np.array([[[0.0, math.log(3)], [0.0, 1e4]]])
    found = image_losses(np.array([1, 0]), logits, np.array([1.0]))
    assert found[0].tolist() == [pytest.approx(math.log(4 / 3)), -math.log(np.finfo(np.float64).tiny)]
    assert image_losses(np.array([1, 0]), logits, np.array([0.5]))[0, 0] == pytest.approx(math.log(10 / 9))


def test_the_floor_is_what_true_probabilities_give(monkeypatch: pytest.MonkeyPatch) -> None:
    """5 % of such errors lie above the point, to their noise, mean alike; the same name gives the same, however cut."""
    confidence = 0.5 + 0.5 * np.random.default_rng(1).beta(3, 1.2, size=(2, 156))
    means, points = floors(confidence, "a")
    generator = np.random.default_rng(2)
    for run, sure in enumerate(confidence):
        repeated = np.broadcast_to(sure, (1000, 156))
        errors = reliability(generator.random((1000, 156)) < sure, repeated).errors()
        assert means[run] == pytest.approx(errors.mean(), rel=0.05)
        assert abs((errors > points[run]).mean() - 0.05) < 3 * math.sqrt(2 * 0.05 * 0.95 / 1000)
    assert floors(confidence[:1], "a")[1] == points[0]
    assert floors(confidence[:1], "b")[1] != points[0]
    monkeypatch.setattr(calibration, "BLOCK_NUMBERS", 156 * 300)
    assert floors(confidence, "a")[1] == pytest.approx(points, rel=0.1)


def test_a_calibrated_model_is_seldom_called_otherwise() -> None:
    """Of three seeds alike or unlike, the mean lies above the mean of the points 5 % of the time at most."""
    generator = np.random.default_rng(5)
    above = {"alike": 0, "unlike": 0}
    for _ in range(300):
        sure = 0.5 + 0.5 * generator.beta(3, 1.2, size=(3, 156))
        for kind in above:
            probs = sure if kind == "unlike" else np.repeat(sure[:1], 3, axis=0)
            drawn = generator.random((3, 156) if kind == "unlike" else (1, 156))
            error = reliability(np.broadcast_to(drawn, probs.shape) < probs, probs).errors().mean()
            above[kind] += error > floors(probs, "a")[1].mean()
    assert above["unlike"] < above["alike"] <= 300 * 0.05 + 2 * math.sqrt(300 * 0.05 * 0.95)


def test_the_bias_is_what_sampling_adds() -> None:
    """By hand for one bin of no gap; a gap far from 0 gets nothing; an error that nothing varies has none."""
    even = np.full((1, 100), 0.5)
    outcomes = (np.arange(100) % 2)[None]
    assert error_biases(outcomes, even) == pytest.approx([math.sqrt(2 / math.pi) * 0.05])
    assert error_biases(np.ones((1, 100)), even).tolist() == [0.0]
    skewed = (np.arange(100) < 80)[None]
    assert error_biases(skewed, even)[0] < 1e-12


def test_an_errors_interval_by_hand() -> None:
    """At or below the point it starts at 0; above, the bias is taken off its lower end alone; it stays in [0, 1]."""
    found, half = Uncertainty(0.0004), 0.0391992797
    assert error_interval(0.1, found, 0.01, 0.1) == (0.0, pytest.approx(0.1 + half))
    assert error_interval(0.1, found, 0.01, 0.08) == pytest.approx((0.09 - half, 0.1 + half))
    assert error_interval(0.03, found, 0.01, 0.02)[0] == 0.0
    assert error_interval(0.98, found, 0.01, 0.02)[1] == 1.0


@lru_cache(maxsize=8)
def coverage(gap: float, spread: float, num_studies: int) -> dict[int, float]:
    """Share of studies whose interval holds the mean error, by seeds: probabilities are too high by a seed's gap.

    156 images; a seed's outcomes agree with another's on seven of ten images, but for their gaps.
    """
    generator = np.random.default_rng([int(gap * 100), int(spread * 100)])
    truth = float(np.abs(gap + spread * np.random.default_rng(0).normal(size=4000)).mean())
    covered = dict.fromkeys((1, 3, 10), 0)
    for study in range(num_studies):
        shared, luck = 0.5 + 0.5 * generator.beta(3, 1.2, size=156), generator.random(156)
        influences, edges = [], []
        for count in SEEDS:
            sure = np.clip(shared + 0.05 * generator.normal(size=(count, 156)), 0.5, 0.999)
            gaps = gap + spread * generator.normal(size=(count, 1))
            own = np.where(generator.random((count, 156)) < 0.7, luck, generator.random((count, 156)))
            outcomes = own < np.clip(sure - gaps, 0, 1)
            influences.append(error_influence(outcomes, sure))
            wanted = len(influences) <= 3
            edges.append((error_biases(outcomes, sure).mean(), floors(sure, str(study))[1].mean() if wanted else 0))
        several = [i for i, count in enumerate(SEEDS) if count > 1]
        sample = {i: variance(influences[i].values.tolist()) for i in several}
        blocks = [influences[i].covariance() for i in several]
        pool = seed_pool(list(sample.values()), [SEEDS[i] - 1 for i in several], [with_images(b) for b in blocks])
        for i, count in enumerate(covered):
            seed = moderated(pool, sample.get(i, 0.0), count - 1)
            found = of_mean(influences[i].covariance(), seed, influences[i].degrees())
            low, high = error_interval(float(influences[i].values.mean()), found, *edges[i])
            covered[count] += low <= truth <= high
    return {count: number / num_studies for count, number in covered.items()}


@pytest.mark.parametrize("count", [1, 3, 10])
@pytest.mark.parametrize(("gap", "spread"), [(0.0, 0.0), (0.06, 0.03), (0.2, 0.0), (0.2, 0.05)])
def test_the_errors_interval_covers(gap: float, spread: float, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At least 93 %, to the noise of 150 studies; where there is no gap, 0 itself stays in 95 % and more."""
    monkeypatch.setattr(calibration, "NUM_DRAWS", 200)
    covered = coverage(gap, spread, 150)[count]
    assert covered >= 0.93 - 2 * math.sqrt(0.93 * 0.07 / 150)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3, 10])
@pytest.mark.parametrize(("gap", "spread"), [(0.06, 0.03), (0.2, 0.0), (0.2, 0.05)])
def test_it_covers_neither_too_seldom_nor_always(
    gap: float, spread: float, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over 1,000 studies with a gap: 93 to 99 %, for a small error's interval leaves in what sampling adds."""
    monkeypatch.setattr(calibration, "NUM_DRAWS", 200)
    assert 0.93 <= coverage(gap, spread, 1000)[count] <= 0.99


def test_rare_classes_lie_below_the_median() -> None:
    """By hand; a class of the median's size is not rare."""
    assert is_rare(np.array([10, 500, 40, 40, 900])).tolist() == [True, False, False, False, False]
