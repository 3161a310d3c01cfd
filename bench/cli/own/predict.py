"""`medbench predict`: what kept weights say of single images. Heavy imports stand inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Json, Plugins, Results, at_home, load_plugins


def predict(
    images: Annotated[list[Path], typer.Argument(help="Image files, PNG or JPEG for instance.")],
    weights: Annotated[Path, typer.Option(help="A file that medbench run --keep-weights DIR wrote.")],
    protocol: Annotated[
        str, typer.Option(help="The TOML file of the run's protocol, if it is none of the suite.")
    ] = "",
    results: Results = Path("results"),
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, or auto.")] = "cpu",
    plugin: Plugins = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Print a trained model's probability of each class for single images, prepared as val is. Not for diagnosis."""
    from bench.cli.console import err, out, print_json, print_table
    from bench.measure.single_images import NOT_FOR_DIAGNOSIS, predict_images

    load_plugins(plugin)
    found = predict_images(at_home(weights), images, results=results, protocol=protocol, device=device)
    for note in found.notes:
        err.print(f"note: {note}", markup=False)
    if as_json:
        about = {"run": found.run.run_id, "model": found.run.model, "dataset": found.run.dataset}
        rows = [{"image": image, "probabilities": probs} for image, probs in found.probabilities.items()]
        print_json({"note": NOT_FOR_DIAGNOSIS, **about, "protocol": found.run.protocol, "images": rows})
        return
    for image, probs in found.probabilities.items():
        ranked = sorted(probs.items(), key=lambda item: -item[1])
        print_table(image, [{"class": name, "probability": f"{value:.4f}"} for name, value in ranked])
    out.print(f"By {found.run.run_id}. {NOT_FOR_DIAGNOSIS}", markup=False, soft_wrap=True)
