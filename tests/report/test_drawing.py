"""Figures drawn in several processes are those drawn in one, byte for byte."""

from __future__ import annotations

import sys

import pandas as pd
import pytest
from matplotlib.figure import Figure

from bench.report.figures.drawing import SHARE, draw_all
from bench.report.figures.style import Caption, Plot, line_style, new_figure
from tests.making import make_record


def line(place: int) -> Plot:
    def draw(numbers: pd.DataFrame) -> Figure:
        figure = new_figure(f"line {place}", 1.0)
        figure.subplots().plot(numbers["x"], numbers["y"], **line_style(place))
        return figure

    numbers = pd.DataFrame({"x": [0, 1], "y": [place, 2]})
    return Plot(f"line{place:02}", Caption("", ""), [make_record()], lambda: numbers, draw)


@pytest.mark.skipif(sys.platform != "linux", reason="figures are drawn in one process where forks are unsafe")
def test_two_processes_draw_the_same_bytes_in_the_same_order() -> None:
    plots = [line(place) for place in range(2 * SHARE)]
    one, two = (draw_all(plots, synthetic=False, processes=count) for count in (1, 2))
    assert list(one.items()) == list(two.items())
    assert len(one) == 3 * len(plots)
