"""Rare classes and few images: what models score where train was thinned, over draws of its images.

A run of draw k has seed k, so a cell's mean, deviation and the seed part of its interval are over draws: images,
initial weights and order together. The protocol of the whole split is the reference of both tracks.
`results/ANALYSIS_PLAN.md` says what counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from bench.machine.forked import forked_map
from bench.plan.selection import expand_study
from bench.protocols.schema import Protocol
from bench.protocols.subset import class_sizes
from bench.records.card import DataCard
from bench.records.own_models import is_fitted
from bench.records.run_record import Record
from bench.records.scoring import LAST
from bench.report.analysis.predictions import Predictions, Reader
from bench.report.tidy import model_order, ten_digits
from bench.stats.delong import Influence, auc_influence, mean_influence
from bench.stats.intervals import IMAGES, IMAGES_AND_SEEDS, mean, variance
from bench.stats.metrics import predict
from bench.stats.prevalence import (
    COST_RATIOS,
    average_precision,
    cost_threshold,
    expected_cost,
    is_decidable,
    rates_at,
    screening_threshold,
)
from bench.stats.seed_variance import FITTED, SeedVariance
from bench.stats.uncertainty import Uncertainty, area_interval, of_mean, share_interval

Track = Literal["imbalance", "efficiency"]
FAMILIES: dict[Track, str] = {"imbalance": "rare-96", "efficiency": "few-96"}
REFERENCE = "lite-96"  # the whole split without an arm, of both families; a test holds that they differ in nothing else
WHOLE_SPLIT: dict[Track, str] = {"imbalance": "natural", "efficiency": "all"}
PLAIN = "plain"
ARMS = (PLAIN, "weighted", "balanced", "adjusted")
CHOSEN, LAST_STEP = "chosen", "last"  # whose weights: of the epoch that val chose, or of the last step
OVER_DRAWS = "images and draws"
SHARE = 8  # cells that repay the start of a process


class Key(NamedTuple):
    """Which cell: `level` is `5 %` or `natural` of imbalance, `20` or `all` of efficiency."""

    track: Track
    dataset: str
    level: str
    arm: str
    model: str


@dataclass(frozen=True)
class DrawScore:
    """One measure of a cell over its draws, on the official test."""

    track: Track
    dataset: str
    level: str
    arm: str
    model: str
    weights: str  # `CHOSEN` or `LAST_STEP`
    metric: str
    n_draws: int  # of the whole split: seeds, for there every draw holds all images
    num_train: int  # training images
    positives: int  # of the clinical positive class among them; -1 where the data set has none
    prevalence: float  # at which precision and cost are meant
    decidable: bool
    mean: float
    sd: float  # sample standard deviation over draws, NaN with one
    ci_low: float
    ci_high: float
    interval: str  # what it is over: `images`, `images and draws`, `images and seeds`; "" without one
    run_ids: tuple[str, ...]


@dataclass(frozen=True)
class DrawCell:
    """The runs of a cell and what their predictions say.

    Attributes:
        key: Which cell.
        records: By draw.
        sizes: Training images by class.
        prevalence: Of the clinical positive, NaN without one.
        values: (weights, metric) -> the value of each draw.
        influences: (weights, metric) -> what each test image adds to it, of the measures with an interval.
        positives: Training images of the clinical positive, -1 without one.
    """

    key: Key
    records: list[Record]
    sizes: list[int]
    positives: int
    prevalence: float
    values: dict[tuple[str, str], list[float]]
    influences: dict[tuple[str, str], Influence]

    @property
    def is_decidable(self) -> bool:
        """Whether train has enough positives, where they were thinned, for a sentence to rest on the cell."""
        return self.key.track != "imbalance" or is_decidable(self.positives)

    @property
    def is_whole(self) -> bool:
        """Whether it was trained on the whole split, of which no image is drawn."""
        return self.key.level == WHOLE_SPLIT[self.key.track]

    @property
    def is_fixed(self) -> bool:
        """Whether it is one fit on the whole split, which no draw changes."""
        return self.is_whole and is_fitted(self.key.model)


def setting(protocol: Protocol) -> tuple[Track, str, str]:
    """Track, level and arm of a family's member, from its rules."""
    data, loss = protocol.data, protocol.loss
    if data.train_per_class is not None:
        return "efficiency", str(data.train_per_class), PLAIN
    level = WHOLE_SPLIT["imbalance"] if data.positive_share is None else f"{100 * data.positive_share:g} %"
    if loss.logit_adjustment:
        return "imbalance", level, "adjusted"
    if loss.class_weights != "none":
        return "imbalance", level, "weighted"
    return "imbalance", level, PLAIN if data.sampler == "shuffled" else "balanced"


def level_order(level: str) -> tuple[bool, float]:
    """From the most images to the fewest: the whole split first, then falling."""
    if level in WHOLE_SPLIT.values():
        return False, 0.0
    return True, -float(level.removesuffix(" %"))


def draw_cells(
    results: Path, drawn: Iterable[Record], others: Iterable[Record], cards: Mapping[str, DataCard]
) -> list[DrawCell]:
    """Every cell of both tracks, those of the whole split too of models that a study plans beside another level.

    Args:
        results: The results folder.
        drawn: Finished runs of the families, but those that `repeats_reference`.
        others: Other finished runs, of which those of the reference are taken.
        cards: By data set.

    Raises:
        RecordError, PairingError: As `Reader.read`.
    """
    groups: dict[Key, list[Record]] = {}
    for record in drawn:
        track, level, arm = setting(Protocol.model_validate(record.resolved_protocol))
        groups.setdefault(Key(track, record.dataset, level, arm, record.model), []).append(record)
    there = {(key.track, key.dataset) for key in groups}
    wanted = {(key.track, key.dataset, key.model) for key in groups}
    wanted |= {
        (track, run.dataset, run.model)
        for track in FAMILIES
        for run in expand_study(track)
        if (track, run.dataset) in there
    }
    for record in (record for record in others if record.protocol == REFERENCE):
        for track, level in WHOLE_SPLIT.items():
            if (track, record.dataset, record.model) in wanted:
                groups.setdefault(Key(track, record.dataset, level, PLAIN, record.model), []).append(record)
    jobs = [
        (key, sorted(groups[key], key=lambda record: record.seed), cards[key.dataset])
        for key in sorted(groups, key=_order)
    ]
    return forked_map(partial(_measure, Reader(results)), jobs, share=SHARE)


