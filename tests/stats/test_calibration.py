"""Calibration errors, floors and temperatures: by hand, against scikit-learn, and what simulated models show."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from bench.stats import calibration
from bench.stats.calibration import (
    classwise_error,
    error_floor,
    error_interval,
    is_rare,
    likelihood_parts,
    reliability,
    temperature,
)
from bench.stats.intervals import StatsError
from bench.stats.metrics import predict, score


def draw(num_classes: int, num_images: int, sharpness: float, seed: int = 0) -> tuple[NDArray, NDArray]:
    """Labels drawn from the softmax of logits, and those logits times `sharpness`: true at 1, too sure above."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(num_images, num_classes)) * 1.5
    cumulated = np.cumsum(softmax(logits, axis=1), axis=1)
    labels = (generator.random((num_images, 1)) > cumulated).sum(axis=1)
    return labels, logits * sharpness


@pytest.mark.parametrize(("task", "num_classes"), [("binary-class", 2), ("multi-class", 5)])
def test_the_error_is_the_one_the_records_hold(task: str, num_classes: int) -> None:
    """`reliability(...).error()` of the predictions is `score`'s `ece`, edges and empty bins included."""
    labels, logits = draw(num_classes, 300, 2.0)
    probs = softmax(logits, axis=1)
    found = reliability(predict(probs, task) == labels, probs.max(axis=1))
    assert found.error() == pytest.approx(score(labels, probs, task)["ece"], abs=1e-12)
    assert found.counts.sum() == 300


def test_bins_by_hand() -> None:
    """0.9 0.9 0.9 of which two come true, 0.5 of which none: gaps 0.7/3 and 0.5; Kumar's without the bin of one."""
    found = reliability(np.array([1, 1, 0, 0]), np.array([0.9, 0.9, 0.9, 0.5]), 2)
    assert found.counts.tolist() == [1, 3]
    assert found.frequency.tolist() == [0.0, pytest.approx(2 / 3)]
    assert found.error() == pytest.approx((3 * (0.9 - 2 / 3) + 0.5) / 4)
    assert found.squared_error() == pytest.approx((0.9 - 2 / 3) ** 2 - (2 / 9) / 2)
    assert math.isnan(reliability(np.array([1]), np.array([0.9])).squared_error())
    with pytest.raises(StatsError, match="0 outcomes of 0 probabilities"):
        reliability(np.array([]), np.array([]))


def test_classes_count_alike_in_the_classwise_error() -> None:
    """By hand: one class sure and right on all, the other too: 0; turned round, 1."""
    probs = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert classwise_error(np.array([0, 0, 1]), probs) == 0.0
    assert classwise_error(np.array([1, 1, 0]), probs) == 1.0


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
    found = temperature(labels, logits)
    expected = oracle.predict_proba(logits)
    assert softmax(logits / found, axis=1) == pytest.approx(expected, abs=2e-3)
    assert found == pytest.approx(sharpness, rel=0.2)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 6), st.floats(0.3, 5), st.integers(0, 1000))
def test_no_other_temperature_is_likelier(num_classes: int, sharpness: float, seed: int) -> None:
    """On the images that it was found on; the two parts add up, and the calibration part is not below 0 there."""
    labels, logits = draw(num_classes, 80, sharpness, seed)
    found = temperature(labels, logits)
    losses = [likelihood_parts(labels, logits, found * factor).refinement for factor in (0.97, 1.0, 1.03)]
    assert losses[1] <= min(losses) + 1e-12
    parts = likelihood_parts(labels, logits, found)
    plain = -np.mean(log_softmax(logits, axis=1)[np.arange(80), labels])
    assert parts.refinement + parts.calibration == pytest.approx(plain)
    assert parts.calibration >= -1e-12


def test_temperatures_end_somewhere() -> None:
    """Right on every image: the coldest; the label's logit below the mean on every image: the hottest."""
    logits = np.array([[2.0, 0.0], [0.0, 3.0]])
    assert temperature(np.array([0, 1]), logits) == calibration.LOWEST
    assert temperature(np.array([1, 0]), logits) == calibration.HIGHEST


def test_the_floor_is_what_true_probabilities_give() -> None:
    """Of a model whose probabilities are true, 5 % of errors lie above the point, to their noise, mean alike."""
    confidence = 0.5 + 0.5 * np.random.default_rng(1).beta(3, 1.2, size=156)
    floor = error_floor(confidence, "a")
    generator = np.random.default_rng(2)
    errors = np.array([reliability(generator.random(156) < confidence, confidence).error() for _ in range(1000)])
    assert floor.mean == pytest.approx(errors.mean(), rel=0.05)
    assert abs((errors > floor.point).mean() - 0.05) < 3 * math.sqrt(2 * 0.05 * 0.95 / 1000)
    assert error_floor(confidence, "a") == floor
    assert error_floor(confidence, "b") != floor


@pytest.mark.parametrize("gap", [0.0, 0.06, 0.2])
def test_the_errors_interval_covers(gap: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """156 images, probabilities too high by `gap`: 93 to 97 % of 500 intervals hold it, to their noise."""
    monkeypatch.setattr(calibration, "NUM_DRAWS", 200)
    generator = np.random.default_rng(9)
    covered = 0
    for study in range(500):
        confidence = 0.5 + 0.5 * generator.beta(3, 1.2, size=156)
        outcomes = generator.random(156) < confidence - gap
        low, high = error_interval(outcomes, confidence, str(study), error_floor(confidence, str(study)))
        covered += low <= gap <= high
    assert 0.93 - 2 * math.sqrt(0.07 * 0.93 / 500) <= covered / 500 <= 0.97 + 2 * math.sqrt(0.03 * 0.97 / 500)


def test_rare_classes_lie_below_the_median() -> None:
    """By hand; a class of the median's size is not rare."""
    assert is_rare(np.array([10, 500, 40, 40, 900])).tolist() == [True, False, False, False, False]
