"""Effects over several protocols: what CutMix does, and whose gain it is, the model's or its trunk's.

Table 2's protocols differ in optimiser and CutMix alone, so their runs pair by seed and by test image. An effect is a
weighted sum of cell means; with both models under one optimiser the cells are a 2 x 2 factorial.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np

from bench.records.card import DataCard
from bench.report.ablations import FACTORS, REMOVAL
from bench.report.analysis.cells import TEST_PARTS, Cell
from bench.report.analysis.pairs import PAIRED, check_sources, restricted
from bench.report.analysis.predictions import Reader
from bench.report.tidy import ten_digits
from bench.stats.comparisons import Difference, paired_difference

WHOLE, TRUNK = REMOVAL.whole, REMOVAL.trunk
MAIN_MODEL, MAIN_CUTMIX, INTERACTION = "model, mean over CutMix", "CutMix, mean over models", "interaction"
Setting = tuple[str, str]  # model, `plain` or `cutmix`
Weights = dict[Setting, float]


@dataclass(frozen=True)
class Contrast:
    """An effect on one part of a data set, under one optimiser; no interval where no resample moves it."""

    dataset: str
    optimiser: str
    part: str
    metric: str
    effect: str  # a name of `EFFECTS`, or the `gain_of_cutmix` of another model
    n_seeds: int  # common to its cells
    difference: float  # the weighted sum of their means
    ci_low: float
    ci_high: float
    p: float  # uncorrected


def gain_of_cutmix(model: str) -> str:
    """The effect of CutMix on a model alone: any that ran under Table 2's protocols has it."""
    return f"CutMix, {model}"


def _gain(model: str) -> dict[str, Weights]:
    return {gain_of_cutmix(model): {(model, "cutmix"): 1.0, (model, "plain"): -1.0}}


# Effect -> weights of the cells. The interaction is the model's gain by CutMix less the trunk's.
EFFECTS: dict[str, Weights] = {
    **_gain(WHOLE),
    **_gain(TRUNK),
    "model, plain": {(WHOLE, "plain"): 1.0, (TRUNK, "plain"): -1.0},
    "model, CutMix": {(WHOLE, "cutmix"): 1.0, (TRUNK, "cutmix"): -1.0},
    MAIN_MODEL: {(WHOLE, "plain"): 0.5, (WHOLE, "cutmix"): 0.5, (TRUNK, "plain"): -0.5, (TRUNK, "cutmix"): -0.5},
    MAIN_CUTMIX: {(WHOLE, "cutmix"): 0.5, (TRUNK, "cutmix"): 0.5, (WHOLE, "plain"): -0.5, (TRUNK, "plain"): -0.5},
    INTERACTION: {(WHOLE, "cutmix"): 1.0, (WHOLE, "plain"): -1.0, (TRUNK, "cutmix"): -1.0, (TRUNK, "plain"): 1.0},
}
OF_BOTH_MODELS = {effect for effect, weights in EFFECTS.items() if len({model for model, _ in weights}) > 1}


def contrasts_of(reader: Reader, cells: Mapping[tuple[str, str], Cell], card: DataCard) -> Iterator[Contrast]:
    """The contrasts of one data set: every effect whose cells share a seed, on both parts, by AUC and accuracy.

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
    effects = EFFECTS | {name: weights for _, model in cells for name, weights in _gain(model).items()}
    for (optimiser, by_setting), (effect, weights) in itertools.product(settings.items(), effects.items()):
        if not weights.keys() <= by_setting.keys():
            continue
        chosen = [by_setting[setting] for setting in weights]
        for other in chosen[1:]:
            check_sources(chosen[0], other)
        seeds: set[int] = reduce(lambda one, other: one & other, (set(cell.seeds) for cell in chosen))
        if not seeds:
            continue
        chosen = [restricted(reader, cell, [r for r in cell.records if r.seed in seeds], card) for cell in chosen]
        for part, metric in itertools.product(TEST_PARTS, PAIRED):
            exact = _effect(chosen, list(weights.values()), part, metric)
            if exact is not None:
                names = (card.dataset, optimiser, part, metric, effect, len(seeds))
                yield Contrast(*names, exact.value, *map(ten_digits, (exact.low, exact.high, exact.p)))


def _effect(cells: list[Cell], weights: list[float], part: str, metric: str) -> Difference | None:
    """The weighted sum of the cells' means, None where a value is undefined; no interval where no resample moves it."""
    scores = [cell.values(part, metric) for cell in cells]
    by_seed = [[value for value in values if value is not None] for values in zip(*scores, strict=True)]
    if any(len(values) < len(cells) for values in by_seed):
        return None
    scale = sum(abs(weight) for weight in weights) / 2  # a difference of two means has scale 1 and lies in [-1, 1]
    seeds = [sum(w * v for w, v in zip(weights, values, strict=True)) / scale for values in by_seed]
    resamples = np.array(weights) @ np.stack([cell.resampled(part, metric) for cell in cells]) / scale
    unit = paired_difference(resamples, seeds)
    if unit.low == unit.high:
        return Difference(unit.value * scale, math.nan, math.nan, math.nan, math.nan, math.nan)
    low, high, low_90, high_90 = (end * scale for end in (unit.low, unit.high, unit.low_90, unit.high_90))
    return Difference(unit.value * scale, low, high, unit.p, low_90, high_90)
