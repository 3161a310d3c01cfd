"""What a model costs on paper: parameters, and MACs by three counters. No torch unless something must be counted.

`results/costs/<model>/<size>-<K>.json`, one record a model, image size and number of classes. A record answers
the next call until the model's source changes. The counting itself is in `bench.counters`.

A MAC is one multiply-accumulate, 2 FLOPs. The "GFLOPs" that the literature prints for these models are GMACs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from bench.errors import BenchError, RecordError
from bench.records import model_slug
from bench.sealed import Sealed, Strict, read_all, read_sealed, write_sealed
from models.catalog import ModelError, get_spec, outdated

Counter = Literal["thop", "ptflops", "aten"]
COUNTERS: tuple[Counter, ...] = ("thop", "ptflops", "aten")
IN_CHANS = 3
DISAGREEMENT = 0.02  # counts that differ by more get an explanation


class OperatorUse(Strict):
    """How much of an operator a model executes on one image."""

    name: str
    calls: int
    output_elements: int


class Count(Strict):
    """What one counter says about one image.

    Attributes:
        counter: `thop`, `ptflops` or `aten` (torch's FlopCounterMode, halved).
        version: Version of the package that counts.
        device: Where the counted copy ran: `meta` (shapes only) or `cpu`.
        macs: Multiply-accumulates.
        coverage: Share of the executed operators, weighted by output elements, that a formula of the counter
            counts. Views and allocations compute nothing and are not among them.
        uncounted: The other operators, largest first.
        macs_by_operator: `aten`'s MACs of the operators that this counter counts.
        missed_macs: `aten`'s MACs of the operators that this counter does not count.
        added_macs: `macs` less the sum of `macs_by_operator`: biases, norms, activations, counted twice.
        added_for: Operators that this counter counts and `aten` does not, largest first.
        explanation: Why it differs from the others by more than 2 %, "" where it does not.
    """

    counter: Counter
    version: str
    device: Literal["meta", "cpu"]
    macs: int = Field(ge=0)
    coverage: float = Field(ge=0, le=1)
    uncounted: list[OperatorUse]
    macs_by_operator: dict[str, int]
    missed_macs: dict[str, int]
    added_macs: int
    added_for: list[str]
    explanation: str = ""


class CostRecord(Sealed):
    """Parameters and MACs of one model at one image size and number of classes; a tied tensor counts once."""

    suite_version: str
    model: str
    model_fingerprint: str
    img_size: int = Field(ge=1)
    in_chans: int = Field(ge=1)
    num_classes: int = Field(ge=2)
    num_params: int
    num_trainable_params: int
    num_buffer_values: int
    counts: list[Count]
    packages: dict[str, str]
    commit: str | None
    dirty: bool | None

    def count(self, counter: Counter) -> Count:
        """What one of the counters says."""
        return next(count for count in self.counts if count.counter == counter)


@dataclass(frozen=True)
class CostCell:
    """A model, an image size in pixels and a number of classes."""

    model: str
    img_size: int
    num_classes: int

    def path(self, results: Path) -> Path:
        """Where the record stands in a results folder."""
        return results / "costs" / model_slug(self.model) / f"{self.img_size}-{self.num_classes}.json"


def expand_costs(models: Sequence[str], sizes: Sequence[int], classes: Sequence[int]) -> list[CostCell]:
    """Every combination over the models that are networks; fitted models have no multiply-accumulates.

    Raises:
        ModelError: If a name is unknown.
    """
    networks = [name for name in models if get_spec(name).kind == "network"]
    return [CostCell(*cell) for cell in itertools.product(networks, sizes, classes)]


def objection(record: CostRecord, path: Path | None = None) -> str:
    """Why a record does not count, "" if it does: it stands elsewhere, or the model's source changed since."""
    if path is not None and CostCell(record.model, record.img_size, record.num_classes).path(path.parents[2]) != path:
        return f"the record names {record.model}, which belongs elsewhere"
    return outdated(record.model, record.model_fingerprint, record.packages.get("timm", ""))


def recorded(cell: CostCell, results: Path) -> CostRecord | None:
    """The record that answers for a cell; None where there is none, or it is stale or damaged."""
    try:
        record = read_sealed(cell.path(results), CostRecord)
        if (record.model, record.img_size, record.num_classes) != (cell.model, cell.img_size, cell.num_classes):
            return None
    except RecordError:
        return None
    return None if objection(record) else record


def read_costs(results: Path) -> tuple[list[CostRecord], list[str]]:
    """Every cost record that counts, and why the others were left out, one line each."""
    return read_all((results / "costs").glob("*/*.json"), CostRecord, objection)


@dataclass(frozen=True)
class CostOutcome:
    """A cell's record and where it came from, or why there is none."""

    cell: CostCell
    record: CostRecord | None
    source: Literal["recorded", "measured", "refused"]
    reason: str = ""


def measure_costs(cells: Sequence[CostCell], results: Path, *, overwrite: bool = False) -> Iterator[CostOutcome]:
    """Answer each cell from its record, or count it and write the record; a model that refuses a size is told."""
    for cell in cells:
        record = None if overwrite else recorded(cell, results)
        if record is not None:
            yield CostOutcome(cell, record, "recorded")
            continue
        from bench.counters import count_model

        try:
            record = count_model(cell)
        except (ModelError, BenchError) as error:
            yield CostOutcome(cell, None, "refused", f"{cell.model}: {error}")
            continue
        write_sealed(cell.path(results), record)
        yield CostOutcome(cell, record, "measured")


def cost_row(outcome: CostOutcome) -> dict[str, str | int | None]:
    """What a person sees of a cell: GMACs by counter, with `aten`'s coverage."""
    cell, record = outcome.cell, outcome.record
    row: dict[str, str | int | None] = {"model": cell.model, "img_size": cell.img_size, "K": cell.num_classes}
    row["num_params"] = record.num_params if record else None
    for counter in COUNTERS:
        row[f"{counter} GMACs"] = f"{record.count(counter).macs / 1e9:.3f}" if record else ""
    row["aten coverage"] = f"{record.count('aten').coverage:.0%}" if record else ""
    return row | {"from": outcome.source}


def explained(counts: Sequence[Count]) -> list[Count]:
    """The counts with an explanation at each that is in a pair that differs by more than 2 %.

    `aten` is what the others are explained against, so it carries none itself.
    """
    apart = set[Counter]()
    for first, second in itertools.combinations(counts, 2):
        if abs(first.macs - second.macs) > DISAGREEMENT * max(first.macs, second.macs):
            apart |= {first.counter, second.counter}
    return [
        count.model_copy(update={"explanation": explain(count)})
        if count.counter in apart and count.counter != "aten"
        else count
        for count in counts
    ]


def explain(count: Count) -> str:
    """One line: what the counter leaves out of `aten`'s count, and what it adds to it."""
    parts = []
    missed = sum(count.missed_macs.values())
    if missed:
        largest = sorted(count.missed_macs.items(), key=lambda item: -item[1])[:3]
        names = ", ".join(f"{name} {_amount(macs)}" for name, macs in largest)
        parts.append(f"leaves out {_amount(missed, 'MACs')} ({names})")
    if count.added_macs > 0:
        names = ", ".join(count.added_for[:3]) or "biases"
        parts.append(f"adds {_amount(count.added_macs, 'MACs')} that aten counts as 0 (most in {names})")
    elif count.added_macs < 0:
        parts.append(f"counts {_amount(-count.added_macs, 'MACs')} less in operators that both count")
    return f"{count.counter} " + " and ".join(parts) if parts else ""


def _amount(macs: int, unit: str = "") -> str:
    """`0.371 GMACs`, or all digits of what would read as 0.000."""
    return f"{macs / 1e9:.3f} G{unit}" if macs >= 500_000 else f"{macs:,} {unit}".rstrip()
