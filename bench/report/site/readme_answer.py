"""The answer of the first page as Markdown, in five lines at most with the forest plot.

README.md shows it between two marks; `reports/summary.md` begins with it.
"""

from __future__ import annotations

from pathlib import Path

from bench.report.analysis.analyse import Analysis
from bench.report.evidence import Evidence
from bench.report.links import Links
from bench.report.site.answer import headline, the_answer

HOW_MUCH = "`medbench plan --study lite` says how long a study takes."
BEGIN, END = "<!-- measured: written by medbench report -->", "<!-- measured: end -->"


def answer_text(evidence: Evidence, analysis: Analysis, claims: str, links: Links) -> str:
    """Five lines at most and the forest plot, of the real records.

    Args:
        evidence: The results folder.
        analysis: The statistics of its real records.
        claims: How many of the paper's claims got which verdict, and by what; "" for no such line.
        links: Of the page that shows it.
    """
    found = the_answer(evidence, analysis, synthetic=False)
    pairs = headline(analysis.pairs)
    table = f" [Table 3]({links.to_report('table3.md')}), protocol `{pairs[0].protocol}`." if pairs else ""
    lines = {
        "Separated": " ".join(filter(None, (found.separated, found.caveats))) + table if found.separated else "",
        "Not separated": " ".join(filter(None, (found.open, found.resolution))),
        "Missing": f"{found.missing} {HOW_MUCH}" if found.missing else "",
        "The paper's claims": f"[{claims}]({links.to_report('claims.md')})." if claims else "",
        "Records": f"{evidence.counted(synthetic=False)}, each with its predictions.",
    }
    text = "\n".join(f"- **{name}**: {line}" for name, line in lines.items() if line)
    plot = links.to_report(f"figures/forest__{pairs[0].protocol}.svg") if pairs else ""
    return f"{text}\n\n![Differences in AUC with their intervals]({plot})" if plot else text


def into_readme(readme: str, answer: str) -> str:
    """README.md with the answer between its marks."""
    head, begin, rest = readme.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        return readme
    return f"{head}{BEGIN}\n\n{answer}\n\n{END}{tail}"


def readme_beside(reports: Path) -> Path | None:
    """The checkout's README.md that shows the answer, None where there is none."""
    path = reports.parent / "README.md"
    return path if path.is_file() and BEGIN in path.read_text(encoding="utf-8") else None
