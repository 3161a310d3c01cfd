"""Pairs of models on the same images: differences, verdicts, McNemar's counts, and the marks of a group."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from bench.records.names import SYNTHETIC_PREFIX
from bench.records.own_models import is_fitted
from bench.records.run_record import Record
from bench.report.analysis.cells import TEST_PARTS, Cell, joint_covariance
from bench.report.analysis.seeds import SeedVariances, of_weights
from bench.report.analysis_plan import MARGIN, OURS, comparison_order, family_size, is_primary
from bench.report.tidy import ten_digits
from bench.stats.comparisons import Difference, PairingError, check_pairing, end_to_end, is_equivalent, mcnemar
from bench.stats.families import single_step
from bench.stats.intervals import LEVEL, Floats
from bench.stats.power import errors_and_correlation, smallest_detectable
from bench.stats.proportions import paired_shares
from bench.stats.seed_variance import FITTED, SeedVariance
from bench.stats.uncertainty import Rope, Uncertainty, difference, of_difference, probability_higher, rope

PAIRED = ("auc", "acc")
Interval = tuple[float, float]


@dataclass(frozen=True)
class Pair:
    """One paired difference of two models, model less baseline, on one part of one data set."""

    family: str  # `primary` or `exploratory`, by the analysis plan
    protocol: str
    dataset: str
    part: str
    metric: str
    model: str
    baseline: str
    n_seeds: int  # of the model
    n_seeds_baseline: int
    exact: Difference  # of the means over seeds, before any rounding
    uncertainty: Uncertainty = field(default=Uncertainty(0.0), repr=False)
    correlation: float = math.nan  # of the two means over the test images
    tests: int = 1  # planned in a primary pair's family: what the level is divided by
    corrected: float = math.nan  # the p-value times `tests`, at most 1, of a primary pair
    margin: float = MARGIN

    @property
    def fewest_seeds(self) -> int:
        """Of the two sides; what is fitted comes out the same for every seed and lacks none."""
        sides = ((self.model, self.n_seeds), (self.baseline, self.n_seeds_baseline))
        counts = [count for model, count in sides if not is_fitted(model)]
        return min(counts or [self.n_seeds, self.n_seeds_baseline])

    @property
    def seeds(self) -> str:
        """`3`, or `3 and 1` where the baseline has fewer or more; a fitted baseline's one run goes without saying."""
        same = self.n_seeds == self.n_seeds_baseline or is_fitted(self.baseline)
        return str(self.n_seeds) if same else f"{self.n_seeds} and {self.n_seeds_baseline}"

    @property
    def difference(self) -> float:
        """Model less baseline, each a mean over its seeds."""
        return self.exact.value

    @property
    def ci_low(self) -> float:
        """Lower end of the 95 % interval, as it is printed."""
        return ten_digits(self.exact.low)

    @property
    def ci_high(self) -> float:
        """Upper end of the 95 % interval, as it is printed."""
        return ten_digits(self.exact.high)

    @property
    def p(self) -> float:
        """The uncorrected p-value, as it is printed."""
        return ten_digits(self.exact.p)

    @property
    def p_corrected(self) -> float:
        """The corrected p-value, as it is printed."""
        return ten_digits(self.corrected)

    @property
    def detectable(self) -> float:
        """The difference that a single test finds with a power of 80 %; NaN where nothing varies, or exploratory."""
        return ten_digits(self.smallest(1)) if self.family == "primary" else math.nan

    @property
    def detectable_corrected(self) -> float:
        """The same for the test that decides, corrected for its family; NaN for an exploratory pair."""
        return ten_digits(self.smallest(self.tests)) if self.family == "primary" else math.nan

    def smallest(self, tests: int) -> float:
        """The smallest detectable difference, the level divided by so many tests; NaN where nothing varies."""
        return smallest_detectable(self.uncertainty, tests) if self.uncertainty.error > 0.0 else math.nan

    @property
    def p_higher(self) -> float:
        """Exploratory: the posterior probability that the model is truly higher than the baseline."""
        return ten_digits(probability_higher(self.difference, self.uncertainty))

    @cached_property
    def _region(self) -> Rope:
        return rope(self.difference, self.uncertainty, self.margin)

    @property
    def rope_lower(self) -> float:
        """Exploratory: the posterior probability that the model is lower by more than the margin."""
        return ten_digits(self._region.lower)

    @property
    def rope_inside(self) -> float:
        """Exploratory: the posterior probability that the two are within the margin."""
        return ten_digits(self._region.inside)

    @property
    def rope_higher(self) -> float:
        """Exploratory: the posterior probability that the model is higher by more than the margin."""
        return ten_digits(self._region.higher)

    @property
    def verdict(self) -> str:
        """What can be said at 5 %, by the p-value that counts: the corrected one of a primary pair, else its own."""
        p = self.exact.p if math.isnan(self.corrected) else self.corrected
        if p < LEVEL:
            return "higher" if self.difference > 0 else "lower"
        return "comparable" if is_equivalent(self.exact, self.margin) else "not separated"


