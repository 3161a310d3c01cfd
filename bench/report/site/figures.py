"""The figures of a report as pages show them: files of their own beside the page, so that nothing is rewritten."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from bench.report.figures.style import Caption

__all__ = ["PageFigure", "page_figures"]

SIZE = re.compile(rb'<svg\b[^>]*?\b(width|height)="([0-9.]+)pt"[^>]*?\b(?:width|height)="([0-9.]+)pt"')
PHOTOS = ("fig12", "fig13", "robustness-images")  # show medical images, whose greys a dark page must not turn round


@dataclass(frozen=True)
class PageFigure:
    """A figure as a page shows it.

    Attributes:
        name: Its file's name without suffix.
        caption: What stands below it.
        width, height: Of the picture in CSS pixels.
        photo: Whether it shows images, not only lines.
    """

    name: str
    caption: Caption
    width: int
    height: int
    photo: bool


def page_figures(figures: Mapping[str, bytes], captions: Mapping[str, Caption]) -> list[PageFigure]:
    """The SVGs of a report in the order of their captions; one without a caption is called by its name.

    Args:
        figures: Path below `reports/` -> content, of every kind.
        captions: Name -> caption.
    """
    names = [path.removeprefix("figures/").removesuffix(".svg") for path in figures if path.endswith(".svg")]
    order = {name: index for index, name in enumerate(captions)}
    pictures = []
    for name in sorted(names, key=lambda name: (order.get(name, len(order)), name)):
        width, height = _size(figures[f"figures/{name}.svg"])
        pictures.append(PageFigure(name, captions.get(name, Caption(name, "")), width, height, name.startswith(PHOTOS)))
    return pictures


def _size(svg: bytes) -> tuple[int, int]:
    """Width and height of a drawing, its points as CSS pixels; a common size where a file does not say."""
    match = SIZE.search(svg)
    if match is None:
        return 480, 360
    first, second = (round(float(match[group]) * 4 / 3) for group in (2, 3))
    return (first, second) if match[1] == b"width" else (second, first)
