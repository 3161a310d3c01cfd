"""A run's stored predictions and history, checked against its record and its data set's card."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.errors import RecordError
from bench.records import predictions as stored
from bench.records.card import DataCard, labels_digest
from bench.records.names import history_path, predictions_path
from bench.records.run_record import Record
from bench.records.scoring import num_rows, parts_of
from bench.stats.comparisons import PairingError
from bench.stats.metrics import softmax

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Predictions:
    """Split -> labels (N,), probabilities (N, K) and logits (N, K), in the order of the split.

    `val` and `test`; also `val_last` and `test_last`, by the last step's weights, where the protocol has them scored.
    """

    labels: dict[str, Labels]
    probs: dict[str, Floats]
    logits: dict[str, NDArray[np.float32]]


@dataclass
class Reader:
    """Reads the predictions of one results folder, each file once."""

    results: Path
    kept: dict[str, Predictions] = field(default_factory=dict)

    def read(self, record: Record, card: DataCard) -> Predictions:
        """The predictions of a run.

        Raises:
            RecordError: If the file is missing, damaged, or not the record's.
            PairingError: If its labels are not the card's in the card's order.
        """
        if record.run_id not in self.kept:
            self.kept[record.run_id] = read_predictions(self.results, record, card)
        return self.kept[record.run_id]


def stored_bytes(results: Path, record: Record) -> bytes:
    """A run's prediction file, whole.

    Raises:
        RecordError: If it is missing or not the record's.
    """
    try:
        return stored.read_attached(
            predictions_path(record.run.path(results)), record.predictions_sha256, record.run_id
        )
    except RecordError as error:
        raise RecordError(f"{error}; the statistics need the predictions of every run") from None


def read_history(results: Path, record: Record) -> pd.DataFrame:
    """The epochs of a run.

    Raises:
        RecordError: If the file is missing, damaged, or not the record's.
    """
    path = history_path(record.run.path(results))
    return stored.read_history(stored.read_attached(path, record.history_sha256, record.run_id), path)


def read_predictions(results: Path, record: Record, card: DataCard) -> Predictions:
    """As `Reader.read`."""
    content, name = stored_bytes(results, record), predictions_path(record.run.path(results))
    rows = num_rows(record, card)
    table, predictions = stored.read_predictions(content, name, rows), Predictions({}, {}, {})
    for split in parts_of(table):
        part = table.split(split)
        if not part.is_whole or labels_digest(part.labels) != card.labels_digest[split.removesuffix("_last")]:
            what = f"{record.run_id}: its {split} labels are not those of {card.dataset}'s card in the card's order"
            raise PairingError(f"{what}; only runs on the same images can be compared")
        # A row contiguous: softmax adds in the order of memory, and tables print the last digit.
        logits = np.ascontiguousarray(part.logits)
        predictions.labels[split], predictions.logits[split] = part.labels, logits
        predictions.probs[split] = softmax(logits)
    return predictions
