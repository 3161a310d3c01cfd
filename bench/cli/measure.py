"""`medbench measure data|costs|timing`: what is measured into a results folder; `medbench data import|check`.

Heavy imports stand inside.
"""

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
    from bench.data.own import resolve
    from bench.errors import DataMissingError
    from bench.records.card import write_card
    from bench.records.writing.sweep import sweep_store

    missing = 0
    names = [resolve(name) for name in chosen_names(datasets, "--datasets")]
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


data_app = typer.Typer(no_args_is_help=True, help="Data sets of one's own: make one of class folders, check one.")


@data_app.command("import")
def data_import(
    source: Annotated[Path, typer.Argument(help="DIR/<class>/*.png, or DIR/{train,val,test}/<class>/*.png.")],
    out: Annotated[Path, typer.Option(help="Where images.npz and card.toml go.")],
    name: Annotated[str, typer.Option(help="The set's name; the folder's if left out.")] = "",
    size: Annotated[int, typer.Option(help="Pixels a side; images are cut to their central square.")] = 64,
    channels: Annotated[int | None, typer.Option(help="1 or 3; 3 if left out and any image has colour.")] = None,
    license_: Annotated[str, typer.Option("--license", help="What the card says of the licence.")] = "unknown",
    positive: Annotated[str | None, typer.Option(help="The class that a clinician asks for.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the split, where the folder has none; 0 if left out.")] = None,
    val: Annotated[float | None, typer.Option(help="Share of val, 0.15 if left out.")] = None,
    test: Annotated[float | None, typer.Option(help="Share of test, 0.15 if left out.")] = None,
) -> None:
    """Make a data set of one's own of folders of PNG and JPEG images, one folder a class."""
    from pydantic import ValidationError

    from bench.cli.console import out as console
    from bench.data.own import SeededSplit
    from bench.data.own_import import import_folder
    from bench.errors import BenchError
    from bench.records.sealed import explain_validation

    given = {key: value for key, value in (("seed", seed), ("val", val), ("test", test)) if value is not None}
    try:
        split = SeededSplit.model_validate(given) if given else None
    except ValidationError as error:
        raise BenchError(f"--{explain_validation(error)}") from None
    made = import_folder(
        source.expanduser(),
        out.expanduser(),
        name=name,
        size=size,
        channels=channels,
        license=license_,
        positive=positive,
        split=split,
    )
    console.print(f"{made.num_images} images of {made.num_classes} classes: --datasets {made.card}", markup=False)


@data_app.command("check")
def data_check(card: Annotated[str, typer.Argument(help="A card.toml, or the folder that holds it.")]) -> None:
    """Read a data set of one's own as a run does: its name, counts and digest, or what is wrong in one line."""
    from bench.cli.console import out
    from bench.data.card import measure
    from bench.data.own import resolve
    from bench.errors import BenchError
    from bench.records.names import is_own

    name = resolve(card)
    if not is_own(name):
        raise BenchError(f"{name} is no data set of one's own; give a card.toml")
    found = measure(name)
    counts = ", ".join(f"{split} {number:,}" for split, number in found.num_images.items())
    form = f"{found.source_size} px, {found.num_channels} channel{'s' if found.num_channels > 1 else ''}"
    twins = f"{len(found.twin_test_indices):,} test images have a twin in train or val"
    out.print(f"{name}: {counts}; {form}; {twins}; MD5 {found.md5}", markup=False, soft_wrap=True)
