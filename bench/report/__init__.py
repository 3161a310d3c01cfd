"""`medbench report`: every table is a pure function of a results folder; same records, same bytes."""

from __future__ import annotations

from pathlib import Path

from bench.costs import read_costs
from bench.errors import RecordError
from bench.report import table3
from bench.report.analysis import analyse
from bench.report.cost_tables import cost_rows, timing_rows
from bench.report.evidence import Evidence, gather
from bench.report.tables import STAMP, csv_bytes, run_rows, score_rows
from bench.sealed import write_atomic
from bench.timing import read_timings


def render(results: Path) -> tuple[dict[str, bytes], dict[str, bytes], list[str]]:
    """All generated files: those of `results/tables/`, those of `reports/`, and notes for a person.

    Raises:
        RecordError: If the folder is not there.
    """
    if not results.is_dir():
        raise RecordError(f"There is no results folder {results}; give another with --results")
    evidence = gather(results)
    tables = _tidy(evidence, synthetic=False) | _measured(results, evidence.notes)
    reports = _reports(evidence, synthetic=False)
    if evidence.finished(synthetic=True):
        tables |= _tidy(evidence, synthetic=True)
        reports |= _reports(evidence, synthetic=True)
    return tables, reports, evidence.notes


def _tidy(evidence: Evidence, *, synthetic: bool) -> dict[str, bytes]:
    prefix = f"{STAMP}_" if synthetic else ""
    records = evidence.finished(synthetic=synthetic)
    every = records + [record for record in evidence.unfinished if record.synthetic == synthetic]
    every.sort(key=lambda record: record.run)
    return {
        f"{prefix}scores.csv": csv_bytes(score_rows(records)),
        f"{prefix}runs.csv": csv_bytes(run_rows(every)),
    }


def _measured(results: Path, notes: list[str]) -> dict[str, bytes]:
    """Costs and timings, where any were measured; damaged and stale ones are left out and noted."""
    costs, cost_notes = read_costs(results)
    timings, timing_notes = read_timings(results)
    notes.extend((*cost_notes, *timing_notes))
    files = {}
    if costs:
        files["costs.csv"] = csv_bytes(cost_rows(costs))
    if timings:
        files["timings.csv"] = csv_bytes(timing_rows(timings))
    return files


def _reports(evidence: Evidence, *, synthetic: bool) -> dict[str, bytes]:
    return table3.render(evidence, analyse(evidence, synthetic=synthetic), synthetic=synthetic)


def build(results: Path, reports: Path) -> tuple[list[Path], list[str]]:
    """Write every generated file and remove what no longer belongs; returns the files and the notes.

    Raises:
        RecordError: If a folder is missing or refuses.
    """
    files, strays, notes = _targets(results, reports)
    for path, content in files.items():
        if not path.exists() or path.read_bytes() != content:
            write_atomic(path, content)
    for stray in strays:
        stray.unlink()
    return list(files), notes


def compare(results: Path, reports: Path) -> list[str]:
    """What differs between the folders and what the records give, one line a file; empty when nothing does.

    Raises:
        RecordError: If the results folder is not there.
    """
    files, strays, _ = _targets(results, reports)
    wrong = []
    for path, content in files.items():
        if not path.exists():
            wrong.append(f"{path}: missing; medbench report writes it")
        elif path.read_bytes() != content:
            wrong.append(f"{path}: is not what the records give; medbench report rewrites it")
    return wrong + [f"{path}: no record gives this file" for path in strays]


def _targets(results: Path, reports: Path) -> tuple[dict[Path, bytes], list[Path], list[str]]:
    """What each generated file must hold, files that a report wrote once and no record gives, and the notes."""
    tables, pages, notes = render(results)
    files: dict[Path, bytes] = {}
    strays: list[Path] = []
    for folder, contents in ((results / "tables", tables), (reports, pages)):
        files |= {folder / name: content for name, content in contents.items()}
        found = sorted(folder.rglob("*")) if folder.is_dir() else []
        strays += [path for path in found if path.is_file() and path not in files and _is_generated(path)]
    return files, strays, notes


def _is_generated(path: Path) -> bool:
    """Whether a report wrote a file; other people's stay."""
    with path.open("rb") as stream:
        return path.parent.name == "tables" or b"medbench report" in stream.readline(400)
