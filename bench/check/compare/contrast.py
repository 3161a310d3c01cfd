"""Two runs of one id on the same test images: are they the same run, and how far apart are their scores? No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.check.verdicts import TEST_LEVEL, RerunVerdict, judge
from bench.records.card import DataCard
from bench.records.names import predictions_path
from bench.records.predictions import PredictionTable, read_attached, read_predictions
from bench.records.run_record import Record
from bench.records.scoring import split_scores
from bench.stats.bootstrap import NUM_RESAMPLES, Weights, auc_resamples, image_weights, sum_resamples
from bench.stats.comparisons import Difference, check_pairing, end_to_end, mcnemar, paired_difference
from bench.stats.intervals import IMAGES, Spread, area_interval, critical, variance
from bench.stats.metrics import accuracy, auc, predict

Floats = NDArray[np.float64]

NO_DIFFERENCE = Difference(0.0, 0.0, 0.0, 1.0, 0.0, 0.0)
FEWEST_SEEDS = 3  # for a spread over seeds
IDENTITY = {
    "protocol_digest": "the protocol",
    "data_md5": "the file of the data set",
    "labels_digest": "the labels",
    "model_fingerprint": "the model's code (or timm's version)",
    "weights_sha256": "the file of public weights",
    "synthetic": "whether the data is synthetic",
}


@dataclass(frozen=True)
class Contrast:
    """B minus A on the official test: of two runs, or of the means over common seeds of two cells.

    Attributes:
        bit_equal: Every stored class score, of val and test, is equal.
        auc, acc: Differences in fractions with their intervals; None for an AUC that is undefined.
        mcnemar_p: Two-sided p-value of two runs; None where bit-equal, and of means.
        auc_resamples, acc_resamples: (B,) the differences on resampled images, for the mean over seeds.
    """

    bit_equal: bool
    auc: Difference | None
    acc: Difference
    mcnemar_p: float | None = None
    auc_resamples: Floats = field(default_factory=lambda: np.zeros(NUM_RESAMPLES), repr=False)
    acc_resamples: Floats = field(default_factory=lambda: np.zeros(NUM_RESAMPLES), repr=False)

    @property
    def tests(self) -> dict[str, float]:
        """The p-values that count: AUC by a paired bootstrap, right answers by McNemar, of means by the bootstrap."""
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
    """Compare two prediction tables of one data set, first A's, then B's.

    The accuracy's interval counts one image more each way, answered right by one run alone (Bonett and Price 2012):
    where two runs answer few images differently the plain interval is too short, and where none, of no width at all.

    Raises:
        RecordError, PairingError: If a table is damaged or the images are not the same in the same order.
    """
    sides = [{split: split_scores(table, split) for split in ("val", "test")} for table in (first, second)]
    for split in ("val", "test"):
        check_pairing(sides[0][split][0], sides[1][split][0], names)
    labels = sides[0]["test"][0]
    probs = [side["test"][1] for side in sides]
    if _equal_logits(first, second):
        defined = auc(labels, probs[0], card.task) is not None
        return Contrast(True, NO_DIFFERENCE if defined else None, NO_DIFFERENCE)
    shares = [accuracy(labels, scores, card.task) for scores in probs]
    right = np.stack([predict(scores, card.task) == labels for scores in probs])
    discordant = [np.array([int((right[i] & ~right[1 - i]).sum())]) for i in (0, 1)]
    counted = np.concatenate([right, np.eye(2, dtype=bool)], axis=1)
    drawn = sum_resamples(counted, _weights(np.append(labels, [0, 0]).tobytes(), card.dataset, False))
    acc_resamples = (drawn[1] - drawn[0]) / counted.shape[1]
    area, auc_resampled = _area_difference(labels, probs, card)
    return Contrast(
        bit_equal=False,
        auc=area,
        acc=paired_difference(acc_resamples, [shares[1] - shares[0]]),
        mcnemar_p=float(mcnemar(*discordant)[0]),
        auc_resamples=auc_resampled,
        acc_resamples=acc_resamples,
    )


def _area_difference(
    labels: NDArray[np.int64], probs: Sequence[Floats], card: DataCard
) -> tuple[Difference | None, Floats]:
    """The AUC difference, None where one is undefined, and its resamples, (B,)."""
    areas = [area for scores in probs if (area := auc(labels, scores, card.task)) is not None]
    if len(areas) < len(probs):
        return None, np.zeros(NUM_RESAMPLES)
    weights = _weights(labels.tobytes(), card.dataset, True)
    drawn = [auc_resamples(labels, scores[None], card.task, weights) for scores in probs]
    shift = paired_difference(drawn[1] - drawn[0], [areas[1] - areas[0]])
    if shift.low == shift.high and {0.0, 1.0} & set(areas):  # as the analysis plan has it: no width is no proof
        fewest = int(np.bincount(labels).min())
        ends = [area_interval(area, Spread(0.0, math.inf, IMAGES), fewest) for area in areas]
        shift = end_to_end(shift.value, ends[1], ends[0])
    return shift, drawn[1] - drawn[0]


def _equal_logits(first: PredictionTable, second: PredictionTable) -> bool:
    """Whether two tables hold the same numbers, bit for bit, in whatever order of rows."""
    for split in ("val", "test"):
        a, b = (np.ascontiguousarray(table.split(split).logits).view(np.uint32) for table in (first, second))
        if not np.array_equal(a, b):
            return False
    return True


@lru_cache(maxsize=4)
def _weights(labels: bytes, dataset: str, stratified: bool) -> Weights:
    """Every pair on the same images has the same resamples of them."""
    return image_weights(np.frombuffer(labels, dtype=np.int64), f"{dataset}/test", stratified=stratified)


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
    drawn = [
        np.mean([getattr(pair, name) for pair in contrasts], axis=0) for name in ("auc_resamples", "acc_resamples")
    ]
    return Contrast(
        bit_equal=False,
        auc=None if None in areas else _mean_area([area for area in areas if area is not None], drawn[0]),
        acc=paired_difference(drawn[1], [pair.acc.value for pair in contrasts]),
        auc_resamples=drawn[0],
        acc_resamples=drawn[1],
    )


def _mean_area(areas: Sequence[Difference], resamples: Floats) -> Difference:
    """An AUC difference over seeds; where nothing moves it, as wide as the widest of one seed."""
    mean = paired_difference(resamples, [area.value for area in areas])
    return max(areas, key=lambda area: area.high - area.low) if mean.low == mean.high else mean
