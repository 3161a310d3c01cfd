"""Resamples of images as whole weights, for what has no closed form. No files.

A resample is a row of how often each image was drawn. Sums of whole numbers below 2^53 are exact in whatever order they
are added: two machines give the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.streams import stream_seed

Weights = NDArray[np.uint8]

NUM_RESAMPLES = 500  # the Monte Carlo error of a standard error is 3 %
BLOCK = 128  # resamples drawn or multiplied at a time


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


def _blocks(length: int, height: int) -> Iterator[slice]:
    for start in range(0, length, height):
        yield slice(start, min(start + height, length))
