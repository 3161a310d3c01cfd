"""Checks on runs: a printed number against an interval, pairs of models, classes, training losses.

The paper trains at 224 px for 200 epochs from ImageNet weights: `paper-224-imagenet`. Runs under another protocol are
reported beside and decide nothing about the paper's numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pandas as pd

from bench.data.names import PAPER_DATASETS
from bench.errors import RecordError
from bench.records.names import history_path
from bench.records.run_record import Record
from bench.report.ablations import factorial_protocol
from bench.report.analysis_plan import MARGIN, OURS
from bench.report.claims.sources import STATED, Sources
from bench.report.claims.values import Quantity, absent, leaf, show
from bench.report.claims.verdict import FAILS, HOLDS, UNDECIDED, Outcome, every
from bench.report.tidy import fill_command

SEEDS = (0, 1, 2)


def reproduced(sources: Sources, target: Quantity, dataset: str) -> Outcome:
    """A printed test accuracy (percent) lies in the 95 % interval of our runs, three seeds or more."""
    cells = _cells(sources, OURS, dataset, "acc")
    stated = cells[(cells["protocol"] == STATED) & (cells["n_seeds"] >= len(SEEDS))]
    others = [_cell_text(row) for row in cells.to_dict("records") if row["protocol"] != STATED]
    beside = [f"another protocol, which does not decide: {text}" for text in others]
    expected = f"{target.text()} % in our 95 % interval under {STATED}"
    runs = tuple(run for row in cells["run_ids"] for run in str(row).split())
    if stated.empty:
        found = "; ".join([f"no {len(SEEDS)} seeds under {STATED}", *beside])
        return Outcome(UNDECIDED, expected, found, runs, (_run_command(dataset),))
    row = stated.iloc[0].to_dict()
    inside = row["ci_low"] * 100 <= float(target.known()) <= row["ci_high"] * 100
    word = "confirmed" if inside else "contradicted"
    found = "; ".join([f"{word}: {_cell_text(row)}", *beside])
    return Outcome(HOLDS if inside else FAILS, expected, found, runs)


def measured(sources: Sources, model: str, dataset: str, metric: str, protocol: str) -> Quantity:
    """The mean of a test score under a protocol, a fraction."""
    cells = _cells(sources, model, dataset, metric)
    cells = cells[cells["protocol"] == protocol]
    if cells.empty:
        return absent(fill_command(protocol, [model], [dataset], [0]))
    return leaf(Fraction(float(cells["mean"].iloc[0])), str(cells["run_ids"].iloc[0]))


def higher(sources: Sources, baseline: str) -> Outcome:
    """MedSpectralNet's accuracy is higher than a baseline's on all six sets, by the analysis plan's paired tests."""
    return every(*(_pair(sources, baseline, dataset) for dataset in PAPER_DATASETS))


def _pair(sources: Sources, baseline: str, dataset: str) -> Outcome:
    pairs = sources.analysis.pairs
    chosen = (pairs["dataset"] == dataset) & (pairs["part"] == "test") & (pairs["metric"] == "acc")
    pairs = pairs[chosen & (pairs["model"] == OURS) & (pairs["baseline"] == baseline)]
    expected = f"higher than {baseline} on every set under {STATED}"
    stated = pairs[(pairs["protocol"] == STATED) & (pairs["n_seeds"] >= len(SEEDS))]
    beside = [_pair_text(row) for row in pairs.to_dict("records") if row["protocol"] != STATED]
    where = ("results/tables/pairs.csv",) if len(pairs) else ()
    if stated.empty:
        found = "; ".join([f"no {len(SEEDS)} seeds of both under {STATED}", *beside])
        return Outcome(UNDECIDED, expected, found, where, (_run_command(dataset, OURS, baseline),))
    row = stated.iloc[0].to_dict()
    verdict = HOLDS if row["verdict"] == "higher" else FAILS if row["verdict"] == "lower" else UNDECIDED
    more = fill_command(STATED, [OURS, baseline], [dataset], range(2 * len(SEEDS)))
    needs = (more,) if verdict == UNDECIDED else ()
    return Outcome(verdict, expected, "; ".join([_pair_text(row), *beside]), where, needs)


def _pair_text(row: dict[Any, Any]) -> str:
    numbers = f"{row['difference']:+.3f} [{row['ci_low']:+.3f}, {row['ci_high']:+.3f}]"
    return f"{row['protocol']}, {row['dataset']}: {row['verdict']} in {row['metric']}, {numbers}, n = {row['n_seeds']}"


def _cells(sources: Sources, model: str, dataset: str, metric: str) -> pd.DataFrame:
    cells = sources.analysis.cells
    chosen = (cells["model"] == model) & (cells["dataset"] == dataset) & (cells["metric"] == metric)
    return cells[chosen & (cells["part"] == "test")]


def _cell_text(row: dict[Any, Any]) -> str:
    low, middle, high = (100 * float(str(row[name])) for name in ("ci_low", "mean", "ci_high"))
    numbers = f"{middle:.1f} [{low:.1f}, {high:.1f}]"
    return f"{row['protocol']} {numbers}, n = {row['n_seeds']}, interval over {row['interval']}"


def _run_command(dataset: str, *models: str) -> str:
    return fill_command(STATED, models or [OURS], [dataset], SEEDS)


def lowest(sources: Sources, dataset: str, measure: str, *without: int, spared: int = 0) -> Quantity:
    """Lowest of a measure over the classes; `without` leaves labels out, `spared` that many of the lowest."""
    return _over_classes(sources, dataset, measure, lambda values: sorted(values)[spared], without)


