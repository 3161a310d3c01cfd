"""What a test set can show, and whether a published accuracy can be what it says: no record's score enters here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.records.card import DataCard
from bench.records.names import SYNTHETIC_PREFIX
from bench.report.analysis_plan import INTRACLASS, NUM_TEST_SCANS, REFERENCE
from bench.stats.intervals import critical, wilson
from bench.stats.power import (
    accuracy_error,
    accuracy_half_width,
    auc_error,
    design_effect,
    reachable_runs,
    smallest_difference,
)

# Test images of the six sets as medmnist 3 distributes them; a test holds them equal to its INFO. The Organ sets had
# 8,268 and 8,829 before their re-release, which changes no verdict: three decimals are reachable with either.
TEST_IMAGES = {
    "bloodmnist": 3421,
    "breastmnist": 156,
    "dermamnist": 2005,
    "pneumoniamnist": 624,
    "organcmnist": 8216,
    "organsmnist": 8827,
}
FEWEST_DECIMALS = 3  # of a published fraction: every source prints at least three, and a stored 0.9 was 0.900
RESOLUTION = ["dataset", "part", "metric", "num_images", "reference", "half_width", "smallest_difference", "note"]
CHECKS = [
    "model",
    "dataset",
    "metric",
    "value",
    "num_images",
    "ci_low",
    "ci_high",
    "reachable_with_runs",
    "variant",
    "resolution",
]


def resolution_rows(card: DataCard, part: str, labels: NDArray[np.int64]) -> list[tuple[object, ...]]:
    """Half-width and smallest difference of one part of a test set, around the reference score.

    Args:
        card: The data set's.
        part: `test` or `test_twin_free`.
        labels: (N,) of the part's images.
    """
    counts = np.bincount(labels, minlength=len(card.class_names)).tolist()
    rows: list[tuple[object, ...]] = []
    for metric in ("auc", "acc"):
        if metric == "acc":
            error, half = accuracy_error(REFERENCE, len(labels)), accuracy_half_width(REFERENCE, len(labels))
        elif min(counts) > 0:
            error = auc_error(REFERENCE, counts, card.task)
            half = critical(math.inf) * error
        else:
            error, half = math.nan, math.nan
        rows += _with_design_effect(card, part, metric, len(labels), half, smallest_difference(error))
    return rows


def _with_design_effect(
    card: DataCard, part: str, metric: str, num_images: int, half: float, difference: float
) -> list[tuple[object, ...]]:
    """The row of a part and, where images are slices of scans, the row for an assumed correlation within scans."""
    scans = NUM_TEST_SCANS.get(card.dataset.removeprefix(SYNTHETIC_PREFIX))
    identity = (card.dataset, part, metric, num_images, REFERENCE)
    if scans is None or num_images <= scans or card.synthetic:
        return [(*identity, half, difference, "")]
    factor = math.sqrt(design_effect(num_images, scans, INTRACLASS))
    bound = f"lower bound: the images are slices of about {scans} scans, taken as independent here"
    assumed = f"if slices of a scan correlated by {INTRACLASS}, a value that is assumed"
    effect = f"design effect: {factor:.1f} times as wide {assumed}"
    return [(*identity, half, difference, bound), (*identity, half * factor, difference * factor, effect)]


def published_checks(published: pd.DataFrame, sizes: Mapping[str, int] = TEST_IMAGES) -> pd.DataFrame:
    """The binomial interval of each published accuracy, and which numbers of averaged runs can give it.

    Args:
        published: Columns model, variant, resolution, dataset, metric, value, as `published_scores()` gives them.
        sizes: Data set -> test images.
    """
    rows = []
    for row in published[published["metric"] == "acc"].to_dict("records"):
        if row["dataset"] not in sizes or pd.isna(row["value"]):
            continue
        value, num_images = float(row["value"]), sizes[row["dataset"]]
        low, high = wilson(value, num_images)
        decimals = max(FEWEST_DECIMALS, -int(Decimal(repr(value)).as_tuple().exponent))
        runs = ",".join(map(str, reachable_runs(value, decimals, num_images))) or "none"
        names = (row["model"], row["dataset"], "acc", value, num_images)
        rows.append((*names, low, high, runs, row["variant"], row["resolution"]))
    frame = pd.DataFrame(rows, columns=CHECKS).drop_duplicates()
    return frame.sort_values(["model", "variant", "resolution", "dataset", "value"], kind="stable", ignore_index=True)
