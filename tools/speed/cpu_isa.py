"""The price of the pinned arithmetic: CPU time of a training step, pinned over native.

    python -m tools.speed.cpu_isa [--rounds 4] [--models resnet18,swin_t] [--isa avx2] [--size 96] [--batch 16]

A library reads what it is held at when it is loaded, so each of the two settings is a process of its own, one thread
each. A step is forward, loss and backward of a batch of noise, two classes, channels last. The processes take turns,
one step each, after a step that warms up; the ratio is that of the best steps, since other work on the machine only
adds time. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.machine import cpu_isa
from bench.machine.cpu_isa import CpuIsa
from bench.machine.provenance import ROOT, cpu_name
from tools.speed.turns import timed

MODELS = (
    *("medspectralnet", "resnet18", "resnet50", "swin_t", "convnext_t"),
    *("medvit_t", "medmamba_t", "efficientformerv2_s0", "edgenext_s", "mobilenetv4_s"),
)


def serve(size: int, batch: int) -> None:
    """Do what the lines of stdin say, a model's name or an empty line for a step; answer each with a line."""
    import torch
    import torch.nn.functional as F

    from models import create_model

    torch.set_num_threads(1)
    print(cpu_isa.in_force(), flush=True)
    x_BCHW = torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last)
    labels = torch.arange(batch) % 2
    model = torch.nn.Module()

    def step() -> None:
        model.zero_grad(set_to_none=True)
        F.cross_entropy(model(x_BCHW), labels).backward()  # type: ignore[no-untyped-call]

    for line in sys.stdin:
        if name := line.strip():
            torch.manual_seed(0)
            built = create_model(name, num_classes=2, in_chans=3, img_size=size)
            model = built.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
            print("built", flush=True)
        else:
            seconds, _ = timed(step)
            print(seconds, flush=True)


class Worker:
    """A process at one setting."""

    def __init__(self, isa: CpuIsa, size: int, batch: int) -> None:
        values = {**cpu_isa.native_environment(), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
        for name in cpu_isa.VARIABLES:
            values.pop(name, None)
        command = [sys.executable, "-m", "tools.speed.cpu_isa", "--serve", "--size", str(size), "--batch", str(batch)]
        self.process = subprocess.Popen(
            command,
            env={**values, **cpu_isa.settings(isa)},
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.in_force = self._read()

    def send(self, line: str) -> str:
        """Send a line; returns the answer."""
        assert self.process.stdin is not None
        print(line, file=self.process.stdin, flush=True)
        return self._read()

    def _read(self) -> str:
        assert self.process.stdout is not None
        answer = self.process.stdout.readline().strip()
        if not answer:
            raise SystemExit(f"a process that measures ended with exit code {self.process.wait()}")
        return answer

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()


@contextmanager
def both(isa: CpuIsa, size: int, batch: int) -> Iterator[dict[str, Worker]]:
    """A process at each setting; both end with the block."""
    workers: dict[str, Worker] = {}
    try:
        for name, setting in (("pinned", isa), ("native", CpuIsa.native)):
            workers[name] = Worker(setting, size, batch)
        if workers["pinned"].in_force != isa:
            raise SystemExit(f"{isa} is what to measure, the process computes at {workers['pinned'].in_force}")
        yield workers
    finally:
        for worker in workers.values():
            worker.close()


def measure(workers: dict[str, Worker], model: str, rounds: int) -> dict[str, Any]:
    """Best CPU milliseconds of a step in each process, and their ratio."""
    best = dict.fromkeys(workers, float("inf"))
    for worker in workers.values():
        worker.send(model)
        worker.send("")  # warm-up
    for _ in range(rounds):
        for name, worker in workers.items():
            best[name] = min(best[name], float(worker.send("")))
    return {
        "model": model,
        "price": round(best["pinned"] / best["native"], 2),
        **{f"{name}_ms": round(1000 * seconds, 1) for name, seconds in best.items()},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--isa", type=CpuIsa, default=CpuIsa.avx2, choices=(CpuIsa.avx2, CpuIsa.avx512))
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.size, arguments.batch)
        return
    if not cpu_isa.available(arguments.isa):
        raise SystemExit(f"this processor has no {arguments.isa.upper()}")
    rows = []
    with both(arguments.isa, arguments.size, arguments.batch) as workers:
        for model in arguments.models.split(","):
            rows.append(row := measure(workers, model, arguments.rounds))
            print(f"{model}: {row['price']} (pinned {row['pinned_ms']} ms, native {row['native_ms']} ms)", flush=True)
        settings = {name: worker.in_force for name, worker in workers.items()}
    print(json.dumps({"hardware": cpu_name(), **settings, "threads": 1, "rows": rows}))


if __name__ == "__main__":
    main()
