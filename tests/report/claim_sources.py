"""Evidence that the tests of the claims audit share: the committed counts and cards, and an analysis of no runs."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

from bench.report.analysis.analyse import Analysis
from bench.report.claims.judge import judge_claim
from bench.report.claims.sources import Sources, collect, read_claims
from bench.report.claims.verdict import Judged
from bench.report.evidence import Evidence

RESULTS = Path(__file__).parents[2] / "results"
CLAIMS = {claim.id: claim for claim in read_claims()}
EMPTY = Analysis()
MEASURED = ("breastmnist", "pneumoniamnist")


@cache
def without_runs() -> Sources:
    """The committed costs, two sets' cards and the published numbers; no run, no timing.

    Of the other sets what medmnist prints of them, whether somebody has measured them since or not.
    """
    found = collect(Evidence(RESULTS), EMPTY)
    printed = collect(Evidence(RESULTS / "nowhere"), EMPTY).data
    data = {name: found.data[name] if name in MEASURED else facts for name, facts in printed.items()}
    return dataclasses.replace(found, timings=(), data=data)


def judged(sources: Sources, claim: str) -> Judged:
    return judge_claim(CLAIMS[claim], sources)


def verdict(sources: Sources, claim: str) -> str:
    return judged(sources, claim).outcome.verdict
