"""Records in, statistics out, as `results/ANALYSIS_PLAN.md` fixes them; `results/README.md` defines every column.

Means are of the records' own numbers; predictions give intervals, pairs and classes. Same records, same statistics:
what is not a record's number is rounded to ten significant digits, beyond which another machine's exponential may
differ.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from bench.errors import RecordError
from bench.records.card import DataCard
from bench.records.run_record import Record
from bench.report.ablations import FACTORS, STARTS
from bench.report.analysis.calibration import COLUMNS, PAIR_COLUMNS, Calibration, calibration_pairs, calibrations
from bench.report.analysis.cells import Cell, read_cells
from bench.report.analysis.contrasts import Contrast, contrasts_of, start_contrasts_of
from bench.report.analysis.pairs import PAIRED, McNemar, Pair, compare_cells, mcnemar_tests, primary_first
from bench.report.analysis.resolution import PublishedCheck, Resolution, published_checks, resolutions
from bench.report.analysis.scores import ClassScore, EpochScore, Score, cell_scores, class_scores, epoch_scores, marked
from bench.report.analysis.seeds import SeedVariances, seed_variances
from bench.report.analysis.twins import TwinScore, twin_scores
from bench.report.draws.pairs import DrawPair, draw_pairs
from bench.report.draws.scores import REFERENCE, DrawScore, draw_cells, draw_scores, repeats_reference
from bench.report.evidence import Evidence
from bench.report.published.numbers import published_scores
from bench.report.robustness.compare import Drop, DropPair, robustness
from bench.report.tidy import grouped, model_order, table

CELLS = [
    *("protocol", "model", "dataset", "part", "metric", "n_seeds", "num_images"),
    *("mean", "sd", "ci_low", "ci_high", "interval", "mark", "run_ids"),
]
PAIRS = [
    *("family", "protocol", "dataset", "part", "metric", "model", "baseline", "n_seeds", "n_seeds_baseline"),
    *("difference", "ci_low", "ci_high", "p", "tests", "p_corrected", "verdict", "margin"),
    *("detectable", "detectable_corrected", "p_higher", "rope_lower", "rope_inside", "rope_higher"),
]


@dataclass(frozen=True)
class Analysis:
    """The statistics of a results folder."""

    scores: tuple[Score, ...] = ()
    pairs: tuple[Pair, ...] = ()
    mcnemar: tuple[McNemar, ...] = ()
    classes: tuple[ClassScore, ...] = ()
    calibration: tuple[Calibration, ...] = ()
    calibration_pairs: tuple[Pair, ...] = ()
    contrasts: tuple[Contrast, ...] = ()
    resolution: tuple[Resolution, ...] = ()
    published_checks: tuple[PublishedCheck, ...] = ()
    draws: tuple[DrawScore, ...] = ()
    draw_pairs: tuple[DrawPair, ...] = ()
    twins: tuple[TwinScore, ...] = ()
    drops: tuple[Drop, ...] = ()
    drop_pairs: tuple[DropPair, ...] = ()
    epochs: tuple[EpochScore, ...] = ()

    @cached_property
    def table_scores(self) -> tuple[Score, ...]:
        """AUC and accuracy of every cell, in the order of the tables."""
        chosen = (score for score in self.scores if score.metric in PAIRED)
        return tuple(sorted(chosen, key=lambda s: (s.protocol, s.dataset, model_order(s.model), s.part, s.metric)))

    def tables(self) -> dict[str, pd.DataFrame]:
        """The statistics as they stand in `results/tables/`, by file name; empty tables keep their columns."""
        return {
            "cells": table(self.scores, CELLS),
            "pairs": table(self.pairs, PAIRS),
            "mcnemar": table(self.mcnemar, _fields(McNemar)),
            "classes": table(self.classes, _fields(ClassScore)),
            "calibration": table(self.calibration, COLUMNS),
            "calibration_pairs": table(self.calibration_pairs, PAIR_COLUMNS),
            "contrasts": table(self.contrasts, _fields(Contrast)),
            "resolution": table(self.resolution, _fields(Resolution)),
            "published_checks": table(self.published_checks, _fields(PublishedCheck)),
            "draws": table(self.draws, DRAWS),
            "draw_pairs": table(self.draw_pairs, _fields(DrawPair)),
            "twins": table(self.twins, _fields(TwinScore)),
            "epochs": table(self.epochs, _fields(EpochScore)),
            "robustness": table(self.drops, _fields(Drop)),
            "robustness_pairs": table(self.drop_pairs, _fields(DropPair)),
        }


def _fields(kind: type) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


DRAWS = _fields(DrawScore)


def analyse(evidence: Evidence, *, synthetic: bool) -> Analysis:
    """Every statistic of the finished runs on synthetic data, or on real data.

    Args:
        evidence: The records that count, and the cards of their data sets.
        synthetic: Which of the two; published scores are checked beside real data alone.

    Raises:
        RecordError: If a data set has no card, or predictions are missing or damaged.
        PairingError: If two runs on one data set are not on the same images in the same order.
    """
    scores: list[Score] = []
    pairs: list[Pair] = []
    mcnemar: list[McNemar] = []
    classes: list[ClassScore] = []
    calibration: list[Calibration] = []
    calibrated: list[Pair] = []
    resolution: list[Resolution] = []
    twins: list[TwinScore] = []
    epochs: list[EpochScore] = []
    groups = [(*group, seed_variances(group[2])) for group in _groups(evidence, synthetic=synthetic)]
    for protocol, card, cells, seeds in groups:
        plain = cell_scores(cells, seeds, card)
        compared = compare_cells(cells, seeds, {key: (score.low, score.high) for key, score in plain.items()})
        scores += marked(plain, compared)
        pairs += compared
        calibration += calibrations(cells, plain)
        calibrated += calibration_pairs(cells, seeds)
        mcnemar += mcnemar_tests(cells)
        twins += twin_scores(cells, card)
        epochs += [row for cell in cells.values() for row in epoch_scores(cell)]
        classes += [score for cell in cells.values() for score in class_scores(cell, card)]
        first = next(iter(cells.values()))
        for part, kept in first.kept.items():
            own = [pair for pair in compared if pair.part == part]
            resolution += resolutions(card, protocol, part, first.labels[kept], own)
    analysis = Analysis(
        scores=tuple(scores),
        pairs=tuple(primary_first(pairs)),
        mcnemar=tuple(mcnemar),
        classes=tuple(classes),
        calibration=tuple(calibration),
        calibration_pairs=tuple(calibrated),
        contrasts=tuple(_contrasts(groups)),
        resolution=tuple(resolution),
        published_checks=() if synthetic else tuple(published_checks(published_scores())),
        twins=tuple(twins),
        epochs=tuple(epochs),
    )
    return _with_tracks(analysis, evidence, synthetic=synthetic)


def _contrasts(groups: Sequence[tuple[str, DataCard, dict[str, Cell], SeedVariances]]) -> Iterator[Contrast]:
    """The effects of each data set over the protocols that vary one thing."""
    cards = {card.dataset: card for _, card, _, _ in groups}
    for varied, effects_of in ((FACTORS, contrasts_of), (STARTS, start_contrasts_of)):
        for name, card in sorted(cards.items()):
            own = [group for group in groups if group[1].dataset == name and group[0] in varied]
            cells = {(protocol, model): cell for protocol, _, known, _ in own for model, cell in known.items()}
            if cells:
                yield from effects_of(cells, {protocol: seeds for protocol, _, _, seeds in own}, card)


def _with_tracks(analysis: Analysis, evidence: Evidence, *, synthetic: bool) -> Analysis:
    """With the statistics of thinned training sets and of corrupted test images.

    Raises:
        RecordError, PairingError: As `analyse`.
    """
    drawn, finished = evidence.thinned(synthetic=synthetic), evidence.finished(synthetic=synthetic)
    again = [record.run_id for record in drawn if repeats_reference(record)]
    evidence.notes.extend(f"shown nowhere: {run_id}: {REFERENCE} has its rules, whose runs count" for run_id in again)
    drawn = [record for record in drawn if record.run_id not in again]
    cards = {record.dataset: _card(evidence, record.dataset) for record in (*drawn, *finished)}
    thinned = draw_cells(evidence.results, drawn, finished, cards)
    drops, drop_pairs = robustness(evidence, synthetic=synthetic)
    return dataclasses.replace(
        analysis,
        draws=tuple(draw_scores(thinned, evidence.cards)),
        draw_pairs=tuple(draw_pairs(thinned)),
        drops=tuple(drops),
        drop_pairs=tuple(drop_pairs),
    )


def _groups(evidence: Evidence, *, synthetic: bool) -> list[tuple[str, DataCard, dict[str, Cell]]]:
    """Protocol, card and the cells by model, in alphabetical order; all cells are read at once, on all cores."""
    records = sorted(evidence.finished(synthetic=synthetic), key=lambda record: (_rules(record), record.dataset))
    groups = [
        (protocol, _card(evidence, dataset), _by_model(group))
        for (protocol, dataset), group in itertools.groupby(records, key=lambda r: (_rules(r), r.dataset))
    ]
    jobs = [(runs, card) for _, card, by_model in groups for runs in by_model.values()]
    cells = iter(read_cells(evidence.results, jobs))
    return [(protocol, card, {model: next(cells) for model in by_model}) for protocol, card, by_model in groups]


def _rules(record: Record) -> str:
    """What runs have in common that are compared: a protocol, or a grid from which each model's own was chosen."""
    tuned = record.resolved_protocol.get("tuned")
    return f"tuned-{tuned['grid']}" if tuned else record.protocol


def _by_model(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records by model, in the order of the tables."""
    return grouped(sorted(records, key=lambda record: model_order(record.model)), lambda record: record.model)


def _card(evidence: Evidence, dataset: str) -> DataCard:
    """A data set's card.

    Raises:
        RecordError: If it is missing.
    """
    if dataset not in evidence.cards:
        raise RecordError(
            f"{evidence.results}/data/{dataset}.json is missing: medbench measure data --datasets {dataset}"
        )
    return evidence.cards[dataset]