def highest(sources: Sources, dataset: str, measure: str) -> Quantity:
    """Highest of a measure over the classes."""
    return _over_classes(sources, dataset, measure, max, ())


def class_score(sources: Sources, dataset: str, measure: str, index: int) -> Quantity:
    """A measure of one class."""
    rows = _classes(sources, dataset)
    chosen = rows[rows["class_index"] == index]
    if chosen.empty:
        return absent(_run_command(dataset))
    return leaf(Fraction(float(chosen[measure].iloc[0])), _class_source(dataset, measure))


def _over_classes(
    sources: Sources, dataset: str, measure: str, choose: Callable[[list[float]], float], without: Sequence[int]
) -> Quantity:
    rows = _classes(sources, dataset)
    values = [float(value) for value in rows[~rows["class_index"].isin(without)][measure]]
    if not values:
        return absent(_run_command(dataset))
    return leaf(Fraction(choose(values)), _class_source(dataset, measure))


def _classes(sources: Sources, dataset: str) -> pd.DataFrame:
    rows = sources.analysis.classes
    chosen = (rows["protocol"] == STATED) & (rows["model"] == OURS) & (rows["dataset"] == dataset)
    return rows[chosen & (rows["part"] == "test") & (rows["n_seeds"] >= len(SEEDS))]


def _class_source(dataset: str, measure: str) -> str:
    return f"results/tables/classes.csv: {measure}, {OURS}, {dataset}, {STATED}, official test"


def margin() -> Quantity:
    """The analysis plan's margin of what counts as comparable, a fraction."""
    return leaf(Fraction(repr(MARGIN)), f"margin {MARGIN} of results/ANALYSIS_PLAN.md")


def slack() -> Quantity:
    """What a comparable accuracy may be lower by: the margin in percentage points, negative."""
    points = 100 * margin().known()
    return replace(margin(), value=-points, formula=show(-points), unit="points")


def training_loss(sources: Sources, dataset: str, epoch: int = 0) -> Quantity:
    """The histories' training loss after an epoch (counted from 1; 0 is the last), mean over seeds.

    The paper's curves are of train and test. The suite scores no test image before the last epoch, and val would be
    other images: of these curves only the training loss is compared.
    """
    runs = [r for r in sources.records if (r.protocol, r.model, r.dataset) == (STATED, OURS, dataset)]
    if len(runs) < len(SEEDS):
        return absent(_run_command(dataset))
    mean = sum((_history_loss(sources, record, epoch) for record in runs), Fraction(0)) / len(runs)
    return leaf(mean, f"train_loss after epoch {epoch or 'last'} of {' '.join(record.run_id for record in runs)}")


def _history_loss(sources: Sources, record: Record, epoch: int) -> Fraction:
    path = history_path(record.run.path(sources.results))
    try:
        history = pd.read_parquet(path)
        row = history.iloc[-1] if epoch == 0 else history[history["epoch"] == epoch - 1].iloc[0]
        return Fraction(float(row["train_loss"]))
    except (OSError, IndexError, KeyError, ValueError):
        raise RecordError(f"{path}: no train_loss after epoch {epoch or 'last'}") from None


def share_of_fall(sources: Sources, dataset: str, epoch: int) -> Quantity:
    """How much of the training loss's fall from the first epoch to the last is done after an epoch, in percent."""
    first, there, last = (training_loss(sources, dataset, number) for number in (1, epoch, 0))
    if first.value is None or there.value is None or last.value is None:
        return first
    if first.value == last.value:
        raise RecordError(f"the training loss of {dataset} does not move")
    share = 100 * (first.value - there.value) / (first.value - last.value)
    return Quantity(share, "", "%", sources=(*first.sources, *there.sources, *last.sources))


def cutmix_helps(sources: Sources, optimizer: str) -> Outcome:
    """CutMix raises MedSpectralNet's test accuracy on BreastMNIST under an optimiser of Table 2."""
    expected = f"{optimizer}: accuracy with CutMix less that without above 0, its 95 % interval too"
    rows = sources.analysis.contrasts
    chosen = (rows["dataset"] == "breastmnist") & (rows["part"] == "test") & (rows["metric"] == "acc")
    chosen &= (rows["optimiser"] == optimizer) & (rows["effect"] == f"CutMix, {OURS}")
    rows = rows[chosen & (rows["n_seeds"] >= len(SEEDS))]
    if rows.empty:
        return Outcome(UNDECIDED, expected, f"{optimizer}: no {len(SEEDS)} seeds", (), ("medbench run --study table2",))
    row = rows.iloc[0].to_dict()
    ends = f"{100 * row['ci_low']:+.1f} to {100 * row['ci_high']:+.1f}"
    found = f"{optimizer}: {100 * row['difference']:+.1f} points ({ends}, {row['n_seeds']} seeds)"
    cells = _cells(sources, OURS, "breastmnist", "acc")
    cells = cells[cells["protocol"].isin([factorial_protocol(optimizer, kind) for kind in ("cutmix", "plain")])]
    runs = tuple(run for runs in cells["run_ids"] for run in str(runs).split())
    if row["ci_low"] > 0:
        return Outcome(HOLDS, expected, found, runs)
    if row["ci_high"] < 0:
        return Outcome(FAILS, expected, found, runs)
    settings = ",".join(factorial_protocol(optimizer, kind) for kind in ("plain", "cutmix"))
    more = fill_command(settings, [OURS], ["breastmnist"], range(len(SEEDS), 2 * len(SEEDS)))
    return Outcome(UNDECIDED, expected, found, runs, (more,))
