"""One timing process: start it, hand it a request, read its answers, and know what its death means. No torch."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from bench.machine import cpu_isa, provenance
from bench.measure.timing.blocks import Budget
from bench.records.timing_record import Round, Scan, Setting, device_label, timing_path

HANG_FACTOR = 10  # a cell that takes this many budgets hangs
HANG_SECONDS = 900.0


@dataclass(frozen=True)
class TimingPlan:
    """What to time, where, how often.

    Attributes:
        models: Registered names of networks.
        settings: What is timed of each.
        device: `cpu` or `cuda[:i]`.
        device_name: What `provenance.device_name` says of it.
        results: The results folder.
        rounds: Processes a model.
        seed: Of the order of the models in each round.
        num_threads: CPU threads.
        budget: Of a cell in one round.
        plugins: Model files to load first.
        scan: `torch` times MedMamba without mamba-ssm's kernel where that is installed.
    """

    models: tuple[str, ...]
    settings: tuple[Setting, ...]
    device: str
    device_name: str
    results: Path
    rounds: int = 3
    seed: int = 0
    num_threads: int = 1
    budget: Budget = field(default_factory=Budget)
    plugins: tuple[str, ...] = ()
    scan: Scan = "auto"

    @property
    def label(self) -> str:
        """The device as records name it."""
        return device_label(self.device_name, self.num_threads)

    def path(self, model: str) -> Path:
        """Where the record of a model stands."""
        return timing_path(self.results, self.label, model, self.scan)

    def order(self) -> list[tuple[int, str]]:
        """(round, model) in the order of measurement; the seed alone decides it."""
        order: list[tuple[int, str]] = []
        for index in range(self.rounds):
            models = sorted(self.models)
            random.Random(f"{self.seed}-{index}").shuffle(models)
            order.extend((index, model) for model in models)
        return order


def answers(plan: TimingPlan, model: str, index: int, settings: Sequence[Setting]) -> Iterator[dict[str, Any]]:
    """A worker's answers; if it dies or hangs, a last one that fails the cell it was at."""
    request = {
        "model": model,
        "device": plan.device,
        "num_threads": plan.num_threads,
        "round": index,
        "settings": [setting.model_dump(mode="json") for setting in settings],
        "budget": asdict(plan.budget),
        "plugins": list(plan.plugins),
        "parent": os.getpid(),
        "scan": plan.scan,
    }
    limit = max(HANG_SECONDS, HANG_FACTOR * (plan.budget.cell_seconds or plan.budget.warm_up_seconds))
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        worker = _start(plan.num_threads, log)
        assert worker.stdin is not None
        assert worker.stdout is not None
        hung = threading.Event()
        events: list[str] = []
        try:
            with worker.stdin as stdin:
                json.dump(request, stdin)
            while line := _read(worker, hung, limit):
                answer = json.loads(line)
                events.append(answer["event"])
                yield answer
            code = worker.wait()
        finally:
            worker.kill()
            worker.wait()
            worker.stdout.close()
        if not {"refused", "broken"} & set(events) and events.count("round") < len(settings):
            lost = _lost(index, code, hung.is_set(), limit, log)
            if lost.status == "failed" and "machine" not in events:  # it never came to measure: not a cell's fault
                yield {"event": "refused", "reason": f"{model}: {lost.reason}"}
            else:
                yield {"event": "round", "round": lost.model_dump(mode="json")}


def _start(num_threads: int, log: IO[str]) -> subprocess.Popen[str]:
    # A pinned CPU is slower: speed is measured at what the processor has.
    environment = cpu_isa.native_environment() | {
        "OMP_NUM_THREADS": str(num_threads),
        "MKL_NUM_THREADS": str(num_threads),
        "OMP_WAIT_POLICY": "passive",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(provenance.ROOT), os.environ.get("PYTHONPATH", "")])),
    }
    command = [sys.executable, "-m", "bench.measure.timing.worker"]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment, text=True
    )


def _read(worker: subprocess.Popen[str], hung: threading.Event, limit: float) -> str:
    """The next line; a worker that is silent for too long is killed, which ends the stream."""

    def give_up() -> None:
        hung.set()
        worker.kill()

    assert worker.stdout is not None
    timer = threading.Timer(limit, give_up)
    timer.start()
    try:
        return worker.stdout.readline()
    finally:
        timer.cancel()


def _lost(index: int, code: int, hung: bool, limit: float, log: IO[str]) -> Round:
    """The round of a cell whose process is gone: killed from outside means, on a CPU, that memory ran out."""
    log.seek(0)
    lines = [line.strip() for line in log.read().splitlines() if line.strip()]
    if hung:
        return Round(index=index, status="timeout", reason=f"no answer within {limit:.0f} s")
    if code == -signal.SIGKILL:
        return Round(index=index, status="oom", reason="the process was killed, as a system out of memory does")
    last = lines[-1] if lines else "no message"
    return Round(index=index, status="failed", reason=f"the process ended with code {code}: {last[:200]}")
