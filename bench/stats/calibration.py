"""Whether probabilities mean what they say: calibration errors and their floor, the temperature. No files.

A binned calibration error is above 0 even of a model that is calibrated, the more so the fewer images. So it is printed
with its floor, what it would be if every probability were true, and only an error above the floor's 95 % point counts.
Runs on the same images are measured together: R runs, N images, K classes, M bins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bench.errors import ShapeError
from bench.stats.delong import Influence, mean_influence
from bench.stats.intervals import LEVEL, Floats
from bench.stats.metrics import NUM_ECE_BINS, calibration_bins
from bench.stats.uncertainty import Uncertainty
from bench.streams import stream_seed

Bools = NDArray[np.bool_]
NUM_DRAWS = 1000
LOWEST, HIGHEST = 1e-3, 1e3  # temperatures; beyond them a model that is right, or no better than chance, on all of val
STEP, MAX_STEPS = 1e-12, 200  # relative; Newton's steps are some 10
BLOCK_NUMBERS = 2**20  # random numbers at a time
SMALLEST = math.log(np.finfo(np.float64).tiny)  # of a likelihood's logarithm, as in the records' `nll`


@dataclass(frozen=True)
class Bins:
    """Reliability diagrams: equal bins of (0, 1], closed on the right.

    Attributes:
        counts: (R, M) images.
        confidence: (R, M) mean probability, NaN in an empty bin.
        frequency: (R, M) share of images of which it came true, NaN in an empty bin.
    """

    counts: NDArray[np.int64]
    confidence: Floats
    frequency: Floats

    def pooled(self) -> Bins:
        """One diagram of the images of all runs: (1, M)."""
        counts = self.counts.sum(axis=0, keepdims=True)
        with np.errstate(invalid="ignore"):
            means = [
                np.nansum(self.counts * values, axis=0, keepdims=True) / counts
                for values in (self.confidence, self.frequency)
            ]
        return Bins(counts, *means)

    def errors(self) -> Floats:
        """(R,) expected calibration errors: mean over images of the gap in their bin."""
        gaps = np.abs(self.frequency - self.confidence)
        found: Floats = np.nansum(self.counts * gaps, axis=1) / self.counts.sum(axis=1)
        return found

    def squared_errors(self) -> Floats:
        """(R,) squared L2 errors without the share that sampling alone gives them (Kumar and others 2019).

        Unbiased, so one may be below 0; a bin of one image tells nothing of its own noise and is left out. NaN where
        no bin holds two.
        """
        used = self.counts > 1
        counts = np.where(used, self.counts, 2)
        noise = self.frequency * (1 - self.frequency) / (counts - 1)
        terms = np.where(used, counts * ((self.frequency - self.confidence) ** 2 - noise), 0.0)
        with np.errstate(invalid="ignore"):
            found: Floats = terms.sum(axis=1) / np.where(used, counts, 0).sum(axis=1)
        return found


def reliability(outcomes: NDArray[Any], probs: Floats) -> Bins:
    """Bins of one probability an image and whether it came true, of several runs.

    Args:
        outcomes: (R, N) 0 or 1: whether the prediction is right, or the image is of the class.
        probs: (R, N) the predicted label's probability, or the class's.

    Raises:
        ShapeError: If the shapes disagree, or there is no image.
    """
    if outcomes.shape != probs.shape or probs.ndim != 2 or 0 in probs.shape:
        raise ShapeError(f"outcomes {outcomes.shape} of probabilities {probs.shape}; expected (runs, N) of both, N > 0")
    bins = calibration_bins(probs)
    counts = _sums(np.ones(probs.shape), bins)
    with np.errstate(invalid="ignore"):
        confidence, frequency = _sums(probs, bins) / counts, _sums(outcomes, bins) / counts
    return Bins(counts.astype(np.int64), confidence, frequency)


def _sums(values: NDArray[Any], bins: NDArray[np.int64]) -> Floats:
    """(R, M) sums of (R, N) values over each run's bins."""
    runs = len(values)
    flat = (bins + NUM_ECE_BINS * np.arange(runs)[:, None]).ravel()
    found = np.bincount(flat, weights=values.ravel(), minlength=runs * NUM_ECE_BINS).astype(np.float64)
    return found.reshape(runs, NUM_ECE_BINS)


