"""What corrupted test images cost a model: drops with their intervals, and models compared by them.

Means are of the track records' own numbers. The influences of the test images on the clean score and on the mean over
all corrupted copies are subtracted before anything is squared, so an interval is of the paired drop.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.errors import RecordError
from bench.protocols.loading import list_studies, load_study
from bench.records.card import DataCard
from bench.records.names import Run
from bench.records.run_record import Record
from bench.records.tracks.record import TrackRecord
from bench.report.ablations import REMOVAL
from bench.report.analysis.seeds import of_weights, pooled
from bench.report.analysis_plan import OURS, best_baseline, comparison_order
from bench.report.evidence import Evidence
from bench.report.robustness.drops import ALL, METRICS, RunDrops, run_drops
from bench.report.tidy import grouped, model_order, ten_digits
from bench.stats.comparisons import PairingError
from bench.stats.delong import Influence
from bench.stats.intervals import IMAGES, IMAGES_AND_SEEDS, Floats, StatsError, mean
from bench.stats.seed_variance import FITTED, SeedVariance
from bench.stats.uncertainty import around, difference, of_difference, of_mean
from bench.tracks.schema import CORRUPTIONS

TRUNK = REMOVAL.trunk
TESTED = ("auc", "balanced_acc", "balanced_acc_youden")  # what has an interval; the others stand beside it


@dataclass(frozen=True)
class Drop:
    """A cell's score on clean test images less the mean of its scores on corrupted copies of the same."""

    track: str
    protocol: str
    model: str
    dataset: str
    metric: str
    corruption: str  # one of the track's, or `all`
    n_seeds: int
    num_images: int
    clean: float  # mean over seeds
    corrupted: float  # mean over seeds, severities and, of `all`, corruptions
    drop: float
    ci_low: float  # NaN of a measure without an interval
    ci_high: float
    interval: str  # what it is over: `images`, or `images and seeds`; "" where there is none
    run_ids: tuple[str, ...]


@dataclass(frozen=True)
class DropPair:
    """The drop of a model less that of another, on the same images and the same corrupted pixels."""

    track: str
    protocol: str
    dataset: str
    metric: str
    model: str
    baseline: str
    role: str  # of the baseline, by the analysis plan: `trunk`, `best baseline`, or ""
    n_seeds: int
    n_seeds_baseline: int
    difference: float  # above 0: the model loses more
    ci_low: float
    ci_high: float
    p: float
    interval: str  # what it is over, as of `Drop`


@dataclass(frozen=True)
class _Group:
    """The runs of a track under one protocol on one data set, by model, and what statistics need of each."""

    track: str
    protocol: str
    card: DataCard
    runs: Mapping[str, Sequence[RunDrops]]


def robustness(evidence: Evidence, *, synthetic: bool) -> tuple[list[Drop], list[DropPair]]:
    """Every drop and every comparison of MedSpectralNet's; runs of seeds that no study plans are left out.

    Args:
        evidence: The records that count.
        synthetic: Of synthetic data, or of real data.
    """
    drops: list[Drop] = []
    pairs: list[DropPair] = []
    for group in _groups(evidence, synthetic=synthetic):
        drops += _drops(group)
        pairs += _pairs(group)
    return drops, pairs


def _groups(evidence: Evidence, *, synthetic: bool) -> Iterator[_Group]:
    runs = {record.run_id: record for record in evidence.finished(synthetic=synthetic)}
    pixels = {(card.track, card.dataset): card.pixels_sha256 for card in evidence.track_cards}
    chosen = []
    for track in evidence.tracks:
        if track.run_id not in runs or track.dataset not in evidence.cards:
            continue
        if pixels.get((track.track, track.dataset)) != track.pixels_sha256:
            evidence.notes.append(f"left out: {track.track} of {track.run_id}: scored on other pixels than its card's")
            continue
        chosen.append((runs[track.run_id], track))
    chosen.sort(key=lambda pair: (pair[1].track, pair[1].protocol, pair[1].dataset, model_order(pair[1].model)))
    for (name, protocol, dataset), own in grouped(chosen, lambda p: (p[1].track, p[1].protocol, p[1].dataset)).items():
        card = evidence.cards[dataset]
        by_model = grouped(sorted(own, key=lambda pair: pair[1].seed), lambda pair: pair[1].model)
        ordered = sorted(by_model, key=model_order)
        yield _Group(name, protocol, card, {m: _measured(evidence, by_model[m], card) for m in ordered})


def _measured(evidence: Evidence, pairs: Sequence[tuple[Record, TrackRecord]], card: DataCard) -> list[RunDrops]:
    """Of each seed of a model.

    Raises:
        PairingError: If a track's images are not those of the card.
        RecordError: If a table is missing or damaged.
    """
    found = []
    for record, track in pairs:
        if track.labels_digest != card.labels_digest["test"]:
            raise PairingError(f"{track.track} of {track.run_id}: its labels are not those of {card.dataset}'s card")
        try:
            found.append(run_drops(evidence.results, record, track, card))
        except StatsError as error:
            raise RecordError(f"{track.track} of {track.run_id}: {error}") from None
    return found


