"""Timings as tables: one device a table, one setting a column; a CPU and a GPU never share either."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from bench.report.cost_tables import one_device, timing_rows
from bench.report.formats import NOTHING, Block, Heading, Row, Table
from bench.report.tables import model_order
from bench.timing import TimingRecord

SETTING = ["mode", "precision", "memory_format", "compiled", "batch_size", "img_size"]


def timing_blocks(timings: Sequence[TimingRecord]) -> list[Block]:
    """Images a second of every device that was timed; nothing where none was."""
    if not timings:
        return []
    table = timing_rows(timings)
    text = (
        "Images a second: median over all blocks, with a 95 % bootstrap interval over rounds and blocks. Numbers are "
        "compared within a column alone: one device, one way to run, one batch size. A cell that did not finish, or "
        "whose logits disagree with fp32 eager, says so and has no number. Scan: what ran MedMamba's selective scan."
    )
    blocks: list[Block] = [Heading("Timings"), text]
    for device, part in table.groupby("device", sort=True):
        blocks += [Heading(str(device), 3), *(_table(group) for _, group in part.groupby("mode", sort=True))]
    return blocks


def _table(timings: pd.DataFrame) -> Table:
    """One device and mode.

    Raises:
        RecordError: If the timings are of several devices.
    """
    device, mode = one_device(timings), timings["mode"].iloc[0]
    settings = timings[SETTING].drop_duplicates().sort_values(SETTING, kind="stable").to_dict("records")
    cells = {(row["model"], _label(row)): row for row in timings.to_dict("records")}
    scans = dict(zip(timings["model"], timings["scan_backend"], strict=True))
    rows = []
    for model in sorted(set(timings["model"]), key=model_order):
        texts = [_text(cells.get((model, _label(setting)))) for setting in settings]
        rows.append(Row([model, *texts, scans[model] or NOTHING]))
    labels = [_label(setting) for setting in settings]
    header = ["model", *labels, "scan"]
    return Table(f"Images a second, {mode}, {device}", header, rows, right=frozenset(range(1, len(labels) + 1)))


def _label(setting: Mapping[Hashable, Any]) -> str:
    """`fp32 channels_last b32 224 px`."""
    compiled = " compiled" if setting["compiled"] else ""
    return (
        f"{setting['precision']} {setting['memory_format']}{compiled} b{setting['batch_size']} {setting['img_size']} px"
    )


def _text(row: Mapping[Hashable, Any] | None) -> str:
    if row is None:
        return NOTHING
    if row["status"] != "done":
        return str(row["status"])
    return f"{row['median_images_per_second']:.1f} ({row['ci_low']:.1f}–{row['ci_high']:.1f})"
