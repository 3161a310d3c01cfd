"""The arithmetic of the claims audit: exact, shown with enough digits, and redone from the printed line."""

from __future__ import annotations

import math
import operator
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.report.claims.checks import rounds
from bench.report.claims.pages import merged_commands, merged_sources
from bench.report.claims.values import Printed, Quantity, bound, show
from bench.report.tables.missing import Command


@pytest.mark.parametrize(
    ("found", "printed", "digits", "expected"),
    [
        ("8.45", "8.5", None, "holds"),
        ("8.55", "8.5", None, "holds"),
        ("8.4499", "8.5", None, "fails"),
        ("55", "60", -1, "holds"),
        ("54.99", "60", -1, "fails"),
        ("65", "60", -1, "holds"),
    ],
)
def test_rounding_to_the_printed_digits(found: str, printed: str, digits: int | None, expected: str) -> None:
    """A half may have been rounded either way; nothing more."""
    decimals = len(printed.partition(".")[2])
    target = Quantity(Fraction(printed), printed, decimals=decimals)
    assert rounds(Quantity(Fraction(found), found), target, digits).verdict == expected


SIGNS = st.sampled_from([operator.add, operator.sub, operator.mul])
FORMULAS = st.recursive(
    st.integers(1, 50).map(bound),
    lambda inner: st.tuples(SIGNS, inner, inner).map(lambda drawn: drawn[0](*drawn[1:])),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(FORMULAS, st.integers(1, 9))
def test_a_formula_gives_its_value_when_it_is_redone(formula: Quantity, divisor: int) -> None:
    """Brackets stand where they must: what a reader computes from the printed line is the value."""
    whole = 7 - formula / divisor
    text = whole.formula.replace("−", "-").replace("×", "*")
    assert math.isclose(eval(text), float(whole.known()), rel_tol=1e-12, abs_tol=1e-9)  # numbers and signs alone


def test_numbers_show_enough_digits() -> None:
    """All digits where they are few, four where they are not; the sign is a minus sign."""
    values = ["0.2", "-3.1", "17092", "41.379310", "1.374123", "0.0051282", "100"]
    shown = [show(Fraction(value)) for value in values]
    assert shown == ["0.2", "−3.1", "17,092", "41.38", "1.374", "0.005128", "100"]


def test_commands_and_quotes_are_merged() -> None:
    """One command for many sets, one line for many numbers of a quote."""
    one, other = (Command("run", ("a",), (dataset,), " --seeds 0") for dataset in ("x", "y"))
    assert [str(need) for need in merged_commands([one, "mend it", other])] == [
        "medbench run --models a --datasets x,y --seeds 0",
        "mend it",
    ]
    assert merged_commands([one, replace(other, end="")]) == (one, replace(other, end=""))
    sources = [Printed("C001", "8.5"), "a file", Printed("C001", "60", " (beside)")]
    assert merged_sources(sources) == ("C001 prints 8.5, 60 (beside)", "a file")
