"""Metrics: labels and class probabilities in, plain floats out.

AUC and accuracy are those of medmnist's Evaluator; a measure that an absent class leaves undefined is None. One
sort per class serves AUC and average precision together, so that scoring costs nothing beside an epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.errors import BenchError, ShapeError

Labels = NDArray[np.int64]
Scores = NDArray[np.float64]

TASKS = ("binary-class", "multi-class", "ordinal-regression")
NUM_ECE_BINS = 15
SUM_TOLERANCE = 1e-5


class ScoreError(BenchError, ValueError):
    """Labels or scores whose values cannot be scored."""


def softmax(logits: NDArray[Any]) -> Scores:
    """Probabilities of logits, computed in float64 whatever comes in.

    Args:
        logits: (N, K) finite numbers.

    Returns:
        (N, K) float64, every row sums to 1.

    Raises:
        ShapeError: If the logits are not two-dimensional, or empty.
        ScoreError: If a logit is not finite.
    """
    exact = _two_dimensional(logits, "logits")
    exponentials = np.exp(exact - exact.max(axis=1, keepdims=True))
    probs: Scores = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probs


def auc(labels: NDArray[Any], probs: NDArray[Any], task: str) -> float | None:
    """Area under the ROC curve as medmnist defines it.

    binary-class: the area for label 1 by the last column. Else: the unweighted mean over classes of the area of one
    class against the rest, by that class's column. Ties count one half.

    Args:
        labels: (N,) class indices in [0, K).
        probs: (N, K) scores; they need not be probabilities.
        task: One of `TASKS`.

    Returns:
        A fraction in [0, 1]; None if a class has no image, or has all of them.

    Raises:
        ShapeError: If the shapes disagree or N is 0.
        ScoreError: If a label is out of range, a score is not finite, or the task is unknown.
    """
    checked = _check(labels, probs, task)
    return _auc(_rank(*checked), task)


def accuracy(labels: NDArray[Any], probs: NDArray[Any], task: str) -> float:
    """Share of images whose prediction is the label, as medmnist defines it.

    Args, errors as in `auc`.

    Returns:
        A fraction in [0, 1], not a percentage.
    """
    checked_labels, checked_probs = _check(labels, probs, task)
    return float(np.mean(predict(checked_probs, task) == checked_labels))


def score(labels: NDArray[Any], probs: NDArray[Any], task: str) -> dict[str, float | None]:
    """All measures of one split.

    `auc`, `acc`: as medmnist defines them. `balanced_acc`: mean over classes of the recall. `pr_auc`: mean over
    classes (binary: over both) of the average precision, the sum of precision times the step in recall. `brier`: mean
    over images of the squared distance between the probabilities and the one-hot label, summed over classes, so in
    [0, 2]. `ece`: expected calibration error of the top probability over `NUM_ECE_BINS` equal bins of (0, 1],
    closed on the right, weighted by their images. `nll`: mean negative log-likelihood of the label, in nats, a
    probability of 0 taken as the smallest normal float64.

    Args:
        labels: (N,) class indices in [0, K).
        probs: (N, K) probabilities.
        task: One of `TASKS`.

    Returns:
        Measure -> value; `auc`, `balanced_acc` and `pr_auc` are None if a class is absent.

    Raises:
        ShapeError: As `auc`.
        ScoreError: As `auc`; also if a row is not a probability distribution.
    """
    truth, checked = _check(labels, probs, task)
    _check_distribution(checked)
    ranking = _rank(truth, checked)
    correct = predict(checked, task) == truth
    table = _confusion(truth, predict(checked, task), checked.shape[1])
    return {
        "auc": _auc(ranking, task),
        "acc": float(np.mean(correct)),
        "balanced_acc": _mean(_ratios(np.diag(table), table.sum(axis=1))),
        "pr_auc": _mean(_average_precisions(ranking)),
        "brier": _brier(truth, checked),
        "ece": _calibration_error(correct, checked.max(axis=1)),
        "nll": _negative_log_likelihood(truth, checked),
    }


def per_class(labels: NDArray[Any], probs: NDArray[Any], task: str) -> dict[str, list[float | None]]:
    """Measures of each class against the rest, in the order of the labels.

    Args, errors as in `auc`.

    Returns:
        `auc`, `ap`, `precision`, `recall`, `f1` -> K values. None where undefined: `auc`, `ap` and `recall` of an
        absent class, `precision` of a class that was never predicted, `f1` of one that is neither.
    """
    truth, checked = _check(labels, probs, task)
    ranking = _rank(truth, checked)
    table = _confusion(truth, predict(checked, task), checked.shape[1])
    hits, actual, predicted = np.diag(table), table.sum(axis=1), table.sum(axis=0)
    return {
        "auc": _areas(ranking),
        "ap": _average_precisions(ranking),
        "precision": _ratios(hits, predicted),
        "recall": _ratios(hits, actual),
        "f1": _ratios(2 * hits, actual + predicted),
    }


def clipped_loss(labels: NDArray[Any], probs: NDArray[Any]) -> float:
    """The val loss of a history: `score`'s `nll` with a probability below 1e-12 taken as 1e-12, in nats.

    Args:
        labels: (N,) class indices in [0, K).
        probs: (N, K) probabilities.
    """
    chosen = np.clip(probs[np.arange(len(labels)), labels], 1e-12, None)
    return float(-np.log(chosen).mean())


def confusion_matrix(labels: NDArray[Any], probs: NDArray[Any], task: str) -> Labels:
    """(K, K) image counts, a row a label, a column a prediction by the rule of `accuracy`.

    Args, errors as in `auc`.
    """
    truth, checked = _check(labels, probs, task)
    return _confusion(truth, predict(checked, task), checked.shape[1])


@dataclass(frozen=True)
class _Ranking:
    """Scores sorted downwards within each class's column.

    is_hit: (N, K) whether the image at this rank is of the column's class. first, last: (N, K) first and last rank
    of the run of equal scores that the rank belongs to. num_hits: (K,).
    """

    is_hit: NDArray[np.bool_]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    num_hits: NDArray[np.int64]


def _rank(labels: Labels, probs: Scores) -> _Ranking:
    num_images, num_classes = probs.shape
    order = np.argsort(-probs, axis=0, kind="stable")
    ordered = np.take_along_axis(probs, order, axis=0)
    is_hit = labels[order] == np.arange(num_classes)
    rank = np.arange(num_images)[:, None]
    starts = np.ones_like(is_hit)
    starts[1:] = ordered[1:] != ordered[:-1]
    ends = np.ones_like(is_hit)
    ends[:-1] = starts[1:]
    first = np.maximum.accumulate(np.where(starts, rank, 0), axis=0)
    last = np.minimum.accumulate(np.where(ends, rank, num_images)[::-1], axis=0)[::-1]
    return _Ranking(is_hit, first, last, is_hit.sum(axis=0))


def _areas(ranking: _Ranking) -> list[float | None]:
    """ROC areas from the midranks: the Mann-Whitney statistic, exact in halves up to the last division."""
    num_images = len(ranking.is_hit)
    midranks = num_images - (ranking.first + ranking.last) / 2.0
    hits = ranking.num_hits
    wins = np.sum(midranks, axis=0, where=ranking.is_hit) - hits * (hits + 1) / 2.0
    return _ratios(wins, hits * (num_images - hits))


def _auc(ranking: _Ranking, task: str) -> float | None:
    areas = _areas(ranking)
    return areas[-1] if task == "binary-class" else _mean(areas)


def _average_precisions(ranking: _Ranking) -> list[float | None]:
    hits = np.take_along_axis(np.cumsum(ranking.is_hit, axis=0), ranking.last, axis=0)
    precision = hits / (ranking.last + 1.0)
    return _ratios(np.sum(precision, axis=0, where=ranking.is_hit), ranking.num_hits)


def _brier(labels: Labels, probs: Scores) -> float:
    distance = probs.copy()
    distance[np.arange(len(labels)), labels] -= 1.0
    return float(np.mean(np.sum(distance**2, axis=1)))


def _calibration_error(correct: NDArray[np.bool_], confidence: Scores) -> float:
    gaps = np.bincount(calibration_bins(confidence), weights=correct - confidence, minlength=NUM_ECE_BINS)
    return float(np.abs(gaps).sum() / len(correct))


def calibration_bins(probs: Scores) -> Labels:
    """Which of `NUM_ECE_BINS` equal bins of (0, 1], closed on the right, each probability lies in; any shape."""
    edges = np.linspace(0.0, 1.0, NUM_ECE_BINS + 1)
    return np.clip(np.searchsorted(edges, probs, side="left") - 1, 0, NUM_ECE_BINS - 1)


def _negative_log_likelihood(labels: Labels, probs: Scores) -> float:
    likelihood = probs[np.arange(len(labels)), labels]
    return float(-np.mean(np.log(np.maximum(likelihood, np.finfo(np.float64).tiny))))


def predict(probs: Scores, task: str) -> Labels:
    """Predicted labels: medmnist's threshold on label 1 if binary, else the highest score, ties to the lower label.

    Args:
        probs: (N, K).
        task: medmnist's word.

    Returns:
        (N,) class indices.
    """
    if task == "binary-class":
        return np.where(probs[:, 1] > 0.5, 1, 0)
    highest: Labels = np.argmax(probs, axis=1)
    return highest


def _confusion(labels: Labels, preds: Labels, num_classes: int) -> Labels:
    """(K, K) counts, a row a label, a column a prediction."""
    return np.bincount(labels * num_classes + preds, minlength=num_classes**2).reshape(num_classes, num_classes)


def _ratios(numerator: NDArray[Any], denominator: NDArray[Any]) -> list[float | None]:
    pairs = zip(numerator.tolist(), denominator.tolist(), strict=True)
    return [above / below if below else None for above, below in pairs]


def _mean(values: list[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if len(defined) == len(values) else None


def _two_dimensional(values: NDArray[Any], word: str) -> Scores:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or 0 in array.shape:
        raise ShapeError(f"{word} have shape {array.shape}; expected (images, classes), both at least 1")
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise ScoreError(f"{word} of image {row} are {array[row].tolist()}; every one must be a finite number")
    return array


def _check(labels: NDArray[Any], probs: NDArray[Any], task: str) -> tuple[Labels, Scores]:
    if task not in TASKS:
        raise ScoreError(f"Unknown task {task!r}; known: {', '.join(TASKS)}")
    scores = _two_dimensional(probs, "probabilities")
    truth = np.asarray(labels)
    num_images, num_classes = scores.shape
    if truth.shape != (num_images,):
        raise ShapeError(f"labels have shape {truth.shape}; expected ({num_images},) beside scores of {scores.shape}")
    if num_classes < 2 or (task == "binary-class" and num_classes != 2):
        raise ShapeError(f"{task} scores have {num_classes} columns; expected one per class")
    if not np.issubdtype(truth.dtype, np.integer):
        raise ScoreError(f"labels have type {truth.dtype}; expected integers")
    if truth.min() < 0 or truth.max() >= num_classes:
        raise ScoreError(f"labels range from {truth.min()} to {truth.max()}; expected 0 to {num_classes - 1}")
    return truth.astype(np.int64), scores


def _check_distribution(probs: Scores) -> None:
    wrong = (probs < 0.0).any(axis=1) | (np.abs(probs.sum(axis=1) - 1.0) > SUM_TOLERANCE)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ScoreError(f"image {row} has scores {probs[row].tolist()}; probabilities are >= 0 and sum to 1")
