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
        Path,
        typer.Argument(help="The grid file: what it extends, \\[grid] key = \\[values], \\[budget].", callback=at_home),
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
    return {
        "model": record.model,
        "dataset": record.dataset,
        "protocol": record.protocol,
        "file": str(tuned.files.protocols[record.protocol]),
        "params": record.chosen_trial.params,
        tuned.grid.budget.metric: record.best,
        "trials": len(record.trials),
        "diverged": record.num_diverged,
        "epochs": record.epochs,
    }


def _lines(tuned: Tuned, results: Path) -> list[str]:
    lines = []
    metric = tuned.grid.budget.metric
    for record in tuned.records:
        where = f"{record.model} on {record.dataset}"
        lines.append(f"{where}: {record.recipe} ({metric} {record.best:.4f}; {record.spent})")
        file = tuned.files.protocols[record.protocol]
        run = f"--protocol {file} --models {record.model} --datasets {record.dataset} --results {results}"
        lines.append(f"  medbench run {run}")
    if tuned.files.study is not None:
        study = f"medbench run --study {tuned.files.study} --results {results}"
        lines.append(f"All of them, and {tuned.grid.base.name} beside them: {study}")
    return lines
