"""Checks on runs and timings: a printed number against an interval, pairs of models, curves, throughput.

The paper trains at 224 px for 200 epochs from ImageNet weights: `paper-224-imagenet`. Runs under another protocol are
reported beside and decide nothing about the paper's numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pandas as pd

from bench.errors import RecordError
from bench.records import Record, history_path
from bench.report.analysis_plan import MARGIN
from bench.report.claims.checks import Check
from bench.report.claims.sources import Sources
from bench.report.claims.terms import SIZE, Term
from bench.report.claims.values import FAILS, HOLDS, UNDECIDED, Outcome, Quantity, absent, all_of, leaf, show
from bench.report.published import ABLATION
from bench.report.tables import fill_command

OURS, STATED = "medspectralnet", "paper-224-imagenet"
SEEDS = (0, 1, 2)
KERNELS = ("", "mamba_ssm")  # a scan in plain torch is no ground for calling a state-space model slow


def reproduced(sources: Sources, claim: str, printed: Quantity, dataset: str, metric: str = "acc") -> Outcome:
    """A printed test score (accuracy in percent) lies in the 95 % interval of our runs, three seeds or more."""
    cells = _cells(sources, OURS, dataset, metric)
    scale = 100 if metric == "acc" else 1
    stated = cells[(cells["protocol"] == STATED) & (cells["n_seeds"] >= len(SEEDS))]
    beside = [_cell_text(row, scale) for row in cells.to_dict("records") if row["protocol"] != STATED]
    told = [f"another protocol, which does not decide: {text}" for text in beside]
    expected = f"{printed.text()}{' %' if metric == 'acc' else ''} in our 95 % interval under {STATED}"
    runs = tuple(run for row in cells["run_ids"] for run in str(row).split())
    if stated.empty:
        found = "; ".join([f"no {len(SEEDS)} seeds under {STATED}", *told])
        return Outcome(UNDECIDED, expected, found, runs, (run_command(dataset),))
    row = stated.iloc[0].to_dict()
    inside = row["ci_low"] * scale <= float(printed.known()) <= row["ci_high"] * scale
    word = "confirmed" if inside else "contradicted"
    found = "; ".join([f"{word}: {_cell_text(row, scale)}", *told])
    return Outcome(HOLDS if inside else FAILS, expected, found, runs)


def measured(sources: Sources, claim: str, model: str, dataset: str, metric: str, protocol: str) -> Quantity:
    """The mean of a test score under a protocol, a fraction."""
    cells = _cells(sources, model, dataset, metric)
    cells = cells[cells["protocol"] == protocol]
    if cells.empty:
        return absent(fill_command(protocol, [model], [dataset], [0]))
    return leaf(Fraction(float(cells["mean"].iloc[0])), str(cells["run_ids"].iloc[0]))


def higher(sources: Sources, claim: str, baseline: str, *datasets: str, metric: str = "acc") -> Outcome:
    """MedSpectralNet is higher than a baseline on every data set, by the paired tests of the analysis plan."""
    return all_of([_pair(sources, baseline, dataset, metric) for dataset in datasets])


def _pair(sources: Sources, baseline: str, dataset: str, metric: str) -> Outcome:
    pairs = sources.analysis.pairs
    chosen = (pairs["dataset"] == dataset) & (pairs["part"] == "test") & (pairs["metric"] == metric)
    pairs = pairs[chosen & (pairs["model"] == OURS) & (pairs["baseline"] == baseline)]
    expected = f"higher than {baseline} on every set under {STATED}"
    stated = pairs[(pairs["protocol"] == STATED) & (pairs["n_seeds"] >= len(SEEDS))]
    beside = [_pair_text(row) for row in pairs.to_dict("records") if row["protocol"] != STATED]
    where = ("results/tables/pairs.csv",) if len(pairs) else ()
    if stated.empty:
        found = "; ".join([f"no {len(SEEDS)} seeds of both under {STATED}", *beside])
        return Outcome(UNDECIDED, expected, found, where, (run_command(dataset, OURS, baseline),))
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


def _cell_text(row: dict[Any, Any], scale: int) -> str:
    low, middle, high = (scale * float(str(row[name])) for name in ("ci_low", "mean", "ci_high"))
    digits = 1 if scale == 100 else 3
    numbers = f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{row['protocol']} {numbers}, n = {row['n_seeds']}, interval over {row['interval']}"


def run_command(dataset: str, *models: str) -> str:
    """The command that runs models as the paper trains."""
    return fill_command(STATED, models or [OURS], [dataset], SEEDS)


def lowest(sources: Sources, claim: str, dataset: str, measure: str, *without: int, spared: int = 0) -> Quantity:
    """Lowest of a measure over the classes; `without` leaves labels out, `spared` that many of the lowest."""
    return _over_classes(sources, dataset, measure, lambda values: sorted(values)[spared], without)


def highest(sources: Sources, claim: str, dataset: str, measure: str) -> Quantity:
    """Highest of a measure over the classes."""
    return _over_classes(sources, dataset, measure, max, ())


def class_score(sources: Sources, claim: str, dataset: str, measure: str, index: int) -> Quantity:
    """A measure of one class."""
    rows = _classes(sources, dataset)
    chosen = rows[rows["class_index"] == index]
    if chosen.empty:
        return absent(run_command(dataset))
    return leaf(Fraction(float(chosen[measure].iloc[0])), _class_source(dataset, measure))


def _over_classes(
    sources: Sources, dataset: str, measure: str, choose: Callable[[list[float]], float], without: Sequence[int]
) -> Quantity:
    rows = _classes(sources, dataset)
    values = [float(value) for value in rows[~rows["class_index"].isin(without)][measure]]
    if not values:
        return absent(run_command(dataset))
    return leaf(Fraction(choose(values)), _class_source(dataset, measure))


def _classes(sources: Sources, dataset: str) -> pd.DataFrame:
    rows = sources.analysis.classes
    chosen = (rows["protocol"] == STATED) & (rows["model"] == OURS) & (rows["dataset"] == dataset)
    return rows[chosen & (rows["part"] == "test") & (rows["n_seeds"] >= len(SEEDS))]


def _class_source(dataset: str, measure: str) -> str:
    return f"results/tables/classes.csv: {measure}, {OURS}, {dataset}, {STATED}, official test"


def margin(sources: Sources, claim: str) -> Quantity:
    """The analysis plan's margin of what counts as comparable, a fraction."""
    return leaf(Fraction(repr(MARGIN)), f"margin {MARGIN} of results/ANALYSIS_PLAN.md")


