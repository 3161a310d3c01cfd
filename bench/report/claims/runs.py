"""Checks on runs: a printed number against an interval, pairs of models, classes.

The paper trains at 224 px for 200 epochs from ImageNet weights: `paper-224-imagenet`. Runs under another protocol are
reported beside and decide nothing about the paper's numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

from bench.data.names import PAPER_DATASETS
from bench.protocols.planned import planned_seeds
from bench.report.ablations import factorial_protocol
from bench.report.analysis.contrasts import gain_of_cutmix
from bench.report.analysis.pairs import Pair
from bench.report.analysis.scores import ClassScore, Score
from bench.report.analysis_plan import MARGIN, OURS
from bench.report.claims.planned import RECORDED, accuracy_power, class_error, class_power, run_command, seeds
from bench.report.claims.sources import STATED, Sources
from bench.report.claims.values import Doubt, Quantity, absent, leaf
from bench.report.claims.verdict import FAILS, HOLDS, UNDECIDED, Outcome, every
from bench.report.published.names import dataset_name, model_name
from bench.report.tables.missing import Command, fill_command
from bench.stats.comparisons import is_equivalent
from bench.stats.intervals import LEVEL
from bench.stats.uncertainty import Uncertainty, around


def reproduced(sources: Sources, target: Quantity, dataset: str) -> Outcome:
    """A printed test accuracy (percent) agrees with our planned runs, by the analysis plan's three verdicts.

    It fails where the difference is not 0 by the plan's test, holds where the 90 % interval lies inside the margin,
    and is open between: a wide interval that holds the number confirms nothing.
    """
    scores = _scores(sources, OURS, dataset, "acc")
    enough = len(seeds(dataset))
    stated = next((s for s in scores if s.protocol == STATED and s.n_seeds >= enough), None)
    others = [_score_text(score) for score in scores if score.protocol != STATED]
    beside = [f"another protocol, which does not decide: {text}" for text in others]
    expected = f"{target.text()} % within {MARGIN} of our mean under {STATED}, by its 90 % interval"
    runs = tuple(run_id for score in scores for run_id in score.run_ids)
    if stated is None:
        observed = "; ".join([f"no {enough} seeds under {STATED}", *beside])
        powers = (accuracy_power(sources, dataset, paired=False),)
        return Outcome(UNDECIDED, expected, observed, runs, (run_command(dataset),), powers)
    difference = around(stated.mean - float(target.known() / 100), stated.uncertainty)
    ends = f"{100 * difference.value:+.1f} points (95 %: {100 * difference.low:+.1f} to {100 * difference.high:+.1f})"
    if difference.p < LEVEL:
        verdict, word = FAILS, "contradicted"
    elif is_equivalent(difference, MARGIN):
        verdict, word = HOLDS, "confirmed"
    else:
        verdict, word = UNDECIDED, "not contradicted"
    observed = "; ".join([f"{word}, {ends}: {_score_text(stated)}", *beside])
    return Outcome(verdict, expected, observed, runs, why=RECORDED if verdict == UNDECIDED else "")


def measured(sources: Sources, model: str, dataset: str, metric: str, protocol: str) -> Quantity:
    """The mean of a test score under a protocol, a fraction."""
    score = next((s for s in _scores(sources, model, dataset, metric) if s.protocol == protocol), None)
    if score is None:
        return absent(fill_command(protocol, [model], [dataset], [0]))
    return leaf(Fraction(score.mean), " ".join(score.run_ids))


def higher(sources: Sources, baseline: str) -> Outcome:
    """MedSpectralNet's accuracy is higher than a baseline's on all six sets, by the analysis plan's paired tests."""
    joined = every(*(pair_outcome(sources, baseline, dataset, ("higher",)) for dataset in PAPER_DATASETS))
    return replace(joined, expected=f"higher than {model_name(baseline)} on every set under {STATED}")


def pair_outcome(sources: Sources, baseline: str, dataset: str, enough: Sequence[str]) -> Outcome:
    """MedSpectralNet against a baseline on one data set: holds with one of these verdicts of the analysis plan.

    `comparable` among them asks for "not below by more than the margin", which the 90 % interval says by itself.
    """
    key = (dataset, "test", "acc", OURS, baseline)
    pairs = [p for p in sources.analysis.pairs if (p.dataset, p.part, p.metric, p.model, p.baseline) == key]
    expected = f"{' or '.join(enough)} to {model_name(baseline)} under {STATED}"
    planned = min(len(seeds(dataset, model)) for model in (OURS, baseline))
    stated = next((pair for pair in pairs if pair.protocol == STATED and pair.fewest_seeds >= planned), None)
    beside = [_pair_text(pair) for pair in pairs if pair.protocol != STATED]
    where = ("results/tables/pairs.csv",) if pairs else ()
    if stated is None:
        observed = "; ".join([f"{dataset_name(dataset)}: no {planned} seeds of both under {STATED}", *beside])
        powers = (accuracy_power(sources, dataset, paired=True),)
        return Outcome(UNDECIDED, expected, observed, where, (run_command(dataset, OURS, baseline),), powers)
    observed = "; ".join([_pair_text(stated), *beside])
    if "comparable" in enough:
        holds, fails = stated.exact.low_90 > -MARGIN, stated.exact.high_90 < -MARGIN
    else:
        holds, fails = stated.verdict in enough, stated.verdict == "lower"
    verdict = HOLDS if holds else FAILS if fails else UNDECIDED
    return Outcome(verdict, expected, observed, where, why=RECORDED if verdict == UNDECIDED else "")


