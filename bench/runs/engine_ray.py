"""Where runs execute, second engine: tasks of a Ray cluster. No scheduler of our own.

One run is one task with its CPU and GPU needs. Ray places it on any node and starts it again when a node is
lost. A worker returns the record's bytes; the driver alone writes the results folder and holds the lock of
every run under way, so no shared file system is needed. Data and plugins travel with the task to nodes that
lack them; checkpoints are kept only where `--checkpoint-dir` names a folder that all nodes see.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.errors import BenchError, DataMissingError, Interrupted
from bench.machine import cpu_isa
from bench.machine.fork_server import END_SECONDS
from bench.machine.signals import signals_noted
from bench.machine.surroundings import user_name
from bench.records.run_record import Failure, Record
from bench.records.sealed import write_atomic
from bench.runs import public_weights
from bench.runs.claim import run_lock, still_to_do
from bench.runs.request import Event, RunBundle, RunRequest
from bench.runs.runner import failed_record
from bench.runs.worker import forget_checkpoints, isolate
from bench.runs.writing import write_bundle
from models import get_spec
from models.sources import sources

NODE_LOSSES = 5  # how often Ray starts a run again whose node was lost
POLL_SECONDS = 0.2
CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class TaskInput:
    """What is sent to a node: a run and what it needs.

    Attributes:
        request: The run.
        plugins: The files of each plugin, its own first: path below a common folder, and bytes.
        data_file: Name of the npz file, "" for a set that is made by formula.
        data: A Ray reference to its bytes in a list, so that only a node that lacks the file fetches it.
        timeout: Seconds after which the run is killed and fails.
    """

    request: RunRequest
    plugins: tuple[tuple[tuple[str, bytes], ...], ...]
    data_file: str
    data: tuple[Any, ...]
    timeout: float | None


def _scratch(*files: tuple[str, bytes]) -> Path:
    """A folder of this node, named by content, that holds the files; the path of the first."""
    digest = hashlib.sha256(b"".join(content for _, content in files)).hexdigest()[:24]
    folder = Path(tempfile.gettempdir()) / f"medbench-{user_name()}" / digest
    for name, content in files:
        path = folder / name
        if not path.exists() or path.read_bytes() != content:
            write_atomic(path, content)
    return folder / files[0][0]


def _packed_plugin(path: Path) -> tuple[tuple[str, bytes], ...]:
    """A plugin's file and the files of its own that it imports."""
    made_of = sources(path)
    return tuple((file.relative_to(made_of.root).as_posix(), file.read_bytes()) for file in made_of.files)


def _unpacked(task_input: TaskInput) -> RunRequest:
    """The request with plugins and data where this node can read them."""
    from bench.data.loading import find_file

    request = task_input.request
    plugins = tuple(str(_scratch(*files)) for files in task_input.plugins)
    request = replace(request, plugins=plugins)
    if not task_input.data_file:
        return request
    try:
        find_file(request.run.dataset, request.protocol.data.source_size, request.data_root, download=False)
    except DataMissingError:
        import ray

        content: bytes = ray.get(task_input.data[0])
        return replace(request, data_root=str(_scratch((task_input.data_file, content)).parent))
    return request


def do_task(task_input: TaskInput) -> RunBundle:
    """A task: one run in a process of its own on this node."""
    return isolate(_unpacked(task_input), task_input.timeout)


