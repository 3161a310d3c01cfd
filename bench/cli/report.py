"""`medbench report`, `explain`: what records say. Works without torch; heavy imports inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Plugins, Results, load_plugins, split_names

TABLES = ("table2", "table3", "table4")  # whose cells can be explained; a test holds them equal to the report's


def report(
    results: Results = Path("results"),
    reports: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("reports"),
    check: Annotated[bool, typer.Option("--check", help="Only compare; exit code 1 if a file differs.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="With --check: any file that no report wrote, too.")] = False,
    against: Annotated[
        Path | None, typer.Option(help="Only print, as Markdown, what changes beside this results folder.")
    ] = None,
    documents: Annotated[
        bool, typer.Option("--documents", help="The generated parts of README.md and docs/findings.md, too.")
    ] = False,
    repository: Annotated[
        str, typer.Option(help="Address of the folder that holds results/, for reports hosted alone.")
    ] = "",
    figures_for: Annotated[str, typer.Option(help="Models whose curves and matrices are drawn.")] = "medspectralnet",
    plugin: Plugins = [],  # noqa: B006
) -> None:
    """Rebuild every table, figure and page of a results folder; --check only compares.

    What is written depends on the records alone; with --plugin, it is said which of its runs are stale.
    """
    from bench.machine.provenance import quiet_threads

    quiet_threads()  # its processes take the cores; threads of small matrix products would only wait for each other
    from bench import api
    from bench.cli.console import err, note, out
    from bench.errors import BenchError

    if strict and not check:
        raise BenchError("--strict is for --check; give both, or neither")
    load_plugins(plugin)
    if against is not None:
        if check or documents or repository:
            raise BenchError("--against only prints what changes; leave --check, --documents and --repository out")
        print(api.changes(against, results))
        return
    models = tuple(split_names(figures_for))
    if check:
        wrong = api.check_report(
            results, reports, models=models, strict=strict, documents=documents, repository=repository
        )
        for line in wrong:
            err.print(line, markup=False, soft_wrap=True)
        number = f"{len(wrong)} file{'s' if len(wrong) > 1 else ''} differ{'' if len(wrong) > 1 else 's'}"
        out.print("reports and tables are what the records give" if not wrong else number)
        raise typer.Exit(1 if wrong else 0)
    outcome = api.report(results, reports, models=models, documents=documents, repository=repository)
    for line in outcome.notes:
        note(line)
    for line in (outcome.summary(), *outcome.places()):
        out.print(line, markup=False, soft_wrap=True)


def explain(
    table: Annotated[str, typer.Argument(help=f"{', '.join(TABLES)}.")],
    model: Annotated[str, typer.Option(help="A model of the table; wanted.")] = "",
    dataset: Annotated[str, typer.Option(help="A MedMNIST flag; table4 has none.")] = "",
    metric: Annotated[str, typer.Option(help="auc or acc; of table4: params, thop, ptflops or aten.")] = "",
    protocol: Annotated[str, typer.Option(help="One protocol; else each that has records.")] = "",
    part: Annotated[str, typer.Option(help="test or test_twin_free.")] = "test",
    results: Results = Path("results"),
    plugin: Plugins = [],  # noqa: B006
) -> None:
    """Print the records, seeds, digests, commit and hardware that a table's cell comes from."""
    from bench import api
    from bench.errors import BenchError

    load_plugins(plugin)
    if table not in TABLES:
        raise BenchError(f"Unknown table {table!r}; there are {', '.join(TABLES)}")
    if not model:
        raise BenchError(f"--model is wanted: whose cell of {table}? medbench list models shows all")
    if bool(dataset) == (table == "table4"):
        raise BenchError("--dataset is wanted for table2 and table3, and table4 has none: its costs are of a model")
    if table == "table4" and (protocol or part != "test"):
        raise BenchError("--protocol and --part are of scores; table4 has none, its costs are of a model")
    metric = metric or ("params" if table == "table4" else "auc")
    for line in api.explain(
        results, table=table, model=model, dataset=dataset, metric=metric, protocol=protocol or None, part=part
    ):
        print(line)


def export(
    kind: Annotated[str, typer.Argument(metavar="FORMAT", help="croissant, every-eval-ever or eval-results.")],
    out: Annotated[Path, typer.Option("--out", help="A folder for the files.")] = Path("build/export"),
    results: Results = Path("results"),
    benchmark: Annotated[str, typer.Option(help="eval-results: the benchmark on the Hub, owner/name.")] = "",
    task: Annotated[str, typer.Option(help="eval-results: its tasks.")] = "{dataset}_{metric}_{protocol}",
    protocol: Annotated[str, typer.Option(help="eval-results: scores under this one alone.")] = "",
    source: Annotated[str, typer.Option(help="eval-results: address of the results.")] = "",
) -> None:
    """Write data cards or scores in a format that others read; real data and finished runs alone."""
    from bench import api
    from bench.cli.console import out as screen

    files = api.export(kind, out, results, benchmark=benchmark, task=task, protocol=protocol, source=source)
    screen.print(f"{len(files)} file{'s' if len(files) > 1 else ''} written to {out}", markup=False, soft_wrap=True)
