"""The calibration track: whether a cell's probabilities mean what they say, beside what chance alone would give.

Exploratory, from stored logits. A cell is called miscalibrated only where its error, mean over seeds, lies above the
mean of the seeds' 95 % points: of a calibrated one that has a probability of 5 % at most, however alike its seeds are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields

import numpy as np

from bench.report.analysis.cells import DERIVED, TEST_PARTS, Cell, joint_covariance
from bench.report.analysis.pairs import Pair, Side, compare_sides
from bench.report.analysis.scores import Key, Score
from bench.report.analysis.seeds import SeedVariances, of_weights
from bench.report.analysis_plan import OURS, comparison_order
from bench.report.tidy import ten_digits
from bench.stats.calibration import Bins
from bench.stats.probabilities import LOSSES, TRACK

MISCALIBRATED = "miscalibrated"
PAIR_COLUMNS = [
    *("protocol", "dataset", "metric", "model", "baseline", "n_seeds", "n_seeds_baseline"),
    *("difference", "ci_low", "ci_high", "p"),
]


@dataclass(frozen=True)
class Calibration:
    """The calibration of one cell on one part of its test set: means over seeds, NaN where undefined."""

    protocol: str
    model: str
    dataset: str
    part: str
    n_seeds: int
    num_images: int
    ece: float
    ece_low: float  # ends of the mean's 95 % interval, as of the others
    ece_high: float
    ece_floor: float  # the error that chance would give, were every probability true
    ece_floor_95: float  # what 95 % of such errors lie below
    seeds_above: int  # seeds whose own error lies above their own point
    verdict: str  # `miscalibrated`, or "" for an error that chance can give
    classwise_ece: float
    ece_rare: float  # mean over classes with fewer training images than the median class; NaN with two classes
    ece_common: float  # and over the others
    squared_error: float  # debiased: it may be below 0
    temperature: float  # that makes val likeliest; geometric mean
    nll: float  # nats
    nll_refinement: float  # what the temperature leaves of it
    refinement_low: float
    refinement_high: float
    nll_calibration: float  # what it takes off
    calibration_low: float
    calibration_high: float
    run_ids: tuple[str, ...]
    bins: Bins = field(repr=False)  # of all seeds' images together


COLUMNS = [column.name for column in fields(Calibration) if column.name != "bins"]


def calibrations(cells: Mapping[str, Cell], scores: Mapping[Key, Score]) -> list[Calibration]:
    """The calibration of the models of one protocol and data set.

    Args:
        cells: Model -> cell.
        scores: Their scores, from `bench.report.analysis.scores.cell_scores`.
    """
    return [
        _calibration(cell, part, {metric: scores[model, part, metric] for metric in ("ece", *LOSSES)})
        for (model, cell), part in itertools.product(cells.items(), TEST_PARTS)
    ]


def _calibration(cell: Cell, part: str, own: Mapping[str, Score]) -> Calibration:
    columns = {name: cell.derived[part][:, DERIVED.index(name)] for name in TRACK}
    columns["temperature"] = np.log(columns["temperature"])
    means = {name: float(column.mean()) for name, column in columns.items()}
    means["temperature"] = math.exp(means["temperature"])
    means = {name: ten_digits(value) for name, value in means.items()}
    error, refinement, excess = own["ece"], own["nll_refinement"], own["nll_calibration"]
    counts, confidence, frequency = cell.bins[part]
    errors = np.array(cell.values(part, "ece"), dtype=np.float64)  # None becomes NaN
    return Calibration(
        protocol=error.protocol,
        model=error.model,
        dataset=error.dataset,
        part=part,
        n_seeds=error.n_seeds,
        num_images=error.num_images,
        ece=error.mean,
        ece_low=error.ci_low,
        ece_high=error.ci_high,
        ece_floor=means["ece_floor"],
        ece_floor_95=means["ece_floor_95"],
        seeds_above=int((errors > columns["ece_floor_95"]).sum()),
        verdict=MISCALIBRATED if error.mean > means["ece_floor_95"] else "",
        classwise_ece=means["classwise_ece"],
        ece_rare=means["ece_rare"],
        ece_common=means["ece_common"],
        squared_error=means["squared_error"],
        temperature=means["temperature"],
        nll=own["nll"].mean,
        nll_refinement=means["nll_refinement"],
        refinement_low=refinement.ci_low,
        refinement_high=refinement.ci_high,
        nll_calibration=means["nll_calibration"],
        calibration_low=excess.ci_low,
        calibration_high=excess.ci_high,
        run_ids=error.run_ids,
        bins=Bins(counts.astype(np.int64), confidence, frequency).pooled(),
    )


def calibration_pairs(cells: Mapping[str, Cell], variances: SeedVariances) -> Iterator[Pair]:
    """MedSpectralNet less every other model, by the likelihood and its two parts, on the official test.

    The cells must be on the same images, as `compare_cells` checks.

    Args:
        cells: Model -> cell, of one protocol and data set.
        variances: Of the cells over seeds.
    """
    others = sorted(cells.keys() - {OURS}, key=comparison_order) if OURS in cells else []
    for baseline, metric in itertools.product(others, LOSSES):
        both = (cells[OURS], cells[baseline])
        covariance = joint_covariance(both, "test", metric)
        sides = [Side(cell, of_weights(variances[cell.records[0].model, "test", metric])) for cell in both]
        if covariance is not None and all(None not in cell.values("test", metric) for cell in both):
            yield compare_sides(sides, "test", metric, covariance)
