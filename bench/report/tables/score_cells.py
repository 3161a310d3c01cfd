"""The cells of score tables: measured numbers with their marks and links, and the published number beside each.

AUC, accuracy and their differences are fractions with three digits everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from bench.records.run_record import Record
from bench.report.analysis.contrasts import Contrast
from bench.report.analysis.pairs import Pair
from bench.report.analysis.resolution import Resolution
from bench.report.analysis.scores import Score
from bench.report.evidence import Evidence, first_line
from bench.report.formats import NOTHING, Block, Bullets, Heading, Row, Table, Text, signed
from bench.report.links import Links
from bench.report.published.names import dataset_name
from bench.report.published.rows import row_id
from bench.report.site.layout import written
from bench.report.tables.missing import why_missing
from bench.report.tidy import dirty_lines, grouped, seeds_text, unpinned_lines
from bench.stats.families import discoveries
from bench.stats.power import POWER

METRICS = {"auc": "AUC", "acc": "ACC"}
TEST_PARTS = {"test": "official test", "test_twin_free": "twin-free test"}
COLUMNS = [
    *("protocol", "model", "dataset", "part", "metric", "n_seeds", "num_images", "mean", "sd", "ci_low", "ci_high"),
    *("interval", "mark", "drawn", "published", "difference", "published_name", "published_source", "run_ids"),
    "missing",
]
UNITS = "AUC, ACC and their differences are fractions between 0 and 1, never percentages."
READING = (
    "mean ± sample standard deviation over n seeds (none with one seed); 95 % intervals are over test images and "
    "seeds, the variance over seeds pooled over the networks of a protocol and data set; over test images alone of "
    "what is fitted, and where no network has two seeds: those speak of the trained weights."
)
MARKS = (
    "≈: the models of the column that may be the best, a confidence set that holds the best one at 95 %; being the "
    "highest among them means nothing. Bold: alone in that set. A model of one seed may be in it and excludes nobody."
)


@dataclass(frozen=True)
class MissingCell:
    """A cell without a finished run, and the reason."""

    protocol: str
    model: str
    dataset: str
    reason: str


def missing_cell(evidence: Evidence, protocol: str, model: str, dataset: str) -> MissingCell:
    """A cell that no finished run fills."""
    return MissingCell(protocol, model, dataset, why_missing(evidence, protocol, model, dataset).text)


def _columns(row: Score | MissingCell) -> dict[str, object]:
    if isinstance(row, MissingCell):
        return {"protocol": row.protocol, "model": row.model, "dataset": row.dataset, "missing": row.reason}
    published = row.reference
    derived: dict[str, object] = {
        "published": published.value if published else math.nan,
        "published_name": published.name if published else "",
        "published_source": published.cited if published else "",
        "run_ids": " ".join(row.run_ids),
        "missing": "",
    }
    return {name: derived[name] if name in derived else getattr(row, name) for name in COLUMNS}


def _frame(rows: Sequence[Score | MissingCell]) -> pd.DataFrame:
    frame = pd.DataFrame([_columns(row) for row in rows], columns=COLUMNS)
    return frame.astype({"n_seeds": "Int64", "num_images": "Int64"})


def table_files(
    name: str,
    blocks: Sequence[Block],
    rows: Sequence[Score | MissingCell],
    records: Sequence[Record],
    *,
    synthetic: bool,
    has_page: bool = True,
) -> dict[str, bytes]:
    """A score table as Markdown, LaTeX and CSV, and as a page of the site.

    Args:
        name: `table3`.
        blocks: What it shows.
        rows: Its cells, those that are missing included.
        records: The runs that it comes from.
        synthetic: Whether they are on synthetic data: file name and CSV say so, and there is no page.
        has_page: Whether it gets a page; Table 3 is spread over those of the data sets.
    """
    unpinned, dirty = unpinned_lines(records), dirty_lines(records)
    if dirty:
        blocks = [*blocks, Heading("Runs of changed code"), Bullets(dirty)]
    if unpinned:
        blocks = [*blocks, Heading("Runs whose bits are those of one processor"), Bullets(unpinned)]
    return written(name, blocks, _frame(rows), first_line(records), synthetic=synthetic, has_page=has_page)


def value_text(mean: float, sd: float) -> str:
    """`0.863`, with several seeds `0.863 ± 0.012`, `n/a` where the measure is undefined."""
    if math.isnan(mean):
        return "n/a"
    return f"{mean:.3f}" + ("" if math.isnan(sd) else f" ± {sd:.3f}")


def interval_text(low: float, high: float) -> str:
    """`0.790–0.914`."""
    return NOTHING if math.isnan(low) or math.isnan(high) else f"{low:.3f}–{high:.3f}"


def signed_interval(low: float, high: float) -> str:
    """`−0.010 to +0.034`, of a difference."""
    return NOTHING if math.isnan(low) or math.isnan(high) else f"{signed(low)} to {signed(high)}"


def difference_text(value: float, low: float, high: float) -> str:
    """`+0.012 (−0.010 to +0.034)`."""
    return f"{signed(value)} ({signed_interval(low, high)})"


def difference_cells(row: Pair | Contrast | None) -> list[str]:
    """A difference and its interval, in two cells."""
    return [NOTHING, NOTHING] if row is None else [signed(row.difference), signed_interval(row.ci_low, row.ci_high)]


def p_text(p: float) -> str:
    """`0.034`, `< 0.001`; `n/a` where there was no test."""
    return "n/a" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def measured_text(score: Score, links: Links) -> Text:
    """A measured cell: value, mark, link to its records."""
    tie = " ≈" if score.drawn == "tie" and not math.isnan(score.mean) else ""
    link = links.to_records(score.protocol, score.model, score.dataset, score.seeds)
    return Text(value_text(score.mean, score.sd) + tie, link, strong=score.drawn == "best")


def published_text(score: Score) -> tuple[str, str]:
    """What was published for a cell, with the number of its row, and our difference from it."""
    reference = score.reference
    if reference is None:
        return NOTHING, ""
    return f"{reference.value:.3f} ({row_id(reference)})", signed(score.difference)


def matrix_table(
    scores: Iterable[Score], models: Sequence[str], datasets: Sequence[str], caption: str, links: Links
) -> Table:
    """Models x data sets of one measure: the paper's shape. Empty cells stay empty; nothing published is in it."""
    by_cell = {(score.model, score.dataset): score for score in scores}
    rows = []
    for model in models:
        cells = [by_cell.get((model, dataset)) for dataset in datasets]
        texts = [NOTHING if score is None else measured_text(score, links) for score in cells]
        rows.append(Row([model, *texts], _comment(score for score in cells if score is not None)))
    return Table(caption, ["model", *datasets], rows)


