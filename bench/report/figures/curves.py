"""Training and validation curves, as the paper's Figs 4 and 8 have them for the test split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bench.records.card import DataCard
from bench.records.run_record import Record
from bench.report.analysis.predictions import read_history
from bench.report.figures.style import (
    Caption,
    Plot,
    data_words,
    legend_below,
    legend_height,
    line_style,
    listed,
    new_figure,
    seeds,
)
from bench.report.published.names import dataset_name, model_name

MEASURES = ("train_loss", "val_loss", "val_auc", "val_acc")
WORDS = ("train loss", "val loss", "val AUC", "val accuracy")
NUM_LINES = 20  # more seeds than this are a blot, and a large file
LABELS = [*WORDS, "chosen epoch"]


def curves_plot(
    name: str, number: int, paper: str, records: Sequence[Record], card: DataCard | None, results: Path
) -> Plot:
    """Loss and scores over the epochs of some runs that differ in the seed alone.

    Args:
        name: The figure's name.
        number: The paper's figure of this kind.
        paper: What that figure shows.
        records: Runs with a history, by seed.
        card: The data set's card.
        results: The results folder.
    """
    first, drawn = records[0], records[:NUM_LINES]
    some = f" The first {NUM_LINES} of {len(records)} seeds are drawn." if len(records) > NUM_LINES else ""
    text = (
        f"Loss and validation scores after each epoch, one thin line a seed, {seeds(records)}, protocol "
        f"{first.protocol}; the mark is the epoch with the highest val AUC, whose weights were kept.{some} "
        f"{data_words(card, first.dataset, 'val')} The paper's Fig {number} ({paper}) draws test curves; these are val "
        "curves, because test is scored once, after the epoch was chosen on val. The train loss is taken while the "
        "weights move, on augmented images where the protocol augments, so its distance to the val loss is no "
        "generalisation gap. Train accuracy, which the paper draws, is not drawn: only histories since 2026-11-28 hold "
        f"it (plain_train_acc, on un-augmented images). Records: {listed(drawn)}."
    )
    subject = f"{model_name(first.model)} on {dataset_name(first.dataset)}, {first.protocol}"
    title = f"Training and validation curves of {subject}"

    return Plot(
        name,
        Caption(title, text, first.dataset),
        drawn,
        lambda: curve_numbers(drawn, results),
        lambda numbers: draw_curves(numbers, subject),
    )


def curve_numbers(records: Sequence[Record], results: Path) -> pd.DataFrame:
    """`seed, epoch, train_loss, val_loss, val_auc, val_acc, chosen`: one row an epoch and seed.

    Raises:
        RecordError: As `read_history`.
    """
    parts = []
    for record in records:
        part = read_history(results, record).reindex(columns=["epoch", *MEASURES])
        part.insert(0, "seed", record.seed)
        parts.append(part.assign(chosen=part["epoch"] == record.best_epoch))
    return pd.concat(parts, ignore_index=True)


def draw_curves(numbers: pd.DataFrame, title: str) -> Figure:
    """Loss above, scores below."""
    figure = new_figure(title, 3.5 + legend_height(LABELS))
    panels = figure.subplots(2, 1, sharex=True)
    runs = [run for _, run in numbers.groupby("seed", sort=True)]
    for index, measure in enumerate(MEASURES):
        for run in runs:
            _draw_line(panels[index // 2], run, measure, index, width=1.2 if len(runs) == 1 else 0.7)
    panels[0].set_ylabel("loss (nats)")
    panels[1].set_ylabel("fraction")
    panels[1].set_xlabel("epoch (from 0)")
    panels[1].xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    handles = [Line2D([], [], **line_style(index)) for index in range(len(MEASURES))]
    handles.append(Line2D([], [], marker="o", linestyle="none", markerfacecolor="white", markeredgecolor="black"))
    legend_below(figure, handles, LABELS)
    return figure


def _draw_line(axes: Axes, run: pd.DataFrame, measure: str, index: int, width: float) -> None:
    look = line_style(index)
    axes.plot(run["epoch"], run[measure], linewidth=width, **look)
    chosen = run[run["chosen"]]
    if measure != "train_loss":
        axes.plot(
            chosen["epoch"],
            chosen[measure],
            marker="o",
            linestyle="none",
            markersize=4.5,
            markerfacecolor="white",
            markeredgecolor="black",
            zorder=3,
        )
