"""`medbench verify`, `compare`: is a results folder what it says. Works without torch; heavy imports inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Json, Results


def verify(
    results: Results = Path("results"),
    scores: Annotated[
        bool, typer.Option("--scores", help="Recompute every metric, compare predictions with histories.")
    ] = False,
    against: Annotated[Path | None, typer.Option(help="The folder that stands: nothing of it may change.")] = None,
    changed: Annotated[Path | None, typer.Option(help="Paths that a pull request touches, one a line.")] = None,
    as_json: Json = False,
) -> None:
    """Check records, files and measured evidence against each other; exit code 1 if something is wrong."""
    from bench import api
    from bench.check.contribution import outside
    from bench.cli.console import err, out, print_json
    from bench.errors import BenchError

    findings = api.verify(results, scores=scores)
    contribution = api.check_contribution(results, against) if against is not None else None
    problems = findings.problems + (contribution.problems if contribution else [])
    notices = findings.notices + (contribution.notices if contribution else [])
    if changed is not None:
        try:
            problems += outside(changed.read_text(encoding="utf-8").splitlines())
        except (OSError, UnicodeDecodeError) as error:
            raise BenchError(
                f"Cannot read {changed}: {error}; --changed takes what git diff --name-only prints"
            ) from None
    if as_json:
        print_json({**findings.as_dict(), "problems": problems, "notices": notices})
    else:
        for problem in problems:
            err.print(problem, markup=False, soft_wrap=True)
        for line in (*findings.bands, *notices):
            out.print(line, markup=False, soft_wrap=True)
        out.print(findings.summary())
        if contribution:
            out.print(contribution.summary())
    raise typer.Exit(1 if problems else 0)


def compare(
    a: Annotated[Path, typer.Argument(help="The reference.")],
    b: Annotated[Path, typer.Argument(help="The re-runs.")],
    record: Annotated[bool, typer.Option("--record", help="Write what each re-run showed to A/reruns/.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit code 1 unless all is bit-equal or equivalent.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare two results folders run by run: bit-equal, equivalent, not told apart, or differs (exit code 1)."""
    from bench import api
    from bench.cli.console import err, out, print_json, print_table

    comparison = api.compare(a, b, record=record)
    if as_json:
        print_json(comparison.as_dict())
    else:
        print_table(
            "runs in both, B minus A", [row.as_row() for row in comparison.rows if not row.verdict.startswith("only")]
        )
        print_table("cells", [cell.as_row() for cell in comparison.cells])
        for note in comparison.notes:
            err.print(note, markup=False, soft_wrap=True)
        for path in comparison.written:
            out.print(f"written: {path}", markup=False, soft_wrap=True)
        out.print(comparison.summary(), soft_wrap=True)
    raise typer.Exit(comparison.exit_code(strict=strict))
