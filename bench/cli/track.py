"""`medbench track`: recorded runs on corrupted test images. Heavy imports stand inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import Datasets, Isa, Models, Plugins, Protocols, Results, Seeds, StudyName, pin_cpu
from bench.cli.run import Shard, selection_of
from bench.machine.cpu_isa import CpuIsa

if TYPE_CHECKING:
    from bench.records.tracks.record import TrackRecord


def track(
    name: Annotated[str, typer.Argument(help="The track.")] = "c28",
    study: StudyName = "",
    protocol: Protocols = "",
    models: Models = "",
    datasets: Datasets = "",
    seeds: Seeds = "",
    results: Results = Path("results"),
    weights: Annotated[
        Path | None, typer.Option(help="A folder that `run --keep-weights` filled; what it lacks is trained and kept.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, or auto.")] = "auto",
    data_root: Annotated[str | None, typer.Option(help="Folder of the npz files instead of $MEDMNIST_ROOT.")] = None,
    cpu_isa: Isa = CpuIsa.avx2,
    shard: Shard = "",
    plugin: Plugins = [],  # noqa: B006
) -> None:
    """Score a corruption track for recorded runs that lack it, by their own weights; trains again where it must."""
    isa = pin_cpu(cpu_isa)
    from bench import api
    from bench.cli.console import err, out
    from bench.cli.progress import progress_for
    from bench.machine.devices import choose_device

    selection = selection_of(study, protocol, models, datasets, seeds, plugin, shard)
    launch = api.Launch(
        results=results,
        device=choose_device(device),
        data_root=data_root,
        plugins=tuple(str(path.resolve()) for path in plugin),
        cpu_isa=isa,
    )
    with progress_for(len(selection.runs())) as progress:
        scored = api.track(selection, launch, name, weights=weights, on_event=progress)
    for record in scored.records:
        out.print(_line(record), markup=False, soft_wrap=True)
    for run, reason in scored.problems.items():
        err.print(f"no {name}: {run.run_id}: {reason}", markup=False, soft_wrap=True)
    out.print(f"{name}: {len(scored.records)} scored, {len(scored.known)} known, {len(scored.problems)} without.")
    raise typer.Exit(1 if scored.problems else 0)


def _line(record: TrackRecord) -> str:
    """A run's mean scores under corruption beside its clean ones."""
    parts = []
    for metric, word in (("auc", "AUC"), ("balanced_acc", "balanced ACC")):
        values = [scores[metric] for severities in record.scores.values() for scores in severities]
        clean, known = record.clean[metric], [value for value in values if value is not None]
        if clean is not None and len(known) == len(values):
            parts.append(f"{word} {clean:.3f}, corrupted {sum(known) / len(known):.3f}")
    return f"{record.run_id}: {'; '.join(parts) or 'scored'}"
