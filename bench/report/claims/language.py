"""The small language of `claims/checks.toml`: calls of terms and checks, + - * /, comparisons, and nothing else."""

from __future__ import annotations

import ast
from fractions import Fraction
from typing import Any

from bench.errors import RecordError
from bench.report.claims.checks import CHECKS, compare
from bench.report.claims.runs import RECORD_CHECKS, RECORD_TERMS
from bench.report.claims.sources import Sources
from bench.report.claims.terms import TERMS
from bench.report.claims.values import Outcome, Quantity, combine

FUNCTIONS = {**TERMS, **RECORD_TERMS, **CHECKS, **RECORD_CHECKS}
SIGNS: dict[type, str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
}


def evaluate(expression: str, claim: str, sources: Sources) -> Outcome | Quantity:
    """What an expression of the checks' file gives.

    Args:
        expression: For instance `rounds(fewer(paper('8.5', 'C005'), paper('14.5', 'C007')), paper('60'), digits=-1)`.
        claim: The claim's id, whose quote `paper('60')` reads.
        sources: The evidence.

    Raises:
        RecordError: If it does not parse, uses what the language does not have, or asks for what no file holds.
    """
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except SyntaxError as error:
        raise RecordError(f"the check of {claim} does not parse: {error.msg} in {expression!r}") from None
    found = _value(tree.body, claim, sources)
    if not isinstance(found, Outcome | Quantity):
        raise RecordError(f"the check of {claim} is a bare value: {expression!r}; compare it with what was printed")
    return found


def _value(node: ast.expr, claim: str, sources: Sources) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float):
        return node.value
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS:
        arguments = [_value(part, claim, sources) for part in node.args]
        named = {str(part.arg): _value(part.value, claim, sources) for part in node.keywords}
        return FUNCTIONS[node.func.id](sources, claim, *arguments, **named)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _value(node.operand, claim, sources)
        return -value if isinstance(value, int | float) else combine(_quantity(0), "-", value)
    if isinstance(node, ast.BinOp) and type(node.op) in SIGNS:
        left, right = (_quantity(_value(part, claim, sources)) for part in (node.left, node.right))
        return combine(left, SIGNS[type(node.op)], right)
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in SIGNS:
        left, right = (_quantity(_value(part, claim, sources)) for part in (node.left, node.comparators[0]))
        return compare(left, SIGNS[type(node.ops[0])], right)
    raise RecordError(f"the check of {claim} has {ast.unparse(node)!r}; known: {', '.join(sorted(FUNCTIONS))}")


def _quantity(value: Any) -> Quantity:
    if isinstance(value, Quantity):
        return value
    return Quantity(Fraction(repr(value)), repr(value))
