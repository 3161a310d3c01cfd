"""What a cell's score owes to test images that are nearly in train or val: its curve over the threshold of likeness."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from bench.records.card import DataCard
from bench.report.analysis.cells import Cell
from bench.report.analysis.seeds import of_weights, pooled
from bench.report.analysis_plan import TWIN_THRESHOLDS
from bench.report.tidy import ten_digits
from bench.stats.intervals import IMAGES, IMAGES_AND_SEEDS, Floats, critical, mean
from bench.stats.removal import CURVE_METRICS
from bench.stats.seed_variance import FITTED
from bench.stats.uncertainty import around, of_mean

FEWEST_REMOVED = 10  # images, for an interval: what one image or two gave says nothing of others


@dataclass(frozen=True)
class TwinScore:
    """A cell's score without the test images that have a twin, at one threshold, beside random removals."""

    protocol: str
    model: str
    dataset: str
    metric: str
    threshold: float  # pixel correlation from which an image counts as a twin
    n_seeds: int
    num_images: int  # that are left
    removed: tuple[str, ...]  # how many of each class are not
    mean: float  # over seeds, on the images that are left
    random: float  # the mean over all random removals of as many images of each class
    random_low: float  # ends of the range that 95 % of them lie in, the trained weights being what they are
    random_high: float
    drop: float  # random less mean: what the twins gave
    ci_low: float  # ends of its 95 % interval; NaN of fewer than `FEWEST_REMOVED` images
    ci_high: float
    p: float  # two-sided, not corrected
    interval: str  # what it is over: `images`, or `images and seeds`


def twin_scores(cells: Mapping[str, Cell], card: DataCard) -> Iterator[TwinScore]:
    """The curves of the models of one protocol and data set; nothing where no test image has a twin at any threshold.

    Args:
        cells: Model -> cell.
        card: The data set's.
    """
    similarity = card.test_similarity
    curves = {model: cell.removals for model, cell in cells.items() if cell.removals is not None}
    if similarity is None or not curves:
        return
    labels = next(iter(cells.values())).labels
    for place, threshold in enumerate(TWIN_THRESHOLDS):
        gone = np.bincount(labels[similarity >= threshold], minlength=len(card.class_names))
        for index, metric in enumerate(CURVE_METRICS):
            drops = {model: _numbers(curve.drop[index, place]) for model, curve in curves.items()}
            seeds = pooled(drops, {model: curve.covariance[index, place] for model, curve in curves.items()})
            for model, curve in curves.items():
                if None in drops[model]:
                    continue
                first = cells[model].records[0]
                left, drop = curve.left[index, place], curve.drop[index, place]
                middle, half = mean((left + drop).tolist()), critical(math.inf) * float(curve.error[index, place])
                seed = of_weights(seeds[model])
                exact = around(mean(drop.tolist()), of_mean(curve.covariance[index, place], seed))
                enough = gone.sum() >= FEWEST_REMOVED
                yield TwinScore(
                    *(first.protocol, model, first.dataset, metric, threshold, len(left)),
                    num_images=len(labels) - int(gone.sum()),
                    removed=tuple(map(str, gone.tolist())),
                    mean=ten_digits(mean(left.tolist())),
                    random=ten_digits(middle),
                    random_low=ten_digits(max(0.0, middle - half)),
                    random_high=ten_digits(min(1.0, middle + half)),
                    drop=ten_digits(exact.value),
                    ci_low=ten_digits(exact.low) if enough else math.nan,
                    ci_high=ten_digits(exact.high) if enough else math.nan,
                    p=ten_digits(exact.p) if enough else math.nan,
                    interval=("" if not enough else IMAGES if seed == FITTED else IMAGES_AND_SEEDS),
                )


def _numbers(values: Floats) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]
