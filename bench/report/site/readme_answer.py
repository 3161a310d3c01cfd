"""The answer so far in five lines: what is measured, what is separated and what is not, what is missing. Markdown.

README.md shows it between two marks, with the forest plot; `reports/summary.md` begins with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.data.names import PAPER_DATASETS
from bench.plan.selection import expand_study
from bench.records.run_record import Record
from bench.report.analysis.analyse import Analysis
from bench.report.analysis.pairs import Pair
from bench.report.evidence import Evidence
from bench.report.links import Links
from bench.report.tables.score_cells import smallest_text
from bench.report.tidy import grouped, model_order
from bench.stats.power import POWER

BEGIN, END = "<!-- measured: written by medbench report -->", "<!-- measured: end -->"
STUDIES = ("lite", "table2", "ablation", "lightweight", "table3")
SEPARATED = ("higher", "lower")


def answer_text(evidence: Evidence, analysis: Analysis, claims: str, links: Links) -> str:
    """Five lines at most and the forest plot, of the real records.

    Args:
        evidence: The results folder.
        analysis: The statistics of its real records.
        claims: How many of the paper's claims got which verdict, and by what; "" for no such line.
        links: Of the page that shows it.
    """
    records = evidence.finished(synthetic=False)
    primary = [pair for pair in analysis.pairs if pair.family == "primary"]
    lines = [_measured(records), *_separated(primary, links), *_resolution(analysis, primary)]
    lines += [*_claims(claims, links), *_missing(records)]
    forest = [
        f"![Differences in AUC with intervals]({links.to_report(f'figures/forest__{protocol}.svg')})"
        for protocol in dict.fromkeys(pair.protocol for pair in primary)
    ]
    return "\n".join([*(f"- {line}" for line in lines), *(["", *forest] if forest else [])])


def study_counts(records: Iterable[Record]) -> list[tuple[str, int, int]]:
    """(study, runs that are done, runs that it plans)."""
    done = {(r.protocol, r.model, r.dataset, r.seed) for r in records}
    runs = {study: expand_study(study) for study in STUDIES}
    return [(s, sum((r.protocol, r.model, r.dataset, r.seed) in done for r in runs[s]), len(runs[s])) for s in STUDIES]


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


def _measured(records: Sequence[Record]) -> str:
    have = {record.dataset for record in records}
    measured = [name for name in PAPER_DATASETS if name in have]
    absent = [name for name in PAPER_DATASETS if name not in have]
    text = f"**Measured**: {len(records)} finished runs of {len({r.model for r in records})} models, "
    text += f"on {len(measured)} of the paper's six sets ({', '.join(measured) or 'none'})"
    return f"{text}; no record on {', '.join(absent)}." if absent else f"{text}."


def _separated(primary: Sequence[Pair], links: Links) -> list[str]:
    """Which baselines the corrected tests tell from MedSpectralNet, and how many they do not."""
    if not primary:
        return []
    parts = []
    for (protocol, dataset), pairs in grouped(primary, lambda pair: (pair.protocol, pair.dataset)).items():
        by_verdict = grouped(pairs, lambda pair: pair.verdict)
        found = {verdict: _names(by_verdict.get(verdict, [])) for verdict in SEPARATED}
        open_ = len(pairs) - sum(len(by_verdict.get(verdict, [])) for verdict in SEPARATED)
        parts.append(
            f"on {dataset} (`{protocol}`) higher than {found['higher']}, lower than {found['lower']}, "
            f"not separated from {open_} of {len(pairs)}"
        )
    named = "**MedSpectralNet's AUC**, by tests corrected for all that are planned"
    return [f"{named}: {'; '.join(parts)} ([Table 3]({links.to_report('table3.md')}))."]


def _names(pairs: Iterable[Pair]) -> str:
    return ", ".join(f"`{name}`" for name in sorted((pair.baseline for pair in pairs), key=model_order)) or "none"


def _resolution(analysis: Analysis, primary: Sequence[Pair]) -> list[str]:
    """How small a difference the comparisons could have found."""
    cells = {(pair.protocol, pair.dataset) for pair in primary}
    smallest: dict[tuple[str, str], str] = {}
    for row in analysis.resolution:
        if (row.protocol, row.dataset) in cells and (row.metric, row.part) == ("auc", "test"):
            smallest.setdefault((row.protocol, row.dataset), f"{smallest_text(row)} on {row.dataset}")
    if not smallest:
        return []
    return [f"**Smallest difference in AUC** that is found with a power of {POWER:g}: {'; '.join(smallest.values())}."]


def _claims(claims: str, links: Links) -> list[str]:
    return [f"**The paper's claims**: [{claims}]({links.to_report('claims.md')})."] if claims else []


def _missing(records: Sequence[Record]) -> list[str]:
    parts = [f"{done} of {runs} runs of `{study}`" for study, done, runs in study_counts(records) if done < runs]
    return [f"**Not all is run**: {', '.join(parts)}; `./run_all.sh STUDY` does the rest."] if parts else []
