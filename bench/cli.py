"""The command `medbench`: parse, call, print, exit code. Heavy imports stand inside the commands."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.measure import measure_app
from bench.options import (
    Datasets,
    Json,
    Models,
    Plugins,
    Protocols,
    Results,
    Seeds,
    StudyName,
    match_models,
    split_names,
)

if TYPE_CHECKING:
    from bench.plan import PlannedRun
    from bench.records import Run

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Is MedSpectralNet better than the models it was compared with? Plan, run, verify, report.",
)
app.add_typer(measure_app, name="measure")


class Listing(StrEnum):
    """What `medbench list` knows."""

    models = "models"
    datasets = "datasets"
    protocols = "protocols"
    studies = "studies"


class OverwriteChoice(StrEnum):
    """Which recorded runs are done again; the values are `bench.plan.Overwrite`'s."""

    never = "never"
    stale = "stale"
    failed = "failed"
    always = "always"


def _select(study: str, protocol: str, models: str, datasets: str, seeds: str, plugins: list[Path]) -> list[Run]:
    from bench.errors import BenchError
    from bench.plan import expand, expand_study, parse_seeds
    from models import load_plugin

    for plugin in plugins:
        load_plugin(plugin)
    if study:
        if protocol or models or datasets:
            raise BenchError("--study names its own protocols, models and data sets; leave the other selectors out")
        return expand_study(study)
    given = {"--protocol": protocol, "--models": models, "--datasets": datasets}
    missing = [name for name, value in given.items() if not value]
    if missing:
        raise BenchError(f"Nothing is selected: give --study, or {', '.join(missing)} too")
    return expand(split_names(protocol), match_models(models), split_names(datasets), parse_seeds(seeds))


def _rows(planned: list[PlannedRun]) -> list[dict[str, Any]]:
    return [
        {
            "run": item.run.run_id,
            "state": item.state,
            "estimate_s": None if item.estimated_seconds is None else round(item.estimated_seconds),
            "reason": item.reason,
        }
        for item in planned
    ]


def _summary(planned: list[PlannedRun]) -> str:
    from bench.console import duration

    counts = {state: sum(item.state == state for item in planned) for state in ("done", "missing", "stale", "failed")}
    todo = [item for item in planned if item.state != "done" and not item.obstacle]
    known = [item.estimated_seconds for item in todo if item.estimated_seconds is not None]
    text = ", ".join(f"{number} {state}" for state, number in counts.items())
    line = f"{len(planned)} runs: {text}"
    if todo:
        line += f". Estimate for what is not done: {duration(sum(known))} on one core (from recorded runs)"
        if len(known) < len(todo):
            line += f", and {len(todo) - len(known)} runs without a recorded run to go by"
    return line + "."


@app.command("list")
def list_(what: Listing, pattern: str = "*", plugin: Plugins = [], as_json: Json = False) -> None:  # noqa: B006
    """List models, datasets, protocols or studies."""
    from bench.console import print_json, print_table
    from bench.listing import list_rows
    from models import load_plugin

    for path in plugin:
        load_plugin(path)
    rows = list_rows(what.value, pattern)
    if as_json:
        print_json(rows)
    else:
        print_table(what.value, rows)


