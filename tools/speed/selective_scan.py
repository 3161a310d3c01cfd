"""The selective scan against plain loops, at MedMamba-T's shapes for 224 px: time, peak memory, share of the model.

    python -m tools.speed.selective_scan [--rounds 7] [--device cpu|cuda]

All variants take turns in each round, so that a busy machine slows all of them; a ratio is the median over rounds of
the ratio within a round. On a CPU: one thread, and the process's own CPU time. Baselines: `indexed`, decays and
inputs of all steps as (Z, R, L, N) tensors that a loop indexes by step, forward only; `time-major`, the same with
time first, which autograd can differentiate. `no scan` is MedMamba-T with the scan replaced by u + delta. The last
line is JSON.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from torch import Tensor
from torch.nn import functional

from models import create_model, medmamba
from models.selective_scan import selected_backend, selective_scan
from tools.speed.turns import clock, median_ratio, take_turns

STAGES = ((3136, 96), (784, 192), (196, 384), (49, 768))  # MedMamba-T at 224 px: tokens, inner channels
NUM_DIRECTIONS, NUM_STATES, BATCH = 4, 16, 1
# Issue of the scan: speed-ups to reach at the first stage on one CPU thread.
GOALS = {"forward vs indexed": 8.0, "with backward vs time-major": 4.0}


def indexed_loop(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor) -> Tensor:
    """The loop as it is usually written: everything for all steps first, then index by step."""
    delta = functional.softplus(delta + bias[:, None])
    repeats = u.shape[1] // B.shape[1]
    B, C = B.repeat_interleave(repeats, dim=1), C.repeat_interleave(repeats, dim=1)
    decay = torch.exp(delta[..., None] * A[:, None])
    drive = (delta * u)[..., None] * B.transpose(2, 3)
    state, outputs = u.new_zeros(*decay.shape[:2], A.shape[1]), []
    for t in range(u.shape[2]):
        state = decay[:, :, t] * state + drive[:, :, t]
        outputs.append((state * C[..., t]).sum(-1))
    return torch.stack(outputs, dim=2) + u * D[:, None]


def time_major_loop(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor) -> Tensor:
    """The same with time first, groups unexpanded and one product at the end; the faster of the ways tried."""
    groups = B.shape[1]
    u, delta = (x.permute(2, 0, 1).unflatten(2, (groups, -1)).contiguous() for x in (u, delta))  # type: ignore[no-untyped-call]
    delta = functional.softplus(delta + bias.view(groups, -1))
    decay = torch.exp(delta[..., None, :] * A.view(groups, -1, A.shape[1]).mT)
    drive = B.permute(3, 0, 1, 2)[..., None] * (delta * u)[..., None, :]
    state, states = torch.zeros_like(drive[0]), []
    for decay_t, drive_t in zip(decay.unbind(), drive.unbind(), strict=True):
        state = torch.addcmul(drive_t, decay_t, state)
        states.append(state)
    y = torch.matmul(C.permute(3, 0, 1, 2)[..., None, :], torch.stack(states)).squeeze(-2)
    return (y + u * D.view(groups, -1)).flatten(2).permute(1, 2, 0)


def draw(length: int, channels: int, device: str) -> list[Tensor]:
    """Inputs in the memory order in which MedMamba gives them, with steps of its initial sizes."""
    torch.manual_seed(0)
    rows = NUM_DIRECTIONS * channels

    def projection() -> Tensor:
        return torch.randn(BATCH, length, NUM_DIRECTIONS, NUM_STATES).permute(0, 2, 3, 1)

    tensors = [
        torch.randn(BATCH, length, rows).transpose(1, 2),
        torch.randn(BATCH, length, rows).transpose(1, 2),
        -torch.arange(1.0, NUM_STATES + 1).repeat(rows, 1),
        projection(),
        projection(),
        torch.ones(rows),
        torch.full((rows,), -4.5),
    ]
    return [tensor.to(device) for tensor in tensors]


def forward(function: Callable[..., Tensor], inputs: list[Tensor]) -> Callable[[], Tensor]:
    def call() -> Tensor:
        with torch.no_grad():
            return function(*inputs)

    return call


def with_backward(function: Callable[..., Tensor], inputs: list[Tensor]) -> Callable[[], object]:
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    cotangent = torch.randn_like(inputs[0])
    return lambda: torch.autograd.grad(function(*leaves), leaves, cotangent)


def peak_megabytes(call: Callable[[], object], device: str) -> float:
    """Memory that a call needs beyond what was there: of the allocator on a GPU, else resident memory of a child."""
    if device != "cpu":
        call()  # allocates what the first call of a process does
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, str(grown_kibibytes(call)).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        grown = float(pipe.read() or "nan")
    os.waitpid(child, 0)
    return grown / 2**10


def grown_kibibytes(call: Callable[[], object]) -> float:
    """Growth of this process's peak during a second call; nan where the system is no Linux."""
    if not sys.platform.startswith("linux"):
        return float("nan")

    def resident(field: str) -> int:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.partition(field + ":")[2].split()[0])

    call()  # loads what the first call loads
    ctypes.CDLL(None).malloc_trim(0)  # freed memory goes back, or the call would reuse it unseen
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts at what is resident now
    before = resident("VmRSS")
    call()
    return resident("VmHWM") - before


