"""Two runs of one id on the same test images: are they the same run, and how far apart are their scores? No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.metrics import accuracy, auc
from bench.records import DataCard, Record, predictions_path, read_attached, read_predictions
from bench.scoring import split_scores
from bench.stats import LEVEL, check_pairing, critical, mcnemar, paired_difference, variance
from bench.stats_bootstrap import NUM_RESAMPLES, Weights, auc_resamples, image_weights, sum_resamples

Floats = NDArray[np.float64]

TEST_LEVEL = LEVEL / 2  # two tests a pair, so that both together hold 5 %
FEWEST_SEEDS = 3  # for a spread over seeds
IDENTITY = {
    "protocol_digest": "the protocol",
    "data_md5": "the file of the data set",
    "labels_digest": "the labels",
    "model_fingerprint": "the model's code (or timm's version)",
    "weights_sha256": "the file of public weights",
    "synthetic": "whether the data was made here",
}


@dataclass(frozen=True)
class Contrast:
    """B minus A on the official test.

    Attributes:
        bit_equal: Every stored class score, of val and test, is equal.
        auc, acc: Differences, fractions; None for an AUC that is undefined.
        auc_p, mcnemar_p: Two-sided p-values; None where bit-equal or undefined.
        auc_resamples, acc_resamples: (B,) the differences on resampled images, for the mean over seeds.
    """

    bit_equal: bool
    auc: float | None
    acc: float
    auc_p: float | None = None
    mcnemar_p: float | None = None
    auc_resamples: Floats = field(default_factory=lambda: np.zeros(NUM_RESAMPLES), repr=False)
    acc_resamples: Floats = field(default_factory=lambda: np.zeros(NUM_RESAMPLES), repr=False)

    @property
    def told_apart_by(self) -> str:
        """Which of the tests tells the runs apart, "" if none does."""
        found = []
        if self.mcnemar_p is not None and self.mcnemar_p < TEST_LEVEL:
            found.append(f"McNemar p = {self.mcnemar_p:.2g}")
        if self.auc_p is not None and self.auc_p < TEST_LEVEL:
            found.append(f"AUC p = {self.auc_p:.2g}")
        return ", ".join(found)


def other_run(a: Record, b: Record) -> str:
    """Why two records of one id are not of the same run, "" if they are; what one of them lacks is not compared."""
    wrong = [
        words
        for name, words in IDENTITY.items()
        if None not in (first := getattr(a, name), second := getattr(b, name)) and first != second
    ]
    return f"not the same run: {', '.join(wrong)} differ" if wrong else ""


def read_table(results: Path, record: Record) -> pd.DataFrame:
    """A run's predictions, after a look at their digest.

    Raises:
        RecordError: If the file is missing, damaged, or not the record's.
    """
    return read_predictions(read_attached(predictions_path(record.run.path(results)), record.predictions_sha256))


def contrast(first: pd.DataFrame, second: pd.DataFrame, card: DataCard, names: tuple[str, str]) -> Contrast:
    """Compare two prediction tables of one data set, first A's, then B's.

    Raises:
        RecordError, PairingError: If a table is damaged or the images are not the same in the same order.
    """
    sides = [{split: split_scores(table, split) for split in ("val", "test")} for table in (first, second)]
    for split in ("val", "test"):
        check_pairing(sides[0][split][0], sides[1][split][0], names)
    labels = sides[0]["test"][0]
    probs = [side["test"][1] for side in sides]
    areas = [auc(labels, scores, card.task) for scores in probs]
    shares = [accuracy(labels, scores, card.task) for scores in probs]
    area = None if areas[0] is None or areas[1] is None else areas[1] - areas[0]
    if _equal_logits(first, second):
        return Contrast(True, area, shares[1] - shares[0])
    right = np.stack([_predictions(scores, card.task) == labels for scores in probs])
    discordant = [np.array([int((right[i] & ~right[1 - i]).sum())]) for i in (0, 1)]
    drawn = sum_resamples(right, _weights(labels.tobytes(), card.dataset, False)) / len(labels)
    resampled = np.zeros(NUM_RESAMPLES)
    if area is not None:
        within = _weights(labels.tobytes(), card.dataset, True)
        resampled = np.subtract(*[auc_resamples(labels, scores[None], card.task, within) for scores in probs[::-1]])
    return Contrast(
        bit_equal=False,
        auc=area,
        acc=shares[1] - shares[0],
        auc_p=None if area is None else paired_difference(resampled, [area]).p,
        mcnemar_p=float(mcnemar(*discordant)[0]),
        auc_resamples=resampled,
        acc_resamples=drawn[1] - drawn[0],
    )


def _equal_logits(first: pd.DataFrame, second: pd.DataFrame) -> bool:
    """Whether two tables hold the same numbers, bit for bit, in whatever order of rows."""
    order = ["split", "index"]
    a, b = (table.sort_values(order, ignore_index=True) for table in (first, second))
    columns = [name for name in a.columns if name.startswith("logit_")]
    if list(a.columns) != list(b.columns) or len(a) != len(b):
        return False
    bits = [table[columns].to_numpy(np.float32).view(np.uint32) for table in (a, b)]
    return np.array_equal(bits[0], bits[1])


def _predictions(probs: Floats, task: str) -> NDArray[np.int64]:
    """As `bench.metrics.accuracy` predicts."""
    return np.where(probs[:, 1] > 0.5, 1, 0) if task == "binary-class" else np.argmax(probs, axis=1)


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


def cell_told_apart_by(contrasts: Sequence[Contrast]) -> str:
    """Which test tells the means over seeds of two cells apart, "" if none does."""
    found = []
    for name, attribute in (("AUC", "auc"), ("ACC", "acc")):
        differences = [getattr(pair, attribute) for pair in contrasts]
        if None in differences:
            continue
        resamples = np.mean([getattr(pair, f"{attribute}_resamples") for pair in contrasts], axis=0)
        p = paired_difference(resamples, differences).p
        if p < TEST_LEVEL:
            found.append(f"{name} p = {p:.2g}")
    return ", ".join(found)
