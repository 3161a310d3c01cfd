"""From the predictions of a cell's seeds to what statistics need of them: read once, computed once, cached.

A cell is one model on one data set under one protocol. What each image adds to a measure of each seed is its influence:
cells on the same images are paired by the covariance of their influences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.errors import RecordError
from bench.machine.forked import forked_map
from bench.records import predictions as stored
from bench.records.card import DataCard
from bench.records.names import history_path
from bench.records.run_record import Record
from bench.report.analysis import cache
from bench.report.analysis.cache import Arrays
from bench.report.analysis.predictions import Floats, Labels, Predictions, Reader, stored_bytes
from bench.report.analysis_plan import TWIN_THRESHOLDS
from bench.stats.bootstrap import image_weights
from bench.stats.calibration import reliability
from bench.stats.delong import Influence, auc_influence, mean_influence, precision_influence
from bench.stats.intervals import StatsError, resampled_rates, youden_threshold
from bench.stats.metrics import per_class, predict
from bench.stats.probabilities import LOSSES, TRACK, Scaled, influences, loss_influence, measure, scale
from bench.stats.removal import Curve, removal_curve

Bools = NDArray[np.bool_]

TEST_PARTS = ("test", "test_twin_free")
CLASS_MEASURES = ("auc", "ap", "precision", "recall", "f1")
RATES = ("sensitivity", "specificity")
DERIVED = (*RATES, *TRACK)  # of predictions; no record holds them
VARIED = (  # what has a variance over test images
    *("auc", "acc", "balanced_acc", "brier", "nll", *RATES),
    *("pr_auc", "ece", "nll_refinement", "nll_calibration"),
)
KINDS = ("classes", "derived", "bins", "middles", "areas", "covariances", "degrees")
REMOVALS = tuple(f"removals/{field.name}" for field in fields(Curve))
SHARE = 4  # cells that repay the start of a process
Job = tuple[Sequence[Record], DataCard]


@dataclass(frozen=True)
class Cell:
    """What the predictions of some seeds say.

    Attributes:
        records: One a seed, in the order of seeds.
        labels: (N,) of the official test images.
        correct: (S, N) whether each seed is right.
        classes: Part -> (S, K, 5) `CLASS_MEASURES`, NaN where undefined.
        losses: (2, S, N) each image's negative log-likelihood, as it is and with the temperature of val, in nats.
        derived: Part -> (S, 12) `DERIVED`, NaN where undefined.
        middles: Part -> (2,) `RATES`, mean over seeds and over the thresholds that resampled vals would have given.
        kept: Part -> the test images that it holds.
        bins: Part -> (3, S, M) counts, confidences and frequencies of `bench.stats.calibration.Bins`.
        areas: Part -> (S, n) what each of its images adds to each seed's AUC, NaN where that is undefined.
        covariances: Part -> (11, S, S) of the seeds' `VARIED` over test images, NaN where nothing tells; of `RATES`
            over the val images that chose the threshold, too.
        degrees: Part -> (11,) how well the variance of each is known.
        last: (S, 3) number of epochs, val AUC and val accuracy after the last; NaN without a history.
        removals: The official test without images ever less like those of train and val; None without similarities.
    """

    records: list[Record]
    labels: Labels
    correct: Bools
    losses: Floats
    kept: dict[str, Labels]
    classes: dict[str, Floats]
    derived: dict[str, Floats]
    bins: dict[str, Floats]
    middles: dict[str, Floats]
    areas: dict[str, Floats]
    covariances: dict[str, Floats]
    degrees: dict[str, Floats]
    last: Floats
    removals: Curve | None = None

    @property
    def seeds(self) -> list[int]:
        """The seeds, rising."""
        return [record.seed for record in self.records]

    @property
    def name(self) -> str:
        """What messages call it: the first run's id."""
        return self.records[0].run_id

    def covariance(self, part: str, metric: str) -> Floats:
        """(S, S) covariance of the seeds' values over test images; NaN where nothing tells."""
        covariance: Floats = self.covariances[part][VARIED.index(metric)]
        return covariance

    def image_degrees(self, part: str, metric: str) -> float:
        """How well the variance over images of the seeds' mean is known, as `Influence.degrees`."""
        return float(self.degrees[part][VARIED.index(metric)])

    def influence(self, part: str, metric: str) -> Influence:
        """What each image of a part adds to the AUC, the accuracy or one of `LOSSES` of each seed."""
        if metric == "acc":
            return mean_influence(self.correct[:, self.kept[part]])
        if metric in LOSSES:
            return loss_influence(self.losses[:, :, self.kept[part]], metric)
        return Influence(self.areas[part].sum(axis=1), self.areas[part], self.labels[self.kept[part]])

    def values(self, part: str, metric: str) -> list[float | None]:
        """The measure of each seed: from the record, `DERIVED` from the predictions."""
        if metric in DERIVED:
            return [None if np.isnan(x) else float(x) for x in self.derived[part][:, DERIVED.index(metric)]]
        return [(getattr(record, part) or {}).get(metric) for record in self.records]


