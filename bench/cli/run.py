"""`medbench plan`, `run`, `merge`: which runs, where they execute, and what shards bring home. Heavy imports inside."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import (
    Datasets,
    Isa,
    Json,
    Models,
    Plugins,
    Protocols,
    Results,
    Seeds,
    StudyName,
    check_seconds,
    chosen_names,
    pin_cpu,
)
from bench.machine.cpu_isa import DEFAULT, CpuIsa

if TYPE_CHECKING:
    from bench.plan.selection import Selection
    from bench.plan.state import PlannedRun
    from bench.runs.launch import Outcome
    from bench.runs.request import Event, Launch

Shard = Annotated[str, typer.Option(help="i/n: only every n-th run of the selection, from the i-th.")]


class EngineChoice(StrEnum):
    """Where runs execute."""

    local = "local"
    ray = "ray"


class OverwriteChoice(StrEnum):
    """Which recorded runs are done again; the values are `bench.plan.state.Overwrite`'s."""

    never = "never"
    stale = "stale"
    failed = "failed"
    isa = "isa"
    always = "always"


def selection_of(
    study: str, protocol: str, models: str, datasets: str, seeds: str, plugins: list[Path], shard: str
) -> Selection:
    """The options that choose runs, parsed."""
    from bench.plan.selection import Selection, parse_seeds

    def names(text: str, option: str) -> tuple[str, ...]:
        return tuple(chosen_names(text, option)) if text else ()

    return Selection(
        protocols=names(protocol, "--protocol"),
        models=names(models, "--models"),
        datasets=names(datasets, "--datasets"),
        seeds=tuple(parse_seeds(seeds)) if seeds else (),
        study=study,
        plugins=tuple(plugins),
        shard=shard,
    )


def _rows(planned: Sequence[PlannedRun]) -> list[dict[str, Any]]:
    return [
        {
            "run": item.run.run_id,
            "state": item.state,
            "estimate_s": None if item.estimate is None else round(item.estimate.seconds),
            "from": None if item.estimate is None else item.estimate.source,
            "reason": item.reason,
        }
        for item in planned
    ]


def _runs(number: int) -> str:
    return f"{number} run{'' if number == 1 else 's'}"


def _summary(planned: Sequence[PlannedRun]) -> str:
    from bench.cli.console import duration

    counts = {state: sum(item.state == state for item in planned) for state in ("done", "missing", "stale", "failed")}
    todo = [item for item in planned if item.state != "done" and not item.refusal]
    known = [item.estimate for item in todo if item.estimate is not None]
    scaled, borrowed = (sum(estimate.source == source for estimate in known) for source in ("timings", "repository"))
    text = ", ".join(f"{number} {state}" for state, number in counts.items())
    line = f"{_runs(len(planned))}: {text}"
    trained = [estimate for estimate in known if estimate.source != "fixed"]
    left = f"{_runs(len(todo) - len(known))} without anything to go by (no recorded run, timing or data card)"
    if trained:
        seconds = sum(estimate.seconds for estimate in known)
        line += f". Estimate for what is not done: {duration(seconds)} on one core (from recorded runs"
        line += f"; {scaled} of them scaled by the timed training step" if scaled else ""
        line += f"; {borrowed} of them from the repository's records and their machine)" if borrowed else ")"
        line += f", and {left}" if len(known) < len(todo) else ""
    elif len(known) < len(todo):
        line += f". No estimate: {left}"
    return line + "."