def milliseconds(calls: Mapping[str, Callable[[], object]], rounds: int, device: str) -> dict[str, list[float]]:
    times = take_turns(calls, rounds, clock(device))
    return {name: [seconds * 1e3 for seconds in values] for name, values in times.items()}


def measure_stage(length: int, channels: int, rounds: int, device: str) -> dict[str, Any]:
    inputs = draw(length, channels, device)
    functions: dict[str, Callable[..., Tensor]] = {"time-major": time_major_loop}
    backends = ["torch"] if selected_backend(device) == "torch" else ["torch", selected_backend(device)]
    for backend in backends:
        functions[backend] = lambda *tensors, backend=backend: selective_scan(*tensors, backend=backend)
    plain_loop = forward(indexed_loop, inputs)
    calls: dict[str, Callable[[], object]] = {"indexed forward": plain_loop}
    for name, function in functions.items():
        calls[f"{name} forward"] = forward(function, inputs)
        calls[f"{name} with backward"] = with_backward(function, inputs)
    expected = plain_loop()
    for name, function in functions.items():
        difference = (forward(function, inputs)() - expected).abs().max() / expected.abs().max()
        assert difference < 1e-4, f"{name} differs from the plain loop by {difference:.1e}"
    peaks = {name: peak_megabytes(call, device) for name, call in calls.items()}
    times = milliseconds(calls, rounds, device)
    speedups: dict[str, float] = {}
    for backend in backends:
        speedups |= {
            f"{backend} forward vs indexed": median_ratio(times["indexed forward"], times[f"{backend} forward"]),
            f"{backend} forward vs time-major": median_ratio(times["time-major forward"], times[f"{backend} forward"]),
            f"{backend} with backward vs time-major": median_ratio(
                times["time-major with backward"], times[f"{backend} with backward"]
            ),
        }
    return {
        "length": length,
        "channels": channels,
        "ms_best": {name: round(min(values), 2) for name, values in times.items()},
        "ms_median": {name: round(statistics.median(values), 2) for name, values in times.items()},
        "peak_mb": {name: round(value, 1) for name, value in peaks.items()},
        "speedups": {name: round(value, 2) for name, value in speedups.items()},
    }


@contextmanager
def scan_left_out() -> Iterator[None]:
    kept = medmamba.selective_scan
    medmamba.selective_scan = lambda u, delta, *_: u + delta
    try:
        yield
    finally:
        medmamba.selective_scan = kept


def measure_model(rounds: int, device: str) -> dict[str, Any]:
    """MedMamba-T at 224 px, batch 1: milliseconds with and without the scan, and their ratio."""
    model = create_model("medmamba_t", num_classes=8).eval().to(device)
    images = torch.randn(BATCH, 3, 224, 224, device=device)

    def train() -> None:
        model.zero_grad()
        model(images).sum().backward()

    def without(call: Callable[[], object]) -> Callable[[], None]:
        def wrapped() -> None:
            with scan_left_out():
                call()

        return wrapped

    infer = forward(model, [images])
    calls = {
        "forward": infer,
        "forward, no scan": without(infer),
        "with backward": train,
        "with backward, no scan": without(train),
    }
    times = milliseconds(calls, rounds, device)
    return {
        "ms_best": {name: round(min(values), 1) for name, values in times.items()},
        "ms_median": {name: round(statistics.median(values), 1) for name, values in times.items()},
        "speed_of_no_scan": {
            name: round(median_ratio(times[f"{name}, no scan"], times[name]), 2)
            for name in ("forward", "with backward")
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = arguments.device
    stages = [measure_stage(length, channels, arguments.rounds, device) for length, channels in STAGES]
    for stage in stages:
        print(f"L = {stage['length']}, d = {stage['channels']}, {NUM_DIRECTIONS} directions, {NUM_STATES} states")
        for name, best in stage["ms_best"].items():
            print(f"  {name:28s} best {best:9.2f} ms  median {stage['ms_median'][name]:9.2f} ms", end="")
            print(f"  peak {stage['peak_mb'][name]:8.1f} MB")
        for name, value in stage["speedups"].items():
            goal = GOALS.get(name.removeprefix("torch ")) if stage is stages[0] and device == "cpu" else None
            verdict = "" if goal is None else f"  goal {goal:.0f}: {'reached' if value >= goal else 'MISSED'}"
            print(f"  {name:42s} {value:6.2f} x{verdict}")
    model = measure_model(arguments.rounds, device)
    print("MedMamba-T at 224 px")
    for name, best in model["ms_best"].items():
        print(f"  {name:28s} best {best:9.1f} ms  median {model['ms_median'][name]:9.1f} ms")
    for name, value in model["speed_of_no_scan"].items():
        print(f"  {name}: {value:.2f} of the speed without the scan")
    hardware = torch.cuda.get_device_name() if device != "cpu" else f"one thread of {os.cpu_count()}"
    result = {"device": device, "hardware": hardware, "torch": torch.__version__, "rounds": arguments.rounds}
    print(json.dumps({**result, "auto": selected_backend(device), "stages": stages, "medmamba_t": model}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
