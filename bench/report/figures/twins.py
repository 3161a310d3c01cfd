"""The score of each model without ever more of the test images that are like those of train or val."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bench.records.run_record import Record
from bench.report.analysis.twins import TwinScore
from bench.report.analysis_plan import TWIN_THRESHOLDS
from bench.report.figures.style import ROW, WIDE, Caption, Plot, colour, new_figure
from bench.report.published.names import dataset_name, model_name
from bench.report.tidy import model_order, table

COLUMNS = ["model", "metric", "threshold", "n_seeds", "num_images", "mean", "random", "random_low", "random_high"]
LABELS = ["without the twins", "random removals, mean", "95 % of them"]
ACROSS = 4  # panels side by side
PANEL = 1.25  # inches high


def twins_plot(name: str, scores: Sequence[TwinScore], records: Sequence[Record], data: str) -> Plot:
    """AUC over the threshold, a panel a model.

    Args:
        name: The figure's name.
        scores: Of one protocol and data set.
        records: The runs that they come from.
        data: What the caption says of the data.
    """
    first = records[0]
    text = (
        "AUC of the test images whose pixel correlation with every image of train and val is below the threshold, "
        "mean over seeds, a panel a model; at the left the highest threshold, which takes the fewest images. Grey: "
        "random removals of as many images of each class, their mean and the range of 95 % of them, the trained "
        "weights being what they are. A line below the grey range owes part of its score to likeness. Exploratory; "
        f"not in the paper. {data} Protocol {first.protocol}, {len(records)} records."
    )
    title = f"AUC without twins of train and val on {dataset_name(first.dataset)}, {first.protocol}"
    return Plot(
        name,
        Caption(title, text, first.dataset),
        records,
        lambda: twin_numbers(scores),
        lambda numbers: draw_twins(numbers, title),
    )


def twin_numbers(scores: Iterable[TwinScore]) -> pd.DataFrame:
    """Fractions, a row a model and threshold, models in the tables' order."""
    areas = [score for score in scores if score.metric == "auc"]
    areas.sort(key=lambda score: (model_order(score.model), -score.threshold))
    return table(areas, COLUMNS)


def draw_twins(numbers: pd.DataFrame, title: str) -> Figure:
    """Small panels that share both axes."""
    parts = [(str(model), part) for model, part in numbers.groupby("model", sort=False)]
    across = min(ACROSS, len(parts))
    down = -(-len(parts) // across)
    figure = new_figure(title, PANEL * down + 5 * ROW, WIDE)
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for axes, (model, part) in zip(panels.flat, parts, strict=False):
        _draw_panel(axes, model, part)
    for axes in list(panels.flat)[len(parts) :]:
        axes.set_visible(False)
    for axes in list(panels.flat)[max(0, len(parts) - across) : len(parts)]:  # the lowest of each column
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("pixel correlation", fontsize=7)
    for axes in panels[:, 0]:
        axes.set_ylabel("AUC", fontsize=7)
    handles = [
        Line2D([], [], color=colour(0), marker="o", markersize=3),
        Line2D([], [], color="0.4", linestyle="--"),
        Patch(color="0.88"),
    ]
    figure.legend(handles, LABELS, loc="outside lower center", ncols=3)
    return figure


def _draw_panel(axes: Axes, model: str, part: pd.DataFrame) -> None:
    places = [TWIN_THRESHOLDS.index(threshold) for threshold in part["threshold"]]
    axes.fill_between(places, part["random_low"], part["random_high"], color="0.88", linewidth=0)
    axes.plot(places, part["random"], color="0.4", linestyle="--", linewidth=0.8)
    axes.plot(places, part["mean"], color=colour(0), marker="o", markersize=3)
    axes.set_title(textwrap.fill(f"{model_name(model)}, n = {part['n_seeds'].iloc[0]}", 30), fontsize=6)
    axes.set_xticks(np.arange(len(TWIN_THRESHOLDS)), [f"{t:g}"[1:] for t in TWIN_THRESHOLDS], fontsize=6, rotation=90)
    axes.tick_params(labelsize=6)
