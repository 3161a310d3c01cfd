"""The claims audit: each of the paper's claims, what it was checked against, and the verdict that the check computes.

`claims/claims.csv` holds the claims with their quotes, `claims/checks.toml` how each is judged. No verdict is written
down anywhere: a check computes it from counted costs, data sets' cards, published numbers, records and the quotes.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from bench.errors import RecordError
from bench.report.claims.language import evaluate
from bench.report.claims.pages import csv_page, html_page, markdown_page
from bench.report.claims.sources import FOLDER, Claim, Sources, read_claims
from bench.report.claims.values import (
    FAILS,
    HOLDS,
    NOT_TESTABLE,
    UNDECIDED,
    VERDICTS,
    Outcome,
    Quantity,
    all_of,
    unique,
)
from bench.report.evidence import Evidence, first_line

KINDS = ("arithmetic", "data", "costs", "timing", "published", "records", "granularity")
KEYS = {*KINDS, "reading", "beside"}
# Which part of a claim decides, where its parts are of several kinds: the first of these that there is.
DECIDING = (FAILS, UNDECIDED, NOT_TESTABLE, HOLDS)


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict.

    Attributes:
        claim: As it was listed.
        kind: Of the check that decides, or `not testable`.
        outcome: Verdict, expected, found, sources.
        reading: Which reading of the claim is judged, "" where there is only one.
        beside: What is printed beside and decides nothing, one line each.
    """

    claim: Claim
    kind: str
    outcome: Outcome
    reading: str = ""
    beside: tuple[str, ...] = ()


def pages(found: list[Judged], evidence: Evidence) -> dict[str, bytes]:
    """`claims.md`, `claims.html` and `claims.csv` of claims that were judged."""
    line = first_line(evidence.finished(synthetic=False))
    return {
        "claims.md": markdown_page(found, line),
        "claims.html": html_page(found, line),
        "claims.csv": csv_page(found, line),
    }


def counts(found: list[Judged]) -> list[tuple[str, int]]:
    """(verdict, claims) in order, then (kind, claims) for the kinds that occur and are no verdict."""
    verdicts = Counter(item.outcome.verdict for item in found)
    kinds = Counter(item.kind for item in found)
    return [
        *((name, verdicts[name]) for name in VERDICTS),
        *((f"{name} check", kinds[name]) for name in KINDS if kinds[name]),
        *((("no check", kinds[NOT_TESTABLE]),) if kinds[NOT_TESTABLE] else ()),
    ]


def judge(sources: Sources) -> list[Judged]:
    """Every claim with its verdict, in the given order.

    Raises:
        RecordError: If a claim has no check, or a check asks for what no file holds.
    """
    checks, reasons = read_checks()
    return [judge_claim(claim, checks.get(claim.id), reasons.get(claim.id, ""), sources) for claim in read_claims()]


def judge_claim(claim: Claim, check: Mapping[str, Any] | None, reason: str, sources: Sources) -> Judged:
    """One claim's verdict.

    Args:
        claim: The claim.
        check: Its table in `checks.toml`, None where nothing can be tested.
        reason: Why nothing can be tested.
        sources: The evidence.
    """
    if check is None:
        return Judged(claim, NOT_TESTABLE, Outcome(NOT_TESTABLE, why=reason))
    parts = [(kind, _outcome(text, claim.id, sources)) for kind in KINDS for text in check.get(kind, ())]
    outcome = all_of([part for _, part in parts])
    kind = next(kind for verdict in DECIDING for kind, part in parts if part.verdict == verdict)
    if outcome.verdict == HOLDS:
        kind = parts[-1][0]  # all hold: the strongest kind of evidence, records last
    beside, where = [], list(outcome.sources)
    for label, text in check.get("beside", ()):
        quantity = evaluate(text, claim.id, sources)
        assert isinstance(quantity, Quantity), f"{claim.id}: what stands beside is a number, not a check"
        beside.append(f"{label}: {quantity.worked()}")
        where += [f"{line} (beside)" for line in quantity.sources if line not in outcome.sources]
    outcome = replace(outcome, sources=unique(where))
    return Judged(claim, kind, outcome, check.get("reading", ""), tuple(beside))


def _outcome(text: str, claim: str, sources: Sources) -> Outcome:
    outcome = evaluate(text, claim, sources)
    if not isinstance(outcome, Outcome):
        raise RecordError(f"the check of {claim} compares nothing: {text!r}")
    return outcome


@cache
def read_checks() -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The checks by claim, and the reasons of the claims that cannot be tested.

    Raises:
        RecordError: If a claim has none or two, or a key is unknown.
    """
    content = tomllib.loads((FOLDER / "checks.toml").read_text(encoding="utf-8"))
    bulk = content.pop("not_testable", {})
    listed = [(name, group["reason"]) for group in bulk.values() for name in group["ids"]]
    problems = [name for name, table in content.items() if set(table) - KEYS or not set(table) & set(KINDS)]
    wanted = Counter(claim.id for claim in read_claims())
    have = Counter([*content, *(name for name, _ in listed)])
    wrong = sorted({*problems, *(wanted - have), *(have - wanted)})
    if wrong:
        raise RecordError(f"checks.toml needs one table of known keys for each claim; look at {', '.join(wrong)}")
    return content, dict(listed)
