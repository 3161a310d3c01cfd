"""Parameters per model, counted beside published and claimed: the paper's Fig 14."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from bench.records.cost_record import CostRecord
from bench.report.figures.style import ROW, Caption, Plot, colour, legend_below, legend_height, new_figure
from bench.report.published.names import model_name
from bench.report.published.numbers import PublishedCost

IMG_SIZE, NUM_CLASSES = 224, 8  # of the registry's claims
COLUMNS = ["model", "kind", "name", "num_params_m", "source"]
# How a number of parameters came about -> marker, filled or not, index of its colour.
SOURCES = {
    "counted": ("o", "full", 0),
    "published": ("s", "none", 1),
    "measured elsewhere": ("^", "none", 2),
    "claimed": ("X", "none", 3),
}


def parameters_plot(costs: Sequence[CostRecord], published: Sequence[PublishedCost]) -> Plot | None:
    """Fig 14: parameters of each model counted here, beside every published or claimed number; None without counts."""
    counted = [record for record in costs if (record.img_size, record.num_classes) == (IMG_SIZE, NUM_CLASSES)]
    if not counted:
        return None
    text = (
        f"Parameters of each model, counted here with {NUM_CLASSES} classes at {IMG_SIZE} px (a tied tensor once), "
        "beside what was published, measured elsewhere or claimed by the paper; their numbers of classes differ. A row "
        "without a filled mark is a model that this suite does not build. The paper's Fig 14 has one number a model "
        f"and does not say how it was counted. Data: {len(counted)} cost records; the table of numbers has the sources."
    )
    caption = Caption("Parameters per model, counted and published", text)
    return Plot("fig14_parameters", caption, counted, lambda: parameter_numbers(counted, published), draw_parameters)


def parameter_numbers(counted: Sequence[CostRecord], published: Sequence[PublishedCost]) -> pd.DataFrame:
    """One row a number, models by their count; what the paper's figure has and nobody builds here comes last."""
    rows = [(record.model, "counted", record.model, record.num_params / 1e6, "costs") for record in counted]
    counts = {row[0]: row[3] for row in sorted(rows, key=lambda row: row[3])}
    for cost in published:
        shown = cost.medbench_model if cost.medbench_model in counts else cost.figure_label
        if shown and not math.isnan(cost.num_params_m):
            rows.append((shown, cost.source_kind, cost.name, cost.num_params_m, cost.source))
    frame = pd.DataFrame(rows, columns=COLUMNS)
    built = frame["model"].map(lambda model: 0 if model in counts else 1)
    order = frame["model"].map(counts).fillna(frame.groupby("model")["num_params_m"].transform("min"))
    kinds = frame["kind"].map({kind: number for number, kind in enumerate(SOURCES)}).fillna(len(SOURCES))
    frame = frame.assign(_built=built, _order=order, _kind=kinds)
    return frame.sort_values(["_built", "_order", "model", "_kind", "name"], kind="stable")[COLUMNS]


def draw_parameters(numbers: pd.DataFrame) -> Figure:
    """A row a model, a mark a number."""
    models = list(dict.fromkeys(numbers["model"]))
    kinds = [kind for kind in SOURCES if (numbers["kind"] == kind).any()]
    figure = new_figure("Parameters per model", 0.7 + ROW * len(models) + legend_height(kinds))
    axes = figure.subplots()
    handles = []
    for kind in kinds:
        marker, fill, index = SOURCES[kind]
        part = numbers[numbers["kind"] == kind]
        rows = [models.index(model) for model in part["model"]]
        handles += axes.plot(
            part["num_params_m"], rows, marker=marker, fillstyle=fill, color=colour(index), linestyle="none",
            markersize=4.5, markeredgewidth=0.9,
        )  # fmt: skip
    axes.set_yticks(range(len(models)), [model_name(model) for model in models], fontsize=7)
    axes.set(ylim=(len(models) - 0.4, -0.6), xlabel="parameters (millions)")
    axes.set_xlim(left=0)
    legend_below(figure, handles, kinds)
    return figure
