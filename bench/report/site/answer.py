"""The answer in a few sentences, for the first page and for README.md, and the forest plot that it is read from."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass

from bench.data.names import PAPER_DATASETS
from bench.records.names import SYNTHETIC_PREFIX
from bench.records.own_models import is_fitted
from bench.report.analysis.analyse import Analysis
from bench.report.analysis.pairs import Pair
from bench.report.analysis.resolution import Resolution
from bench.report.analysis_plan import OURS, baselines
from bench.report.evidence import Evidence
from bench.report.formats import signed
from bench.report.published.independence import independence
from bench.report.published.names import dataset_name, model_name, name_in_sentence
from bench.report.tables.score_cells import difference_text, p_text, smallest_text
from bench.report.tidy import grouped, model_order, paper_datasets
from bench.stats.families import step_down
from bench.stats.intervals import LEVEL
from bench.stats.power import POWER

HEADLINE = "lite-96"  # comes first wherever several protocols stand side by side
STEP = 0.2  # of the axis, in AUC
VERDICTS = ("higher", "lower", "comparable", "not separated")
RECIPES = {  # of the paper, the one that its numbers are of first -> why it may have no run
    "paper-224-imagenet": "its ImageNet weights were not available",
    "paper-224-scratch": "it needs a GPU",
}
NEAREST = "floor/knn1"
ON_ALL = {2: "both", **dict.fromkeys(range(3, 7), "all")}
FEW = 4  # that are missing are named, more are counted
NUMBERS = ("none", "one", "two", "three", "four", "five", "six")


@dataclass(frozen=True)
class Mark:
    """A difference in the plot; places are percentages of the plot's width.

    Attributes:
        verdict: `higher`, `lower`, `comparable` or `not separated`.
        middle, low, high: Of the difference and its 95 % interval.
        text: `+0.024 (−0.031 to +0.079)`.
        tip: What a reader gets by pointing at it or reaching it by keyboard.
    """

    verdict: str
    middle: str
    low: str
    high: str
    text: str
    tip: str


@dataclass(frozen=True)
class Tick:
    """A number below the plot and its place in percent."""

    place: str
    text: str


@dataclass(frozen=True)
class Forest:
    """MedSpectralNet less each baseline: a row a baseline, a column a data set, one axis.

    Attributes:
        protocol: The one that all rows are of.
        datasets: With a planned comparison, in the paper's order.
        rows: Baseline -> a mark a data set, None where one of the two did not run.
        zero, zone_start, zone_width: Places in percent; the zone is that of equivalence.
        ticks: Of the axis.
        verdicts: Those that occur.
    """

    protocol: str
    datasets: tuple[str, ...]
    rows: dict[str, list[Mark | None]]
    zero: str
    zone_start: str
    zone_width: str
    ticks: tuple[Tick, ...]
    verdicts: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """The answer, "" for what does not apply.

    Attributes:
        separated: From which models the corrected tests tell MedSpectralNet, on how many of the six sets.
        caveats: What weakens that.
        open: From which they do not.
        resolution: How small a difference they find.
        missing: What no finished run gives.
    """

    separated: str
    caveats: str
    open: str
    resolution: str
    missing: str


def headline(pairs: Iterable[Pair]) -> list[Pair]:
    """The primary comparisons of the protocol that the answer is about: the headline's, else the first that has any."""
    by_protocol = grouped((pair for pair in pairs if pair.family == "primary"), lambda pair: pair.protocol)
    return by_protocol.get(HEADLINE) or next(iter(by_protocol.values()), [])


def the_answer(evidence: Evidence, analysis: Analysis, *, synthetic: bool) -> Answer:
    """The answer that the records give.

    Args:
        evidence: The results folder.
        analysis: Its statistics.
        synthetic: Of runs on synthetic data, or of the others.
    """
    have = {record.protocol for record in evidence.records}
    return answer(headline(analysis.pairs), analysis.resolution, have=have, synthetic=synthetic)


