"""Evidence that the tests of the claims audit share: the committed counts and cards, and an analysis of no runs."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import pandas as pd

from bench.report.analysis import analyse as tables
from bench.report.analysis.analyse import Analysis
from bench.report.analysis.contrasts import CONTRASTS
from bench.report.analysis.resolution import CHECKS, RESOLUTION
from bench.report.claims.judge import judge_claim
from bench.report.claims.sources import Sources, collect, read_claims
from bench.report.claims.verdict import Judged
from bench.report.evidence import Evidence
from bench.report.tidy_costs import TIMING_COLUMNS

RESULTS = Path(__file__).parents[2] / "results"
CLAIMS = {claim.id: claim for claim in read_claims()}
EMPTY = Analysis(
    cells=pd.DataFrame(columns=tables.CELLS),
    pairs=pd.DataFrame(columns=tables.PAIRS),
    mcnemar=pd.DataFrame(columns=tables.MCNEMAR),
    classes=pd.DataFrame(columns=tables.CLASSES),
    contrasts=pd.DataFrame(columns=CONTRASTS),
    resolution=pd.DataFrame(columns=RESOLUTION),
    published_checks=pd.DataFrame(columns=CHECKS),
)


@cache
def without_runs() -> Sources:
    """The committed costs and cards and the published numbers; no run, no timing."""
    found = collect(Evidence(RESULTS), EMPTY)
    return dataclasses.replace(found, timings=pd.DataFrame(columns=TIMING_COLUMNS))


def judged(sources: Sources, claim: str) -> Judged:
    return judge_claim(CLAIMS[claim], sources)


def verdict(sources: Sources, claim: str) -> str:
    return judged(sources, claim).outcome.verdict
