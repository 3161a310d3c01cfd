"""Table 3 in the paper's shape, models x six sets: what was measured beside what was printed, a table a choice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.report.ablations import is_compared
from bench.report.analysis_plan import PARTS
from bench.report.published.numbers import PublishedScore, reference_score
from bench.report.site.answer import HEADLINE
from bench.report.site.rows import NO_VALUE, Entry, Value, printed_value
from bench.report.tables.score_cells import METRICS
from bench.report.tables.table3 import recipe
from bench.report.tidy import grouped, model_order

__all__ = ["MatrixTable", "matrix"]


@dataclass(frozen=True)
class MatrixCell:
    """A number measured here, and the one that was printed elsewhere for the same model and set."""

    measured: Value
    printed: Value


@dataclass(frozen=True)
class MatrixTable:
    """One protocol and measure.

    Attributes:
        protocol, metric: The choice.
        recipe: What the protocol does, in one line.
        rows: Model -> a cell a data set.
    """

    protocol: str
    metric: str
    recipe: str
    rows: dict[str, list[MatrixCell]]


def matrix(entries: Iterable[Entry], datasets: Sequence[str]) -> list[MatrixTable]:
    """A table a protocol and measure, the headline's protocol first; MedSpectralNet without a part is in none.

    Args:
        entries: Of any protocol and data set.
        datasets: The columns.
    """
    compared = [entry for entry in entries if is_compared(entry.protocol) and entry.model not in PARTS]
    by_protocol = grouped(compared, lambda entry: entry.protocol)
    tables = []
    for protocol in sorted(by_protocol, key=lambda name: (name != HEADLINE, name)):
        by_cell = {(entry.model, entry.dataset): entry for entry in by_protocol[protocol]}
        models = sorted({model for model, _ in by_cell}, key=model_order)
        for metric in METRICS:
            rows = {
                model: [
                    _cell(by_cell.get((model, dataset)), reference_score(model, dataset, metric, protocol), metric)
                    for dataset in datasets
                ]
                for model in models
            }
            tables.append(MatrixTable(protocol, metric, recipe(protocol), rows))
    return tables


def _cell(entry: Entry | None, reference: PublishedScore | None, metric: str) -> MatrixCell:
    """What was printed stands there without a run, too."""
    if entry is None:
        return MatrixCell(NO_VALUE, printed_value(reference))
    return MatrixCell(entry.value("test", metric), entry.published[metric])