def read_cells(results: Path, jobs: Sequence[Job]) -> list[Cell]:
    """Cells from their records: from the cache where that can be trusted, else measured, on all cores.

    Args:
        results: The results folder.
        jobs: Of each cell its records and its data set's card.

    Raises:
        RecordError, PairingError: As `Reader.read`.
    """
    ordered = [(_by_seed(records), card) for records, card in jobs]
    cached = [_cached(results, *job) for job in ordered]
    missing = [index for index, arrays in enumerate(cached) if arrays is None]
    measured = forked_map(lambda index: _arrays(Reader(results), *ordered[index]), missing, share=SHARE)
    known = dict(zip(missing, measured, strict=True))
    return [
        _cell(records, card, known[index] if arrays is None else arrays)
        for index, ((records, card), arrays) in enumerate(zip(ordered, cached, strict=True))
    ]


def _cached(results: Path, records: Sequence[Record], card: DataCard) -> Arrays | None:
    """What is kept of a cell, as long as the files that it was measured from are still there and the same."""
    arrays = cache.load(results, cache.cache_key(records, card))
    for record in records if arrays is not None else ():
        stored_bytes(results, record)
    return arrays


def _by_seed(records: Sequence[Record]) -> list[Record]:
    return sorted(records, key=lambda record: record.seed)


def _arrays(reader: Reader, records: Sequence[Record], card: DataCard) -> Arrays:
    """Measured from the predictions, and kept in the cache."""
    arrays = _measure([reader.read(record, card) for record in records], card)
    try:
        last = [_last_epoch(reader.results, record) for record in records]
    except RecordError:  # a history is missing or another: no curve is drawn of it either, and nothing is kept
        return arrays | {"last": np.full((len(records), 3), np.nan)}
    arrays["last"] = np.array(last, dtype=np.float64)
    cache.store(reader.results, cache.cache_key(records, card), arrays)
    return arrays


def _last_epoch(results: Path, record: Record) -> tuple[float, float, float]:
    """How many epochs a run had, and its val AUC and accuracy after the last; NaN of what is fitted.

    Raises:
        RecordError: If its history is missing or not the one that it was sealed with.
    """
    if record.history_sha256 is None:
        return np.nan, np.nan, np.nan
    path = history_path(record.run.path(results))
    return stored.last_epoch(stored.read_attached(path, record.history_sha256, record.run_id), path)


def _cell(records: list[Record], card: DataCard, arrays: Arrays) -> Cell:
    labels = arrays["labels"].astype(np.int64)
    correct = np.unpackbits(arrays["correct"], axis=1, count=len(labels)).astype(np.bool_)
    kept = {part: kept_images(card, part) for part in TEST_PARTS}
    by_part = {kind: {part: arrays[f"{kind}/{part}"] for part in TEST_PARTS} for kind in KINDS}
    curve = [arrays[name] for name in REMOVALS if name in arrays]
    removals = Curve(*curve) if curve else None
    return Cell(records, labels, correct, arrays["losses"], kept, **by_part, last=arrays["last"], removals=removals)


