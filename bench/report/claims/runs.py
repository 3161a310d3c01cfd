"""Checks on runs: a printed number against an interval, pairs of models, classes, training losses.

The paper trains at 224 px for 200 epochs from ImageNet weights: `paper-224-imagenet`. Runs under another protocol are
reported beside and decide nothing about the paper's numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

import pandas as pd

from bench.data.names import PAPER_DATASETS
from bench.errors import RecordError
from bench.records.names import history_path
from bench.records.run_record import Record
from bench.report.ablations import factorial_protocol
from bench.report.analysis.contrasts import gain_of_cutmix
from bench.report.analysis.pairs import Pair
from bench.report.analysis.scores import ClassScore, Score
from bench.report.analysis_plan import MARGIN, OURS
from bench.report.claims.sources import STATED, Sources
from bench.report.claims.values import Quantity, absent, leaf, show
from bench.report.claims.verdict import FAILS, HOLDS, UNDECIDED, Outcome, every
from bench.report.tables.missing import Command, fill_command

SEEDS = (0, 1, 2)


def reproduced(sources: Sources, target: Quantity, dataset: str) -> Outcome:
    """A printed test accuracy (percent) lies in the 95 % interval of our runs, three seeds or more."""
    scores = _scores(sources, OURS, dataset, "acc")
    stated = next((s for s in scores if s.protocol == STATED and s.n_seeds >= len(SEEDS)), None)
    others = [_score_text(score) for score in scores if score.protocol != STATED]
    beside = [f"another protocol, which does not decide: {text}" for text in others]
    expected = f"{target.text()} % in our 95 % interval under {STATED}"
    runs = tuple(run_id for score in scores for run_id in score.run_ids)
    if stated is None:
        observed = "; ".join([f"no {len(SEEDS)} seeds under {STATED}", *beside])
        return Outcome(UNDECIDED, expected, observed, runs, (_run_command(dataset),))
    inside = stated.ci_low * 100 <= float(target.known()) <= stated.ci_high * 100
    word = "confirmed" if inside else "contradicted"
    observed = "; ".join([f"{word}: {_score_text(stated)}", *beside])
    return Outcome(HOLDS if inside else FAILS, expected, observed, runs)


def measured(sources: Sources, model: str, dataset: str, metric: str, protocol: str) -> Quantity:
    """The mean of a test score under a protocol, a fraction."""
    score = next((s for s in _scores(sources, model, dataset, metric) if s.protocol == protocol), None)
    if score is None:
        return absent(fill_command(protocol, [model], [dataset], [0]))
    return leaf(Fraction(score.mean), " ".join(score.run_ids))


def higher(sources: Sources, baseline: str) -> Outcome:
    """MedSpectralNet's accuracy is higher than a baseline's on all six sets, by the analysis plan's paired tests."""
    return every(*(_pair(sources, baseline, dataset) for dataset in PAPER_DATASETS))


def _pair(sources: Sources, baseline: str, dataset: str) -> Outcome:
    key = (dataset, "test", "acc", OURS, baseline)
    pairs = [p for p in sources.analysis.pairs if (p.dataset, p.part, p.metric, p.model, p.baseline) == key]
    expected = f"higher than {baseline} on every set under {STATED}"
    stated = next((pair for pair in pairs if pair.protocol == STATED and pair.fewest_seeds >= len(SEEDS)), None)
    beside = [_pair_text(pair) for pair in pairs if pair.protocol != STATED]
    where = ("results/tables/pairs.csv",) if pairs else ()
    if stated is None:
        observed = "; ".join([f"no {len(SEEDS)} seeds of both under {STATED}", *beside])
        return Outcome(UNDECIDED, expected, observed, where, (_run_command(dataset, OURS, baseline),))
    verdict = HOLDS if stated.verdict == "higher" else FAILS if stated.verdict == "lower" else UNDECIDED
    more = fill_command(STATED, [OURS, baseline], [dataset], range(2 * len(SEEDS)))
    needs = (more,) if verdict == UNDECIDED else ()
    return Outcome(verdict, expected, "; ".join([_pair_text(stated), *beside]), where, needs)


