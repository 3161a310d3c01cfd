"""Draws figures in as many processes as there are cores: half of a large report's time goes into drawing.

Each figure is drawn from its own numbers alone, so neither the number of processes nor their order moves a byte.
"""

from __future__ import annotations

from collections.abc import Iterable

from bench.machine.forked import forked_map
from bench.report.figures.style import Caption, Plot, file_name, files, style

SHARE = 6  # figures that repay the start of a process


def draw_all(plots: Iterable[Plot], *, synthetic: bool, processes: int | None = None) -> dict[str, bytes]:
    """Every figure as SVG and PDF, and its numbers, by path below `reports/`.

    Args:
        plots: What to draw.
        synthetic: Stamp them: they show synthetic data.
        processes: At most so many; by default one a core.

    Raises:
        RecordError: If what a figure shows is damaged.
    """

    def draw(plot: Plot) -> dict[str, bytes]:
        with style():
            return files(plot, synthetic=synthetic)

    drawings: dict[str, bytes] = {}
    for drawn in forked_map(draw, list(plots), share=SHARE, processes=processes):
        drawings |= drawn
    return drawings


def captions_of(plots: Iterable[Plot], *, synthetic: bool) -> dict[str, Caption]:
    """Title and text of every figure that `draw_all` makes of the plots, by name, in their order."""
    return {file_name(plot.name, synthetic=synthetic): plot.caption for plot in plots}
