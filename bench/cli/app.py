"""The command `medbench`: parse, call, print, exit code. Heavy imports stand inside the commands."""

from __future__ import annotations

import errno
import sys
from enum import StrEnum
from typing import Annotated, Any

import typer

from bench.cli.gradcam import gradcam
from bench.cli.measure import measure_app
from bench.cli.options import Json, Plugins
from bench.cli.report import compare, explain, report, verify
from bench.cli.run import merge, plan, run

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Is MedSpectralNet better than the models it was compared with? Plan, run, verify, report.",
)
app.add_typer(measure_app, name="measure")
app.command("plan")(plan)
app.command("run")(run)
app.command("merge")(merge)
app.command("gradcam")(gradcam)
for reading in (report, verify, compare, explain):
    app.command()(reading)


class Listing(StrEnum):
    """What `medbench list` knows."""

    models = "models"
    datasets = "datasets"
    protocols = "protocols"
    studies = "studies"


@app.command("list")
def list_(
    what: Listing,
    pattern: Annotated[str, typer.Option(help="Names that match a shell pattern.")] = "*",
    plugin: Plugins = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """List models, datasets, protocols or studies."""
    from bench.cli.console import print_json, print_table
    from bench.cli.inspect import list_rows
    from models import load_plugin

    for path in plugin:
        load_plugin(path)
    rows = list_rows(what.value, pattern)
    if as_json:
        print_json(rows)
    else:
        print_table(what.value, rows)


@app.command()
def check(
    model: Annotated[str, typer.Argument(help="A model's name, or a Python file with registered models.")] = "",
    plugin: Plugins = [],  # noqa: B006
    img_size: Annotated[int, typer.Option(min=1, help="Height and width to check at.")] = 64,
    as_json: Json = False,
) -> None:
    """Run the contract suite on a model or on all models of a file; exit code 1 if it does not hold."""
    from bench.check.contract import check_model
    from bench.cli.console import print_json, print_table
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
    from bench.check.doctor import examine
    from bench.cli.console import print_json, print_table

    rows = examine()
    if as_json:
        print_json(rows)
    else:
        print_table("doctor", rows)
    raise typer.Exit(1 if any(row["state"] == "missing" for row in rows) else 0)


FIXABLE = (errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)


def main() -> None:
    """Entry point: one line and exit code 2 for what a user can fix, 130 or 143 for an interruption."""
    from bench.machine import cpu_isa, provenance

    provenance.quiet_threads()
    cpu_isa.pin()
    try:
        code = app(prog_name="medbench", standalone_mode=False)
    except Exception as error:
        code = _explain(error)
    sys.exit(code if isinstance(code, int) else 0)


def _explain(error: Exception) -> int:
    from bench.errors import BenchError, Interrupted
    from models.catalog import ModelError

    if isinstance(error, (BenchError, ModelError)):
        print(f"medbench: {error}", file=sys.stderr)
        return 2
    if isinstance(error, ModuleNotFoundError):
        print(f"medbench: the package {error.name!r} is not installed; install the extra [run]", file=sys.stderr)
        return 2
    if isinstance(error, typer.Abort):
        print("medbench: nothing was run", file=sys.stderr)
        return 1
    if hasattr(error, "format_message"):  # what typer refuses; it has its own copy of click's class
        return _explain_usage(error)
    if isinstance(error, OSError) and error.errno in FIXABLE:
        print(f"medbench: {error.strerror}: {str(error.filename)[:100]}", file=sys.stderr)
        return 2
    if isinstance(error, Interrupted):
        print("medbench: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 128 + error.signum
    raise error


def _explain_usage(error: Any) -> int:
    """One line for a mistyped command; the help where nothing was typed."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return 2
    called = error.ctx.command_path.split()[1:] if error.ctx else []
    message = " ".join(error.format_message().split()).rstrip(".")
    print(f"medbench: {message}; {' '.join(['medbench', *called, '--help'])} lists what it takes", file=sys.stderr)
    return 2
