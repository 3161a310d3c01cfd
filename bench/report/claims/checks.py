"""The comparisons that give a verdict: what was observed against what was printed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from operator import attrgetter
from typing import Any

from bench.errors import RecordError
from bench.protocols.loading import load_protocol
from bench.report.claims.sources import STATED, Sources
from bench.report.claims.terms import images, published
from bench.report.claims.values import ACCURACIES, Quantity, gain, percent, show, stated, unique
from bench.report.claims.verdict import FAILS, HOLDS, NOT_TESTABLE, UNDECIDED, Outcome, every
from bench.stats.power import MAX_RUNS, reachable_runs


def rounds(observed: Quantity, target: Quantity, digits: int | None = None) -> Outcome:
    """Ours rounds to the printed digits, a half either way; `digits` = -1 for a figure printed in whole tens."""
    decimals = (target.decimals or 0) if digits is None else digits
    half = Fraction(1, 2) / Fraction(10) ** decimals
    unit = f" {observed.unit}" if observed.unit else ""
    to_tens = f", to the nearest {10**-decimals}" if decimals < 0 else ""
    expected = f"{target.text()}{unit} as printed{to_tens}"
    return _tested(observed, expected, lambda: abs(observed.known() - target.known()) <= half, target)


def near(observed: Quantity, target: Quantity, margin: Quantity) -> Outcome:
    """No further than a margin from what was printed, either way."""
    expected = f"{target.text()}, within {margin.text()}"
    return _tested(observed, expected, lambda: abs(observed.known() - target.known()) <= margin.known(), target, margin)


def within(observed: Quantity, low: Quantity, high: Quantity) -> Outcome:
    """Between two bounds, both included."""
    expected = f"{low.text()} to {high.text()}"
    return _tested(observed, expected, lambda: low.known() <= observed.known() <= high.known(), low, high)


def whole(observed: Quantity) -> Outcome:
    """A whole number."""
    return _tested(observed, "a whole number", lambda: observed.known().denominator == 1)


def below(observed: Quantity, other: Quantity) -> Outcome:
    """Less than another, exactly."""
    return _tested(observed, _against("below", other), lambda: observed.known() < other.known(), other)


def at_most(observed: Quantity, other: Quantity) -> Outcome:
    """Not more than another, exactly."""
    return _tested(observed, _against("at most", other), lambda: observed.known() <= other.known(), other)


def above(observed: Quantity, other: Quantity) -> Outcome:
    """More than another, exactly."""
    return _tested(observed, _against("above", other), lambda: observed.known() > other.known(), other)


def at_least(observed: Quantity, other: Quantity) -> Outcome:
    """Not less than another, exactly."""
    return _tested(observed, _against("at least", other), lambda: observed.known() >= other.known(), other)


def equals(observed: Quantity, other: Quantity) -> Outcome:
    """As much as another, exactly."""
    return _tested(observed, _against("exactly", other), lambda: observed.known() == other.known(), other)


def _against(word: str, other: Quantity) -> str:
    return f"{word} {other.worked()}" if other.value is not None else f"{word} what is not measured yet"


def _tested(observed: Quantity, expected: str, test: Callable[[], bool], *others: Quantity) -> Outcome:
    """Run a test if all its quantities are known; undecided otherwise, with what would give them."""
    quantities = (observed, *others)
    where = unique([line for quantity in quantities for line in quantity.sources])
    if any(quantity.value is None for quantity in quantities):
        needs = unique([line for quantity in quantities for line in quantity.needs])
        return Outcome(UNDECIDED, expected, observed.worked(), where, needs)
    return Outcome(HOLDS if test() else FAILS, expected, observed.worked(), where)


def class_named(sources: Sources, dataset: str, index: int, *words: str) -> Outcome:
    """A label's name contains all the words."""
    facts = sources.data[dataset]
    name = facts.class_names[index] if index < len(facts.class_names) else "no such label"
    verdict = HOLDS if all(word in name for word in words) else FAILS
    expected = f"label {index} is {' and '.join(words)}"
    return Outcome(verdict, expected, f"label {index} is “{name}”", (facts.source,))