@dataclass(frozen=True)
class McNemar:
    """Test images that one of two models alone gets right, of one seed."""

    protocol: str
    dataset: str
    seed: int
    model: str
    baseline: str
    only_model_right: int
    only_baseline_right: int
    p: float


def common_records(model: Cell, baseline: Cell) -> list[tuple[Record, Record]]:
    """Pairs of runs with the same seed; a run of what comes out the same for every seed stands for all."""
    first, second = ({record.seed: record for record in cell.records} for cell in (model, baseline))
    if is_fitted(model.records[0].model):
        first = dict.fromkeys(second, model.records[0])
    elif is_fitted(baseline.records[0].model):
        second = dict.fromkeys(first, baseline.records[0])
    return [(first[seed], second[seed]) for seed in sorted(first.keys() & second.keys())]


def check_sources(first: Cell, second: Cell) -> None:
    """Refuse to pair cells on different images.

    Raises:
        PairingError: If the labels differ, or one protocol's runs come from different files.
    """
    check_pairing(first.labels, second.labels, (first.name, second.name))
    files = {record.data_md5 for cell in (first, second) for record in cell.records}
    if len(files) > 1:
        raise PairingError(
            f"{first.name} and {second.name} come from different files of the data set; run one of them again"
        )


def compare_cells(
    cells: Mapping[str, Cell], variances: SeedVariances, intervals: Mapping[tuple[str, str, str], Interval]
) -> list[Pair]:
    """Every pair of models of one protocol and data set, on both parts, by AUC and accuracy, over all their seeds.

    Args:
        cells: Model -> cell.
        variances: Of the cells over seeds.
        intervals: (model, part, metric) -> the cell's own interval.

    Raises:
        PairingError: If two cells are on different images.
    """
    names = sorted(cells, key=comparison_order)
    for name in names[1:]:
        check_sources(cells[names[0]], cells[name])
    ends = dict(zip(names, np.cumsum([len(cells[name].records) for name in names]).tolist(), strict=True))
    runs = {name: np.arange(end - len(cells[name].records), end) for name, end in ends.items()}
    compared: dict[tuple[str, str], list[Pair]] = {pair: [] for pair in itertools.combinations(names, 2)}
    for part, metric in itertools.product(TEST_PARTS, PAIRED):
        defined = [name for name in names if all(value is not None for value in cells[name].values(part, metric))]
        covariance = joint_covariance([cells[name] for name in names], part, metric) if len(defined) > 1 else None
        if covariance is None:
            continue
        for model, baseline in itertools.combinations(defined, 2):
            chosen = np.concatenate([runs[model], runs[baseline]])
            sides = [
                Side(cells[name], of_weights(variances[name, part, metric]), intervals[name, part, metric])
                for name in (model, baseline)
            ]
            compared[model, baseline].append(compare_sides(sides, part, metric, covariance[np.ix_(chosen, chosen)]))
    return [pair for pairs in compared.values() for pair in pairs]


