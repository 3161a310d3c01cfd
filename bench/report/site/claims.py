"""The page of the claims: one line a claim that opens, filters in the address."""

from __future__ import annotations

from collections.abc import Sequence

from bench.report.claims.pages import ABOUT, KIND_MEANING, MEANING, TITLE, decided_text, details, numbers_text, repeated
from bench.report.claims.verdict import VERDICTS, Judged
from bench.report.site.layout import Page, html

__all__ = ["claims_page"]


def claims_page(judged: Sequence[Judged], line: str) -> dict[str, bytes]:
    """`claims.html` of claims that were judged."""
    kinds = [kind for kind in KIND_MEANING if any(item.kind == kind for item in judged)]
    same = repeated(judged)
    return html(
        Page("claims.html", TITLE, line),
        "claims.html.jinja",
        about=ABOUT,
        meaning=MEANING,
        kinds={kind: KIND_MEANING[kind] for kind in kinds},
        counts={kind: numbers_text([item for item in judged if item.kind == kind]) for kind in kinds},
        totals=numbers_text(judged),
        decided=decided_text(judged),
        verdicts=VERDICTS,
        judged=judged,
        details={item.claim.id: details(item, same) for item in judged},
    )
