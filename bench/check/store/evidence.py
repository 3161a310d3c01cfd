"""Is the measured evidence beside the records what it says: cards, costs, timings, maps, tracks, re-runs? No torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.check.store.tracks import track_card_problems, track_problems
from bench.check.store.tuning import tuning_problems
from bench.check.trust import read_reruns, read_self_reported
from bench.errors import RecordError
from bench.records.cam_record import CamRecord, cam_path, images_path, maps_path, read_cams, read_images, read_maps
from bench.records.card import DataCard
from bench.records.cost_record import COUNTERS, CostCell, CostRecord, read_costs
from bench.records.own_models import own_spec
from bench.records.predictions import PredictionTable
from bench.records.run_record import MEASURED_FOLDERS, Record
from bench.records.timing_record import TimingRecord, read_placed_timings
from bench.records.tracks.card import TrackCard, card_images_path, read_track_cards
from bench.records.tracks.record import TrackRecord, logits_path, read_tracks
from bench.records.writing.swap import INTERRUPTED, KEPT
from bench.stats.metrics import predict, softmax

STALE = ": stale, "
LEFT_OUT = "left out: "
CATALOGUE_SIZE, CATALOGUE_CLASSES = 224, 8  # what a registered number of parameters is counted with
MAX_MACS_PER_SECOND = {"cpu": 1e12, "cuda": 1e16}  # of a thread, of a device: ten times what any has


def sorted_notes(notes: Iterable[str]) -> tuple[list[str], list[str]]:
    """Problems, and what is stale: why evidence was left out of a report."""
    reasons = [note.removeprefix(LEFT_OUT) for note in notes]
    return [note for note in reasons if STALE not in note], [note for note in reasons if STALE in note]


def card_problem(card: DataCard) -> str:
    """Why the test images that a card leaves out are not those of its twins, "" if they are or cannot be known."""
    whole = all(len(pairs) == card.num_twin_pairs.get(key) for key, pairs in card.twins.items())
    named = {pair[-1] for key, pairs in card.twins.items() if key.endswith("/test") for pair in pairs if pair}
    if whole and named != set(card.twin_test_indices):
        return "twin_test_indices are not the test images of its twins"
    return ""


def label_problems(card: DataCard, table: PredictionTable) -> Iterator[str]:
    """Whether a card counts the labels that its own digests stand for; those of train are nowhere stored."""
    for split in ("val", "test"):
        counts = np.bincount(table.split(split).labels, minlength=len(card.class_names)).tolist()
        if counts != card.class_counts.get(split):
            yield f"class_counts of {split} are {card.class_counts.get(split)}, its labels give {counts}"


def cost_problems(record: CostRecord) -> Iterator[str]:
    """What does not fit in counted costs: sums, and the catalogue's number of parameters."""
    names = [count.counter for count in record.counts]
    if sorted(names) != sorted(COUNTERS):
        yield f"counted by {', '.join(names) or 'nobody'}; expected {', '.join(COUNTERS)}"
    for count in record.counts:
        if count.macs != sum(count.macs_by_operator.values()) + count.added_macs:
            yield f"{count.counter}: {count.macs:,} MACs are not the sum of its operators"
    if not 0 <= record.num_trainable_params <= record.num_params:
        yield f"{record.num_trainable_params:,} of {record.num_params:,} parameters are trainable"
    spec = own_spec(record.model)
    claimed = spec.num_params if spec else None
    is_claim = claimed and (record.img_size, record.num_classes) == (CATALOGUE_SIZE, CATALOGUE_CLASSES)
    if is_claim and record.num_params != claimed:
        yield f"num_params is {record.num_params:,}, the catalogue has {claimed:,}"


def timing_problems(record: TimingRecord, macs: dict[tuple[str, int], int]) -> Iterator[str]:
    """What no machine measures: times that are none, and more multiply-accumulates a second than any can do.

    Args:
        record: Timings of a model.
        macs: (model, image size) -> multiply-accumulates of an image, of the costs that stand.
    """
    kind = "cuda" if record.device.startswith("cuda") else "cpu"
    most = MAX_MACS_PER_SECOND[kind] * (record.num_threads if kind == "cpu" else 1)
    for cell in record.cells:
        for measured in cell.rounds:
            if measured.status != "done":
                continue
            if measured.iterations < 1 or not measured.block_seconds or min(measured.block_seconds) <= 0.0:
                yield f"{cell.setting.label()}: a finished round without times"
                continue
            rate = float(measured.images_per_second(cell.setting.batch_size).max())
            per_image = macs.get((record.model, cell.setting.img_size))
            if per_image is not None and rate * per_image > most:
                yield f"{cell.setting.label()}: {rate:.3g} images/s, more than such a device can compute"
                break


def map_problems(cam: CamRecord, results: Path) -> Iterator[str]:
    """Whether maps and images can be read and fit their record."""
    for read in (read_maps, read_images):
        try:
            read(results, cam)
        except RecordError as error:
            yield str(error)