def plan(
    study: StudyName = "",
    protocol: Protocols = "",
    models: Models = "",
    datasets: Datasets = "",
    seeds: Seeds = "",
    results: Results = Path("results"),
    shard: Shard = "",
    plugin: Plugins = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Show which runs a selection means: done, missing, stale, failed, and what they should cost."""
    from bench import api
    from bench.cli.console import out, print_json, print_table

    selection = selection_of(study, protocol, models, datasets, seeds, plugin, shard)
    planned = api.plan(selection, results)
    if as_json:
        print_json(_rows(planned))
        return
    print_table("plan", _rows(planned))
    out.print(_summary(planned))
    _print_unscored(planned, selection, (), results)


def run(
    study: StudyName = "",
    protocol: Protocols = "",
    models: Models = "",
    datasets: Datasets = "",
    seeds: Seeds = "",
    results: Results = Path("results"),
    overwrite: Annotated[
        OverwriteChoice, typer.Option(help="Which recorded runs are done again; isa: those of another --cpu-isa.")
    ] = OverwriteChoice.never,
    engine: Annotated[EngineChoice, typer.Option(help="Processes of this machine, or a Ray cluster.")] = (
        EngineChoice.local
    ),
    jobs: Annotated[
        int,
        typer.Option(min=0, help="Runs at once, a process and a thread each; 0: one on a CPU, all GPUs, all of Ray."),
    ] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, or auto.")] = "auto",
    gpus_per_run: Annotated[float, typer.Option(help="Below 1, several runs share a GPU.")] = 1.0,
    ray_address: Annotated[str, typer.Option(help="A cluster's address; else $RAY_ADDRESS, else this machine.")] = "",
    checkpoint_dir: Annotated[
        Path | None, typer.Option(help="Instead of results/checkpoints; for Ray a folder that all nodes see.")
    ] = None,
    keep_weights: Annotated[
        Path | None, typer.Option(help="Keep each network's chosen weights in this folder, proved to give its scores.")
    ] = None,
    track: Annotated[str, typer.Option(help="Corruption tracks that each run scores as it ends: c28.")] = "",
    cpu_isa: Isa = CpuIsa.avx2,
    shard: Shard = "",
    timeout: Annotated[float | None, typer.Option(help="Seconds after which a run is killed and fails.")] = None,
    data_root: Annotated[str | None, typer.Option(help="Folder of the npz files instead of $MEDMNIST_ROOT.")] = None,
    plugin: Plugins = [],  # noqa: B006
    ask: Annotated[bool, typer.Option("--ask", help="Print the estimate and ask before running.")] = False,
) -> None:
    """Run what is missing in a selection; exit code 1 if a run failed or was skipped."""
    pin_cpu(cpu_isa)
    from bench import api
    from bench.errors import BenchError

    check_seconds(timeout, "--timeout")
    if ray_address and engine is not EngineChoice.ray:
        raise BenchError("--ray-address is for --engine ray; give both, or neither")
    launch = api.Launch(
        results=results,
        device=device,
        jobs=jobs,
        timeout=timeout,
        data_root=data_root,
        engine=engine.value,
        ray_address=ray_address,
        gpus_per_run=gpus_per_run,
        checkpoint_dir=checkpoint_dir,
        cpu_isa=cpu_isa,
        keep_weights=keep_weights,
        tracks=tuple(chosen_names(track, "--track")) if track else (),
    )
    selection = selection_of(study, protocol, models, datasets, seeds, plugin, shard)
    outcome = _watched(selection, launch, overwrite, ask=ask)
    raise typer.Exit(0 if outcome.ok else 1)


def _watched(selection: Selection, launch: Launch, overwrite: OverwriteChoice, *, ask: bool) -> Outcome:
    """Run a selection: the plan is printed, with --ask to be confirmed; progress shows while runs go on."""
    from bench import api
    from bench.cli.console import note, out, warn
    from bench.cli.progress import progress_for
    from bench.runs.launch import Watcher

    shown: list[Callable[[Event], None]] = []
    with contextlib.ExitStack() as stack:

        def on_plan(planned: Sequence[PlannedRun], left: Sequence[PlannedRun]) -> None:
            out.print(_summary(planned))
            _print_left(left)
            _print_unscored(planned, selection, launch.tracks, launch.results)
            if launch.keep_weights is not None:
                _print_unkept(planned, launch.keep_weights)

        def on_start(chosen: Sequence[PlannedRun]) -> None:
            if ask and not typer.confirm("Go on?"):
                raise typer.Exit(0)
            progress = progress_for(len(chosen))
            stack.enter_context(progress)
            shown.append(progress)

        watcher = Watcher(
            on_plan=on_plan,
            on_start=on_start,
            on_event=lambda event: shown[0](event),
            on_skip=lambda line: warn(f"skipped: {line}"),
            on_note=lambda line: note(f"warning: {line}"),
        )
        outcome = api.run(selection, launch, overwrite=overwrite.value, watcher=watcher)
    if shown:
        _print_outcome(outcome, launch.results)
    return outcome


def _print_outcome(outcome: Outcome, results: Path) -> None:
    """What was done, why runs failed, and where the whole traceback stands, or the traceback itself."""
    from bench.cli.console import is_verbose, out, warn
    from bench.records.names import log_path

    done = sum(record.status == "done" for record in outcome.records)
    out.print(f"{done} done, {len(outcome.failed)} failed, {len(outcome.skipped)} skipped.")
    for record in outcome.failed:
        reason = record.failure.message if record.failure else ""
        warn(f"failed: {record.run_id}: {reason}")
        log = log_path(results, record.run)
        if log.is_file():
            warn(log.read_text(encoding="utf-8") if is_verbose() else f"  traceback: {log}")


def _print_left(left: Sequence[PlannedRun]) -> None:
    """What a call leaves as it is, and how to change that."""
    from bench.cli.console import note

    for item in sorted(left, key=lambda item: item.state):
        again = f"--overwrite {item.state} runs it again"
        note(f"{item.state}: {item.run.run_id}: {item.reason}; {again}")


def _print_unkept(planned: Sequence[PlannedRun], folder: Path) -> None:
    """How many finished networks have no weights in a folder, and how they get there."""
    from bench.cli.console import note
    from bench.records.names import weights_path
    from models import get_spec

    done = [item.run for item in planned if item.state == "done" and get_spec(item.run.model).kind == "network"]
    unkept = sum(not weights_path(folder.expanduser(), run).is_file() for run in done)
    if unkept:
        note(f"note: {unkept} finished runs have no weights in {folder}; --overwrite always trains them again")


def _print_unscored(planned: Sequence[PlannedRun], selection: Selection, tracks: Sequence[str], results: Path) -> None:
    """How many finished runs lack a track that is asked for, and the command that scores it: `run` leaves them."""
    from bench.cli.console import note
    from bench.runs.tracks.late import unscored

    chosen = f" --study {selection.study}" if selection.study else " and the same options"
    for name, records in unscored(planned, selection.tracks(tracks), results).items():
        note(f"note: {_runs(len(records))} done without {name}; medbench track {name}{chosen} scores what is done")
        others = sum(record.is_of_other_cpu(DEFAULT) for record in records)
        if others:
            asked = "" if name in selection.tracks(()) else f" --track {name}"
            note(
                f"note: {others} of them are not pinned, only their own processor gives their bits again; medbench run"
                f"{asked}{chosen} --overwrite isa makes new ones, with scores"
            )


def merge(
    folders: Annotated[list[Path], typer.Argument(help="The shards' results folders.")],
    results: Results = Path("results"),
) -> None:
    """Bring the results of several folders into one; a damaged or contradicting record is refused by name."""
    from bench import api
    from bench.cli.console import out

    out.print(api.merge(folders, results).summary())
