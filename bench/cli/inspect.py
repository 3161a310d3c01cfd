"""`medbench list`, `check`, `doctor`: what is available, and whether it works. Heavy imports inside."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from bench.cli.options import Json, Plugins, load_plugins


class Listing(StrEnum):
    """What `medbench list` knows."""

    models = "models"
    datasets = "datasets"
    protocols = "protocols"
    studies = "studies"


def list_(
    what: Listing,
    pattern: Annotated[str, typer.Option(help="Names that match a shell pattern.")] = "*",
    plugin: Plugins = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """List models, datasets, protocols or studies."""
    from bench.cli.console import print_json, print_table
    from bench.cli.listing import list_rows

    load_plugins(plugin)
    rows = list_rows(what.value, pattern)
    if as_json:
        print_json(rows)
    else:
        print_table(what.value, rows)


def check(
    model: Annotated[str, typer.Argument(help="A model's name, or a Python file with registered models.")] = "",
    plugin: Plugins = [],  # noqa: B006
    img_size: Annotated[
        int | None, typer.Option(min=1, help="Height and width to check at; 64 px, or the nearest that it takes.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run the contract suite on a model or on all models of a file; exit code 1 if it does not hold."""
    from bench import api
    from bench.cli.console import print_json, print_table
    from bench.errors import BenchError

    names = load_plugins([*plugin, *([model] if model.endswith(".py") else [])])
    if model and not model.endswith(".py"):
        names.append(model)
    if not names:
        raise BenchError("Nothing to check: give a model's name, a file, or --plugin FILE")
    rows = [row for name in names for row in api.check_model(name, img_size=img_size)]
    if as_json:
        print_json(rows)
    else:
        print_table("contract", rows)
    raise typer.Exit(1 if any(row["holds"] == "no" for row in rows) else 0)


def doctor(as_json: Json = False) -> None:
    """Show what this machine has: packages, device, data sets, and what to do about what is missing."""
    from bench import api
    from bench.cli.console import print_json, print_table

    rows = api.doctor()
    if as_json:
        print_json(rows)
    else:
        print_table("doctor", rows)
    raise typer.Exit(1 if any(row["state"] == "missing" for row in rows) else 0)
