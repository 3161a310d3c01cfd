"""How much another seed would move each cell's score: pooled over the networks of one protocol and data set."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from bench.records.own_models import is_fitted
from bench.report.analysis.cells import TEST_PARTS, VARIED, Cell
from bench.stats.intervals import Floats, variance
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
        values = {model: cell.values(part, metric) for model, cell in cells.items()}
        covariances = {model: cell.covariance(part, metric) for model, cell in cells.items()}
        found = pooled(values, covariances)
        variances |= {(model, part, metric): seed for model, seed in found.items()}
    return variances


def pooled(
    values: Mapping[str, Sequence[float | None]], covariances: Mapping[str, Floats]
) -> dict[str, SeedVariance | None]:
    """The variance over seeds of each model's values, pooled over the networks; None where no network has two.

    Args:
        values: Model -> one a seed; None where it is undefined.
        covariances: Model -> (S, S) of the values over test images, NaN where nothing tells.
    """
    samples = {model: sample(own) for model, own in values.items() if not is_fitted(model)}
    known = {model: value for model, value in samples.items() if value is not None}
    pool = _pool(known, {model: len(values[model]) - 1 for model in known}, [covariances[model] for model in known])
    found: dict[str, SeedVariance | None] = dict.fromkeys(values, FITTED)
    for model, value in samples.items():
        degrees = 0 if value is None else len(values[model]) - 1
        found[model] = None if pool is None else moderated(pool, value or 0.0, degrees)
    return found


def sample(values: Sequence[float | None]) -> float | None:
    """A cell's own sample variance over seeds; None with one seed, or where a value is undefined."""
    known = [value for value in values if value is not None]
    return variance(known) if 1 < len(known) == len(values) else None


def _pool(variances: Mapping[str, float], degrees: Mapping[str, int], covariances: Sequence[Floats]) -> SeedPool | None:
    if not variances:
        return None
    together = [with_images(covariance) for covariance in covariances if not np.isnan(covariance).any()]
    return seed_pool(list(variances.values()), list(degrees.values()), together)


def of_weights(seed: SeedVariance | None) -> SeedVariance:
    """A seed variance to compute with: where nothing tells it, the statement is about the trained weights alone."""
    return FITTED if seed is None else seed
