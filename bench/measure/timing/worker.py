"""The process that times one model in one round: a request on stdin, one JSON line per event on stdout.

Events: `{"event": "machine", ...}` once, then for each setting `{"event": "start", "position": i}` and
`{"event": "round", "position": i, "round": {...}}`. A process that dies leaves its last `start` without an answer; one
whose device answers no more says `{"event": "broken"}` and ends, and a new one goes on behind it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

import torch
from torch import Tensor, nn

from bench.machine.foreign import Pinned, create
from bench.machine.memory import is_out_of_memory
from bench.machine.signals import end_with_parent
from bench.measure.timing.blocks import Budget, measure_blocks
from bench.measure.timing.gpu_meter import Meter
from bench.measure.timing.steps import (
    AUTOCAST,
    Clock,
    forget,
    inference_step,
    limit_memory,
    numerics,
    peak_memory_mib,
    training_step,
    wait_for,
)
from bench.records.cost_record import IN_CHANS
from bench.records.timing_record import NUM_CLASSES, Agreement, Round, RoundStatus, Setting
from models import ModelError, load_plugin

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
NUM_BUFFERS = 4  # inputs that take turns, so that no batch finds the last one in a cache
NUM_COMPARED = {"cpu": 8, "cuda": 64}
SEED = 0


class CellTimer:
    """One model on one device.

    Args:
        model: Registered name.
        device: `cpu` or `cuda[:i]`.
        budget: How long a cell may take.
        round_index: Recorded with each round.
        num_threads: CPU threads.
    """

    def __init__(self, model: str, device: str, budget: Budget, round_index: int, num_threads: int = 1) -> None:
        self.model, self.device, self.budget, self.round_index = model, torch.device(device), budget, round_index
        self.pinned, self.meter = Pinned(num_threads), Meter(device)
        self.reference: dict[int, Tensor] = {}
        self.compared: dict[tuple[Any, ...], Agreement] = {}

    def scan_backend(self, img_size: int) -> str | None:
        """Which selective scan the model runs, None for models without one."""
        modules = {sys.modules[type(module).__module__] for module in self.build(img_size).modules()}
        if not any(hasattr(module, "selective_scan") for module in modules):
            return None
        from models.selective_scan import selected_backend

        return str(selected_backend(self.device))

    def build(self, img_size: int) -> nn.Module:
        """The model with the same weights each time."""
        options = {"num_classes": NUM_CLASSES, "in_chans": IN_CHANS, "img_size": img_size}
        return create(self.model, seed=SEED, num_threads=self.pinned.num_threads, **options).to(self.device)

    def images(self, count: int, img_size: int, memory_format: torch.memory_format) -> Tensor:
        """(count, C, H, W) of noise with the mean and spread of normalised images."""
        generator = torch.Generator().manual_seed(SEED)
        x_BCHW = torch.randn(count, IN_CHANS, img_size, img_size, generator=generator)
        return x_BCHW.to(self.device).contiguous(memory_format=memory_format)

    def is_alive(self) -> bool:
        """Whether the device still answers; after some CUDA errors nothing in a process can use it again."""
        try:
            wait_for(self.device)
        except RuntimeError:
            return False
        return True

    def measure(self, setting: Setting) -> Round:
        """Time one setting; running out of memory is an outcome, not an error."""
        try:
            return self._measure(setting)
        except Exception as error:  # the other cells go on; the reason is in the record
            status: RoundStatus = "oom" if is_out_of_memory(error) else "failed"
            return Round(index=self.round_index, status=status, reason=_line(error))

    def _measure(self, setting: Setting) -> Round:
        forget(self.device)
        agreement = self._agreement(setting) if setting.mode == "inference" else None
        forget(self.device)
        step, compile_seconds = self._step(setting)
        before, clock = self.meter.state(), Clock(self.device, step)
        with numerics(setting, self.device):
            blocks = measure_blocks(clock.run_block, self.budget)
            wall_over_event = clock.wall_over_event(len(blocks.seconds))
            joules = self._energy(clock, blocks.iterations, len(blocks.seconds))
        self.pinned.check_threads()
        return Round(
            index=self.round_index,
            status="done",
            iterations=blocks.iterations,
            block_seconds=[float(f"{seconds:.6g}") for seconds in blocks.seconds],
            steady=blocks.steady,
            warm_up_seconds=round(blocks.warm_up_seconds, 3),
            compile_seconds=compile_seconds,
            wall_over_event=wall_over_event,
            peak_memory_mib=peak_memory_mib(self.device),
            joules=joules,
            agreement=agreement,
            before=before,
            after=self.meter.state(),
        )

    def _energy(self, clock: Clock, iterations: int, blocks: int) -> float | None:
        """Joules of as many blocks again: the counter is too slow to be read between two of them."""
        start = self.meter.joules()
        if start is None:
            return None
        for _ in range(blocks):
            clock.run_block(iterations)
        end = self.meter.joules()
        return None if end is None else round(end - start, 3)

    def _step(self, setting: Setting) -> tuple[Callable[[int], object], float | None]:
        """The batch that is timed, by number, and the seconds of the compiling call."""
        model = self.build(setting.img_size).to(memory_format=FORMATS[setting.memory_format])  # type: ignore[call-overload]
        model.train(setting.mode == "training")
        batches = [
            self.images(setting.batch_size, setting.img_size, FORMATS[setting.memory_format])
            for _ in range(NUM_BUFFERS)
        ]
        run: Callable[[Tensor], Tensor] = torch.compile(model) if setting.compiled else model
        if setting.mode == "training":
            step = training_step(model, run, batches, AUTOCAST.get(setting.precision))
        else:
            step = inference_step(run, batches)
        if not setting.compiled:
            return step, None
        started = time.perf_counter()
        with numerics(setting, self.device):
            step(0)
            wait_for(self.device)
        return step, round(time.perf_counter() - started, 2)

    def _agreement(self, setting: Setting) -> Agreement:
        """The mode's logits beside fp32 eager's; once a process for each way to run."""
        way = (setting.precision, setting.memory_format, setting.compiled, setting.img_size)
        if way not in self.compared:
            plain = setting.model_copy(update={"precision": "fp32", "memory_format": "contiguous", "compiled": False})
            if setting.img_size not in self.reference:
                self.reference[setting.img_size] = self._logits(plain)
            expected = self.reference[setting.img_size]
            logits = expected if setting == plain else self._logits(setting)
            self.compared[way] = compare(expected, logits)
        return self.compared[way]

    def _logits(self, setting: Setting) -> Tensor:
        """(n, K) float32 on the CPU."""
        model = self.build(setting.img_size).to(memory_format=FORMATS[setting.memory_format]).eval()  # type: ignore[call-overload]
        run: Callable[[Tensor], Tensor] = torch.compile(model) if setting.compiled else model
        x_BCHW = self.images(NUM_COMPARED[self.device.type], setting.img_size, FORMATS[setting.memory_format])
        with torch.inference_mode(), numerics(setting, self.device):
            return run(x_BCHW).float().cpu()


def compare(expected: Tensor, logits: Tensor) -> Agreement:
    """Logits (n, K) of a mode against those of fp32 eager."""
    difference = float((logits - expected).abs().max())
    return Agreement(
        num_images=len(expected),
        top1=float((logits.argmax(1) == expected.argmax(1)).float().mean()),
        max_difference=difference if difference == difference and difference != float("inf") else None,
        spread=float(expected.max() - expected.min()),
    )


def _line(error: Exception) -> str:
    return (str(error).strip().split("\n")[0] or type(error).__name__)[:300]


def work(request: dict[str, Any], answers: TextIO) -> None:
    """Do a request; `bench.measure.timing.rounds` writes it."""

    def answer(**event: Any) -> None:
        print(json.dumps(event), file=answers, flush=True)

    torch.set_num_threads(request["num_threads"])
    if request["device"] == "cpu":
        limit_memory()
    if request["scan"] == "torch":
        sys.modules["mamba_ssm"] = None  # type: ignore[assignment]  # an import then fails as if it were not there
    for plugin in request["plugins"]:
        load_plugin(plugin)
    settings = [Setting.model_validate(setting) for setting in request["settings"]]
    budget = Budget(**request["budget"])
    timer = CellTimer(request["model"], request["device"], budget, request["round"], request["num_threads"])
    try:
        backend = timer.scan_backend(settings[0].img_size)
    except ModelError as error:
        answer(event="refused", reason=str(error))
        return
    if backend is None and request["scan"] != "auto":
        answer(event="refused", reason=f"{request['model']} has no selective scan, so --scan has nothing to choose")
        return
    answer(event="machine", scan_backend=backend, driver=timer.meter.driver())
    for position, setting in enumerate(settings):
        answer(event="start", position=position)
        round_ = timer.measure(setting)
        answer(event="round", position=position, round=round_.model_dump(mode="json"))
        if round_.status == "failed" and not timer.is_alive():
            answer(event="broken")
            return


def main() -> None:
    """Keep stdout for answers: what models and libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    request = json.load(sys.stdin)
    end_with_parent(request["parent"], signal.SIGKILL)
    work(request, answers)


if __name__ == "__main__":
    main()
