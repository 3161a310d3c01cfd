"""The claims audit: each of the paper's claims with the verdict that its check computes.

`claims.csv` lists the claims with their quotes; `paper/` judges them, one function a claim. No verdict is written down
anywhere: a check computes it from counted costs, data sets' cards, published numbers, records and the quotes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from bench.errors import RecordError
from bench.report.claims.paper import CHECKS
from bench.report.claims.paper.untestable import REASONS
from bench.report.claims.sources import Claim, Sources, read_claims
from bench.report.claims.values import Printed, Source, unique
from bench.report.claims.verdict import (
    DECIDING,
    HOLDS,
    KINDS,
    NOT_TESTABLE,
    VERDICTS,
    Beside,
    Check,
    Judged,
    Kind,
    Outcome,
    every,
    settled,
)

KIND_WORDS: dict[Kind, str] = {
    "arithmetic": "arithmetic",
    "data": "data",
    "costs": "counted costs",
    "timing": "timings",
    "published": "published numbers",
    "records": "runs of this suite",
    "granularity": "printed digits",
}


def judge(sources: Sources) -> list[Judged]:
    """Every claim with its verdict, in the given order.

    Raises:
        RecordError: If a check needs what no file holds.
    """
    return [judge_claim(claim, sources) for claim in read_claims()]


def judge_claim(claim: Claim, sources: Sources) -> Judged:
    """One claim's verdict.

    Raises:
        RecordError: If its check needs what no file holds.
    """
    if claim.id in REASONS:
        return Judged(claim, NOT_TESTABLE, Outcome(NOT_TESTABLE, why=REASONS[claim.id]))
    check = CHECKS[claim.id]
    try:
        parts = list(check.parts(sources))
    except RecordError as error:
        raise RecordError(f"the check of {claim.id}: {error}") from None
    checks = sorted((part for part in parts if isinstance(part, Check)), key=lambda part: KINDS.index(part.kind))
    beside = [part for part in parts if isinstance(part, Beside)]
    outcome = every(*(part.outcome for part in checks))
    where = [line for part in beside for line in part.quantity.sources if line not in outcome.sources]
    outcome = replace(outcome, sources=unique([*outcome.sources, *map(_beside, where)]))
    lines = tuple(f"{part.label}: {part.quantity.worked()}" for part in beside)
    return Judged(claim, _deciding_kind(checks, outcome), outcome, check.reading, lines)


def _beside(source: Source) -> Source:
    """Evidence that decides nothing, marked."""
    return replace(source, remark=" (beside)") if isinstance(source, Printed) else f"{source} (beside)"


def _deciding_kind(checks: Sequence[Check], outcome: Outcome) -> str:
    """The kind of the part that decides; where all hold, the strongest kind of evidence, records after costs."""
    if outcome.verdict == HOLDS:
        return checks[-1].kind
    return next(part.kind for verdict in DECIDING for part in checks if part.outcome.verdict == verdict)


def facts(judged: Iterable[Judged]) -> list[list[Judged]]:
    """The claims by what they say: those whose checks expect the same, of the same evidence, are one fact.

    A claim without a check is a fact of its own.
    """
    groups: dict[tuple[object, ...], list[Judged]] = {}
    for item in judged:
        outcome = item.outcome
        evidence = tuple(line for line in outcome.sources if not isinstance(line, Printed))
        said = (item.kind, outcome.verdict, outcome.expected, outcome.found, evidence)
        groups.setdefault(said if outcome.expected else (item.claim.id,), []).append(item)
    return list(groups.values())


def headline(judged: Sequence[Judged]) -> str:
    """How many claims hold, fail or stay open, and how many are decided by each kind of check."""
    holds, fails, undecided, untestable = (sum(item.outcome.verdict == name for item in judged) for name in VERDICTS)
    kinds = []
    for kind in KINDS:
        own = [item for item in judged if item.kind == kind]
        kinds += [f"{KIND_WORDS[kind]} {sum(map(settled, own))} of {len(own)}"] if own else []
    return (
        f"Of {len(judged)} sentences ({len(facts(judged))} different facts) {holds} hold, {fails} fail, {undecided} "
        f"are undecided, {untestable} cannot be tested; decided by {', '.join(kinds)}"
    )
