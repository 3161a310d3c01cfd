"""What is requested of a run and of a launch of many, what a run hands back and reports meanwhile. No torch."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from bench.errors import BenchError, suggestion
from bench.machine import cpu_isa
from bench.machine.cpu_isa import CpuIsa
from bench.protocols.schema import Protocol
from bench.records.card import DataCard
from bench.records.names import Run
from bench.records.run_record import Record
from bench.records.sealed import canonical
from bench.records.tracks.record import TrackRecord
from models import fingerprint, get_spec


@dataclass(frozen=True)
class Launch:
    """How to run: where results go, on what, how many at once.

    Attributes:
        results: The results folder; made if it is not there.
        device: `cpu`, `cuda`, `cuda:1`, or `auto`.
        jobs: Runs at once; 0 for one on a CPU, as many as the GPUs take, or as many as Ray takes.
        timeout: Seconds after which a run is killed and fails, None for never.
        data_root: Folder of the npz files, None for `$MEDMNIST_ROOT`.
        plugins: Model files that every worker loads first.
        engine: Processes of this machine, or a Ray cluster.
        ray_address: The cluster's address; "" for `$RAY_ADDRESS`, else this machine.
        gpus_per_run: GPUs, or a share of one, that a run on CUDA takes.
        checkpoint_dir: Where checkpoints go; None for the results folder, and for none at all under Ray.
        cpu_isa: The arithmetic of runs on a CPU.
        keep_weights: Folder for the chosen weights of each network, None to keep none.
        tracks: Names of the corruption tracks that each run scores as it ends, where they apply.
    """

    results: Path = Path("results")
    device: str = "cpu"
    jobs: int = 0
    timeout: float | None = None
    data_root: str | None = None
    plugins: tuple[str, ...] = ()
    engine: Literal["local", "ray"] = "local"
    ray_address: str = ""
    gpus_per_run: float = 1.0
    checkpoint_dir: Path | None = None
    cpu_isa: CpuIsa = cpu_isa.DEFAULT
    keep_weights: Path | None = None
    tracks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse from a notebook what the command line refuses.

        Raises:
            BenchError: If an engine or instruction set is unknown, or jobs or seconds are none.
        """
        for name, known in (("engine", ("local", "ray")), ("cpu_isa", tuple(CpuIsa))):
            if getattr(self, name) not in known:
                raise BenchError(f"Launch: {name} {getattr(self, name)!r} is unknown; {suggestion('', known)}")
        object.__setattr__(self, "cpu_isa", CpuIsa(self.cpu_isa))
        if self.jobs < 0:
            raise BenchError(f"Launch: jobs {self.jobs} is refused; give the runs at once, or 0 for the default")
        if self.timeout is not None and not 0 < self.timeout < math.inf:
            raise BenchError(f"Launch: timeout {self.timeout:g} is refused; give seconds above 0")

    def expanded(self) -> Launch:
        """The same with `~` as the home folder in every folder, which may have come as text from a notebook."""
        checkpoints, weights = (
            folder if folder is None else Path(os.path.expanduser(folder))
            for folder in (self.checkpoint_dir, self.keep_weights)
        )
        results = Path(os.path.expanduser(self.results))
        return replace(self, results=results, checkpoint_dir=checkpoints, keep_weights=weights)


@dataclass(frozen=True)
class RunRequest:
    """All that a worker needs to do one run; it can be sent to another process or machine.

    Attributes:
        run: The run.
        protocol: Its protocol, resolved.
        card: The data set's card: digests and the twin-free part.
        device: `cpu` or `cuda[:i]`.
        data_root: Where the npz files are, None for the default.
        checkpoint_dir: Folder of this run's checkpoints, None for none.
        plugins: Model files to load first.
        cpu_isa: The instruction set that a run on a CPU must compute at; not looked at on other devices.
        model_fingerprint: Of the model's code where the run was planned; "" for whatever is here.
        redo: Do the run although a finished record of it is there.
        replaces: Digest of that record, "" where there is none; whoever holds the run's lock fills it in.
        keep_weights: Hand over the chosen weights of a network too.
        tracks: Names of corruption tracks to score as the run ends; all apply to it.
        own_data: The TOML card of a data set of one's own, None for an official or synthetic one.
    """

    run: Run
    protocol: Protocol
    card: DataCard
    device: str = "cpu"
    data_root: str | None = None
    checkpoint_dir: str | None = None
    plugins: tuple[str, ...] = ()
    cpu_isa: CpuIsa = cpu_isa.DEFAULT
    model_fingerprint: str = ""
    redo: bool = False
    replaces: str = ""
    keep_weights: bool = False
    tracks: tuple[str, ...] = ()
    own_data: str | None = None


@dataclass(frozen=True)
class TrackBundle:
    """What a scored track hands over: its record and the bytes of its table."""

    record: TrackRecord
    logits: bytes


@dataclass(frozen=True)
class RunBundle:
    """What a run hands to the one that writes: record, the bytes of its tables and of its weights, scored tracks.

    `log` is the whole traceback of a run that failed, for a person; "" where there is none.
    """

    record: Record
    predictions: bytes | None = None
    history: bytes | None = None
    weights: bytes | None = None
    tracks: tuple[TrackBundle, ...] = ()
    log: str = ""


@dataclass(frozen=True)
class RunProgress:
    """How far a training is: epochs and steps count from 0, the rate is that of training since its beginning.

    After it, a scoring on a track: `stage` names it, and its cells are the steps.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    images_per_second: float
    stage: str = ""


@dataclass(frozen=True)
class Hooks:
    """How a run talks to its surroundings while it trains."""

    on_progress: Callable[[RunProgress], None] = field(default=lambda event: None)
    should_stop: Callable[[], bool] = field(default=lambda: False)


@dataclass(frozen=True)
class Event:
    """What the driver reports to whoever watches: `started`, `progress`, `finished`."""

    kind: str
    request: RunRequest
    progress: RunProgress | None = None
    record: Record | None = None


def run_key(request: RunRequest) -> str:
    """Digest of all that must be equal for a checkpoint to be this run's.

    A run that is done again has another key than what the finished one left: it starts from nothing, and goes on from
    its own checkpoint when it was killed.
    """
    run, isa = request.run, request.cpu_isa if request.device == "cpu" else ""
    same = [request.protocol.digest(), fingerprint(get_spec(run.model)), request.card.labels_digest, run.run_id, isa]
    return hashlib.sha256(canonical([*same, request.replaces])).hexdigest()
