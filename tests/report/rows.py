"""Statistics as tests pick and make them: rows by their fields, scores and pairs with what a test does not state."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, TypeVar

from bench.report.analysis.pairs import Pair
from bench.report.analysis.scores import Score
from bench.stats.comparisons import Difference

Kind = TypeVar("Kind")


def select(rows: Iterable[Kind], **fields: object) -> list[Kind]:
    """The rows with these values."""
    return [row for row in rows if all(getattr(row, name) == value for name, value in fields.items())]


def only(rows: Iterable[Kind], **fields: object) -> Kind:
    """The one row with these values."""
    (row,) = select(rows, **fields)
    return row


def make_score(model: str, mean: float, low: float, high: float, **changes: Any) -> Score:
    """A test accuracy on BreastMNIST of seed 0 under `smoke`."""
    fields: dict[str, Any] = {"protocol": "smoke", "dataset": "breastmnist", "part": "test", "metric": "acc"}
    fields |= {"seeds": (0,), "num_images": 24, "sd": math.nan, "interval": "images"}
    return Score(**(fields | {"model": model, "mean": mean, "low": low, "high": high} | changes))


def make_pair(baseline: str, difference: float, low: float, high: float, p: float, **changes: Any) -> Pair:
    """MedSpectralNet less a baseline by test AUC on BreastMNIST, primary, one seed, not corrected."""
    exact = Difference(difference, low, high, p, low, high)
    fields: dict[str, Any] = {"family": "primary", "protocol": "smoke", "dataset": "breastmnist", "part": "test"}
    fields |= {"metric": "auc", "model": "medspectralnet", "baseline": baseline, "exact": exact}
    fields |= {"n_seeds": 1, "n_seeds_baseline": 1}
    return Pair(**(fields | changes))