def _pair_text(pair: Pair) -> str:
    numbers = f"{pair.difference:+.3f} [{pair.ci_low:+.3f}, {pair.ci_high:+.3f}]"
    return (
        f"{pair.protocol}, {dataset_name(pair.dataset)}: {pair.verdict} in {pair.metric}, {numbers}, n = {pair.seeds}"
    )


def _scores(sources: Sources, model: str, dataset: str, metric: str) -> list[Score]:
    """On the official test, one a protocol."""
    key = (model, dataset, metric, "test")
    return [s for s in sources.analysis.scores if (s.model, s.dataset, s.metric, s.part) == key]


def _score_text(score: Score) -> str:
    low, middle, high = (100 * value for value in (score.ci_low, score.mean, score.ci_high))
    numbers = f"{middle:.1f} [{low:.1f}, {high:.1f}]"
    return f"{score.protocol} {numbers}, n = {score.n_seeds}, interval over {score.interval}"


def lowest(sources: Sources, dataset: str, measure: str, *without: int, spared: int = 0) -> Quantity:
    """Lowest of a measure over the classes; `without` leaves labels out, `spared` that many of the lowest."""
    return _over_classes(sources, dataset, measure, lambda values: sorted(values)[spared], without)


def highest(sources: Sources, dataset: str, measure: str) -> Quantity:
    """Highest of a measure over the classes."""
    return _over_classes(sources, dataset, measure, max, ())


def class_score(sources: Sources, dataset: str, measure: str, index: int) -> Quantity:
    """A measure of one class."""
    return _over_classes(sources, dataset, measure, min, [k for k in _labels(sources, dataset) if k != index])


def _over_classes(
    sources: Sources,
    dataset: str,
    measure: str,
    choose: Callable[[list[float]], float],
    without: Sequence[int],
) -> Quantity:
    """The chosen class's measure with its doubt over the test images; only a measured card has the classes' sizes."""
    rows = [row for row in _classes(sources, dataset) if row.class_index not in without]
    if not rows:
        return absent(run_command(dataset), powers=(class_power(sources, dataset, measure),))
    counts = sources.data[dataset].class_counts.get("test")
    if counts is None:
        return absent(Command("measure data", datasets=(dataset,)))
    value = choose([getattr(row, measure) for row in rows])
    row = next(row for row in rows if getattr(row, measure) == value)
    error = class_error(value, counts[row.class_index], sum(counts), measure)
    doubt = Doubt(Uncertainty(error**2), RECORDED)
    return replace(leaf(Fraction(float(value)), _class_source(dataset, measure)), doubts=(doubt,))


def _labels(sources: Sources, dataset: str) -> range:
    return range(len(sources.data[dataset].class_names))


def _classes(sources: Sources, dataset: str) -> list[ClassScore]:
    """On the official test, where the planned seeds were run as stated."""
    key = (STATED, OURS, dataset, "test")
    rows = [row for row in sources.analysis.classes if (row.protocol, row.model, row.dataset, row.part) == key]
    return [row for row in rows if row.n_seeds >= len(seeds(dataset))]


def _class_source(dataset: str, measure: str) -> str:
    return f"results/tables/classes.csv: {measure}, {OURS}, {dataset}, {STATED}, official test"


def margin() -> Quantity:
    """The analysis plan's margin of what counts as comparable, a fraction."""
    return leaf(Fraction(repr(MARGIN)), f"margin {MARGIN} of results/ANALYSIS_PLAN.md")


def cutmix_helps(sources: Sources, optimizer: str, tests: int) -> Outcome:
    """CutMix raises MedSpectralNet's test accuracy on BreastMNIST under an optimiser of Table 2.

    Args:
        sources: All evidence.
        optimizer: One of Table 2's.
        tests: How many optimisers the claim may choose from.
    """
    expected = f"{optimizer}: accuracy with CutMix above that without, p below {LEVEL} over {tests} optimisers"
    key = ("breastmnist", "test", "acc", optimizer, gain_of_cutmix(OURS))
    contrasts = [c for c in sources.analysis.contrasts if (c.dataset, c.part, c.metric, c.optimiser, c.effect) == key]
    plain, cutmix = (factorial_protocol(optimizer, kind) for kind in ("plain", "cutmix"))
    planned = len(planned_seeds(cutmix, OURS, "breastmnist"))
    gain = next((contrast for contrast in contrasts if contrast.n_seeds >= planned), None)
    if gain is None:
        return Outcome(UNDECIDED, expected, f"{optimizer}: no {planned} seeds", (), (Command("run --study table2"),))
    ends = f"95 %: {100 * gain.ci_low:+.1f} to {100 * gain.ci_high:+.1f}, p {gain.p:.2g}, {gain.n_seeds} seeds"
    power = f"power for a gain of {MARGIN}: {100 * gain.power:.0f} %"
    observed = f"{optimizer}: {100 * gain.difference:+.1f} points ({ends}; {power})"
    scores = [s for s in _scores(sources, OURS, "breastmnist", "acc") if s.protocol in (plain, cutmix)]
    runs = tuple(run_id for score in scores for run_id in score.run_ids)
    if gain.difference > 0 and tests * gain.p < LEVEL:
        return Outcome(HOLDS, expected, observed, runs)
    if gain.difference < 0 and gain.p < LEVEL:
        return Outcome(FAILS, expected, observed, runs)
    return Outcome(UNDECIDED, expected, observed, runs, why=RECORDED)
