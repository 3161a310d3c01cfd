"""Records in, statistics out, as `results/ANALYSIS_PLAN.md` fixes them; `results/README.md` defines every column.

Means are of the records' own numbers; predictions give intervals, pairs and classes. Same records, same frames: what is
not a record's number is rounded to ten significant digits, beyond which another machine's exponential may differ.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.errors import RecordError
from bench.records.card import DataCard
from bench.records.run_record import Record
from bench.report.ablations import FACTORS
from bench.report.analysis.cells import CLASS_MEASURES, RATES, RESAMPLED, TEST_PARTS, Cell, kept_images, read_cells
from bench.report.analysis.contrasts import CONTRASTS, contrast_rows
from bench.report.analysis.pairs import PAIRED, Interval, Pair, compare_cells, marks, mcnemar_rows
from bench.report.analysis.predictions import Reader
from bench.report.analysis.resolution import CHECKS, RESOLUTION, published_checks, resolution_rows
from bench.report.analysis_plan import MARGIN, PARTS, family_size
from bench.report.evidence import Evidence
from bench.report.published.numbers import published_scores
from bench.report.tidy import model_order
from bench.stats.comparisons import holm
from bench.stats.intervals import area_interval, fraction_interval, mean, plain_interval, spread, variance

METRICS = ("auc", "acc", "balanced_acc", "pr_auc", "brier", "ece", "nll", *RATES)
CEILINGS = {"brier": 2.0, "nll": math.inf}  # measures that are no fraction
CELL_NAMES = ["protocol", "model", "dataset", "part", "metric"]
CELL_NUMBERS = ["n_seeds", "num_images", "mean", "sd", "ci_low", "ci_high"]
CELLS = [*CELL_NAMES, *CELL_NUMBERS, "interval", "mark", "run_ids"]
PAIR_NAMES = ["family", "protocol", "dataset", "part", "metric", "model", "baseline"]
PAIRS = [*PAIR_NAMES, "n_seeds", "difference", "ci_low", "ci_high", "p", "p_holm", "verdict", "margin"]
MCNEMAR = ["protocol", "dataset", "seed", "model", "baseline", "only_model_right", "only_baseline_right", "p"]
CLASSES = ["protocol", "model", "dataset", "part", "class_index", "class_name", *CLASS_MEASURES, "n_seeds"]
Row = tuple[object, ...]


@dataclass(frozen=True)
class Analysis:
    """The statistics of a results folder, one tidy frame each; empty frames keep their columns."""

    cells: pd.DataFrame
    pairs: pd.DataFrame
    mcnemar: pd.DataFrame
    classes: pd.DataFrame
    contrasts: pd.DataFrame
    resolution: pd.DataFrame
    published_checks: pd.DataFrame


def analyse(evidence: Evidence, *, synthetic: bool) -> Analysis:
    """Every statistic of the finished runs on data made here, or on real data.

    Args:
        evidence: The records that count, and the cards of their data sets.
        synthetic: Which of the two; published scores are checked beside real data alone.

    Raises:
        RecordError: If a data set has no card, or predictions are missing or damaged.
        PairingError: If two runs on one data set are not on the same images in the same order.
    """
    reader = Reader(evidence.results)
    parts: dict[str, list[Row]] = {"cells": [], "mcnemar": [], "classes": []}
    pairs: list[Pair] = []
    ablation: dict[str, dict[tuple[str, str], Cell]] = {}
    labels: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.int64]]] = {}
    groups = [
        (protocol, _card(evidence, dataset), _by_model(records))
        for (protocol, dataset), records in _groups(evidence.finished(synthetic=synthetic))
    ]
    jobs = [(found, card) for _, card, by_model in groups for found in by_model.values()]
    made = iter(read_cells(evidence.results, jobs))
    for protocol, card, by_model in groups:
        dataset, cells = card.dataset, {model: next(made) for model in by_model}
        rows, intervals = _cell_rows(cells, card)
        found = compare_cells(reader, cells, card, intervals)
        parts["cells"] += _marked(rows, found)
        parts["mcnemar"] += mcnemar_rows(cells)
        parts["classes"] += [row for cell in cells.values() for row in _class_rows(cell, card)]
        pairs += found
        if protocol in FACTORS:
            ablation.setdefault(dataset, {}).update({(protocol, model): cell for model, cell in cells.items()})
        labels.setdefault(dataset, next(iter(cells.values())).labels)
        reader.forget()
    contrasts = [
        (*row[:7], *(_ten(value) for value in row[7:]))
        for dataset, cells_ in sorted(ablation.items())
        for row in contrast_rows(reader, cells_, evidence.cards[dataset])
    ]
    resolution = [
        row
        for dataset, part in itertools.product(sorted(labels), TEST_PARTS)
        for row in resolution_rows(
            evidence.cards[dataset], part, labels[dataset][kept_images(evidence.cards[dataset], part)]
        )
    ]
    return Analysis(
        cells=_frame(parts["cells"], CELLS),
        pairs=_frame(_judged(pairs, synthetic=synthetic), PAIRS),
        mcnemar=_frame(parts["mcnemar"], MCNEMAR),
        classes=_frame(parts["classes"], CLASSES),
        contrasts=_frame(contrasts, CONTRASTS),
        resolution=_frame(resolution, RESOLUTION),
        published_checks=_published(synthetic=synthetic),
    )


def _groups(records: Iterable[Record]) -> list[tuple[tuple[str, str], list[Record]]]:
    """Records by protocol and data set, both in alphabetical order."""
    ordered = sorted(records, key=lambda record: (record.protocol, record.dataset))
    grouped = itertools.groupby(ordered, key=lambda record: (record.protocol, record.dataset))
    return [(key, list(found)) for key, found in grouped]


def _by_model(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records by model, in the order of the tables."""
    found: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda record: model_order(record.model)):
        found.setdefault(record.model, []).append(record)
    return found


