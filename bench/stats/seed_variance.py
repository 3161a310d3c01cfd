"""How much another seed would move a score: one estimate a cell, the better for what the other cells show. No files.

Three seeds tell little of a variance, one seed nothing. The cells of one protocol, data set and measure are trained
alike, so their variances are taken as draws from one distribution, scaled inverse chi-squared with `degrees` degrees of
freedom around `variance` (Smyth 2004, as limma moderates the variances of genes). A cell's variance is then its own,
drawn towards that of the pool, with the degrees of both. A cell of one seed takes the pool's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import optimize, special

from bench.stats.intervals import StatsError

# Prior degrees that are tried. A finer choice than this is not to be had from some ten cells,
# and a list gives every machine the same one.
PRIOR_DEGREES = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0, 40.0, math.inf)
DOUBT = 0.5  # log-likelihood below the best that still counts as not spoken against; by simulation, in the tests


@dataclass(frozen=True)
class SeedVariance:
    """Variance of one run's score over seeds.

    Attributes:
        variance: Of one run.
        degrees: Of freedom; infinite where it is known.
        with_images: The part of it that images and seeds do together, which one run's variance over images holds too.
    """

    variance: float
    degrees: float
    with_images: float = 0.0


FITTED = SeedVariance(0.0, math.inf)  # what comes out the same for every seed


@dataclass(frozen=True)
class SeedPool:
    """What the cells of a pool have in common.

    Attributes:
        variance: Scale of the distribution that the cells' variances are drawn from.
        degrees: How alike they are; infinite if they differ no more than chance makes them.
        total_degrees: Of all cells together: no statement rests on more.
        num_cells: Cells with two seeds or more.
        with_images: As in `SeedVariance`, the mean of the cells'.
    """

    variance: float
    degrees: float
    total_degrees: float
    num_cells: int
    with_images: float


def seed_pool(variances: Sequence[float], degrees: Sequence[float], with_images: Sequence[float] = ()) -> SeedPool:
    """The distribution of the cells' variances, by marginal likelihood.

    A cell's sample variance is then scaled F with its own and the prior degrees. Its likelihood stays finite at a
    variance of 0, which three seeds with the same count of right images do have by chance; limma's moments of
    logarithms do not. Some ten cells seldom show that variances differ: the likeliest prior degrees are infinite more
    often than not where they are 4. So the fewest degrees are taken that the cells do not speak against.

    Args:
        variances: Sample variance over seeds of each cell with at least two.
        degrees: Its degrees of freedom, seeds less one.
        with_images: Of each cell `bench.stats.uncertainty.with_images`; none counts as 0.

    Raises:
        StatsError: If there is none, or one is negative or has no degrees.
    """
    pairs = list(zip(variances, degrees, strict=True))
    if not pairs or min(variances) < 0.0 or min(degrees) < 1:
        raise StatsError(f"{len(pairs)} seed variances make no pool; at least one of two seeds or more would")
    total = math.fsum(degrees)
    together = max(0.0, math.fsum(with_images) / len(with_images)) if with_images else 0.0
    if max(variances) == 0.0:
        return SeedPool(0.0, math.inf, total, len(pairs), 0.0)
    scales = {prior: _scale(pairs, prior) for prior in PRIOR_DEGREES if _has_scale(pairs, prior)}
    likelihoods = {prior: _log_likelihood(pairs, scale, prior) for prior, scale in scales.items()}
    bar = max(likelihoods.values()) - DOUBT
    prior = min(prior for prior, likelihood in likelihoods.items() if likelihood >= bar) if len(pairs) > 1 else math.inf
    return SeedPool(scales[prior], prior, total, len(pairs), together)


def _has_scale(pairs: Sequence[tuple[float, float]], prior: float) -> bool:
    """Whether the likelihood has its peak above a scale of 0.

    A variance of 0 comes of ties between whole counts of images, not of a scale of 0: where there are so many that few
    prior degrees would take one for the likeliest, those degrees are not tried.
    """
    tied = math.fsum(count for variance, count in pairs if variance == 0.0)
    return tied == 0.0 or prior * sum(variance > 0.0 for variance, _ in pairs) > tied


def _scale(pairs: Sequence[tuple[float, float]], prior: float) -> float:
    """The likeliest scale for given prior degrees: where the cells' weighted variances average to it."""
    mean = math.fsum(variance * count for variance, count in pairs) / math.fsum(count for _, count in pairs)
    if math.isinf(prior):
        return mean

    def slope(logarithm: float) -> float:
        scale = math.exp(logarithm)
        shares = ((count, (prior + count) * variance / (prior * scale + count * variance)) for variance, count in pairs)
        return math.fsum(count * (share - 1) for count, share in shares)

    low = math.log(mean) - 1.0
    while slope(low) < 0:
        low -= 2.0
    return math.exp(float(optimize.brentq(slope, low, math.log(mean) + 1.0, xtol=1e-13)))


def _log_likelihood(pairs: Sequence[tuple[float, float]], scale: float, prior: float) -> float:
    """Of the sample variances, without what depends on them alone."""
    if math.isinf(prior):
        return math.fsum(
            -count / 2 * (math.log(scale) + variance / scale - math.log(count / 2)) for variance, count in pairs
        )
    return math.fsum(
        float(special.gammaln((count + prior) / 2) - special.gammaln(prior / 2))
        + count / 2 * math.log(count / (prior * scale))
        - (count + prior) / 2 * math.log1p(count * variance / (prior * scale))
        for variance, count in pairs
    )


def moderated(pool: SeedPool, variance: float = 0.0, degrees: float = 0.0) -> SeedVariance:
    """A cell's variance of one run, drawn towards the pool.

    Its degrees of freedom are the cell's and the prior's, and never more than the pool has in all: the scale is
    estimated too. What is said with it holds on average over the cells of the pool; of one single-seed cell, nothing
    says that it is not the unstable one.

    Args:
        pool: Of the cell's protocol, data set and measure, the cell among them.
        variance: Its own sample variance; left out with one seed.
        degrees: Its seeds less one.
    """
    if math.isinf(pool.degrees):
        return SeedVariance(pool.variance, pool.total_degrees, pool.with_images)
    own = pool.degrees + degrees
    drawn = (pool.degrees * pool.variance + degrees * variance) / own
    return SeedVariance(drawn, min(own, pool.total_degrees), pool.with_images)
