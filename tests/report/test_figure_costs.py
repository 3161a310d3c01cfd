"""Figures of costs: who is on the Pareto front, whose numbers share an axis, what was counted and what was claimed."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import RecordError
from bench.records.cost_record import CostRecord, Count
from bench.records.names import Run
from bench.records.run_record import Record
from bench.records.timing_record import Round, Setting, TimingCell, TimingRecord
from bench.report.analysis.scores import Score
from bench.report.figures.parameters import parameter_numbers, parameters_plot
from bench.report.figures.pareto import (
    macs_axis,
    parameter_axis,
    pareto_front,
    pareto_numbers,
    pareto_plot,
    speed_axes,
    speed_axis,
)
from bench.report.figures.style import files, style
from bench.report.published.numbers import PublishedCost
from bench.report.tidy_costs import best_modes, timing_rows
from tests.making import make_record, make_timing
from tests.report.rows import make_score

CPU, GPU = "cpu: some processor, 1 thread", "cuda: some card"
MODELS = ("medspectralnet", "resnet18_28", "swin_t")


def runs(img_size: int = 64) -> list[Record]:
    """A finished run of three networks and a floor."""
    protocol = {"data": {"img_size": img_size}}
    records = [
        make_record(
            Run("smoke", model, "breastmnist", 0), resolved_protocol=protocol, num_params=(place + 1) * 1_000_000
        )
        for place, model in enumerate(MODELS)
    ]
    return [*records, make_record(Run("smoke", "floor/prior", "breastmnist", 0), resolved_protocol=protocol)]


def accuracies() -> list[Score]:
    """Accuracy on test of the runs."""
    means = zip((*MODELS, "floor/prior"), (0.8, 0.7, 0.9, 0.5), strict=True)
    return [make_score(model, mean, mean - 0.1, mean + 0.05) for model, mean in means]


def cost(model: str, img_size: int = 224, num_classes: int = 8, gmacs: float = 2.0, num_params: int = 8) -> CostRecord:
    """What the three counters say, all the same."""
    plain: dict[str, Any] = {"version": "0", "device": "meta", "coverage": 1.0, "uncounted": [], "added_macs": 0}
    empty: dict[str, Any] = {"macs_by_operator": {}, "missed_macs": {}, "added_for": []}
    return CostRecord(
        suite_version="0",
        model=model,
        model_fingerprint="0",
        img_size=img_size,
        in_chans=3,
        num_classes=num_classes,
        num_params=num_params,
        num_trainable_params=num_params,
        num_buffer_values=0,
        counts=[Count(counter="aten", macs=round(gmacs * 1e9), **plain, **empty)],
        packages={},
        commit=None,
        dirty=None,
    ).sealed()


def timing(model: str, device: str, rate: float, img_size: int = 224, batch_size: int = 32) -> TimingRecord:
    """One cell of inference whose blocks all run at one rate."""
    setting = Setting(
        mode="inference",
        precision="fp32",
        memory_format="contiguous",
        compiled=False,
        batch_size=batch_size,
        img_size=img_size,
    )
    blocks = Round(index=0, status="done", iterations=1, block_seconds=[batch_size / rate] * 3)
    return make_timing(model, device, [TimingCell(setting=setting, rounds=[blocks])]).sealed()


def test_a_pareto_front_by_hand() -> None:
    """Cheap and bad, dear and good are on it; dearer and no better is not; twins are both on it."""
    costs = np.array([1.0, 2.0, 2.0, 3.0, 3.0, 4.0])
    values = np.array([0.5, 0.7, 0.6, 0.7, 0.9, 0.9])
    assert pareto_front(costs, values).tolist() == [True, True, False, False, True, False]
    assert pareto_front(np.array([1.0, 1.0]), np.array([0.5, 0.5])).tolist() == [True, True]
    assert pareto_front(-costs, values).tolist() == [False, False, False, False, False, True]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12))
def test_the_front_is_what_no_point_beats(points: list[tuple[int, int]]) -> None:
    """Against the definition, point by point; somebody is always on it."""

    def beats(one: tuple[int, int], other: tuple[int, int]) -> bool:
        return one != other and one[0] <= other[0] and one[1] >= other[1]

    front = pareto_front(*np.array(points, dtype=np.float64).T)
    assert front.tolist() == [not any(beats(one, point) for one in points) for point in points]
    assert front.any()


def test_accuracy_against_parameters_has_networks_alone() -> None:
    """A floor has no parameters: it is a line, not a point; MedSpectralNet comes first."""
    numbers = pareto_numbers(accuracies(), parameter_axis(runs()))
    assert numbers["model"].tolist() == list(MODELS)
    assert numbers["cost"].tolist() == [1, 2, 3]
    assert numbers["on_front"].tolist() == [True, False, True]


def test_costs_are_those_of_the_runs_size() -> None:
    """A count or a timing at another size, or for other classes, shares no figure with the scores."""
    other = [cost(model, 224, 2, place + 5.0) for place, model in enumerate(MODELS)]
    assert macs_axis(runs(), other, 2) is None
    same = [cost(model, 64, classes, classes / 4) for model in MODELS for classes in (8, 2)]
    fitting = macs_axis(runs(), [*other, *same], 2)
    assert fitting is not None
    assert [cost.value for cost in fitting.costs.values()] == [0.5] * len(MODELS)
    assert fitting.label == "GMACs at 64 px"
    assert macs_axis(runs(), [cost("convnext_t", 64, 2)], 2) is None
    timings = [timing("swin_t", CPU, 10.0, img_size=size) for size in (64, 224)]
    assert [axis.label for axis in speed_axes(runs(), timings)] == ["images/s at 64 px, batch 32"]
    assert list(speed_axes(runs(96), timings)) == []


def test_every_point_is_labelled_and_no_colour_stands_for_a_model() -> None:
    """Names stand in the figure beside their points, none on another; MedSpectralNet alone has a colour."""
    plot = pareto_plot("params", parameter_axis(runs()), accuracies(), runs(), "Data.")
    with style():
        figure = plot.draw(plot.numbers())
        names = {text.get_text(): text for text in figure.axes[0].texts}
        assert set(names) == {"MedSpectralNet", "ResNet-18 (28 px)", "Swin-T"}
        assert names["ResNet-18 (28 px)"].get_color() == names["Swin-T"].get_color()
        assert names["MedSpectralNet"].get_color() != names["Swin-T"].get_color()
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in names.values()]
        assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert figure.legends == []


def test_gpu_and_cpu_timings_refuse_to_share_an_axis() -> None:
    """One device a figure; rows of two in one axis are an error."""
    timings = [timing(model, device, 10.0 + place, 64) for place, model in enumerate(MODELS) for device in (CPU, GPU)]
    axes = list(speed_axes(runs(), timings))
    assert [axis.device for axis in axes] == [CPU, GPU]
    assert len({axis.name for axis in axes}) == 2
    assert [{record.device for record in axis.records} for axis in axes] == [{CPU}, {GPU}]  # type: ignore[attr-defined]
    with pytest.raises(RecordError, match="2 devices"):
        speed_axis(best_modes(timing_rows(timings)))


def test_more_images_a_second_are_better() -> None:
    """The front turns round, the largest batch counts, and the figure names the device."""
    timings = [timing(model, CPU, rate) for model, rate in zip(MODELS, (10.0, 30.0, 20.0), strict=True)]
    timings.append(timing("medspectralnet", CPU, 99.0, batch_size=1))
    (axis,) = speed_axes(runs(224), [one for one in timings if one.cells[0].setting.batch_size == 32])
    numbers = pareto_numbers(accuracies(), axis)
    assert numbers["cost"].tolist() == pytest.approx([10, 30, 20])
    assert numbers["on_front"].tolist() == [False, True, True]
    plot = pareto_plot("speed", axis, accuracies(), runs(224), "Data.")
    with style():
        text = files(plot, synthetic=False)["figures/speed.svg"].decode()
    for words in (CPU, "images/s at 224 px, batch 32 (more is better)", "MedSpectralNet", "Swin-T"):
        assert words in text
    assert "Majority class" in plot.caption.text
    assert "dotted line" in plot.caption.text
    trained = [score for score in accuracies() if score.model != "floor/prior"]
    assert "dotted line" not in pareto_plot("speed", axis, trained, runs(224), "Data.").caption.text


def test_parameters_are_counted_beside_claimed() -> None:
    """Every number with how it came about; models by their count; what nobody builds here comes last, if the paper
    shows it."""
    counted = [cost("swin_t", num_params=27_500_000), cost("medspectralnet", num_params=13_200_000), cost("swin_t", 64)]
    published = [
        PublishedCost(name, model, params, 1.0, 224, source, kind, False, "", label)
        for name, model, params, source, kind, label in [
            ("MedSpectralNet (claimed)", "medspectralnet", 8.5, "the paper", "claimed", ""),
            ("VMamba-T (early release)", "", 22.1, "the paper", "published", "VMamba-T"),
            ("Something else", "", 1.0, "elsewhere", "published", ""),
            ("Swin-T", "swin_t", np.nan, "elsewhere", "published", ""),
        ]
    ]
    plot = parameters_plot(counted, published)
    assert plot is not None
    numbers = plot.numbers()
    assert numbers[["model", "kind", "num_params_m"]].values.tolist() == [
        ["medspectralnet", "counted", 13.2],
        ["medspectralnet", "claimed", 8.5],
        ["swin_t", "counted", 27.5],
        ["VMamba-T", "published", 22.1],
    ]
    assert len(plot.records) == 2
    with style():
        text = files(plot, synthetic=False)["figures/fig14_parameters.svg"].decode()
    assert all(word in text for word in ("counted", "claimed", "MedSpectralNet", "VMamba-T"))
    assert parameters_plot([cost("swin_t", 64)], published) is None
    assert set(parameter_numbers(counted[:1], published)["model"]) == {"swin_t", "VMamba-T"}
