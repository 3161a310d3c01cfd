"""bench.stats.metrics against hand-computed values, medmnist's Evaluator and scikit-learn."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as oracle

from bench.errors import BenchError, ShapeError
from bench.stats.metrics import ScoreError, accuracy, auc, per_class, score, softmax

SIX_TASKS = [
    ("bloodmnist", "multi-class", 8),
    ("breastmnist", "binary-class", 2),
    ("dermamnist", "multi-class", 7),
    ("organcmnist", "multi-class", 11),
    ("pneumoniamnist", "binary-class", 2),
    ("retinamnist", "ordinal-regression", 5),
]
SCORES = np.array([[0.7, 0.3], [0.4, 0.6], [0.5, 0.5], [0.1, 0.9]])


def _draw(seed: int, num_images: int, num_classes: int, levels: int | None = None) -> tuple[Any, NDArray[np.float64]]:
    """Labels with every class, and probabilities (with `levels`: coarse ones, so that ties abound)."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(num_classes), rng.integers(0, num_classes, num_images - num_classes)])
    logits = (
        rng.normal(size=(num_images, num_classes))
        if levels is None
        else rng.integers(0, levels, (num_images, num_classes))
    )
    return labels, softmax(logits)


def test_softmax_by_hand() -> None:
    """Logits ln 1 and ln 3 give a quarter and three quarters, in float64 even from float32."""
    probs = softmax(np.log(np.array([[1.0, 3.0], [2.0, 2.0]])))
    np.testing.assert_allclose(probs, [[0.25, 0.75], [0.5, 0.5]], rtol=1e-15)
    assert softmax(np.zeros((1, 3), dtype=np.float32)).dtype == np.float64


def test_softmax_takes_huge_logits() -> None:
    """Logits far beyond exp's range neither overflow nor lose the order."""
    np.testing.assert_array_equal(softmax(np.array([[1e6, 0.0], [-1e6, 0.0]])), [[1.0, 0.0], [0.0, 1.0]])


def test_auc_by_hand() -> None:
    """Of the 4 pairs one tie counts one half: label-1 scores 0.6, 0.5 against 0.5, 0.1 give 3.5 of 4."""
    labels = np.array([0, 1, 1, 0])
    probs = np.array([[0.5, 0.5], [0.4, 0.6], [0.5, 0.5], [0.9, 0.1]])
    assert auc(labels, probs, "binary-class") == 3.5 / 4


def test_binary_threshold_is_strict() -> None:
    """Exactly one half is label 0, as in medmnist."""
    assert accuracy(np.array([0, 1, 0, 1]), SCORES, "binary-class") == 1.0
    assert accuracy(np.array([0, 1, 1, 1]), SCORES, "binary-class") == 0.75


def test_binary_rule_is_the_threshold_not_the_order() -> None:
    """Label 1's score decides alone, even where label 0's is higher still."""
    assert accuracy(np.array([1]), np.array([[0.9, 0.6]]), "binary-class") == 1.0


def test_ties_of_classes_go_to_the_lower_label() -> None:
    """Equal highest scores predict the lower label."""
    probs = np.array([[0.4, 0.4, 0.2], [0.2, 0.4, 0.4]])
    assert accuracy(np.array([0, 1]), probs, "multi-class") == 1.0
    assert accuracy(np.array([1, 2]), probs, "multi-class") == 0.0


@pytest.mark.parametrize(("flag", "task", "num_classes"), SIX_TASKS)
@pytest.mark.parametrize("levels", [None, 3])
def test_equals_the_medmnist_evaluator(flag: str, task: str, num_classes: int, levels: int | None) -> None:
    """AUC and accuracy are medmnist's own on random scores, with and without ties."""
    evaluator = pytest.importorskip("medmnist.evaluator")
    medmnist = pytest.importorskip("medmnist")
    assert medmnist.INFO[flag]["task"] == task
    assert len(medmnist.INFO[flag]["label"]) == num_classes
    for seed in range(5):
        labels, probs = _draw(seed, 157, num_classes, levels)
        ours = auc(labels, probs, task)
        assert ours == pytest.approx(evaluator.getAUC(labels[:, None], probs, task), abs=1e-12)
        assert accuracy(labels, probs, task) == pytest.approx(evaluator.getACC(labels[:, None], probs, task), abs=1e-12)


