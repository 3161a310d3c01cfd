"""What a check of a claim works with: exact quantities with their formula and sources, and outcomes.

All arithmetic is in fractions: a printed 8.5 is 17/2, so that a verdict never turns on a float's last bit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from bench.errors import RecordError

HOLDS, FAILS, UNDECIDED, NOT_TESTABLE = "holds", "fails", "undecided", "not testable"
VERDICTS = (HOLDS, FAILS, UNDECIDED, NOT_TESTABLE)
SIGNS = {"+": "+", "-": "−", "*": "×", "/": "/"}
LOOSE, TIGHT = 1, 2  # how strongly a formula's outermost sign binds; a bare number binds more than any


@dataclass(frozen=True)
class Quantity:
    """A number with the way to it.

    Attributes:
        value: None where nothing at hand gives it.
        formula: The number as in a formula: `8.5`, or `(14.5 − 8.5) / 14.5`.
        unit: Behind the number, "" for none.
        decimals: Digits behind the point as printed or counted, None where there is no such thing.
        binding: How strongly the formula's outermost sign binds.
        sources: Where it comes from, one line each.
        needs: The commands that would give it.
    """

    value: Fraction | None
    formula: str = ""
    unit: str = ""
    decimals: int | None = None
    binding: int = 9
    sources: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

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


@dataclass(frozen=True)
class Outcome:
    """What a check says of a claim.

    Attributes:
        verdict: One of `VERDICTS`.
        expected: What would have to be found.
        found: What was found, with its formula.
        sources: Where it comes from, one line each.
        needs: For `undecided`: the commands that would decide it.
        why: For `not testable`: the reason.
    """

    verdict: str
    expected: str = ""
    found: str = ""
    sources: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    why: str = ""


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


def unique(lines: Sequence[str]) -> tuple[str, ...]:
    """Lines in order, each once."""
    return tuple(dict.fromkeys(lines))


def leaf(value: Fraction | int, source: str, *, unit: str = "", decimals: int | None = None) -> Quantity:
    """A quantity as a source gives it."""
    number = Fraction(value)
    return Quantity(number, show(number, decimals), unit, decimals, sources=(source,))


def absent(*needs: str) -> Quantity:
    """A quantity that nothing at hand gives, and what would."""
    return Quantity(None, "?", needs=needs)


def combine(first: Quantity, sign: str, second: Quantity) -> Quantity:
    """The sum, difference, product or quotient of two quantities, with its formula.

    Raises:
        RecordError: For a division by zero.
    """
    binding = LOOSE if sign in "+-" else TIGHT
    right = second.binding <= binding if sign in "-/" else second.binding < binding
    texts = [_bracketed(first.formula, first.binding < binding), _bracketed(second.formula, right)]
    formula = f"{texts[0]} {SIGNS[sign]} {texts[1]}"
    made = Quantity(None, formula, _unit(first, sign, second), None, binding)
    made = replace(made, sources=unique([*first.sources, *second.sources]), needs=unique([*first.needs, *second.needs]))
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


def _bracketed(formula: str, wrap: bool) -> str:
    return f"({formula})" if wrap else formula


def _unit(first: Quantity, sign: str, second: Quantity) -> str:
    """Sums keep the unit; a product or quotient keeps one that stands alone, a quotient only the first's."""
    if sign in "+-":
        return first.unit if first.unit == second.unit else first.unit or second.unit
    if first.unit and second.unit:
        return ""
    return first.unit or (second.unit if sign == "*" else "")


def all_of(outcomes: Sequence[Outcome]) -> Outcome:
    """Every part must hold: one that fails decides, then one that is open, then one that cannot be tested."""
    return _joined(outcomes, (FAILS, UNDECIDED, NOT_TESTABLE, HOLDS), "; ")


def any_of(outcomes: Sequence[Outcome]) -> Outcome:
    """One part that holds is enough."""
    return _joined(outcomes, (HOLDS, UNDECIDED, FAILS, NOT_TESTABLE), "; or ")


def merged_commands(lines: Sequence[str]) -> tuple[str, ...]:
    """Commands that differ in one list of names alone, as one command."""
    commands = list(unique(lines))
    for option in ("--datasets", "--models"):
        groups: dict[str, list[str]] = {}
        for line in commands:
            match = re.search(rf"{option} (\S+)", line)
            names = match.group(1).split(",") if match else []
            groups.setdefault(
                line.replace(f"{option} {match.group(1)}", f"{option} {{}}") if match else line, []
            ).extend(names)
        commands = [line.replace("{}", ",".join(unique(names))) for line, names in groups.items()]
    return tuple(commands)


def merged_sources(lines: Sequence[str]) -> tuple[str, ...]:
    """`C069 prints 731` and `C069 prints 396` as one line."""
    groups: dict[str, list[str]] = {}
    for line in unique(lines):
        claim, _, printed = line.partition(" prints ")
        groups.setdefault(f"{claim} prints" if re.fullmatch(r"C\d{3}", claim) else line, []).append(printed)
    return tuple(f"{key} {', '.join(printed)}" if key.endswith(" prints") else key for key, printed in groups.items())


def _joined(outcomes: Sequence[Outcome], order: Sequence[str], mark: str) -> Outcome:
    verdict = next(name for name in order if any(outcome.verdict == name for outcome in outcomes))
    deciding = [outcome for outcome in outcomes if outcome.verdict == verdict]
    if verdict == HOLDS:
        outcomes = deciding  # of several readings, those that hold; where all must, that is all
    agreed = len(deciding) == len(outcomes)
    told = [
        outcome.found if agreed else f"{outcome.found} [{outcome.verdict}]" for outcome in outcomes if outcome.found
    ]
    return Outcome(
        verdict,
        mark.join(unique([outcome.expected for outcome in outcomes if outcome.expected])),
        "; ".join(unique(told)),
        unique([line for outcome in outcomes for line in outcome.sources]),
        unique([line for outcome in deciding for line in outcome.needs]),
        "; ".join(unique([outcome.why for outcome in deciding if outcome.why])),
    )
