"""From chosen runs to an engine: data checked first, what cannot run is skipped with its reason."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from filelock import FileLock, Timeout

from bench.errors import BenchError, DataMissingError, RecordError
from bench.machine.cpu_isa import DEFAULT, CpuIsa
from bench.plan.state import PlannedRun
from bench.protocols.loading import load_protocol
from bench.records.card import DataCard, read_card, write_card
from bench.records.names import Run, lock_path
from bench.records.run_record import Failure, Record, real_only, write_run
from bench.records.sealed import explain_os_error
from bench.runs.engine_local import Event, LocalEngine
from bench.runs.runner import RunRequest, skipped_record
from models import fingerprint, get_spec

if TYPE_CHECKING:
    from bench.runs.engine_ray import RayEngine


@dataclass(frozen=True)
class Launch:
    """How to run: where results go, on what, how many at once.

    Attributes:
        jobs: Runs at once; 0 for one on a CPU, as many as the GPUs take, or as many as Ray takes.
        gpus_per_run: GPUs, or a share of one, that a run on CUDA takes.
        checkpoint_dir: Where checkpoints go; None for the results folder, and for none at all under Ray.
        cpu_isa: The arithmetic of runs on a CPU.
    """

    results: Path
    device: str = "cpu"
    jobs: int = 0
    timeout: float | None = None
    data_root: str | None = None
    plugins: tuple[str, ...] = ()
    engine: Literal["local", "ray"] = "local"
    ray_address: str = ""
    gpus_per_run: float = 1.0
    checkpoint_dir: Path | None = None
    cpu_isa: CpuIsa = DEFAULT


@dataclass
class Outcome:
    """What a launch left: records written, and the skipped runs with their reasons."""

    records: list[Record] = field(default_factory=list)
    skipped: dict[Run, str] = field(default_factory=dict)

    @property
    def failed(self) -> list[Record]:
        """The records of runs that failed."""
        return [record for record in self.records if record.status == "failed"]


def check_store(results: Path, runs: Sequence[Run]) -> None:
    """Refuse a results folder that cannot take these runs, before anything ran.

    Raises:
        RecordError: If the folder cannot be written, or synthetic runs would enter a store of real ones.
    """
    if real_only(results) and any(run.synthetic for run in runs):
        raise RecordError(f"{results} holds real records only; give synthetic runs another folder with --results")
    probe = results / ".locks" / f".probe-{os.getpid()}"
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"writable")
        probe.unlink()
    except OSError as error:
        raise explain_os_error(error, results) from None


def ready_card(results: Path, dataset: str, sizes: Sequence[int], data_root: str | None) -> DataCard:
    """A data set's card, measured now if it is not there; every file that the runs need is checked.

    Raises:
        DataMissingError: If a file is neither there nor downloadable.
        DataError: If a file is damaged.
        RecordError: If the card does not fit the file.
    """
    from bench.data.card import measure
    from bench.data.loading import load

    arrays = [load(dataset, size, root=data_root) for size in sizes]
    card = read_card(results, dataset)
    if card is None:
        card = measure(dataset, root=data_root)
        write_card(results, card)
    for loaded, size in zip(arrays, sizes, strict=True):
        if size == card.source_size and loaded.md5 != card.md5:
            raise RecordError(f"{dataset}: the file's MD5 is {loaded.md5}, results/data/{dataset}.json has {card.md5}")
    return card


def _cards(planned: Sequence[PlannedRun], launch: Launch, outcome: Outcome) -> dict[str, DataCard]:
    """The cards of all sets at hand; runs on the others are noted as skipped."""
    sizes: dict[str, set[int]] = {}
    for item in planned:
        sizes.setdefault(item.run.dataset, set()).add(load_protocol(item.run.protocol).data.source_size)
    cards: dict[str, DataCard] = {}
    for dataset, wanted in sizes.items():
        try:
            cards[dataset] = ready_card(launch.results, dataset, sorted(wanted), launch.data_root)
        except DataMissingError as error:
            outcome.skipped.update({item.run: str(error) for item in planned if item.run.dataset == dataset})
    return cards


def _skip(results: Path, item: PlannedRun, reason: str, kind: Literal["unavailable", "data"]) -> None:
    """Leave a record that says why a run is missing; a record that says more, or another's work on it, stays."""
    if item.state != "missing":
        return
    record = skipped_record(item.run, load_protocol(item.run.protocol), Failure(kind=kind, message=reason))
    with contextlib.suppress(Timeout), FileLock(lock_path(results, item.run), timeout=0):
        write_run(results, record, None, None)