def _drops(group: _Group) -> Iterator[Drop]:
    for metric, corruption in itertools.product(METRICS, (ALL, *CORRUPTIONS)):
        scores = {model: [run.scores.get((metric, corruption)) for run in runs] for model, runs in group.runs.items()}
        values = {m: [None if s is None else s.clean - s.corrupted for s in own] for m, own in scores.items()}
        covariances = {model: _covariance(group.runs[model], metric, corruption) for model in group.runs}
        seeds = pooled(values, covariances) if metric in TESTED else {}
        for model, runs in group.runs.items():
            known = [score for score in scores[model] if score is not None]
            if len(known) < len(runs):
                continue
            exact = [value for value in values[model] if value is not None]
            low, high, kind = _interval(exact, covariances[model], seeds.get(model, FITTED), tested=metric in TESTED)
            yield Drop(
                *(group.track, group.protocol, model, group.card.dataset, metric, corruption, len(runs)),
                num_images=runs[0].num_images,
                clean=ten_digits(mean([score.clean for score in known])),
                corrupted=ten_digits(mean([score.corrupted for score in known])),
                drop=ten_digits(mean(exact)),
                ci_low=low,
                ci_high=high,
                interval=kind,
                run_ids=tuple(run.run_id for run in runs),
            )


def _covariance(runs: Sequence[RunDrops], metric: str, corruption: str) -> Floats:
    """(S, S) of the seeds' drops over test images, NaN where nothing tells."""
    parts = [run.influences.get((metric, corruption)) for run in runs]
    nothing = np.full((len(runs), len(runs)), np.nan)
    known = [part for part in parts if part is not None]
    if len(known) < len(runs):
        return nothing
    stacked = np.stack(known)
    try:
        return Influence(stacked.sum(axis=1), stacked, runs[0].labels).covariance()
    except StatsError:  # a class of one image
        return nothing


def _interval(
    values: Sequence[float], covariance: Floats, seed: SeedVariance | None, *, tested: bool
) -> tuple[float, float, str]:
    if not tested or np.isnan(covariance).any():
        return math.nan, math.nan, ""
    weights = of_weights(seed)
    exact = around(mean(values), of_mean(covariance, weights))
    return ten_digits(exact.low), ten_digits(exact.high), IMAGES if weights == FITTED else IMAGES_AND_SEEDS


def _pairs(group: _Group) -> Iterator[DropPair]:
    """MedSpectralNet and every other model, by each tested measure."""
    if OURS not in group.runs:
        return
    roles = {TRUNK: "trunk"}
    best = _best(group)
    roles[best] = f"{roles[best]}, best baseline" if best in roles else "best baseline"
    for metric in TESTED:
        values = {model: _values(runs, metric) for model, runs in group.runs.items()}
        covariances = {model: _covariance(runs, metric, ALL) for model, runs in group.runs.items()}
        seeds = pooled(values, covariances)
        for baseline in sorted(group.runs.keys() - {OURS}, key=comparison_order):
            sides = [group.runs[name] for name in (OURS, baseline)]
            joint = _covariance([*sides[0], *sides[1]], metric, ALL)
            exact = [[value for value in values[name] if value is not None] for name in (OURS, baseline)]
            if np.isnan(joint).any() or [len(side) for side in exact] != [len(side) for side in sides]:
                continue
            weights = (of_weights(seeds[OURS]), of_weights(seeds[baseline]))
            found = difference(exact[0], exact[1], of_difference(joint, len(sides[0]), weights))
            yield DropPair(
                *(group.track, group.protocol, group.card.dataset, metric, OURS, baseline, roles.get(baseline, "")),
                *(len(sides[0]), len(sides[1]), ten_digits(found.value), ten_digits(found.low), ten_digits(found.high)),
                ten_digits(found.p),
                interval=IMAGES if weights == (FITTED, FITTED) else IMAGES_AND_SEEDS,
            )


def _values(runs: Sequence[RunDrops], metric: str) -> list[float | None]:
    scores = [run.scores.get((metric, ALL)) for run in runs]
    return [None if score is None else score.clean - score.corrupted for score in scores]


def _best(group: _Group) -> str:
    """The best baseline by the analysis plan: among the networks that a study plans for the track here, by clean AUC.

    Where no study plans any, as on synthetic data, among all. "" without one.
    """
    planned = {model for model, _ in planned_runs(group.track, group.protocol, group.card.dataset)}
    return best_baseline(
        (model, mean([run.scores["auc", ALL].clean for run in runs]), len(runs))
        for model, runs in group.runs.items()
        if (model in planned or not planned) and all(("auc", ALL) in run.scores for run in runs)
    )


def planned_runs(track: str, protocol: str, dataset: str) -> dict[tuple[str, int], str]:
    """(model, seed) -> the study that plans it for a track."""
    found: dict[tuple[str, int], str] = {}
    for name in list_studies():
        study = load_study(name)
        for part in study.parts if track in study.tracks else ():
            if protocol in part.protocols and dataset in part.datasets:
                found |= dict.fromkeys(itertools.product(part.models, part.seeds), name)
    return found


def without_score(
    runs: Iterable[tuple[str, int]], protocol: str, dataset: str, scored: Container[str]
) -> list[tuple[str, int]]:
    """Those of some (model, seed) under a protocol on a data set whose run ids are not among the scored ones."""
    return [(model, seed) for model, seed in runs if Run(protocol, model, dataset, seed).run_id not in scored]
