"""docs/findings.md: sentences from a template, numbers and conclusions from the tables."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd

from bench.report import findings

ROOT = Path(__file__).parents[2]
CLAIMS = (ROOT / "reports" / "claims.csv").read_bytes()


def tables() -> dict[str, bytes]:
    return {name: (ROOT / "results" / "tables" / name).read_bytes() for name in findings.TABLES}


def changed(content: bytes, column: str, value: float) -> bytes:
    frame = pd.read_csv(io.BytesIO(content))
    frame[column] = value
    return frame.to_csv(index=False).encode()


def test_a_number_of_the_page_is_that_of_the_table() -> None:
    """Another difference in `pairs.csv` is another one on the page."""
    content = tables()
    content["pairs.csv"] = changed(content["pairs.csv"], "difference", 0.4321)
    page = findings.render(content, CLAIMS).decode()
    assert "+0.432 (" in page
    assert "+0.432 (" not in findings.render(tables(), CLAIMS).decode()


def test_a_conclusion_needs_its_premise() -> None:
    """Where an interval lies above zero, the page does not say that there is no gain."""
    sentences = ("The records show no gain", "neither the parts nor CutMix bring a gain")
    content = tables()
    content["contrasts.csv"] = changed(content["contrasts.csv"], "ci_low", -0.1)
    assert all(sentence in findings.render(content, CLAIMS).decode() for sentence in sentences)
    content["contrasts.csv"] = changed(content["contrasts.csv"], "ci_low", 0.01)
    assert not any(sentence in findings.render(content, CLAIMS).decode() for sentence in sentences)


def test_without_records_there_are_no_numbers_and_no_conclusions() -> None:
    """Dashes, and not one sentence about gains."""
    heads = {name: content.partition(b"\n")[0] + b"\n" for name, content in tables().items()}
    page = findings.render(heads, CLAIMS).decode()
    assert "AUC – (–)" in page
    assert "no gain" not in page
    assert "bring a gain" not in page


def test_only_a_page_that_a_report_wrote_is_rewritten(tmp_path: Path) -> None:
    """Somebody's own docs/findings.md beside a reports folder stays."""
    reports = tmp_path / "reports"
    assert findings.findings_beside(reports) is None
    page = tmp_path / "docs" / "findings.md"
    page.parent.mkdir()
    page.write_text("# Mine\n", encoding="utf-8")
    assert findings.findings_beside(reports) is None
    page.write_text(f"{findings.BEGIN}\n", encoding="utf-8")
    assert findings.findings_beside(reports) == page
