"""The comparisons that give a verdict: found against printed, and what a comparison can at most show."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

from bench.errors import ProtocolError, RecordError
from bench.protocol import load_protocol
from bench.report.claims.sources import Sources
from bench.report.claims.terms import ACCURACIES, gain, images, published, relative_gain, stated
from bench.report.claims.values import (
    FAILS,
    HOLDS,
    NOT_TESTABLE,
    UNDECIDED,
    Outcome,
    Quantity,
    all_of,
    any_of,
    show,
    unique,
)
from bench.stats_power import MAX_RUNS, reachable_runs

Check = Callable[..., Outcome]
COMPARISONS: dict[str, tuple[str, Callable[[Fraction, Fraction], bool]]] = {
    "<": ("below", operator.lt),
    "<=": ("at most", operator.le),
    ">": ("above", operator.gt),
    ">=": ("at least", operator.ge),
    "==": ("exactly", operator.eq),
}


def judged(found: Quantity, expected: str, test: Callable[[], bool], *others: Quantity) -> Outcome:
    """Run a test if all its quantities are known; undecided otherwise, with what would give them."""
    every = (found, *others)
    needs = unique([line for quantity in every for line in quantity.needs])
    where = unique([line for quantity in every for line in quantity.sources])
    if any(quantity.value is None for quantity in every):
        return Outcome(UNDECIDED, expected, found.worked(), where, needs)
    return Outcome(HOLDS if test() else FAILS, expected, found.worked(), where)


def compare(first: Quantity, sign: str, second: Quantity) -> Outcome:
    """`<`, `<=`, `>`, `>=` or `==` of two quantities, exact."""
    word, function = COMPARISONS[sign]
    expected = f"{word} {second.worked()}" if second.value is not None else f"{word} what is not measured yet"
    return judged(first, expected, lambda: function(first.known(), second.known()), second)


def rounds(sources: Sources, claim: str, found: Quantity, printed: Quantity, digits: int | None = None) -> Outcome:
    """Ours rounds to the printed digits, a half either way; `digits` = -1 for a figure printed in whole tens."""
    places = (printed.decimals or 0) if digits is None else digits
    half = Fraction(1, 2) / Fraction(10) ** places
    unit = f" {found.unit}" if found.unit else ""
    to_tens = f", to the nearest {10**-places}" if places < 0 else ""
    expected = f"{printed.text()}{unit} as printed{to_tens}"
    return judged(found, expected, lambda: abs(found.known() - printed.known()) <= half, printed)


def within(sources: Sources, claim: str, found: Quantity, low: Quantity, high: Quantity) -> Outcome:
    """Between two bounds, both included."""
    expected = f"{low.text()} to {high.text()}"
    return judged(found, expected, lambda: low.known() <= found.known() <= high.known(), low, high)


def near(sources: Sources, claim: str, found: Quantity, printed: Quantity, margin: Quantity) -> Outcome:
    """No further than a margin from what was printed, either way."""
    expected = f"{printed.text()}, within {margin.text()}"
    return judged(found, expected, lambda: abs(found.known() - printed.known()) <= margin.known(), printed, margin)


def every(sources: Sources, claim: str, *outcomes: Outcome) -> Outcome:
    """Every part must hold."""
    return all_of(outcomes)


def either(sources: Sources, claim: str, *outcomes: Outcome) -> Outcome:
    """One part that holds is enough: the readings of an ambiguous claim."""
    return any_of(outcomes)


def possible(sources: Sources, claim: str, outcome: Outcome, why: str) -> Outcome:
    """A necessary condition: where it fails the claim fails, where it holds the rest cannot be tested."""
    if outcome.verdict == HOLDS:
        return replace(outcome, verdict=NOT_TESTABLE, why=f"possible, and no more can be tested: {why}")
    return outcome


def sufficient(sources: Sources, claim: str, outcome: Outcome, why: str) -> Outcome:
    """A sufficient condition: where it holds the claim holds, where it fails nothing follows."""
    if outcome.verdict == FAILS:
        return replace(outcome, verdict=NOT_TESTABLE, why=why)
    return outcome


def class_named(sources: Sources, claim: str, dataset: str, index: int, *words: str) -> Outcome:
    """A label's name contains all the words."""
    facts = sources.data[dataset]
    name = facts.class_names[index] if index < len(facts.class_names) else "no such label"
    verdict = HOLDS if all(word in name for word in words) else FAILS
    expected = f"label {index} is {' and '.join(words)}"
    return Outcome(verdict, expected, f"label {index} is “{name}”", (facts.source,))


