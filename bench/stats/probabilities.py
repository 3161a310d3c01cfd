"""The calibration of several seeds on one test set: all of its measures at once. No files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.stats.calibration import (
    Bins,
    class_errors,
    error_biases,
    error_influence,
    floors,
    image_losses,
    is_rare,
    temperatures,
)
from bench.stats.delong import Influence, mean_influence
from bench.stats.intervals import Floats

Split = tuple[NDArray[np.int64], NDArray[np.float32]]  # labels, and the logits of the seeds
LOSSES = ("nll", "nll_refinement", "nll_calibration")
TRACK = (
    *("temperature", "nll_refinement", "nll_calibration", "ece_floor", "ece_floor_95", "ece_bias"),
    *("classwise_ece", "squared_error", "ece_rare", "ece_common"),
)


@dataclass(frozen=True)
class Scaled:
    """What val's temperatures do to the losses of test.

    Attributes:
        temperatures: (S,) of the seeds, from val.
        losses: (2, S, N) negative log-likelihood of each test image, in nats: as it is, and with the temperature.
    """

    temperatures: Floats
    losses: Floats


def scale(val: Split, test: Split) -> Scaled:
    """The temperatures of val, and the losses of test with and without them.

    Args:
        val: Labels (V,) and logits (S, V, K).
        test: Labels (N,) and logits (S, N, K).
    """
    divisors = temperatures(*val)
    losses = [image_losses(*test, each) for each in (np.ones_like(divisors), divisors)]
    return Scaled(divisors, np.stack(losses))


def loss_influence(losses: Floats, metric: str) -> Influence:
    """What each image adds to one of `LOSSES` of each seed, the temperature taken as given.

    Args:
        losses: (2, S, n) as in `Scaled`, of a part's images.
        metric: `nll`, what a temperature leaves of it, or what it takes off.
    """
    plain, refined = losses
    return mean_influence({"nll": plain, "nll_refinement": refined, "nll_calibration": plain - refined}[metric])


def influences(outcomes: NDArray[np.bool_], confidence: Floats, losses: Floats) -> list[Influence]:
    """Of `ece`, and of both parts of the likelihood; args as `measure`."""
    parts = [loss_influence(losses, metric) for metric in LOSSES[1:]]
    return [error_influence(outcomes, confidence), *parts]


def measure(
    labels: NDArray[np.int64],
    probs: Floats,
    outcomes: NDArray[np.bool_],
    bins: Bins,
    scaled: Scaled,
    train_counts: NDArray[np.int64],
    name: str,
) -> Floats:
    """(S, 10) `TRACK` of the seeds on a part of test; NaN where undefined.

    Args:
        labels: (n,) of the part.
        probs: (S, n, K).
        outcomes: (S, n) whether each prediction is right.
        bins: Of the predicted labels' probabilities.
        scaled: Its losses are of the part's images.
        train_counts: (K,) training images, by which classes are rare or not.
        name: Of the part, for the draws of the floor.
    """
    confidence = probs.max(axis=2)
    floor, point = floors(confidence, name)
    by_class = class_errors(labels, probs)
    rare, nothing = is_rare(train_counts), np.full(len(probs), np.nan)
    told_apart = probs.shape[2] > 2 and rare.any()  # of two classes both have the same error
    plain, refined = scaled.losses.mean(axis=2)
    columns = [
        scaled.temperatures,
        refined,
        plain - refined,
        floor,
        point,
        error_biases(outcomes, confidence),
        by_class.mean(axis=1),
        bins.squared_errors(),
        by_class[:, rare].mean(axis=1) if told_apart else nothing,
        by_class[:, ~rare].mean(axis=1) if told_apart else nothing,
    ]
    return np.stack(columns, axis=1)
