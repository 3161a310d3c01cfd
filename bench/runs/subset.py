"""The images that a run is trained on: all of train, or the part that its protocol's data rules leave.

Each class's images stand in an order of their own that follows from (data set, draw, image) by a hash; a rule keeps the
first of them. So draws are nested (whoever keeps more keeps the same and others), the same for all models, machines and
families, and a draw names its images for good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bench.protocols.schema import DataRules
from bench.protocols.subset import class_sizes
from bench.streams import stream_seed

if TYPE_CHECKING:
    from bench.data.loading import Arrays


def kept_images(
    labels: NDArray[np.int64], rules: DataRules, dataset: str, positive: int | None, num_classes: int
) -> NDArray[np.int64]:
    """Indices of the training images that the rules leave, rising.

    Args:
        labels: (N,) of the whole training split.
        rules: A protocol's.
        dataset: Its name, which the draw depends on.
        positive: The clinical positive class, None where the data set has none.
        num_classes: K.

    Raises:
        ProtocolError: If the data set cannot be thinned so.
    """
    if rules.positive_share is None and rules.train_per_class is None:
        return np.arange(len(labels))[: rules.max_train]
    sizes = class_sizes(rules, np.bincount(labels, minlength=num_classes).tolist(), positive)
    kept = [_first(np.flatnonzero(labels == label), size, dataset, rules.draw) for label, size in enumerate(sizes)]
    return np.sort(np.concatenate(kept))


def _first(members: NDArray[np.int64], size: int, dataset: str, draw: int) -> NDArray[np.int64]:
    """The first images of a class in the draw's order."""
    if size == len(members):
        return members
    places: Sequence[int] = members.tolist()
    ordered = sorted(places, key=lambda index: stream_seed("subset", dataset, draw, index))
    return np.array(ordered[:size], dtype=np.int64)


def cut(arrays: Arrays, rules: DataRules, positive: int | None) -> Arrays:
    """The data set with no more training images than the rules leave; args and errors as `kept_images`."""
    train = arrays.labels["train"]
    kept = kept_images(train, rules, arrays.info.name, positive, arrays.info.num_classes)
    images = {**arrays.images, "train": arrays.images["train"][kept]}
    return replace(arrays, images=images, labels={**arrays.labels, "train": train[kept]})
