"""What a model costs on a machine: the settings that are timed, the records, what they say. No torch.

`results/timings/<device>/<model>.json`, one record a device and model; the device's name holds the number of CPU
threads. A record holds cells (a setting each) of rounds (a process each) of blocks; medians and intervals are
worked out from the blocks (`bench.records.timing_summary`), never stored. `bench.measure.timing.rounds` fills records.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bench.errors import BenchError
from bench.protocols.schema import slug
from bench.records.names import ModelName, model_slug
from bench.records.own_models import outdated
from bench.records.sealed import Line, Sealed, Strict, read_placed

Mode = Literal["inference", "training"]
Precision = Literal["fp32", "tf32", "bf16", "fp16"]
MemoryFormat = Literal["contiguous", "channels_last"]
Scan = Literal["auto", "torch"]  # what is requested, not what ran
WarmUp = Literal["steady", "moving", "cold"]
RoundStatus = Literal["done", "oom", "timeout", "failed"]

IN_CHANS, NUM_CLASSES = 3, 8
FORMATS: tuple[MemoryFormat, ...] = ("contiguous", "channels_last")
# Largest logit difference to fp32 eager that a mode may have, as a share of the spread of fp32's logits.
TOLERANCE: dict[Precision, float] = {"fp32": 1e-3, "tf32": 1e-2, "bf16": 5e-2, "fp16": 2e-2}


class Setting(Strict):
    """How a model runs; bf16 and fp16 are autocast with weights in fp32, training is one SGD step."""

    mode: Mode
    precision: Precision
    memory_format: MemoryFormat
    compiled: bool
    batch_size: int = Field(ge=1)
    img_size: int = Field(ge=1)

    def label(self) -> str:
        """`inference fp32 channels_last b32 224px`."""
        compiled = " compiled" if self.compiled else ""
        return f"{self.mode} {self.precision} {self.memory_format}{compiled} b{self.batch_size} {self.img_size}px"


class MachineState(Strict):
    """What can bend a timing: load of the host; clock, temperature and throttle reasons of a GPU."""

    load_average: float | None = None
    sm_clock_mhz: int | None = None
    temperature_c: int | None = None
    throttle_reasons: int | None = None


class Agreement(Strict):
    """A mode's logits against fp32 eager on the same weights and images; differences in logits.

    Attributes:
        num_images: Images compared.
        top1: Share of the images with the same highest logit.
        max_difference: Largest absolute difference of a logit; None where it is not finite.
        spread: Largest less smallest logit of fp32 eager.
    """

    num_images: int
    top1: float
    max_difference: float | None
    spread: float

    def holds(self, precision: Precision) -> bool:
        """Whether the mode computes the same model within its precision's tolerance."""
        return self.max_difference is not None and self.max_difference <= TOLERANCE[precision] * self.spread


class Round(Strict):
    """One process's measurement of a cell.

    Attributes:
        index: The round, from 0.
        status, reason: How it ended.
        iterations: Batches a block.
        block_seconds: Seconds of each block; on CUDA between device events.
        steady: Whether the warm-up's median had stopped moving; where one batch takes more than half of what a
            cell may take, the first, cold batch is all there is.
        warm_up_seconds: Seconds before the first block.
        compile_seconds: Seconds of the first, compiling call.
        wall_over_event: Wall time over the time between the device's events; None on a CPU. Above 1 by what starting
            and waiting cost. It does not show who waits inside: a device that idles between launches does so between
            the events too.
        peak_memory_mib: Highest resident memory of the process with its libraries (CPU) or highest allocation (CUDA),
            with the four batches that take turns and, where compiled, with what the compiler allocates.
        joules: Energy of all blocks, None where there is no meter.
        agreement: None for training.
    """

    index: int = Field(ge=0)
    status: RoundStatus
    reason: str = ""
    iterations: int = 0
    block_seconds: list[float] = Field(default_factory=list)
    steady: bool = False
    warm_up_seconds: float = 0.0
    compile_seconds: float | None = None
    wall_over_event: float | None = None
    peak_memory_mib: float | None = None
    joules: float | None = None
    agreement: Agreement | None = None
    before: MachineState = MachineState()
    after: MachineState = MachineState()

    def images_per_second(self, batch_size: int) -> NDArray[np.float64]:
        """Throughput of each block."""
        return batch_size * self.iterations / np.asarray(self.block_seconds, dtype=np.float64)

    @property
    def warm_up(self) -> WarmUp:
        """`steady`; `moving`: the median had not come to rest; `cold`: the first batch is all there is."""
        if self.steady:
            return "steady"
        return "cold" if self.warm_up_seconds == 0.0 and len(self.block_seconds) == 1 else "moving"


class TimingCell(Strict):
    """A setting and its rounds."""

    setting: Setting
    rounds: list[Round]


class TimingRecord(Sealed):
    """All timings of one model on one device."""

    suite_version: str
    model: ModelName
    model_fingerprint: str
    device: Line
    num_threads: int
    driver: str | None
    scan_backend: str | None
    cells: list[TimingCell]
    packages: dict[str, str]
    commit: str | None
    dirty: bool | None