def shown_problems(cam: CamRecord, table: PredictionTable, card: DataCard) -> Iterator[str]:
    """Whether the images shown have the labels and predictions of the run that was explained.

    Args:
        cam: The record of maps.
        table: The run's predictions.
        card: The data set's card.
    """
    test = table.split("test")
    predictions = predict(softmax(test.logits), card.task)
    for image in cam.images:
        if image.index >= len(test.labels):
            yield f"test image {image.index} is not in the test split"
        elif (image.label, image.prediction) != (test.labels[image.index], predictions[image.index]):
            yield f"test image {image.index}: its label or prediction is not that of the run"


@dataclass(frozen=True)
class Measured:
    """What stands beside records and cards and can be read, and why the rest was left out, one line each."""

    costs: list[CostRecord]
    timings: dict[Path, TimingRecord]  # by file
    cams: list[CamRecord]
    tracks: list[TrackRecord]
    track_cards: list[TrackCard]
    notes: list[str]


def read_measured(results: Path) -> Measured:
    """Costs, timings, maps and tracks of a results folder."""
    costs, timings, cams = read_costs(results), read_placed_timings(results), read_cams(results)
    tracks, cards = read_tracks(results), read_track_cards(results)
    notes = [note for _, notes in (costs, timings, cams, tracks, cards) for note in notes]
    return Measured(costs[0], timings[0], cams[0], tracks[0], cards[0], notes)


def evidence_problems(
    results: Path,
    measured: Measured,
    records: Mapping[str, Record],
    tables: Mapping[str, PredictionTable],
    cards: Mapping[str, DataCard],
) -> tuple[list[str], list[str]]:
    """Problems of everything beside records and cards, and what is stale, one line each.

    Args:
        results: The folder.
        measured: What it holds.
        records: By run id.
        tables: Predictions that were read, by run id.
        cards: By data set.
    """
    problems, stale = sorted_notes(measured.notes)
    for notes in (read_reruns(results)[1], read_self_reported(results)[1]):
        problems += [note.removeprefix(LEFT_OUT) for note in notes]
    macs = {
        (c.model, c.img_size): c.count("aten").macs
        for c in measured.costs
        if any(n.counter == "aten" for n in c.counts)
    }
    for cost in measured.costs:
        path = CostCell(cost.model, cost.img_size, cost.num_classes).path(results)
        problems += [f"{path}: {problem}" for problem in cost_problems(cost)]
    for path, timing in measured.timings.items():
        problems += [f"{path}: {problem}" for problem in timing_problems(timing, macs)]
    for cam in measured.cams:
        run, table, card = records.get(cam.run_id), tables.get(cam.run_id), cards.get(cam.dataset)
        same = run is not None and table is not None and run.predictions_sha256 == cam.predictions_sha256
        wrong = [*map_problems(cam, results)]
        if same and table is not None and card is not None:
            wrong += shown_problems(cam, table, card)
        problems += [f"{cam_path(results, cam.run)}: {problem}" for problem in wrong]
    wrong_sweeps, notes = tuning_problems(results, records, cards)
    unread, outdated = sorted_notes(notes)
    problems, stale = problems + wrong_sweeps + unread, stale + outdated
    problems += track_card_problems(results, measured.track_cards, cards)
    problems += track_problems(results, measured.tracks, measured.track_cards, tables, cards)
    return problems, stale


def strays(results: Path) -> Iterator[str]:
    """Files in the evidence's folders that no record can be in, and links: what was left, or put there by hand."""
    for folder in ("data", *MEASURED_FOLDERS):
        for path in sorted((results / folder).rglob("*")):
            if path.is_symlink():
                yield f"{path}: is a link; evidence stands in the folder itself"
            elif path.name.startswith(KEPT):
                yield f"{path}: {INTERRUPTED}"
            elif path.is_dir():
                continue
            elif not path.is_file() or not _belongs(path.relative_to(results)):
                yield f"{path}: left by a killed writer or put there by hand; remove it"
            elif path.suffix == ".parquet" and not _record_of(path).is_file():
                yield f"{path}: no record beside it; remove it"


# Parts of a file's path by its kind of evidence; a track has cards and, deeper, records.
DEPTH = {
    "data": {2},
    "self_reported": {2},
    "reruns": {2},
    "costs": {3},
    "timings": {3},
    "cams": {5},
    "tracks": {3, 6},
    "tuning": {4},
}


def _belongs(name: Path) -> bool:
    """Whether a file below the results folder stands where its kind of evidence does."""
    if name.name.startswith(".") or len(name.parts) not in DEPTH[name.parts[0]]:
        return False
    if name.parts[0] == "cams" and name.suffix == ".parquet":
        return name in (maps_path(_record_of(name)), images_path(_record_of(name)))
    if name.parts[0] == "tracks" and name.suffix == ".parquet":
        of_card = len(name.parts) == min(DEPTH["tracks"])
        return name == (card_images_path if of_card else logits_path)(_record_of(name))
    return name.suffix == ".json"


def _record_of(parquet: Path) -> Path:
    return parquet.with_name(parquet.name.split(".")[0] + ".json")
