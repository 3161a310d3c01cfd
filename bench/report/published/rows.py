"""Every published score in a block of its own, labelled, with numbered rows and numbered sources."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache

from bench.data.names import PAPER_DATASETS
from bench.report.formats import NOTHING, Block, Bullets, Heading, Row, Table
from bench.report.published.names import model_names
from bench.report.published.numbers import LINEAR_PROBE, NAMESAKES, PublishedScore, published_scores
from bench.report.tidy import grouped

METRICS = ("auc", "acc")


@cache
def _row_ids() -> dict[str, str]:
    """Published name -> P1, P2 ..., in the file's order."""
    names = dict.fromkeys(score.name for score in published_scores())
    return {name: f"P{number}" for number, name in enumerate(names, start=1)}


@cache
def _source_numbers() -> dict[str, int]:
    """Cited source -> its number, in the file's order."""
    sources = dict.fromkeys(score.cited for score in published_scores())
    return {source: number for number, source in enumerate(sources, start=1)}


def row_id(score: PublishedScore) -> str:
    """The number of the row that a published score stands in, `P4`."""
    return _row_ids()[score.name]


def published_blocks(measured: Collection[str]) -> list[Block]:
    """The published numbers: a table a measure, then the sources.

    Args:
        measured: Registered models with records; their rows say so, the others stand here alone.
    """
    text = (
        "None of these numbers was measured here, and none is in a column with one that was. They come from other "
        "protocols: other sizes, weights and choices of the epoch. A row that says `measured as` also stands beside "
        "our numbers; for the others no record exists here. An empty cell is a number that no source at hand holds. "
        "± is a sample standard deviation over the runs of a self-reported row."
    )
    apart = (
        "Linear probes: a linear classifier on features of frozen weights. What is trained, and what it costs, is "
        "another thing than a network trained whole, so they stand apart and beside no number of ours."
    )
    scores = published_scores()
    probes = [score for score in scores if score.kind == LINEAR_PROBE]
    trained = [score for score in scores if score.kind != LINEAR_PROBE]
    items = [f"({number}) {source}" for source, number in _source_numbers().items()]
    blocks: list[Block] = [Heading("Published numbers"), text, *_tables(trained, "", measured)]
    return [*blocks, apart, *_tables(probes, " of linear probes", measured), "Sources:", Bullets(items)]


def _tables(scores: Sequence[PublishedScore], of: str, measured: Collection[str]) -> list[Table]:
    return [_table([s for s in scores if s.metric == metric], f"{metric.upper()}{of}", measured) for metric in METRICS]


def _table(chosen: Sequence[PublishedScore], what: str, measured: Collection[str]) -> Table:
    rows = []
    for name, group in grouped(chosen, lambda score: score.name).items():
        values = {score.dataset: score.text for score in group}
        ours = group[0].medbench_model
        names = [model for model in (ours, *(k for k, v in NAMESAKES.items() if v == ours)) if model in measured]
        sources = ", ".join(f"({number})" for number in dict.fromkeys(_source_numbers()[s.cited] for s in group))
        cells = [values.get(dataset, NOTHING) for dataset in PAPER_DATASETS]
        rows.append(Row([row_id(group[0]), name, *cells, model_names(names) or NOTHING, sources]))
    header = ["row", "published name", *PAPER_DATASETS, "measured as", "source"]
    caption = f"Published {what}, fractions; nothing here was measured by this suite"
    return Table(caption, header, rows, widths=((header.index("measured as"), 27),))
