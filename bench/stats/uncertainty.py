"""Images and seeds together: the interval of a cell's mean over seeds, and the difference of two. No files.

A score depends on the test images and on the seed, crossed, as a reader study's does on cases and readers (Obuchowski
and Rockette 1995). The image part of a mean's variance is the covariance of two seeds on the same images, which more
seeds do not lower; the seed part is the variance of one run, what images and seeds do together included, over the
number of seeds. Nothing is counted twice. The image part is taken as known in a difference, where simulation finds no
fault with that. A seed part is known as well as its degrees of freedom say, and enters the reference distribution as
what it is, an uncertain variance: with the seed part alone that is Student's t, with the image part alone the normal
distribution, between them Behrens and Fisher's. Satterthwaite's single number of degrees would be too kind far out in
the tail, where a correction for many tests looks.

With a flat prior the posterior of a difference is its estimate and this reference distribution, read the other way
round: exploratory, it tells a difference that may be large from one that is surely small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special

from bench.stats.comparisons import Difference
from bench.stats.intervals import CONFIDENCE, LEVEL, Floats, StatsError, mean, wilson
from bench.stats.seed_variance import SeedVariance

NUM_NODES, REACH = 241, 9.0  # of the integral over the uncertain variances: points, and standard deviations each way
STEP, MAX_STEPS = 1e-14, 200  # relative; a heavy tail takes some 30 steps, a normal one 5
ROUNDING = 1e-8  # a standard error below it, of a fraction, is what is left of a 0 after rounding


@dataclass(frozen=True)
class Uncertainty:
    """How far an estimate may be from the truth.

    Attributes:
        images: Variance over test images.
        seeds: Variances over seeds, each of the estimate, not of one run.
        image_degrees: How well the image part is known, from `Influence.degrees`; infinite takes it as known.
    """

    images: float
    seeds: tuple[SeedVariance, ...] = ()
    image_degrees: float = math.inf

    @property
    def error(self) -> float:
        """Standard error; 0 where nothing but rounding varies."""
        found = math.sqrt(self.images + math.fsum(part.variance for part in self.seeds))
        return found if found > ROUNDING else 0.0

    def tail(self, distance: float) -> float:
        """Probability that an estimate is off by more than `distance`, in either direction: a two-sided p-value."""
        if self.error == 0.0:
            return 1.0 if distance == 0.0 else 0.0
        return float(2 * np.sum(_nodes()[1] * special.ndtr(-abs(distance) / self._deviations())))

    def half_width(self, confidence: float = CONFIDENCE) -> float:
        """The distance that an estimate is off by more than with probability 1 - confidence."""
        if self.error == 0.0:
            return 0.0
        weights, inverse = _nodes()[1], 1 / self._deviations()
        # The tail is convex, so Newton's steps from below never pass the root.
        distance = -float(special.ndtri((1 - confidence) / 2)) / float(inverse.max())
        for _ in range(MAX_STEPS):
            scaled = distance * inverse
            excess = 2 * float(np.sum(weights * special.ndtr(-scaled))) - (1 - confidence)
            slope = float(np.sum(weights * inverse * np.exp(-scaled * scaled / 2))) * math.sqrt(2 / math.pi)
            step = excess / slope
            distance += step
            if step <= STEP * distance:
                break
        return distance

    def _deviations(self) -> Floats:
        """(`NUM_NODES`,) standard deviation at each node of the integral.

        All parts go up and down together: two seed parts rest on one pool, and together is the wider way.
        """
        total = self.images * _inflation(self.image_degrees)
        for part in self.seeds:
            total += part.variance * _inflation(part.degrees)
        found: Floats = np.sqrt(total)
        return found


@lru_cache(maxsize=1)
def _nodes() -> tuple[Floats, Floats]:
    """Of the trapezoidal rule: on a normal density its error falls exponentially with the number of points.

    Gauss and Hermite's nodes are exact for polynomials. The tail at one degree of freedom is like none: with 80 of them
    a half-width was off by 5e-5 of itself, these 241 points err by 1e-14, and by 1e-10 as far out as 102 tests look.
    """
    places = np.linspace(-REACH, REACH, NUM_NODES)
    weights = np.exp(-places * places / 2)
    return places, weights / weights.sum()


@lru_cache(maxsize=256)
def _inflation(degrees: float) -> Floats:
    """Degrees over their chi-squared quantile at the nodes: what a true variance may be of its estimate."""
    if math.isinf(degrees):
        return np.ones(NUM_NODES)
    places, half = _nodes()[0], degrees / 2
    # Each side from its own tail: a quantile at 1 - 1e-30 is lost, one at 1e-30 is not.
    low, high = special.gammaincinv(half, special.ndtr(-places)), special.gammainccinv(half, special.ndtr(places))
    found: Floats = half / np.where(places > 0, low, high)
    return found


def with_images(covariance: Floats) -> float:
    """What images and seeds do together in one run: the variance of a seed less the covariance of two.

    Args:
        covariance: (S, S) over images, of a cell's seeds, at least two.
    """
    count = len(covariance)
    shared = float(covariance.sum() - np.trace(covariance)) / (count * (count - 1))
    return float(np.trace(covariance)) / count - shared


def shared_images(covariance: Floats, seed: SeedVariance) -> float:
    """Image part of the variance of a cell's mean: the covariance of two of its seeds, mean over pairs.

    One seed alone cannot part what images do from what they do together with seeds; the pool says how much that is.

    Args:
        covariance: (S, S) over images, of the cell's seeds.
        seed: Variance of one run over seeds.
    """
    together = with_images(covariance) if len(covariance) > 1 else min(seed.with_images, float(covariance[0, 0]))
    return float(np.trace(covariance)) / len(covariance) - together


def of_mean(covariance: Floats, seed: SeedVariance, image_degrees: float = math.inf) -> Uncertainty:
    """Of a cell's mean over its seeds, as a statement about the architecture and recipe.

    Args:
        covariance: (S, S) of the cell's seeds over images, as `Influence.covariance` gives it.
        seed: Variance of one run over seeds; `FITTED` for what comes out the same for every seed.
        image_degrees: From `Influence.degrees` of the cell. An AUC near 1 rests on the few images that are not ranked
            perfectly; without, its interval covers 92 instead of 95 % (42 positives, from 0.98 upwards).
    """
    return Uncertainty(max(0.0, shared_images(covariance, seed)), (_over(seed, len(covariance)),), image_degrees)


def of_weights_mean(covariance: Floats, seed: SeedVariance) -> Uncertainty:
    """Of a mean over seeds whose variance over images is that of the trained weights, interaction included.

    Seeds add what they vary beyond it. As wide as `of_mean` on average, but what images and seeds do together is known
    from the images instead of from few seeds: for measures of which it is the larger part, as where each run has a
    threshold of its own from the same few images.

    Args:
        covariance: (S, S) of the seeds over images.
        seed: Variance of one run over seeds, and how much of it images and seeds do together.
    """
    beyond = max(0.0, seed.variance - seed.with_images) / len(covariance)
    return Uncertainty(float(covariance.mean()), (SeedVariance(beyond, seed.degrees),))


def of_difference(covariance: Floats, count: int, seeds: tuple[SeedVariance, SeedVariance]) -> Uncertainty:
    """Of the difference of two cells' means on the same images, seeds drawn on each side for itself.

    Args:
        covariance: (S + T, S + T) over images, of the first cell's seeds and then the second's.
        count: S.
        seeds: Variance of one run of the first and of the second.

    Raises:
        StatsError: If one side has no run.
    """
    return of_contrast(covariance, (count, len(covariance) - count), (1.0, -1.0), seeds)


def of_contrast(
    covariance: Floats, counts: Sequence[int], weights: Sequence[float], seeds: Sequence[SeedVariance]
) -> Uncertainty:
    """Of a weighted sum of cells' means on the same images, seeds drawn in each cell for itself.

    Args:
        covariance: (R, R) over images, of the seeds of one cell after another.
        counts: Seeds of each cell.
        weights: Of each cell's mean.
        seeds: Variance of one run of each cell.

    Raises:
        StatsError: If a cell has no run, or the runs are not those of the matrix.
    """
    if min(counts) < 1 or sum(counts) != len(covariance):
        raise StatsError(f"{list(counts)} of {len(covariance)} runs are the sides'; each side needs at least one")
    starts = [sum(counts[:place]) for place in range(len(counts))]
    runs = [slice(start, start + count) for start, count in zip(starts, counts, strict=True)]
    images = 0.0
    for i, own in enumerate(runs):
        images += weights[i] ** 2 * shared_images(covariance[own, own], seeds[i])
        images += 2 * weights[i] * math.fsum(weights[j] * float(covariance[own, runs[j]].mean()) for j in range(i))
    parts = [_over(seed, count, weight) for seed, count, weight in zip(seeds, counts, weights, strict=True)]
    return Uncertainty(max(0.0, images), tuple(parts))


def _over(seed: SeedVariance, count: int, weight: float = 1.0) -> SeedVariance:
    return SeedVariance(weight**2 * seed.variance / count, seed.degrees)


def difference(first: Sequence[float], second: Sequence[float], found: Uncertainty, reach: float = 1.0) -> Difference:
    """Mean of the first less mean of the second, with its intervals and two-sided p.

    Args:
        first: (S,) values of the first cell's seeds.
        second: (T,) of the second's; seeds need not be the same.
        found: From `of_difference`.
        reach: The largest that it can be; intervals are cut there.
    """
    return around(mean(first) - mean(second), found, reach)


def around(value: float, found: Uncertainty, reach: float = 1.0) -> Difference:
    """An estimated difference with its intervals and two-sided p.

    Args:
        value: The estimate.
        found: Of it.
        reach: The largest that it can be; intervals are cut there.
    """
    half, narrow = found.half_width(), found.half_width(1 - 2 * LEVEL)
    ends = [max(-reach, min(reach, value + side)) for side in (-half, half, -narrow, narrow)]
    return Difference(value, ends[0], ends[1], found.tail(value), ends[2], ends[3])


def area_interval(value: float, found: Uncertainty, fewest: int) -> tuple[float, float]:
    """95 % interval of an AUC on the logit scale: within [0, 1], and longer towards one half.

    Without the transform an interval near 1 is cut at 1 and falls short of its coverage on the other side. At 0 or 1,
    or where nothing varies, as `share_interval`.

    Args:
        value: Mean over seeds.
        found: From `of_mean`.
        fewest: Images of the smallest class that the value needs.
    """
    product = value * (1.0 - value)
    if found.error == 0.0 or product == 0.0:
        return share_interval(value, found, fewest)
    half, middle = found.half_width() / product, float(special.logit(value))
    return float(special.expit(middle - half)), float(special.expit(middle + half))


def share_interval(value: float, found: Uncertainty, fewest: int, middle: float | None = None) -> tuple[float, float]:
    """95 % interval of a share of images: Wilson's, for as many independent images as its variance is worth.

    A value of 0 or 1 that nothing moves is taken as seen on `fewest` images; one between them is what it is.

    Args:
        value: As `area_interval`.
        found: As `area_interval`.
        fewest: As `area_interval`.
        middle: The share that the variance belongs to, where that is a mean over what a choice could have been.
    """
    share = value if middle is None else middle
    product = share * (1.0 - share)
    if found.error > 0.0 and product > 0.0:
        return wilson(value, product / found.error**2, found.half_width() / found.error)
    return (value, value) if product > 0.0 else wilson(value, fewest)


def plain_interval(value: float, found: Uncertainty, limits: tuple[float, float]) -> tuple[float, float]:
    """95 % interval of a loss: symmetric, cut at the lowest and at the highest that it can be."""
    half = found.half_width()
    return max(limits[0], value - half), min(limits[1], value + half)


@dataclass(frozen=True)
class Rope:
    """Posterior probabilities around a region of practical equivalence; they sum to 1.

    Attributes:
        lower: Of a difference below minus the margin.
        inside: Between.
        higher: Above the margin.
    """

    lower: float
    inside: float
    higher: float


def probability_higher(value: float, found: Uncertainty) -> float:
    """P(A > B): the posterior probability that the true difference is above 0.

    Args:
        value: A's mean less B's.
        found: Of that difference. With the error of two single runs on new images in its place, it is the probability
            that a run of A beats a run of B (Bouthillier and others 2021).
    """
    return _above(value, found)


def rope(value: float, found: Uncertainty, margin: float) -> Rope:
    """Probabilities that the true difference is below, within and above a margin (Benavoli and others 2017).

    Args:
        value: The measured difference.
        found: Of it.
        margin: Half the width of the region, a fraction above 0.

    Raises:
        StatsError: If the margin is not above 0.
    """
    if margin <= 0.0:
        raise StatsError(f"a margin of {margin} has no inside; one above 0 would")
    higher, lower = _above(value - margin, found), _above(-value - margin, found)
    return Rope(lower, max(0.0, 1 - lower - higher), higher)


def _above(value: float, found: Uncertainty) -> float:
    """Posterior probability of a quantity above 0 whose estimate is `value`; one half where nothing varies around 0."""
    half = found.tail(value) / 2
    return 1 - half if value > 0 else half
