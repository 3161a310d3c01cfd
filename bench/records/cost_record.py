"""What a model costs on paper, as it stands in `results/costs/<model>/<size>-<K>.json`.

A record answers for its model, image size and number of classes until the model's source changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from bench.errors import RecordError
from bench.records.names import ModelName, model_slug
from bench.records.own_models import outdated
from bench.records.sealed import Sealed, Strict, read_all, read_sealed
from models.catalog import outdated as outdated_here

Counter = Literal["thop", "ptflops", "aten"]
COUNTERS: tuple[Counter, ...] = ("thop", "ptflops", "aten")
IN_CHANS = 3


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
    model: ModelName
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


def problem_of(record: CostRecord, path: Path | None = None) -> str:
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
    if problem_of(record) or outdated_here(record.model, record.model_fingerprint, record.packages.get("timm", "")):
        return None
    return record


def read_costs(results: Path) -> tuple[list[CostRecord], list[str]]:
    """Every cost record that counts, and why the others were left out, one line each."""
    return read_all((results / "costs").glob("*/*.json"), CostRecord, problem_of)
