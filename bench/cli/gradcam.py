"""`medbench gradcam`: where a trained network looks. Heavy imports stand inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import Isa, Json, Plugins, Results, load_plugins, pin_cpu
from bench.machine.cpu_isa import CpuIsa

if TYPE_CHECKING:
    from bench.records.cam_record import CamRecord


def gradcam(
    model: Annotated[str, typer.Option(help="A network's name.")] = "medspectralnet",
    dataset: Annotated[str, typer.Option(help="A MedMNIST flag, or synthetic-<flag>.")] = "breastmnist",
    protocol: Annotated[str, typer.Option(help="A protocol's name or TOML file.")] = "gradcam-224",
    seed: Annotated[int, typer.Option(min=0, help="The run's seed.")] = 0,
    results: Results = Path("results"),
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, or auto.")] = "auto",
    data_root: Annotated[str | None, typer.Option(help="Folder of the npz files instead of $MEDMNIST_ROOT.")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="A folder that `run --keep-weights` filled; what it lacks is trained and kept.")
    ] = None,
    cpu_isa: Isa = CpuIsa.avx2,
    plugin: Plugins = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Store a run's Grad-CAM maps in results/cams/, and those of randomised models; trains it where it must."""
    isa = pin_cpu(cpu_isa)
    from bench.cli.console import out, print_json, print_table
    from bench.cli.progress import progress_for
    from bench.errors import BenchError
    from bench.machine.devices import choose_device
    from bench.measure.gradcam.maps import explain_run
    from bench.plan.selection import expand, refusal
    from bench.protocols.loading import load_protocol
    from bench.runs.launch import check_store, ready_card
    from bench.runs.request import Event, RunRequest
    from models import get_spec

    load_plugins(plugin)
    (run,) = expand([protocol], [model], [dataset], [seed])
    rules = load_protocol(run.protocol)
    reason = refusal(get_spec(model), rules)
    if reason:
        raise BenchError(reason)
    check_store(results, [run])
    card = ready_card(results, dataset, [rules.data.source_size], data_root)
    plugins = tuple(str(path.resolve()) for path in plugin)
    device = choose_device(device)
    request = RunRequest(run, rules, card, device=device, data_root=data_root, plugins=plugins, cpu_isa=isa)
    folder = weights.expanduser() if weights is not None else None
    with progress_for(1) as progress:
        progress(Event("started", request))
        record, where = explain_run(request, results, folder, lambda at: progress(Event("progress", request, at)))
    rows = similarity_rows(results, record)
    if as_json:
        print_json(rows)
        return
    print_table("rank correlation of maps, medians", rows)
    out.print(f"{len(record.images)} test images, maps in {where}", markup=False, soft_wrap=True)


def similarity_rows(results: Path, record: CamRecord) -> list[dict[str, Any]]:
    """Per layer: how alike the trained model's maps are to a randomised model's, and to each other."""
    from bench.records.cam_record import read_maps
    from bench.records.cam_similarity import median, similarity_across_images, similarity_to_random

    maps = read_maps(results, record)
    rows = []
    for layer in record.layers:
        random = similarity_to_random(maps, layer.path)
        across = similarity_across_images(maps, layer.path, record.predictions)
        rows.append(
            {
                "layer": layer.path,
                "map": f"{layer.height}x{layer.width}",
                "trained and randomised": _rounded(median(random)),
                "without sign": _rounded(median(None if value is None else abs(value) for value in random)),
                "images predicted alike": _rounded(median(across)),
            }
        )
    return rows


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
