"""Accuracy against what models cost: multiply-accumulates, parameters, images per second.

Timings of two devices never share a figure, let alone an axis.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bench.protocols.schema import slug
from bench.records.cost_record import CostRecord, Counter
from bench.records.run_record import Record
from bench.records.sealed import Sealed
from bench.records.timing_record import TimingRecord
from bench.report.analysis.scores import Score
from bench.report.analysis_plan import is_ours
from bench.report.figures.labels import LETTER, LINE, place_labels
from bench.report.figures.style import WIDE, Caption, Plot, colour, cost_axis, new_figure
from bench.report.published.names import dataset_name, model_name
from bench.report.tidy import model_order
from bench.report.tidy_costs import Timing, best_modes, one_device, timing_rows

COUNTER: Counter = "aten"  # the most complete one
LABEL_SIZE, LABEL_LINE = 6.5, 8.5  # points: of a label's letters, and of its line
SIDES = {0.0: "left", 0.5: "center", 1.0: "right"}
LEADER: Any = {"arrowstyle": "-", "linewidth": 0.5, "color": "0.5", "shrinkA": 0, "shrinkB": 3}
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
    """Multiply-accumulates at the size of the runs; a count at another size is none of theirs."""
    models, size = {record.model for record in records}, _img_size(records)
    used = [r for r in costs if r.model in models and (r.img_size, r.num_classes) == (size, num_classes)]
    if not used:
        return None
    gmacs = {record.model: record.count(COUNTER).macs / 1e9 for record in used}
    way = f"{COUNTER}, {size} px, {num_classes} classes"
    counted = {model: Cost(value, value, value, way) for model, value in gmacs.items()}
    words = (
        f"GMACs (a MAC is 2 FLOPs) of one image by the counter {COUNTER} (torch's FlopCounterMode halved, with "
        f"formulas for attention and the selective scan), {size} px as in the runs, {num_classes} classes."
    )
    return Axis("macs", f"GMACs at {size} px", False, counted, words, used)


def speed_axes(records: Sequence[Record], timings: Sequence[TimingRecord]) -> Iterator[Axis]:
    """Images per second in inference at the size of the runs, one axis a device.

    Each model is timed in its fastest way that agrees with fp32 eager.
    """
    models, size = {record.model for record in records}, _img_size(records)
    used = [timing for timing in timings if timing.model in models]
    own = (row for row in timing_rows(used) if row.mode == "inference" and row.img_size == size)
    for device, part in itertools.groupby(best_modes(own), key=lambda row: row.device):
        yield replace(speed_axis(list(part)), records=[timing for timing in used if timing.device == device])


def speed_axis(timings: Sequence[Timing]) -> Axis:
    """Images per second of one device, at the batch that most of the models were timed at; of several the largest.

    Args:
        timings: Rows of `best_modes` at one image size, at least one.

    Raises:
        RecordError: If the timings are of several devices.
    """
    device, size = one_device(timings), timings[0].img_size
    models: dict[int, set[str]] = {}
    for timing in timings:
        models.setdefault(timing.batch_size, set()).add(timing.model)
    batch = max(models, key=lambda number: (len(models[number]), number))
    part = [timing for timing in timings if timing.batch_size == batch]
    costs = {t.model: Cost(t.median_images_per_second, t.ci_low, t.ci_high, t.way) for t in part}
    words = (
        f"Median images per second in inference on {device}, batch {batch}, {size} px as in the runs, each model in "
        "its fastest mode that agrees with fp32 eager; horizontal bars: 95 % interval."
    )
    cold = [model_name(timing.model) for timing in part if timing.warm_up == "cold"]
    if cold:
        words += f" Without a warm-up, for one batch outlasts half of a cell's time: {', '.join(sorted(cold))}."
    return Axis(f"speed__{slug(device)}", f"images/s at {size} px, batch {batch}", True, costs, words, device=device)


def _img_size(records: Sequence[Record]) -> int:
    return int(records[0].resolved_protocol["data"]["img_size"])


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
        accuracies: Of one protocol and data set, on test; MedSpectralNet without a part is not among them.
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
        f"seeds. Filled and joined: the Pareto front, models that no other beats in both; it ignores the intervals. "
        f"Blue: MedSpectralNet and its variants. "
        f"{dotted}{axis.words}{missing} {data} "
        f"Protocol {first.protocol}, {len(records)} records. Not in the paper as a figure."
    )
    caption = Caption(
        f"Accuracy against {axis.label} on {dataset_name(first.dataset)}, {first.protocol}", text, first.dataset
    )
    title = f"{dataset_name(first.dataset)}, {first.protocol}" + (f"\n{axis.device}" if axis.device else "")
    return Plot(
        name,
        caption,
        [*records, *axis.records],
        lambda: pareto_numbers(accuracies, axis),
        lambda numbers: draw_pareto(numbers, title, axis, floors),
    )


def draw_pareto(numbers: pd.DataFrame, title: str, axis: Axis, floors: Sequence[float]) -> Figure:
    """A labelled mark a model with its intervals, the front joined; no colour stands for a model.

    Args:
        numbers: Of `pareto_numbers`.
        title: Of the figure.
        axis: The cost.
        floors: Accuracies that need no model.
    """
    figure = new_figure(title, 3.6, WIDE)
    axes = figure.subplots()
    front = numbers[numbers["on_front"]].sort_values(["cost", "acc"], kind="stable")
    axes.plot(front["cost"], front["acc"], color="0.3", linewidth=0.8, zorder=2)
    for row in numbers.to_dict("records"):
        _draw_point(axes, row)
    cost_axis(axes, numbers["cost"].min(), numbers["cost"].max())
    axes.margins(x=0.08)
    for floor in floors:
        axes.axhline(floor, color="0.4", linestyle=":", linewidth=0.9)
    axes.set(xlabel=axis.label + (" (more is better)" if axis.more_is_better else ""), ylabel="accuracy (test)")
    _label_points(figure, axes, numbers)
    return figure


def _ink(model: str) -> Any:
    return colour(0) if is_ours(model) else "0.15"


def _draw_point(axes: Axes, row: Any) -> None:
    ink = _ink(row["model"])
    face = ink if row["on_front"] else "white"
    axes.plot([row["cost"]] * 2, [row["ci_low"], row["ci_high"]], color=ink, linewidth=0.6, alpha=0.35)
    axes.plot([row["cost_low"], row["cost_high"]], [row["acc"]] * 2, color=ink, linewidth=0.6, alpha=0.35)
    axes.plot([row["cost"]], [row["acc"]], "o", color=ink, markerfacecolor=face, markersize=4.5, zorder=3)


def _label_points(figure: Figure, axes: Axes, numbers: pd.DataFrame) -> None:
    """Each name beside its point, none on another, with a line to a point that it had to move away from."""
    figure.draw_without_rendering()  # lays out; only then it is known where a point lies
    size = axes.bbox.width, axes.bbox.height
    places = axes.transData.transform(numbers[["cost", "acc"]].to_numpy(np.float64)) - axes.bbox.p0
    scale = LABEL_LINE / LINE  # points for one of the units that labels are placed in
    unit = scale * figure.dpi / 72  # pixels of this figure for one
    centres = [(round(x / unit, 1), round(y / unit, 1)) for x, y in places.tolist()]
    names = [model_name(model) for model in numbers["model"]]
    labels = place_labels(centres, [LETTER * len(name) for name in names], LINE, (size[0] / unit, size[1] / unit))
    for (x, y), name, label, row in zip(centres, names, labels, numbers.to_dict("records"), strict=True):
        axes.annotate(
            name,
            (row["cost"], row["acc"]),
            (round((label.text_x(x) - x) * scale, 1), round((label.y + LINE / 2 - y) * scale, 1)),
            textcoords="offset points",
            ha=SIDES[label.anchor(x)],
            va="center",
            fontsize=LABEL_SIZE,
            color=_ink(row["model"]),
            arrowprops=None if label.is_beside(y) else LEADER,
        )
