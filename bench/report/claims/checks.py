"""The comparisons that give a verdict: what was observed against what was printed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from operator import attrgetter
from typing import Any

from bench.protocols.loading import load_protocol
from bench.report.claims.sources import STATED, Sources
from bench.report.claims.terms import images
from bench.report.claims.values import Quantity, show, together, unique
from bench.report.claims.verdict import FAILS, HOLDS, NOT_TESTABLE, UNDECIDED, Outcome
from bench.stats.intervals import LEVEL
from bench.stats.power import MAX_RUNS, reachable_runs

Ends = tuple[Fraction | None, Fraction | None]


def rounds(observed: Quantity, target: Quantity, digits: int | None = None) -> Outcome:
    """Ours rounds to the printed digits, a half either way; `digits` = -1 for a figure printed in whole tens."""
    decimals = (target.decimals or 0) if digits is None else digits
    half = Fraction(1, 2) / Fraction(10) ** decimals
    unit = f" {observed.unit}" if observed.unit else ""
    to_tens = f", to the nearest {10**-decimals}" if decimals < 0 else ""
    expected = f"{target.text()}{unit} as printed{to_tens}"
    return _tested(observed, expected, lambda: abs(observed.known() - target.known()) <= half, target)


def near(observed: Quantity, target: Quantity, margin: Quantity) -> Outcome:
    """No further than a margin from what was printed, either way; of a measured score, its 90 % interval."""
    expected = f"{target.text()}, within {margin.text()}"

    def ends() -> Ends:
        return target.known() - margin.known(), target.known() + margin.known()

    return _between(observed, expected, ends, (target, margin))


def within(observed: Quantity, low: Quantity, high: Quantity) -> Outcome:
    """Between two bounds, both included; of a measured score, its 90 % interval."""
    expected = f"{low.text()} to {high.text()}"
    return _between(observed, expected, lambda: (low.known(), high.known()), (low, high))


def whole(observed: Quantity) -> Outcome:
    """A whole number."""
    return _tested(observed, "a whole number", lambda: observed.known().denominator == 1)


def below(observed: Quantity, other: Quantity, tests: int = 1) -> Outcome:
    """Less than another; of a measured score, its 95 % interval, narrower a tail for each of several tests."""
    return _between(
        observed, _against("below", other), lambda: (None, other.known()), (other,), strict=True, tests=tests
    )


def at_most(observed: Quantity, other: Quantity) -> Outcome:
    """Not more than another; of a measured score, its 90 % interval."""
    return _between(observed, _against("at most", other), lambda: (None, other.known()), (other,))


def above(observed: Quantity, other: Quantity, tests: int = 1) -> Outcome:
    """More than another; of a measured score, its 95 % interval, narrower a tail for each of several tests."""
    return _between(
        observed, _against("above", other), lambda: (other.known(), None), (other,), strict=True, tests=tests
    )


def at_least(observed: Quantity, other: Quantity) -> Outcome:
    """Not less than another; of a measured score, its 90 % interval."""
    return _between(observed, _against("at least", other), lambda: (other.known(), None), (other,))


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
        powers = unique([power for quantity in quantities for power in quantity.powers])
        return Outcome(UNDECIDED, expected, observed.worked(), where, needs, powers)
    return Outcome(HOLDS if test() else FAILS, expected, observed.worked(), where)


def _between(
    observed: Quantity,
    expected: str,
    bounds: Callable[[], Ends],
    others: Sequence[Quantity],
    *,
    strict: bool = False,
    tests: int = 1,
) -> Outcome:
    """Whether a quantity lies between two bounds; a measured score must with its whole interval, or without any of it.

    Args:
        observed: The quantity.
        expected: What the page says of the bounds.
        bounds: Both, None for none; called where all quantities are known.
        others: What the bounds are made of.
        strict: Whether the bounds are outside: a difference, tested two-sided at 5 %. Else by two one-sided tests at
            5 %, as the analysis plan calls two scores comparable.
        tests: How many such tests one claim may choose from.
    """

    def inside(value: Fraction) -> bool:
        low, high = bounds()
        if strict:
            return (low is None or value > low) and (high is None or value < high)
        return (low is None or value >= low) and (high is None or value <= high)

    doubts = [doubt for quantity in (observed, *others) for doubt in quantity.doubts]
    outcome = _tested(observed, expected, lambda: inside(observed.known()), *others)
    if not doubts or outcome.verdict == UNDECIDED:
        return outcome
    confidence = 1 - LEVEL / tests if strict else 1 - 2 * LEVEL
    half = Fraction(together(doubts).half_width(confidence))
    first, last = observed.known() - half, observed.known() + half
    found = f"{outcome.found} ({100 * confidence:.3g} %: {_short(first)} to {_short(last)})"
    low, high = bounds()
    if inside(first) and inside(last):
        return replace(outcome, verdict=HOLDS, found=found)
    short = low is not None and (last <= low if strict else last < low)
    beyond = high is not None and (first >= high if strict else first > high)
    if short or beyond:
        return replace(outcome, verdict=FAILS, found=found)
    testable = any(doubt.testable for doubt in doubts)
    why = "; ".join(unique([doubt.why for doubt in doubts]))
    return replace(outcome, verdict=UNDECIDED if testable else NOT_TESTABLE, found=found, why=why)


def _short(value: Fraction) -> str:
    return f"{float(value):.3g}".replace("-", "−")


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
