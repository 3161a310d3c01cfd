"""Twins: what each model's score owes to test images that are nearly in train or val, by the threshold."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bench.records.card import DataCard
from bench.report.ablations import is_compared
from bench.report.analysis.analyse import Analysis
from bench.report.analysis.twins import FEWEST_REMOVED, TwinScore
from bench.report.analysis_plan import TWIN_THRESHOLDS
from bench.report.evidence import Evidence, first_line
from bench.report.formats import NOTHING, Block, Heading, Row, Table, Text, markdown, signed
from bench.report.published.independence import independences
from bench.report.published.names import dataset_name
from bench.report.site.layout import document
from bench.report.tables.score_cells import METRICS, exploratory_text, p_text, signed_interval
from bench.report.tidy import STAMP, grouped, seeds_text

READING = (
    "A test image with a twin is one whose pixel correlation at 28 px with some image of train or val reaches the "
    "threshold. Scores are fractions, means over n seeds, on the test images that are left. Most twins may be of one "
    "class, so the drop is from the mean over random removals of as many images of each class, not from the official "
    "score; its 95 % interval is over test images and seeds, as everywhere. A drop above 0 is what likeness to the "
    "training images gave. All of it is exploratory."
)


TOGETHER = (
    "Every interval and test treats images as independent. Where a source has several images per patient, lesion or "
    "scan, intervals are too narrow and p-values too small; by how much nobody can know without identifiers. For "
    "the Organ sets an assumed correlation stands in `resolution.csv`. Twins are the part of it that pixels show."
)


def render(evidence: Evidence, analysis: Analysis, *, synthetic: bool) -> dict[str, bytes]:
    """`twins.md` and its page; nothing where no data set has its similarities measured."""
    records = evidence.finished(synthetic=synthetic)
    used = {record.dataset for record in records}
    cards = [card for name, card in sorted(evidence.cards.items()) if name in used and card.similarity is not None]
    cards = [card for card in cards if card.twin_test_indices or card.num_twin_pairs["train/val"]]
    if not cards:
        return {}
    prefix, stamp = (f"{STAMP}_", f" ({STAMP})") if synthetic else ("", "")
    blocks: list[Block] = [Heading(f"Twins across splits{stamp}", 1), READING]
    blocks += [] if synthetic else [Heading("Images that belong together"), TOGETHER, _independence_table()]
    for card in cards:
        curves = [row for row in analysis.twins if row.dataset == card.dataset]
        blocks += [
            Heading(f"{dataset_name(card.dataset)}{stamp}"),
            _count_table(card, curves, stamp),
            _epochs_text(card),
        ]
        own = [row for row in curves if is_compared(row.protocol)] if card.twin_test_indices else []
        for protocol, rows in sorted(grouped(own, lambda row: row.protocol).items()):
            blocks.append(Heading(f"{dataset_name(card.dataset)}, {protocol}{stamp}", 3))
            at = [row for row in rows if row.threshold == card.twin_threshold]
            blocks += [_score_table(rows, card, metric, f"{protocol}{stamp}") for metric in METRICS]
            blocks.append(exploratory_text([row.p for row in at], f"drops at {card.twin_threshold:g}"))
    files = {f"{prefix}twins.md": markdown(blocks, first_line(records))}
    return files if synthetic else files | document("twins.html", blocks, first_line(records), tuple(files))


def _independence_table() -> Table:
    """What each source says of several images per unit."""
    rows = [
        Row([own.dataset, own.unit, own.several, own.statement, Text(own.source, own.url), own.read])
        for own in independences().values()
    ]
    header = ["data set", "unit", "several images", "what the source says", "source", "read here"]
    return Table("Independence of images, by their sources", header, rows)


def _count_table(card: DataCard, curves: Sequence[TwinScore], stamp: str) -> Table:
    """How many images each threshold takes, from test by class and from val."""
    highest, val = card.test_similarity, np.array((card.similarity or {})["train/val"])
    assert highest is not None, "only cards with similarities are shown"
    by_class = {row.threshold: f" ({' + '.join(row.removed)})" for row in curves}
    rows = []
    for threshold in TWIN_THRESHOLDS:
        gone = f"{int((highest >= threshold).sum())}{by_class.get(threshold, '')}"
        rows.append(Row([f"{threshold:g}", gone, str(int((val >= threshold).sum()))]))
    classes = f" ({' + '.join(card.class_names)})" if by_class else ""
    header = ["threshold", f"test images with a twin, of {card.num_images['test']:,}{classes}"]
    header.append(f"val images with a twin in train, of {card.num_images['val']:,}")
    return Table(f"Images with a twin, {dataset_name(card.dataset)}{stamp}", header, rows, right=frozenset({1, 2}))


def _epochs_text(card: DataCard) -> str:
    """What twins between train and val can do to the epoch's choice."""
    pairs, threshold = card.num_twin_pairs["train/val"], card.twin_threshold
    if not pairs:
        return "No val image has a twin in train, so none can favour an epoch that remembers train."
    images = int((np.array((card.similarity or {})["train/val"]) >= threshold).sum())
    return (
        f"Between train and val there are {pairs:,} pairs of twins at {threshold:g}: {images:,} of the "
        f"{card.num_images['val']:,} val images that choose the epoch and the threshold have a twin in train. They can "
        "favour an epoch that remembers train; what that does to a test score is not in any number here."
    )


def _score_table(rows: Sequence[TwinScore], card: DataCard, metric: str, caption: str) -> Table:
    """Models x thresholds of one measure, and the drop at the threshold of the twin-free test."""
    thresholds = [t for t in TWIN_THRESHOLDS if any(row.threshold == t for row in rows)]
    table_rows = []
    for model, own in grouped([row for row in rows if row.metric == metric], lambda row: row.model).items():
        by = {row.threshold: row for row in own}
        first = own[0]
        texts = [model, seeds_text(first.protocol, model, first.dataset, first.n_seeds)]
        texts += [f"{by[t].mean:.3f}" if t in by else NOTHING for t in thresholds]
        table_rows.append(Row([*texts, *_drop_texts(by.get(card.twin_threshold))]))
    name = METRICS[metric]
    header = ["model", "n", *(f"{t:g}" for t in thresholds), f"drop at {card.twin_threshold:g}", "95 %", "p"]
    right = frozenset(range(1, len(header)))
    return Table(
        f"{name} without the twins at each threshold, {dataset_name(card.dataset)}, {caption}",
        header,
        table_rows,
        right,
    )


def _drop_texts(row: TwinScore | None) -> list[str]:
    """The drop, its interval and its p."""
    if row is None:
        return [NOTHING, NOTHING, NOTHING]
    if math.isnan(row.p):
        return [signed(row.drop), f"fewer than {FEWEST_REMOVED} images", NOTHING]
    return [signed(row.drop), signed_interval(row.ci_low, row.ci_high), p_text(row.p)]
