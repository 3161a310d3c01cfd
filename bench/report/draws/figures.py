"""What models score where train was thinned: a learning curve, and rare classes by share and arm."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.records.card import DataCard
from bench.records.own_models import is_fitted
from bench.records.run_record import Record
from bench.report.draws.scores import ARMS, CHOSEN, LAST_STEP, DrawScore, Track, level_order
from bench.report.evidence import Evidence
from bench.report.figures.style import (
    ROW,
    WIDE,
    Caption,
    Plot,
    colour,
    data_words,
    legend_height,
    line_style,
    listed,
    new_figure,
)
from bench.report.published.names import dataset_name, model_name
from bench.report.tidy import grouped, model_order, table

COLUMNS = [
    "level",
    "arm",
    "model",
    "weights",
    "metric",
    "n_draws",
    "positives",
    "prevalence",
    "decidable",
    "mean",
    "sd",
]
FITTED_PANEL = "fitted models"
MEASURES = {"auc": "AUC", "ap": "average precision"}
PANELS = {CHOSEN: "epoch chosen on val", LAST_STEP: "last step"}
SPREAD = (
    "Marks are means over draws, bands and bars one standard deviation over draws (none with one draw); of the whole "
    "split over seeds."
)


def draw_plots(evidence: Evidence, scores: Sequence[DrawScore], *, synthetic: bool) -> Iterator[Plot]:
    """A figure a track and data set that has another level than the whole split."""
    for (track, dataset), own in grouped(scores, lambda score: (score.track, score.dataset)).items():
        records = evidence.behind(own, synthetic=synthetic)
        if records:
            yield (_efficiency if track == "efficiency" else _imbalance)(
                track, own, records, evidence.cards.get(dataset)
            )


def _efficiency(track: Track, scores: Sequence[DrawScore], records: Sequence[Record], card: DataCard | None) -> Plot:
    dataset = scores[0].dataset
    text = (
        "Test AUC of each model trained on so many images of each class, left by the epoch that val chose, right by "
        "the last step's weights (what is fitted has one fit, drawn in both); all: the whole training split, by its "
        f"reference runs, of which networks have no last-step score. {SPREAD} Every level takes the same number of "
        f"steps. {data_words(card, dataset, 'test')} Records: "
        f"{listed(records)}."
    )
    title = f"Few images: AUC by training images of each class on {dataset_name(dataset)}"
    return _plot(f"{track}__{dataset}", Caption(title, text, dataset), scores, records, {"auc"}, draw_efficiency)


def _imbalance(track: Track, scores: Sequence[DrawScore], records: Sequence[Record], card: DataCard | None) -> Plot:
    dataset = scores[0].dataset
    counts = {score.level: score.positives for score in scores}
    listing = ", ".join(f"{level}: {count} positives" for level, count in counts.items())
    text = (
        "Test AUC (above) and average precision at the level's own share of positives (below; the dotted line is "
        f"chance) where train's clinical positives are thinned: {listing}. A column a network, its arms side by side; "
        f"what is fitted has the plain arm alone. {SPREAD} Hollow marks: fewer positives than the plan lets decide "
        f"anything. {data_words(card, dataset, 'test')} Records: {listed(records)}."
    )
    title = f"Rare classes: AUC and average precision by share and arm on {dataset_name(dataset)}"
    return _plot(f"{track}__{dataset}", Caption(title, text, dataset), scores, records, set(MEASURES), draw_imbalance)


def _plot(
    name: str,
    caption: Caption,
    scores: Sequence[DrawScore],
    records: Sequence[Record],
    metrics: set[str],
    draw: Callable[[pd.DataFrame, str], Figure],
) -> Plot:
    shown = [score for score in scores if score.metric in metrics]
    return Plot(name, caption, records, lambda: table(shown, COLUMNS), lambda numbers: draw(numbers, caption.dataset))


def draw_efficiency(numbers: pd.DataFrame, dataset: str) -> Figure:
    """AUC over images of a class, a line a model."""
    levels = sorted(set(numbers["level"]), key=level_order, reverse=True)
    models = sorted(set(numbers["model"]), key=model_order)
    figure = new_figure(
        f"AUC by training images of each class on {dataset_name(dataset)}", 2.4 + legend_height(models), WIDE
    )
    panels = figure.subplots(1, len(PANELS), sharey=True)
    for axes, (weights, title) in zip(panels, PANELS.items(), strict=True):
        for index, model in enumerate(models):
            # What is fitted has no last step: its one fit is drawn in both.
            which = CHOSEN if is_fitted(model) else weights
            own = numbers[(numbers["model"] == model) & (numbers["weights"] == which)]
            _line(axes, own.set_index("level").reindex(levels).dropna(subset=["mean"]), levels, line_style(index))
        axes.set_title(title)
        axes.set_xticks(range(len(levels)), levels)
        axes.set(xlim=(-0.3, len(levels) - 0.7), xlabel="training images of each class")
    panels[0].set_ylabel("test AUC")
    handles = [Line2D([], [], marker="o", markersize=3, **line_style(index)) for index in range(len(models))]
    figure.legend(handles, [model_name(model) for model in models], loc="outside lower center", ncols=3)
    return figure


def _line(axes: Axes, own: pd.DataFrame, levels: Sequence[str], look: dict[str, Any]) -> None:
    places = [levels.index(level) for level in own.index]
    axes.plot(places, own["mean"], marker="o", markersize=3, **look)
    spread = own["sd"].fillna(0.0)
    axes.fill_between(places, own["mean"] - spread, own["mean"] + spread, color=look["color"], alpha=0.12, linewidth=0)


def draw_imbalance(numbers: pd.DataFrame, dataset: str) -> Figure:
    """AUC and average precision over shares: a column a network with its arms, one for what is fitted."""
    chosen = numbers[numbers["weights"] == CHOSEN]
    levels = sorted(set(chosen["level"]), key=level_order)
    models = sorted(set(chosen["model"]), key=model_order)
    networks = [model for model in models if not is_fitted(model)]
    fitted = [model for model in models if is_fitted(model)]
    columns = [*([FITTED_PANEL] if fitted else []), *networks]
    arms = [arm for arm in ARMS if (chosen["arm"] == arm).any()]
    figure = new_figure(
        f"AUC and average precision by share of positives in train on {dataset_name(dataset)}", 4.0 + 2 * ROW, WIDE
    )
    panels = figure.subplots(len(MEASURES), len(columns), sharex=True, sharey="row", squeeze=False)
    looks = {arm: (colour(index), "osD^"[index]) for index, arm in enumerate(ARMS)}
    looks |= {model: (colour(index + len(ARMS)), "vP"[index % 2]) for index, model in enumerate(fitted)}
    for row, metric in enumerate(MEASURES):
        own = chosen[chosen["metric"] == metric]
        for axes, column in zip(panels[row], columns, strict=True):
            series = fitted if column == FITTED_PANEL else arms
            part = own[own["model"].isin(fitted)] if column == FITTED_PANEL else own[own["model"] == column]
            by = "model" if column == FITTED_PANEL else "arm"
            for index, name in enumerate(series):
                shift = (index - (len(series) - 1) / 2) * 0.14
                _bars(axes, part[part[by] == name], levels, shift, looks[name])
            if metric == "ap":
                chance = own.drop_duplicates("level").set_index("level")["prevalence"].reindex(levels)
                axes.plot(range(len(levels)), chance, linestyle=":", color="0.4", linewidth=0.9)
            if row == 0:
                axes.set_title(model_name(column), fontsize=7.5)
            axes.set_xticks(range(len(levels)), levels)
            axes.set(xlim=(-0.5, len(levels) - 0.5), xlabel="positives in train" if row else "")
        panels[row][0].set_ylabel(f"test {MEASURES[metric]}")
    names = [*arms, *fitted] if networks else fitted
    handles = [
        Line2D([], [], color=looks[name][0], marker=looks[name][1], markersize=4, linestyle="-") for name in names
    ]
    figure.legend(handles, [model_name(name) for name in names], loc="outside lower center", ncols=4)
    return figure


def _bars(axes: Axes, own: pd.DataFrame, levels: Sequence[str], shift: float, look: tuple[object, str]) -> None:
    shade, marker = look
    places = [levels.index(level) + shift for level in own["level"]]
    axes.errorbar(places, own["mean"], own["sd"].fillna(0.0), color=shade, marker="none", linewidth=0.9, elinewidth=0.8)
    for place, mean, decidable in zip(places, own["mean"], own["decidable"], strict=True):
        axes.plot(
            [place], [mean], color=shade, marker=marker, markersize=4, markerfacecolor=shade if decidable else "white"
        )
