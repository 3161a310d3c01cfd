"""Which figures the evidence gives, and their files: SVG, PDF and the numbers behind each.

Names begin with the paper's figure of the same kind: `fig04_curves__medspectralnet__breastmnist__lite-96`. The paper's
Figs 4-7 are of OrganCMNIST and 8-11 of OrganSMNIST; other data sets go by the first four.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from bench.errors import RecordError
from bench.records.cost_record import CostRecord
from bench.records.names import SYNTHETIC_PREFIX, model_slug
from bench.records.run_record import Record
from bench.records.timing_record import TimingRecord
from bench.report.ablations import REMOVAL, is_compared
from bench.report.analysis.analyse import Analysis
from bench.report.analysis.pairs import Pair
from bench.report.analysis.predictions import read_history
from bench.report.analysis.scores import Score
from bench.report.analysis.twins import TwinScore
from bench.report.analysis_plan import PARTS, best_baseline
from bench.report.draws.figures import draw_plots
from bench.report.evidence import MODELS, Evidence
from bench.report.figures.curves import curves_plot
from bench.report.figures.forest import forest_plot
from bench.report.figures.parameters import parameters_plot
from bench.report.figures.pareto import macs_axis, parameter_axis, pareto_numbers, pareto_plot, speed_axes
from bench.report.figures.reliability import reliability_plot
from bench.report.figures.scores import Cell, areas_plot, confusion_plot
from bench.report.figures.style import Plot, data_words
from bench.report.figures.twins import twins_plot
from bench.report.published.numbers import published_costs
from bench.report.tidy import grouped

PAPER = {"organcmnist": (4, "OrganCMNIST"), "organsmnist": (8, "OrganSMNIST")}  # data set -> first figure


def absent(evidence: Evidence, *, models: Sequence[str] = MODELS) -> list[str]:
    """Figures of the paper that no real record gives, one line each: the number, and what it would need."""
    have = {(record.model, record.dataset) for record in evidence.finished(synthetic=False)}
    return [
        f"Figs {first} to {first + 3} of the paper ({title}) are absent: no finished run of {model} on {dataset}"
        for dataset, (first, title) in PAPER.items()
        for model in models
        if (model, dataset) not in have
    ]


def plots(evidence: Evidence, analysis: Analysis, *, synthetic: bool, models: Sequence[str]) -> Iterator[Plot]:
    """The figures in the paper's order, none drawn yet."""
    records = evidence.finished(synthetic=synthetic)
    for (protocol, dataset, model), cell in _grouped(records).items():
        if model in models:
            yield from _run_plots(evidence, cell, f"{model_slug(model)}__{dataset}__{protocol}")
    (costs, _), (timings, _) = evidence.costs, evidence.timings  # the report's notes name what was left out
    if not synthetic:
        plot = parameters_plot(costs, published_costs())
        if plot is not None:
            yield plot
    yield from _reliability_plots(evidence, analysis, records, models)
    yield from _pareto_plots(evidence, analysis.scores, records, costs, timings)
    yield from _forest_plots(evidence, analysis.pairs, records)
    yield from draw_plots(evidence, analysis.draws, synthetic=synthetic)
    yield from _twin_plots(evidence, analysis.twins, records)


def _grouped(records: Sequence[Record]) -> dict[tuple[str, str, str], list[Record]]:
    """Runs by (protocol, data set, model), each by seed."""
    ordered = sorted(records, key=lambda r: (r.protocol, r.dataset, r.model, r.seed))
    return grouped(ordered, lambda r: (r.protocol, r.dataset, r.model))


def _run_plots(evidence: Evidence, records: Sequence[Record], name: str) -> Iterator[Plot]:
    """Curves, confusion matrix, ROC and precision-recall of one model, data set and protocol."""
    dataset = records[0].dataset
    card = evidence.cards.get(dataset)
    number, shown = PAPER.get(dataset.removeprefix(SYNTHETIC_PREFIX), (4, "OrganCMNIST"))
    trained = _with_history(evidence, records)
    if trained:
        yield curves_plot(f"fig{number:02}_curves__{name}", number, shown, trained, card, evidence.results)
    if card is None:
        return  # the classes have no names
    cell = Cell(records, card, evidence.results)
    yield confusion_plot(f"fig{number + 1:02}_confusion__{name}", number + 1, shown, cell)
    yield areas_plot("roc", f"fig{number + 2:02}_roc__{name}", number + 2, shown, cell)
    yield areas_plot("pr", f"fig{number + 3:02}_pr__{name}", number + 3, shown, cell)