def slack(sources: Sources, claim: str) -> Quantity:
    """What a comparable accuracy may be lower by: the margin in percentage points, negative."""
    points = 100 * margin(sources, claim).known()
    return replace(margin(sources, claim), value=-points, formula=show(-points), unit="points")


def curve(sources: Sources, claim: str, dataset: str, column: str, epoch: int = 0) -> Quantity:
    """A column of the histories after an epoch (counted from 1; 0 is the last), mean over seeds; accuracy in percent.

    The paper's curves are of train and test. The suite scores no test image before the last epoch, and val would be
    other images: of these curves only the training loss is compared.
    """
    runs = [r for r in sources.records if (r.protocol, r.model, r.dataset) == (STATED, OURS, dataset)]
    if len(runs) < len(SEEDS):
        return absent(run_command(dataset))
    values = [_history_value(sources, record, column, epoch) for record in runs]
    mean = sum(values, Fraction(0)) / len(values)
    percent = column.endswith("_acc")
    where = f"{column} after epoch {epoch or 'last'} of {' '.join(record.run_id for record in runs)}"
    return leaf(mean * 100 if percent else mean, where, unit="%" if percent else "")


def _history_value(sources: Sources, record: Record, column: str, epoch: int) -> Fraction:
    path = history_path(record.run.path(sources.results))
    try:
        history = pd.read_parquet(path)
        row = history.iloc[-1] if epoch == 0 else history[history["epoch"] == epoch - 1].iloc[0]
        return Fraction(float(row[column]))
    except (OSError, IndexError, KeyError, ValueError):
        raise RecordError(f"{path}: no {column} after epoch {epoch or 'last'}") from None


def cutmix_helps(sources: Sources, claim: str, optimizer: str) -> Outcome:
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
    cells = cells[cells["protocol"].isin([f"{ABLATION}{optimizer}-{kind}" for kind in ("cutmix", "plain")])]
    runs = tuple(run for runs in cells["run_ids"] for run in str(runs).split())
    if row["ci_low"] > 0:
        return Outcome(HOLDS, expected, found, runs)
    if row["ci_high"] < 0:
        return Outcome(FAILS, expected, found, runs)
    settings = ",".join(f"{ABLATION}{optimizer}-{kind}" for kind in ("plain", "cutmix"))
    more = fill_command(settings, [OURS], ["breastmnist"], range(len(SEEDS), 2 * len(SEEDS)))
    return Outcome(UNDECIDED, expected, found, runs, (more,))


def throughput(sources: Sources, claim: str, model: str, batch_size: int) -> Quantity:
    """Lowest median of images a second at 224 px over the devices timed, each at its fastest way to run."""
    rows = _fastest(sources, model)
    rows = rows[(rows["batch_size"] == batch_size) & (rows["img_size"] == SIZE)]
    if rows.empty:
        return absent(timing_command(model))
    row = rows.sort_values("median_images_per_second", kind="stable").iloc[0]
    where = f"results/timings: {model}, {row['device']}, {SIZE} px, batch {batch_size}"
    return leaf(Fraction(float(row["median_images_per_second"])), where, unit="images/s")