def sweep_checkpoints(planned: Sequence[PlannedRun], results: Path, checkpoint_dir: Path | None) -> None:
    """Remove what a kill between record and tidying left of finished runs; a run that goes on elsewhere is left alone.

    Args:
        planned: Runs that are not to be done now; those that are not `done` keep what they go on from.
        results: The results folder.
        checkpoint_dir: Where checkpoints go instead of the results folder, None for there.
    """
    parents = [results / "checkpoints", *([checkpoint_dir] if checkpoint_dir is not None else [])]
    for run in [item.run for item in planned if item.state == "done"]:
        for parent in parents:
            if not any((parent / run.run_id).glob("turn*.ckpt")):
                continue
            from bench.training.checkpoint import Checkpoint

            with contextlib.suppress(Timeout, OSError), FileLock(lock_path(results, run), timeout=0):
                Checkpoint(parent / run.run_id, "").remove()


def execute(
    planned: Sequence[PlannedRun],
    launch: Launch,
    *,
    on_event: Callable[[Event], None] = lambda event: None,
    on_skip: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Do the runs that a plan chose.

    Args:
        planned: What to do.
        launch: Where and how.
        on_event: Told of every start, progress and end.
        on_skip: Told each reason for skipped runs, once.

    Raises:
        BenchError: If data are damaged or results cannot be written; nothing ran in the first case.
        Interrupted: After SIGINT or SIGTERM.
    """
    check_store(launch.results, [item.run for item in planned])
    if launch.checkpoint_dir is not None and launch.checkpoint_dir.is_file():
        raise RecordError(f"--checkpoint-dir {launch.checkpoint_dir} is a file; name a folder")
    outcome = Outcome()
    cards = _cards([item for item in planned if not item.obstacle], launch, outcome)
    for reason in dict.fromkeys(outcome.skipped.values()):
        on_skip(reason)
    requests = []
    for item in planned:
        run = item.run
        if item.obstacle:
            outcome.skipped[run] = item.obstacle
            on_skip(f"{run.run_id}: {item.obstacle}")
            _skip(launch.results, item, item.obstacle, "unavailable")
        elif run in outcome.skipped:
            _skip(launch.results, item, f"{run.dataset} was neither on disk nor downloadable", "data")
        else:
            requests.append(_request(item, cards[run.dataset], launch))
    if requests:
        outcome.records = _engine(launch, on_event).run(requests)
    return outcome


def _engine(launch: Launch, on_event: Callable[[Event], None]) -> LocalEngine | RayEngine:
    """The chosen engine, with its part of the launch."""
    if launch.engine == "local":
        return LocalEngine(
            launch.results,
            devices=device_slots(launch.device, launch.jobs, launch.gpus_per_run),
            timeout=launch.timeout,
            on_event=on_event,
        )
    from bench.runs.engine_ray import RayEngine

    return RayEngine(
        launch.results,
        address=launch.ray_address,
        jobs=launch.jobs,
        gpus_per_run=launch.gpus_per_run,
        timeout=launch.timeout,
        on_event=on_event,
    )


def device_slots(device: str, jobs: int, gpus_per_run: float) -> list[str]:
    """One device for each run that goes on at once: `cuda` means all GPUs, each shared by 1 / gpus_per_run runs.

    Raises:
        BenchError: If the share is none, or more runs are asked for than the GPUs take.
    """
    if not 0 < gpus_per_run <= 1:
        raise BenchError(f"--gpus-per-run {gpus_per_run:g} is refused; a run takes one GPU or a share of one")
    if not device.startswith("cuda"):
        return [device] * (jobs or 1)
    import torch

    gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if device == "cuda" else [device]
    slots = [gpu for _ in range(int(1 / gpus_per_run + 1e-9)) for gpu in gpus]
    if jobs > len(slots):
        raise BenchError(f"--jobs {jobs} is more than {len(slots)} runs on {len(gpus)} GPUs; lower --gpus-per-run")
    return slots[: jobs or len(slots)]


def _request(item: PlannedRun, card: DataCard, launch: Launch) -> RunRequest:
    return RunRequest(
        run=item.run,
        protocol=load_protocol(item.run.protocol),
        card=card,
        device=launch.device,
        data_root=launch.data_root,
        checkpoint_dir=_checkpoints(launch, item.run),
        plugins=launch.plugins,
        model_fingerprint=fingerprint(get_spec(item.run.model)),
        cpu_isa=launch.cpu_isa,
        redo=item.state in ("done", "stale"),
    )


def _checkpoints(launch: Launch, run: Run) -> str | None:
    if launch.checkpoint_dir is not None:
        return str(launch.checkpoint_dir.resolve() / run.run_id)
    return str(launch.results / "checkpoints" / run.run_id) if launch.engine == "local" else None


def choose_device(name: str) -> str:
    """`auto` -> `cuda` where there is one, else `cpu`; others as they are.

    Raises:
        BenchError: If a CUDA device is asked for that is not there.
    """
    if name == "cpu":
        return name
    import torch

    available = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if available else "cpu"
    if available and name in ("cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))):
        return name
    raise BenchError(f"--device {name!r} is not available here; use cpu or auto")
