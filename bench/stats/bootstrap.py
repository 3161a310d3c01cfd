"""Resamples of test images: integer weights in, resampled AUCs and means out. No files.

A resample is a row of whole weights, how often each image was drawn. Comparisons are counted in halves, so every sum
is of whole numbers below 2^53 and exact in whatever order it is added: two machines give the same bits, and both ways
of computing an AUC give the same AUC. One way sorts each class's column once and reads the weights in that order,
rows small enough for the first cache. The other sums the (positives x negatives) comparisons over all seeds first, so
that its cost hardly grows with the seeds; it pays for small test sets.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.errors import ShapeError
from bench.streams import stream_seed

Weights = NDArray[np.uint8]
Labels = NDArray[np.int64]
Floats = NDArray[np.float64]

NUM_RESAMPLES = 1000
BLOCK = 128  # resamples drawn or multiplied at a time
SORTED_BLOCK_VALUES = 2**17  # weights gathered at a time: 128 KiB of them, 512 KiB of their running sums
FLOAT32_WHOLE = 2**24  # whole numbers up to here are exact in float32
# Seconds per comparison, multiplication and gathered weight on one core; they choose a way, never a value.
COMPARE, MULTIPLY, GATHER = 2e-9, 4e-11, 3.5e-9


def image_weights(labels: NDArray[Any], name: str, *, stratified: bool, num_resamples: int = NUM_RESAMPLES) -> Weights:
    """How often each image is drawn in each resample, with replacement.

    Args:
        labels: (N,) class indices.
        name: What is resampled; the same name and labels give the same weights.
        stratified: Draw within each class, so that no resample loses a class or changes a class's share.
        num_resamples: B.

    Returns:
        (B, N) counts; each row sums to N.
    """
    truth = np.asarray(labels, dtype=np.int64)
    generator = np.random.default_rng(stream_seed("resample", name, "stratified" if stratified else "plain"))
    groups = [np.flatnonzero(truth == k) for k in np.unique(truth)] if stratified else [np.arange(len(truth))]
    weights = np.empty((num_resamples, len(truth)), dtype=np.uint8)
    for rows in _blocks(num_resamples, BLOCK):
        for group in groups:
            weights[rows, group] = _draw(generator, rows.stop - rows.start, len(group))
    return weights


def _draw(generator: np.random.Generator, num_rows: int, num_images: int) -> NDArray[np.int64]:
    drawn = generator.integers(0, num_images, size=(num_rows, num_images), dtype=np.int64)
    drawn += np.arange(num_rows)[:, None] * num_images
    return np.bincount(drawn.ravel(), minlength=num_rows * num_images).reshape(num_rows, num_images)


def auc_resamples(labels: NDArray[Any], probs: Floats, task: str, weights: Weights, way: str = "") -> Floats:
    """The AUC of `bench.stats.metrics.auc`, mean over seeds, in every resample.

    Args:
        labels: (N,) class indices in [0, K).
        probs: (S, N, K) scores of S seeds on the same images.
        task: `binary-class` takes the last column alone; else the unweighted mean over classes, one against the rest.
        weights: (B, N) from `image_weights`.
        way: "sorted" or "compared"; empty chooses the faster. Both give the same bits.

    Returns:
        (B,) fractions. NaN where a class has no weight, or all of it: that class's area is undefined there, and a
        mean over fewer classes would be another measure. Stratified weights never do that to a class that is there.

    Raises:
        ShapeError: If the shapes disagree.
    """
    truth = np.asarray(labels, dtype=np.int64)
    if probs.ndim != 3 or truth.shape != probs.shape[1:2] or weights.shape[1:] != truth.shape:
        shapes = f"labels {truth.shape}, scores {probs.shape}, weights {weights.shape}"
        raise ShapeError(f"{shapes}; expected (N,), (seeds, N, classes) and (resamples, N)")
    num_seeds, _, num_classes = probs.shape
    classes = [num_classes - 1] if task == "binary-class" else list(range(num_classes))
    total: Floats = np.zeros(len(weights))
    for k in classes:
        is_hit = truth == k
        hits = weights[:, is_hit].sum(axis=1, dtype=np.int64)
        rest = weights[:, ~is_hit].sum(axis=1, dtype=np.int64)
        count = _compared if (way or _faster(is_hit, num_seeds, len(weights))) == "compared" else _sorted
        halves = count(is_hit, probs[:, :, k], weights)
        with np.errstate(invalid="ignore"):  # 0 / 0 where the class is lost: NaN, as promised
            total += halves / (2.0 * num_seeds * hits * rest)
    return total / len(classes)


def _faster(is_hit: NDArray[np.bool_], num_seeds: int, num_resamples: int) -> str:
    pairs = int(is_hit.sum()) * int((~is_hit).sum())
    compared = pairs * (num_seeds * COMPARE + num_resamples * MULTIPLY)
    return "compared" if compared < num_seeds * len(is_hit) * num_resamples * GATHER else "sorted"


def _sorted(is_hit: NDArray[np.bool_], scores: Floats, weights: Weights) -> NDArray[np.int64]:
    """Twice the weighted wins of hits over the rest, summed over seeds; (B,).

    Against all images, hits included, a hit wins the weight below it and half the weight tied with it. Among the hits
    alone that adds up to half the squared weight of all hits whatever the scores, which is taken off.
    """
    halves = np.zeros(len(weights), dtype=np.int64)
    height = max(1, SORTED_BLOCK_VALUES // len(is_hit))
    for column in scores:
        order = np.argsort(column, kind="stable")
        ordered = column[order]
        places = np.flatnonzero(is_hit[order])
        first = np.searchsorted(ordered, ordered[places], side="left")
        last = np.searchsorted(ordered, ordered[places], side="right") - 1
        start = order[first]
        for rows in _blocks(len(weights), height):
            in_order = weights[rows].take(order, axis=1)
            upto = np.cumsum(in_order, axis=1, dtype=np.int32)
            own = in_order.take(places, axis=1).astype(np.int64)
            wins = upto.take(last, axis=1) + upto.take(first, axis=1) - weights[rows].take(start, axis=1)
            halves[rows] += np.einsum("bi,bi->b", own, wins) - own.sum(axis=1) ** 2
    return halves


def _compared(is_hit: NDArray[np.bool_], scores: Floats, weights: Weights) -> Floats:
    """The same by a matrix of comparisons summed over seeds: two for a win, one for a tie."""
    hits, rest = scores[:, is_hit], scores[:, ~is_hit]
    matrix = np.zeros((hits.shape[1], rest.shape[1]), dtype=np.int32)
    for high, low in zip(hits, rest, strict=True):
        matrix += high[:, None] > low
        matrix += high[:, None] >= low
    largest = 2 * len(scores) * int(weights[:, is_hit].sum(axis=1, dtype=np.int64).max(initial=0))
    exact: type[Any] = np.float32 if largest < FLOAT32_WHOLE else np.float64
    factors: NDArray[Any] = matrix.astype(exact)
    halves = np.empty(len(weights))
    for rows in _blocks(len(weights), BLOCK):
        drawn: NDArray[Any] = weights[rows][:, is_hit].astype(exact)
        wins = drawn @ factors
        halves[rows] = np.einsum("bj,bj->b", wins.astype(np.float64), weights[rows][:, ~is_hit].astype(np.float64))
    return halves


def sum_resamples(values: NDArray[Any], weights: Weights) -> Floats:
    """Weighted sums of image values in every resample.

    Args:
        values: (M, N) one value an image; whole numbers give exact sums.
        weights: (B, N).

    Returns:
        (M, B).
    """
    columns = np.asarray(values, dtype=np.float64)
    sums = np.empty((len(columns), len(weights)))
    for rows in _blocks(len(weights), BLOCK):
        sums[:, rows] = columns @ weights[rows].T.astype(np.float64)
    return sums


def _blocks(length: int, height: int) -> Iterator[slice]:
    for start in range(0, length, height):
        yield slice(start, min(start + height, length))
