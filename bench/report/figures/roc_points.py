"""The points of ROC and precision-recall curves, averaged over seeds so that areas average too. Numpy alone.

All runs of a mean share the test labels, so their curves bend at the same positions of the x axis: every 1/N false
positive rate, every 1/P recall. The mean is taken there; its area is the mean of the runs' areas.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Points = tuple[Floats, Floats]
FINEST = 0.004  # a column of print cannot show less of an axis: under a point of 1/72 inch
MANY = 300


def ranked_counts(is_hit: NDArray[np.bool_], scores: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hits and others among the highest scores, from none to all; equal scores enter together.

    Args:
        is_hit: (N,) whether an image is of the class.
        scores: (N,) of the class.

    Returns:
        Two arrays of equal length, both from 0.
    """
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    ends = np.append(ordered[1:] != ordered[:-1], True)
    hits = np.cumsum(is_hit[order])[ends]
    others = np.flatnonzero(ends) + 1 - hits
    return np.append(0, hits), np.append(0, others)


def mean_roc(is_hit: NDArray[np.bool_], scores: Sequence[Floats]) -> Points:
    """False and true positive rates of the vertical mean over runs.

    Args:
        is_hit: (N,) whether an image is of the class; both kinds occur.
        scores: One (N,) array a run.
    """
    num_hits, num_others = int(is_hit.sum()), int((~is_hit).sum())
    positions = np.arange(num_others + 1)
    sides = np.zeros((num_others + 1, 2))
    for run in scores:
        sides += _heights(*ranked_counts(is_hit, run), positions)
    rates = np.repeat(positions / num_others, 2)
    return thinned(*corners(rates, sides.ravel() / (num_hits * len(scores))))


def _heights(hits: NDArray[np.int64], others: NDArray[np.int64], positions: NDArray[np.int64]) -> Floats:
    """(positions, 2) hits of a curve when it arrives at a number of others, and when it leaves it."""
    columns, first = np.unique(others, return_index=True)
    last = np.append(first[1:], len(others)) - 1
    arrives, leaves = hits[first].astype(np.float64), hits[last].astype(np.float64)
    right = np.searchsorted(columns, positions)
    left = np.maximum(right - 1, 0)
    width = np.maximum(columns[right] - columns[left], 1)
    between = leaves[left] + (arrives[right] - leaves[left]) * (positions - columns[left]) / width
    on_column = columns[right] == positions
    return np.stack([np.where(on_column, arrives[right], between), np.where(on_column, leaves[right], between)], axis=1)


def mean_precision_recall(is_hit: NDArray[np.bool_], scores: Sequence[Floats]) -> Points:
    """Recall and precision of the vertical mean over runs, as the steps whose area is the average precision.

    Args:
        is_hit: (N,) whether an image is of the class; at least one is.
        scores: One (N,) array a run.
    """
    num_hits = int(is_hit.sum())
    wanted = np.arange(1, num_hits + 1)
    precision = np.zeros(num_hits)
    for run in scores:
        hits, others = ranked_counts(is_hit, run)
        index = np.searchsorted(hits, wanted)
        precision += hits[index] / (hits[index] + others[index])
    recall = np.repeat(np.append(0, wanted) / num_hits, 2)[1:-1]
    return thinned(*corners(recall, np.repeat(precision / len(scores), 2)))


def corners(x: Floats, y: Floats) -> Points:
    """A polyline without the points that lie on the straight way between their neighbours."""
    moved = np.append(True, (np.diff(x) != 0) | (np.diff(y) != 0))
    x, y = x[moved], y[moved]
    if len(x) < 3:
        return x, y
    right, up = np.diff(x), np.diff(y)
    turns = np.abs(right[:-1] * up[1:] - right[1:] * up[:-1]) > 1e-12
    kept = np.concatenate([[True], turns, [True]])
    return x[kept], y[kept]


def thinned(x: Floats, y: Floats) -> Points:
    """A polyline of many points without those that lie closer than `FINEST` to the last one kept; the ends stay."""
    if len(x) <= MANY:
        return x, y
    kept, last = [0], (x[0], y[0])
    for index, point in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
        if max(abs(point[0] - last[0]), abs(point[1] - last[1])) >= FINEST:
            kept.append(index)
            last = point
    if kept[-1] != len(x) - 1:
        kept.append(len(x) - 1)
    return x[kept], y[kept]