def class_errors(labels: NDArray[Any], probs: Floats) -> Floats:
    """(R, K) calibration errors of each class's probability over all images.

    Their mean over classes is the classwise error of Nixon and others (2019).

    Args:
        labels: (N,) class indices.
        probs: (R, N, K).
    """
    num_runs, num_images, num_classes = probs.shape
    columns = probs.transpose(0, 2, 1).reshape(-1, num_images)
    outcomes = np.broadcast_to(labels == np.arange(num_classes)[:, None], (num_runs, num_classes, num_images))
    return reliability(outcomes.reshape(columns.shape), columns).errors().reshape(num_runs, num_classes)


def floors(probs: Floats, name: str) -> tuple[Floats, Floats]:
    """The calibration errors of runs whose probabilities are true: outcomes drawn from them, `NUM_DRAWS` times.

    All runs see the same draws, so that their floors differ by their probabilities alone.

    Args:
        probs: (R, N) the predicted labels' probabilities, which of a calibrated model come true that often.
        name: Of the draws; the same name gives the same floors.

    Returns:
        (R,) means over the draws, and (R,) points that 95 % of the draws lie below.
    """
    num_runs, num_images = probs.shape
    generator = np.random.default_rng(stream_seed("calibration-floor", name))
    errors, bins = np.zeros((num_runs, NUM_DRAWS)), calibration_bins(probs)
    expected, order = _sums(probs, bins), np.argsort(bins, axis=1, kind="stable")
    bars = np.take_along_axis(probs, order, axis=1).astype(np.float32)[:, :, None]
    ends = np.cumsum(_sums(np.ones(probs.shape), bins), axis=1).astype(np.int64)
    exact = np.min_scalar_type(num_images)  # small whole numbers: additions that a processor does many of at once
    width = max(1, BLOCK_NUMBERS // num_images)
    for start in range(0, NUM_DRAWS, width):
        draws = generator.random((num_images, min(width, NUM_DRAWS - start)), dtype=np.float32)
        for run in range(num_runs):
            came_true, first = draws[order[run]] < bars[run], 0
            for last, sure in zip(ends[run].tolist(), expected[run].tolist(), strict=True):
                if last > first:  # images of a bin lie side by side
                    counts = np.add.reduce(came_true[first:last], axis=0, dtype=exact)
                    errors[run, start : start + draws.shape[1]] += np.abs(counts - sure)
                first = last
    errors /= num_images
    return errors.mean(axis=1), np.quantile(errors, 1 - LEVEL, axis=1)


def error_influence(outcomes: NDArray[Any], probs: Floats) -> Influence:
    """What each image adds to the calibration error of each run: its own gap, by the sign of its bin's.

    Args as `reliability`.
    """
    bins, gaps = calibration_bins(probs), outcomes - probs
    signs = np.sign(_sums(gaps, bins))
    return mean_influence(np.take_along_axis(signs, bins, axis=1) * gaps)


def error_biases(outcomes: NDArray[Any], probs: Floats) -> Floats:
    """(R,) how much sampling adds to a calibration error: a gap's absolute value is larger in the mean than the gap.

    A bin's gap is taken as normal around what it was measured as, which estimates a little less than the truth.

    Args as `reliability`.
    """
    bins, gaps = calibration_bins(probs), outcomes - probs
    num_images = probs.shape[1]
    middle = _sums(gaps, bins) / num_images
    deviation = np.sqrt(np.maximum(0.0, _sums(gaps**2, bins) / num_images**2 - middle**2 / num_images))
    scaled = np.divide(middle, deviation, out=np.zeros_like(middle), where=deviation > 0.0)
    density = math.sqrt(2 / math.pi) * np.exp(-(scaled**2) / 2)
    terms = np.where(deviation > 0.0, deviation * density - 2 * np.abs(middle) * special.ndtr(-np.abs(scaled)), 0.0)
    found: Floats = terms.sum(axis=1)
    return found


def error_interval(value: float, found: Uncertainty, bias: float, point: float) -> tuple[float, float]:
    """95 % interval of a calibration error.

    Sampling only adds to an error. So the lower end is without what it adds, and 0 for an error that chance alone can
    give; the upper end leaves it in, for a small error may be small by chance.

    Args:
        value: Mean over seeds.
        found: Of it, from `error_influence`.
        bias: Mean over seeds of `error_biases`.
        point: Mean over seeds of the floors' 95 % points.
    """
    half = found.half_width()
    low = 0.0 if value <= point else max(0.0, value - bias - half)
    return low, min(1.0, value + half)


def temperatures(labels: NDArray[Any], logits: NDArray[Any]) -> Floats:
    """The one divisor of all logits that makes val's labels likeliest (Guo and others 2017), of each run.

    The likelihood is concave in its inverse, whose slope has one root: Newton's steps within a bracket. For val.

    Args:
        labels: (N,) class indices.
        logits: (R, N, K).

    Returns:
        (R,) numbers above 0, cut at `LOWEST` (every image right: the colder the better) and `HIGHEST` (no better than
        chance).
    """
    exact = np.asarray(logits, dtype=np.float64)
    gains = exact - exact[:, np.arange(len(labels)), labels][:, :, None]

    def slope(inverse: Floats) -> tuple[Floats, Floats]:
        """First and second derivative of the mean negative log-likelihood."""
        weights = special.softmax(gains * inverse[:, None, None], axis=2)
        means = (weights * gains).sum(axis=2)
        spread = (weights * gains**2).sum(axis=2) - means**2
        return means.mean(axis=1), spread.mean(axis=1)

    low, high = np.full(len(exact), 1 / HIGHEST), np.full(len(exact), 1 / LOWEST)
    # Equal logits of every class have no slope anywhere: they are no better than chance, not all right.
    hottest, coldest = slope(low)[0] >= 0, (slope(high)[0] <= 0) & gains.any(axis=(1, 2))
    inverse = np.ones(len(exact))
    for _ in range(MAX_STEPS):
        first, second = slope(inverse)
        low, high = np.where(first < 0, inverse, low), np.where(first > 0, inverse, high)
        with np.errstate(divide="ignore", invalid="ignore"):
            step = np.where(first == 0, 0.0, -first / second)
        found = hottest | coldest | (np.abs(step) <= STEP * inverse)
        if found.all():
            break
        inside = (inverse + step > low) & (inverse + step < high)
        inverse = np.where(found, inverse, np.where(inside, inverse + step, np.sqrt(low * high)))
    return np.where(coldest, LOWEST, np.where(hottest, HIGHEST, 1 / inverse))


def image_losses(labels: NDArray[Any], logits: NDArray[Any], divisors: Floats) -> Floats:
    """(R, N) negative log-likelihood of each image, in nats, its logits divided.

    With the temperatures of val, the mean over test is what is left when one divisor has done its best (refinement);
    what it takes off the undivided one is the part that calibration costs, below 0 where val's divisor does not suit
    test.

    Args:
        labels: (N,) class indices.
        logits: (R, N, K).
        divisors: (R,).
    """
    scaled = np.asarray(logits, dtype=np.float64) / divisors[:, None, None]
    found: Floats = -special.log_softmax(scaled, axis=2)[:, np.arange(len(labels)), labels]
    return np.minimum(found, -SMALLEST)


def is_rare(train_counts: NDArray[Any]) -> Bools:
    """Which classes have fewer training images than the median class.

    Args:
        train_counts: (K,).
    """
    found: Bools = np.asarray(train_counts) < np.median(train_counts)
    return found
