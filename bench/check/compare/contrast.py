"""Two runs of one id on the same test images: are they the same run, and how far apart are their scores? No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.check.verdicts import TEST_LEVEL, RerunVerdict, judge
from bench.records.card import DataCard
from bench.records.names import predictions_path
from bench.records.predictions import PredictionTable, read_attached, read_predictions
from bench.records.run_record import Record
from bench.records.scoring import split_scores
from bench.stats.comparisons import Difference, check_pairing, end_to_end
from bench.stats.delong import Influence, auc_influence, mean_influence
from bench.stats.intervals import critical, mean, variance
from bench.stats.metrics import auc, predict
from bench.stats.proportions import paired_shares
from bench.stats.seed_variance import SeedVariance
from bench.stats.uncertainty import Uncertainty, area_interval, around, of_weights_mean, with_images

Floats = NDArray[np.float64]

NO_DIFFERENCE = Difference(0.0, 0.0, 0.0, 1.0, 0.0, 0.0)
FEWEST_SEEDS = 3  # for a spread over seeds
FEWEST_IMAGES = 2  # of a class, for a variance over its images
IDENTITY = {
    "protocol_digest": "the protocol",
    "data_md5": "the file of the data set",
    "labels_digest": "the labels",
    "model_fingerprint": "the model's code (or timm's version)",
    "weights_sha256": "the public weights",
    "synthetic": "whether the data is synthetic",
}


@dataclass(frozen=True)
class Contrast:
    """B minus A on the official test: of two runs, or of the means over common seeds of two cells.

    Attributes:
        bit_equal: Every stored class score, of val and test, is equal.
        auc, acc: Differences in fractions with their intervals; None for an AUC that is undefined,
            or of a class of one image, whose variance nothing tells.
        mcnemar_p: Two-sided p-value of two runs; None where bit-equal, and of means.
        auc_shift, acc_shift: What each image adds to the differences, for the mean over seeds; None where bit-equal.
    """

    bit_equal: bool
    auc: Difference | None
    acc: Difference
    mcnemar_p: float | None = None
    auc_shift: Influence | None = field(default=None, repr=False)
    acc_shift: Influence | None = field(default=None, repr=False)

    @property
    def tests(self) -> dict[str, float]:
        """The p-values that count: AUC by DeLong, right answers by McNemar, of means both over images and seeds."""
        accuracy_test = {"ACC": self.acc.p} if self.mcnemar_p is None else {"McNemar": self.mcnemar_p}
        return accuracy_test | ({} if self.auc is None else {"AUC": self.auc.p})

    @property
    def verdict(self) -> RerunVerdict:
        """By the rule of `bench.check.verdicts`."""
        auc_ends = None if self.auc is None else (self.auc.low_90, self.auc.high_90)
        return (
            "bit-equal"
            if self.bit_equal
            else judge(auc_ends, (self.acc.low_90, self.acc.high_90), *self.tests.values())
        )

    @property
    def told_apart_by(self) -> str:
        """Which of the tests tells the runs apart, "" if none does."""
        return in_words({name: p for name, p in self.tests.items() if p < TEST_LEVEL})


def in_words(tests: Mapping[str, float]) -> str:
    """`McNemar p = 0.2, AUC p = 0.01`."""
    return ", ".join(f"{name} p = {p:.2g}" for name, p in tests.items())


def other_run(a: Record, b: Record) -> str:
    """Why two records of one id are not of the same run, "" if they are; what one of them lacks is not compared."""
    wrong = [
        words
        for name, words in IDENTITY.items()
        if None not in (first := getattr(a, name), second := getattr(b, name)) and first != second
    ]
    return f"not the same run: {', '.join(wrong)} differ" if wrong else ""


def read_table(results: Path, record: Record) -> PredictionTable:
    """A run's predictions, after a look at their digest.

    Raises:
        RecordError: If the file is missing, damaged, or not the record's.
    """
    return read_predictions(read_attached(predictions_path(record.run.path(results)), record.predictions_sha256))


def contrast(first: PredictionTable, second: PredictionTable, card: DataCard, names: tuple[str, str]) -> Contrast:
    """Compare two prediction tables of one data set, first A's, then B's, in closed form as the report does.

    The accuracies by Tango's interval, which has a width where two runs answer no image differently, and McNemar's
    exact test; the areas by DeLong's variance of their difference.

    Raises:
        RecordError, PairingError: If a table is damaged or the images are not the same in the same order.
    """
    sides = [{split: split_scores(table, split) for split in ("val", "test")} for table in (first, second)]
    for split in ("val", "test"):
        check_pairing(sides[0][split][0], sides[1][split][0], names)
    labels = sides[0]["test"][0]
    probs = np.stack([side["test"][1] for side in sides])
    if _equal_logits(first, second):
        defined = auc(labels, probs[0], card.task) is not None
        return Contrast(True, NO_DIFFERENCE if defined else None, NO_DIFFERENCE)
    right = np.stack([predict(scores, card.task) == labels for scores in probs])
    only_a, only_b = (int((right[i] & ~right[1 - i]).sum()) for i in (0, 1))
    shares = paired_shares(only_b, only_a, len(labels))
    area, area_shift = _area_difference(labels, probs, card)
    return Contrast(False, area, shares, shares.p, area_shift, _shift(mean_influence(right)))


def _shift(both: Influence) -> Influence:
    """What each image adds to B minus A."""
    return Influence(np.diff(both.values), np.diff(both.parts, axis=0), both.strata)


def _area_difference(
    labels: NDArray[np.int64], probs: Floats, card: DataCard
) -> tuple[Difference | None, Influence | None]:
    """The AUC difference and what each image adds to it; None where one is undefined or nothing tells its variance."""
    counts = np.bincount(labels, minlength=len(card.class_names))
    if counts.min() < FEWEST_IMAGES:
        return None, None
    both = auc_influence(labels, probs, card.task)
    shift = _shift(both)
    found = Uncertainty(float(shift.covariance()[0, 0]))
    exact = around(float(shift.values[0]), found)
    if found.error == 0.0 and {0.0, 1.0} & set(both.values):  # as the analysis plan has it: no width is no proof
        ends = [area_interval(float(area), found, int(counts.min())) for area in both.values]
        exact = end_to_end(exact.value, ends[1], ends[0])
    return exact, shift


def _equal_logits(first: PredictionTable, second: PredictionTable) -> bool:
    """Whether two tables hold the same numbers, bit for bit, in whatever order of rows."""
    for split in ("val", "test"):
        a, b = (np.ascontiguousarray(table.split(split).logits).view(np.uint32) for table in (first, second))
        if not np.array_equal(a, b):
            return False
    return True


def within_seeds(difference: float | None, values: Sequence[float]) -> bool:
    """Whether a difference is no larger than that of two seeds of one cell: 95 %, Student.

    Args:
        difference: Of two runs; one that is undefined is no larger.
        values: The score of each finished seed; fewer than three have no spread that could be used.
    """
    if difference is None:
        return True
    if len(values) < FEWEST_SEEDS:
        return False
    return abs(difference) <= critical(len(values) - 1) * math.sqrt(2 * variance(values))


def mean_contrast(contrasts: Sequence[Contrast]) -> Contrast:
    """The means over the common seeds of two cells, at least two, images crossed with seeds."""
    if all(pair.bit_equal for pair in contrasts):
        return contrasts[0]
    areas = [pair.auc for pair in contrasts]
    return Contrast(
        bit_equal=False,
        auc=None
        if None in areas
        else _mean([area for area in areas if area is not None], [p.auc_shift for p in contrasts]),
        acc=_mean([pair.acc for pair in contrasts], [pair.acc_shift for pair in contrasts]),
    )


def _mean(seeds: Sequence[Difference], shifts: Sequence[Influence | None]) -> Difference:
    """The mean of the seeds' differences; where nothing moves it, as wide as the widest of one seed.

    The weights being what they are, the mean varies over images as much as its influences say; seeds add what their
    differences vary beyond that. So seeds that agree by chance do not make the mean a certain one. Bit-equal seeds have
    no shift: they differ by 0, whatever the images.
    """
    moving = next(shift for shift in shifts if shift is not None)
    parts = np.concatenate([np.zeros_like(moving.parts) if shift is None else shift.parts for shift in shifts])
    covariance = Influence(parts.sum(axis=1), parts, moving.strata).covariance()
    values = [seed.value for seed in seeds]
    found = of_weights_mean(covariance, SeedVariance(variance(values), len(values) - 1, with_images(covariance)))
    if found.error == 0.0:
        return max(seeds, key=lambda seed: seed.high - seed.low)
    return around(mean(values), found)
