"""The scores of cells: means over seeds with their intervals and, among models, their marks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bench.records.card import DataCard
from bench.records.names import Run
from bench.records.own_models import is_fitted
from bench.report.analysis.cells import CLASS_MEASURES, DERIVED, RATES, TEST_PARTS, VARIED, Cell
from bench.report.analysis.marks import drawn_marks, marks
from bench.report.analysis.pairs import PAIRED, Pair
from bench.report.analysis.predictions import Labels
from bench.report.analysis.seeds import SeedVariances, of_weights
from bench.report.analysis_plan import PARTS
from bench.report.published.numbers import PublishedScore, reference_score
from bench.report.tidy import ten_digits
from bench.stats.calibration import error_interval
from bench.stats.intervals import IMAGES, IMAGES_AND_SEEDS, mean, variance
from bench.stats.seed_variance import FITTED, SeedVariance
from bench.stats.uncertainty import (
    Uncertainty,
    area_interval,
    of_mean,
    of_weights_mean,
    plain_interval,
    share_interval,
)

METRICS = (
    *("auc", "acc", "balanced_acc", "pr_auc", "brier", "ece", "nll"),
    *("nll_refinement", "nll_calibration", *RATES),
)
AREAS = ("auc", "pr_auc")
LIMITS = {  # measures that are no fraction
    "brier": (0.0, 2.0),
    "nll": (0.0, math.inf),
    "nll_refinement": (0.0, math.inf),
    "nll_calibration": (-math.inf, math.inf),
}
Key = tuple[str, str, str]  # model, part, metric


@dataclass(frozen=True)
class Score:
    """One measure of a cell on one part of its test set."""

    protocol: str
    model: str
    dataset: str
    part: str  # one of `TEST_PARTS`
    metric: str  # one of `METRICS`
    seeds: tuple[int, ...]  # of the runs, rising
    num_images: int  # of the part
    mean: float  # over the seeds; NaN where one has no value
    sd: float  # sample standard deviation; NaN with one seed
    low: float  # ends of the mean's 95 % interval; NaN for measures without one
    high: float
    interval: str  # what it is over: `images`, `images and seeds`, or "" for none
    uncertainty: Uncertainty = field(default=Uncertainty(0.0), repr=False)  # of the mean; none without an interval
    mark: str = ""  # `best` alone in the confidence set for the best model, `may be best` in it with others, or ""
    drawn: str = ""  # what a table shows of the marks: `best`, `tie` or ""

    @property
    def n_seeds(self) -> int:
        """How many seeds."""
        return len(self.seeds)

    @property
    def ci_low(self) -> float:
        """`low`, as it is printed."""
        return ten_digits(self.low)

    @property
    def ci_high(self) -> float:
        """`high`, as it is printed."""
        return ten_digits(self.high)

    @property
    def run_ids(self) -> tuple[str, ...]:
        """The runs, by seed."""
        return tuple(Run(self.protocol, self.model, self.dataset, seed).run_id for seed in self.seeds)

    @property
    def reference(self) -> PublishedScore | None:
        """The published score that stands beside it; nothing was published for the twin-free test."""
        if self.part != "test":
            return None
        return reference_score(self.model, self.dataset, self.metric, self.protocol)

    @property
    def difference(self) -> float:
        """Measured less published; NaN where nothing was published."""
        return self.mean - self.reference.value if self.reference else math.nan


@dataclass(frozen=True)
class ClassScore:
    """Means over seeds of one class's measures on one part of a test set; NaN where any seed's is undefined."""

    protocol: str
    model: str
    dataset: str
    part: str
    class_index: int
    class_name: str
    auc: float
    ap: float
    precision: float
    recall: float
    f1: float
    n_seeds: int


@dataclass(frozen=True)
class EpochScore:
    """A network's scores at the epochs that val chose, beside those after the last; means over seeds."""

    protocol: str
    model: str
    dataset: str
    metric: str
    n_seeds: int
    num_epochs: float
    best_epoch: float  # from 0
    val: float
    val_last: float
    test: float
    test_last: float  # NaN where the protocol does not have it scored


def epoch_scores(cell: Cell) -> Iterator[EpochScore]:
    """By AUC and accuracy; nothing of what is fitted, nor where a history is missing."""
    first, count = cell.records[0], len(cell.records)
    if np.isnan(cell.last[:, 0]).any():
        return
    for place, metric in enumerate(PAIRED):
        yield EpochScore(
            *(first.protocol, first.model, first.dataset, metric, count),
            num_epochs=float(cell.last[:, 0].mean()),
            best_epoch=mean([float(record.best_epoch or 0) for record in cell.records]),
            val_last=mean(cell.last[:, 1 + place].tolist()),
            val=_mean_of(cell, "val", metric),
            test=_mean_of(cell, "test", metric),
            test_last=_mean_of(cell, "test_last", metric),
        )


