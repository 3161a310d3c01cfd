"""Stored predictions of a run, checked against its record and its data set's card, each file read once.

`bench.records.scoring` reads the same files by pandas, which takes milliseconds a file; a report may have thousands to
read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bench.errors import RecordError
from bench.records.card import DataCard, labels_digest
from bench.records.names import predictions_path
from bench.records.predictions import read_attached
from bench.records.run_record import Record
from bench.stats.comparisons import PairingError
from bench.stats.metrics import softmax

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Predictions:
    """Split -> labels (N,) and probabilities (N, K), in the order of the split, for `val` and `test`."""

    labels: dict[str, Labels]
    probs: dict[str, Floats]


@dataclass
class Reader:
    """Reads the predictions of one results folder, and keeps them until told to forget."""

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

    def forget(self) -> None:
        """Give the memory back."""
        self.kept.clear()


def stored_bytes(results: Path, record: Record) -> bytes:
    """A run's prediction file, whole.

    Raises:
        RecordError: If it is missing or not the record's.
    """
    try:
        return read_attached(predictions_path(record.run.path(results)), record.predictions_sha256, record.run_id)
    except RecordError as error:
        raise RecordError(f"{error}; the statistics need the predictions of every run") from None


def read_predictions(results: Path, record: Record, card: DataCard) -> Predictions:
    """As `Reader.read`."""
    path, content = predictions_path(record.run.path(results)), stored_bytes(results, record)
    try:
        table = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
        splits, indices = table.column("split").to_numpy(), table.column("index").to_numpy()
        labels = table.column("label").to_numpy().astype(np.int64)
        columns = [table.column(f"logit_{k}").to_numpy() for k in range(table.num_columns - 3)]
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise RecordError(
            f"{path}: no prediction table ({error}); known columns: split, index, label, logit_0 ..."
        ) from None
    logits = np.stack(columns, axis=1)
    found = Predictions({}, {})
    for split in ("val", "test"):
        places = np.flatnonzero(splits == split)
        places = places[np.argsort(indices[places], kind="stable")]
        is_whole = np.array_equal(indices[places], np.arange(len(places)))
        if not is_whole or labels_digest(labels[places]) != card.labels_digest[split]:
            what = f"{record.run_id}: its {split} labels are not those of {card.dataset}'s card in the card's order"
            raise PairingError(f"{what}; only runs on the same images can be compared")
        found.labels[split], found.probs[split] = labels[places], softmax(logits[places])
    return found