@pytest.mark.parametrize("levels", [None, 4])
@pytest.mark.parametrize(("task", "num_classes"), [("binary-class", 2), ("multi-class", 7)])
def test_score_equals_scikit_learn(task: str, num_classes: int, levels: int | None) -> None:
    """Balanced accuracy, average precision, Brier score and log loss are scikit-learn's."""
    labels, probs = _draw(3, 211, num_classes, levels)
    preds = (probs[:, 1] > 0.5).astype(int) if task == "binary-class" else probs.argmax(axis=1)
    one_hot = np.eye(num_classes)[labels]
    expected = {
        "balanced_acc": oracle.balanced_accuracy_score(labels, preds),
        "pr_auc": oracle.average_precision_score(one_hot, probs, average="macro"),
        "brier": np.square(one_hot - probs).sum(axis=1).mean(),
        "nll": oracle.log_loss(labels, probs),
    }
    measured = score(labels, probs, task)
    assert {key: measured[key] for key in expected} == pytest.approx(expected, abs=1e-12)
    assert measured["auc"] == auc(labels, probs, task)
    assert measured["acc"] == accuracy(labels, probs, task)


@pytest.mark.parametrize("levels", [None, 4])
def test_per_class_equals_scikit_learn(levels: int | None) -> None:
    """Every class's measures are scikit-learn's, one against the rest."""
    labels, probs = _draw(4, 211, 5, levels)
    precision, recall, f1, _ = oracle.precision_recall_fscore_support(labels, probs.argmax(axis=1))
    expected = {
        "auc": [oracle.roc_auc_score(labels == k, probs[:, k]) for k in range(5)],
        "ap": [oracle.average_precision_score(labels == k, probs[:, k]) for k in range(5)],
        "precision": precision.tolist(),
        "recall": recall.tolist(),
        "f1": f1.tolist(),
    }
    measured = per_class(labels, probs, "multi-class")
    assert set(measured) == set(expected)
    for key, values in expected.items():
        assert measured[key] == pytest.approx(values, abs=1e-12), key


def test_score_by_hand() -> None:
    """Two images, one right with 0.8 and one wrong with 0.6: every measure on paper."""
    measured = score(
        np.array([1, 1, 0]),
        np.array([[0.2, 0.8], [0.6, 0.4], [0.9, 0.1]]),
        "binary-class",
    )
    assert measured == pytest.approx(
        {
            "auc": 1.0,
            "acc": 2 / 3,
            "balanced_acc": 0.75,
            "pr_auc": 1.0,
            "brier": (2 * 0.2**2 + 2 * 0.6**2 + 2 * 0.1**2) / 3,
            "ece": (0.2 + 0.6 + 0.1) / 3,
            "nll": -(math.log(0.8) + math.log(0.4) + math.log(0.9)) / 3,
        },
        abs=1e-12,
    )


def test_calibration_error_pools_within_a_bin() -> None:
    """Over- and under-confidence inside one of the 15 bins cancel: 0.81 twice, one right, leave 0.31."""
    probs = np.array([[0.81, 0.19], [0.81, 0.19]])
    assert score(np.array([0, 1]), probs, "binary-class")["ece"] == pytest.approx(0.31, abs=1e-12)


def test_calibration_bins_are_closed_on_the_right() -> None:
    """A top probability on an edge joins the bin below: 9/15 is pooled with 0.59, not with 0.61."""
    edge = np.linspace(0.0, 1.0, 16)[9]
    below = np.array([[edge, 1 - edge], [0.59, 0.41]])
    above = np.array([[edge, 1 - edge], [0.61, 0.39]])
    labels = np.array([0, 1])
    assert score(labels, below, "binary-class")["ece"] == pytest.approx(abs(1 - edge - 0.59) / 2, abs=1e-12)
    assert score(labels, above, "binary-class")["ece"] == pytest.approx((1 - edge + 0.61) / 2, abs=1e-12)


def test_absent_class_is_null() -> None:
    """Where a class has no image, what needs it is None and the rest is still a number."""
    labels = np.array([0, 1, 1, 0])
    probs = softmax(np.arange(12.0).reshape(4, 3) % 5)
    measured = score(labels, probs, "multi-class")
    assert [key for key, value in measured.items() if value is None] == [
        "auc",
        "balanced_acc",
        "pr_auc",
    ]
    rows = per_class(labels, probs, "multi-class")
    assert rows["auc"][2] is rows["ap"][2] is rows["recall"][2] is None
    assert None not in rows["auc"][:2]
    assert auc(np.ones(4, dtype=np.int64), SCORES, "binary-class") is None


