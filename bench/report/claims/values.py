"""Exact numbers with the way to them: what a check compares.

All arithmetic is in fractions: a printed 8.5 is 17/2, so that a verdict never turns on a float's last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from functools import reduce
from typing import TypeVar

from bench.errors import RecordError
from bench.report.published.names import dataset_name
from bench.report.tables.missing import Command
from bench.stats.seed_variance import SeedVariance
from bench.stats.uncertainty import Uncertainty

SIGNS = {"+": "+", "-": "−", "*": "×", "/": "/"}
LOOSE, TIGHT = 1, 2  # how strongly a formula's outermost sign binds; a bare number binds more than any
WORDS = {"three": 3, "four": 4, "five": 5, "six": 6, "eleven": 11}
# The paper's accuracies by data set, in percent: the claim whose quote prints each.
ACCURACIES = {
    "bloodmnist": ("98.0", "C114"),
    "breastmnist": ("86.5", "C115"),
    "dermamnist": ("78.4", "C116"),
    "pneumoniamnist": ("94.2", "C118"),
    "organcmnist": ("93.7", "C113"),
    "organsmnist": ("83.1", "C117"),
}


Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Printed:
    """A number that a claim's quote prints, as evidence; `remark` follows it."""

    claim: str
    text: str
    remark: str = ""

    def __str__(self) -> str:
        return f"{self.claim} prints {self.text}{self.remark}"


Source = str | Printed  # where a number stands
Need = str | Command  # what would give evidence that is missing


@dataclass(frozen=True)
class Power:
    """Probability that the planned runs on a data set find a difference of the analysis plan's margin.

    Attributes:
        dataset: A MedMNIST flag.
        value: None where nothing tells yet; never NaN, which equals itself on one Python and not on another.
        at_most: Whether something that would lower it is not known yet.
    """

    dataset: str
    value: float | None
    at_most: bool = False

    @property
    def text(self) -> str:
        """`at most 9 % on BreastMNIST`."""
        if self.value is None:
            return f"not known on {dataset_name(self.dataset)}, whose classes are not counted"
        return f"{'at most ' if self.at_most else ''}{100 * self.value:.0f} % on {dataset_name(self.dataset)}"


@dataclass(frozen=True)
class Doubt:
    """How far a measured score may be from the truth; a comparison then needs its whole interval on one side.

    Attributes:
        found: In the unit of the score.
        why: Why nothing that is left to run decides where the interval does not.
        testable: Whether a run of the plan could have.
    """

    found: Uncertainty
    why: str
    testable: bool = True

    def scaled(self, factor: float) -> Doubt:
        """Of the score times a factor."""
        parts = tuple(SeedVariance(part.variance * factor**2, part.degrees) for part in self.found.seeds)
        return replace(self, found=Uncertainty(self.found.images * factor**2, parts))


def together(doubts: Iterable[Doubt]) -> Uncertainty:
    """Of a sum of scores that have nothing in common."""
    parts = [doubt.found for doubt in doubts]
    return Uncertainty(math.fsum(part.images for part in parts), tuple(seed for part in parts for seed in part.seeds))


@dataclass(frozen=True)
class Quantity:
    """A number with the way to it; sums, differences, products and quotients keep the formula.

    Attributes:
        value: None where no evidence gives it yet.
        formula: The number as in a formula: `8.5`, or `(14.5 − 8.5) / 14.5`.
        unit: Behind the number, "" for none.
        decimals: Digits behind the point as printed or counted, None where there is no such thing.
        binding: How strongly the formula's outermost sign binds.
        sources: Where it comes from, one line each.
        needs: The commands that would give it.
        powers: What these would find.
        doubts: How far it may be from the truth where it is a measured score; empty for what is counted or printed.
    """

    value: Fraction | None
    formula: str = ""
    unit: str = ""
    decimals: int | None = None
    binding: int = 9
    sources: tuple[Source, ...] = ()
    needs: tuple[Need, ...] = ()
    powers: tuple[Power, ...] = ()
    doubts: tuple[Doubt, ...] = ()

    def known(self) -> Fraction:
        """The value; asserts that there is one."""
        assert self.value is not None
        return self.value

    def text(self) -> str:
        """`13.21 M`; `not measured` where there is no value."""
        if self.value is None:
            return "not measured"
        return show(self.value, self.decimals) + (f" {self.unit}" if self.unit else "")

    def worked(self) -> str:
        """The formula and what it gives: `(14.5 − 8.5) / 14.5 = 41.38 %`."""
        if self.value is None or self.binding == 9:
            return self.text()
        return f"{self.formula} = {self.text()}"

    def __add__(self, other: Quantity | int) -> Quantity:
        return _combine(self, "+", other)

    def __sub__(self, other: Quantity | int) -> Quantity:
        return _combine(self, "-", other)

    def __mul__(self, other: Quantity | int) -> Quantity:
        return _combine(self, "*", other)

    def __truediv__(self, other: Quantity | int) -> Quantity:
        return _combine(self, "/", other)

    def __rsub__(self, other: int) -> Quantity:
        return bound(other) - self

    def __rmul__(self, other: int) -> Quantity:
        return bound(other) * self


def printed(text: str, claim: str) -> Quantity:
    """A number that a claim's quote prints, in digits or as a word; a test holds that it stands there, whole."""
    plain = text.replace(",", "")
    value = Decimal(WORDS.get(plain, plain))
    decimals = max(0, -int(value.as_tuple().exponent))
    return Quantity(Fraction(value), text, decimals=decimals, sources=(Printed(claim, text),))