def kept_images(card: DataCard, part: str) -> Labels:
    """Indices of the test images that a part holds."""
    every = np.arange(card.num_images["test"])
    return every if part == "test" else np.setdiff1d(every, np.array(card.twin_test_indices, dtype=np.int64))


def _measure(runs: Sequence[Predictions], card: DataCard) -> Arrays:
    """Everything of a cell that predictions say, as arrays for the cache."""
    labels = runs[0].labels["test"]
    probs = np.stack([run.probs["test"] for run in runs])
    correct = np.stack([predict(scores, card.task) for scores in probs]) == labels
    positive, flagged = _flagged(runs, card)
    logits = {split: np.stack([run.logits[split] for run in runs]) for split in ("val", "test")}
    scaled = scale((runs[0].labels["val"], logits["val"]), (labels, logits["test"]))
    train_counts = np.array(card.class_counts["train"])
    arrays: Arrays = {"labels": labels.astype(np.int16), "correct": np.packbits(correct, axis=1)}
    arrays["losses"] = scaled.losses
    arrays |= _removals(labels, probs, correct, card)
    for part in TEST_PARTS:
        kept = kept_images(card, part)
        if part != "test" and len(kept) == len(labels):
            arrays |= {f"{kind}/{part}": arrays[f"{kind}/test"] for kind in KINDS}
            continue
        truth, shown = labels[kept], probs[:, kept]
        arrays[f"classes/{part}"] = np.stack([_classes(truth, scores, card.task) for scores in shown])
        parts = _positive_parts(truth, flagged[:, kept], positive)
        own = Scaled(scaled.temperatures, scaled.losses[:, :, kept])
        bins = reliability(correct[:, kept], shown.max(axis=2))
        arrays[f"bins/{part}"] = np.stack([bins.counts, bins.confidence, bins.frequency])
        track = measure(truth, shown, correct[:, kept], bins, own, train_counts, f"{card.dataset}/{part}")
        arrays[f"derived/{part}"] = np.column_stack([*(counts.mean(axis=1) for counts in parts), track])
        moved = _influences(truth, shown, correct[:, kept], flagged[:, kept], positive, card.task)
        moved += [precision_influence(truth, shown) if moved[0] else None]
        moved += influences(correct[:, kept], shown.max(axis=2), own.losses)
        arrays[f"areas/{part}"] = np.full(shown.shape[:2], np.nan) if moved[0] is None else moved[0].parts
        covariances, degrees = zip(*(_variance(influence, len(runs)) for influence in moved), strict=True)
        arrays[f"covariances/{part}"], arrays[f"degrees/{part}"] = np.stack(covariances), np.array(degrees)
        rates = _resampled_rates(runs, card, positive, kept)
        arrays[f"middles/{part}"] = rates.mean(axis=(1, 2))
        for rate, resampled in zip(RATES, rates, strict=True):
            arrays[f"covariances/{part}"][VARIED.index(rate)] += np.cov(resampled).reshape(len(runs), len(runs))
    return arrays


def _removals(labels: Labels, probs: Floats, correct: Bools, card: DataCard) -> Arrays:
    """The arrays of `Curve` by name; nothing where the card knows no similarities, or no image is like another."""
    similarity = card.test_similarity
    if similarity is None or not (similarity >= min(TWIN_THRESHOLDS)).any():
        return {}
    curve = removal_curve(labels, probs, correct, similarity, TWIN_THRESHOLDS, card.task)
    return {name: getattr(curve, name.removeprefix("removals/")) for name in REMOVALS}


def _classes(labels: Labels, probs: Floats, task: str) -> Floats:
    """(K, 5) measures of each class, NaN where undefined."""
    measures = per_class(labels, probs, task)
    return np.array([measures[measure] for measure in CLASS_MEASURES], dtype=np.float64).T