def detail_table(
    entries: Mapping[str, Sequence[Score]], part: str, caption: str, links: Links, label: str = "model"
) -> Table:
    """Both measures with intervals, and what was published in columns of its own; a row an entry.

    Args:
        entries: What a row is called -> its scores of one data set and part: one a measure, or none.
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
    for name, group in entries.items():
        by_metric = {score.metric: score for score in group}
        texts: list[Text | str] = [name, _num_seeds(group)]
        for metric in METRICS:
            score = by_metric.get(metric)
            if score is None:
                texts += [NOTHING, NOTHING, NOTHING, ""][: 4 if official else 2]
                continue
            texts += [measured_text(score, links), interval_text(score.ci_low, score.ci_high)]
            texts += published_text(score) if official else []
        rows.append(Row(texts, _comment(group)))
    return Table(caption, header, rows, right=frozenset({1}))


def _num_seeds(scores: Sequence[Score]) -> str:
    """`3`, or `1 of 3` where planned seeds are missing; `0` where there is no cell."""
    if not scores:
        return "0"
    first = scores[0]
    return seeds_text(first.protocol, first.model, first.dataset, max(score.n_seeds for score in scores))


def _comment(scores: Iterable[Score]) -> str:
    """The runs behind a row, for readers of the LaTeX source."""
    runs = dict.fromkeys(run_id for score in scores for run_id in score.run_ids)
    return f"runs: {' '.join(runs)}" if runs else ""


def resolution_text(
    resolution: Iterable[Resolution], protocol: str, part: str, metric: str, datasets: Sequence[str], *, notes: bool
) -> str:
    """What the comparisons of a protocol can find, in one line; "" where nothing was measured."""
    key = (protocol, part, metric)
    chosen = [row for row in resolution if (row.protocol, row.part, row.metric) == key and row.dataset in datasets]
    if not chosen:
        return ""
    texts = []
    for dataset, rows in grouped(chosen, lambda row: row.dataset).items():
        values = []
        for row in rows:
            note = f"; {row.note}" if notes and row.note else "; a lower bound" if row.note else ""
            values.append(f"{smallest_text(row)} ({row.num_images} images{note})")
        texts.append(f"{dataset_name(dataset)} " + ", or ".join(values if notes else values[:1]))
    return f"Smallest {METRICS[metric]} difference found with a power of {POWER:g}: {', '.join(texts)}."


def smallest_text(row: Resolution) -> str:
    """`0.089, by the corrected test 0.131`, `n/a` where there is no comparison."""
    if math.isnan(row.smallest_difference):
        return "n/a"
    corrected = "" if math.isnan(row.smallest_corrected) else f", by the corrected test {row.smallest_corrected:.3f}"
    return f"{row.smallest_difference:.3f}{corrected}"


def exploratory_text(p_values: Iterable[float], what: str) -> str:
    """How many exploratory tests are below 5 %, and how many would be by chance; "" without a test.

    Args:
        p_values: Of the tests, not corrected; NaN where there was none.
        what: Which tests.
    """
    counts = discoveries([p for p in p_values if not math.isnan(p)])
    if not counts.tests:
        return ""
    kept = f"{counts.kept} (of independent tests 5 % would be false on average; these share images and models)"
    return (
        f"Exploratory, {what}: {counts.tests} tests, {counts.seen} with p below 5 % where {counts.expected:.1f} would "
        f"be expected if nothing differed; Benjamini and Hochberg's correction keeps {kept if counts.kept else 'none'}."
    )
