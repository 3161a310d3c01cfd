"""`medbench report`: every table is a pure function of a results folder; same records, same bytes."""

from __future__ import annotations

from pathlib import Path

from bench.costs import read_costs
from bench.errors import RecordError
from bench.records import write_atomic
from bench.report.cost_tables import cost_rows, timing_rows
from bench.report.evidence import Evidence, first_line, gather
from bench.report.tables import STAMP, csv_bytes, run_rows, score_rows, table3_markdown, table3_rows
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
    if evidence.synthetic():
        tables |= _tidy(evidence, synthetic=True)
        reports |= _reports(evidence, synthetic=True)
    return tables, reports, evidence.notes


def _tidy(evidence: Evidence, *, synthetic: bool) -> dict[str, bytes]:
    prefix = f"{STAMP}_" if synthetic else ""
    records = evidence.synthetic() if synthetic else evidence.real()
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
    prefix = f"{STAMP}_" if synthetic else ""
    records = evidence.synthetic() if synthetic else evidence.real()
    head = f"# {STAMP + ' | ' if synthetic else ''}{first_line(records)}\n".encode()
    return {
        f"{prefix}table3.md": table3_markdown(evidence, synthetic=synthetic),
        f"{prefix}table3.csv": head + csv_bytes(table3_rows(records)),
    }


def build(results: Path, reports: Path) -> tuple[list[Path], list[str]]:
    """Write every generated file and remove what no longer belongs; returns the files and the notes.

    Raises:
        RecordError: If a folder is missing or refuses.
    """
    tables, pages, notes = render(results)
    written = []
    for folder, files in ((results / "tables", tables), (reports, pages)):
        for name, content in files.items():
            path = folder / name
            if not path.exists() or path.read_bytes() != content:
                write_atomic(path, content)
            written.append(path)
        for stray in _strays(folder, files):
            stray.unlink()
    return written, notes


def _strays(folder: Path, files: dict[str, bytes]) -> list[Path]:
    """Files of a folder that a report wrote once and that the records do not give; other people's stay."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()] if folder.is_dir() else []
    return [path for path in found if str(path.relative_to(folder)) not in files and _is_generated(path)]


def _is_generated(path: Path) -> bool:
    with path.open("rb") as stream:
        return path.parent.name == "tables" or b"medbench report" in stream.readline(400)


def compare(results: Path, reports: Path) -> list[str]:
    """What differs between the folders and what the records give, one line a file; empty when nothing does.

    Raises:
        RecordError: If the results folder is not there.
    """
    tables, pages, _ = render(results)
    wrong = []
    for folder, files in ((results / "tables", tables), (reports, pages)):
        for name, content in files.items():
            path = folder / name
            if not path.exists():
                wrong.append(f"{path}: missing; medbench report writes it")
            elif path.read_bytes() != content:
                wrong.append(f"{path}: is not what the records give; medbench report rewrites it")
        wrong.extend(f"{path}: no record gives this file" for path in _strays(folder, files))
    return wrong
