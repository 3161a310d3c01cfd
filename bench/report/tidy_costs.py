"""Cost and timing records -> tidy tables, and the rules by which timings may be compared. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import pandas as pd

from bench.errors import RecordError
from bench.records.cost_record import CostRecord
from bench.records.timing_record import TimingCell, TimingRecord
from bench.records.timing_summary import summarise

COST_COLUMNS = ["model", "img_size", "in_chans", "num_classes", "counter", "gmacs", "num_params", "coverage"]


@dataclass(frozen=True)
class Timing:
    """One setting of a model on a device over all rounds; without a finished one it has a status and NaN."""

    model: str
    img_size: int
    device: str  # as the record names it
    mode: str
    precision: str
    memory_format: str
    compiled: bool
    batch_size: int
    median_images_per_second: float  # over all blocks
    ci_low: float
    ci_high: float
    peak_memory_mib: float  # NaN where it was not measured, as the next
    joules_per_image: float
    scan_backend: str  # what ran a selective scan, "" for none
    status: str  # `done`, or why there is no number
    num_blocks: int
    warm_up: str  # `steady`, `moving`, `cold`, or "" without a number

    @property
    def comparable(self) -> tuple[str, int, str, int]:
        """What two timings must have in common before one can be called faster than the other."""
        return self.device, self.img_size, self.mode, self.batch_size

    @property
    def way(self) -> str:
        """How the model ran: `fp32 channels_last`."""
        return f"{self.precision} {self.memory_format}{' compiled' if self.compiled else ''}"


TIMING_COLUMNS = [field.name for field in fields(Timing)]


def cost_rows(records: Sequence[CostRecord]) -> pd.DataFrame:
    """One row a model, size, K and counter; `gmacs` are MACs in G, `coverage` a fraction."""
    rows = [
        (
            record.model,
            record.img_size,
            record.in_chans,
            record.num_classes,
            count.counter,
            count.macs / 1e9,
            record.num_params,
            count.coverage,
        )
        for record in sorted(records, key=lambda record: (record.model, record.img_size, record.num_classes))
        for count in record.counts
    ]
    return pd.DataFrame(rows, columns=COST_COLUMNS)


def timing_rows(records: Sequence[TimingRecord]) -> list[Timing]:
    """One row a device, model and setting."""
    return [
        _timing(record, cell)
        for record in sorted(records, key=lambda record: (record.device, record.model))
        for cell in record.cells
    ]


def _timing(record: TimingRecord, cell: TimingCell) -> Timing:
    setting, summary = cell.setting, summarise(cell)
    return Timing(
        model=record.model,
        img_size=setting.img_size,
        device=record.device,
        mode=setting.mode,
        precision=setting.precision,
        memory_format=setting.memory_format,
        compiled=setting.compiled,
        batch_size=setting.batch_size,
        median_images_per_second=_number(summary.median),
        ci_low=_number(summary.ci_low),
        ci_high=_number(summary.ci_high),
        peak_memory_mib=_number(summary.peak_memory_mib),
        joules_per_image=_number(summary.joules_per_image),
        scan_backend=record.scan_backend or "",
        status=summary.status,
        num_blocks=summary.num_blocks,
        warm_up=summary.warm_up or "",
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def best_modes(timings: Iterable[Timing]) -> list[Timing]:
    """The fastest way to run each model, within each device, size, mode and batch; only rows that are `done`.

    A mode whose logits disagree with fp32 eager has another status, so it is never the best one.
    """
    done = [timing for timing in timings if timing.status == "done"]
    best: dict[tuple[object, ...], Timing] = {}
    for timing in sorted(done, key=lambda timing: timing.median_images_per_second, reverse=True):
        best.setdefault((*timing.comparable, timing.model), timing)
    return [best[key] for key in sorted(best)]


def one_device(timings: Iterable[Timing]) -> str:
    """The only device of some timings, for a column or an axis of images per second.

    Raises:
        RecordError: If there are several: their numbers do not belong in one column.
    """
    devices = sorted({timing.device for timing in timings})
    if len(devices) != 1:
        raise RecordError(f"{len(devices)} devices ({', '.join(devices)}) cannot share a column; choose one")
    return devices[0]
