"""Cost against score: a point a model, both at the same image size, the Pareto front joined, every point labelled."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bench.records.cost_record import CostRecord
from bench.records.own_models import is_fitted
from bench.report.analysis.scores import Score
from bench.report.analysis_plan import PARTS, is_ours
from bench.report.figures.labels import LETTER, LINE, Label, place_labels
from bench.report.figures.pareto import COUNTER, pareto_front
from bench.report.published.names import model_name
from bench.report.tables.score_cells import interval_text
from bench.report.tidy import model_order

__all__ = ["Scatter", "scatter"]

WIDTH, HEIGHT = 760.0, 400.0  # of the plotting area, in the drawing's units
ANCHORS = {0.0: "start", 0.5: "middle", 1.0: "end"}
TICKS = (1.0, 2.0, 5.0)
REFERENCES = ("sklearn/logistic", "floor/knn1", "floor/prior")  # without a cost: lines, not points


@dataclass(frozen=True)
class Point:
    """A model.

    Attributes:
        model: Registered name.
        x, y: Its centre.
        low, high: Ends of the score's 95 % interval.
        label: Where its name stands.
        on_front: Whether no other model is cheaper and better.
        is_ours: Whether it is MedSpectralNet or a variant.
        tip: What a reader gets by pointing at it or reaching it by keyboard.
    """

    model: str
    x: float
    y: float
    low: float
    high: float
    label: Label
    on_front: bool
    is_ours: bool
    tip: str

    @property
    def anchor(self) -> str:
        """End of the name that is nearest to the point: `start`, `end`, or `middle` above or below it."""
        return ANCHORS[self.label.anchor(self.x)]

    @property
    def text_x(self) -> float:
        """Where the name begins, ends or has its middle."""
        return self.label.text_x(self.x)

    @property
    def leader(self) -> tuple[float, ...]:
        """Ends of a line from the name to the point, () where they touch."""
        if self.label.is_beside(self.y):
            return ()
        return self.x, self.y, self.text_x, self.label.y + (0 if self.label.y > self.y else LINE)


@dataclass(frozen=True)
class AxisMark:
    """A tick, or a line of reference, with its text."""

    place: float
    text: str


@dataclass(frozen=True)
class Scatter:
    """One protocol, data set and measure.

    Attributes:
        dataset, metric: Which.
        img_size: Of scores and costs, in pixels.
        points: By cost.
        front: The points of the front, by cost.
        columns, rows: Ticks of the two axes.
        references: Scores of models that have no cost.
        without: Models with a score and no cost at this size.
    """

    dataset: str
    metric: str
    img_size: int
    points: tuple[Point, ...]
    columns: tuple[AxisMark, ...]
    rows: tuple[AxisMark, ...]
    references: tuple[AxisMark, ...]
    without: tuple[str, ...]

    @property
    def front(self) -> list[Point]:
        """The points that no other one beats, by cost."""
        return [point for point in self.points if point.on_front]


def scatter(scores: Sequence[Score], costs: Iterable[CostRecord], img_size: int, num_classes: int) -> Scatter | None:
    """The plot of one protocol, data set and measure; None with fewer than two models that have both numbers.

    Args:
        scores: On the official test; MedSpectralNet without a part is not drawn.
        costs: Counted ones, of any size.
        img_size: Of the runs, in pixels: a cost at another size is none.
        num_classes: Of the data set.
    """
    fitting = [cost for cost in costs if (cost.img_size, cost.num_classes) == (img_size, num_classes)]
    gmacs = {cost.model: cost.count(COUNTER).macs / 1e9 for cost in fitting}
    known = [score for score in scores if not math.isnan(score.mean) and score.model not in PARTS]
    both = sorted((s for s in known if s.model in gmacs), key=lambda s: (gmacs[s.model], s.model))
    if len(both) < 2:
        return None
    lines = [score for score in known if score.model in REFERENCES]
    across = _log_scale([gmacs[score.model] for score in both])
    up, rows = _linear_scale([value for s in [*both, *lines] for value in (s.mean, *_ends(s))])
    centres = [(across(gmacs[score.model]), up(score.mean)) for score in both]
    widths = [LETTER * len(model_name(score.model)) for score in both]
    references = [AxisMark(up(s.mean), f"{model_name(s.model)} {s.mean:.3f}") for s in lines]
    texts = [Label(0.0, m.place - LINE, LETTER * len(m.text), LINE) for m in references]
    labels = place_labels(centres, widths, LINE, (WIDTH, HEIGHT), texts)
    values = np.array([score.mean for score in both])
    front = pareto_front(np.array([gmacs[score.model] for score in both]), values)
    points = []
    for score, (x, y), label, on_front in zip(both, centres, labels, front.tolist(), strict=True):
        low, high = (up(end) for end in _ends(score))
        seeds = f"{score.n_seeds} seed{'s' if score.n_seeds > 1 else ''}"
        tip = (
            f"{model_name(score.model)}: {score.metric.upper()} {score.mean:.3f} "
            f"({interval_text(score.ci_low, score.ci_high)}), {gmacs[score.model]:.2f} GMACs, {seeds}"
        )
        points.append(Point(score.model, x, y, low, high, label, on_front, is_ours(score.model), tip))
    first = both[0]
    return Scatter(
        dataset=first.dataset,
        metric=first.metric,
        img_size=img_size,
        points=tuple(points),
        columns=tuple(AxisMark(across(tick), f"{tick:g}") for tick in _log_ticks(list(gmacs.values()), across)),
        rows=tuple(AxisMark(up(tick), f"{tick:.1f}") for tick in rows),
        references=tuple(references),
        without=tuple(
            sorted({s.model for s in known if s.model not in gmacs and not is_fitted(s.model)}, key=model_order)
        ),
    )


def _ends(score: Score) -> tuple[float, float]:
    return (score.mean, score.mean) if math.isnan(score.low) else (score.low, score.high)


def _log_scale(values: Sequence[float]) -> Callable[[float], float]:
    """Cost -> place from the left; a tenth of a decade is left free on both sides."""
    low, high = math.log10(min(values)) - 0.1, math.log10(max(values)) + 0.1
    return lambda value: round(WIDTH * (math.log10(value) - low) / (high - low), 1)


def _log_ticks(values: Sequence[float], across: Callable[[float], float]) -> list[float]:
    decades = range(math.floor(math.log10(min(values))) - 1, math.ceil(math.log10(max(values))) + 1)
    ticks = [tick * 10.0**decade for decade in decades for tick in TICKS]
    return [tick for tick in ticks if 0 <= across(tick) <= WIDTH]


def _linear_scale(values: Sequence[float]) -> tuple[Callable[[float], float], list[float]]:
    """Score -> place from the top, and ticks at every tenth."""
    low, high = math.floor(min(values) * 10 - 0.01) / 10, min(1.0, math.ceil(max(values) * 10 + 0.01) / 10)
    ticks = [round(low + step / 10, 1) for step in range(round((high - low) * 10) + 1)]
    return lambda value: round(HEIGHT * (high - value) / (high - low), 1), ticks
