"""Accuracy against what models cost: multiply-accumulates, parameters, images a second.

Timings of two devices never share a figure, let alone an axis.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from bench.records.cost_record import CostRecord, Counter
from bench.records.run_record import Record
from bench.records.sealed import Sealed
from bench.records.timing_record import TimingRecord
from bench.report.analysis.scores import Score
from bench.report.figures.style import Caption, Plot, cost_axis, legend_below, legend_height, mark_style, new_figure
from bench.report.published.names import dataset_name, model_name
from bench.report.tidy import KIND_ORDER, model_order
from bench.report.tidy_costs import Timing, best_modes, one_device, timing_rows

COUNTER: Counter = "aten"  # the most complete one
POINT_COLUMNS = ["model", "cost", "cost_low", "cost_high", "way", "acc", "ci_low", "ci_high", "n_seeds", "on_front"]


def pareto_front(costs: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points no other one beats: none is at most as costly and at least as good, and better in one of both.

    Args:
        costs: (N,) less is better; negate what more of is better.
        values: (N,) more is better.

    Returns:
        (N,); of equal points all are on the front or none.
    """
    no_worse = (costs[:, None] <= costs) & (values[:, None] >= values)
    better = (costs[:, None] < costs) | (values[:, None] > values)
    front: NDArray[np.bool_] = ~np.any(no_worse & better, axis=0)
    return front


@dataclass(frozen=True)
class Cost:
    """What one model costs: a value with its interval (itself where it was counted), and how it was measured."""

    value: float
    low: float
    high: float
    way: str


@dataclass(frozen=True)
class Axis:
    """A cost that accuracy is drawn against.

    Attributes:
        name: Part of the figure's name.
        label: Of the axis.
        more_is_better: Throughput, not a cost.
        costs: Model -> cost.
        words: For the caption: how it was measured, and which models have none.
        records: Where the costs come from, beside the runs.
        device: For the figure's title; "" where it does not matter.
    """

    name: str
    label: str
    more_is_better: bool
    costs: Mapping[str, Cost]
    words: str
    records: Sequence[Sealed] = ()
    device: str = ""


def parameter_axis(records: Sequence[Record]) -> Axis:
    """Parameters as the runs themselves counted them."""
    sizes = {record.model: record.num_params / 1e6 for record in records if record.num_params}
    costs = {model: Cost(size, size, size, "record") for model, size in sizes.items()}
    return Axis("params", "parameters (millions)", False, costs, "Parameters are those of the trained models.")


def macs_axis(records: Sequence[Record], costs: Sequence[CostRecord], num_classes: int) -> Axis | None:
    """Multiply-accumulates at the size that most of the models were counted at, the runs' own if that is one of them.

    Where it is another size than the runs', the axis says so.
    """
    models, size = {record.model for record in records}, _img_size(records)
    fitting = [record for record in costs if record.model in models]
    if not fitting:
        return None
    pairs = {(record.img_size, record.num_classes) for record in fitting}
    many = {pair: len({r.model for r in fitting if (r.img_size, r.num_classes) == pair}) for pair in pairs}
    chosen = max(pairs, key=lambda pair: (many[pair], pair[0] == size, pair[1] == num_classes, *pair))
    used = [record for record in fitting if (record.img_size, record.num_classes) == chosen]
    gmacs = {record.model: record.count(COUNTER).macs / 1e9 for record in used}
    way = f"{COUNTER}, {chosen[0]} px, {chosen[1]} classes"
    counted = {model: Cost(value, value, value, way) for model, value in gmacs.items()}
    words = (
        f"GMACs (a MAC is 2 FLOPs) of one image by the counter {COUNTER} (torch's FlopCounterMode halved, with "
        f"formulas for attention and the selective scan), {chosen[0]} px, {chosen[1]} classes."
        f"{_other_size(chosen[0], size)}"
    )
    return Axis("macs", f"GMACs at {chosen[0]} px", False, counted, words, used)


def speed_axes(records: Sequence[Record], timings: Sequence[TimingRecord]) -> Iterator[Axis]:
    """Images a second in inference, one axis a device: each model's fastest way that agrees with fp32 eager."""
    models, size = {record.model for record in records}, _img_size(records)
    used = [timing for timing in timings if timing.model in models]
    rows = best_modes(row for row in timing_rows(used) if row.mode == "inference")
    for device, part in itertools.groupby(rows, key=lambda row: row.device):
        yield replace(speed_axis(list(part), size), records=[timing for timing in used if timing.device == device])


def speed_axis(timings: Sequence[Timing], size: int) -> Axis:
    """Images a second of one device, at the size and batch that most of the models were timed at.

    Of several the image size of the runs, else the largest, and the largest batch.

    Args:
        timings: Rows of `best_modes`, at least one.
        size: Of the runs, in pixels.

    Raises:
        RecordError: If the timings are of several devices.
    """
    device = one_device(timings)
    models: dict[tuple[int, int], set[str]] = {}
    for timing in timings:
        models.setdefault((timing.img_size, timing.batch_size), set()).add(timing.model)
    chosen = max(models, key=lambda pair: (len(models[pair]), pair[0] == size, *pair))
    part = [timing for timing in timings if (timing.img_size, timing.batch_size) == chosen]
    costs = {t.model: Cost(t.median_images_per_second, t.ci_low, t.ci_high, t.way) for t in part}
    words = (
        f"Median images a second in inference on {device}, batch {chosen[1]}, {chosen[0]} px, each model in its "
        f"fastest mode that agrees with fp32 eager; horizontal bars: 95 % interval.{_other_size(chosen[0], size)}"
    )
    cold = [model_name(timing.model) for timing in part if timing.warm_up == "cold"]
    if cold:
        words += f" Without a warm-up, for one batch outlasts half of a cell's time: {', '.join(sorted(cold))}."
    slug = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
    label = f"images/s at {chosen[0]} px, batch {chosen[1]}"
    return Axis(f"speed__{slug}", label, True, costs, words, device=device)


