"""Confusion matrices, ROC and precision-recall curves on the official test split: the paper's Figs 5-7 and 9-11."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bench.errors import RecordError
from bench.records.card import DataCard
from bench.records.run_record import Record
from bench.report.analysis.predictions import read_predictions
from bench.report.figures.roc_points import FINEST, Points, mean_precision_recall, mean_roc
from bench.report.figures.style import (
    WIDE,
    WIDTH,
    Caption,
    Plot,
    beginnings,
    class_labels,
    colours,
    data_words,
    legend_below,
    legend_height,
    line_style,
    listed,
    new_figure,
    seeds,
)
from bench.report.published.names import dataset_name, model_name
from bench.stats.metrics import confusion_matrix, per_class

Kind = Literal["roc", "pr"]
AXES: dict[Kind, tuple[str, str]] = {
    "roc": ("false positive rate", "true positive rate"),
    "pr": ("recall", "precision"),
}
AREA: dict[Kind, str] = {"roc": "auc", "pr": "ap"}
NUM_NARROW = 5  # more classes need two columns of print for their counts


@dataclass(frozen=True)
class Cell:
    """Finished runs of one model, data set and protocol, by seed.

    Attributes:
        records: At least one.
        card: Of the data set.
        results: The results folder.
    """

    records: Sequence[Record]
    card: DataCard
    results: Path

    @property
    def title(self) -> str:
        """`resnet18 on breastmnist, lite-96`, and in a second line `mean of 3 seeds`."""
        first, count = self.records[0], len(self.records)
        several = f"\nmean of {count} seeds" if count > 1 else ""
        return f"{model_name(first.model)} on {dataset_name(first.dataset)}, {first.protocol}{several}"

    @property
    def words(self) -> str:
        """What every caption of the cell says."""
        first = self.records[0]
        data = data_words(self.card, first.dataset, "test")
        return f"{data} Protocol {first.protocol}. Records: {listed(self.records)}."

    @cached_property
    def test(self) -> tuple[NDArray[np.int64], list[NDArray[np.float64]]]:
        """Test labels (N,), and each run's probabilities (N, K).

        Raises:
            RecordError: If predictions are damaged, or not of the data set's classes.
            PairingError: If a run was not scored on the data set's labels.
        """
        predictions = [read_predictions(self.results, record, self.card) for record in self.records]
        for record, run in zip(self.records, predictions, strict=True):
            if run.probs["test"].shape[1] != len(self.card.class_names):
                raise RecordError(f"{record.run_id}: its scores are not of the {len(self.card.class_names)} classes")
        return predictions[0].labels["test"], [run.probs["test"] for run in predictions]


def confusion_plot(name: str, number: int, paper: str, cell: Cell) -> Plot:
    """Counts and row percent of labels against predictions; the name, and what the paper's figure shows."""
    first, several = cell.records[0], len(cell.records) > 1
    rule = "label 1 where its probability is above 0.5" if cell.card.task == "binary-class" else "the highest score"
    text = (
        f"Test images by label (rows) and prediction (columns, {rule}): {'mean ' if several else ''}count"
        f"{' over ' + seeds(cell.records) if several else ', ' + seeds(cell.records)}, and percent of the row, which "
        f"the colour shows. The paper's Fig {number} ({paper}) has counts of one run and class numbers. {cell.words}"
    )
    title = f"Confusion matrix of {model_name(first.model)} on {dataset_name(first.dataset)}, {first.protocol}"
    return Plot(
        name,
        Caption(title, text, first.dataset),
        cell.records,
        lambda: confusion_numbers(cell),
        lambda numbers: draw_confusion(numbers, cell.title, class_labels(cell.card, 34)),
    )


def confusion_numbers(cell: Cell) -> pd.DataFrame:
    """`label, label_name, predicted, predicted_name, mean_count, row_percent`; one row a field."""
    labels, runs = cell.test
    names = cell.card.class_names
    table = np.mean([confusion_matrix(labels, probs, cell.card.task) for probs in runs], axis=0)
    totals = table.sum(axis=1)
    rows = [
        (row, names[row], column, names[column], count, 100 * count / totals[row] if totals[row] else np.nan)
        for (row, column), count in np.ndenumerate(table)
    ]
    return pd.DataFrame(
        rows, columns=["label", "label_name", "predicted", "predicted_name", "mean_count", "row_percent"]
    )


