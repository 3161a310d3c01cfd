"""How alike maps are: rank correlations to randomised models and across images. No torch."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

import numpy as np

from bench.records.cam_record import TRAINED, Map


def rank_correlation(first: Map, second: Map) -> float | None:
    """Spearman's rank correlation of two maps (H, W), ties at their mean rank; None if one is constant."""
    from scipy.stats import rankdata

    ranks = [rankdata(values.ravel()) for values in (first, second)]
    if min(np.ptp(values) for values in ranks) == 0:
        return None
    return float(np.corrcoef(*ranks)[0, 1])


def median(values: Iterable[float | None]) -> float | None:
    """The median of what is defined; None of nothing."""
    defined = [value for value in values if value is not None]
    return float(np.median(defined)) if defined else None


def similarity_to_random(maps: dict[tuple[int, str, str], Map], layer: str) -> list[float | None]:
    """Rank correlations of the trained model's map of each image with those of the randomised models."""
    return [
        rank_correlation(maps[index, layer, TRAINED], values)
        for (index, path, weights), values in maps.items()
        if path == layer and weights != TRAINED
    ]


def similarity_across_images(
    maps: dict[tuple[int, str, str], Map], layer: str, predictions: Mapping[int, int]
) -> list[float | None]:
    """Rank correlations of the trained model's maps of each two different images that are predicted alike.

    With two classes the maps of one class's score are much like those of the other's with the sign turned, so pairs
    across predictions would describe classes and not images.

    Args:
        maps: As `read_maps` gives them.
        layer: Module path.
        predictions: Predicted label by test index.
    """
    trained = [
        (index, values) for (index, path, weights), values in maps.items() if (path, weights) == (layer, TRAINED)
    ]
    return [
        rank_correlation(first, second)
        for (one, first), (other, second) in itertools.combinations(trained, 2)
        if predictions[one] == predictions[other]
    ]
