"""How every figure looks and how it becomes bytes: SVG and PDF, the same for the same numbers.

A figure is drawn from its table of numbers alone, and that table is written beside it. No pyplot: a figure belongs to
whoever made it. SVG keeps text as text (searchable, read aloud, a third of the size; DejaVu Sans is wider than what a
browser takes instead, so nothing overlaps), PDF embeds TrueType.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from xml.sax.saxutils import escape

import matplotlib
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from bench.records.card import DataCard
from bench.records.run_record import Record
from bench.records.sealed import Sealed
from bench.report.evidence import first_line
from bench.report.published.names import dataset_name
from bench.report.tidy import STAMP, csv_bytes

WIDTH, WIDE = 3.4, 7.0  # inches: one column of a journal, and two
ROW = 0.135  # inches of a legend's or a list's row
DASHES = ("-", "--", ":", "-.")
HASHED_ID = re.compile(rb'(?:(?<=id=")|(?<=#))([A-Za-z]+)([0-9a-f]{10})(?=["\)])')
TEXT_WIDTH = {WIDTH: 46, WIDE: 100}  # letters of a title's line
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "figure.titlesize": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "legend.columnspacing": 1.2,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.formatter.useoffset": False,
    "grid.color": "0.9",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.1,
    "lines.markersize": 5,
    "text.parse_math": False,  # a class's or a model's name is never mathematics
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class Caption:
    """What stands below a figure: a title in one line, and what, of how many, from where.

    Attributes:
        title: One line.
        text: The rest.
        dataset: The one that it is about, "" for several or none.
    """

    title: str
    text: str
    dataset: str = ""


@dataclass(frozen=True)
class Plot:
    """A figure that can be drawn.

    Attributes:
        name: File name without suffix and without the synthetic prefix.
        caption: Title and text.
        records: The records that it stands on.
        numbers: Makes the table behind it.
        draw: Table -> figure, inside `style()`.
    """

    name: str
    caption: Caption
    records: Sequence[Sealed]
    numbers: Callable[[], pd.DataFrame]
    draw: Callable[[pd.DataFrame], Figure]


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Matplotlib's own defaults with the suite's changes, whatever the user's settings; restored afterwards."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def file_name(name: str, *, synthetic: bool) -> str:
    """A figure's name; a synthetic one has its prefix."""
    return f"{STAMP}_{name}" if synthetic else name


def files(plot: Plot, *, synthetic: bool) -> dict[str, bytes]:
    """A figure's SVG, PDF and numbers, by path below `reports/`; call it inside `style()`."""
    name, numbers = file_name(plot.name, synthetic=synthetic), plot.numbers()
    head = f"{STAMP + ' | ' if synthetic else ''}{first_line(plot.records)}"
    figure = plot.draw(numbers)
    if synthetic:
        _stamp(figure)
    return {
        f"figures/{name}.svg": _svg(figure, name, head),
        f"figures/{name}.pdf": _pdf(figure, name, head),
        f"figures/data/{name}.csv": f"# {head}\n".encode() + csv_bytes(numbers),
    }


def _stamp(figure: Figure) -> None:
    """No synthetic figure can be taken for a real one, not even a part that somebody cuts out."""
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + ROW)
    figure.suptitle(f"{STAMP}\n{figure.get_suptitle()}", color="#b00000")
    figure.text(
        0.5, 0.5, STAMP, rotation=30, fontsize=30, color="#b00000", alpha=0.15, ha="center", va="center", zorder=10
    )