def draw_confusion(numbers: pd.DataFrame, title: str, names: Sequence[str]) -> Figure:
    """A field a pair of classes, darker the more of the row it holds."""
    num = len(names)
    width, height = (WIDTH, 2.9) if num <= NUM_NARROW else (WIDE, 1.2 + 0.42 * num)
    figure = new_figure(title, height, width)
    axes = figure.subplots()
    counts = numbers.pivot(index="label", columns="predicted", values="mean_count").to_numpy()
    percent = numbers.pivot(index="label", columns="predicted", values="row_percent").to_numpy()
    whole = bool(np.all(counts == np.round(counts)))
    texts = [[_field(c, p, whole) for c, p in zip(*rows, strict=True)] for rows in zip(counts, percent, strict=True)]
    sns.heatmap(
        np.nan_to_num(percent),
        ax=axes,
        vmin=0,
        vmax=100,
        cmap=sns.light_palette(colours()[0], as_cmap=True),
        annot=np.array(texts),
        fmt="",
        annot_kws={"fontsize": 8},
        linewidths=0.5,
        cbar=False,
        xticklabels=False,
        yticklabels=False,
    )
    below = beginnings(names, 22) if num > NUM_NARROW else names
    axes.set_xticks(np.arange(num) + 0.5, below, **_turned() if num > NUM_NARROW else {})
    axes.set_yticks(np.arange(num) + 0.5, names)
    axes.set(xlabel="predicted", ylabel="label")
    axes.tick_params(length=0)
    return figure


def _turned() -> dict[str, Any]:
    return {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}


def _field(count: float, percent: float, whole: bool) -> str:
    shown = f"{count:,.0f}" if whole else f"{count:,.1f}"
    return f"{shown}\n{percent:.0f} %" if np.isfinite(percent) else shown


def areas_plot(kind: Kind, name: str, number: int, paper: str, cell: Cell) -> Plot:
    """One-vs-rest ROC or precision-recall curves with each class's area."""
    first, count = cell.records[0], len(cell.records)
    what = {"roc": "ROC curves", "pr": "Precision-recall curves"}[kind]
    area = {"roc": "area under the curve", "pr": "average precision, the area under the steps"}[kind]
    how = f"vertical mean over {seeds(cell.records)}" if count > 1 else seeds(cell.records)
    chance = {
        "roc": "The dotted diagonal is chance.",
        "pr": "Chance is a class's share of the images (dotted for few classes).",
    }[kind]
    text = (
        f"{what}, each class against the rest, {how}; behind a class its {area}"
        f"{', the mean over the seeds' if count > 1 else ''}. {chance} The paper's Fig {number} ({paper}) shows one "
        f"run and numbers the classes. Of long curves, points closer than {FINEST} are left out; areas are exact. "
        f"{cell.words}"
    )
    return Plot(
        name,
        Caption(
            f"{what} of {model_name(first.model)} on {dataset_name(first.dataset)}, {first.protocol}",
            text,
            first.dataset,
        ),
        cell.records,
        lambda: area_numbers(kind, cell),
        lambda numbers: draw_areas(kind, numbers, cell.title, class_labels(cell.card, 44)),
    )


def area_numbers(kind: Kind, cell: Cell) -> pd.DataFrame:
    """`class_index, class_name, area, share, <x>, <y>`; one row a point, `share` the class's part of the images.

    A class of which no test image is, or all are, has no curve.
    """
    labels, runs = cell.test
    scores = [per_class(labels, probs, cell.card.task)[AREA[kind]] for probs in runs]
    curve: Callable[..., Points] = mean_roc if kind == "roc" else mean_precision_recall
    x_name, y_name = (word.replace(" ", "_") for word in AXES[kind])
    parts = [pd.DataFrame(columns=["class_index", "class_name", "area", "share", x_name, y_name])]
    for index, class_name in enumerate(cell.card.class_names):
        is_hit = labels == index
        if not is_hit.any() or is_hit.all():
            continue
        area = float(np.mean([run[index] for run in scores]))
        share = round(float(is_hit.mean()), 6)
        x, y = curve(is_hit, [np.ascontiguousarray(probs[:, index]) for probs in runs])
        points = {x_name: x.round(4), y_name: y.round(4)}
        parts.append(
            pd.DataFrame(
                {"class_index": index, "class_name": class_name, "area": round(area, 6), "share": share, **points}
            )
        )
    return pd.concat(parts[1:] or parts, ignore_index=True)


def draw_areas(kind: Kind, numbers: pd.DataFrame, title: str, names: Sequence[str]) -> Figure:
    """A line a class; colour and dashes tell them apart, the legend has the areas."""
    groups = list(numbers.groupby("class_index", sort=True))
    texts = [f"{names[int(str(index))]} {part['area'].iloc[0]:.3f}" for index, part in groups]
    figure = new_figure(title, 3.0 + legend_height(texts))
    axes = figure.subplots()
    if kind == "roc":
        axes.plot([0, 1], [0, 1], color="0.5", linestyle=":", linewidth=0.8)
    handles = []
    for (index, part), text in zip(groups, texts, strict=True):
        look = line_style(int(str(index)))
        handles += axes.plot(part.iloc[:, -2], part.iloc[:, -1], label=text, clip_on=False, **look)
        if kind == "pr" and len(groups) <= 3:
            axes.axhline(part["share"].iloc[0], color=look["color"], linestyle=":", linewidth=0.8)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel=AXES[kind][0], ylabel=AXES[kind][1])
    legend_below(figure, handles, texts)
    return figure
