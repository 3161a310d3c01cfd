"""`medbench protocol new`: a recipe of one's own, as a file. Works without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Json, at_home

protocol_app = typer.Typer(no_args_is_help=True, help="Write a recipe of one's own; medbench list protocols shows all.")


@protocol_app.callback()
def _group() -> None:
    """Write a recipe of one's own; medbench list protocols shows all."""


@protocol_app.command("new")
def new(
    file: Annotated[
        Path, typer.Argument(help="The file to write, my.toml: its name is the protocol's.", callback=at_home)
    ],
    extends: Annotated[str, typer.Option(help="The protocol that it starts from: a name or a TOML file.")],
    settings: Annotated[
        list[str], typer.Option("--set", help="KEY=VALUE, for instance schedule.epochs=40; may be given several times.")
    ] = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Write a protocol that extends another, checked by the schema; nothing is written over."""
    from bench.cli.console import out, print_json
    from bench.protocols.writing import new_protocol

    made = new_protocol(file, extends, settings)
    digest = made.protocol.digest()
    if as_json:
        name = made.protocol.name
        print_json({"file": str(file), "protocol": name, "digest": digest, "changes": made.changes})
        return
    lines = [f"{file}: protocol {made.protocol.name}, digest {digest}"]
    lines += [f"  {line}" for line in made.changes]
    lines += [f"  medbench run --protocol {file} --models MODEL --datasets DATASET"]
    for line in lines:
        out.print(line, markup=False, soft_wrap=True)
