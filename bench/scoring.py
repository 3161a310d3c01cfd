"""From stored predictions to stored scores: the one way, for the runner and for `verify --scores`. No torch."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.errors import RecordError
from bench.metrics import score, softmax
from bench.records import DataCard, Scores


def split_scores(table: pd.DataFrame, split: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels (N,) and probabilities (N, K) of one split of a prediction table, in index order.

    Raises:
        RecordError: If columns are missing or indices are not 0 .. N-1.
    """
    try:
        part = table[table["split"] == split].sort_values("index")
        logits = part[[f"logit_{k}" for k in range(part.shape[1] - 3)]].to_numpy(np.float32)
        labels, indices = part["label"].to_numpy(np.int64), part["index"].to_numpy(np.int64)
    except KeyError as error:
        raise RecordError(
            f"the prediction table lacks {error}; known columns: split, index, label, logit_0 ..."
        ) from None
    if not np.array_equal(indices, np.arange(len(indices))):
        raise RecordError(f"the prediction table's {split} indices are not 0 .. {len(indices) - 1}")
    return labels, softmax(logits)


def score_predictions(table: pd.DataFrame, card: DataCard) -> dict[str, Scores]:
    """Every stored metric of a run, from its predictions alone: val, test, and test without twins."""
    val_labels, val_probs = split_scores(table, "val")
    test_labels, test_probs = split_scores(table, "test")
    kept = np.setdiff1d(np.arange(len(test_labels)), np.array(card.twin_test_indices, dtype=np.int64))
    return {
        "val": score(val_labels, val_probs, card.task),
        "test": score(test_labels, test_probs, card.task),
        "test_twin_free": score(test_labels[kept], test_probs[kept], card.task),
    }
