"""Timings as tables: one device a table, one setting a column; a CPU and a GPU never share either."""

from __future__ import annotations

from collections.abc import Sequence

from bench.records.timing_record import TimingRecord
from bench.records.timing_summary import MIN_BLOCKS
from bench.report.formats import NOTHING, Block, Bullets, Heading, Row, Table, quoted
from bench.report.published.names import model_name
from bench.report.tidy import grouped, model_order
from bench.report.tidy_costs import Timing, one_device, timing_rows


def timing_blocks(timings: Sequence[TimingRecord]) -> list[Block]:
    """Images per second of every device that was timed; nothing where none was."""
    if not timings:
        return []
    text = (
        "Images per second: median over all blocks, with a 95 % bootstrap interval over rounds and blocks. Numbers are "
        "compared within a column alone: one device, one way to run, one batch size. A cell that did not finish, or "
        "whose logits disagree with fp32 eager, says so and has no number. Scan: what ran MedMamba's selective scan. "
        "A CPU is timed with the widest instructions that it has, while runs are pinned to AVX2."
    )
    blocks: list[Block] = [Heading("Timings"), text]
    for device, rows in sorted(grouped(timing_rows(timings), lambda row: row.device).items()):
        tables = grouped(rows, lambda row: (row.mode, row.img_size))
        own = sorted((r for r in timings if r.device == device), key=lambda record: model_order(record.model))
        blocks += [
            Heading(device, 3),
            *(_table(own_rows) for _, own_rows in sorted(tables.items())),
            *_few_blocks(own),
            *_cold(own),
            *_failures(own),
        ]
    return blocks


def _table(timings: Sequence[Timing]) -> Table:
    """One device, mode and image size.

    Raises:
        RecordError: If the timings are of several devices.
    """
    device, mode, size = one_device(timings), timings[0].mode, timings[0].img_size
    columns = sorted({(t.precision, t.memory_format, t.compiled, t.batch_size, _label(t)) for t in timings})
    labels = [label for *_, label in columns]
    cells = {(t.model, t.scan_backend, _label(t)): _text(t) for t in timings}
    models = sorted({(t.model, t.scan_backend) for t in timings}, key=lambda key: (model_order(key[0]), key[1]))
    rows = [
        Row([model, *(cells.get((model, scan, label), NOTHING) for label in labels), scan or NOTHING])
        for model, scan in models
    ]
    header = ["model", *labels, "scan"]
    caption = f"Images per second, {mode}, {size} px, {device}"
    return Table(caption, header, rows, right=frozenset(range(1, len(labels) + 1)))


def _few_blocks(own: Sequence[TimingRecord]) -> list[Block]:
    """Where a number of one device rests on fewer blocks than wanted, and on how many."""
    by_setting: dict[str, list[str]] = {}
    for record in own:
        for cell in record.cells:
            count = sum(len(round_.block_seconds) for round_ in cell.rounds)
            if 0 < count < MIN_BLOCKS:
                by_setting.setdefault(cell.setting.label(), []).append(f"{model_name(record.model)} {count}")
    items = [f"{setting}: {', '.join(models)}" for setting, models in sorted(by_setting.items())]
    text = f"Fewer than {MIN_BLOCKS} blocks in all rounds, since a batch outlasts a share of a cell's time:"
    return [text, Bullets(items)] if items else []


def _cold(own: Sequence[TimingRecord]) -> list[Block]:
    """Where a number of one device has no warm-up before it."""
    by_setting: dict[str, list[str]] = {}
    for record in own:
        for cell in record.cells:
            if any(round_.status == "done" and round_.warm_up == "cold" for round_ in cell.rounds):
                by_setting.setdefault(cell.setting.label(), []).append(model_name(record.model))
    items = [f"{setting}: {', '.join(models)}" for setting, models in sorted(by_setting.items())]
    text = (
        "In at least one round the first batch of a process alone, without a warm-up, since it outlasts half of a "
        "cell's time; a warm one may be faster:"
    )
    return [text, Bullets(items)] if items else []


def _failures(own: Sequence[TimingRecord]) -> list[Block]:
    """Why cells of a device have no number, as the processes reported it."""
    reasons = []
    for record in own:
        for cell in record.cells:
            for round_ in cell.rounds:
                if round_.status != "done":
                    where = f"{model_name(record.model)} {cell.setting.label()}, round {round_.index + 1}"
                    reasons.append(f"{where}: {round_.status}: {quoted(round_.reason)}")
    return ["Rounds that did not finish:", Bullets(reasons)] if reasons else []


def _label(timing: Timing) -> str:
    """`fp32 channels_last b32`."""
    return f"{timing.way} b{timing.batch_size}"


def _text(timing: Timing) -> str:
    if timing.status != "done":
        return timing.status
    digits = 1 if timing.median_images_per_second >= 10 else 2
    middle, low, high = timing.median_images_per_second, timing.ci_low, timing.ci_high
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"
