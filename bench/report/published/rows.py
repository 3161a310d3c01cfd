"""Every published score in a block of its own, labelled, with numbered rows and numbered sources."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache

import pandas as pd

from bench.data.names import PAPER_DATASETS
from bench.report.formats import NOTHING, Block, Bullets, Heading, Row, Table
from bench.report.published.numbers import NAMESAKES, published_scores, score_name


@cache
def _numbered() -> pd.DataFrame:
    """Published scores with `name`, `row` (P1, P2 ...) and `source_number`, in the file's order."""
    frame = published_scores()
    keys = zip(frame["model"], frame["variant"], frame["resolution"], strict=True)
    frame["name"] = [score_name(*key) for key in keys]
    frame["source_text"] = frame["source"] + "; " + frame["source_locator"]
    names = {name: f"P{number}" for number, name in enumerate(frame["name"].unique(), start=1)}
    sources = {text: number for number, text in enumerate(frame["source_text"].unique(), start=1)}
    return frame.assign(row=frame["name"].map(names), source_number=frame["source_text"].map(sources))


@cache
def _rows() -> dict[str, str]:
    frame = _numbered()
    return dict(zip(frame["name"], frame["row"], strict=True))


def row_id(name: str) -> str:
    """The number of a published row, `P4`, by the name that `score_name` gives it."""
    return _rows()[name]


def published_blocks(measured: Collection[str]) -> list[Block]:
    """The published numbers: a table a measure, then the sources.

    Args:
        measured: Registered models with records; their rows say so, the others stand here alone.
    """
    text = (
        "None of these numbers was measured here, and none is in a column with one that was. They come from other "
        "protocols: other sizes, weights and choices of the epoch. A row that says `measured as` also stands beside "
        "our numbers; for the others no record exists here. An empty cell is a number that no source at hand holds."
    )
    tables = [_table(metric, measured) for metric in ("auc", "acc")]
    frame = _numbered()
    sources = frame.drop_duplicates("source_number")
    items = [
        f"({number}) {text}" for number, text in zip(sources["source_number"], sources["source_text"], strict=True)
    ]
    return [Heading("Published numbers"), text, *tables, "Sources:", Bullets(items)]


def _table(metric: str, measured: Collection[str]) -> Table:
    frame = _numbered()
    frame = frame[frame["metric"] == metric]
    rows = []
    for name, group in frame.groupby("name", sort=False):
        values = {dataset: f"{value:.3f}" for dataset, value in zip(group["dataset"], group["value"], strict=True)}
        ours = group["medbench_model"].iloc[0]
        names = [model for model in (ours, *(k for k, v in NAMESAKES.items() if v == ours)) if model in measured]
        sources = ", ".join(f"({number})" for number in dict.fromkeys(group["source_number"]))
        cells = [values.get(dataset, NOTHING) for dataset in PAPER_DATASETS]
        rows.append(Row([group["row"].iloc[0], str(name), *cells, ", ".join(names) or NOTHING, sources]))
    header = ["row", "published name", *PAPER_DATASETS, "measured as", "source"]
    caption = f"Published {metric.upper()}, fractions; nothing here was measured by this suite"
    return Table(caption, header, rows, widths=((header.index("measured as"), 27),))
