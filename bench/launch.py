"""From chosen runs to an engine: data checked first, what cannot run is skipped with its reason."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bench.engines import Event, LocalEngine
from bench.errors import BenchError, DataMissingError, RecordError
from bench.plan import PlannedRun
from bench.protocol import load_protocol
from bench.records import DataCard, Failure, Record, Run, read_card, real_only, write_card, write_run
from bench.runner import RunRequest, failed_record
from bench.sealed import explain_os_error


@dataclass(frozen=True)
class Launch:
    """How to run: where results go, on what, how many at once."""

    results: Path
    device: str = "cpu"
    jobs: int = 1
    timeout: float | None = None
    data_root: str | None = None
    plugins: tuple[str, ...] = ()
    overwrite: bool = False


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
    from bench.data import load, measure

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
    """Leave a record that says why a run is missing; a record that says more stays."""
    if item.state != "missing":
        return
    failure = Failure(kind=kind, message=reason)
    write_run(results, failed_record(item.run, load_protocol(item.run.protocol), failure, skipped=True), None, None)


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
    engine = LocalEngine(
        launch.results, jobs=launch.jobs, timeout=launch.timeout, overwrite=launch.overwrite, on_event=on_event
    )
    outcome.records = engine.run(requests) if requests else []
    return outcome


def _request(item: PlannedRun, card: DataCard, launch: Launch) -> RunRequest:
    return RunRequest(
        run=item.run,
        protocol=load_protocol(item.run.protocol),
        card=card,
        device=launch.device,
        data_root=launch.data_root,
        checkpoint_dir=str(launch.results / "checkpoints" / item.run.run_id),
        plugins=launch.plugins,
    )


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
    if name.startswith("cuda") and available:
        return name
    raise BenchError(f"--device {name!r} is not available here; use cpu or auto")
