"""DeLong's variance against published numbers, the definition, and the bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bench.errors import ShapeError
from bench.stats.bootstrap import image_weights
from bench.stats.delong import auc_influence, mean_influence, precision_influence
from bench.stats.intervals import StatsError
from bench.stats.metrics import auc, score

# 43 of the patients of DeLong, DeLong and Clarke-Pearson (1988), as SAS/STAT's example "Comparing Receiver Operating
# Characteristic Curves" (PROC LOGISTIC) prints them: albumin, total protein, K-G score, benefit of surgery.
PATIENTS = """
3.0 5.8 10 0  3.2 6.3  5 1  3.9 6.8  3 1  2.8 4.8  6 0  3.2 5.8  3 1  0.9 4.0  5 0  2.5 5.7  8 0  1.6 5.6  5 1
3.8 5.7  5 1  3.7 6.7  6 1  3.2 5.4  4 1  3.8 6.6  6 1  4.1 6.6  5 1  3.6 5.7  5 1  4.3 7.0  4 1  3.6 6.7  4 0
2.3 4.4  6 1  4.2 7.6  4 0  4.0 6.6  6 0  3.5 5.8  6 1  3.8 6.8  7 1  3.0 4.7  8 0  4.5 7.4  5 1  3.7 7.4  5 1
3.1 6.6  6 1  4.1 8.2  6 1  4.3 7.0  5 1  4.3 6.5  4 1  3.2 5.1  5 1  2.6 4.7  6 1  3.3 6.8  6 0  1.7 4.0  7 0
3.7 6.1  5 1  3.3 6.3  7 1  4.2 7.7  6 1  3.5 6.2  5 1  2.9 5.7  9 0  2.1 4.8  7 1  2.8 6.2  8 0  4.0 7.0  7 1
3.3 5.7  6 1  3.7 6.9  5 1  3.6 6.6  5 1
"""


def two_columns(scores: NDArray) -> NDArray:
    """(R, N) scores of label 1 as (R, N, 2)."""
    return np.stack([-scores, scores], axis=2)


def test_the_published_example_comes_out() -> None:
    """SAS/STAT's areas, standard errors, differences from the K-G score and joint test, to the four digits printed."""
    table = np.array(PATIENTS.split(), dtype=np.float64).reshape(-1, 4)
    found = auc_influence(
        table[:, 3].astype(int), two_columns(np.stack([table[:, 0], table[:, 1], 10 - table[:, 2]])), "binary-class"
    )
    covariance = found.covariance()
    assert np.round(found.values, 4).tolist() == [0.7366, 0.6478, 0.7258]
    assert np.round(np.sqrt(np.diag(covariance)), 4).tolist() == [0.0927, 0.1000, 0.1028]
    contrast = np.array([[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]])
    differences, spread = contrast @ found.values, contrast @ covariance @ contrast.T
    assert np.round(differences, 4).tolist() == [0.0108, -0.0780]
    assert np.round(np.sqrt(np.diag(spread)), 4).tolist() == [0.0953, 0.1046]
    assert round(float(differences @ np.linalg.solve(spread, differences)), 4) == 2.5340


