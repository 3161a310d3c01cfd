"""The cells of score tables: measured numbers with their marks and links, and the published number beside each.

AUC, accuracy and their differences are fractions with three digits everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import pandas as pd

from bench.records.run_record import Record
from bench.report.analysis_plan import PARTS
from bench.report.evidence import first_line
from bench.report.formats import (
    NOTHING,
    Block,
    Bullets,
    Heading,
    Row,
    Table,
    Text,
    latex,
    markdown,
    signed,
    tie_marks,
)
from bench.report.links import Links
from bench.report.published.numbers import reference_score
from bench.report.published.rows import row_id
from bench.report.tidy import STAMP, csv_bytes, model_order, unpinned_lines

METRICS = {"auc": "AUC", "acc": "ACC"}
TEST_PARTS = {"test": "official test", "test_twin_free": "twin-free test"}
CELL = ["protocol", "model", "dataset", "part", "metric"]
COLUMNS = [
    *(*CELL, "n_seeds", "num_images", "mean", "sd", "ci_low", "ci_high", "interval", "mark", "drawn"),
    *("published", "difference", "published_name", "published_source", "run_ids", "missing"),
]
UNITS = "AUC, ACC and their differences are fractions between 0 and 1, never percentages."
READING = (
    "mean ± sample standard deviation over n seeds (none with one seed); 95 % intervals are over test images, with "
    "several seeds over images and seeds."
)
MARKS = (
    "Bold: higher than every other model of the column by a test. ≈: these share the lead, no test separates them from "
    "the column's highest value; being the highest among them means nothing."
)


def score_cells(cells: pd.DataFrame) -> pd.DataFrame:
    """AUC and accuracy of every cell, in the order of the tables, with what is drawn and what was published.

    Args:
        cells: `Analysis.cells`.

    Returns:
        `COLUMNS`; `drawn` is `best`, `tie` or "", `missing` is "".
    """
    found = cells[cells["metric"].isin(list(METRICS))].copy()
    found["_order"] = found["model"].map(model_order)
    found = found.sort_values(["protocol", "dataset", "_order", "part", "metric"], kind="stable")
    found["drawn"] = ""
    models = found[~found["model"].isin(list(PARTS))]
    for _, group in models.groupby(["protocol", "dataset", "part", "metric"], sort=False):
        found.loc[group.index, "drawn"] = tie_marks(group["mark"].tolist())
    references = [
        reference_score(model, dataset, metric, protocol) if part == "test" else None
        for protocol, model, dataset, part, metric in found[CELL].itertuples(index=False)
    ]
    found["published"] = [r.value if r else math.nan for r in references]
    found["difference"] = found["mean"] - found["published"]
    found["published_name"] = [r.name if r else "" for r in references]
    found["published_source"] = [f"{r.source}; {r.source_locator}" if r else "" for r in references]
    return found.assign(missing="")[COLUMNS].reset_index(drop=True)


def with_missing(*frames: pd.DataFrame) -> pd.DataFrame:
    """Cells and rows for empty cells as one table; what is counted stays whole."""
    table = pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)[COLUMNS]
    return table.astype({"n_seeds": "Int64", "num_images": "Int64"})


def table_files(
    name: str, blocks: Sequence[Block], rows: Sequence[pd.DataFrame], records: Sequence[Record], *, synthetic: bool
) -> dict[str, bytes]:
    """A score table as Markdown, LaTeX and CSV.

    Args:
        name: `table3`.
        blocks: What it says.
        rows: Its cells, those that are missing included.
        records: The runs that it comes from.
        synthetic: Whether they are on data made here: file name and CSV say so.
    """
    prefix, stamp = (f"{STAMP}_", f"{STAMP} | ") if synthetic else ("", "")
    line = first_line(records)
    unpinned = unpinned_lines(records)
    if unpinned:
        blocks = [*blocks, Heading("Runs whose bits are those of one processor"), Bullets(unpinned)]
    return {
        f"{prefix}{name}.md": markdown(blocks, line),
        f"{prefix}{name}.tex": latex(blocks, line),
        f"{prefix}{name}.csv": f"# {stamp}{line}\n".encode() + csv_bytes(with_missing(*rows)),
    }


def value_text(mean: float, sd: float) -> str:
    """`0.863`, with several seeds `0.863 ± 0.012`, `n/a` where the measure is undefined."""
    if math.isnan(mean):
        return "n/a"
    return f"{mean:.3f}" + ("" if math.isnan(sd) else f" ± {sd:.3f}")


def interval_text(low: float, high: float) -> str:
    """`0.790–0.914`."""
    return NOTHING if math.isnan(low) or math.isnan(high) else f"{low:.3f}–{high:.3f}"


def signed_interval(row: pd.Series) -> str:
    """`−0.010 to +0.034`, of a difference."""
    if math.isnan(row["ci_low"]) or math.isnan(row["ci_high"]):
        return NOTHING
    return f"{signed(row['ci_low'])} to {signed(row['ci_high'])}"


def measured_text(row: pd.Series, links: Links) -> Text:
    """A measured cell: value, mark, link to its records."""
    tie = " ≈" if row["drawn"] == "tie" and not math.isnan(row["mean"]) else ""
    link = links.to_records(row["protocol"], row["model"], row["dataset"], row["run_ids"])
    return Text(value_text(row["mean"], row["sd"]) + tie, link, strong=row["drawn"] == "best")


def published_text(row: pd.Series) -> tuple[str, str]:
    """What was published for a cell, with the number of its row, and our difference from it."""
    if math.isnan(row["published"]):
        return NOTHING, ""
    return f"{row['published']:.3f} ({row_id(row['published_name'])})", signed(row["difference"])


def matrix_table(
    cells: pd.DataFrame, models: Sequence[str], datasets: Sequence[str], caption: str, links: Links
) -> Table:
    """Models x data sets of one measure: the paper's shape. Empty cells stay empty; nothing published is in it."""
    by_cell = {(row["model"], row["dataset"]): row for _, row in cells.iterrows()}
    rows = []
    for model in models:
        found = [by_cell.get((model, dataset)) for dataset in datasets]
        texts = [NOTHING if row is None else measured_text(row, links) for row in found]
        rows.append(Row([model, *texts], _comment(row for row in found if row is not None)))
    return Table(caption, ["model", *datasets], rows)


