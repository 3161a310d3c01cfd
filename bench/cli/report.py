"""`medbench report`, `verify`, `compare`, `explain`: what records say. Works without torch; heavy imports inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Json, Plugins, Results, split_names


def report(
    results: Results = Path("results"),
    reports: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("reports"),
    check: Annotated[bool, typer.Option("--check", help="Only compare; exit code 1 if a file differs.")] = False,
    figures_for: Annotated[str, typer.Option(help="Models whose curves and matrices are drawn.")] = "medspectralnet",
    plugin: Plugins = [],  # noqa: B006
) -> None:
    """Rebuild every table, figure and page of a results folder; --check only compares."""
    from bench.cli.console import err, out
    from bench.report import build, compare
    from models import get_spec, load_plugin

    for path in plugin:
        load_plugin(path)
    models = tuple(split_names(figures_for))
    for model in models:
        get_spec(model)
    if check:
        wrong = compare(results, reports, models)
        for line in wrong:
            err.print(line, markup=False, soft_wrap=True)
        number = f"{len(wrong)} file{'s' if len(wrong) > 1 else ''} differ{'' if len(wrong) > 1 else 's'}"
        out.print("reports and tables are what the records give" if not wrong else number)
        raise typer.Exit(1 if wrong else 0)
    outcome = build(results, reports, models)
    for note in outcome.notes:
        err.print(note, markup=False, soft_wrap=True)
    out.print(outcome.summary(), markup=False, soft_wrap=True)


def verify(
    results: Results = Path("results"),
    scores: Annotated[bool, typer.Option("--scores", help="Recompute every metric from the predictions.")] = False,
    against: Annotated[Path | None, typer.Option(help="The folder that stands: nothing of it may change.")] = None,
    changed: Annotated[Path | None, typer.Option(help="Paths that a pull request touches, one a line.")] = None,
    as_json: Json = False,
) -> None:
    """Check schema, digests, names and files of every record; exit code 1 if something is wrong."""
    from bench.check.contribution import check_contribution, outside
    from bench.check.verify import verify as check
    from bench.cli.console import err, out, print_json
    from bench.errors import BenchError

    findings = check(results, scores=scores)
    contribution = check_contribution(results, against) if against is not None else None
    problems = findings.problems + (contribution.problems if contribution else [])
    if changed is not None:
        try:
            problems += outside(changed.read_text(encoding="utf-8").splitlines())
        except (OSError, UnicodeDecodeError) as error:
            raise BenchError(
                f"Cannot read {changed}: {error}; --changed takes what git diff --name-only prints"
            ) from None
    if as_json:
        print_json(
            {**findings.as_dict(), "problems": problems, "notices": contribution.notices if contribution else []}
        )
    else:
        for problem in problems:
            err.print(problem, markup=False, soft_wrap=True)
        for line in (*findings.bands, *(contribution.notices if contribution else [])):
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
    from bench.check.compare.folders import compare_folders
    from bench.cli.console import err, out, print_json, print_table

    found = compare_folders(a, b, record=record)
    if as_json:
        print_json(found.as_dict())
    else:
        print_table(
            "runs in both, B minus A", [row.as_row() for row in found.rows if not row.verdict.startswith("only")]
        )
        print_table("cells", [cell.as_row() for cell in found.cells])
        for note in found.notes:
            err.print(note, markup=False, soft_wrap=True)
        for path in found.written:
            out.print(f"written: {path}", markup=False, soft_wrap=True)
        out.print(found.summary(), soft_wrap=True)
    raise typer.Exit(found.exit_code(strict=strict))


def explain(
    table: Annotated[str, typer.Argument(help="table2, table3 or table4.")],
    model: Annotated[str, typer.Option(help="A model of the table.")],
    dataset: Annotated[str, typer.Option(help="A MedMNIST flag; table4 has none.")] = "",
    metric: Annotated[str, typer.Option(help="auc or acc; of table4: params, thop, ptflops or aten.")] = "",
    protocol: Annotated[str, typer.Option(help="One protocol; else each that has records.")] = "",
    part: Annotated[str, typer.Option(help="test or test_twin_free.")] = "test",
    results: Results = Path("results"),
    plugin: Plugins = [],  # noqa: B006
) -> None:
    """Print the records, seeds, digests, commit and hardware that a table's cell comes from."""
    from bench.errors import BenchError
    from bench.report.explain.scores import explain as lines_of
    from models import load_plugin

    for path in plugin:
        load_plugin(path)
    if bool(dataset) == (table == "table4"):
        raise BenchError("--dataset is wanted for table2 and table3, and table4 has none: its costs are of a model")
    metric = metric or ("params" if table == "table4" else "auc")
    for line in lines_of(
        results, table=table, model=model, dataset=dataset, metric=metric, protocol=protocol or None, part=part
    ):
        print(line)
