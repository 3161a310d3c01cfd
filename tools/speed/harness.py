"""What the harness costs beside the model: images/s of real training steps over images/s of bare ones.

    python -m tools.speed.harness [--rounds 5] [--device cpu] [--cases resnet18-224,resnet18_28,resnet18_28-plain]

Real: the suite's Trainer, with the epoch's order, gathering, augmentation, learning rate, seeds, progress and loss
bookkeeping; scoring of val after an epoch is timed apart. Bare: forward, loss, backward and optimiser step on a fixed
tensor, same model, batch, precision and memory format. The two take turns, `--steps` steps each, so that a busy machine
slows both; the efficiency is the median over rounds of the ratio within a round. On a CPU the time is the process's own
CPU time on one thread. Data: the synthetic Blood stand-in, tiled to the steps' images. Peak resident memory is that of
two processes more, each of which does one of the two alone. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.data.loading import load
from bench.machine.provenance import peak_memory_mib
from bench.protocols.loading import load_protocol
from bench.protocols.schema import Protocol
from bench.streams import Streams
from bench.training.trainer import DTYPES, FORMATS, SplitData, Trainer, build_optimizer
from models import create_model
from tools.speed.turns import clock, take_turns

DATASET, TASK, NUM_CLASSES = "synthetic-bloodmnist", "multi-class", 8


@dataclass(frozen=True)
class Case:
    """What is measured and what it should reach on a CPU."""

    model: str
    protocol: str
    change: dict[str, Any]
    goal: float


CASES = {
    "resnet18-224": Case("resnet18", "paper-224-scratch", {}, 0.80),
    "resnet18_28": Case("resnet18_28", "paper-224-scratch", {"img_size": 28, "batch_size": 128}, 0.95),
    "resnet18_28-plain": Case("resnet18_28", "medmnist-28", {"channels": "rgb"}, 0.97),
}


def adapted(case: Case) -> Protocol:
    """The case's protocol: a small image stem needs 28 px, and every case one epoch's rules."""
    content = load_protocol(case.protocol).model_dump(mode="json")
    if "img_size" in case.change:
        content["data"]["img_size"] = case.change["img_size"]
    if "channels" in case.change:
        content["data"].update(channels=case.change["channels"], mean=[0.5] * 3, std=[0.5] * 3)
    if "batch_size" in case.change:
        content["schedule"]["batch_size"] = case.change["batch_size"]
    return Protocol.model_validate(content)


def split(name: str, num_images: int, device: str) -> SplitData:
    """Images and labels of a split, tiled to a number."""
    arrays = load(DATASET, 28)
    chosen = np.arange(num_images) % len(arrays.labels[name])
    return SplitData.from_arrays(arrays.images[name][chosen], arrays.labels[name][chosen], device)


class Bare:
    """The model's own work: the same step on a fixed tensor."""

    def __init__(self, model: nn.Module, protocol: Protocol, device: str) -> None:
        self.dtype = DTYPES[protocol.numerics.precision]
        self.bf16 = protocol.numerics.precision == "bf16"
        self.format = FORMATS[protocol.numerics.memory_format]
        self.model = model.to(device=device, dtype=self.dtype, memory_format=self.format)  # type: ignore[call-overload]
        self.optimizer = build_optimizer(self.model, protocol.optim)
        size, self.batch = protocol.data.img_size, protocol.schedule.batch_size
        self.x_BCHW = torch.randn(self.batch, 3, size, size, device=device, dtype=self.dtype).to(
            memory_format=self.format
        )
        self.targets = torch.randint(NUM_CLASSES, (self.batch,), device=device)
        self.device = device
        self.model.train()

    def steps(self, number: int) -> int:
        """Do steps; returns the images trained on."""
        for _ in range(number):
            self.optimizer.zero_grad(set_to_none=True)
            with torch.autocast(self.device.split(":")[0], dtype=torch.bfloat16, enabled=self.bf16):
                logits: Tensor = self.model(self.x_BCHW)
            F.cross_entropy(logits.to(self.dtype), self.targets).backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
        return number * self.batch


def build(case: Case, protocol: Protocol, device: str) -> nn.Module:
    """The case's model, with the same weights each time."""
    torch.manual_seed(0)
    built: nn.Module = create_model(case.model, num_classes=NUM_CLASSES, in_chans=3, img_size=protocol.data.img_size)
    return built.to(device)


def alone(name: str, which: str, steps: int, device: str) -> None:
    """Do bare or real steps in this process and print its highest resident memory in MiB."""
    case = CASES[name]
    protocol = adapted(case)
    if which == "bare":
        Bare(build(case, protocol, device), protocol, device).steps(steps)
    else:
        sets = split("train", steps * protocol.schedule.batch_size, device), split("val", 64, device)
        streams = Streams(case.model, DATASET, 0)
        model = build(case, protocol, device)
        Trainer(model, *sets, protocol, streams, task=TASK, num_classes=NUM_CLASSES)._train_epoch()
    print(peak_memory_mib("cpu"))


def peak_mib(name: str, which: str, steps: int, device: str) -> float:
    """Highest resident memory of a process that does one of the two."""
    command = [sys.executable, "-m", "tools.speed.harness", "--cases", name, "--alone", which, "--device", device]
    done = subprocess.run([*command, "--steps", str(steps)], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def measure(name: str, case: Case, rounds: int, steps: int, device: str) -> dict[str, Any]:
    """Alternating rounds of bare and real steps of one case."""
    protocol = adapted(case)
    batch = protocol.schedule.batch_size

    bare = Bare(build(case, protocol, device), protocol, device)
    bare.steps(2)
    train, val = split("train", steps * batch, device), split("val", 2 * batch, device)
    streams = Streams(case.model, DATASET, 0)
    trainer = Trainer(build(case, protocol, device), train, val, protocol, streams, task=TASK, num_classes=NUM_CLASSES)
    trainer._train_epoch()

    def next_epoch() -> None:
        trainer.progress.step, trainer.progress.losses = 0, []
        trainer.progress.epoch += 1
        trainer._train_epoch()

    calls = {"bare": lambda: bare.steps(steps), "real": next_epoch, "scoring": trainer._score_epoch}
    times = take_turns(calls, rounds, clock(device), warm_up=False)
    ratios = [b / r for b, r in zip(times["bare"], times["real"], strict=True)]  # both train on steps * batch images
    rates = {
        name: images / statistics.median(times[name])
        for name, images in (("bare", len(train)), ("real", len(train)), ("scoring", len(val)))
    }
    data_mib = train.images.numel() / 2**20
    return {
        "case": name,
        "efficiency": round(statistics.median(ratios), 4),
        "lowest": round(min(ratios), 4),
        "goal_on_cpu": case.goal,
        "bare_images_per_second": round(rates["bare"], 1),
        "real_images_per_second": round(rates["real"], 1),
        "val_images_per_second": round(rates["scoring"], 1),
        "peak_mib_bare": round(peak_mib(name, "bare", steps, device)),
        "peak_mib_real": round(peak_mib(name, "real", steps, device)),
        "data_mib": round(data_mib, 1),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--alone", choices=["bare", "real"], default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.alone:
        alone(arguments.cases, arguments.alone, arguments.steps, arguments.device)
        return
    rows = []
    for name in arguments.cases.split(","):
        rows.append(measure(name, CASES[name], arguments.rounds, arguments.steps, arguments.device))
        print(", ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    print(json.dumps({"device": arguments.device, "torch": torch.__version__, "cases": rows}))


if __name__ == "__main__":
    main()
