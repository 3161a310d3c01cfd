"""The runs that the plan has for a claim: their seeds, the command, and the power that they would have.

The number of seeds is fixed by the studies. Where all of a claim's seeds are recorded and do not decide it, no more are
asked for: to go on until something is found is optional stopping.
"""

from __future__ import annotations

import math
import statistics

from bench.plan.selection import refusal
from bench.protocols.loading import load_protocol
from bench.protocols.planned import planned_seeds
from bench.records.own_models import is_fitted
from bench.report.analysis_plan import MARGIN, OURS
from bench.report.claims.sources import STATED, Sources
from bench.report.claims.values import ACCURACIES, Power
from bench.report.tables.missing import Command, fill_command
from bench.stats.power import accuracy_error, auc_error, power_at
from bench.stats.seed_variance import SeedVariance
from bench.stats.uncertainty import Uncertainty
from models.catalog import ModelError, get_spec

RECORDED = "all seeds that the plan has are recorded and do not decide it; more would be optional stopping"
TYPICAL = 0.95  # of a class's score, where its power is computed before any run: what the audit calls near-perfect


def seeds(dataset: str, model: str = OURS) -> tuple[int, ...]:
    """The seeds that the studies plan of a model under the paper's protocol."""
    return planned_seeds(STATED, model, dataset)


def run_command(dataset: str, *models: str) -> Command:
    """The command for the planned runs of the models, MedSpectralNet's by default."""
    return fill_command(STATED, models or [OURS], [dataset], seeds(dataset))


def refused(model: str) -> str:
    """Why a published model cannot be run under the paper's protocol, "" where it can.

    Args:
        model: The registered name, "" where the suite has no such model.
    """
    if not model:
        return "the suite has no such model"
    try:
        return refusal(get_spec(model), load_protocol(STATED))
    except ModelError:
        return f"the suite has no {model}"


def accuracy_power(sources: Sources, dataset: str, *, paired: bool) -> Power:
    """Of the planned seeds to find a difference of the plan's margin in accuracy, around the printed one.

    Images by the binomial; of a pair with the median correlation that the pairs of networks recorded on this data set
    have, else without any. Seeds by the mean variance of the networks recorded on it; without one the power is an
    upper bound.

    Args:
        sources: All evidence.
        dataset: A MedMNIST flag.
        paired: Against another model's planned runs, else against a printed number.
    """
    value = float(ACCURACIES[dataset][0]) / 100
    images = accuracy_error(value, sources.data[dataset].num_images["test"]) ** 2
    spread = [
        (score.sd**2, score.n_seeds - 1)
        for score in sources.analysis.scores
        if (score.dataset, score.part, score.metric) == (dataset, "test", "acc") and score.n_seeds > 1
    ]
    sides = 2 if paired else 1
    variance = sides * images * (1 - (_correlation(sources, dataset) if paired else 0.0))
    parts: tuple[SeedVariance, ...] = ()
    if spread:
        mean = statistics.fmean(own for own, _ in spread)
        parts = (SeedVariance(sides * mean / len(seeds(dataset)), sum(degrees for _, degrees in spread)),)
    return Power(dataset, power_at(MARGIN, Uncertainty(variance, parts)), at_most=not spread)


def _correlation(sources: Sources, dataset: str) -> float:
    found = [
        pair.correlation
        for pair in sources.analysis.pairs
        if (pair.dataset, pair.part, pair.metric) == (dataset, "test", "acc")
        and not (is_fitted(pair.model) or is_fitted(pair.baseline) or math.isnan(pair.correlation))
    ]
    return min(1.0, statistics.median(found)) if found else 0.0  # rounding may leave two equal runs above 1


def class_power(sources: Sources, dataset: str, measure: str) -> Power:
    """Of a run to find a difference of the plan's margin in a measure of the smallest class; over images alone."""
    counts = sources.data[dataset].class_counts.get("test")
    if not counts:
        return Power(dataset, None)
    error = class_error(TYPICAL, min(counts), sum(counts), measure)
    return Power(dataset, power_at(MARGIN, Uncertainty(error**2)), at_most=True)


def class_error(value: float, num_images: int, total: int, measure: str) -> float:
    """Standard error over test images of one class's measure.

    Hanley and McNeil's of an AUC. A recall is a share of the class's images; an average precision is taken as one too
    (Boyd, Eng and Page 2013). Two images more of either kind (Agresti and Coull) keep a share of 1 from being certain.

    Args:
        value: The measure, a fraction.
        num_images: Of the class.
        total: Of all classes.
        measure: `auc`, `ap` or `recall`.
    """
    if measure == "auc":
        return auc_error(value, [total - num_images, num_images], "binary-class")
    return accuracy_error((value * num_images + 2) / (num_images + 4), num_images + 4)