def detail_table(
    entries: Sequence[tuple[str, pd.DataFrame]], part: str, caption: str, links: Links, label: str = "model"
) -> Table:
    """Both measures with intervals, and what was published in columns of its own; a row an entry.

    Args:
        entries: What a row is called, and its cells of one data set and part: one a measure, or none.
        part: `test` or `test_twin_free`; nothing was published for the latter.
        caption: The table's.
        links: Of the page that it stands in.
        label: Head of the first column.
    """
    official = part == "test"
    header = [label, "n"]
    for name in METRICS.values():
        header += [name, f"{name} 95 %"] + ([f"{name} published", "difference"] if official else [])
    rows = []
    for name, group in entries:
        by_metric = {row["metric"]: row for _, row in group.iterrows()}
        texts: list[Text | str] = [name, str(max(group["n_seeds"], default=0))]
        for metric in METRICS:
            row = by_metric.get(metric)
            empty = [NOTHING, NOTHING, NOTHING, ""][: 4 if official else 2]
            texts += empty if row is None else [measured_text(row, links), interval_text(row["ci_low"], row["ci_high"])]
            texts += published_text(row) if official and row is not None else []
        rows.append(Row(texts, _comment(by_metric.values())))
    return Table(caption, header, rows, right=frozenset({1}))


def _comment(rows: Iterable[pd.Series]) -> str:
    """The runs behind a row, for readers of the LaTeX source."""
    runs = dict.fromkeys(run for row in rows for run in str(row["run_ids"]).split())
    return f"runs: {' '.join(runs)}" if runs else ""


def resolution_text(resolution: pd.DataFrame, part: str, metric: str, datasets: Sequence[str], *, notes: bool) -> str:
    """What the test sets can show, in one line; "" where nothing was measured."""
    rows = resolution[
        (resolution["part"] == part) & (resolution["metric"] == metric) & resolution["dataset"].isin(datasets)
    ]
    told = []
    for dataset, group in rows.groupby("dataset", sort=False):
        values = []
        for row in group.to_dict("records"):
            note = f"; {row['note']}" if notes and row["note"] else "; a lower bound" if row["note"] else ""
            gap = row["smallest_difference"]
            values.append(f"{'n/a' if math.isnan(gap) else f'{gap:.3f}'} ({row['num_images']} images{note})")
        told.append(str(dataset) + " " + ", or ".join(values if notes else values[:1]))
    if not told:
        return ""
    around = f"{rows['reference'].iloc[0]:g}"
    return f"Smallest {METRICS[metric]} difference that a test set could show, around {around}: {', '.join(told)}."
