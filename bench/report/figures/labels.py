"""Where the labels of a scatter plot go: beside their points, none on another or on a point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["LETTER", "LINE", "Label", "place_labels"]

LETTER, LINE = 7.6, 15.0  # of a label: a letter's width, a line's height
GAP = 9.0  # from a point's centre to its label
REACH = (0.0, 14.0, 28.0, 42.0, 58.0)  # how far above or below a label may move, the nearest first


@dataclass(frozen=True)
class Label:
    """A label's box: left, bottom or top as the axis points, width, height; in the units of the points."""

    x: float
    y: float
    width: float
    height: float

    def overlaps(self, other: Label) -> bool:
        """Whether two boxes share an area."""
        apart = self.x + self.width <= other.x or other.x + other.width <= self.x
        return not (apart or self.y + self.height <= other.y or other.y + other.height <= self.y)

    def anchor(self, x: float) -> float:
        """Which part of the text is nearest to a point: 0 its beginning, 1 its end, 0.5 its middle, above or below."""
        return 0.0 if self.x > x else 1.0 if self.x + self.width < x else 0.5

    def text_x(self, x: float) -> float:
        """Where that part of the text is."""
        return self.x + self.width * self.anchor(x)

    def is_beside(self, y: float) -> bool:
        """Whether it stands at a point's height, so that no line has to lead there."""
        return abs(self.y + self.height / 2 - y) < self.height / 2


def place_labels(
    points: Sequence[tuple[float, float]],
    widths: Sequence[float],
    height: float,
    size: tuple[float, float],
    others: Sequence[Label] = (),
) -> list[Label]:
    """A box for the label of each point: right of it where there is room, else left, else above or below.

    Args:
        points: Centres.
        widths: Of the labels.
        height: Of each.
        size: Width and height of the area, from 0.
        others: Boxes that stand there already.

    Returns:
        In the order of the points; where nothing is free, the first choice that is inside.
    """
    taken = [*others, *(Label(x - GAP, y - GAP, 2 * GAP, 2 * GAP) for x, y in points)]
    placed: dict[int, Label] = {}
    for index in sorted(range(len(points)), key=lambda index: points[index][1]):
        choices = [box for box in _choices(points[index], widths[index], height) if _inside(box, size)]
        free = [box for box in choices if not any(box.overlaps(other) for other in taken)]
        box = next(iter(free or choices), Label(*points[index], widths[index], height))
        placed[index] = box
        taken.append(box)
    return [placed[index] for index in range(len(points))]


def _choices(point: tuple[float, float], width: float, height: float) -> list[Label]:
    x, y = point
    boxes = []
    for shift in REACH:
        for sign in (1.0, -1.0) if shift else (1.0,):
            middle = y - height / 2 + sign * shift
            boxes += [Label(x + GAP, middle, width, height), Label(x - GAP - width, middle, width, height)]
            if shift:
                boxes.append(Label(x - width / 2, middle, width, height))
    return boxes


def _inside(box: Label, size: tuple[float, float]) -> bool:
    return box.x >= 0 and box.y >= 0 and box.x + box.width <= size[0] and box.y + box.height <= size[1]
