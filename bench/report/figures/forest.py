"""The primary differences of the analysis plan in one picture a protocol, with the zone of equivalence."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bench.data.names import PAPER_DATASETS
from bench.records.names import SYNTHETIC_PREFIX
from bench.records.own_models import is_fitted
from bench.records.run_record import Record
from bench.report.analysis.pairs import Pair
from bench.report.analysis_plan import NUM_TEST_SCANS
from bench.report.figures.style import ROW, WIDE, WIDTH, Caption, Plot, colour, legend_below, legend_height, new_figure
from bench.report.published.names import dataset_name, model_name
from bench.report.tidy import model_order, table

COLUMNS = [
    "dataset", "model", "baseline", "n_seeds", "n_seeds_baseline", "difference", "ci_low", "ci_high", "p_corrected",
    "verdict", "margin"
]  # fmt: skip
# Verdict -> marker, filled or not, index of its colour.
VERDICTS = {
    "higher": (">", "full", 2),
    "lower": ("<", "full", 3),
    "comparable": ("s", "full", 0),
    "not separated": ("o", "none", 7),
}
ZONE = "equivalence zone"
SCANS_NOTE = (
    "On OrganCMNIST and OrganSMNIST the images are slices of few scans, taken as independent: there an interval is a "
    "lower bound and a verdict too easily had. "
)
MANY_ROWS = 40  # more do not fit on a page in one column


def forest_plot(name: str, pairs: Sequence[Pair], records: Sequence[Record], data: str) -> Plot:
    """AUC differences of one protocol, model minus baseline.

    Args:
        name: The figure's name.
        pairs: The primary family of one protocol.
        records: Runs of the protocol.
        data: What the caption says of the data.
    """
    models = ", ".join(sorted({model_name(pair.model) for pair in pairs}))
    datasets = {pair.dataset for pair in pairs}
    protocol, num_sets, scans = records[0].protocol, len(datasets), datasets & NUM_TEST_SCANS.keys()
    text = (
        f"AUC on the official test split, {models} minus each baseline, means over all seeds, with 95 % intervals; "
        f"right of zero {models} is better. Shaded: the zone within which the analysis plan calls models comparable. "
        "Filled marks are verdicts of the plan, which corrects p for the comparisons planned on the data set with "
        "fitted models, or with networks; the intervals are not corrected; an empty mark is not separated. n: seeds, "
        f"of both where they differ. {len(pairs)} difference{'s' if len(pairs) > 1 else ''} on "
        f"{num_sets} data set{'s' if num_sets > 1 else ''}. {SCANS_NOTE if scans else ''}Not in the paper. {data} "
        f"Protocol {protocol}, {len(records)} records."
    )
    return Plot(
        name,
        Caption(f"{models} minus each baseline, {protocol}", text),
        records,
        lambda: forest_numbers(pairs),
        lambda numbers: draw_forest(numbers, f"AUC, {models} minus baseline, {protocol}"),
    )


def forest_numbers(pairs: Iterable[Pair]) -> pd.DataFrame:
    """Differences in fractions of AUC: data sets in the paper's order, baselines in the tables' order."""
    flags = {flag: index for index, flag in enumerate(PAPER_DATASETS)}

    def order(pair: Pair) -> tuple[int, str, tuple[int, int, str]]:
        flag = pair.dataset.removeprefix(SYNTHETIC_PREFIX)
        return flags.get(flag, len(flags)), pair.dataset, model_order(pair.baseline)

    ordered = sorted(pairs, key=order)
    return table(ordered, COLUMNS)


def draw_forest(numbers: pd.DataFrame, title: str) -> Figure:
    """A row a difference under its data set's name; long ones in two columns."""
    parts = [part for _, part in numbers.groupby("dataset", sort=False)]
    sizes = [len(part) + 1 for part in parts]
    num_columns = 2 if sum(sizes) > MANY_ROWS and len(parts) > 1 else 1
    split = int(np.argmin([abs(sum(sizes[:k]) - sum(sizes[k:])) for k in range(len(parts))])) if num_columns > 1 else 0
    columns = [parts[:split], parts[split:]] if split else [parts]
    verdicts = [verdict for verdict in VERDICTS if (numbers["verdict"] == verdict).any()]
    rows = max(sum(len(part) + 1 for part in column) for column in columns)
    height = 0.9 + ROW * rows + legend_height([*verdicts, ZONE])
    figure = new_figure(title, height, WIDE if len(columns) > 1 else WIDTH)
    panels = figure.subplots(1, len(columns), sharex=True, squeeze=False)[0]
    for axes, column in zip(panels, columns, strict=True):
        _draw_column(axes, column, rows)
    handles: list[Line2D | Patch] = [Line2D([], [], **_look(verdict)) for verdict in verdicts]
    legend_below(figure, [*handles, Patch(color="0.88")], [*verdicts, ZONE])
    return figure


def _draw_column(axes: Axes, parts: Sequence[pd.DataFrame], rows: int) -> None:
    labels: list[str] = []
    headings = []
    for part in parts:
        headings.append(len(labels))
        labels.append(dataset_name(str(part["dataset"].iloc[0])))
        for row in part.to_dict("records"):
            row_index = len(labels)
            labels.append(f"{model_name(str(row['baseline']))}, n = {_seeds(row)}")
            look = _look(str(row["verdict"]))
            axes.barh(row_index, 2 * row["margin"], left=-row["margin"], height=1.0, color="0.88", zorder=0.5)
            axes.plot([row["ci_low"], row["ci_high"]], [row_index, row_index], color=look["color"], linewidth=1.0)
            axes.plot([row["difference"]], [row_index], **look)
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.set_yticks(range(len(labels)), labels, fontsize=7)
    for row_index in headings:
        axes.get_yticklabels()[row_index].set_fontweight("bold")
    axes.set(ylim=(rows - 0.4, -0.6), xlabel="difference in AUC")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)


def _seeds(row: Mapping[Hashable, Any]) -> str:
    """`3`, `3 and 1` where the baseline, a network, has fewer or more."""
    same = row["n_seeds"] == row["n_seeds_baseline"] or is_fitted(str(row["baseline"]))
    return str(row["n_seeds"]) if same else f"{row['n_seeds']} and {row['n_seeds_baseline']}"


def _look(verdict: str) -> dict[str, Any]:
    marker, fill, index = VERDICTS[verdict]
    return {
        "marker": marker,
        "fillstyle": fill,
        "color": colour(index),
        "linestyle": "none",
        "markersize": 4.5,
        "markeredgewidth": 0.9,
    }