def _svg(figure: Figure, name: str, head: str) -> bytes:
    """The head is a comment in line one, behind the XML declaration that must come first."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):  # ids of their own: a page holds many figures
        canvas: Any = FigureCanvasSVG(figure)  # straight to the printer: `savefig` draws all twice
        canvas.print_svg(buffer, metadata={"Date": None, "Title": name})
    figure.set_layout_engine("none")  # laid out once, for both formats
    declaration, rest = counted_ids(buffer.getvalue(), name).split(b"\n", 1)
    return declaration + f"<!-- {escape(head)} -->\n".encode() + rest


def counted_ids(svg: bytes, name: str) -> bytes:
    """Ids numbered in the order in which they occur, one prefix a figure.

    matplotlib hashes unrounded coordinates into its ids: on another processor their last bit may differ, and with it
    every id of a picture whose printed coordinates are the same.
    """
    prefix, numbers = hashlib.sha256(name.encode()).hexdigest()[:6], dict[bytes, int]()

    def counted(match: re.Match[bytes]) -> bytes:
        # Equal pictures have equal hashes, and nothing refers to them: each gets a number of its own.
        key = match[0] + str(len(numbers)).encode() if match[1] == b"image" else match[0]
        return match[1] + f"{prefix}-{numbers.setdefault(key, len(numbers) + 1)}".encode()

    return HASHED_ID.sub(counted, svg)


def _pdf(figure: Figure, name: str, head: str) -> bytes:
    buffer = io.BytesIO()
    canvas: Any = FigureCanvasPdf(figure)
    canvas.print_pdf(buffer, metadata={"CreationDate": None, "Title": name, "Subject": head})
    return buffer.getvalue()


@cache
def colours() -> list[tuple[float, float, float]]:
    """Ten colours that colour-blind readers tell apart."""
    return [tuple(colour) for colour in sns.color_palette("colorblind")]


def colour(index: int) -> tuple[float, float, float]:
    """The colour of the n-th thing in a figure."""
    return colours()[index % len(colours())]


def line_style(index: int) -> dict[str, Any]:
    """Colour and dashes of the n-th line; 20 differ."""
    return {"color": colour(index), "linestyle": DASHES[index % len(DASHES)]}


def new_figure(title: str, height: float, width: float = WIDTH) -> Figure:
    """An empty figure with its title; `height` with a title of one line and `width` in inches."""
    lines = [part for line in title.split("\n") for part in textwrap.wrap(line, TEXT_WIDTH[width])]
    size = (width, height + ROW * (len(lines) - 1))
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(h_pad=0.05, w_pad=0.05))
    figure.suptitle("\n".join(lines))
    return figure


def legend_below(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """One legend under all axes; two columns where the labels are short."""
    figure.legend(handles, labels, loc="outside lower center", ncols=num_columns(labels))


def num_columns(labels: Sequence[str]) -> int:
    """Columns that labels take in a legend one journal column wide."""
    return 2 if max((len(label) for label in labels), default=0) <= 21 else 1


def legend_height(labels: Sequence[str]) -> float:
    """Inches that `legend_below` takes."""
    lines = sum(label.count("\n") + 1 for label in labels)
    return ROW * -(-lines // num_columns(labels))


def class_labels(card: DataCard, letters: int) -> list[str]:
    """Class names broken into lines of at most so many letters where a space allows it."""
    return [textwrap.fill(name, letters, break_long_words=False) for name in card.class_names]


def beginnings(names: Sequence[str], letters: int) -> list[str]:
    """The first line of each name, with dots where more follows: for the axis that only repeats the names."""
    lines = [textwrap.wrap(name, letters, break_long_words=False) for name in names]
    return [line[0] + (" …" if len(line) > 1 else "") for line in lines]


def cost_axis(axes: Axes, low: float, high: float) -> None:
    """A logarithmic x axis that prints 1, 2, 5, 10 instead of powers; a linear one where costs are much alike."""
    if high < 5 * low:
        if high < 1.05 * low:
            axes.set_xlim(low / 1.05, high * 1.05)  # or ticks of ten digits would tell nothings apart
        axes.xaxis.set_major_locator(MaxNLocator(5))
        return
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def listed(records: Sequence[Record]) -> str:
    """The ids of a figure's records for a caption; a long row is cut in the middle, with its length."""
    ids = [record.run_id for record in records]
    if len(ids) > 6:
        ids = [*ids[:3], f"... ({len(ids)} records) ...", ids[-1]]
    return ", ".join(ids)


def seeds(records: Sequence[Record]) -> str:
    """`seed 0`, `3 seeds (0, 1, 2)`."""
    numbers = sorted({record.seed for record in records})
    if len(numbers) == 1:
        return f"seed {numbers[0]}"
    some = ", ".join(str(seed) for seed in numbers[:10])
    return f"{len(numbers)} seeds ({some}{', ...' if len(numbers) > 10 else ''})"


def data_words(card: DataCard | None, dataset: str, split: str) -> str:
    """The data of a caption: `BreastMNIST test, 156 images, licence CC BY 4.0`."""
    if card is None:
        return f"Data: {dataset_name(dataset)} {split}."
    return f"Data: {dataset_name(dataset)} {split}, {card.num_images[split]} images, licence {card.license}."
