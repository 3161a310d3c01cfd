"""From stored predictions to stored scores: the one way, for the runner and for `verify --scores`. No torch."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bench.errors import RecordError
from bench.records.card import DataCard, labels_digest
from bench.records.predictions import PredictionTable
from bench.records.run_record import Record, Scores
from bench.stats.metrics import score, softmax

SCORE_TOLERANCE = 1e-12
LAST = {"val": "val_last", "test": "test_last"}  # split -> the same images, by the last step's weights
SCORED = ("val", "test", *LAST.values())  # what may stand in a prediction table


def split_scores(table: PredictionTable, split: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels (N,) and probabilities (N, K) of one split of a prediction table, in index order.

    Raises:
        RecordError: If indices are not 0 .. N-1.
    """
    part = table.split(split)
    if not part.is_whole:
        raise RecordError(f"the prediction table's {split} indices are not 0 .. {len(part.indices) - 1}")
    return part.labels, softmax(part.logits)


def num_rows(record: Record, card: DataCard) -> int:
    """Rows of a run's prediction table: an image of val and test each, twice where the last step is scored too."""
    return card.num_predicted * (2 if record.test_last else 1)


def parts_of(table: PredictionTable) -> list[str]:
    """Those of `SCORED` that a prediction table has; val and test are looked for in any case."""
    return [name for name in SCORED if name not in LAST.values() or (table.splits == name).any()]


def wrong_labels(table: PredictionTable, card: DataCard) -> str:
    """Why a prediction table's labels are not those of the data set's stored digests, "" if they are."""
    for name in parts_of(table):
        if labels_digest(table.split(name).labels) != card.labels_digest[name.removesuffix("_last")]:
            return f"the {name} labels beside the predictions are not the data set's"
    return ""


def same_score(stored: float | None, computed: float | None) -> bool:
    """Whether a score that was computed again is the stored one, to 1e-12; undefined is undefined."""
    if stored is None or computed is None:
        return stored is computed
    return math.isclose(stored, computed, rel_tol=0.0, abs_tol=SCORE_TOLERANCE)


def score_predictions(table: PredictionTable, card: DataCard) -> dict[str, Scores]:
    """Every stored metric of a run, from its predictions alone: val, test, test without twins, and the last step's."""
    scores = {name: score(*split_scores(table, name), card.task) for name in parts_of(table)}
    test_labels, test_probs = split_scores(table, "test")
    kept = np.setdiff1d(np.arange(len(test_labels)), np.array(card.twin_test_indices, dtype=np.int64))
    return {**scores, "test_twin_free": score(test_labels[kept], test_probs[kept], card.task)}