def test_never_predicted_class_has_no_precision() -> None:
    """A class that is never predicted has no precision, and an F1 of 0."""
    rows = per_class(np.array([0, 1]), np.array([[0.9, 0.1], [0.8, 0.2]]), "binary-class")
    assert rows["precision"] == [0.5, None]
    assert rows["recall"] == [1.0, 0.0]
    assert rows["f1"] == [pytest.approx(2 / 3), 0.0]


def test_certain_and_wrong_stays_finite() -> None:
    """A label with probability 0 costs a finite log-likelihood, for JSON holds no infinity."""
    value = score(np.array([1]), np.array([[1.0, 0.0]]), "binary-class")["nll"]
    assert value == pytest.approx(-math.log(np.finfo(np.float64).tiny))


def test_plain_floats_come_out() -> None:
    """Values are Python's float, not numpy's scalars."""
    labels, probs = _draw(5, 40, 4)
    assert {type(value) for value in score(labels, probs, "multi-class").values()} == {float}
    assert {type(value) for row in per_class(labels, probs, "multi-class").values() for value in row} == {float}
    assert type(auc(labels, probs, "multi-class")) is float
    assert type(accuracy(labels, probs, "multi-class")) is float


@pytest.mark.parametrize(
    ("labels", "probs", "task", "error"),
    [
        (np.array([0, 1]), SCORES, "binary-class", ShapeError),
        (np.array([[0], [1], [0], [1]]), SCORES, "binary-class", ShapeError),
        (np.array([0, 1, 0, 1]), SCORES[:, 1], "binary-class", ShapeError),
        (np.array([0, 1, 0, 1]), np.full((4, 3), 1 / 3), "binary-class", ShapeError),
        (np.array([0, 0, 0, 0]), np.ones((4, 1)), "multi-class", ShapeError),
        (np.zeros(0, dtype=np.int64), np.zeros((0, 2)), "binary-class", ShapeError),
        (np.array([0, 1, 2, 1]), SCORES, "binary-class", ScoreError),
        (np.array([0, 1, -1, 1]), SCORES, "multi-class", ScoreError),
        (np.array([0.0, 1.0, 0.0, 1.0]), SCORES, "binary-class", ScoreError),
        (
            np.array([0, 1, 0, 1]),
            np.where(SCORES == 0.9, np.nan, SCORES),
            "binary-class",
            ScoreError,
        ),
        (
            np.array([0, 1, 0, 1]),
            np.where(SCORES == 0.9, np.inf, SCORES),
            "binary-class",
            ScoreError,
        ),
        (np.array([0, 1, 0, 1]), SCORES, "multi-label, binary-class", ScoreError),
    ],
)
def test_what_cannot_be_scored_is_refused(labels: Any, probs: Any, task: str, error: type[BenchError]) -> None:
    """Wrong shapes, ranges, types, tasks and numbers that are not finite are one-line errors, never a number."""
    for function in (auc, accuracy, score, per_class):
        with pytest.raises(error) as caught:
            function(labels, probs, task)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("row", [[0.6, 0.6], [1.2, -0.2], [0.0, 0.0]])
def test_score_wants_probabilities(row: list[float]) -> None:
    """Brier, calibration and likelihood of something that is no distribution are refused."""
    with pytest.raises(ScoreError, match="image 1"):
        score(np.array([0, 1]), np.array([[0.5, 0.5], row]), "binary-class")


def test_softmax_refuses_what_is_not_finite() -> None:
    """A diverged model's logits are an error that names the image; so is a wrong shape."""
    with pytest.raises(ScoreError, match="image 1"):
        softmax(np.array([[0.0, 1.0], [np.nan, 0.0]]))
    with pytest.raises(ShapeError):
        softmax(np.zeros(3))


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**31), num_classes=st.integers(2, 6), levels=st.integers(1, 8))
def test_auc_follows_the_order_alone(seed: int, num_classes: int, levels: int) -> None:
    """A rising function of the scores leaves the AUC, reversing them mirrors it, shuffling images leaves it."""
    labels, probs = _draw(seed, 30, num_classes, levels)
    task = "binary-class" if num_classes == 2 else "multi-class"
    whole = np.random.default_rng(seed).integers(0, levels, probs.shape)  # exact under what follows
    value = auc(labels, whole, task)
    assert value is not None
    assert auc(labels, 3 * whole + 1, task) == pytest.approx(value, abs=1e-12)
    assert auc(labels, -whole, task) == pytest.approx(1.0 - value, abs=1e-12)
    shuffle = np.random.default_rng(seed).permutation(30)
    assert score(labels[shuffle], probs[shuffle], task) == pytest.approx(score(labels, probs, task), abs=1e-12)
