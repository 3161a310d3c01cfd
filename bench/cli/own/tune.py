"""`medbench tune`: a recipe chosen on val from a grid, for each model with the same budget. Heavy imports inside."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import (
    Datasets,
    Isa,
    Json,
    Models,
    Plugins,
    Results,
    at_home,
    check_seconds,
    chosen_names,
    pin_cpu,
)
from bench.machine.cpu_isa import CpuIsa

if TYPE_CHECKING:
    from bench.records.tuning.record import TuningRecord
    from bench.runs.request import Event
    from bench.runs.tuning.sweep import Tuned


def tune(
    grid: Annotated[
        Path, typer.Argument(help="The grid file: what it extends, [grid] key = [values], [budget].", callback=at_home)
    ],
    models: Models,
    datasets: Datasets,
    results: Results = Path("results"),
    folder: Annotated[
        Path | None, typer.Option(help="Where the chosen protocols go, instead of tuned-<grid> beside the grid file.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=0, help="Trials at once; no number of them changes a choice.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, or auto.")] = "auto",
    cpu_isa: Isa = CpuIsa.avx2,
    timeout: Annotated[float | None, typer.Option(help="Seconds after which a trial's round is killed.")] = None,
    data_root: Annotated[str | None, typer.Option(help="Folder of the npz files instead of $MEDMNIST_ROOT.")] = None,
    plugin: Plugins = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Choose a recipe for each model from a grid, by successive halving on val, each model with the same budget."""
    isa = pin_cpu(cpu_isa)
    from bench import api
    from bench.cli.console import out, print_json
    from bench.cli.progress import progress_for
    from bench.runs.tuning.sweep import Sweeps, TuneWatcher

    check_seconds(timeout, "--timeout")
    names = tuple(chosen_names(models, "--models")), tuple(chosen_names(datasets, "--datasets"))
    sweeps = Sweeps(grid, *names, tuple(plugin), folder if folder is None else at_home(folder))
    launch = api.Launch(results=results, device=device, jobs=jobs, timeout=timeout, data_root=data_root, cpu_isa=isa)
    shown: list[Callable[[Event], None]] = []
    with contextlib.ExitStack() as stack:

        def on_start(total: int) -> None:
            if total:
                shown.append(stack.enter_context(progress_for(total)))

        tuned = api.tune(sweeps, launch, TuneWatcher(on_start, lambda event: shown[0](event)))
    if as_json:
        print_json({"sweeps": [_row(tuned, record) for record in tuned.records], "study": str(tuned.files.study or "")})
        return
    for line in _lines(tuned, results):
        out.print(line, markup=False, soft_wrap=True)


def _row(tuned: Tuned, record: TuningRecord) -> dict[str, Any]:
    """One sweep's outcome."""
    from bench.protocols.halving import best_value

    metric = tuned.grid.budget.metric
    trial = record.trials[record.choice]
    return {
        "model": record.model,
        "dataset": record.dataset,
        "protocol": record.protocol,
        "file": str(tuned.files.protocols[record.protocol]),
        "params": trial.params,
        metric: best_value(metric, trial.curves[metric]),
        "trials": len(record.trials),
        "diverged": sum(bool(each.diverged) for each in record.trials),
        "epochs": record.epochs,
    }


def _lines(tuned: Tuned, results: Path) -> list[str]:
    lines = []
    for row in (_row(tuned, record) for record in tuned.records):
        metric = tuned.grid.budget.metric
        said = ", ".join(f"{key} = {value}" for key, value in row["params"].items())
        spent = f"{row['trials']} trials, {row['diverged']} diverged, {row['epochs']} epochs"
        lines.append(f"{row['model']} on {row['dataset']}: {said} ({metric} {row[metric]:.4f}; {spent})")
        run = f"--protocol {row['file']} --models {row['model']} --datasets {row['dataset']} --results {results}"
        lines.append(f"  medbench run {run}")
    if tuned.files.study is not None:
        study = f"medbench run --study {tuned.files.study} --results {results}"
        lines.append(f"All of them, and {tuned.grid.base.name} beside them: {study}")
    return lines