def _with_history(evidence: Evidence, records: Sequence[Record]) -> list[Record]:
    """The runs whose stored history is the one that they were sealed with; another one is noted and not drawn."""
    readable = []
    for record in records:
        if record.history_sha256 is None:
            continue
        try:
            read_history(evidence.results, record)
        except RecordError as error:
            evidence.notes.append(f"not drawn: {error}")
        else:
            readable.append(record)
    return readable


def _reliability_plots(
    evidence: Evidence, analysis: Analysis, records: Sequence[Record], models: Sequence[str]
) -> Iterator[Plot]:
    """Each model beside its trunk and the best baseline, under the protocols that compare models."""
    areas = grouped(
        (score for score in analysis.scores if (score.part, score.metric) == ("test", "auc")),
        lambda score: (score.protocol, score.dataset),
    )
    errors = {(row.protocol, row.dataset, row.model): row for row in analysis.calibration if row.part == "test"}
    cells = _grouped(records)
    for protocol, dataset, model in errors:
        if model in models and is_compared(protocol):
            best = best_baseline((score.model, score.mean, score.n_seeds) for score in areas[protocol, dataset])
            panels = [(protocol, dataset, name) for name in dict.fromkeys((model, REMOVAL.trunk, best))]
            panels = [key for key in panels if key in errors]
            runs = [record for key in panels for record in cells[key]]
            data = data_words(evidence.cards.get(dataset), dataset, "test")
            name = f"reliability__{model_slug(model)}__{dataset}__{protocol}"
            yield reliability_plot(name, [errors[key] for key in panels], runs, data)


def _pareto_plots(
    evidence: Evidence,
    scores: Iterable[Score],
    records: Sequence[Record],
    costs: Sequence[CostRecord],
    timings: Sequence[TimingRecord],
) -> Iterator[Plot]:
    """Accuracy against MACs, parameters and speed, where at least two models have both at the runs' size."""
    official = [s for s in scores if (s.part, s.metric) == ("test", "acc") and s.model not in PARTS]
    known = [score for score in official if not math.isnan(score.mean)]
    for (protocol, dataset), accuracies in sorted(grouped(known, lambda s: (s.protocol, s.dataset)).items()):
        runs = [record for record in records if (record.protocol, record.dataset) == (protocol, dataset)]
        if not runs:
            continue
        card = evidence.cards.get(dataset)
        macs = macs_axis(runs, costs, len(card.class_names) if card else 0)
        for axis in (macs, parameter_axis(runs), *speed_axes(runs, timings)):
            if axis is not None and len(pareto_numbers(accuracies, axis)) > 1:
                data = data_words(card, dataset, "test")
                yield pareto_plot(f"pareto_{axis.name}__{dataset}__{protocol}", axis, accuracies, runs, data)


def _forest_plots(evidence: Evidence, pairs: Iterable[Pair], records: Sequence[Record]) -> Iterator[Plot]:
    primary = [pair for pair in pairs if pair.family == "primary"]
    for protocol, family in sorted(grouped(primary, lambda pair: pair.protocol).items()):
        drawn = {(pair.dataset, model) for pair in family for model in (pair.model, pair.baseline)}
        runs = [r for r in records if r.protocol == protocol and (r.dataset, r.model) in drawn]
        words = [data_words(evidence.cards.get(name), name, "test") for name in sorted({p.dataset for p in family})]
        if runs:
            yield forest_plot(f"forest__{protocol}", family, runs, " ".join(words))


def _twin_plots(evidence: Evidence, twins: Iterable[TwinScore], records: Sequence[Record]) -> Iterator[Plot]:
    """Curves over the threshold, where the twin-free test lacks an image and more than one model is there."""
    for (protocol, dataset), scores in sorted(grouped(twins, lambda s: (s.protocol, s.dataset)).items()):
        card = evidence.cards.get(dataset)
        runs = [r for r in records if (r.protocol, r.dataset) == (protocol, dataset)]
        if card is not None and card.twin_test_indices and len({score.model for score in scores}) > 1:
            yield twins_plot(f"twins__{dataset}__{protocol}", scores, runs, data_words(card, dataset, "test"))