@dataclass(frozen=True)
class Side:
    """One of two cells, with its variance over seeds and its own interval by one measure."""

    cell: Cell
    seed: SeedVariance
    ends: Interval = (math.nan, math.nan)

    def values(self, part: str, metric: str) -> list[float]:
        """Of each seed."""
        return [value for value in self.cell.values(part, metric) if value is not None]


def compare_sides(sides: Sequence[Side], part: str, metric: str, covariance: Floats) -> Pair:
    """The pair of two cells; `covariance` over images is that of the first's seeds and then the second's."""
    first, second = (side.cell.records[0] for side in sides)
    counts = [len(side.cell.records) for side in sides]
    uncertainty = of_difference(covariance, counts[0], (sides[0].seed, sides[1].seed))
    primary = (part, metric) == ("test", "auc") and is_primary(first.protocol, first.dataset, first.model, second.model)
    family, tests = ("primary", _planned(second)) if primary else ("exploratory", 1)
    exact = _exact(sides, part, metric, uncertainty)
    return Pair(
        family=family,
        protocol=first.protocol,
        dataset=first.dataset,
        part=part,
        metric=metric,
        model=first.model,
        baseline=second.model,
        n_seeds=counts[0],
        n_seeds_baseline=counts[1],
        exact=exact,
        uncertainty=uncertainty,
        correlation=errors_and_correlation(covariance, counts[0])[2],
        tests=tests,
        corrected=single_step([exact.p], tests)[0] if primary else math.nan,
    )


def _planned(baseline: Record) -> int:
    """Comparisons planned in the primary family of a baseline."""
    synthetic = baseline.dataset.startswith(SYNTHETIC_PREFIX)
    return family_size(baseline.protocol, fitted=is_fitted(baseline.model), synthetic=synthetic)


def _exact(sides: Sequence[Side], part: str, metric: str, uncertainty: Uncertainty) -> Difference:
    """The difference with its interval and p: exact where both sides are one set of weights, and by accuracy."""
    values = [side.values(part, metric) for side in sides]
    if metric == "acc" and all(side.seed == FITTED for side in sides):
        right = [side.cell.correct[0, side.cell.kept[part]] for side in sides]
        only = [int((right[i] & ~right[1 - i]).sum()) for i in (0, 1)]
        return paired_shares(only[0], only[1], len(right[0]))
    exact = difference(values[0], values[1], uncertainty, 1.0 if metric in PAIRED else math.inf)
    if uncertainty.error == 0.0 and any(value in (0.0, 1.0) for value in (*values[0], *values[1])):
        return end_to_end(exact.value, sides[0].ends, sides[1].ends)
    return exact


def primary_first(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs of the primary families before the others."""
    return sorted(pairs, key=lambda pair: pair.family != "primary")


def mcnemar_tests(cells: Mapping[str, Cell]) -> list[McNemar]:
    """MedSpectralNet against every other model, seed by seed, on the official test."""
    if OURS not in cells:
        return []
    ours, keys, counts = cells[OURS], [], []
    for baseline in sorted(cells.keys() - {OURS}, key=comparison_order):
        other = cells[baseline]
        for first, second in common_records(ours, other):
            right, others_right = (
                ours.correct[ours.seeds.index(first.seed)],
                other.correct[other.seeds.index(second.seed)],
            )
            keys.append((first.protocol, first.dataset, first.seed, OURS, baseline))
            counts.append((int((right & ~others_right).sum()), int((others_right & ~right).sum())))
    only = np.array(counts, dtype=np.int64).reshape(-1, 2)
    p_values = mcnemar(only[:, 0], only[:, 1]).tolist()
    return [McNemar(*key, *count, p) for key, count, p in zip(keys, counts, p_values, strict=True)]
