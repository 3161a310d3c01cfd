"""Figures drawn in several processes are those drawn in one, whatever becomes of a process."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

import pandas as pd
import pytest
from matplotlib.figure import Figure

from bench.errors import RecordError
from bench.report import drawing
from bench.report.drawing import SHARE, draw_all
from bench.report.figure_style import Caption, Plot, line_style, new_figure
from tests.making import make_record

HERE = os.getpid()
forks = pytest.mark.skipif(sys.platform != "linux", reason="figures are drawn in one process where forks are unsafe")


def line(place: int, before: Callable[[], None] = lambda: None) -> Plot:
    """A plot of one line; `before` is called when it is drawn."""

    def draw(numbers: pd.DataFrame) -> Figure:
        before()
        figure = new_figure(f"line {place}", 1.0)
        figure.subplots().plot(numbers["x"], numbers["y"], **line_style(place))
        return figure

    return Plot(
        f"line{place:02}",
        Caption("", ""),
        [make_record()],
        lambda: pd.DataFrame({"x": [0, 1], "y": [place, 2]}),
        draw,
    )


def who(place: int) -> Plot:
    """A plot whose numbers are the process that drew it."""
    return Plot(
        f"who{place}",
        Caption("", ""),
        [make_record()],
        lambda: pd.DataFrame({"pid": [os.getpid()]}),
        lambda _: new_figure("", 1.0),
    )


def pids(found: dict[str, bytes]) -> set[int]:
    return {int(content.split()[-1]) for name, content in found.items() if name.endswith(".csv")}


@forks
def test_two_processes_draw_the_same_bytes_in_the_same_order() -> None:
    plots = [line(place) for place in range(2 * SHARE)]
    one, two = (draw_all(plots, synthetic=False, processes=count) for count in (1, 2))
    assert list(one.items()) == list(two.items())
    assert len(one) == 3 * len(plots)


@forks
def test_many_figures_are_drawn_by_other_processes_and_few_are_not() -> None:
    many, few = ([who(place) for place in range(count)] for count in (2 * SHARE, SHARE))
    assert HERE not in pids(draw_all(many, synthetic=False, processes=2))
    assert pids(draw_all(few, synthetic=False, processes=2)) == {HERE}
    assert pids(draw_all(many, synthetic=False, processes=1)) == {HERE}


@forks
def test_what_is_wrong_with_a_figure_is_said_by_the_caller() -> None:
    def damaged() -> None:
        raise RecordError("predictions are damaged")

    with pytest.raises(RecordError, match="predictions are damaged"):
        draw_all([line(0, damaged), *map(line, range(1, 2 * SHARE))], synthetic=False, processes=2)


@forks
def test_a_killed_process_costs_time_and_no_figure() -> None:
    def die_elsewhere() -> None:
        if os.getpid() != HERE:
            os.kill(os.getpid(), signal.SIGKILL)

    plots = [line(0, die_elsewhere), *map(line, range(1, 2 * SHARE))]
    assert draw_all(plots, synthetic=False, processes=2) == draw_all(plots, synthetic=False, processes=1)


def test_a_system_that_does_not_fork_safely_has_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert drawing.num_cores() == 1