def answer(
    pairs: Sequence[Pair], resolution: Iterable[Resolution] = (), *, have: Container[str] = (), synthetic: bool
) -> Answer:
    """The answer from the primary comparisons of one protocol.

    Args:
        pairs: From `headline`.
        resolution: The smallest differences that are found, of any protocol.
        have: Protocols with a finished run.
        synthetic: Whether they are on synthetic data.
    """
    six = paper_datasets(synthetic=synthetic)
    if not pairs:
        return Answer(
            "", "", "", "", f"Nothing is measured yet that the analysis plan compares: no run on {_sets(six)}."
        )
    sets = [name for name in six if any(pair.dataset == name for pair in pairs)]
    verdicts = grouped(pairs, lambda pair: pair.verdict)
    number = sum(len(verdicts.get(side, [])) for side in ("higher", "lower"))
    sides = [f"{side} than that of {_models(verdicts[side], sets)}" for side in ("higher", "lower") if side in verdicts]
    found = f"{' and '.join(sides)}" if sides else "separated from that of no other model"
    separated = f"On {_on(sets)}, {model_name(OURS)}'s AUC is {found}: {number} of {len(pairs)} comparisons."
    caveats = [
        _weights_alone(pairs, sets),
        _first_rule(pairs, sets, six, synthetic=synthetic),
        _untrained(pairs, sets),
        *_dependence(sets),
    ]
    words = {
        "not separated": "It is not separated from that of {}, which is no evidence that they are equal.",
        "comparable": "It is comparable to that of {}, within the margin of the analysis plan.",
    }
    rest = [words[verdict].format(_models(verdicts[verdict], sets)) for verdict in words if verdict in verdicts]
    missing = [_missing(pairs, sets, six, synthetic=synthetic)]
    unrun = [f"{name} ({why})" for name, why in RECIPES.items() if name not in have]
    if unrun and not synthetic:
        missing.append(f"No run exists of the paper's own recipe: {', '.join(unrun)}.")
    return Answer(
        separated,
        " ".join(filter(None, caveats)),
        " ".join(rest),
        _resolution(pairs, resolution),
        " ".join(missing).strip(),
    )


def _on(sets: Sequence[str]) -> str:
    return (
        f"{_sets(sets)}, the only one of the six data sets that it ran on"
        if len(sets) == 1
        else f"{NUMBERS[len(sets)]} of the six data sets ({_sets(sets)})"
    )


def _first_rule(pairs: Sequence[Pair], have: Sequence[str], six: Sequence[str], *, synthetic: bool) -> str:
    """What the plan's first correction leaves, "" where that is the same.

    It was replaced with the p-values known, so a reader must see both.
    """
    planned = len(baselines(pairs[0].protocol, synthetic=synthetic)) * len(six)
    adjusted = step_down([1.0 if math.isnan(pair.p) else pair.p for pair in pairs], planned)
    left = [pair for pair, p in zip(pairs, adjusted, strict=True) if p < LEVEL]
    if {id(pair) for pair in left} == {id(pair) for pair in pairs if pair.verdict in ("higher", "lower")}:
        return ""
    rule = f"By the plan's first rule (Holm over all {planned}), replaced with the p-values known"
    return f"{rule}: {f'{_models(left, have)} alone' if left else 'none'}."


def _weights_alone(pairs: Sequence[Pair], have: Sequence[str]) -> str:
    """Data sets on which nothing tells how seeds vary, so that verdicts are about the weights at hand; "" without."""
    known = {pair.dataset for pair in pairs if any(part.variance for part in pair.uncertainty.seeds)}
    alone = [name for name in have if name not in known]
    return f"On {_sets(alone)} no network has two seeds: verdicts are about these weights." if alone else ""


def _untrained(pairs: Sequence[Pair], have: Sequence[str]) -> str:
    """Which networks that are told apart have a lower mean than a floor without learning, "" without one."""
    floors = {pair.dataset: pair.difference for pair in pairs if pair.baseline == NEAREST}
    below = [
        pair
        for pair in pairs
        if pair.verdict == "higher" and not is_fitted(pair.baseline) and pair.difference > floors.get(pair.dataset, 1.0)
    ]
    if not below:
        return ""
    verb, them = ("scores", "it") if len(below) == 1 else ("score", "them")
    worth = f"which says as much of the recipe as of {them}"
    return f"In the mean, {_models(below, have)} {verb} below the nearest neighbour, {worth}."


def _dependence(datasets: Iterable[str]) -> list[str]:
    """What stands behind a verdict on images that belong together."""
    known = [(name, found) for name in datasets if (found := independence(name)) is not None and found.warning]
    return [
        f"On {_sets(name for name, _ in group)} several images are of one {unit}: intervals are too narrow, p-values "
        "too small."
        for unit, group in grouped(known, lambda item: item[1].unit).items()
    ]


def _resolution(pairs: Sequence[Pair], resolution: Iterable[Resolution]) -> str:
    """How small a difference in AUC the comparisons find, by data set."""
    cells = {(pair.protocol, pair.dataset) for pair in pairs}
    smallest: dict[str, str] = {}
    for row in resolution:
        if (row.protocol, row.dataset) in cells and (row.metric, row.part) == ("auc", "test"):
            number = "" if math.isnan(row.comparisons) else f", median of {row.comparisons:g}"
            smallest.setdefault(row.dataset, f"{smallest_text(row)} on {dataset_name(row.dataset)}{number}")
    if not smallest:
        return ""
    found = f"Smallest difference in AUC that a comparison finds with a power of {POWER:g}: "
    blind = [pair for pair in pairs if pair.smallest(pair.tests) > 1.0]
    never = f" Too few seeds to find any: {_models(blind, sorted(smallest))}." if blind else ""
    return f"{found}{'; '.join(smallest.values())}.{never}"