def faster(sources: Sources, claim: str, ours: str, theirs: str) -> Outcome:
    """More images a second than another on every CUDA device and batch size timed; intervals must be apart."""

    def judge(first: dict[Any, Any], second: dict[Any, Any]) -> str:
        if first["ci_low"] > second["ci_high"]:
            return HOLDS
        return FAILS if first["ci_high"] < second["ci_low"] else UNDECIDED

    expected = f"{ours} above {theirs} in images a second on every CUDA setting timed"
    return _side_by_side(sources, ours, theirs, "median_images_per_second", expected, judge)


def smaller_peak(sources: Sources, claim: str, ours: str, theirs: str) -> Outcome:
    """A lower peak of memory than another on every CUDA device and batch size timed."""

    def judge(first: dict[Any, Any], second: dict[Any, Any]) -> str:
        return HOLDS if first["peak_memory_mib"] < second["peak_memory_mib"] else FAILS

    expected = f"{ours} below {theirs} in peak MiB on every CUDA setting timed"
    return _side_by_side(sources, ours, theirs, "peak_memory_mib", expected, judge)


def batch_gain(sources: Sources, claim: str, model: str) -> Quantity:
    """Images a second at the largest batch over those one at a time, on the CUDA device where that is smallest."""
    rows = _fastest(sources, model)
    rows = rows[rows["device"].str.startswith("cuda")]
    ratios = []
    for _, group in rows.groupby("device"):
        ordered = group.sort_values("batch_size", kind="stable")["median_images_per_second"]
        ratios += [Fraction(float(ordered.iloc[-1])) / Fraction(float(ordered.iloc[0]))] if len(ordered) > 1 else []
    if not ratios:
        return absent(timing_command(model))
    return leaf(min(ratios), f"results/timings: {model}, CUDA", unit="times")


def _fastest(sources: Sources, model: str) -> pd.DataFrame:
    """Finished inference timings, the fastest way to run for each device, size and batch; no scan in plain torch."""
    frame = sources.timings
    scan = frame["scan_backend"].fillna("").isin(KERNELS)
    rows = frame[(frame["model"] == model) & (frame["mode"] == "inference") & (frame["status"] == "done") & scan]
    ordered = rows.sort_values("median_images_per_second", ascending=False, kind="stable")
    return ordered.groupby(["device", "img_size", "batch_size"], sort=True).head(1)


def _side_by_side(
    sources: Sources,
    ours: str,
    theirs: str,
    column: str,
    expected: str,
    judge: Callable[[dict[Any, Any], dict[Any, Any]], str],
) -> Outcome:
    """Judge two models on every CUDA device, size and batch that both were timed on."""
    keys = ["device", "img_size", "batch_size"]
    first, second = (_fastest(sources, model).set_index(keys) for model in (ours, theirs))
    shared = [key for key in first.index if key in second.index and str(key[0]).startswith("cuda")]
    if not shared:
        scan = ", the scan in mamba-ssm's kernel (extra [gpu])" if "medmamba" in theirs else ""
        found = f"no timing of both on a CUDA device{scan}"
        return Outcome(UNDECIDED, expected, found, (), (timing_command(ours, theirs),))
    outcomes = []
    for key in sorted(shared):
        a, b = first.loc[key].to_dict(), second.loc[key].to_dict()
        found = f"{key[0]}, {key[1]} px, batch {key[2]}: {a[column]:.1f} against {b[column]:.1f}"
        verdict = judge(a, b)
        needs = (timing_command(ours, theirs) + " --rounds 9 --overwrite",) if verdict == UNDECIDED else ()
        outcomes.append(Outcome(verdict, expected, found, (f"results/timings: {ours}, {theirs}",), needs))
    return all_of(outcomes)


def timing_command(*models: str) -> str:
    """The command that times models on a GPU."""
    return f"medbench measure timing --models {','.join(models)} --device cuda"


def share_of_fall(sources: Sources, claim: str, dataset: str, column: str, epoch: int) -> Quantity:
    """How much of a loss's whole fall from the first epoch to the last is done after an epoch, in percent."""
    first, there, last = (curve(sources, claim, dataset, column, number) for number in (1, epoch, 0))
    if first.value is None or there.value is None or last.value is None:
        return replace(first, formula="?")
    if first.value == last.value:
        raise RecordError(f"the check of {claim}: {column} of {dataset} does not move")
    share = 100 * (first.value - there.value) / (first.value - last.value)
    return Quantity(share, "", "%", sources=(*first.sources, *there.sources, *last.sources))


RECORD_TERMS: dict[str, Term] = {
    term.__name__: term
    for term in (measured, lowest, highest, class_score, margin, slack, curve, throughput, batch_gain, share_of_fall)
}
RECORD_CHECKS: dict[str, Check] = {
    check.__name__: check for check in (reproduced, higher, cutmix_helps, faster, smaller_peak)
}
