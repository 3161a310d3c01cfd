"""Equal and nearly equal images across two splits: bytes for the first, pixel correlation for the second."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TWIN_THRESHOLD = 0.99
MAX_PAIRS = 20_000
BLOCK = 1024  # images of the first split per matrix product: 1,024 x 47,280 float32 is 0.2 GB
EXACT_BLOCK = 2048
# Correlations this close to the threshold are decided in whole numbers, so that no BLAS decides a pair.
MARGIN = 1e-3
NEAREST_MARGIN = 1e-4  # correlations so close to an image's highest are compared in whole numbers; float32 errs by 1e-5


@dataclass(frozen=True)
class Pairs:
    """Pairs of images of two splits.

    Attributes:
        num: How many there are.
        pairs: The first of them as [index in first, index in second], sorted.
        second_has: (N_second,) which images of the second split are in any pair, listed or not.
    """

    num: int
    pairs: list[list[int]]
    second_has: NDArray[np.bool_]


@dataclass(frozen=True)
class Duplicates:
    """Equal and nearly equal images across the three splits.

    Attributes:
        exact: By `train/val`, `train/test`, `val/test`.
        twins: By the same keys.
        similarity: By the same keys, (N_second,) each image's highest correlation with an image of the first split.
        test_indices: Test images with a twin or an equal image in train or val, sorted.
    """

    exact: dict[str, Pairs]
    twins: dict[str, Pairs]
    similarity: dict[str, NDArray[np.float64]]
    test_indices: list[int]


def compare(images: Mapping[str, NDArray[np.uint8]], seen: Mapping[str, NDArray[np.uint8]] | None = None) -> Duplicates:
    """Find the duplicates across splits.

    Args:
        images: By split, (N, H, W) or (N, H, W, 3).
        seen: What near duplicates are looked for in, where that is not the images themselves: the same ones, smaller.
    """
    seen = seen or images
    exact, twins, similarity = {}, {}, {}
    for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
        exact[f"{first}/{second}"] = find_exact(images[first], images[second])
        twins[f"{first}/{second}"] = find_twins(seen[first], seen[second])
        similarity[f"{first}/{second}"] = nearest(seen[first], seen[second])
    # An image of one value has no correlation; an equal one in train or val counts all the same.
    known = np.any([pairs[key].second_has for pairs in (exact, twins) for key in ("train/test", "val/test")], axis=0)
    return Duplicates(exact, twins, similarity, np.flatnonzero(known).tolist())


def shrunk(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Images at a smaller size, each pixel the mean of the pixels that fall into it; smaller ones as they are.

    Args:
        images: (N, S, S) or (N, S, S, 3).
        size: Pixels a side.
    """
    if images.shape[1] <= size:
        return images
    edges = np.arange(size + 1) * images.shape[1] // size
    widths = np.diff(edges).astype(np.uint32)
    counts = np.multiply.outer(widths, widths).reshape(size, size, *[1] * (images.ndim - 3))
    sums = np.add.reduceat(images, edges[:-1], axis=1, dtype=np.uint32)
    sums = np.add.reduceat(sums, edges[:-1], axis=2, dtype=np.uint32)
    means: NDArray[np.uint8] = ((sums + counts // 2) // counts).astype(np.uint8)
    return means


def find_exact(first: NDArray[np.uint8], second: NDArray[np.uint8], limit: int = MAX_PAIRS) -> Pairs:
    """Pairs of images with the same bytes.

    Args:
        first: (N, H, W) or (N, H, W, 3).
        second: (M, ...) of the same image shape.
        limit: How many pairs to list at most.
    """
    indices: dict[bytes, list[int]] = {}
    for index, image in enumerate(second):
        indices.setdefault(_fingerprint(image), []).append(index)
    matches = (
        (np.full(len(match), row), np.array(match))
        for row, image in enumerate(first)
        if (match := indices.get(_fingerprint(image)))
    )
    return _collect(matches, len(second), limit)


def find_twins(
    first: NDArray[np.uint8],
    second: NDArray[np.uint8],
    threshold: float = TWIN_THRESHOLD,
    limit: int = MAX_PAIRS,
) -> Pairs:
    """Pairs of images whose pixel correlation is at least the threshold.

    Pearson's correlation over all pixels, of colour images over all channels together. An image of one value
    has no correlation and is nobody's twin.

    Args:
        first: (N, H, W) or (N, H, W, 3).
        second: (M, ...) of the same image shape.
        threshold: Smallest correlation of a twin, in (0, 1].
        limit: How many pairs to list at most.
    """
    first_flat, second_flat = (images.reshape(len(images), -1) for images in (first, second))
    return _collect(_twin_blocks(first_flat, second_flat, threshold), len(second), limit)


def nearest(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The highest pixel correlation of each image of the second split with any of the first; the same on any machine.

    Args:
        first: (N, H, W) or (N, H, W, 3).
        second: (M, ...) of the same image shape.

    Returns:
        (M,) in [-1, 1]; an image of one value has 0.
    """
    first_flat, second_flat = (images.reshape(len(images), -1) for images in (first, second))
    columns_unit, best = _unit(second_flat), np.full(len(second), -1.0)
    for start in range(0, len(first), BLOCK):
        correlation = _unit(first_flat[start : start + BLOCK]) @ columns_unit.T
        bar = np.maximum(correlation.max(axis=0), best) - NEAREST_MARGIN
        rows, columns = np.nonzero(correlation >= bar)
        for part in np.split(np.arange(len(rows)), range(EXACT_BLOCK, len(rows), EXACT_BLOCK)):
            exact = _correlation(first_flat[start + rows[part]], second_flat[columns[part]])
            np.maximum.at(best, columns[part], exact)
    highest: NDArray[np.float64] = np.clip(best, -1.0, 1.0)  # a root may have been rounded down
    return highest


def _twin_blocks(
    first: NDArray[np.uint8], second: NDArray[np.uint8], threshold: float
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Rows and columns of twins, a block of the first split at a time, in sorted order."""
    columns_unit = _unit(second)
    for start in range(0, len(first), BLOCK):
        correlation = _unit(first[start : start + BLOCK]) @ columns_unit.T
        rows, columns = np.nonzero(correlation >= threshold - MARGIN)
        certain = correlation[rows, columns] >= threshold + MARGIN
        rows += start
        (unsure,) = np.nonzero(~certain)
        for part in np.split(unsure, range(EXACT_BLOCK, len(unsure), EXACT_BLOCK)):
            certain[part] = _correlation(first[rows[part]], second[columns[part]]) >= threshold
        yield rows[certain], columns[certain]


def _unit(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, P) -> rows of mean 0 and length 1; rows of one value become 0. Centred in float64: 28 bits are needed."""
    unit = np.zeros(images.shape, dtype=np.float32)
    for start in range(0, len(images), BLOCK):
        centred = images[start : start + BLOCK].astype(np.float64)
        centred -= centred.mean(axis=1, keepdims=True)
        length = np.sqrt(np.einsum("np,np->n", centred, centred))[:, None]
        np.divide(centred, length, out=unit[start : start + BLOCK], where=length > 0, casting="same_kind")
    return unit


def _correlation(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(N, P) row by row; sums are whole numbers, so that equal images come to exactly 1."""
    a, b = first.astype(np.int64), second.astype(np.int64)
    num_pixels = a.shape[1]
    sum_a, sum_b = a.sum(axis=1), b.sum(axis=1)
    covariance = num_pixels * (a * b).sum(axis=1) - sum_a * sum_b
    variance_a = num_pixels * (a * a).sum(axis=1) - sum_a**2
    variance_b = num_pixels * (b * b).sum(axis=1) - sum_b**2
    scale = np.sqrt(variance_a.astype(np.float64) * variance_b)
    correlation = np.zeros(len(a))
    np.divide(covariance, scale, out=correlation, where=scale > 0)
    return correlation


def _collect(blocks: Iterable[tuple[NDArray[np.intp], NDArray[np.intp]]], num_second: int, limit: int) -> Pairs:
    num = 0
    pairs: list[list[int]] = []
    second_has = np.zeros(num_second, dtype=np.bool_)
    for rows, columns in blocks:
        num += len(rows)
        second_has[columns] = True
        room = max(limit - len(pairs), 0)
        pairs += [[int(row), int(column)] for row, column in zip(rows[:room], columns[:room], strict=True)]
    return Pairs(num, pairs, second_has)


def _fingerprint(image: NDArray[np.uint8]) -> bytes:
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()
