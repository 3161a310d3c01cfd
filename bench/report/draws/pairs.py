"""MedSpectralNet against every other model where train was thinned: paired over test images and over draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench.records.own_models import is_fitted
from bench.report.ablations import REMOVAL
from bench.report.analysis_plan import OURS
from bench.report.draws.scores import CHOSEN, PLAIN, DrawCell, Key, Track, over_draws
from bench.report.tidy import ten_digits
from bench.stats.comparisons import check_pairing
from bench.stats.delong import Influence
from bench.stats.intervals import LEVEL, mean
from bench.stats.uncertainty import around

METRIC = "auc"
TRUNK = REMOVAL.trunk


@dataclass(frozen=True)
class DrawPair:
    """AUC of MedSpectralNet less that of another model at one level, mean over the draws that both have."""

    track: Track
    dataset: str
    level: str
    arm: str  # of MedSpectralNet, and of a network beside it; what is fitted is in its plain one
    model: str
    baseline: str
    n_draws: int
    decidable: bool
    is_best: bool  # whether the baseline has the highest mean AUC of the others, over the common draws
    difference: float
    ci_low: float
    ci_high: float
    p: float  # uncorrected
    verdict: str  # `higher`, `lower`, `not separated`; "" where the plan lets nothing be said


def draw_pairs(cells: Sequence[DrawCell]) -> list[DrawPair]:
    """Every pair of MedSpectralNet with another model, in the order of the cells.

    Args:
        cells: From `draw_cells`.

    Raises:
        PairingError: If two cells are on different images.
    """
    pairs = []
    for cell in (cell for cell in cells if cell.key.model == OURS):
        others = [other for other in cells if other.key.model != OURS and _is_beside(other.key, cell.key)]
        best = max(others, key=lambda other: _rank(cell, other), default=None)
        pairs += [_pair(cell, other, is_best=other is best) for other in others]
    return pairs


def _rank(ours: DrawCell, other: DrawCell) -> tuple[bool, float]:
    """Of the other models at a level: those with two common draws first, then by the mean AUC over the common ones."""
    places = [place for _, place in _common(ours, other)]
    values = [other.values[CHOSEN, METRIC][place] for place in places]
    return len(values) > 1, mean(values) if values else -math.inf


def _common(ours: DrawCell, other: DrawCell) -> list[tuple[int, int]]:
    """Places of the draws that both have; one fit of the whole split stands for every draw."""
    places = {record.seed: place for place, record in enumerate(other.records)}
    if other.is_fixed:
        places = dict.fromkeys([record.seed for record in ours.records], 0)
    return [(place, places[record.seed]) for place, record in enumerate(ours.records) if record.seed in places]


def _is_beside(other: Key, ours: Key) -> bool:
    """Whether a cell stands at the same level, a network in the same arm, what is fitted in its plain one."""
    arm = PLAIN if is_fitted(other.model) else ours.arm
    return other == ours._replace(model=other.model, arm=arm)


def _pair(cell: DrawCell, other: DrawCell, *, is_best: bool) -> DrawPair:
    ours, theirs = (own.influences[CHOSEN, METRIC] for own in (cell, other))
    check_pairing(ours.strata, theirs.strata, (cell.records[0].run_id, other.records[0].run_id))
    common = _common(cell, other)
    first, second = [place for place, _ in common], [place for _, place in common]
    names = (*cell.key, other.key.model, len(common), cell.is_decidable, is_best)
    if not common:
        return DrawPair(*names, math.nan, math.nan, math.nan, math.nan, "")
    apart = Influence(ours.values[first] - theirs.values[second], ours.parts[first] - theirs.parts[second], ours.strata)
    exact = around(mean(apart.values.tolist()), over_draws(apart))
    verdict = "not separated" if exact.p >= LEVEL else "higher" if exact.value > 0 else "lower"
    spoken = verdict if cell.is_decidable and len(common) > 1 else ""
    return DrawPair(
        *names, ten_digits(exact.value), ten_digits(exact.low), ten_digits(exact.high), ten_digits(exact.p), spoken
    )
