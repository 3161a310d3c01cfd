"""What a test set and its comparisons can show, and whether a published accuracy can be what it says."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from bench.records.card import DataCard
from bench.records.names import SYNTHETIC_PREFIX
from bench.records.own_models import is_fitted
from bench.report.analysis.pairs import Pair
from bench.report.analysis_plan import INTRACLASS, NUM_TEST_SCANS, OURS, PARTS, REFERENCE
from bench.report.published.numbers import PublishedScore
from bench.report.tidy import ten_digits
from bench.stats.intervals import critical, wilson
from bench.stats.power import accuracy_half_width, auc_error, design_effect, reachable_runs

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
    """What a part of a test set can show by one measure, and what the comparisons of a protocol on it can find.

    The comparisons are those of `medspectralnet` with every network, where there are such; else its with all; else
    those of any two models. Of several their median is given.
    """

    protocol: str
    dataset: str
    part: str
    metric: str
    num_images: int  # of the part
    reference: float
    half_width: float  # of one model's 95 % interval by images alone; NaN where a class has no image
    comparisons: int  # how many the next three are medians of; NaN without one
    correlation: float  # of the two models over the images, as measured
    smallest_difference: float  # that one two-sided test at 5 % finds with a power of 80 %, seeds counted
    smallest_corrected: float  # that the test which decides finds; NaN where none is corrected
    tests: int  # planned in the family that it is corrected for, 1 without
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


def resolutions(
    card: DataCard, protocol: str, part: str, labels: NDArray[np.int64], pairs: Iterable[Pair]
) -> list[Resolution]:
    """What one part of a test set and the comparisons of one protocol on it can show.

    Args:
        card: The data set's.
        protocol: Its name.
        part: `test` or `test_twin_free`.
        labels: (N,) of the part's images.
        pairs: Of the protocol, data set and part.
    """
    counts = np.bincount(labels, minlength=len(card.class_names)).tolist()
    rows: list[Resolution] = []
    for metric in ("auc", "acc"):
        half = math.nan
        if metric == "acc":
            half = accuracy_half_width(REFERENCE, len(labels))
        elif min(counts) > 0:
            half = critical(math.inf) * auc_error(REFERENCE, counts, card.task)
        chosen = _compared([pair for pair in pairs if pair.metric == metric])
        tests = max((pair.tests for pair in chosen), default=1)
        row = Resolution(
            *(protocol, card.dataset, part, metric, len(labels), REFERENCE, half, len(chosen)),
            correlation=_median(pair.correlation for pair in chosen),
            smallest_difference=_median(pair.smallest(1) for pair in chosen),
            smallest_corrected=_median(pair.smallest(tests) for pair in chosen) if tests > 1 else math.nan,
            tests=tests,
            note="",
        )
        rows += _with_design_effect(card, row)
    return rows


def _compared(pairs: Sequence[Pair]) -> list[Pair]:
    """The comparisons that a reader looks for: ours with networks, else ours with all, else all; no removed parts."""
    models = [pair for pair in pairs if not {pair.model, pair.baseline} & PARTS.keys()]
    ours = [pair for pair in models if OURS in (pair.model, pair.baseline)]
    return [pair for pair in ours if not is_fitted(pair.baseline)] or ours or models


def _median(values: Iterable[float]) -> float:
    """Of those that are defined; NaN without one."""
    known = [value for value in values if not math.isnan(value)]
    return ten_digits(float(np.median(known))) if known else math.nan


def _with_design_effect(card: DataCard, row: Resolution) -> list[Resolution]:
    """The row of a part and, where images are slices of scans, the row for an assumed correlation within scans."""
    scans = NUM_TEST_SCANS.get(card.dataset.removeprefix(SYNTHETIC_PREFIX))
    if scans is None or row.num_images <= scans or card.synthetic:
        return [row]
    factor = math.sqrt(design_effect(row.num_images, scans, INTRACLASS))
    bound = f"lower bound: the images are slices of about {scans} scans, taken as independent here"
    assumed = f"if slices of a scan correlated by {INTRACLASS}, a value that is assumed"
    wider = replace(
        row,
        half_width=row.half_width * factor,
        smallest_difference=row.smallest_difference * factor,
        smallest_corrected=row.smallest_corrected * factor,
        note=f"design effect: {factor:.1f} times as wide {assumed}",
    )
    return [replace(row, note=bound), wider]


def published_checks(published: Iterable[PublishedScore]) -> list[PublishedCheck]:
    """A check of each published accuracy on a known data set, each once, in the order of names."""
    known = [s for s in published if s.metric == "acc" and s.dataset in TEST_IMAGES]
    checks = dict.fromkeys(_check(s, TEST_IMAGES[s.dataset]) for s in known)
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
