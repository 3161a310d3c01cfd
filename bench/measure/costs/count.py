"""What a model costs on paper: parameters, and MACs by three counters. No torch unless something must be counted.

`results/costs/<model>/<size>-<K>.json`, one record a model, image size and number of classes. A record answers
the next call until the model's source changes. The counting itself is in `bench.measure.costs.counters`.

A MAC is one multiply-accumulate, 2 FLOPs. The "GFLOPs" that the literature prints for these models are GMACs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.errors import BenchError
from bench.records.cost_record import COUNTERS, CostCell, CostRecord, recorded
from bench.records.sealed import write_sealed
from bench.records.writing.sweep import sweep_store
from models.catalog import ModelError, get_spec


def expand_costs(models: Sequence[str], sizes: Sequence[int], classes: Sequence[int]) -> list[CostCell]:
    """Every combination over the models that are networks; fitted models have no multiply-accumulates.

    Raises:
        ModelError: If a name is unknown.
    """
    networks = [name for name in models if get_spec(name).kind == "network"]
    return [CostCell(*cell) for cell in itertools.product(networks, sizes, classes)]


@dataclass(frozen=True)
class CostOutcome:
    """A cell's record and where it came from, or why there is none."""

    cell: CostCell
    record: CostRecord | None
    source: Literal["recorded", "measured", "refused"]
    reason: str = ""


def measure_costs(cells: Sequence[CostCell], results: Path, *, overwrite: bool = False) -> Iterator[CostOutcome]:
    """Answer each cell from its record, or count it and write the record; a refused size gives the reason."""
    sweep_store(results)
    for cell in cells:
        record = None if overwrite else recorded(cell, results)
        if record is not None:
            yield CostOutcome(cell, record, "recorded")
            continue
        from bench.measure.costs.counters import count_model

        try:
            record = count_model(cell)
        except (ModelError, BenchError) as error:
            yield CostOutcome(cell, None, "refused", f"{cell.model}: {error}")
            continue
        except Exception as error:  # a counter met a model that it cannot take; the others are counted all the same
            yield CostOutcome(cell, None, "refused", f"{cell.model}: {_one_line(error)}")
            continue
        write_sealed(cell.path(results), record)
        yield CostOutcome(cell, record, "measured")


def _one_line(error: Exception) -> str:
    """What a counter or the model itself raised: its type, and the first line of what it says."""
    first = next(iter(str(error).splitlines()), "")
    return f"cannot be counted ({type(error).__name__}{': ' if first else ''}{first})"


def cost_row(outcome: CostOutcome) -> dict[str, str | int | None]:
    """What a person sees of a cell: GMACs by counter, with `aten`'s coverage."""
    cell, record = outcome.cell, outcome.record
    row: dict[str, str | int | None] = {"model": cell.model, "img_size": cell.img_size, "K": cell.num_classes}
    row["num_params"] = record.num_params if record else None
    for counter in COUNTERS:
        row[f"{counter} GMACs"] = f"{record.count(counter).macs / 1e9:.3f}" if record else ""
    row["aten coverage"] = f"{record.count('aten').coverage:.0%}" if record else ""
    return row | {"from": outcome.source}
