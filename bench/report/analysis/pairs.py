"""Pairs of models on the same images: differences, verdicts, McNemar's counts, and the marks of a group."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.records.card import DataCard
from bench.records.run_record import Record
from bench.report.analysis.cells import TEST_PARTS, Cell, read_cell
from bench.report.analysis.predictions import Reader
from bench.report.analysis_plan import MARGIN, OURS, comparison_order, family_size, is_fitted, is_primary
from bench.report.tidy import grouped, model_order, ten_digits
from bench.stats.comparisons import (
    Difference,
    PairingError,
    check_pairing,
    end_to_end,
    holm,
    is_equivalent,
    mcnemar,
    paired_difference,
)
from bench.stats.intervals import LEVEL

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
    n_seeds: int  # common ones
    exact: Difference  # before any rounding
    corrected: float = math.nan  # Holm's p-value over the protocol's primary family
    margin: float = MARGIN

    @property
    def difference(self) -> float:
        """Model less baseline, mean over common seeds."""
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
    def p_holm(self) -> float:
        """The corrected p-value, as it is printed."""
        return ten_digits(self.corrected)

    @property
    def verdict(self) -> str:
        """What can be said at 5 %, by the p-value that counts: Holm's of a primary pair, else its own."""
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
    reader: Reader, cells: Mapping[str, Cell], card: DataCard, intervals: Mapping[tuple[str, str, str], Interval]
) -> list[Pair]:
    """Every pair of models of one protocol and data set, on both parts, by AUC and accuracy.

    Args:
        reader: For cells of fewer seeds, where two models do not share all of theirs.
        cells: Model -> cell.
        card: The data set's.
        intervals: (model, part, metric) -> the cell's own interval.

    Raises:
        PairingError: If two cells are on different images.
    """
    pairs = []
    for model, baseline in itertools.combinations(sorted(cells, key=comparison_order), 2):
        check_sources(cells[model], cells[baseline])
        common = common_records(cells[model], cells[baseline])
        if not common:
            continue
        sides = [
            restricted(reader, cells[name], list({record.run_id: record for record in records}.values()), card)
            for name, records in ((model, [a for a, _ in common]), (baseline, [b for _, b in common]))
        ]
        for part, metric in itertools.product(TEST_PARTS, PAIRED):
            ends = intervals[model, part, metric], intervals[baseline, part, metric]
            exact = _difference(common, sides, part, metric, ends)
            if exact is not None:
                pairs.append(_pair(common, part, metric, exact))
    return pairs


def restricted(reader: Reader, cell: Cell, records: Sequence[Record], card: DataCard) -> Cell:
    """The cell of some of its seeds."""
    return cell if len(records) == len(cell.records) else read_cell(reader, records, card)


def _difference(
    common: Sequence[tuple[Record, Record]],
    sides: Sequence[Cell],
    part: str,
    metric: str,
    ends: tuple[Interval, Interval],
) -> Difference | None:
    """None where a value is undefined."""
    firsts, seconds = ([(getattr(pair[i], part) or {}).get(metric) for pair in common] for i in (0, 1))
    values = [value for value in (*firsts, *seconds) if value is not None]
    if len(values) < 2 * len(common):
        return None
    differences = [first - second for first, second in zip(values, values[len(common) :], strict=False)]
    exact = paired_difference(sides[0].resampled(part, metric) - sides[1].resampled(part, metric), differences)
    if exact.low == exact.high and any(value in (0.0, 1.0) for value in values):
        return end_to_end(exact.value, *ends)
    return exact


def _pair(common: Sequence[tuple[Record, Record]], part: str, metric: str, exact: Difference) -> Pair:
    first, second = common[0]
    primary = (part, metric) == ("test", "auc") and is_primary(first.protocol, first.dataset, first.model, second.model)
    family = "primary" if primary else "exploratory"
    names = (family, first.protocol, first.dataset, part, metric, first.model, second.model)
    return Pair(*names, len(common), exact)


def marks(pairs: Sequence[Pair], values: Mapping[str, float]) -> dict[str, str]:
    """Which models of a group lead it: `best`, `not separated` from the best by a test, or neither.

    The tests are those of the best against each other model, with Holm's correction over them. Several models with
    exactly the highest mean are all best; one that shares no seed with the best cannot be separated from it.

    Args:
        pairs: Those of one protocol, data set, part and metric.
        values: Model -> mean.
    """
    defined = {model: value for model, value in values.items() if not math.isnan(value)}
    if not defined:
        return dict.fromkeys(values, "")
    top = max(defined.values())
    leader = min((model for model, value in defined.items() if value == top), key=model_order)
    tests = {
        pair.baseline if pair.model == leader else pair.model: pair.exact.p
        for pair in pairs
        if leader in (pair.model, pair.baseline)
    }
    adjusted = dict(zip(tests, holm(list(tests.values())), strict=True))
    by_model = dict.fromkeys(values, "")
    for model, value in defined.items():
        open_question = adjusted.get(model, 1.0) >= LEVEL
        by_model[model] = "best" if value == top else "not separated" if open_question else ""
    return by_model


def tie_marks(marks: Sequence[str]) -> list[str]:
    """What a column of marks may show: `best` for one that leads alone, `tie` for all that share the lead, else "".

    A tie is never drawn as a win: where another model cannot be separated from the highest, the highest is in the tie.
    Where only one model was measured there is nothing to win.
    """
    leaders = [mark for mark in marks if mark]
    alone = len(leaders) == 1 and len(marks) > 1
    return ["" if not mark or len(marks) == 1 else "best" if alone else "tie" for mark in marks]


def judged(pairs: Sequence[Pair], *, synthetic: bool) -> list[Pair]:
    """Pairs with Holm's correction over each protocol's primary family, which comes first."""
    primary = [pair for pair in pairs if pair.family == "primary"]
    corrected = {
        pair: p
        for protocol, family in grouped(primary, lambda pair: pair.protocol).items()
        for pair, p in zip(
            family, holm([pair.exact.p for pair in family], family_size(protocol, synthetic=synthetic)), strict=True
        )
    }
    others = [pair for pair in pairs if pair.family != "primary"]
    return [*(replace(pair, corrected=corrected[pair]) for pair in primary), *others]


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
