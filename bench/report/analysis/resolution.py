"""What a test set can show, and whether a published accuracy can be what it says: no record's score enters here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from bench.records.card import DataCard
from bench.records.names import SYNTHETIC_PREFIX
from bench.report.analysis_plan import INTRACLASS, NUM_TEST_SCANS, REFERENCE
from bench.report.published.numbers import PublishedScore
from bench.report.tidy import ten_digits
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


@dataclass(frozen=True)
class Resolution:
    """What a part of a test set can show by one measure, around a reference score."""

    dataset: str
    part: str
    metric: str
    num_images: int  # of the part
    reference: float
    half_width: float  # of one model's 95 % interval; NaN where a class has no image
    smallest_difference: float  # of two models that a test could find
    note: str  # what the numbers assume, "" for nothing


@dataclass(frozen=True)
class PublishedCheck:
    """A published accuracy with its binomial interval, and which numbers of averaged runs can give it."""

    model: str
    dataset: str
    metric: str
    value: float
    num_images: int
    ci_low: float
    ci_high: float
    reachable_with_runs: str
    variant: str
    resolution: int


def resolutions(card: DataCard, part: str, labels: NDArray[np.int64]) -> list[Resolution]:
    """Half-width and smallest difference of one part of a test set, around the reference score.

    Args:
        card: The data set's.
        part: `test` or `test_twin_free`.
        labels: (N,) of the part's images.
    """
    counts = np.bincount(labels, minlength=len(card.class_names)).tolist()
    rows: list[Resolution] = []
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
) -> list[Resolution]:
    """The row of a part and, where images are slices of scans, the row for an assumed correlation within scans."""
    scans = NUM_TEST_SCANS.get(card.dataset.removeprefix(SYNTHETIC_PREFIX))

    def row(factor: float, note: str) -> Resolution:
        return Resolution(card.dataset, part, metric, num_images, REFERENCE, half * factor, difference * factor, note)

    if scans is None or num_images <= scans or card.synthetic:
        return [row(1.0, "")]
    factor = math.sqrt(design_effect(num_images, scans, INTRACLASS))
    bound = f"lower bound: the images are slices of about {scans} scans, taken as independent here"
    assumed = f"if slices of a scan correlated by {INTRACLASS}, a value that is assumed"
    effect = f"design effect: {factor:.1f} times as wide {assumed}"
    return [row(1.0, bound), row(factor, effect)]


def published_checks(
    published: Iterable[PublishedScore], sizes: Mapping[str, int] = TEST_IMAGES
) -> list[PublishedCheck]:
    """A check of each published accuracy on a known data set, each once, in the order of names.

    Args:
        published: Scores of any metric.
        sizes: Data set -> test images.
    """
    checks = dict.fromkeys(_check(s, sizes[s.dataset]) for s in published if s.metric == "acc" and s.dataset in sizes)
    return sorted(checks, key=lambda c: (c.model, c.variant, c.resolution, c.dataset, c.value))


def _check(score: PublishedScore, num_images: int) -> PublishedCheck:
    low, high = wilson(score.value, num_images)
    decimals = max(FEWEST_DECIMALS, -int(Decimal(repr(score.value)).as_tuple().exponent))
    runs = ",".join(map(str, reachable_runs(score.value, decimals, num_images))) or "none"
    return PublishedCheck(
        model=score.model,
        dataset=score.dataset,
        metric=score.metric,
        value=score.value,
        num_images=num_images,
        ci_low=ten_digits(low),
        ci_high=ten_digits(high),
        reachable_with_runs=runs,
        variant=score.variant,
        resolution=score.resolution,
    )
