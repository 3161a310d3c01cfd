"""Curves of the figures: their points bend where they must, and their areas are the metrics'."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from bench.report.figures import roc_points
from bench.report.figures.roc_points import corners, mean_precision_recall, mean_roc, ranked_counts, thinned
from bench.stats.metrics import per_class

HITS = np.array([True, False, True, False])
SCORES = np.array([0.9, 0.9, 0.4, 0.1])  # the first two enter together


def area(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Under straight lines; steps stand upright."""
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))


def test_a_roc_curve_by_hand() -> None:
    """Equal scores give a slope, a hit alone an upright step."""
    x, y = mean_roc(HITS, [SCORES])
    assert list(zip(x, y, strict=True)) == [(0, 0), (0.5, 0.5), (0.5, 1), (1, 1)]


def test_a_precision_recall_curve_by_hand() -> None:
    """Half of the first two are hits, two thirds of the first three: steps at these heights."""
    x, y = mean_precision_recall(HITS, [SCORES])
    np.testing.assert_allclose(x, [0, 0.5, 0.5, 1])
    np.testing.assert_allclose(y, [1 / 2, 1 / 2, 2 / 3, 2 / 3])


def test_the_mean_of_two_curves_by_hand() -> None:
    """A perfect run and one that ranks everything wrong meet in the middle."""
    x, y = mean_roc(HITS, [np.array([4.0, 2, 3, 1]), np.array([1.0, 3, 2, 4])])
    assert list(zip(x, y, strict=True)) == [(0, 0), (0, 0.5), (1, 0.5), (1, 1)]


runs = st.integers(2, 60).flatmap(
    lambda n: st.tuples(
        st.lists(st.booleans(), min_size=n, max_size=n).filter(lambda hits: 0 < sum(hits) < len(hits)),
        st.lists(st.lists(st.integers(0, 9), min_size=n, max_size=n), min_size=1, max_size=3),
    )
)


@given(runs)
def test_areas_of_mean_curves_are_the_means_of_the_metrics(drawn: tuple[list[bool], list[list[int]]]) -> None:
    """Whatever the ties, one run or three: ROC area and average precision as `per_class` has them."""
    is_hit, scores = np.array(drawn[0]), [np.array(run) / 10 for run in drawn[1]]
    found = [per_class(is_hit.astype(np.int64), np.stack([1 - run, run], axis=1), "binary-class") for run in scores]
    for curve, measure in ((mean_roc, "auc"), (mean_precision_recall, "ap")):
        expected = np.mean([one[measure][1] for one in found])
        assert area(*curve(is_hit, scores)) == pytest.approx(expected, abs=1e-12)


@given(runs)
def test_a_single_roc_curve_is_scikit_learns(drawn: tuple[list[bool], list[list[int]]]) -> None:
    """Corner by corner."""
    is_hit, scores = np.array(drawn[0]), np.array(drawn[1][0]) / 10
    fpr, tpr, _ = roc_curve(is_hit, scores, drop_intermediate=False)
    x, y = mean_roc(is_hit, [scores])
    np.testing.assert_allclose(np.stack([x, y]), np.stack(corners(fpr, tpr)), atol=1e-12)


def test_counts_start_with_nothing_and_end_with_all() -> None:
    """One step a distinct score."""
    hits, others = ranked_counts(HITS, SCORES)
    assert hits.tolist() == [0, 1, 2, 2]
    assert others.tolist() == [0, 1, 1, 2]


def test_corners_keep_the_line() -> None:
    """Points on the way and doubled points go, ends and bends stay."""
    x, y = corners(np.array([0.0, 0, 1, 1, 2, 3, 3]), np.array([0.0, 0, 1, 1, 2, 2, 3]))
    assert list(zip(x, y, strict=True)) == [(0, 0), (2, 2), (3, 2), (3, 3)]


def test_thinning_leaves_out_what_print_cannot_show() -> None:
    """No left-out point is farther than `FINEST` from one that stays; both ends stay; few points all stay."""
    generator = np.random.default_rng(0)
    x, y = (np.sort(generator.random(5000)) for _ in range(2))
    kept_x, kept_y = thinned(x, y)
    assert (kept_x[0], kept_x[-1]) == (x[0], x[-1])
    assert len(kept_x) < 700
    far = np.maximum(np.abs(x[:, None] - kept_x), np.abs(y[:, None] - kept_y)).min(axis=1)
    assert far.max() < roc_points.FINEST
    few = x[: roc_points.MANY]
    assert thinned(few, few)[0] is few