def numbers(claim: str, *texts: str) -> list[Quantity]:
    """Numbers that a claim's quote prints."""
    return [printed(text, claim) for text in texts]


def summed(claim: str, *texts: str) -> Quantity:
    """The sum of numbers that a claim's quote prints."""
    return reduce(Quantity.__add__, numbers(claim, *texts))


def stated(dataset: str) -> Quantity:
    """The paper's accuracy of MedSpectralNet on a data set, in percent."""
    return replace(printed(*ACCURACIES[dataset]), unit="%")


def bound(value: float, unit: str = "") -> Quantity:
    """A number that a reading sets or a formula has; a bound's reason stands in the claim's reading."""
    return Quantity(Fraction(repr(value)), repr(value), unit)


def listed(claim: str, *names: str) -> Quantity:
    """How many things a claim's quote lists; a test holds that it names each."""
    return leaf(len(names), f"listed by {claim}: {', '.join(names)}")


def show(value: Fraction, decimals: int | None = None) -> str:
    """As many digits as were printed; else all digits where three or fewer stand behind the point, or four in all."""
    if decimals is not None:
        return f"{float(value):,.{decimals}f}".replace("-", "−")
    for digits in range(4):
        if (value * 10**digits).denominator == 1:
            return f"{float(value):,.{digits}f}".replace("-", "−")
    digits = max(1, 3 - _magnitude(abs(value)))
    return f"{float(value):,.{digits}f}".replace("-", "−")


def _magnitude(value: Fraction) -> int:
    """Power of ten of the leading digit: 0 for 8.5."""
    power = 0
    while value >= 10:
        value, power = value / 10, power + 1
    while 0 < value < 1:
        value, power = value * 10, power - 1
    return power


def unique(lines: Iterable[Kind]) -> tuple[Kind, ...]:
    """Lines in order, each once."""
    return tuple(dict.fromkeys(lines))


def leaf(value: Fraction | int, source: str, *, unit: str = "", decimals: int | None = None) -> Quantity:
    """A quantity as a source gives it."""
    number = Fraction(value)
    return Quantity(number, show(number, decimals), unit, decimals, sources=(source,))


def absent(*needs: Need, powers: tuple[Power, ...] = ()) -> Quantity:
    """A quantity that no evidence gives yet, the commands that would, and what these would find."""
    return Quantity(None, "?", needs=needs, powers=powers)


def fewer(ours: Quantity, theirs: Quantity) -> Quantity:
    """By how many percent ours is below theirs."""
    return replace(percent((theirs - ours) / theirs), unit="% fewer")


def gain(ours: Quantity, theirs: Quantity) -> Quantity:
    """Ours less theirs, both in percent: percentage points."""
    return replace(ours - theirs, unit="points")


def percent(ratio: Quantity) -> Quantity:
    """A ratio in percent; the formula stays that of the ratio."""
    doubts = tuple(doubt.scaled(100) for doubt in ratio.doubts)
    return replace(ratio, value=None if ratio.value is None else ratio.value * 100, unit="%", doubts=doubts)


def _combine(first: Quantity, sign: str, other: Quantity | int) -> Quantity:
    """The sum, difference, product or quotient of two quantities, with its formula.

    Raises:
        RecordError: For a division by zero.
    """
    second = other if isinstance(other, Quantity) else bound(other)
    binding = LOOSE if sign in "+-" else TIGHT
    right = second.binding <= binding if sign in "-/" else second.binding < binding
    texts = [_bracketed(first.formula, first.binding < binding), _bracketed(second.formula, right)]
    formula = f"{texts[0]} {SIGNS[sign]} {texts[1]}"
    made = Quantity(None, formula, _unit(first, sign, second), None, binding)
    made = replace(
        made,
        sources=unique([*first.sources, *second.sources]),
        needs=unique([*first.needs, *second.needs]),
        powers=unique([*first.powers, *second.powers]),
        doubts=_doubts(first, sign, second),
    )
    if first.value is None or second.value is None:
        return made
    operations: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
        "+": lambda a, b: a + b,
        "-": lambda a, b: a - b,
        "*": lambda a, b: a * b,
        "/": lambda a, b: a / b,
    }
    try:
        return replace(made, value=operations[sign](first.value, second.value))
    except ZeroDivisionError:
        raise RecordError(f"a check divides by zero: {formula}") from None


def _doubts(first: Quantity, sign: str, second: Quantity) -> tuple[Doubt, ...]:
    """Those of a sum or difference, or of a score times or over a number that is known exactly."""
    if sign in "+-" or not (first.doubts or second.doubts):
        return first.doubts + second.doubts
    exact, inexact = (first, second) if second.doubts else (second, first)
    assert not exact.doubts, "no comparison needs a product or ratio of two scores"
    assert sign == "*" or inexact is first, "no comparison needs the reciprocal of a score"
    factor = float(exact.known()) if sign == "*" else 1 / float(exact.known())
    return tuple(doubt.scaled(factor) for doubt in inexact.doubts)


def _bracketed(formula: str, wrap: bool) -> str:
    return f"({formula})" if wrap else formula


def _unit(first: Quantity, sign: str, second: Quantity) -> str:
    """Sums keep the unit; a product or quotient keeps one that stands alone, a quotient only the first's."""
    if sign in "+-":
        return first.unit if first.unit == second.unit else first.unit or second.unit
    if first.unit and second.unit:
        return ""
    return first.unit or (second.unit if sign == "*" else "")
