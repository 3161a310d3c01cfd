"""Where a cell of Table 4 comes from."""

from __future__ import annotations

import math
from pathlib import Path

from bench.records.cost_record import COUNTERS, CostCell, CostRecord, Counter, read_costs
from bench.report.claims.terms import SIZE
from bench.report.formats import signed
from bench.report.published.numbers import quoted_cost
from bench.report.tables.table4 import NUM_CLASSES, notes_of, percent_difference, row_ids

COST_METRICS = ("params", *COUNTERS)


def explain_cost(results: Path, *, model: str, metric: str) -> list[str]:
    """Lines about a model's parameters or one counter's MACs, at the size and number of classes of the table.

    Args:
        results: The results folder.
        model: A registered name.
        metric: One of `COST_METRICS`.
    """
    cell = CostCell(model, SIZE, NUM_CLASSES)
    costs, notes = read_costs(results)
    record = next((r for r in costs if (r.model, r.img_size, r.num_classes) == (model, SIZE, NUM_CLASSES)), None)
    lines = [f"table4: {model}, {metric}, {SIZE} px, K = {NUM_CLASSES}"]
    if record is None:
        command = f"medbench measure costs --size {SIZE} --num-classes {NUM_CLASSES} --models {model}"
        lines += ["  printed     – (missing)", "  because     not counted"]
        lines += [f"  left out    {note}" for note in notes if cell.path(results).as_posix() in note]
        return [*lines, f"  to fill it  {command}"]
    counter = next((name for name in COUNTERS if name == metric), None)
    value = record.num_params / 1e6 if counter is None else record.count(counter).macs / 1e9
    lines.append(f"  printed     {value:.3f} {'M parameters' if counter is None else 'GMACs'}")
    lines += _params_lines(record) if counter is None else _counter_lines(record, counter)
    lines += _published_lines(model, metric, value)
    dirty = ", and the code differed from it" if record.dirty else ""
    return [
        *lines,
        f"  file        {cell.path(results).as_posix()}",
        f"  digest      {record.record_digest}",
        f"  commit      {record.commit or 'none recorded'}{dirty}",
        f"  packages    {', '.join(f'{name} {version}' for name, version in record.packages.items())}",
    ]


def _params_lines(record: CostRecord) -> list[str]:
    counted = f"{record.num_params:,} parameters, {record.num_trainable_params:,} of them trainable"
    return [f"  formula     a tied tensor once: {counted}; {record.num_buffer_values:,} values in buffers"]


def _counter_lines(record: CostRecord, counter: Counter) -> list[str]:
    count = record.count(counter)
    uncounted = ", ".join(use.name for use in count.uncounted[:5]) or "none"
    lines = [
        f"  formula     {count.macs:,} MACs of one image, by {count.counter} {count.version} on {count.device}",
        f"  coverage    {100 * count.coverage:.1f} % of executed operators, weighted by output elements",
        f"  uncounted   {uncounted}{' ...' if len(count.uncounted) > 5 else ''}",
    ]
    return [*lines, f"  differs     {count.explanation}"] if count.explanation else lines


def _published_lines(model: str, metric: str, value: float) -> list[str]:
    row = quoted_cost(model)
    number = math.nan if row is None else row.num_params_m if metric == "params" else row.gmacs
    if row is None or math.isnan(number):
        return ["  published   none is held for this cell"]
    lines = [f"  published   {number:g}, {row.name} (row {row_ids()[row.name]} of table4.md), {row.resolution} px"]
    if metric == "params" or row.resolution == SIZE:
        lines.append(f"  difference  {signed(percent_difference(value, number), 1)} % of the published number")
    return [*lines, f"  source      {row.source}", *(f"  note        {note}" for note in notes_of(model))]