def reachable(sources: Sources, claim: str, printed: Quantity, dataset: str) -> Outcome:
    """A printed accuracy (percent) can be the rounded mean of 1 to 5 runs on the test images."""
    number = images(sources, claim, dataset, "test")
    decimals = (printed.decimals or 0) + 2
    runs = reachable_runs(float(printed.known() / 100), decimals, int(number.known()))
    nearest = round(printed.known() / 100 * number.known())
    share = 100 * Fraction(nearest) / number.known()
    example = f"nearest single run: {nearest:,} / {number.text()} = {float(share):.{decimals}f} %"
    found = f"reachable with {', '.join(map(str, runs)) or 'no number of'} averaged runs; {example}"
    expected = f"{printed.text()} % reachable with 1 to {MAX_RUNS} averaged runs"
    return Outcome(HOLDS if runs else FAILS, expected, found, unique([*printed.sources, *number.sources]))


def recipe(sources: Sources, claim: str, protocol: str, key: str, *printed: Quantity, percent: bool = False) -> Outcome:
    """What a protocol of the suite does where the paper states a setting.

    What the authors' runs did leaves no trace here, so agreement is `not testable`. A protocol that departs from
    the paper is `undecided`: the suite would have to be mended first.

    Raises:
        RecordError: If the protocol has no such setting.
    """
    section, name = key.split(".")
    try:
        value: Any = getattr(getattr(load_protocol(protocol), section), name)
    except (AttributeError, ProtocolError) as error:
        raise RecordError(f"the check of {claim} wants {key} of {protocol}: {error}") from None
    values = [Fraction(repr(float(part))) for part in (value if isinstance(value, tuple) else (value,))]
    wanted = [quantity.known() / (100 if percent else 1) for quantity in printed]
    where = unique([*(line for quantity in printed for line in quantity.sources), f"bench/protocols/{protocol}.toml"])
    expected = f"{', '.join(quantity.text() for quantity in printed)}{' %' if percent else ''}"
    found = f"`{protocol}` sets {key} to {', '.join(show(part) for part in values)}"
    if values != wanted:
        why = f"mend the protocol {protocol}, which departs from the paper in {key}"
        return Outcome(UNDECIDED, expected, found, where, (why,))
    why = "what the authors' runs did leaves no trace in records; the suite's protocol takes the value over"
    return Outcome(NOT_TESTABLE, expected, found, where, why=why)


def outperforms(sources: Sources, claim: str, name: str, least: Quantity) -> Outcome:
    """The paper's accuracy is above a published one by more than `least` points wherever both are printed."""
    parts = [
        _labelled(dataset, compare(gain(sources, claim, ours, theirs), ">", least))
        for dataset, ours, theirs in _beside_each_other(sources, claim, name)
    ]
    expected = f"a difference to {name} above {show(least.known())} points wherever both are printed"
    joined = all_of(parts)
    return replace(joined, expected=expected, found=f"to {name}: {joined.found}")


def gains_between(
    sources: Sources, claim: str, name: str, low: Quantity, high: Quantity, relative: bool = True
) -> Outcome:
    """Every gain over a published accuracy is in a printed range: relative ones in percent, or points."""
    measure = relative_gain if relative else gain
    parts = [
        _labelled(dataset, within(sources, claim, replace(measure(sources, claim, ours, theirs), unit=""), low, high))
        for dataset, ours, theirs in _beside_each_other(sources, claim, name)
    ]
    unit = "% (relative)" if relative else "points"
    joined = all_of(parts)
    expected = f"{low.text()} to {high.text()} {unit} over {name} on every set"
    return replace(joined, expected=expected, found=f"over {name}, {unit}: {joined.found}")


def _labelled(dataset: str, outcome: Outcome) -> Outcome:
    return replace(outcome, found=f"{dataset} {outcome.found}")


def _beside_each_other(sources: Sources, claim: str, name: str) -> list[tuple[str, Quantity, Quantity]]:
    """(data set, the paper's accuracy, the published one) where both are printed."""
    frame = sources.scores
    rows = frame[(frame["name"] == name) & (frame["metric"] == "acc")]
    sets = [dataset for dataset in ACCURACIES if dataset in set(rows["dataset"])]
    if not sets:
        raise RecordError(f"the check of {claim} wants accuracies of {name}, which results.csv does not hold")
    return [(d, stated(sources, claim, d), published(sources, claim, name, d)) for d in sets]


def whole(sources: Sources, claim: str, found: Quantity) -> Outcome:
    """A whole number."""
    return judged(found, "a whole number", lambda: found.known().denominator == 1)


CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        *(rounds, within, near, every, either, possible, sufficient, class_named, reachable, recipe, whole),
        *(outperforms, gains_between),
    )
}