def _flagged(runs: Sequence[Predictions], card: DataCard) -> tuple[int, Bools]:
    """The clinical positive and (S, N) whether each seed calls a test image positive, by the threshold of its val.

    The positive is -1, which no image has, where the card names none or val cannot give a threshold.
    """
    positive = card.clinical_positive
    nothing = np.zeros((len(runs), card.num_images["test"]), dtype=np.bool_)
    if positive is None:
        return -1, nothing
    thresholds = [youden_threshold(run.labels["val"] == positive, run.probs["val"][:, positive]) for run in runs]
    if np.isnan(thresholds).any():
        return -1, nothing
    flags = [run.probs["test"][:, positive] >= bar for run, bar in zip(runs, thresholds, strict=True)]
    return positive, np.stack(flags)


def _resampled_rates(runs: Sequence[Predictions], card: DataCard, positive: int, kept: Labels) -> Floats:
    """(2, S, B) sensitivity and specificity of a part at the thresholds of resampled vals; NaN where undefined."""
    val, test = runs[0].labels["val"] == positive, runs[0].labels["test"][kept] == positive
    if not test.any() or test.all():
        return np.full((2, len(runs), 2), np.nan)
    weights = image_weights(val.astype(np.int64), f"{card.dataset}/val", stratified=True)
    own = np.stack([run.probs["val"][:, positive] for run in runs])
    shown = np.stack([run.probs["test"][kept, positive] for run in runs])
    return resampled_rates(val, own, test, shown, weights)


def _positive_parts(labels: Labels, flagged: Bools, positive: int) -> tuple[Floats, Floats]:
    """Flags of the positive images and missing flags of the others, (S, n) each; a column of NaN where undefined."""
    nothing = np.full((len(flagged), 1), np.nan)
    is_positive = labels == positive
    if not is_positive.any() or is_positive.all():
        return nothing, nothing
    return flagged[:, is_positive].astype(np.float64), (~flagged[:, ~is_positive]).astype(np.float64)


def _influences(
    labels: Labels, probs: Floats, correct: Bools, flagged: Bools, positive: int, task: str
) -> list[Influence | None]:
    """Of each of the first seven of `VARIED`, None where it is undefined.

    AUC, recalls, sensitivity and specificity are of classes and vary with the images within them; accuracy, Brier score
    and likelihood are of all images and vary with all.
    """
    num_images, num_classes = probs.shape[1:]
    counts = np.bincount(labels, minlength=num_classes)
    recalls = correct / (counts[labels] * num_classes)
    likelihood = np.maximum(probs[:, np.arange(num_images), labels], np.finfo(np.float64).tiny)
    distances = probs.copy()
    distances[:, np.arange(num_images), labels] -= 1.0
    is_positive = labels == positive
    sides: list[Influence | None] = [None, None]
    if is_positive.any() and not is_positive.all():
        right = [flagged & is_positive, ~flagged & ~is_positive]
        shares = [right[0] / is_positive.sum(), right[1] / (~is_positive).sum()]
        sides = [Influence(share.sum(axis=1), share, is_positive.astype(np.int64)) for share in shares]
    return [
        auc_influence(labels, probs, task) if counts.min() > 0 else None,
        mean_influence(correct),
        Influence(recalls.sum(axis=1), recalls, labels),
        mean_influence((distances**2).sum(axis=2)),
        mean_influence(-np.log(likelihood)),
        *sides,
    ]


def _variance(influence: Influence | None, num_seeds: int) -> tuple[Floats, float]:
    """Covariance of the seeds over images and the degrees of freedom of their mean's; NaN where nothing tells."""
    if influence is not None:
        try:
            return influence.covariance(), influence.degrees()
        except StatsError:  # a class of one image
            pass
    return np.full((num_seeds, num_seeds), np.nan), float("nan")


def joint_covariance(cells: Sequence[Cell], part: str, metric: str) -> Floats | None:
    """Covariance over test images of all runs of some cells on the same images, by AUC or accuracy.

    Returns:
        (R, R), the cells' seeds one after another; None where nothing tells.
    """
    influences = [cell.influence(part, metric) for cell in cells]
    parts = np.concatenate([influence.parts for influence in influences])
    if np.isnan(parts).any():
        return None
    try:
        return Influence(parts.sum(axis=1), parts, influences[0].strata).covariance()
    except StatsError:  # a class of one image
        return None