def reachable(sources: Sources, target: Quantity, dataset: str) -> Outcome:
    """A printed accuracy (percent) can be the rounded mean of 1 to 5 runs on the test images."""
    number = images(sources, dataset, "test")
    decimals = (target.decimals or 0) + 2
    runs = reachable_runs(float(target.known() / 100), decimals, int(number.known()))
    nearest = round(target.known() / 100 * number.known())
    share = 100 * Fraction(nearest) / number.known()
    example = f"nearest single run: {nearest:,} / {number.text()} = {float(share):.{decimals}f} %"
    observed = f"reachable with {', '.join(map(str, runs)) or 'no number of'} averaged runs; {example}"
    expected = f"{target.text()} % reachable with 1 to {MAX_RUNS} averaged runs"
    return Outcome(HOLDS if runs else FAILS, expected, observed, unique([*target.sources, *number.sources]))


def recipe(key: str, *targets: Quantity, percent: bool = False) -> Outcome:
    """What the paper's protocol of the suite does where the paper states a setting.

    What the authors' runs did leaves no trace here, so agreement is `not testable`. A protocol that departs from
    the paper is `undecided`: the suite would have to be mended first.

    Args:
        key: A number or several of the protocol, `section.name`.
        targets: What the paper prints for it.
        percent: Whether the paper prints percent, the protocol a fraction.
    """
    value: Any = attrgetter(key)(load_protocol(STATED))
    values = [Fraction(repr(float(part))) for part in (value if isinstance(value, tuple) else (value,))]
    wanted = [quantity.known() / (100 if percent else 1) for quantity in targets]
    where = unique([*(line for quantity in targets for line in quantity.sources), f"bench/protocols/{STATED}.toml"])
    expected = f"{', '.join(quantity.text() for quantity in targets)}{' %' if percent else ''}"
    observed = f"`{STATED}` sets {key} to {', '.join(show(part) for part in values)}"
    if values != wanted:
        why = f"mend the protocol {STATED}, which departs from the paper in {key}"
        return Outcome(UNDECIDED, expected, observed, where, (why,))
    why = "what the authors' runs did leaves no trace in records; the suite's protocol takes the value over"
    return Outcome(NOT_TESTABLE, expected, observed, where, why=why)


def outperforms(sources: Sources, name: str, least: Quantity) -> Outcome:
    """The paper's accuracy is above a published one by more than `least` points wherever both are printed."""
    pairs = _beside_each_other(sources, name)
    joined = every(*(_labelled(dataset, above(gain(ours, theirs), least)) for dataset, ours, theirs in pairs))
    expected = f"a difference to {name} above {show(least.known())} points wherever both are printed"
    return replace(joined, expected=expected, found=f"to {name}: {joined.found}")


def gains_between(sources: Sources, name: str, low: Quantity, high: Quantity, *, relative: bool) -> Outcome:
    """Every gain over a published accuracy is in a printed range: relative ones in percent, or points."""
    parts = []
    for dataset, ours, theirs in _beside_each_other(sources, name):
        difference = percent((ours - theirs) / theirs) if relative else ours - theirs
        parts.append(_labelled(dataset, within(replace(difference, unit=""), low, high)))
    joined = every(*parts)
    unit = "% (relative)" if relative else "points"
    expected = f"{low.text()} to {high.text()} {unit} over {name} on every set"
    return replace(joined, expected=expected, found=f"over {name}, {unit}: {joined.found}")


def _labelled(dataset: str, outcome: Outcome) -> Outcome:
    return replace(outcome, found=f"{dataset} {outcome.found}")


def _beside_each_other(sources: Sources, name: str) -> list[tuple[str, Quantity, Quantity]]:
    """(data set, the paper's accuracy, the published one) where both are printed."""
    printed = {score.dataset for score in sources.scores if (score.name, score.metric) == (name, "acc")}
    sets = [dataset for dataset in ACCURACIES if dataset in printed]
    if not sets:
        raise RecordError(f"no accuracy of {name} in results.csv")
    return [(dataset, stated(dataset), published(sources, name, dataset)) for dataset in sets]
