"""How much another seed would move each cell's score: pooled over the networks of one protocol and data set."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from bench.records.own_models import is_fitted
from bench.report.analysis.cells import TEST_PARTS, VARIED, Cell
from bench.stats.intervals import variance
from bench.stats.seed_variance import FITTED, SeedPool, SeedVariance, moderated, seed_pool
from bench.stats.uncertainty import with_images

# (model, part, metric) -> the variance of one run over seeds, None where no network has two: nothing tells it then.
SeedVariances = dict[tuple[str, str, str], SeedVariance | None]


def seed_variances(cells: Mapping[str, Cell]) -> SeedVariances:
    """The seed variance of every measure of every cell of one protocol and data set.

    Args:
        cells: Model -> cell.
    """
    variances: SeedVariances = {}
    for part, metric in itertools.product(TEST_PARTS, VARIED):
        own = {model: sample(cell, part, metric) for model, cell in cells.items() if not is_fitted(model)}
        pool = _pool(cells, {model: value for model, value in own.items() if value is not None}, part, metric)
        for model, cell in cells.items():
            if model not in own:
                variances[model, part, metric] = FITTED
            elif pool is None:
                variances[model, part, metric] = None
            else:
                value = own[model]
                degrees = 0 if value is None else len(cell.records) - 1
                variances[model, part, metric] = moderated(pool, value or 0.0, degrees)
    return variances


def sample(cell: Cell, part: str, metric: str) -> float | None:
    """A cell's own sample variance over seeds; None with one seed, or where a value is undefined."""
    values = [value for value in cell.values(part, metric) if value is not None]
    return variance(values) if 1 < len(values) == len(cell.records) else None


def _pool(cells: Mapping[str, Cell], variances: Mapping[str, float], part: str, metric: str) -> SeedPool | None:
    if not variances:
        return None
    covariances = [cells[model].covariance(part, metric) for model in variances]
    together = [with_images(covariance) for covariance in covariances if not np.isnan(covariance).any()]
    return seed_pool(list(variances.values()), [len(cells[model].records) - 1 for model in variances], together)


def of_weights(seed: SeedVariance | None) -> SeedVariance:
    """A seed variance to compute with: where nothing tells it, the statement is about the trained weights alone."""
    return FITTED if seed is None else seed
