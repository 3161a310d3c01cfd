"""Are the records of corruption tracks what they say: of the run and the pixels that they name, with these scores?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from bench.errors import BenchError, RecordError
from bench.records.card import DataCard
from bench.records.predictions import PredictionTable
from bench.records.tracks.card import TrackCard, read_card_images, track_card_path
from bench.records.tracks.record import TrackRecord, differing_scores, read_logits, score_cells, track_path
from bench.stats.metrics import score, softmax


def track_card_problems(results: Path, cards: Sequence[TrackCard], data: Mapping[str, DataCard]) -> Iterator[str]:
    """Whether the cards of tracks are of the data that stand here, and their images can be read.

    Args:
        results: The folder.
        cards: Of tracks.
        data: Cards of data sets.
    """
    for card in cards:
        path, known = track_card_path(results, card.track, card.dataset), data.get(card.dataset)
        if known is None:
            name = card.dataset
            yield f"{path}: results/data/{name}.json is missing: medbench measure data --datasets {name}"
        elif card.labels_digest != known.labels_digest["test"]:
            yield f"{path}: its test labels are not those of the data set's card"
        try:
            read_card_images(results, card)
        except RecordError as error:
            yield str(error)


def track_problems(
    results: Path,
    records: Sequence[TrackRecord],
    cards: Sequence[TrackCard],
    tables: Mapping[str, PredictionTable],
    data: Mapping[str, DataCard],
) -> Iterator[str]:
    """Whether track records name the pixels of their cards and, where runs were scored again, have their own scores.

    Args:
        results: The folder.
        records: Of tracks; each of a run that stands.
        cards: Of tracks.
        tables: Predictions that were read, by run id.
        data: Cards of data sets.
    """
    pixels = {(card.track, card.dataset): card for card in cards}
    for record in records:
        path, card = track_path(results, record.track, record.run), pixels.get((record.track, record.dataset))
        if card is None:
            yield f"{path}: {record.track} has no card of {record.dataset} that counts; medbench track makes one"
        elif card.pixels_sha256 != record.pixels_sha256:
            yield f"{path}: scored on other pixels than {record.track}'s card of {record.dataset}"
        known = data.get(record.dataset)
        if known is not None and record.labels_digest != known.labels_digest["test"]:
            yield f"{path}: its test labels are not those of the data set's card"
        table = tables.get(record.run_id)
        if table is not None and known is not None:
            yield from (f"{path}: {problem}" for problem in _rescored(results, record, table, known))


def _rescored(results: Path, record: TrackRecord, table: PredictionTable, card: DataCard) -> Iterator[str]:
    """Differences between a record's scores and those of its logits, and its run's."""
    test = table.split("test")
    try:
        found = read_logits(results, record)
        if found.logits.shape[2] != test.logits.shape[1] or found.indices.max() >= len(test.labels):
            yield "its logits are not of the run's classes and images"
            return
        probs = softmax(np.ascontiguousarray(test.logits[found.indices]))
        clean = score(test.labels[found.indices], probs, card.task)
        yield from differing_scores(record, clean, score_cells(test.labels, found, card.task))
    except BenchError as error:
        yield f"cannot be scored: {error}"
