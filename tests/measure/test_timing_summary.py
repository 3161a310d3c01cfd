"""What a timing's blocks say, which settings there are, and who may be compared."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import BenchError, RecordError
from bench.measure.timing.worker import compare
from bench.records.timing_record import (
    Agreement,
    Round,
    Setting,
    TimingCell,
    TimingRecord,
    choose_settings,
    core_settings,
    device_label,
    timing_path,
)
from bench.records.timing_summary import bootstrap_median, summarise
from bench.report.tables.timings import timing_blocks
from bench.report.tidy_costs import TIMING_COLUMNS, best_modes, one_device, timing_rows
from tests.making import make_timing
from tests.measure.timings import cell, setting

SETTING = Setting(
    mode="inference", precision="fp32", memory_format="contiguous", compiled=False, batch_size=1, img_size=28
)


def test_a_summary_by_hand() -> None:
    """2 images x 5 batches in 1, 2, 4 s and in 2, 2, 2 s: 10, 5, 2.5 and 5, 5, 5 images/s."""
    summary = summarise(cell([[1.0, 2.0, 4.0], [2.0, 2.0, 2.0]], iterations=5))
    assert (summary.median, summary.q1, summary.q3) == (5.0, 5.0, 5.0)
    assert summary.round_spread == 0.0
    assert (summary.num_rounds, summary.num_blocks, summary.status) == (2, 6, "done")
    assert summary.peak_memory_mib == 101.0
    assert summary.ci_low is not None
    assert summary.ci_high is not None
    assert 2.5 <= summary.ci_low <= 5.0 <= summary.ci_high <= 10.0
    assert summarise(cell([[1.0], [2.0]])).round_spread == pytest.approx(1 / 1.5)


def test_joules_are_per_image() -> None:
    """60 J over 3 blocks of 5 batches of 2 images are 2 J an image."""
    done = Round(index=0, status="done", iterations=5, block_seconds=[1.0] * 3, joules=60.0)
    assert summarise(TimingCell(setting=setting(), rounds=[done])).joules_per_image == 2.0


def test_the_interval_is_as_wide_as_rounds_differ() -> None:
    """Blocks of a process are alike: three rounds apart give a wide interval, pooled blocks would give a narrow one."""
    rounds = [np.full(30, 10.0), np.full(30, 11.0), np.full(30, 12.0)]
    assert bootstrap_median(rounds) == (10.0, 12.0)
    low, high = bootstrap_median([np.random.default_rng(1).normal(11, 1, 90)])
    assert 10.5 < low < 11 < high < 11.5
    uneven = bootstrap_median([np.array([10.0]), np.full(30, 12.0)])
    assert uneven == (10.0, 12.0)


@given(st.lists(st.lists(st.floats(0.1, 1e4), min_size=1, max_size=8), min_size=1, max_size=4))
def test_an_interval_holds_no_value_that_was_not_there(rounds: list[list[float]]) -> None:
    """Low and high lie between the slowest and the fastest block, also with rounds of different lengths."""
    low, high = bootstrap_median([np.array(blocks) for blocks in rounds])
    every = list(itertools.chain(*rounds))
    assert min(every) * 0.999999 <= low <= high <= max(every) * 1.000001


def test_a_mode_that_disagrees_is_never_best() -> None:
    """The faster mode has other logits than fp32 eager: it is marked, and the slower one is the best mode."""
    wrong = Agreement(num_images=8, top1=1.0, max_difference=0.2, spread=1.0)
    fast = cell([[1.0]], precision="bf16")
    fast = fast.model_copy(update={"rounds": [fast.rounds[0].model_copy(update={"agreement": wrong})]})
    rows = timing_rows([make_timing("m", "cpu: a", [cell([[2.0]]), fast])])
    assert [row.status for row in rows] == ["done", "disagrees"]
    assert [row.precision for row in best_modes(rows)] == ["fp32"]


def test_agreement_is_relative_to_the_spread_of_the_logits() -> None:
    """A difference of 1 % of the spread passes for bf16 and not for fp32; what is not finite never passes."""
    expected = torch.tensor([[0.0, 10.0], [4.0, 2.0]])
    actual = expected + torch.tensor([[0.1, 0.0], [0.0, 0.0]])
    agreement = compare(expected, actual)
    assert (agreement.top1, agreement.spread) == (1.0, 10.0)
    assert agreement.holds("bf16")
    assert not agreement.holds("fp32")
    flipped = compare(expected, expected.flip(1))
    assert flipped.top1 == 0.0
    broken = compare(expected, torch.full_like(expected, float("nan")))
    assert broken.max_difference is None
    assert not broken.holds("bf16")


def test_devices_are_never_compared() -> None:
    """Each device has its own fastest way of a model, and one column or axis takes one device alone."""
    slow = [make_timing(name, "cpu: a, 1 thread", [cell([[seconds]])]) for name, seconds in (("m", 4.0), ("n", 2.0))]
    fast = [make_timing(name, "cuda: b", [cell([[seconds]])]) for name, seconds in (("m", 0.2), ("n", 0.4))]
    rows = timing_rows([*slow, *fast])
    assert [(row.device, row.model) for row in best_modes(rows)] == [
        ("cpu: a, 1 thread", "m"),
        ("cpu: a, 1 thread", "n"),
        ("cuda: b", "m"),
        ("cuda: b", "n"),
    ]
    with pytest.raises(RecordError, match="2 devices"):
        one_device(rows)
    assert one_device(row for row in rows if row.device == "cuda: b") == "cuda: b"


def test_another_batch_or_mode_has_its_own_fastest_way() -> None:
    """Of two ways to run the same, the faster one; another batch or mode is no way to run the same."""
    cells = [
        cell([[4.0]]),
        cell([[1.0]], precision="bf16"),
        cell([[2.0]], batch_size=4),
        cell([[3.0]], mode="training"),
    ]
    best = best_modes(timing_rows([make_timing("m", "cpu: a", cells)]))
    assert sorted((row.mode, row.batch_size, row.precision) for row in best) == sorted(
        [
            ("inference", cells[0].setting.batch_size, "bf16"),
            ("inference", 4, "fp32"),
            ("training", cells[0].setting.batch_size, "fp32"),
        ]
    )


def test_the_timing_table_has_the_documented_columns() -> None:
    """A cell that ran out of memory has a row with a status and no number."""
    lost = TimingCell(setting=setting(mode="training"), rounds=[Round(index=0, status="oom", reason="none left")])
    done, empty = timing_rows([make_timing("m", "cpu: a", [cell([[0.5]]), lost])])
    expected = (
        "model img_size device mode precision memory_format compiled batch_size median_images_per_second "
        "ci_low ci_high peak_memory_mib joules_per_image scan_backend status num_blocks warm_up"
    )
    assert expected.split() == TIMING_COLUMNS
    assert (done.status, done.median_images_per_second) == ("done", 4.0)
    assert empty.status == "oom"
    assert math.isnan(empty.median_images_per_second)
    assert timing_rows([]) == []


def test_the_core_matrix() -> None:
    """CPU: 2 formats x (batch 1, 32 and a training step); CUDA: 3 ways x (1, 128) and a training step."""
    cpu = core_settings("cpu", 224)
    assert [(s.mode, s.batch_size) for s in cpu] == [
        *[("inference", size) for size in (1, 1, 32, 32)],
        *[("training", 32)] * 2,
    ]
    assert {s.precision for s in cpu} == {"fp32"}
    cuda = core_settings("cuda:1", 224)
    assert len(cuda) == 7
    assert [s.label() for s in cuda][-1] == "training bf16 channels_last b128 224px"
    assert sum(s.compiled for s in cuda) == 2


def test_other_precisions_come_by_flag() -> None:
    """`--precisions bf16 --compile` gives every combination; what a device lacks is refused in one line."""
    chosen = choose_settings("cpu", [224], [8], ["bf16"], compiled=True)
    assert len(chosen) == 2 * 2 * 2
    assert {s.precision for s in chosen} == {"bf16"}
    with pytest.raises(BenchError, match="tf32"):
        choose_settings("cpu", [224], [], ["tf32"], compiled=False)
    with pytest.raises(BenchError, match="--precisions"):
        choose_settings("cuda", [224], [], [], compiled=True)


def test_threads_belong_to_a_cpu() -> None:
    """Two numbers of threads are two devices, in two folders."""
    one, two = device_label("cpu: AMD EPYC", 1), device_label("cpu: AMD EPYC", 2)
    assert (one, two) == ("cpu: AMD EPYC, 1 thread", "cpu: AMD EPYC, 2 threads")
    assert device_label("cuda: NVIDIA H100", 2) == "cuda: NVIDIA H100"
    path = timing_path(Path("r"), one, "timm/resnet26")
    assert path == Path("r/timings/cpu-amd-epyc-1-thread/timm--resnet26.json")


def test_a_cold_cell_is_not_a_warm_one() -> None:
    """The round that was warmed up least speaks for the cell, in the table and beside it."""
    cold = Round(index=0, status="done", iterations=1, block_seconds=[9.0])
    moving = Round(index=1, status="done", iterations=1, block_seconds=[9.0, 8.0], warm_up_seconds=9.0)
    steady = Round(index=2, status="done", iterations=1, block_seconds=[8.0], warm_up_seconds=9.0, steady=True)
    assert [one.warm_up for one in (cold, moving, steady)] == ["cold", "moving", "steady"]
    for rounds, expected in (([steady, cold, moving], "cold"), ([steady, moving], "moving"), ([steady], "steady")):
        made = make_timing("resnet18", "cpu: a", [TimingCell(setting=SETTING, rounds=rounds)])
        (row,) = timing_rows([made])
        assert (row.warm_up, row.num_blocks) == (expected, sum(len(r.block_seconds) for r in rounds))
        warnings = [block for block in timing_blocks([made]) if isinstance(block, str) and "without a warm-up" in block]
        assert len(warnings) == (expected == "cold")


def test_a_record_survives_a_round_trip(tmp_path: Path) -> None:
    """JSON and back gives the same record; an infinite number never enters one."""
    made = make_timing("m", "cpu: a", [cell([[0.1234567]])]).sealed()
    assert TimingRecord.model_validate(json.loads(made.model_dump_json())) == made
    with pytest.raises(ValueError, match="finite"):
        Round(index=0, status="done", warm_up_seconds=float("inf"))
