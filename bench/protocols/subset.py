"""How many training images a protocol's data rules leave, class by class. No arrays."""

from __future__ import annotations

from collections.abc import Sequence

from bench.errors import ProtocolError
from bench.protocols.schema import DataRules


def class_sizes(rules: DataRules, counts: Sequence[int], positive: int | None) -> list[int]:
    """Training images of each class that `positive_share` or `train_per_class` leave; all without either.

    Args:
        rules: A protocol's.
        counts: Training images of each class of the data set.
        positive: The clinical positive class, None where the data set has none.

    Raises:
        ProtocolError: If the data set has no clinical positive, or fewer images of a class than the rules keep.
    """
    kept = list(counts)
    if rules.train_per_class is not None:
        kept = [rules.train_per_class] * len(counts)
    if rules.positive_share is not None:
        if positive is None:
            raise ProtocolError(
                "data.positive_share needs a data set with a clinical positive class; this one has none"
            )
        others = sum(counts) - counts[positive]
        kept[positive] = round(others * rules.positive_share / (1.0 - rules.positive_share))
    for label, (wanted, there) in enumerate(zip(kept, counts, strict=True)):
        if not 0 < wanted <= there:
            have = f"of class {label}, which has {there}"
            raise ProtocolError(f"the protocol keeps {wanted} training images {have}; choose another")
    return kept


def num_train(rules: DataRules, counts: Sequence[int], positive: int | None) -> int:
    """Images that are trained on; args and errors as `class_sizes`."""
    if rules.positive_share is None and rules.train_per_class is None:
        return min(sum(counts), rules.max_train or sum(counts))
    return sum(class_sizes(rules, counts, positive))
