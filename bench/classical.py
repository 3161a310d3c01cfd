"""Models that are fitted, not trained: the floors of every table, and scikit-learn on raw pixels.

All see the pixels of the source file as they are (0 to 255), are fitted on train alone, and choose nothing on val. What
is known of each (paper, source, licence) stands in `models/fitted.toml`. scikit-learn is imported when it is needed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bench.data import Arrays
from bench.errors import BenchError

SCORED_SPLITS = ("val", "test")
SMALLEST_PROBABILITY = 1e-12
BLOCK_VALUES = 2**21  # 16 MiB of float64

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]
Probs = NDArray[np.float64]
# (train (N, D), its labels (N,), images to score (M, D), number of classes K, seed) -> probabilities (M, K)
Fitted = Callable[[Pixels, Labels, Pixels, int, int], Probs]


def fit_predict(name: str, arrays: Arrays, seed: int) -> dict[str, NDArray[np.float32]]:
    """Fit on train and score val and test, on one thread.

    Args:
        name: A key of `CLASSICAL`.
        arrays: The data set.
        seed: Of the model's own random choices, where it makes any.

    Returns:
        Split -> (N, K) natural logarithms of the probabilities, those below `SMALLEST_PROBABILITY` raised to it, so
        that all are finite; their softmax is the probabilities.

    Raises:
        BenchError: If the name is unknown or the fit did not converge.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    if name not in CLASSICAL:
        raise BenchError(f"Unknown fitted model {name!r}; known: {', '.join(CLASSICAL)}")
    pixels = {split: images.reshape(len(images), -1) for split, images in arrays.images.items()}
    together = np.concatenate([pixels[split] for split in SCORED_SPLITS])
    with threadpool_limits(limits=1):
        probs = CLASSICAL[name](pixels["train"], arrays.labels["train"], together, arrays.info.num_classes, seed)
    logits = np.log(np.maximum(probs, SMALLEST_PROBABILITY)).astype(np.float32)
    parts = np.split(logits, np.cumsum([len(pixels[split]) for split in SCORED_SPLITS])[:-1])
    return dict(zip(SCORED_SPLITS, parts, strict=True))


def prior(train: Pixels, labels: Labels, images: Pixels, num_classes: int, seed: int) -> Probs:
    """The class shares of train for every image: the majority class is predicted, the AUC is one half."""
    shares = np.bincount(labels, minlength=num_classes) / len(labels)
    return np.tile(shares, (len(images), 1))


def knn1(train: Pixels, labels: Labels, images: Pixels, num_classes: int, seed: int) -> Probs:
    """Certainty for the label of the nearest training image by Euclidean distance, ties to the lower index."""
    nearest = nearest_index(train, images)
    return np.eye(num_classes)[labels[nearest]]


def nearest_index(train: Pixels, images: Pixels) -> Labels:
    """Index of the nearest training image of each image, ties to the lower index.

    Squared distances of bytes are whole numbers far below 2^53, so float64 products give them exactly, in any order
    of summation: a tie is a tie. In blocks, so that memory stays at some ten megabytes.

    Args:
        train: (N, D) bytes.
        images: (M, D) bytes.

    Returns:
        (M,) indices in [0, N).
    """
    nearest = np.zeros(len(images), dtype=np.int64)
    smallest = np.full(len(images), np.inf)
    rows = max(64, BLOCK_VALUES // train.shape[1])
    for start in range(0, len(train), rows):
        known = train[start : start + rows].astype(np.float64)
        lengths = np.einsum("nd,nd->n", known, known)
        for first in range(0, len(images), rows):
            block = slice(first, first + rows)
            # Without the query's own squared length, which is the same for all of train.
            distance = lengths - 2.0 * (images[block].astype(np.float64) @ known.T)
            index = distance.argmin(axis=1)
            value = distance[np.arange(len(index)), index]
            closer = value < smallest[block]
            smallest[block] = np.where(closer, value, smallest[block])
            nearest[block] = np.where(closer, index + start, nearest[block])
    return nearest


def logistic(train: Pixels, labels: Labels, images: Pixels, num_classes: int, seed: int) -> Probs:
    """Multinomial logistic regression on standardised pixels, scikit-learn's default penalty (C = 1)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=10_000))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            model.fit(train.astype(np.float64), labels)
        except ConvergenceWarning:
            raise BenchError(
                "sklearn/logistic did not converge in 10000 iterations; its numbers would be none"
            ) from None
    return _spread(model.predict_proba(images.astype(np.float64)), model.classes_, num_classes)


def hist_gradient_boosting(train: Pixels, labels: Labels, images: Pixels, num_classes: int, seed: int) -> Probs:
    """Gradient-boosted trees on pixels, scikit-learn's defaults, all 100 rounds: no early stopping on held-out data.

    The seed decides which images set the bins where train has more than 200,000; below that all seeds agree.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(random_state=seed, early_stopping=False)
    model.fit(train, labels)
    return _spread(model.predict_proba(images), model.classes_, num_classes)


def _spread(probs: Probs, classes: Labels, num_classes: int) -> Probs:
    """Columns by label: a class that train lacks gets probability 0."""
    spread = np.zeros((len(probs), num_classes))
    spread[:, classes] = probs
    return spread


CLASSICAL: dict[str, Fitted] = {
    "floor/prior": prior,
    "floor/knn1": knn1,
    "sklearn/logistic": logistic,
    "sklearn/hist_gradient_boosting": hist_gradient_boosting,
}
