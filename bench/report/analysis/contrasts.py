"""Effects over several protocols: what CutMix does, whose gain it is, the model's or its trunk's, what a start does.

Table 2's protocols differ in optimiser and CutMix alone, and their runs pair by test image. An effect is a
weighted sum of cell means; with both models under one optimiser the cells are a 2 x 2 factorial. The protocols of the
study `init` differ in where training starts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bench.protocols.loading import load_protocol
from bench.records.card import DataCard
from bench.report.ablations import FACTORS, REMOVAL, STARTED, STARTED_SEEDS, STARTS
from bench.report.analysis.cells import TEST_PARTS, Cell, joint_covariance
from bench.report.analysis.pairs import PAIRED, check_sources
from bench.report.analysis.seeds import SeedVariances, of_weights
from bench.report.analysis_plan import MARGIN
from bench.report.tidy import ten_digits
from bench.stats.comparisons import Difference
from bench.stats.intervals import LEVEL, mean
from bench.stats.power import power_at, smallest_detectable
from bench.stats.uncertainty import around, of_contrast

WHOLE, TRUNK = REMOVAL.whole, REMOVAL.trunk
MAIN_MODEL, MAIN_CUTMIX, INTERACTION = "model, mean over CutMix", "CutMix, mean over models", "interaction"
Setting = tuple[str, str]  # model, `plain` or `cutmix`, or where it starts
Weights = dict[Setting, float]


@dataclass(frozen=True)
class Contrast:
    """An effect on one part of a data set, under one optimiser; no interval where nothing moves it."""

    dataset: str
    optimiser: str
    part: str
    metric: str
    effect: str  # a name of `EFFECTS`, the `gain_of_cutmix` of another model, or a name of `start_effects`
    n_seeds: int  # the fewest of its cells
    difference: float  # the weighted sum of their means
    ci_low: float
    ci_high: float
    p: float  # uncorrected
    detectable: float  # the effect that this test finds with a power of 80 %
    power: float  # of this test to find an effect of the plan's margin


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


def gain_of_imagenet(model: str) -> str:
    """The effect of ImageNet-1k weights on a model, less the same from scratch."""
    return f"ImageNet, {model}"


def start_p(p: float) -> float:
    """The p-value of a primary test of the study `init`, corrected for all that its plan makes (Bonferroni)."""
    return min(1.0, p * len(STARTED))


def start_verdict(difference: float, p: float, n_seeds: int) -> str:
    """What the corrected test says of a model from ImageNet beside itself from scratch; `identical` without a test.

    `seeds missing` until both have all that the study plans: each subset of the seeds would have a verdict of its own.
    """
    if math.isnan(p):
        return "identical"
    if n_seeds < STARTED_SEEDS:
        return "seeds missing"
    if start_p(p) >= LEVEL:
        return "not separated"
    return "higher" if difference > 0 else "lower"


def start_effects(model: str, whole: str = WHOLE) -> dict[str, Weights]:
    """What a model's start does, and how it stands from ImageNet beside MedSpectralNet from scratch."""
    imagenet, own = (model, "imagenet"), (model, "imagenet, own normalisation")
    return {
        gain_of_imagenet(model): {imagenet: 1.0, (model, "scratch"): -1.0},
        f"own normalisation, {model}": {own: 1.0, imagenet: -1.0},
        f"{model} from ImageNet minus {whole}": {imagenet: 1.0, (whole, "scratch"): -1.0},
    }


OF_BOTH_MODELS = {effect for effect, weights in EFFECTS.items() if len({model for model, _ in weights}) > 1}


def contrasts_of(
    cells: Mapping[tuple[str, str], Cell], variances: Mapping[str, SeedVariances], card: DataCard
) -> Iterator[Contrast]:
    """The contrasts of one data set: every effect whose cells are there, on both parts, by AUC and accuracy.

    Args:
        cells: (protocol, model) -> cell, of Table 2's protocols.
        variances: Protocol -> those of its cells over seeds.
        card: The data set's.

    Raises:
        PairingError: If two cells are on different images.
    """
    settings: dict[str, dict[Setting, Cell]] = {}
    for (protocol, model), cell in sorted(cells.items()):
        own = FACTORS[protocol]
        settings.setdefault(own.optimiser, {})[model, own.augmentation] = cell
    effects = EFFECTS | {name: weights for _, model in cells for name, weights in _gain(model).items()}
    for optimiser, by_setting in settings.items():
        yield from _measured(by_setting, effects, variances, (card.dataset, optimiser))


def start_contrasts_of(
    cells: Mapping[tuple[str, str], Cell], variances: Mapping[str, SeedVariances], card: DataCard
) -> Iterator[Contrast]:
    """The effects of a start on one data set, of every model that has more than one; otherwise as `contrasts_of`.

    Args:
        cells: (protocol, model) -> cell, of the study `init`'s protocols.
        variances: Protocol -> those of its cells over seeds.
        card: The data set's.
    """
    settings = {(model, str(STARTS[protocol])): cell for (protocol, model), cell in sorted(cells.items())}
    (optimiser,) = {load_protocol(protocol).optim.name for protocol in STARTS}  # they differ in the start alone
    for model in sorted({model for model, start in settings if start != "scratch"}):
        yield from _measured(settings, start_effects(model), variances, (card.dataset, optimiser))


def _measured(
    by_setting: Mapping[Setting, Cell],
    effects: Mapping[str, Weights],
    variances: Mapping[str, SeedVariances],
    names: tuple[str, str],
) -> Iterator[Contrast]:
    """The contrasts of every effect whose cells are there; `names` are the data set and the optimiser."""
    for effect, weights in effects.items():
        if not weights.keys() <= by_setting.keys():
            continue
        chosen = [by_setting[setting] for setting in weights]
        for other in chosen[1:]:
            check_sources(chosen[0], other)
        fewest = min(len(cell.records) for cell in chosen)
        for part, metric in itertools.product(TEST_PARTS, PAIRED):
            measured = _effect(chosen, list(weights.values()), variances, part, metric)
            if measured is not None:
                exact, *found = measured
                numbers = map(ten_digits, (exact.low, exact.high, exact.p, *found))
                yield Contrast(*names, part, metric, effect, fewest, exact.value, *numbers)


def _effect(
    cells: list[Cell], weights: list[float], variances: Mapping[str, SeedVariances], part: str, metric: str
) -> tuple[Difference, float, float] | None:
    """The weighted sum of the cells' means, the smallest that could be found, and the power to find the margin.

    None where a value is undefined.

    Where nothing moves it there is no interval.
    """
    scores = [[value for value in cell.values(part, metric) if value is not None] for cell in cells]
    counts = [len(cell.records) for cell in cells]
    covariance = joint_covariance(cells, part, metric)
    if [len(values) for values in scores] != counts or covariance is None:
        return None
    firsts = [cell.records[0] for cell in cells]
    seeds = [of_weights(variances[record.protocol][record.model, part, metric]) for record in firsts]
    uncertainty = of_contrast(covariance, counts, weights, seeds)
    value = math.fsum(weight * mean(values) for weight, values in zip(weights, scores, strict=True))
    if uncertainty.error == 0.0:
        return Difference(value, math.nan, math.nan, math.nan, math.nan, math.nan), math.nan, math.nan
    exact = around(value, uncertainty, reach=math.fsum(map(abs, weights)) / 2)
    return exact, smallest_detectable(uncertainty), power_at(MARGIN, uncertainty)