def by_definition(labels: NDArray, scores: NDArray) -> NDArray:
    """(R, R) covariance from every comparison of a positive with a negative."""
    hits, rest = scores[:, labels == 1, None], scores[:, None, labels == 0]
    wins = (hits > rest) + 0.5 * (hits == rest)
    return np.cov(wins.mean(axis=2)) / hits.shape[1] + np.cov(wins.mean(axis=1)) / rest.shape[2]


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 30), st.integers(2, 30), st.integers(2, 4), st.integers(0, 10_000))
def test_midranks_give_what_all_comparisons_give(positives: int, negatives: int, runs: int, seed: int) -> None:
    """With many ties, in any order of the images: the same covariance, and the suite's AUC."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation([1] * positives + [0] * negatives)
    scores = generator.integers(0, 6, size=(runs, len(labels))).astype(np.float64)
    found = auc_influence(labels, two_columns(scores), "binary-class")
    assert found.covariance() == pytest.approx(by_definition(labels, scores), abs=1e-12)
    assert found.parts.sum(axis=1) == pytest.approx(found.values, abs=1e-12)
    assert found.values[0] == pytest.approx(auc(labels, two_columns(scores)[0], "binary-class"), abs=1e-12)


@pytest.mark.parametrize(("task", "num_classes"), [("binary-class", 2), ("multi-class", 4), ("multi-class", 11)])
def test_the_bootstrap_agrees(task: str, num_classes: int) -> None:
    """Variances and the covariance of two runs are those of 2,000 resamples within classes, to their own noise."""
    generator = np.random.default_rng(num_classes)
    labels = generator.permutation(np.arange(400) % num_classes)
    shared = generator.normal(size=(400, num_classes)) + 1.2 * np.eye(num_classes)[labels]
    scores = np.stack([shared + 0.6 * generator.normal(size=shared.shape) for _ in range(2)])
    found = auc_influence(labels, scores, task)
    weights = image_weights(labels, "delong", stratified=True, num_resamples=2000)
    drawn = [np.repeat(np.arange(400), row) for row in weights]
    resampled = np.cov([[auc(labels[rows], run[rows], task) for rows in drawn] for run in scores])
    assert found.covariance() == pytest.approx(resampled, rel=0.1)
    assert found.values[0] == pytest.approx(auc(labels, scores[0], task), abs=1e-12)


def test_the_influence_of_a_mean_is_the_multinomial_variance() -> None:
    """Accuracy p of N images: p (1 - p) / (N - 1), and a covariance that the bootstrap finds too."""
    generator = np.random.default_rng(3)
    right = generator.random((2, 150)) < 0.8
    covariance = mean_influence(right).covariance()
    share = right[0].mean()
    assert covariance[0, 0] == pytest.approx(share * (1 - share) / 149)
    weights = image_weights(np.zeros(150, dtype=int), "mean", stratified=False, num_resamples=4000)
    resampled = np.cov(right.astype(float) @ weights.T / 150)
    assert covariance == pytest.approx(resampled, rel=0.1, abs=5e-5)


def test_degrees_count_normal_influences_and_see_a_single_image() -> None:
    """2,000 normal values are worth about 2,000; a single one that differs, at 1 of 50, is worth about one."""
    normal = mean_influence(np.random.default_rng(1).normal(size=(1, 2000))).degrees()
    assert normal == pytest.approx(2000, rel=0.15)
    alone = mean_influence(np.eye(50)[:1]).degrees()
    assert 1.0 <= alone < 2.5
    assert mean_influence(np.ones((1, 50))).degrees() == np.inf


def test_what_has_no_variance_is_refused() -> None:
    """A lost class, a class of one image, shapes that disagree: one clear line each."""
    scores = np.random.default_rng(0).random((1, 4, 3))
    with pytest.raises(StatsError, match=r"classes of \[2, 2, 0\] images have no AUC"):
        auc_influence(np.array([0, 0, 1, 1]), scores, "multi-class")
    with pytest.raises(StatsError, match="class 1 has one image"):
        auc_influence(np.array([0, 0, 1, 2]), scores, "multi-class").covariance()
    with pytest.raises(ShapeError, match=r"expected \(N,\) and \(runs, N, classes\)"):
        auc_influence(np.array([0, 1]), scores, "multi-class")


def weighted_precision(is_hit: NDArray, scores: NDArray, weights: NDArray) -> float:
    """Average precision by definition, each image as often as its weight says."""
    counted = is_hit & (weights > 0)
    reached = scores[None, :] >= scores[counted][:, None]
    precision = (reached * is_hit) @ weights / (reached @ weights)
    return float(precision @ weights[counted] / weights[counted].sum())


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 4), st.integers(6, 30), st.integers(0, 10_000))
def test_a_precisions_influence_is_its_derivative(num_classes: int, num_images: int, seed: int) -> None:
    """Many ties, two runs: by differences of weights each image's, their sum the suite's `pr_auc`."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(num_images) % num_classes)
    probs = generator.integers(1, 8, size=(2, num_images, num_classes)).astype(np.float64)
    probs /= probs.sum(axis=2, keepdims=True)
    found = precision_influence(labels, probs)
    task, step, equal = "binary-class" if num_classes == 2 else "multi-class", 1e-5, np.ones(num_images)
    for run in range(2):
        value = score(labels, probs[run], task)["pr_auc"]
        assert found.values[run] == pytest.approx(value, abs=1e-12)
        assert found.parts[run].sum() == pytest.approx(value, abs=1e-12)
        for image in (0, num_images - 1):
            moved = step * (np.arange(num_images) == image)
            derivative = np.mean(
                [
                    weighted_precision(labels == k, probs[run, :, k], equal + moved)
                    - weighted_precision(labels == k, probs[run, :, k], equal - moved)
                    for k in range(num_classes)
                ]
            ) / (2 * step)
            assert found.parts[run, image] - found.values[run] / num_images == pytest.approx(derivative, abs=1e-7)


def test_a_precisions_error_is_the_bootstraps() -> None:
    """300 images: the standard error of `pr_auc` within 10 % of that of 1,000 resamples."""
    generator = np.random.default_rng(3)
    labels = (generator.random(300) < 0.3).astype(np.int64)
    high = 1 / (1 + np.exp(-(labels * 1.5 + generator.normal(size=300))))
    probs = np.stack([1 - high, high], axis=1)
    weights = image_weights(labels, "a", stratified=False)
    drawn = [
        np.mean([weighted_precision(labels == k, probs[:, k], row.astype(np.float64)) for k in (0, 1)])
        for row in weights
    ]
    error = float(np.sqrt(precision_influence(labels, probs[None]).covariance()[0, 0]))
    assert error == pytest.approx(np.std(drawn, ddof=1), rel=0.1)
