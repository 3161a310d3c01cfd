"""Rare classes by hand: precision, average precision, screening and cost at another prevalence than the images'."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from bench.stats.intervals import StatsError
from bench.stats.prevalence import (
    average_precision,
    cost_threshold,
    expected_cost,
    precision_at,
    rates,
    rates_at,
    screening_threshold,
)

# Four positives, four negatives: + + - + (a tie of + and -) - -
TRUTH = np.array([1, 1, 0, 1, 1, 0, 0, 0], dtype=bool)
SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.5, 0.2, 0.1])


def test_rates_by_hand() -> None:
    """From nobody to all, a tie in one step."""
    points = rates(TRUTH, SCORES)
    assert points.thresholds.tolist() == [math.inf, 0.9, 0.8, 0.7, 0.6, 0.5, 0.2, 0.1]
    assert points.sensitivity.tolist() == [0, 0.25, 0.5, 0.5, 0.75, 1, 1, 1]
    assert points.false_positives.tolist() == [0, 0, 0, 0.25, 0.25, 0.5, 0.75, 1]


def test_precision_by_hand() -> None:
    """One in a hundred, 80 % found, 10 % false alarms: 0.008 of 0.107."""
    assert precision_at(0.8, 0.1, 0.01) == pytest.approx(0.008 / 0.107, rel=1e-12)
    assert precision_at(0.5, 0.0, 0.01) == 1.0


def test_average_precision_by_hand() -> None:
    """Steps of a quarter: precision 1, 1, then with a quarter and half of the negatives above."""
    third, fourth = 0.1 * 0.75 / (0.1 * 0.75 + 0.9 * 0.25), 0.1 / (0.1 + 0.9 * 0.5)
    assert average_precision(TRUTH, SCORES, 0.1) == pytest.approx((1 + 1 + third + fourth) / 4, rel=1e-12)


def test_average_precision_at_the_images_own_prevalence_is_the_usual_one() -> None:
    """scikit-learn's, ties included."""
    generator = np.random.default_rng(0)
    truth, scores = generator.random(200) < 0.3, generator.integers(0, 30, 200) / 30.0
    expected = average_precision_score(truth, scores)
    assert average_precision(truth, scores, float(truth.mean())) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("prevalence", [0.01, 0.05, 0.3])
def test_scores_that_tell_nothing_give_the_prevalence(prevalence: float) -> None:
    """Chance is pi, whatever share of the images is positive."""
    assert average_precision(TRUTH, np.zeros(8), prevalence) == pytest.approx(prevalence, rel=1e-12)


def test_a_screening_threshold_finds_enough_positives_and_no_more_than_it_must() -> None:
    """All four here, for three of four are 75 %; of 40 positives, 38."""
    assert screening_threshold(TRUTH, SCORES) == 0.5
    many = np.arange(60.0)
    assert screening_threshold(many >= 20, many) == 22.0


def test_expected_cost_by_hand() -> None:
    """One in ten ill, a missed one costs ten alarms: calling all alike costs min(1, 0.9)."""
    assert expected_cost(0.75, 0.25, 0.1, 10) == pytest.approx((1.0 * 0.25 + 0.9 * 0.25) / 0.9, rel=1e-12)
    assert expected_cost(0.75, 0.25, 0.1, 1) == pytest.approx((0.1 * 0.25 + 0.9 * 0.25) / 0.1, rel=1e-12)
    assert expected_cost(0.0, 0.0, 0.1, 1) == expected_cost(1.0, 1.0, 0.1, 10) == 1.0
    assert expected_cost(1.0, 0.0, 0.1, 50) == 0.0


def test_the_cheapest_threshold_follows_prevalence_and_costs() -> None:
    """Alarms dear: half are found without one; misses dear: all are found; nothing to gain: nobody is called."""
    assert cost_threshold(TRUTH, SCORES, 0.5, 1) == 0.5  # 0.25 at 0.8, 0.25 at 0.6, 0.25 at 0.5: the lowest
    assert cost_threshold(TRUTH, SCORES, 0.1, 1) == 0.8
    assert cost_threshold(TRUTH, SCORES, 0.1, 50) == 0.5
    assert cost_threshold(TRUTH, -SCORES, 0.01, 1) == math.inf


def test_costs_that_rounding_alone_parts_are_a_tie() -> None:
    """Of five in eight ill a mistake costs 1/8 of an image: one missed at 0.56 and one alarm at 0.33 cost the same."""
    truth = np.array([1, 1, 1, 1, 0, 1, 0, 0], dtype=bool)
    scores = np.array([0.9, 0.79, 0.67, 0.56, 0.44, 0.33, 0.21, 0.1])
    assert expected_cost(0.8, 0.0, 0.625, 1) != expected_cost(1.0, 1 / 3, 0.625, 1)  # 1/3 both, but for the last bit
    assert cost_threshold(truth, scores, 0.625, 1) == 0.33


@pytest.mark.parametrize("threshold", [math.inf, 0.95, 0.9, 0.65, 0.6, 0.5, 0.0])
def test_rates_at_a_threshold_are_a_count(threshold: float) -> None:
    """Whether the threshold is one of the scores, between them, above or below all."""
    flagged = threshold <= SCORES
    expected = (flagged & TRUTH).sum() / 4, (flagged & ~TRUTH).sum() / 4
    assert rates_at(TRUTH, SCORES, threshold) == expected


def test_one_class_alone_has_no_rates() -> None:
    """Said in one line."""
    with pytest.raises(StatsError, match="8 positives and 0 negatives"):
        rates(np.ones(8, dtype=bool), SCORES)
