"""Scores without chosen images: against removing at random, again and again."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.stats.delong import Influence
from bench.stats.intervals import StatsError, mean, variance
from bench.stats.metrics import auc
from bench.stats.removal import area_removal, share_removal
from bench.stats.seed_variance import moderated, seed_pool
from bench.stats.uncertainty import of_mean, with_images
from tests.stats.test_coverage import noise


def drawn(num_images: int, num_classes: int, runs: int, seed: int) -> tuple[NDArray, NDArray, NDArray]:
    """Labels, scores (R, N, K), and kept images: two thirds, fewer of the last class."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(num_images) % num_classes)
    shared = generator.normal(size=(num_images, num_classes)) + 1.2 * np.eye(num_classes)[labels]
    scores = shared + 0.6 * generator.normal(size=(runs, num_images, num_classes))
    kept = generator.random(num_images) < np.where(labels == num_classes - 1, 0.5, 0.8)
    return labels, scores, kept


def removed_at_random(labels: NDArray, kept: NDArray, generator: np.random.Generator) -> NDArray:
    """Other images kept, as many of each class."""
    other = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        other[generator.permutation(members)[: int((kept & (labels == label)).sum())]] = True
    return other


@pytest.mark.parametrize(("task", "num_classes"), [("binary-class", 2), ("multi-class", 4)])
def test_random_removals_have_the_mean_and_deviation_that_it_says(task: str, num_classes: int) -> None:
    """AUC and accuracy of 2,000 random removals of the same class mix, to three of their own standard errors."""
    labels, scores, kept = drawn(160, num_classes, 2, num_classes)
    right = scores.argmax(axis=2) == labels
    generator = np.random.default_rng(1)
    others = [removed_at_random(labels, kept, generator) for _ in range(2000)]
    areas = area_removal(labels, scores, kept, task)
    shares = share_removal(labels, right, kept)
    assert areas.left == pytest.approx([auc(labels[kept], run[kept], task) for run in scores], abs=1e-12)
    assert shares.left == pytest.approx(right[:, kept].mean(axis=1), abs=1e-12)
    assert areas.left + areas.drop.values == pytest.approx([auc(labels, run, task) for run in scores], abs=1e-12)
    for found, drawn_scores in (
        (areas, [np.mean([auc(labels[o], run[o], task) for run in scores]) for o in others[:500]]),
        (shares, [right[:, o].mean() for o in others]),
    ):
        error = np.std(drawn_scores) / np.sqrt(len(drawn_scores))
        assert (found.left + found.drop.values).mean() == pytest.approx(np.mean(drawn_scores), abs=3 * error)
        assert found.error == pytest.approx(np.std(drawn_scores), rel=0.1)
        assert found.drop.parts.sum(axis=1) == pytest.approx(found.drop.values, abs=1e-12)


def test_nothing_removed_is_no_drop_and_a_lost_class_has_none() -> None:
    """All images kept: 0 without any variance; no image of a class kept: no AUC, but an accuracy of the others."""
    labels, scores, _ = drawn(60, 2, 3, 0)
    right = scores.argmax(axis=2) == labels
    everything = np.ones(60, dtype=bool)
    for found in (area_removal(labels, scores, everything, "binary-class"), share_removal(labels, right, everything)):
        assert found.drop.values == pytest.approx(0.0, abs=1e-15)
        assert found.drop.covariance() == pytest.approx(0.0, abs=1e-20)
        assert found.error == 0.0
    with pytest.raises(StatsError, match="have no AUC"):
        area_removal(labels, scores, labels == 0, "binary-class")
    assert share_removal(labels, right, labels == 0).left == pytest.approx(right[:, labels == 0].mean(axis=1))


KEYS = [(metric, count) for metric in ("auc", "acc") for count in (1, 3)]
NUM_MODELS = 6  # of three seeds each, which say together how much seeds move the drop


def covered(advantage: float, num_studies: int) -> dict[tuple[str, int], float]:
    """Share of studies whose 95 % interval of the first model's drop holds the true one, by measure and seeds.

    156 images, about a quarter of them easier by `advantage`, mostly of the larger class. The variance over seeds is
    pooled over the models.
    """
    generator, hits = np.random.default_rng([int(advantage * 10), num_studies]), dict.fromkeys(KEYS, 0)
    truth = true_drop(advantage)
    for _ in range(num_studies):
        labels, scores, kept = study(generator, 156, 3 * NUM_MODELS, advantage)
        right = (scores > 0) == labels
        areas = area_removal(labels, np.stack([-scores, scores], axis=2), kept, "binary-class")
        for metric, found in (("auc", areas), ("acc", share_removal(labels, right, kept))):
            for count in (1, 3):
                hits[metric, count] += holds(found.drop, count, truth[metric])
    return {key: number / num_studies for key, number in hits.items()}


def study(
    generator: np.random.Generator, num_images: int, runs: int, advantage: float
) -> tuple[NDArray, NDArray, NDArray]:
    """Labels, scores (R, N) and the images that are kept: not those with a twin."""
    labels = (generator.random(num_images) < 0.73).astype(np.int64)
    twin = generator.random(num_images) < np.where(labels == 1, 0.33, 0.12)
    shared = generator.normal(size=num_images)
    moves = 0.15 * generator.normal(size=(runs, 1)) if runs > 1 else 0.0
    signal = np.where(labels == 1, 1.0, -1.0) * (0.8 + (advantage + moves) * twin)
    scores = signal + 0.8 * shared + 0.6 * generator.normal(size=(runs, num_images))
    return labels, scores, ~twin


def true_drop(advantage: float) -> dict[str, float]:
    """Of 60,000 images and one run of a middling seed: how far a seed moves the twins is symmetric and small."""
    labels, scores, kept = study(np.random.default_rng(0), 60_000, 1, advantage)
    right = (scores > 0) == labels
    areas = area_removal(labels, np.stack([-scores, scores], axis=2), kept, "binary-class")
    return {"auc": float(areas.drop.values[0]), "acc": float(share_removal(labels, right, kept).drop.values[0])}


def holds(drop: Influence, count: int, truth: float) -> bool:
    """Whether the interval of the first model's mean drop over its seeds holds the truth."""
    models = [
        Influence(drop.values[start : start + 3], drop.parts[start : start + 3], drop.strata)
        for start in range(0, 3 * NUM_MODELS, 3)
    ]
    spreads, blocks = [variance(model.values.tolist()) for model in models], [model.covariance() for model in models]
    pool = seed_pool(spreads, [2] * NUM_MODELS, [with_images(block) for block in blocks])
    own = moderated(pool, spreads[0], 2) if count == 3 else moderated(pool)
    found = of_mean(blocks[0][:count, :count], own)
    return abs(mean(drop.values[:count].tolist()) - truth) <= found.half_width()


@pytest.mark.parametrize("num_studies", [300, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("advantage", [0.0, 0.8])
def test_the_drops_interval_covers(advantage: float, num_studies: int) -> None:
    """93 to 97 % of studies, to two standard errors, whether twins are easier or like all others."""
    for key, share in covered(advantage, num_studies).items():
        assert 0.93 - noise(0.93, num_studies) <= share <= 0.97 + noise(0.97, num_studies), (key, share)