def _card(evidence: Evidence, dataset: str) -> DataCard:
    if dataset not in evidence.cards:
        raise RecordError(
            f"{evidence.results}/data/{dataset}.json is missing: medbench measure data --datasets {dataset}"
        )
    return evidence.cards[dataset]


def _cell_rows(
    cells: dict[str, Cell], card: DataCard
) -> tuple[list[list[object]], dict[tuple[str, str, str], Interval]]:
    """One row a measure of each cell, without marks, and the intervals by (model, part, metric)."""
    rows: list[list[object]] = []
    intervals: dict[tuple[str, str, str], Interval] = {}
    for (model, cell), part, metric in itertools.product(cells.items(), TEST_PARTS, METRICS):
        values = [value for value in cell.values(part, metric) if value is not None]
        if not values and metric in RATES:
            continue
        kept = kept_images(card, part)
        middle, deviation, low, high, kind = math.nan, math.nan, math.nan, math.nan, ""
        if len(values) == len(cell.records):
            middle = mean(values)
            deviation = math.sqrt(variance(values)) if len(values) > 1 else math.nan
            low, high, kind = _interval(cell, part, metric, values, _fewest(cell.labels[kept], metric, card))
        intervals[model, part, metric] = low, high
        first = cell.records[0]
        run_ids = " ".join(record.run_id for record in cell.records)
        names = [first.protocol, model, first.dataset, part, metric]
        numbers = [len(cell.records), len(kept), middle, deviation, _ten(low), _ten(high)]
        rows.append([*names, *numbers, kind, "", run_ids])
    return rows, intervals


def _interval(cell: Cell, part: str, metric: str, values: Sequence[float], fewest: int) -> tuple[float, float, str]:
    """95 % interval of a cell's mean; none for measures whose resampling is not worth its price."""
    if metric not in RESAMPLED:
        return math.nan, math.nan, ""
    found = spread(cell.resampled(part, metric), values)
    middle = mean(values)
    if metric in CEILINGS:
        return *plain_interval(middle, found, 0.0, CEILINGS[metric]), found.kind
    ends = (area_interval if metric == "auc" else fraction_interval)(middle, found, fewest)
    return *ends, found.kind


def _fewest(labels: np.ndarray[tuple[int, ...], np.dtype[np.int64]], metric: str, card: DataCard) -> int:
    """Images of the smallest class that a measure needs; all of them for an accuracy."""
    counts = np.bincount(labels, minlength=len(card.class_names))
    if metric in ("sensitivity", "specificity") and card.clinical_positive is not None:
        positives = int(counts[card.clinical_positive])
        return positives if metric == "sensitivity" else len(labels) - positives
    return len(labels) if metric == "acc" else int(max(1, counts.min()))


def _marked(rows: list[list[object]], pairs: Sequence[Pair]) -> list[Row]:
    """The rows with the marks of AUC and accuracy filled in: among models, not their variants without a part."""
    model, part, metric, middle, mark = (CELLS.index(name) for name in ("model", "part", "metric", "mean", "mark"))
    for key in itertools.product(TEST_PARTS, PAIRED):
        group = [row for row in rows if (row[part], row[metric]) == key and row[model] not in PARTS]
        tests = [p for p in pairs if (p.part, p.metric) == key and not {p.model, p.baseline} & PARTS.keys()]
        found = marks(tests, {str(row[model]): float(str(row[middle])) for row in group})
        for row in group:
            row[mark] = found[str(row[model])]
    return [tuple(row) for row in rows]


def _class_rows(cell: Cell, card: DataCard) -> list[Row]:
    """Means over seeds of each class's measures."""
    first = cell.records[0]
    rows: list[Row] = []
    for part in TEST_PARTS:
        means = cell.classes[part].mean(axis=0)  # NaN where any seed's is undefined
        for index, name in enumerate(card.class_names):
            values = [_ten(float(value)) for value in means[index]]
            rows.append((first.protocol, first.model, first.dataset, part, index, name, *values, len(cell.records)))
    return rows


def _judged(pairs: Sequence[Pair], *, synthetic: bool) -> list[Row]:
    """Pairs with Holm's correction over each protocol's primary family, and what can be said of each."""
    adjusted: dict[int, float] = {}
    for protocol in sorted({pair.protocol for pair in pairs}):
        places = [i for i, pair in enumerate(pairs) if pair.protocol == protocol and pair.family == "primary"]
        found = holm([pairs[i].found.p for i in places], family_size(protocol, synthetic=synthetic))
        adjusted |= dict(zip(places, found, strict=True))
    rows: list[Row] = []
    for i, pair in enumerate(pairs):
        corrected = adjusted.get(i, math.nan)
        names = (pair.family, pair.protocol, pair.dataset, pair.part, pair.metric, pair.model, pair.baseline)
        found_ = pair.found
        numbers = (found_.value, _ten(found_.low), _ten(found_.high), _ten(found_.p), _ten(corrected))
        verdict = pair.verdict(found_.p if math.isnan(corrected) else corrected)
        rows.append((*names, pair.n_seeds, *numbers, verdict, MARGIN))
    return sorted(rows, key=lambda row: str(row[0]) != "primary")


def _published(*, synthetic: bool) -> pd.DataFrame:
    if synthetic:
        return pd.DataFrame(columns=CHECKS)
    frame = published_checks(published_scores())
    for column in ("ci_low", "ci_high"):
        frame[column] = frame[column].map(_ten)
    return frame


def _ten(value: float) -> float:
    """Ten significant digits."""
    return float(f"{value:.10g}")


def _frame(rows: Sequence[Row], columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=columns)