def _missing(pairs: Sequence[Pair], have: Sequence[str], six: Sequence[str], *, synthetic: bool) -> str:
    """Planned comparisons that no pair of runs gives."""
    planned = baselines(pairs[0].protocol, synthetic=synthetic)
    made = {(pair.baseline, pair.dataset) for pair in pairs}
    number = len(planned) * len(six) - len(made)
    absent = [name for name in six if name not in have]
    wanting = {name: [model for model in planned if (model, name) not in made] for name in have}
    named = {name: [model_name(model) for model in own] for name, own in wanting.items() if own}
    texts = [
        f"{_joined(own) if len(own) <= FEW else f'{len(own)} baselines'} on {dataset_name(name)}"
        for name, own in named.items()
    ]
    texts += [f"{model_name(OURS)} on {_sets(absent)}"] if absent else []
    return (
        f"{number} of {len(planned) * len(six)} planned comparisons have no finished run: {'; '.join(texts)}."
        if number
        else ""
    )


def _models(pairs: Sequence[Pair], have: Sequence[str]) -> str:
    """Baselines by name, networks first, grouped by the data sets that are meant: those of most sets first."""
    ordered = sorted(pairs, key=lambda pair: (is_fitted(pair.baseline), model_order(pair.baseline)))
    by_model = grouped(ordered, lambda pair: pair.baseline)
    where = {
        model: tuple(name for name in have if name in {pair.dataset for pair in own}) for model, own in by_model.items()
    }
    texts = []
    for sets, models in sorted(grouped(where, lambda model: where[model]).items(), key=lambda item: -len(item[0])):
        names = _joined([name_in_sentence(model) for model in models])
        texts.append(
            names if len(have) == 1 else f"{names} ({ON_ALL[len(have)] if len(sets) == len(have) else _sets(sets)})"
        )
    return "; ".join(texts)


def _sets(datasets: Iterable[str]) -> str:
    return _joined([dataset_name(name) for name in datasets])


def _joined(texts: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(texts[:-1]), *texts[-1:]]))


def forest(pairs: Sequence[Pair]) -> Forest | None:
    """The plot of the primary comparisons of one protocol, None without any."""
    if not pairs:
        return None
    flags = {flag: index for index, flag in enumerate(PAPER_DATASETS)}
    datasets = sorted({p.dataset for p in pairs}, key=lambda name: flags.get(name.removeprefix(SYNTHETIC_PREFIX), 99))
    margin = pairs[0].margin
    ends = [end for pair in pairs for end in (pair.ci_low, pair.ci_high, pair.difference) if not math.isnan(end)]
    low = math.floor(min([-margin, *ends]) / STEP) * STEP
    high = math.ceil(max([margin, *ends]) / STEP) * STEP

    def place(value: float) -> str:
        return f"{100 * (value - low) / (high - low):.2f}%"

    by_cell = {(pair.baseline, pair.dataset): pair for pair in pairs}
    rows = {
        model: [_mark(by_cell[model, name], place) if (model, name) in by_cell else None for name in datasets]
        for model in sorted({pair.baseline for pair in pairs}, key=model_order)
    }
    steps = [round(low + STEP * index, 10) for index in range(round((high - low) / STEP) + 1)]
    if len(datasets) > 1:
        steps = sorted({0.0, max(steps, key=abs)})  # a column is narrow then
    return Forest(
        protocol=pairs[0].protocol,
        datasets=tuple(datasets),
        rows=rows,
        zero=place(0.0),
        zone_start=place(-margin),
        zone_width=f"{100 * 2 * margin / (high - low):.2f}%",
        ticks=tuple(Tick(place(step), signed(step, 1) if step else "0") for step in steps),
        verdicts=tuple(verdict for verdict in VERDICTS if any(pair.verdict == verdict for pair in pairs)),
    )


def _mark(pair: Pair, place: Callable[[float], str]) -> Mark:
    text = difference_text(pair.difference, pair.ci_low, pair.ci_high)
    names = f"{model_name(pair.model)} minus {model_name(pair.baseline)} on {dataset_name(pair.dataset)}"
    tip = f"{names}: {text}, {pair.verdict}, corrected p {p_text(pair.p_corrected)}, seeds {pair.seeds}"
    ends = [pair.difference if math.isnan(end) else end for end in (pair.ci_low, pair.ci_high)]
    return Mark(pair.verdict, place(pair.difference), place(ends[0]), place(ends[1]), text, tip)