@app.command()
def plan(
    study: StudyName = "",
    protocol: Protocols = "",
    models: Models = "",
    datasets: Datasets = "",
    seeds: Seeds = "0",
    results: Results = Path("results"),
    plugin: Plugins = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Show which runs a selection means: done, missing, stale, failed, and what they should cost."""
    from bench.console import out, print_json, print_table
    from bench.plan import make_plan

    planned = make_plan(_select(study, protocol, models, datasets, seeds, plugin), results)
    if as_json:
        print_json(_rows(planned))
        return
    print_table("plan", _rows(planned))
    out.print(_summary(planned))


@app.command()
def run(
    study: StudyName = "",
    protocol: Protocols = "",
    models: Models = "",
    datasets: Datasets = "",
    seeds: Seeds = "0",
    results: Results = Path("results"),
    overwrite: OverwriteChoice = OverwriteChoice.never,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at once, each in a process of its own on one thread.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, or auto.")] = "auto",
    timeout: Annotated[float | None, typer.Option(help="Seconds after which a run is killed and fails.")] = None,
    data_root: Annotated[str | None, typer.Option(help="Folder of the npz files instead of $MEDMNIST_ROOT.")] = None,
    plugin: Plugins = [],  # noqa: B006
    ask: Annotated[bool, typer.Option("--ask", help="Print the estimate and ask before running.")] = False,
) -> None:
    """Run what is missing in a selection; exit code 1 if a run failed or was skipped."""
    from bench import launch as launching
    from bench.console import err, out, progress_for
    from bench.plan import choose, make_plan, optional_runs

    optional = optional_runs(study) if study else set()
    planned = make_plan(_select(study, protocol, models, datasets, seeds, plugin), results)
    chosen = choose(planned, overwrite.value)
    out.print(_summary(planned))
    if not chosen:
        _tell_left(planned)
        raise typer.Exit(1 if any(item.state == "failed" for item in planned) else 0)
    if ask and not typer.confirm("Go on?"):
        raise typer.Exit(0)
    how = launching.Launch(
        results=results,
        device=launching.choose_device(device),
        jobs=jobs,
        timeout=timeout,
        data_root=data_root,
        plugins=tuple(str(path.resolve()) for path in plugin),
        overwrite=overwrite is not OverwriteChoice.never,
    )
    with progress_for(len(chosen)) as progress:
        outcome = launching.execute(
            chosen, how, on_event=progress, on_skip=lambda line: err.print(f"skipped: {line}", markup=False)
        )
    done = sum(record.status == "done" for record in outcome.records)
    out.print(f"{done} done, {len(outcome.failed)} failed, {len(outcome.skipped)} skipped.")
    for record in outcome.failed:
        reason = record.failure.message if record.failure else ""
        err.print(f"failed: {record.run_id}: {reason}", markup=False)
    raise typer.Exit(1 if outcome.failed or set(outcome.skipped) - optional else 0)


def _tell_left(planned: list[PlannedRun]) -> None:
    from bench.console import err

    for item in sorted(planned, key=lambda item: item.state):
        if item.state in ("failed", "stale"):
            again = f"--overwrite {item.state} runs it again"
            err.print(f"{item.state}: {item.run.run_id}: {item.reason}; {again}", markup=False)


@app.command()
def report(
    results: Results = Path("results"),
    reports: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("reports"),
    check: Annotated[bool, typer.Option("--check", help="Only compare; exit code 1 if a file differs.")] = False,
) -> None:
    """Rebuild every table of a results folder; --check only compares."""
    from bench.console import err, out
    from bench.report import build, compare

    if check:
        wrong = compare(results, reports)
        for line in wrong:
            err.print(line, markup=False)
        out.print("reports and tables are what the records give" if not wrong else f"{len(wrong)} files differ")
        raise typer.Exit(1 if wrong else 0)
    written, notes = build(results, reports)
    for note in notes:
        err.print(note, markup=False)
    out.print(f"{len(written)} files written to {results / 'tables'} and {reports}")


@app.command()
def verify(
    results: Results = Path("results"),
    scores: Annotated[bool, typer.Option("--scores", help="Recompute every metric from the predictions.")] = False,
    as_json: Json = False,
) -> None:
    """Check schema, digests, names and files of every record; exit code 1 if something is wrong."""
    from bench.console import err, out, print_json
    from bench.verify import verify as check

    findings = check(results, scores=scores)
    if as_json:
        print_json(findings.as_dict())
    else:
        for problem in findings.problems:
            err.print(problem, markup=False)
        out.print(findings.summary())
    raise typer.Exit(1 if findings.problems else 0)


@app.command()
def check(
    model: Annotated[str, typer.Argument(help="A model's name, or a Python file with registered models.")] = "",
    plugin: Plugins = [],  # noqa: B006
    img_size: Annotated[int, typer.Option(help="Height and width to check at.")] = 64,
    as_json: Json = False,
) -> None:
    """Run the contract suite on a model or on all models of a file; exit code 1 if it does not hold."""
    from bench.console import print_json, print_table
    from bench.contract import check_model
    from bench.errors import BenchError
    from models import load_plugin

    names = [name for path in plugin for name in load_plugin(path)]
    if model.endswith(".py"):
        names += load_plugin(model)
    elif model:
        names.append(model)
    if not names:
        raise BenchError("Nothing to check: give a model's name, a file, or --plugin FILE")
    rows = [row for name in names for row in check_model(name, img_size=img_size)]
    if as_json:
        print_json(rows)
    else:
        print_table("contract", rows)
    raise typer.Exit(1 if any(row["holds"] == "no" for row in rows) else 0)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Tell what this machine has: packages, device, data sets, and what to do about what is missing."""
    from bench.console import print_json, print_table
    from bench.doctor import examine

    rows = examine()
    if as_json:
        print_json(rows)
    else:
        print_table("doctor", rows)
    raise typer.Exit(1 if any(row["state"] == "missing" for row in rows) else 0)


def main() -> None:
    """Entry point: one line and exit code 2 for what a user can fix, 130 or 143 for an interruption."""
    from bench import provenance

    provenance.quiet_threads()
    try:
        app(standalone_mode=True)
    except Exception as error:
        sys.exit(_explain(error))


def _explain(error: Exception) -> int:
    from bench.errors import BenchError, Interrupted
    from models.catalog import ModelError

    if isinstance(error, (BenchError, ModelError)):
        print(f"medbench: {error}", file=sys.stderr)
        return 2
    if isinstance(error, ModuleNotFoundError):
        print(f"medbench: the package {error.name!r} is not installed; install the extra [run]", file=sys.stderr)
        return 2
    if isinstance(error, Interrupted):
        print("medbench: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 128 + error.signum
    raise error


if __name__ == "__main__":
    main()
