"""What a check says of a claim, and how the parts of a claim make one verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bench.report.claims.sources import Claim
from bench.report.claims.values import Need, Power, Quantity, Source, unique

HOLDS, FAILS, UNDECIDED, NOT_TESTABLE = "holds", "fails", "undecided", "not testable"
VERDICTS = (HOLDS, FAILS, UNDECIDED, NOT_TESTABLE)
Kind = Literal["arithmetic", "data", "costs", "timing", "published", "records", "granularity"]
KINDS: tuple[Kind, ...] = ("arithmetic", "data", "costs", "timing", "published", "records", "granularity")
# Which part of a claim decides, where its parts are of several kinds: the first of these that there is.
DECIDING = (FAILS, UNDECIDED, NOT_TESTABLE, HOLDS)


@dataclass(frozen=True)
class Outcome:
    """What a check says of a claim.

    Attributes:
        verdict: One of `VERDICTS`.
        expected: What would have to be observed.
        found: What was observed, with its formula.
        sources: Where it comes from, one line each.
        needs: For `undecided`: the commands that would decide it, or may.
        powers: What these would find; empty where they decide for certain.
        why: For `not testable`: the reason. For `undecided` without a command: why none is left.
    """

    verdict: str
    expected: str = ""
    found: str = ""
    sources: tuple[Source, ...] = ()
    needs: tuple[Need, ...] = ()
    powers: tuple[Power, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Check:
    """One part of a claim: the kind of evidence and what it says; all parts must hold."""

    kind: Kind
    outcome: Outcome


@dataclass(frozen=True)
class Beside:
    """A number that is printed beside a claim and decides nothing."""

    label: str
    quantity: Quantity


Parts = Iterator[Check | Beside]


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict.

    Attributes:
        claim: As it was listed.
        kind: Of the check that decides, or `not testable`.
        outcome: Verdict, expected, observed, sources.
        reading: Which reading of the claim is judged, "" where there is only one.
        beside: What is printed beside and decides nothing, one line each.
    """

    claim: Claim
    kind: str
    outcome: Outcome
    reading: str = ""
    beside: tuple[str, ...] = ()


def settled(item: Judged) -> bool:
    """Whether a claim holds or fails."""
    return item.outcome.verdict in (HOLDS, FAILS)


def every(*outcomes: Outcome) -> Outcome:
    """Every part must hold: one that fails decides, then one that is open, then one that cannot be tested."""
    return _joined(outcomes, DECIDING, "; ")


def either(*outcomes: Outcome) -> Outcome:
    """One part that holds is enough: the readings of an ambiguous claim."""
    return _joined(outcomes, (HOLDS, UNDECIDED, FAILS, NOT_TESTABLE), "; or ")


def some(*outcomes: Outcome) -> Outcome:
    """One of several things is enough, and it fails only where each of them does."""
    return _joined(outcomes, (HOLDS, UNDECIDED, NOT_TESTABLE, FAILS), "; or ")


def possible(outcome: Outcome, why: str) -> Outcome:
    """A necessary condition: where it fails the claim fails, where it holds the rest cannot be tested."""
    if outcome.verdict == HOLDS:
        return replace(outcome, verdict=NOT_TESTABLE, why=f"possible, and no more can be tested: {why}")
    return outcome


def sufficient(outcome: Outcome, why: str) -> Outcome:
    """A sufficient condition: where it holds the claim holds, where it fails nothing follows."""
    if outcome.verdict == FAILS:
        return replace(outcome, verdict=NOT_TESTABLE, why=why)
    return outcome


def _joined(outcomes: Sequence[Outcome], order: Sequence[str], mark: str) -> Outcome:
    verdict = next(name for name in order if any(outcome.verdict == name for outcome in outcomes))
    deciding = [outcome for outcome in outcomes if outcome.verdict == verdict]
    if verdict == HOLDS:
        outcomes = deciding  # of several readings, those that hold; where all must, that is all
    agreed = len(deciding) == len(outcomes)
    texts = [item.found if agreed else f"{item.found} [{item.verdict}]" for item in outcomes if item.found]
    return Outcome(
        verdict,
        mark.join(unique([outcome.expected for outcome in outcomes if outcome.expected])),
        "; ".join(unique(texts)),
        unique([line for outcome in outcomes for line in outcome.sources]),
        unique([line for outcome in deciding for line in outcome.needs]),
        unique([power for outcome in deciding for power in outcome.powers]),
        "; ".join(unique([outcome.why for outcome in deciding if outcome.why])),
    )