def repeats_reference(record: Record) -> bool:
    """Whether a member of a family has the rules of the reference: its runs would count the same seeds twice."""
    _, level, arm = setting(Protocol.model_validate(record.resolved_protocol))
    return level == WHOLE_SPLIT["imbalance"] and arm == PLAIN


def _order(key: Key) -> tuple[object, ...]:
    return (
        list(FAMILIES).index(key.track),
        key.dataset,
        level_order(key.level),
        model_order(key.model),
        ARMS.index(key.arm),
    )


def _measure(reader: Reader, job: tuple[Key, list[Record], DataCard]) -> DrawCell:
    """The cell of some runs that differ in the draw alone."""
    key, records, card = job
    runs = [reader.read(record, card) for record in records]
    rules = Protocol.model_validate(records[0].resolved_protocol).data
    counts, positive = card.class_counts["train"], card.clinical_positive
    sizes = class_sizes(rules, counts, positive)
    share = math.nan if positive is None else sizes[positive] / sum(sizes)
    if key.track == "efficiency" and positive is not None:
        share = counts[positive] / sum(counts)  # as many of each class are a design, not a prevalence
    values: dict[tuple[str, str], list[float]] = {}
    influences: dict[tuple[str, str], Influence] = {}
    for weights, suffix in ((CHOSEN, ""), (LAST_STEP, "_last")):
        if any(f"test{suffix}" not in run.probs for run in runs):
            continue
        truth = runs[0].labels["test"]
        probs = np.stack([run.probs[f"test{suffix}"] for run in runs])
        areas = auc_influence(truth, probs, card.task)
        right = mean_influence(np.stack([predict(scores, card.task) == truth for scores in probs]))
        influences |= {(weights, "auc"): areas, (weights, "acc"): right}
        own = [getattr(record, f"test{suffix}") for record in records]
        values |= {(weights, name): [scores[name] for scores in own] for name in ("auc", "acc")}
        if positive is not None:
            each = [_at_prevalence(run, suffix, positive, share) for run in runs]
            values |= {(weights, name): [one[name] for one in each] for name in each[0]}
    return DrawCell(key, records, sizes, -1 if positive is None else sizes[positive], share, values, influences)


def _at_prevalence(run: Predictions, suffix: str, positive: int, prevalence: float) -> dict[str, float]:
    """What a run is worth at a prevalence; thresholds from val."""
    truth = {split: run.labels[split] == positive for split in LAST}
    scores = {split: np.ascontiguousarray(run.probs[split + suffix][:, positive]) for split in LAST}
    sensitivity, alarms = rates_at(truth["test"], scores["test"], screening_threshold(truth["val"], scores["val"]))
    measures = {
        "ap": average_precision(truth["test"], scores["test"], prevalence),
        "specificity": 1.0 - alarms,
        "sensitivity": sensitivity,
    }
    for ratio in COST_RATIOS:
        threshold = cost_threshold(truth["val"], scores["val"], prevalence, ratio)
        measures[f"nec{ratio}"] = expected_cost(*rates_at(truth["test"], scores["test"], threshold), prevalence, ratio)
    return measures


def draw_scores(cells: Iterable[DrawCell], cards: Mapping[str, DataCard]) -> list[DrawScore]:
    """Every measure of every cell, those of the last step beside those of val's choice."""
    return [_score(cell, weights, metric, cards[cell.key.dataset]) for cell in cells for weights, metric in cell.values]


def _score(cell: DrawCell, weights: str, metric: str, card: DataCard) -> DrawScore:
    values = cell.values[weights, metric]
    ends, kind = (math.nan, math.nan), ""
    influence = cell.influences.get((weights, metric))
    if influence is not None:
        interval, counts = area_interval if metric == "auc" else share_interval, card.class_counts["test"]
        fewest = min(counts) if metric == "auc" else sum(counts)
        ends = interval(mean(values), over_draws(influence), fewest)
        kind = IMAGES if len(values) == 1 else IMAGES_AND_SEEDS if cell.is_whole else OVER_DRAWS
    return DrawScore(
        *cell.key,
        weights=weights,
        metric=metric,
        n_draws=len(values),
        num_train=sum(cell.sizes),
        positives=cell.positives,
        prevalence=ten_digits(cell.prevalence),
        decidable=cell.is_decidable,
        mean=ten_digits(mean(values)),
        sd=ten_digits(math.sqrt(variance(values))) if len(values) > 1 else math.nan,
        ci_low=ten_digits(ends[0]),
        ci_high=ten_digits(ends[1]),
        interval=kind,
        run_ids=tuple(record.run_id for record in cell.records),
    )


def over_draws(influence: Influence) -> Uncertainty:
    """Of the mean over draws of a measure, or of a difference paired by draw; of one draw over images alone."""
    values = influence.values.tolist()
    seed = SeedVariance(variance(values), len(values) - 1) if len(values) > 1 else FITTED
    return of_mean(influence.covariance(), seed, influence.degrees())
