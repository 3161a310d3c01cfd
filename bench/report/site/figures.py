"""Figures inside a page: several SVGs in one document, each with ids and styles of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup, escape

from bench.report.figures.style import Caption

HEAD = re.compile(r"\A.*?(?=<svg\b)", re.DOTALL)  # declaration, comments, document type
DROPPED = re.compile(r"<metadata>.*?</metadata>|<title>.*?</title>", re.DOTALL)
IDS = re.compile(r"""(\bid=["']|url\(["']?#|\bhref=["']#)""")
OPENING = re.compile(r"<svg\b[^>]*>")
SIZES = re.compile(r'\s(?:width|height)="[^"]*"')
STYLE_RULE = re.compile(r"(<style[^>]*>)\s*\*\s*\{")


@dataclass(frozen=True)
class PageFigure:
    """A figure as the page shows it.

    Attributes:
        name: Its file's name without suffix; also its id.
        caption: What stands below it.
        svg: The picture, ready to be set into HTML.
        width: Of the picture in CSS pixels, as drawn.
    """

    name: str
    caption: Caption
    svg: Markup
    width: int


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
        text = figures[f"figures/{name}.svg"].decode()
        caption = captions.get(name, Caption(name, ""))
        pictures.append(PageFigure(name, caption, inline(text, name, caption.title), _width(text)))
    return pictures


def inline(text: str, name: str, label: str) -> Markup:
    """An SVG file as an element of an HTML page.

    Ids and every reference to them get the figure's name in front, or the first figure's clip paths would cut all
    others; a style that a file gives to everything stays within it; the file's title would be a second tooltip.

    Args:
        text: The SVG file.
        name: Unique within the page.
        label: What a screen reader says.
    """
    body = IDS.sub(rf"\1{_identifier(name)}-", DROPPED.sub("", HEAD.sub("", text, count=1)))
    body = STYLE_RULE.sub(rf"\1#{_identifier(name)} *{{", body)
    opening = OPENING.search(body)
    if opening is None:
        return Markup("")
    attributes = SIZES.sub("", opening.group()).removesuffix(">")
    start = f'{attributes} id="{_identifier(name)}" role="img" aria-label="{escape(label)}">'
    lines = (line.strip() for line in (start + body[opening.end() :]).splitlines())
    return Markup("\n".join(line for line in lines if line))


def _identifier(name: str) -> str:
    """A name as an id that needs no escaping in HTML or CSS."""
    return "figure-" + re.sub(r"[^A-Za-z0-9_-]", "-", name)


def _width(text: str) -> int:
    """Points of the drawing as CSS pixels."""
    match = re.search(r'<svg\b[^>]*\swidth="([0-9.]+)pt"', text)
    return round(float(match.group(1)) * 4 / 3) if match else 480
