"""What one run's track record says: its scores by corruption, and what each test image adds to each drop."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.records.card import DataCard, labels_digest
from bench.records.predictions import read_predictions
from bench.records.run_record import Record, Scores
from bench.records.scoring import num_rows
from bench.records.tracks.record import TrackRecord, read_logits
from bench.report.analysis.predictions import stored_bytes
from bench.stats.calibration import image_losses, reliability, temperatures
from bench.stats.comparisons import PairingError
from bench.stats.delong import auc_influence
from bench.stats.intervals import Floats, mean, youden_threshold
from bench.stats.metrics import predict, softmax
from bench.tracks.schema import CORRUPTIONS, SEVERITIES

ALL = "all"  # corruptions together
METRICS = ("auc", "balanced_acc", "balanced_acc_youden", "nll", "nll_scaled", "ece", "ece_scaled")
STORED = ("auc", "balanced_acc", "nll", "ece")  # in the track record itself

Key = tuple[str, str]  # measure, corruption
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Scored:
    """A measure on the clean images, and its mean over the corrupted copies."""

    clean: float
    corrupted: float


@dataclass(frozen=True)
class RunDrops:
    """What statistics need of one run.

    Attributes:
        run_id: The run.
        labels: (N,) of the track's images.
        scores: By measure and corruption (or `ALL`); undefined ones are left out.
        influences: (N,) of each drop, by the same keys, of those that have a variance over images.
    """

    run_id: str
    labels: Labels
    scores: dict[Key, Scored]
    influences: dict[Key, Floats]

    @property
    def num_images(self) -> int:
        """Test images that were corrupted."""
        return len(self.labels)


def run_drops(results: Path, record: Record, track: TrackRecord, card: DataCard) -> RunDrops:
    """The drops of one run.

    Raises:
        RecordError: If a table is missing, damaged, or not its record's.
        PairingError: If the run's labels are not the card's.
    """
    table = read_predictions(stored_bytes(results, record), num_rows=num_rows(record, card))
    val, test = table.split("val"), table.split("test")
    for name, part in (("val", val), ("test", test)):
        if not part.is_whole or labels_digest(part.labels) != card.labels_digest[name]:
            raise PairingError(f"{record.run_id}: its {name} labels are not those of {card.dataset}'s card, in order")
    found = read_logits(results, track)
    labels = test.labels[found.indices]
    # The clean images lead, the 70 cells follow: (71, N, K).
    logits = np.concatenate([test.logits[found.indices][None], found.logits]).astype(np.float64)
    probs = np.stack([softmax(np.ascontiguousarray(part)) for part in logits])
    scores = dict(_stored(track))
    influences: dict[Key, Floats] = {}
    counts = np.bincount(labels, minlength=len(card.class_names))
    if counts.min() > 0:
        influences |= _by_corruption("auc", auc_influence(labels, probs, card.task).parts)
        right = np.stack([predict(part, card.task) for part in probs]) == labels
        influences |= _by_corruption("balanced_acc", right / (counts[labels] * len(counts)))
        flagged = _right_by_threshold(val.labels, softmax(np.ascontiguousarray(val.logits)), labels, probs, card)
        if flagged is not None:
            recalls = flagged / (counts[labels] * len(counts))
            influences |= _by_corruption("balanced_acc_youden", recalls)
            scores |= _scored("balanced_acc_youden", recalls.sum(axis=1).tolist())
    scores |= _scaled(labels, logits, float(temperatures(val.labels, val.logits[None])[0]), card.task)
    return RunDrops(record.run_id, labels, scores, influences)


def _stored(track: TrackRecord) -> Iterator[tuple[Key, Scored]]:
    """The record's own numbers."""
    for metric in STORED:
        yield from _scored(metric, [track.clean.get(metric), *_in_order(track.scores, metric)]).items()


def _in_order(scores: dict[str, list[Scores]], metric: str) -> list[float | None]:
    return [cell.get(metric) for name in CORRUPTIONS for cell in scores[name]]


def _scored(metric: str, values: Sequence[float | None]) -> dict[Key, Scored]:
    """A measure of the clean images and then of the 70 cells, by corruption and over all."""
    clean, cells = values[0], values[1:]
    found: dict[Key, Scored] = {}
    for corruption, own in _slices():
        known = [value for value in cells[own] if value is not None]
        if clean is not None and len(known) == len(cells[own]):
            found[metric, corruption] = Scored(clean, mean(known))
    return found


def _slices() -> Iterator[tuple[str, slice]]:
    """Which of the 70 cells belong to each corruption, and to all."""
    yield ALL, slice(None)
    for place, name in enumerate(CORRUPTIONS):
        yield name, slice(place * len(SEVERITIES), (place + 1) * len(SEVERITIES))


def _by_corruption(metric: str, parts: Floats) -> dict[Key, Floats]:
    """Influences on the drops.

    Args:
        metric: The measure.
        parts: (71, N) on the measure itself, of the clean images first.
    """
    return {(metric, corruption): parts[0] - parts[1:][own].mean(axis=0) for corruption, own in _slices()}


def _right_by_threshold(
    val_labels: Labels, val_probs: Floats, labels: Labels, probs: Floats, card: DataCard
) -> NDArray[np.bool_] | None:
    """(71, N) whether images are told right by the Youden threshold of clean val; None of more than two classes."""
    positive = card.clinical_positive
    if positive is None or len(card.class_names) != 2:
        return None
    threshold = youden_threshold(val_labels == positive, val_probs[:, positive])
    if math.isnan(threshold):
        return None
    right: NDArray[np.bool_] = (probs[:, :, positive] >= threshold) == (labels == positive)
    return right


def _scaled(labels: Labels, logits: Floats, divisor: float, task: str) -> dict[Key, Scored]:
    """Likelihood and calibration error by one temperature."""
    losses = image_losses(labels, logits, np.full(len(logits), divisor)).mean(axis=1)
    scaled = [softmax(part / divisor) for part in logits]
    right = np.stack([predict(probs, task) == labels for probs in scaled])
    errors = reliability(right, np.stack([probs.max(axis=1) for probs in scaled])).errors()
    return {**_scored("nll_scaled", losses.tolist()), **_scored("ece_scaled", errors.tolist())}
