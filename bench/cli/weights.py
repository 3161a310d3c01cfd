"""`medbench weights list|verify|fetch`: public weights that runs start from. Heavy imports stand inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import Json

if TYPE_CHECKING:
    from bench.runs.public_weights import PublicWeights

weights_app = typer.Typer(no_args_is_help=True, help="List, verify and fetch the public weights that runs start from.")
Tags = Annotated[list[str], typer.Argument(help="timm's full names, resnet18.a1_in1k for instance; all if left out.")]


def _chosen(tags: list[str]) -> list[PublicWeights]:
    from bench.runs.public_weights import catalogue, known

    return [known(tag) for tag in (tags or catalogue())]


@weights_app.command("list")
def list_weights(as_json: Json = False) -> None:
    """Show which public weights the suite knows, and where this machine has them."""
    from bench.cli.console import print_json, print_table
    from bench.runs.public_weights import find

    rows: list[dict[str, Any]] = []
    for weights in _chosen([]):
        found = find(weights)
        rows.append(
            {
                "weights": weights.tag,
                "models": ", ".join(weights.models),
                "here": f"{found.origin}: {found.path}" if found else "missing",
                "pinned": weights.tensors[:12] or "-",
                "mean": "/".join(f"{value:g}" for value in dict.fromkeys(weights.mean)),
                "std": "/".join(f"{value:g}" for value in dict.fromkeys(weights.std)),
                "license": weights.license,
            }
        )
    if as_json:
        print_json(rows)
    else:
        print_table("public weights", [{key: value for key, value in row.items() if key != "license"} for row in rows])


@weights_app.command("verify")
def verify_weights(tags: Tags = [], as_json: Json = False) -> None:  # noqa: B006
    """Compare the tensors of public weights on this machine with their pins; exit code 1 if some differ or are missing.

    Without names, missing ones are shown and are no failure.
    """
    from bench.cli.console import print_json, print_table

    rows = [_verified(weights) for weights in _chosen(tags)]
    if as_json:
        print_json(rows)
    else:
        print_table("public weights", rows)
    bad = {"differs", "unreadable"} | ({"missing"} if tags else set())
    raise typer.Exit(1 if any(row["state"] in bad for row in rows) else 0)


def _verified(weights: PublicWeights) -> dict[str, str]:
    """A row: `ok`, `differs`, `unreadable`, `missing`, or `not pinned` with the digest."""
    from bench.runs.public_weights import digest, file_digest, find, read
    from models import ModelError

    found = find(weights)
    if found is None:
        return {"weights": weights.tag, "state": "missing", "tensors": "", "detail": weights.advice}
    try:
        own = digest(read(weights, found.path))
    except ModelError as error:
        return {"weights": weights.tag, "state": "unreadable", "tensors": "", "detail": str(error)}
    detail = str(found.path)
    if file_digest(found.path) in weights.files:
        detail += ", a file known by its SHA-256"
    if weights.tensors and own != weights.tensors:
        detail += f", the suite pins {weights.tensors}"
    state = "not pinned" if not weights.tensors else "ok" if own == weights.tensors else "differs"
    return {"weights": weights.tag, "state": state, "tensors": own, "detail": detail}


@weights_app.command("fetch")
def fetch_weights(
    to: Annotated[Path, typer.Option("--to", help="A folder, for $MEDBENCH_WEIGHTS on this machine or another.")],
    tags: Tags = [],  # noqa: B006
) -> None:
    """Put public weights into a folder as safetensors under timm's names; exit code 1 if some could not be had."""
    from bench.cli.console import err, out
    from bench.records.sealed import write_atomic
    from bench.runs.public_weights import digest, locate, read
    from bench.training.kept_weights import copied_to_cpu, weights_bytes
    from models import ModelError

    failed = 0
    for weights in _chosen(tags):
        try:
            found = locate(weights)
            state = read(weights, found.path)
            if weights.tensors and digest(state) != weights.tensors:
                raise ModelError(f"{found.path}: other tensors than the pinned ones of {weights.tag}")
        except ModelError as error:
            failed += 1
            err.print(f"failed: {error}", markup=False)
            continue
        path = to.expanduser() / f"{weights.tag}.safetensors"
        write_atomic(path, weights_bytes(copied_to_cpu(state), {"tag": weights.tag}))
        out.print(f"{weights.tag}: {path} (from the {found.origin})", markup=False, soft_wrap=True)
    raise typer.Exit(1 if failed else 0)