def _mean_of(cell: Cell, part: str, metric: str) -> float:
    """Of the seeds' own numbers, NaN where one is missing."""
    values = [(getattr(record, part) or {}).get(metric) for record in cell.records]
    known = [value for value in values if value is not None]
    return mean(known) if len(known) == len(values) else math.nan


def cell_scores(cells: Mapping[str, Cell], variances: SeedVariances, card: DataCard) -> dict[Key, Score]:
    """The scores of the models of one protocol and data set, without marks.

    Args:
        cells: Model -> cell.
        variances: Of the cells over seeds.
        card: The data set's.
    """
    scores: dict[Key, Score] = {}
    for (model, cell), part, metric in itertools.product(cells.items(), TEST_PARTS, METRICS):
        values = [value for value in cell.values(part, metric) if value is not None]
        if not values and metric in RATES:
            continue
        kept = cell.kept[part]
        middle, deviation, low, high, kind, found = math.nan, math.nan, math.nan, math.nan, "", Uncertainty(0.0)
        if len(values) == len(cell.records):
            middle = mean(values)
            deviation = math.sqrt(variance(values)) if len(values) > 1 else math.nan
            if metric in VARIED:
                seed = of_weights(variances[model, part, metric])
                fewest = _fewest(cell.labels[kept], metric, card)
                low, high, kind, found = _interval(cell, part, metric, seed, fewest, middle)
        first, seeds = cell.records[0], tuple(cell.seeds)
        names = (first.protocol, model, first.dataset, part, metric)
        numbers = (middle, deviation, low, high)
        scores[model, part, metric] = Score(*names, seeds, len(kept), *numbers, kind, found)
    return scores


def _interval(
    cell: Cell, part: str, metric: str, seed: SeedVariance, fewest: int, middle: float
) -> tuple[float, float, str, Uncertainty]:
    """95 % interval of a cell's mean, what it is over, and its ground; none where nothing tells how the images vary."""
    covariance = cell.covariance(part, metric)
    if np.isnan(covariance).any():
        return math.nan, math.nan, "", Uncertainty(0.0)
    uncertainty = of_mean(covariance, seed, cell.image_degrees(part, metric))
    kind = IMAGES if seed == FITTED else IMAGES_AND_SEEDS
    if metric in LIMITS:
        return *plain_interval(middle, uncertainty, LIMITS[metric]), kind, uncertainty
    if metric in RATES:
        uncertainty = of_weights_mean(covariance, seed)
        expected = float(cell.middles[part][RATES.index(metric)])
        return *share_interval(middle, uncertainty, fewest, expected), kind, uncertainty
    if metric == "ece":
        bias, point = (cell.derived[part][:, DERIVED.index(name)].mean() for name in ("ece_bias", "ece_floor_95"))
        return *error_interval(middle, uncertainty, float(bias), float(point)), kind, uncertainty
    return *(area_interval if metric in AREAS else share_interval)(middle, uncertainty, fewest), kind, uncertainty


def _fewest(labels: Labels, metric: str, card: DataCard) -> int:
    """Images of the smallest class that a measure needs; all of them for an accuracy."""
    counts = np.bincount(labels, minlength=len(card.class_names))
    if metric in ("sensitivity", "specificity") and card.clinical_positive is not None:
        positives = int(counts[card.clinical_positive])
        return positives if metric == "sensitivity" else len(labels) - positives
    return len(labels) if metric == "acc" else int(max(1, counts.min()))


def marked(scores: Mapping[Key, Score], pairs: Sequence[Pair]) -> list[Score]:
    """Scores with the marks of AUC and accuracy: among models, not their variants without a part."""
    result = dict(scores)
    for part, metric in itertools.product(TEST_PARTS, PAIRED):
        group = {model: score for (model, *key), score in scores.items() if key == [part, metric]}
        own = {model: score for model, score in group.items() if model not in PARTS}
        tests = [p for p in pairs if (p.part, p.metric) == (part, metric)]
        leaders = [model for model, score in own.items() if score.n_seeds > 1 or is_fitted(model)]
        by_test = marks(tests, {model: score.mean for model, score in own.items()}, leaders)
        for model, drawn in zip(by_test, drawn_marks(list(by_test.values())), strict=True):
            result[model, part, metric] = replace(group[model], mark=by_test[model], drawn=drawn)
    return list(result.values())


def class_scores(cell: Cell, card: DataCard) -> list[ClassScore]:
    """The scores of each class, on both parts."""
    first, scores = cell.records[0], []
    for part in TEST_PARTS:
        means = cell.classes[part].mean(axis=0)
        for index, name in enumerate(card.class_names):
            values = dict(zip(CLASS_MEASURES, (ten_digits(float(value)) for value in means[index]), strict=True))
            scores.append(
                ClassScore(
                    first.protocol,
                    first.model,
                    first.dataset,
                    part,
                    index,
                    name,
                    auc=values["auc"],
                    ap=values["ap"],
                    precision=values["precision"],
                    recall=values["recall"],
                    f1=values["f1"],
                    n_seeds=len(cell.records),
                )
            )
    return scores
