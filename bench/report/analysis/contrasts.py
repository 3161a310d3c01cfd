"""Effects over several protocols: what CutMix does, and whose gain it is, the model's or its trunk's.

Table 2's protocols differ in optimiser and CutMix alone, so their runs pair by seed and by test image. An effect is a
weighted sum of cell means; with both models under one optimiser the cells are a 2 x 2 factorial.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from functools import reduce

import numpy as np

from bench.records.card import DataCard
from bench.report.ablations import FACTORS, REMOVAL
from bench.report.analysis.cells import TEST_PARTS, Cell
from bench.report.analysis.pairs import PAIRED, check_sources, restricted
from bench.report.analysis.predictions import Reader
from bench.stats.comparisons import Difference, paired_difference

WHOLE, TRUNK = REMOVAL.whole, REMOVAL.trunk
CONTRASTS = ["dataset", "optimiser", "part", "metric", "effect", "n_seeds", "difference", "ci_low", "ci_high", "p"]
MAIN_MODEL, MAIN_CUTMIX, INTERACTION = "model, mean over CutMix", "CutMix, mean over models", "interaction"
Row = tuple[str, str, str, str, str, int, float, float, float, float]
Setting = tuple[str, str]  # model, `plain` or `cutmix`


def cutmix_effect(model: str) -> dict[str, dict[Setting, float]]:
    """What CutMix does for a model: any that ran under Table 2's protocols has this effect."""
    return {f"CutMix, {model}": {(model, "cutmix"): 1.0, (model, "plain"): -1.0}}


# Effect -> weights of the cells. The interaction is the model's gain by CutMix less the trunk's.
EFFECTS: dict[str, dict[Setting, float]] = {
    **cutmix_effect(WHOLE),
    **cutmix_effect(TRUNK),
    "model, plain": {(WHOLE, "plain"): 1.0, (TRUNK, "plain"): -1.0},
    "model, CutMix": {(WHOLE, "cutmix"): 1.0, (TRUNK, "cutmix"): -1.0},
    MAIN_MODEL: {(WHOLE, "plain"): 0.5, (WHOLE, "cutmix"): 0.5, (TRUNK, "plain"): -0.5, (TRUNK, "cutmix"): -0.5},
    MAIN_CUTMIX: {(WHOLE, "cutmix"): 0.5, (TRUNK, "cutmix"): 0.5, (WHOLE, "plain"): -0.5, (TRUNK, "plain"): -0.5},
    INTERACTION: {(WHOLE, "cutmix"): 1.0, (WHOLE, "plain"): -1.0, (TRUNK, "cutmix"): -1.0, (TRUNK, "plain"): 1.0},
}


def contrast_rows(reader: Reader, cells: Mapping[tuple[str, str], Cell], card: DataCard) -> Iterator[Row]:
    """`CONTRASTS` of one data set: every effect whose cells share a seed, on both parts, by AUC and accuracy.

    Args:
        reader: For cells of fewer seeds, where not all cells share theirs.
        cells: (protocol, model) -> cell, of Table 2's protocols.
        card: The data set's.

    Raises:
        PairingError: If two cells are on different images.
    """
    settings: dict[str, dict[Setting, Cell]] = {}
    for (protocol, model), cell in sorted(cells.items()):
        own = FACTORS[protocol]
        settings.setdefault(own.optimiser, {})[model, own.augmentation] = cell
    effects = EFFECTS | {name: weights for _, model in cells for name, weights in cutmix_effect(model).items()}
    for (optimiser, found), (effect, weights) in itertools.product(settings.items(), effects.items()):
        if not weights.keys() <= found.keys():
            continue
        chosen = [found[setting] for setting in weights]
        for other in chosen[1:]:
            check_sources(chosen[0], other)
        seeds: set[int] = reduce(lambda one, other: one & other, (set(cell.seeds) for cell in chosen))
        if not seeds:
            continue
        chosen = [restricted(reader, cell, [r for r in cell.records if r.seed in seeds], card) for cell in chosen]
        for part, metric in itertools.product(TEST_PARTS, PAIRED):
            effect_ = _effect(chosen, list(weights.values()), part, metric)
            if effect_ is not None:
                names = (card.dataset, optimiser, part, metric, effect, len(seeds))
                yield (*names, effect_.value, effect_.low, effect_.high, effect_.p)


def _effect(cells: list[Cell], weights: list[float], part: str, metric: str) -> Difference | None:
    """The weighted sum of the cells' means, None where a value is undefined; no interval where no resample moves it."""
    scores = [cell.values(part, metric) for cell in cells]
    by_seed = [[value for value in values if value is not None] for values in zip(*scores, strict=True)]
    if any(len(values) < len(cells) for values in by_seed):
        return None
    scale = sum(abs(weight) for weight in weights) / 2  # a difference of two means has scale 1 and lies in [-1, 1]
    seeds = [sum(w * v for w, v in zip(weights, values, strict=True)) / scale for values in by_seed]
    resamples = np.array(weights) @ np.stack([cell.resampled(part, metric) for cell in cells]) / scale
    found = paired_difference(resamples, seeds)
    if found.low == found.high:
        return Difference(found.value * scale, math.nan, math.nan, math.nan, math.nan, math.nan)
    low, high, low_90, high_90 = (end * scale for end in (found.low, found.high, found.low_90, found.high_90))
    return Difference(found.value * scale, low, high, found.p, low_90, high_90)
