"""Whether probabilities mean what they say: calibration errors and their floor, the temperature. No files.

A binned calibration error is above 0 even of a model that is calibrated, the more so the fewer images. So it is printed
with its floor, what it would be if every probability were true, and only an error above the floor's 95 % point counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from bench.stats.bootstrap import image_weights, sum_resamples
from bench.stats.intervals import LEVEL, Floats, StatsError, critical
from bench.stats.metrics import NUM_ECE_BINS
from bench.streams import stream_seed

Bools = NDArray[np.bool_]
NUM_DRAWS = 1000
LOWEST, HIGHEST = 1e-3, 1e3  # temperatures; beyond them a model that is right, or no better than chance, on all of val
FLOOR_BLOCK = 2**20  # random numbers at a time


@dataclass(frozen=True)
class Bins:
    """A reliability diagram: equal bins of (0, 1], closed on the right.

    Attributes:
        counts: (M,) images.
        confidence: (M,) mean probability, NaN in an empty bin.
        frequency: (M,) share of images of which it came true, NaN in an empty bin.
    """

    counts: NDArray[np.int64]
    confidence: Floats
    frequency: Floats

    def error(self) -> float:
        """Expected calibration error: mean over images of the gap in their bin."""
        gaps = np.abs(self.frequency - self.confidence)
        return float(np.nansum(self.counts * gaps) / self.counts.sum())

    def squared_error(self) -> float:
        """Squared L2 error without the share that sampling alone gives it (Kumar and others 2019).

        Unbiased, so it may be below 0; a bin of one image tells nothing of its own noise and is left out.
        """
        counts, frequency = self.counts.astype(np.float64), self.frequency
        with np.errstate(invalid="ignore", divide="ignore"):
            noise = frequency * (1 - frequency) / (counts - 1)
            terms = counts * ((frequency - self.confidence) ** 2 - noise)
        used = counts > 1
        return float(terms[used].sum() / counts[used].sum()) if used.any() else math.nan


def reliability(outcomes: NDArray[Any], probs: Floats, num_bins: int = NUM_ECE_BINS) -> Bins:
    """Bins of one probability an image and whether it came true.

    Args:
        outcomes: (N,) 0 or 1: whether the prediction is right, or the image is of the class.
        probs: (N,) the predicted label's probability, or the class's.
        num_bins: M.

    Raises:
        StatsError: If there is no image.
    """
    if len(probs) == 0 or len(outcomes) != len(probs):
        raise StatsError(f"{len(outcomes)} outcomes of {len(probs)} probabilities; one each, of at least one image")
    place = _place(probs, num_bins)
    counts = np.bincount(place, minlength=num_bins)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(place, weights=probs, minlength=num_bins) / counts
        frequency = np.bincount(place, weights=outcomes, minlength=num_bins) / counts
    return Bins(counts, confidence, frequency)


def _place(probs: Floats, num_bins: int) -> NDArray[np.int64]:
    edges = np.linspace(0.0, 1.0, num_bins + 1)
    return np.clip(np.searchsorted(edges, probs, side="left") - 1, 0, num_bins - 1)


def classwise_error(labels: NDArray[Any], probs: Floats, num_bins: int = NUM_ECE_BINS) -> float:
    """Mean over classes of the calibration error of the class's probability over all images (Nixon and others 2019).

    Args:
        labels: (N,) class indices.
        probs: (N, K).
        num_bins: Bins of each class.
    """
    classes = range(probs.shape[1])
    return float(np.mean([reliability(labels == k, probs[:, k], num_bins).error() for k in classes]))


@dataclass(frozen=True)
class Floor:
    """The calibration error of a model whose probabilities are true, on as many images.

    Attributes:
        mean: Over draws.
        point: 95 % of draws lie below.
    """

    mean: float
    point: float


def error_floor(probs: Floats, name: str) -> Floor:
    """What chance alone gives: outcomes drawn from the model's own probabilities, `NUM_DRAWS` times.

    Args:
        probs: (N,) the predicted labels' probabilities, which of a calibrated model come true that often.
        name: Of the draws; the same name gives the same floor.
    """
    generator = np.random.default_rng(stream_seed("calibration-floor", name))
    place, errors = _place(probs, NUM_ECE_BINS), np.empty(NUM_DRAWS)
    member = np.zeros((len(probs), NUM_ECE_BINS))
    member[np.arange(len(probs)), place] = 1.0
    height = max(1, FLOOR_BLOCK // len(probs))
    for start in range(0, NUM_DRAWS, height):
        rows = min(height, NUM_DRAWS - start)
        gaps = ((generator.random((rows, len(probs))) < probs) - probs) @ member
        errors[start : start + rows] = np.abs(gaps).sum(axis=1) / len(probs)
    return Floor(float(errors.mean()), float(np.quantile(errors, 1 - LEVEL)))


def error_interval(outcomes: NDArray[Any], probs: Floats, name: str, floor: Floor) -> tuple[float, float]:
    """95 % interval of the calibration error in `NUM_ECE_BINS` bins, over test images.

    Resampling adds to an error once more what sampling has already added. So the lower end is the basic bootstrap's,
    which takes that off, and 0 for an error that chance alone can give; the upper one leaves it in, for a small error
    may be small by chance. Quantiles of the resamples would lie above the truth.

    Args:
        outcomes: (N,) as in `reliability`.
        probs: (N,) as in `reliability`.
        name: What is resampled; the same name gives the same interval.
        floor: Of these probabilities.
    """
    place = _place(probs, NUM_ECE_BINS)
    gaps = np.zeros((NUM_ECE_BINS, len(probs)))
    gaps[place, np.arange(len(probs))] = np.asarray(outcomes, dtype=np.float64) - probs
    weights = image_weights(np.zeros(len(probs), dtype=np.int64), name, stratified=False, num_resamples=NUM_DRAWS)
    resampled = np.abs(sum_resamples(gaps, weights)).sum(axis=0) / len(probs)
    value = float(np.abs(gaps.sum(axis=1)).sum() / len(probs))
    low = 0.0 if value <= floor.point else max(0.0, 2 * value - float(np.quantile(resampled, 1 - LEVEL / 2)))
    return low, min(1.0, value + critical(math.inf) * float(resampled.std(ddof=1)))


def temperature(labels: NDArray[Any], logits: Floats) -> float:
    """The one divisor of all logits that makes val's labels likeliest (Guo and others 2017).

    The likelihood is concave in its inverse, whose slope has one root. To be called on val.

    Args:
        labels: (N,) class indices.
        logits: (N, K).

    Returns:
        A number above 0, cut at `LOWEST` (every image right: the colder the better) and `HIGHEST` (no better than
        chance).
    """
    chosen = logits[np.arange(len(labels)), labels]

    def slope(logarithm: float) -> float:
        probs = special.softmax(logits * math.exp(-logarithm), axis=1)
        return float(np.mean((probs * logits).sum(axis=1) - chosen))

    low, high = math.log(LOWEST), math.log(HIGHEST)
    if slope(low) <= 0:  # even so cold the labels' logits are as high as any
        return LOWEST
    if slope(high) >= 0:
        return HIGHEST
    return math.exp(float(optimize.brentq(slope, low, high, xtol=1e-13)))


@dataclass(frozen=True)
class Parts:
    """A negative log-likelihood in nats: `refinement` + `calibration`.

    Attributes:
        refinement: What is left after the temperature, the best that one divisor can do.
        calibration: What it takes off; below 0 where val's temperature does not suit test.
    """

    refinement: float
    calibration: float


def likelihood_parts(labels: NDArray[Any], logits: Floats, found: float) -> Parts:
    """The parts of the negative log-likelihood, by a temperature from val.

    Args:
        labels: (N,) of test.
        logits: (N, K) of test.
        found: The temperature.
    """
    plain, scaled = (_negative_log_likelihood(labels, logits / divisor) for divisor in (1.0, found))
    return Parts(scaled, plain - scaled)


def _negative_log_likelihood(labels: NDArray[Any], logits: Floats) -> float:
    return float(-np.mean(special.log_softmax(logits, axis=1)[np.arange(len(labels)), labels]))


def is_rare(train_counts: NDArray[Any]) -> Bools:
    """Which classes have fewer training images than the median class.

    Args:
        train_counts: (K,).
    """
    found: Bools = np.asarray(train_counts) < np.median(train_counts)
    return found
