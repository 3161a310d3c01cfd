"""Draws figures in as many processes as there are cores: half of a large report's time goes into drawing.

The processes are forked, since a plot's functions hold records and tables that would cost more to send than to draw.
Each figure is drawn from its own numbers alone, so neither their number nor their order moves a byte.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from bench.report.figure_style import Caption, Plot, file_name, files, style

SHARE = 6  # figures that repay the start of a process

_given: tuple[Sequence[Plot], bool] = ((), False)  # of a drawing process: what it was forked with


def draw_all(plots: Iterable[Plot], *, synthetic: bool, processes: int | None = None) -> dict[str, bytes]:
    """Every figure as SVG and PDF, and its numbers, by path below `reports/`.

    Args:
        plots: What to draw.
        synthetic: Stamp them: they show data made here.
        processes: At most so many; by default one a core. Only Linux forks safely, elsewhere it is one.

    Raises:
        RecordError: If what a figure shows is damaged.
    """
    plots = list(plots)
    count = min(processes or num_cores(), len(plots) // SHARE)
    found: dict[str, bytes] = {}
    for drawn in _forked(plots, synthetic, count) if count > 1 else _here(plots, synthetic):
        found |= drawn
    return found


def captions_of(plots: Iterable[Plot], *, synthetic: bool) -> dict[str, Caption]:
    """Title and text of every figure that `draw_all` makes of the plots, by name, in their order."""
    return {file_name(plot.name, synthetic=synthetic): plot.caption for plot in plots}


def num_cores() -> int:
    """Cores that may draw."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1


def _here(plots: Sequence[Plot], synthetic: bool) -> list[dict[str, bytes]]:
    with style():
        return [files(plot, synthetic=synthetic) for plot in plots]


def _forked(plots: Sequence[Plot], synthetic: bool, count: int) -> list[dict[str, bytes]]:
    """As `_here`; what processes leave undone because one of them was killed is drawn here."""
    context = get_context("fork")
    try:
        with ProcessPoolExecutor(count, context, initializer=_take, initargs=(plots, synthetic)) as pool:
            return list(pool.map(_draw, range(len(plots))))
    except BrokenProcessPool:
        return _here(plots, synthetic)


def _take(plots: Sequence[Plot], synthetic: bool) -> None:
    """In a drawing process: an interrupt is its parent's to answer."""
    global _given
    _given = plots, synthetic
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _draw(place: int) -> dict[str, bytes]:
    plots, synthetic = _given
    with style():
        return files(plots[place], synthetic=synthetic)
