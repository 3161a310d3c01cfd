"""Cost and timing records -> tidy tables, and the rules by which timings may be compared. No torch."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from bench.errors import RecordError
from bench.records.cost_record import CostRecord
from bench.records.timing_record import TimingRecord
from bench.records.timing_summary import summarise

COST_COLUMNS = ["model", "img_size", "in_chans", "num_classes", "counter", "gmacs", "num_params", "coverage"]
TIMING_COLUMNS = [
    "model",
    "img_size",
    "device",
    "mode",
    "precision",
    "memory_format",
    "compiled",
    "batch_size",
    "median_images_per_second",
    "ci_low",
    "ci_high",
    "peak_memory_mib",
    "joules_per_image",
    "scan_backend",
    "status",
    "num_blocks",
    "warm_up",
]
# What two timings must have in common before one can be called faster than the other.
COMPARABLE = ["device", "img_size", "mode", "batch_size"]
WAY = ["precision", "memory_format", "compiled"]


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


def timing_rows(records: Sequence[TimingRecord]) -> pd.DataFrame:
    """One row a device, model and setting; a cell without a finished round has a status and no numbers."""
    rows = []
    for record in sorted(records, key=lambda record: (record.device, record.model)):
        for cell in record.cells:
            setting, summary = cell.setting, summarise(cell)
            rows.append(
                (
                    record.model,
                    setting.img_size,
                    record.device,
                    setting.mode,
                    setting.precision,
                    setting.memory_format,
                    setting.compiled,
                    setting.batch_size,
                    summary.median,
                    summary.ci_low,
                    summary.ci_high,
                    summary.peak_memory_mib,
                    summary.joules_per_image,
                    record.scan_backend or "",
                    summary.status,
                    summary.num_blocks,
                    summary.warm_up or "",
                )
            )
    numbers = TIMING_COLUMNS[8:13]
    return pd.DataFrame(rows, columns=TIMING_COLUMNS).astype(dict.fromkeys(numbers, "float64"))


def best_modes(timings: pd.DataFrame) -> pd.DataFrame:
    """The fastest way to run each model, within each device, size, mode and batch; only rows that are `done`.

    A mode whose logits disagree with fp32 eager has another status, so it is never the best one.
    """
    done = timings[timings["status"] == "done"]
    ordered = done.sort_values("median_images_per_second", ascending=False, kind="stable")
    best = ordered.groupby(["model", *COMPARABLE], sort=False).head(1)
    return best.sort_values([*COMPARABLE, "model"], kind="stable").reset_index(drop=True)


def rank(timings: pd.DataFrame) -> pd.DataFrame:
    """Timings with a `rank` column, 1 the fastest, among rows of one device, size, mode, batch and way to run.

    Rows of different devices never share a ranking; rows that are not `done` have none.
    """
    groups = timings.groupby([*COMPARABLE, *WAY], sort=False)["median_images_per_second"]
    ranks = groups.rank(ascending=False, method="min").where(timings["status"] == "done")
    return timings.assign(rank=ranks.astype("Int64")).sort_values([*COMPARABLE, *WAY, "rank", "model"], kind="stable")


def one_device(timings: pd.DataFrame) -> str:
    """The only device of some timings, for a column or an axis of images a second.

    Raises:
        RecordError: If there are several: their numbers do not belong in one column.
    """
    devices = sorted(timings["device"].unique())
    if len(devices) != 1:
        raise RecordError(f"{len(devices)} devices ({', '.join(devices)}) cannot share a column; choose one")
    return str(devices[0])


def throughput_table(timings: pd.DataFrame) -> pd.DataFrame:
    """Images a second of one device: one row a model, one column a setting, empty where a cell is not done.

    Raises:
        RecordError: If the timings are of several devices.
    """
    one_device(timings)
    done = timings[timings["status"] == "done"]
    keys = ["mode", "batch_size", "img_size", *WAY]
    return done.pivot_table(index="model", columns=keys, values="median_images_per_second", sort=True)