class RayEngine:
    """Runs requests as tasks of a Ray cluster.

    Args:
        results: The results folder; only this object writes its records.
        address: The cluster's address; "" starts one on this machine.
        jobs: Runs under way at most; 0 for twice the cluster's CPUs, so that an autoscaler sees the demand.
        gpus_per_run: GPUs, or a share of one, that a network on CUDA takes.
        timeout: Seconds after which a run is killed and fails, None for never.
        on_event: Called at every start and end.
        weights: The folder for weights that runs hand over, None to write none.

    Raises:
        BenchError: If Ray is not installed or the cluster does not answer.
    """

    def __init__(
        self,
        results: Path,
        *,
        address: str = "",
        jobs: int = 0,
        gpus_per_run: float = 1.0,
        timeout: float | None = None,
        on_event: Callable[[Event], None] = lambda event: None,
        weights: Path | None = None,
    ) -> None:
        self.results, self.address, self.jobs, self.weights = results, address, jobs, weights
        self.gpus_per_run, self.timeout = gpus_per_run, timeout
        self.on_event = on_event
        self.records: list[Record] = []
        self.under_way: dict[Any, tuple[RunRequest, Any]] = {}
        self.data: dict[str, Any] = {}
        self.signum = 0

    def run(self, requests: Sequence[RunRequest]) -> list[Record]:
        """Do all runs; returns the records written by this call, in the order they ended.

        Raises:
            BenchError: If the cluster does not answer.
            Interrupted: After SIGINT or SIGTERM.
            RecordError: If results cannot be written.
        """
        ray = _connect(self.address)
        try:
            with signals_noted(self._note_signal):
                self._drive(ray, list(requests))
        finally:
            self._release(ray)
            ray.shutdown()
        return self.records

    def _note_signal(self, signum: int, _: Any) -> None:
        self.signum = signum

    def _drive(self, ray: Any, waiting: list[RunRequest]) -> None:
        window = self.jobs or max(4, 2 * int(ray.cluster_resources().get("CPU", 1)))
        while waiting or self.under_way:
            for _ in range(len(waiting)):
                if len(self.under_way) >= window:
                    break
                request = waiting.pop(0)
                if not self._submit(ray, request):
                    waiting.append(request)  # another driver has it: look again later
            ready, _ = ray.wait(list(self.under_way), timeout=POLL_SECONDS) if self.under_way else ([], [])
            if not self.under_way:
                time.sleep(POLL_SECONDS)
            for reference in ready:
                self._collect(ray, reference)
            if self.signum:
                raise Interrupted(self.signum)

    def _submit(self, ray: Any, request: RunRequest) -> bool:
        """Start a run; False if another driver holds its lock."""
        from filelock import Timeout

        lock = run_lock(self.results, request.run)
        try:
            lock.acquire()
        except Timeout:
            return False
        to_do = still_to_do(self.results, request)
        if to_do is None:
            lock.release()
            self.on_event(Event("started", request))
            self.on_event(Event("finished", request))
            return True
        request = to_do
        needs_gpu = request.device.startswith("cuda") and get_spec(request.run.model).kind == "network"
        task = ray.remote(do_task).options(
            num_cpus=1,
            num_gpus=self.gpus_per_run if needs_gpu else 0,
            max_retries=NODE_LOSSES,
            retry_exceptions=False,
            name=request.run.run_id,
            runtime_env={"env_vars": cpu_isa.settings(request.cpu_isa) | _weights_folder()},
        )
        self.under_way[task.remote(self._pack(ray, request))] = (request, lock)
        self.on_event(Event("started", request))
        return True

    def _pack(self, ray: Any, request: RunRequest) -> TaskInput:
        from bench.data.loading import find_file

        data_file = ""
        data: tuple[Any, ...] = ()
        if not (request.run.synthetic or request.run.own):  # one's own files stand where all nodes see them
            path = find_file(request.run.dataset, request.protocol.data.source_size, request.data_root, download=False)
            if str(path) not in self.data:
                self.data[str(path)] = ray.put(path.read_bytes())
            data_file, data = path.name, (self.data[str(path)],)
        plugins = tuple(_packed_plugin(Path(path)) for path in request.plugins)
        return TaskInput(request, plugins, data_file, data, self.timeout)

    def _collect(self, ray: Any, reference: Any) -> None:
        """Write what a task brought; one that Ray gave up is a failed run."""
        request, lock = self.under_way.pop(reference)
        try:
            try:
                bundle = ray.get(reference)
            except ray.exceptions.RayError as error:
                text = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
                failure = Failure(kind="infra", message=f"the cluster lost the run: {text}")
                bundle = RunBundle(failed_record(request, failure))
            write_bundle(bundle, self.results, self.weights)
            if bundle.record.status == "done":
                forget_checkpoints(request)
        finally:
            lock.release()
        self.records.append(bundle.record)
        self.on_event(Event("finished", request, record=bundle.record))

    def _release(self, ray: Any) -> None:
        """Make runs still under way save and stop, and let their locks go."""
        for reference in self.under_way:
            ray.cancel(reference, force=False)
        if self.under_way:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.wait(list(self.under_way), num_returns=len(self.under_way), timeout=END_SECONDS)
        for _, lock in self.under_way.values():
            lock.release()
        self.under_way.clear()


def _weights_folder() -> dict[str, str]:
    """The driver's folder of public weights, for the nodes that see it too."""
    folder = os.environ.get(public_weights.VARIABLE)
    return {public_weights.VARIABLE: folder} if folder else {}


def _connect(address: str) -> Any:
    try:
        import ray
    except ModuleNotFoundError:
        raise BenchError("--engine ray needs Ray, which is not installed; install the extra [ray]") from None
    address = address or os.environ.get("RAY_ADDRESS", "")
    try:
        _check_reachable(address)
        ray.init(address=address or None, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BenchError(f"No Ray cluster answers at {address or 'this machine'}: {reason}") from None
    return ray


def _check_reachable(address: str) -> None:
    """Fail at once where nothing listens; Ray itself tries for minutes.

    Raises:
        OSError: If host and port do not answer.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