def _img_size(records: Sequence[Record]) -> int:
    return int(records[0].resolved_protocol["data"]["img_size"])


def _other_size(measured: int, trained: int) -> str:
    if measured == trained:
        return ""
    return f" The runs had {trained} px, for which no cost was measured: read the axis as a scale of the models."


def pareto_numbers(accuracies: Iterable[Score], axis: Axis) -> pd.DataFrame:
    """Accuracy and cost of each model that has both, in the order of the tables.

    Args:
        accuracies: Of one protocol, data set and part.
        axis: The cost.
    """
    points = [
        (s.model, cost.value, cost.low, cost.high, cost.way, s.mean, s.ci_low, s.ci_high, s.n_seeds)
        for s in sorted(accuracies, key=lambda score: model_order(score.model))
        if (cost := axis.costs.get(s.model)) is not None
    ]
    numbers = pd.DataFrame(points, columns=POINT_COLUMNS[:-1])
    sign = -1.0 if axis.more_is_better else 1.0
    costs, values = sign * numbers["cost"].to_numpy(np.float64), numbers["acc"].to_numpy(np.float64)
    return numbers.assign(on_front=pareto_front(costs, values))


def pareto_plot(name: str, axis: Axis, accuracies: Sequence[Score], records: Sequence[Record], data: str) -> Plot:
    """Accuracy on the official test against a cost.

    Args:
        name: The figure's name.
        axis: The cost.
        accuracies: Of one protocol and data set, on test.
        records: The runs.
        data: What the caption says of the data.
    """
    first = records[0]
    measured = {score.model for score in accuracies}
    without = sorted(measured - axis.costs.keys(), key=model_order)
    floors = [score.mean for score in accuracies if score.model == "floor/prior"]
    dotted = "The dotted line is the accuracy of always saying the most frequent class. " if floors else ""
    missing = f" Without a cost, so not drawn: {', '.join(map(model_name, without))}." if without else ""
    text = (
        f"Mean test accuracy over seeds, vertical bars: 95 % interval over test images and "
        f"seeds. Ringed and joined: the Pareto front, models that no other beats in both; it ignores the intervals. "
        f"{dotted}{axis.words}{missing} {data} "
        f"Protocol {first.protocol}, {len(records)} records. Not in the paper as a figure."
    )
    caption = Caption(
        f"Accuracy against {axis.label} on {dataset_name(first.dataset)}, {first.protocol}", text, first.dataset
    )
    title = f"{dataset_name(first.dataset)}, {first.protocol}" + (f"\n{axis.device}" if axis.device else "")
    models = sorted(measured | axis.costs.keys(), key=model_order)
    networks = [model for model in models if model_order(model)[0] == KIND_ORDER["network"]]
    return Plot(
        name,
        caption,
        [*records, *axis.records],
        lambda: pareto_numbers(accuracies, axis),
        lambda numbers: draw_pareto(numbers, title, axis, networks, floors),
    )


def draw_pareto(
    numbers: pd.DataFrame, title: str, axis: Axis, networks: Sequence[str], floors: Sequence[float]
) -> Figure:
    """A mark a model with its intervals, the front joined.

    Args:
        numbers: Of `pareto_numbers`.
        title: Of the figure.
        axis: The cost.
        networks: All models that could be here; a model looks the same whatever it is drawn against.
        floors: Accuracies that need no model.
    """
    labels = [model_name(model) for model in numbers["model"]]
    figure = new_figure(title, 2.8 + legend_height(labels))
    axes = figure.subplots()
    handles = [_draw_point(axes, row, networks.index(row["model"])) for row in numbers.to_dict("records")]
    cost_axis(axes, numbers["cost"].min(), numbers["cost"].max())
    _draw_front(axes, numbers[numbers["on_front"]])
    for floor in floors:
        axes.axhline(floor, color="0.4", linestyle=":", linewidth=0.9)
    axes.set(xlabel=axis.label + (" (more is better)" if axis.more_is_better else ""), ylabel="accuracy (test)")
    legend_below(figure, handles, labels)
    return figure


def _draw_point(axes: Axes, row: Any, index: int) -> Line2D:
    look = mark_style(index)
    (handle,) = axes.plot([row["cost"]], [row["acc"]], zorder=3, **look)
    axes.plot([row["cost"]] * 2, [row["ci_low"], row["ci_high"]], color=look["color"], linewidth=0.8)
    axes.plot([row["cost_low"], row["cost_high"]], [row["acc"]] * 2, color=look["color"], linewidth=0.8)
    return handle


def _draw_front(axes: Axes, front: pd.DataFrame) -> None:
    front = front.sort_values(["cost", "acc"], kind="stable")
    look: dict[str, Any] = {
        "marker": "o",
        "markersize": 9,
        "markerfacecolor": "none",
        "markeredgecolor": "black",
        "color": "0.3",
    }
    axes.plot(front["cost"], front["acc"], linestyle="--", linewidth=0.8, markeredgewidth=0.7, zorder=2, **look)
