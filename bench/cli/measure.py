"""`medbench measure data|costs|timing`: what is measured into a results folder. Heavy imports stand inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from bench.cli.options import (
    Datasets,
    Json,
    Models,
    Plugins,
    Results,
    check_seconds,
    chosen_names,
    load_plugins,
    match_models,
    split_names,
    split_numbers,
)

measure_app = typer.Typer(no_args_is_help=True, help="Measure data sets, costs and timings into a results folder.")


@measure_app.command("data")
def measure_data(
    datasets: Datasets,
    results: Results = Path("results"),
    data_root: Annotated[str | None, typer.Option(help="Folder of the npz files instead of $MEDMNIST_ROOT.")] = None,
) -> None:
    """Measure counts, digests and duplicates of data sets into results/data/."""
    from bench.cli.console import err, out
    from bench.data.card import measure
    from bench.data.names import flag_of
    from bench.errors import DataMissingError
    from bench.records.card import write_card
    from bench.records.writing.sweep import sweep_store

    missing = 0
    names = chosen_names(datasets, "--datasets")
    for name in names:
        flag_of(name)
    sweep_store(results)
    for name in names:
        try:
            card = measure(name, root=data_root)
        except DataMissingError as error:
            missing += 1
            err.print(f"skipped: {error}", markup=False)
            continue
        write_card(results, card)
        out.print(f"{name}: {card.num_images}, {len(card.twin_test_indices)} test images have a twin in train or val")
    raise typer.Exit(1 if missing else 0)


@measure_app.command("costs")
def measure_costs(
    models: Models = "*",
    size: Annotated[str, typer.Option(help="Heights and widths in pixels, separated by commas.")] = "224",
    num_classes: Annotated[str, typer.Option(help="Numbers of classes, separated by commas.")] = "8",
    results: Results = Path("results"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Count again what is recorded.")] = False,
    plugin: Plugins = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Count parameters and MACs by thop, ptflops and torch into results/costs/; the literature calls GMACs GFLOPs."""
    from bench.cli.console import err, print_json, print_table
    from bench.measure.costs import count

    load_plugins(plugin)
    cells = count.expand_costs(
        match_models(models), split_numbers(size, "--size"), split_numbers(num_classes, "--num-classes", least=2)
    )
    outcomes = list(count.measure_costs(cells, results, overwrite=overwrite))
    rows = [count.cost_row(outcome) for outcome in outcomes]
    if as_json:
        print_json(rows)
    else:
        print_table("costs of one image", rows)
    refused = [outcome for outcome in outcomes if outcome.record is None]
    for outcome in refused:
        err.print(f"skipped: {outcome.reason}", markup=False)
    raise typer.Exit(1 if refused else 0)


@measure_app.command("timing")
def measure_timing(
    models: Models = "*",
    size: Annotated[str, typer.Option(help="Heights and widths in pixels, separated by commas.")] = "224",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, or auto.")] = "auto",
    batch_sizes: Annotated[str, typer.Option(help="Instead of 1,32 (CPU) or 1,128 (CUDA); training: largest.")] = "",
    precisions: Annotated[str, typer.Option(help="fp32, tf32, bf16, fp16 in both memory formats, not the core.")] = "",
    compiled: Annotated[bool, typer.Option("--compile", help="With --precisions: compiled too.")] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Processes a model, in shuffled order of the models.")] = 3,
    seed: Annotated[int, typer.Option(help="Decides the order.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    cell_seconds: Annotated[float | None, typer.Option(help="A cell and round at most; CPU: 20, CUDA: open.")] = None,
    results: Results = Path("results"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Measure again what is recorded.")] = False,
    scan: Annotated[Literal["auto", "torch"], typer.Option(help="torch: never mamba-ssm's kernel.")] = "auto",
    plugin: Plugins = [],  # noqa: B006
) -> None:
    """Time inference and a training step into results/timings/; goes on where an earlier call ended."""
    from bench.cli.console import err, out
    from bench.machine.devices import choose_device
    from bench.machine.signals import signals_noted
    from bench.measure.timing.rounds import announcement, make_plan, run_timings
    from bench.records.timing_record import choose_settings

    load_plugins(plugin)
    check_seconds(cell_seconds, "--cell-seconds")
    device = choose_device(device)
    batches = split_numbers(batch_sizes, "--batch-sizes")
    settings = choose_settings(
        device, split_numbers(size, "--size"), batches, split_names(precisions), compiled=compiled
    )
    plan = make_plan(match_models(models), settings, device, results, rounds, seed, threads, cell_seconds, plugin, scan)
    out.print(announcement(plan, overwrite=overwrite), markup=False)
    refused = False
    with signals_noted(_stop):  # so that the process that measures ends with this one
        for event in run_timings(plan, overwrite=overwrite):
            refused |= event.round is None
            (err if event.round is None else out).print(event.line(), markup=False)
    raise typer.Exit(1 if refused else 0)


def _stop(signum: int, _: Any) -> None:
    """A signal's handler: leave by an exception, which cleans up on its way."""
    from bench.errors import Interrupted

    raise Interrupted(signum)