def _pair_text(pair: Pair) -> str:
    numbers = f"{pair.difference:+.3f} [{pair.ci_low:+.3f}, {pair.ci_high:+.3f}]"
    return f"{pair.protocol}, {pair.dataset}: {pair.verdict} in {pair.metric}, {numbers}, n = {pair.seeds}"


def _scores(sources: Sources, model: str, dataset: str, metric: str) -> list[Score]:
    """On the official test, one a protocol."""
    key = (model, dataset, metric, "test")
    return [s for s in sources.analysis.scores if (s.model, s.dataset, s.metric, s.part) == key]


def _score_text(score: Score) -> str:
    low, middle, high = (100 * value for value in (score.ci_low, score.mean, score.ci_high))
    numbers = f"{middle:.1f} [{low:.1f}, {high:.1f}]"
    return f"{score.protocol} {numbers}, n = {score.n_seeds}, interval over {score.interval}"


def _run_command(dataset: str, *models: str) -> Command:
    return fill_command(STATED, models or [OURS], [dataset], SEEDS)


def lowest(sources: Sources, dataset: str, measure: str, *without: int, spared: int = 0) -> Quantity:
    """Lowest of a measure over the classes; `without` leaves labels out, `spared` that many of the lowest."""
    return _over_classes(sources, dataset, measure, lambda values: sorted(values)[spared], without)


def highest(sources: Sources, dataset: str, measure: str) -> Quantity:
    """Highest of a measure over the classes."""
    return _over_classes(sources, dataset, measure, max, ())


def class_score(sources: Sources, dataset: str, measure: str, index: int) -> Quantity:
    """A measure of one class."""
    row = next((row for row in _classes(sources, dataset) if row.class_index == index), None)
    if row is None:
        return absent(_run_command(dataset))
    return leaf(Fraction(float(getattr(row, measure))), _class_source(dataset, measure))


def _over_classes(
    sources: Sources, dataset: str, measure: str, choose: Callable[[list[float]], float], without: Sequence[int]
) -> Quantity:
    rows = [row for row in _classes(sources, dataset) if row.class_index not in without]
    if not rows:
        return absent(_run_command(dataset))
    return leaf(Fraction(choose([getattr(row, measure) for row in rows])), _class_source(dataset, measure))


def _classes(sources: Sources, dataset: str) -> list[ClassScore]:
    """On the official test, where three seeds were run as stated."""
    key = (STATED, OURS, dataset, "test")
    rows = [row for row in sources.analysis.classes if (row.protocol, row.model, row.dataset, row.part) == key]
    return [row for row in rows if row.n_seeds >= len(SEEDS)]


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
    key = ("breastmnist", "test", "acc", optimizer, gain_of_cutmix(OURS))
    contrasts = [c for c in sources.analysis.contrasts if (c.dataset, c.part, c.metric, c.optimiser, c.effect) == key]
    gain = next((contrast for contrast in contrasts if contrast.n_seeds >= len(SEEDS)), None)
    if gain is None:
        return Outcome(UNDECIDED, expected, f"{optimizer}: no {len(SEEDS)} seeds", (), (Command("run --study table2"),))
    ends = f"{100 * gain.ci_low:+.1f} to {100 * gain.ci_high:+.1f}"
    observed = f"{optimizer}: {100 * gain.difference:+.1f} points ({ends}, {gain.n_seeds} seeds)"
    plain, cutmix = (factorial_protocol(optimizer, kind) for kind in ("plain", "cutmix"))
    scores = [s for s in _scores(sources, OURS, "breastmnist", "acc") if s.protocol in (plain, cutmix)]
    runs = tuple(run_id for score in scores for run_id in score.run_ids)
    if gain.ci_low > 0:
        return Outcome(HOLDS, expected, observed, runs)
    if gain.ci_high < 0:
        return Outcome(FAILS, expected, observed, runs)
    more = fill_command(f"{plain},{cutmix}", [OURS], ["breastmnist"], range(len(SEEDS), 2 * len(SEEDS)))
    return Outcome(UNDECIDED, expected, observed, runs, (more,))