def core_batch_sizes(device: str) -> tuple[int, int]:
    """One image, and as many as a device is good for."""
    return (1, 128) if device.startswith("cuda") else (1, 32)


def core_settings(device: str, img_size: int, batch_sizes: Sequence[int] = ()) -> list[Setting]:
    """The matrix that is timed by default; training takes the larger batch.

    CPU: fp32 inference and a training step, both memory formats. CUDA: inference in fp32 (contiguous), bf16
    channels_last eager and compiled; a training step in bf16 channels_last.
    """
    ways: list[tuple[Precision, MemoryFormat, bool]]
    if device.startswith("cuda"):
        ways = [("fp32", "contiguous", False), ("bf16", "channels_last", False), ("bf16", "channels_last", True)]
        training = ways[1:2]
    else:
        ways = training = [("fp32", "contiguous", False), ("fp32", "channels_last", False)]
    batches = sorted(batch_sizes or core_batch_sizes(device))
    return cross_settings("inference", ways, batches, img_size) + cross_settings(
        "training", training, batches[-1:], img_size
    )


def cross_settings(
    mode: Mode, ways: Sequence[tuple[Precision, MemoryFormat, bool]], batch_sizes: Sequence[int], img_size: int
) -> list[Setting]:
    """Every combination, small batches first: a process's memory never shrinks."""
    return [
        Setting(
            mode=mode,
            precision=precision,
            memory_format=memory_format,
            compiled=compiled,
            batch_size=batch_size,
            img_size=img_size,
        )
        for batch_size, (precision, memory_format, compiled) in itertools.product(batch_sizes, ways)
    ]


def choose_settings(
    device: str, sizes: Sequence[int], batch_sizes: Sequence[int], precisions: Sequence[str], *, compiled: bool
) -> list[Setting]:
    """The core matrix, or with `precisions` every combination of what is named with both memory formats.

    Raises:
        BenchError: If a precision is unknown, or the device has none such.
    """
    wrong = [name for name in precisions if name not in TOLERANCE or (name == "tf32" and device == "cpu")]
    if wrong:
        known = ", ".join(name for name in TOLERANCE if name != "tf32" or device != "cpu")
        raise BenchError(f"--precisions {wrong[0]!r} is no precision of {device}; known: {known}")
    if compiled and not precisions:
        raise BenchError("--compile needs --precisions: the core matrix says itself what is compiled")
    ways: list[tuple[Precision, MemoryFormat, bool]] = [
        (precision, memory_format, compile_)
        for precision in TOLERANCE
        for memory_format in FORMATS
        for compile_ in (False, True)
        if precision in precisions and compile_ <= compiled
    ]
    settings: list[Setting] = []
    for size in sizes:
        if not precisions:
            settings += core_settings(device, size, batch_sizes)
            continue
        batches = sorted(batch_sizes or core_batch_sizes(device))
        settings += cross_settings("inference", ways, batches, size) + cross_settings(
            "training", ways, batches[-1:], size
        )
    return settings


def device_label(device_name: str, num_threads: int) -> str:
    """A device with what belongs to its identity: `cpu: AMD EPYC, 1 thread`, `cuda: NVIDIA H100`."""
    if device_name.startswith("cuda"):
        return device_name
    return f"{device_name}, {num_threads} thread{'s' if num_threads > 1 else ''}"


def timing_path(results: Path, device: str, model: str, scan: Scan = "auto") -> Path:
    """Where a record stands; `device` is a device label. A scan that was requested has a record of its own."""
    requested = "" if scan == "auto" else f"__{scan}-scan"
    return results / "timings" / slug(device) / f"{model_slug(model)}{requested}.json"


def timing_lock_name(path: PurePath) -> str:
    """What the lock of a timing record is called that a timing, from its first round to its last, and a merge hold."""
    return f"timings__{path.parent.name}__{path.stem}"


def problem_of(record: TimingRecord, path: Path) -> str:
    """Why a record does not count, "" if it does: it stands elsewhere, or the model's source changed since."""
    scans: list[Scan] = ["auto", "torch"] if record.scan_backend == "torch" else ["auto"]
    if path not in [timing_path(path.parents[2], record.device, record.model, scan) for scan in scans]:
        return f"the record names {record.model} on {record.device}, which belongs elsewhere"
    return outdated(record.model, record.model_fingerprint, record.packages.get("timm", ""))


def read_timings(results: Path) -> tuple[list[TimingRecord], list[str]]:
    """Every timing record that counts, and why the others were left out, one line each."""
    records, notes = read_placed_timings(results)
    return list(records.values()), notes


def read_placed_timings(results: Path) -> tuple[dict[Path, TimingRecord], list[str]]:
    """As `read_timings`, by path: a record does not say whether its scan was requested, its file's name does."""
    return read_placed((results / "timings").glob("*/*.json"), TimingRecord, problem_of)
