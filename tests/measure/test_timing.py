"""Timings: what is recorded, what survives a crash, and what a worker and a meter answer."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import subprocess
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.measure.timing import process, worker
from bench.measure.timing import rounds as timing_launch
from bench.measure.timing.blocks import Budget
from bench.measure.timing.gpu_meter import Meter
from bench.measure.timing.worker import CellTimer
from bench.records.names import lock_file
from bench.records.sealed import read_sealed
from bench.records.timing_record import (
    Round,
    Setting,
    TimingRecord,
    core_settings,
    read_timings,
    timing_path,
)
from bench.records.timing_summary import summarise
from bench.records.writing.locks import held
from models import catalog, load_plugin
from tests.making import make_timing
from tests.measure.timings import setting

SETTING = Setting(
    mode="inference", precision="fp32", memory_format="contiguous", compiled=False, batch_size=1, img_size=28
)
ROOT = Path(__file__).parents[2]
TINY = '''
import os, signal
import torch
from torch import nn
from models import register_model

class Tiny(nn.Module):
    def __init__(self, chans, classes):
        super().__init__()
        self.conv = nn.Conv2d(chans, classes, 3, padding=1)
    def forward(self, x):
        return self.conv(x).mean((2, 3))

class Hungry(Tiny):
    def forward(self, x):
        if self.training:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return super().forward(x)

class Fatal(Tiny):
    def forward(self, x):
        if self.training:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)

@register_model()
def tiny_timed(*, num_classes: int, in_chans: int = 3, img_size: int = 224, pretrained: bool = False) -> nn.Module:
    """Fast enough for a test."""
    return Tiny(in_chans, num_classes)

@register_model()
def hungry_timed(*, num_classes: int, in_chans: int = 3, img_size: int = 224, pretrained: bool = False) -> nn.Module:
    """Has no memory for training."""
    return Hungry(in_chans, num_classes)

@register_model()
def fatal_timed(*, num_classes: int, in_chans: int = 3, img_size: int = 224, pretrained: bool = False) -> nn.Module:
    """Is killed while it trains."""
    return Fatal(in_chans, num_classes)

@register_model(min_size=64)
def large_timed(*, num_classes: int, in_chans: int = 3, img_size: int = 224, pretrained: bool = False) -> nn.Module:
    """Takes large images only."""
    return Tiny(in_chans, num_classes)
'''
QUICK = Budget(cell_seconds=0.2, warm_up_seconds=0.02, min_blocks=2, block_seconds=0.002)


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Path]:
    """A file with tiny models, known to the catalogue for the length of a test."""
    before = dict(catalog._plugins)
    file = tmp_path / "tiny_timed_plugin.py"
    file.write_text(TINY, encoding="utf-8")
    load_plugin(file)
    yield file
    catalog._plugins.clear()
    catalog._plugins.update(before)
    sys.modules.pop("_medbench_plugin_tiny_timed_plugin", None)


def plan_for(models: tuple[str, ...], plugin: Path, results: Path, rounds: int = 2) -> process.TimingPlan:
    """Inference and training of tiny models, two short rounds."""
    return process.TimingPlan(
        models=models,
        settings=(setting(), setting(memory_format="channels_last"), setting(mode="training")),
        device="cpu",
        device_name="cpu: test",
        results=results,
        rounds=rounds,
        budget=QUICK,
        plugins=(str(plugin),),
    )


def test_the_order_is_shuffled_and_repeatable(plugin: Path, tmp_path: Path) -> None:
    """Each round has every model once, in an order that the seed alone decides and that differs between rounds."""
    plan = plan_for(tuple("abcdefgh"), plugin, tmp_path, rounds=3)
    rounds = [[model for index, model in plan.order() if index == number] for number in range(3)]
    assert all(sorted(order) == list("abcdefgh") for order in rounds)
    assert len({tuple(order) for order in rounds}) == 3
    assert plan.order() == plan_for(tuple("hgfedcba"), plugin, tmp_path, rounds=3).order()


def test_a_measurement_is_recorded_and_resumed(plugin: Path, tmp_path: Path) -> None:
    """A round is measured once; the second call has nothing to do; a second round is added alone."""
    plan = plan_for(("tiny_timed", "large_timed"), plugin, tmp_path, rounds=1)
    events = list(timing_launch.run_timings(plan))
    assert [event.reason for event in events if event.round is None] == ["large_timed cannot take 8 px images"]
    done = [event for event in events if event.round is not None]
    assert len(done) == 3
    path = timing_path(tmp_path, "cpu: test, 1 thread", "tiny_timed")
    first = read_sealed(path, TimingRecord)
    for timed in first.cells:
        assert [round_.index for round_ in timed.rounds] == [0]
        for round_ in timed.rounds:
            assert round_.status == "done", round_.reason
            assert len(round_.block_seconds) >= 1
            assert round_.peak_memory_mib is not None
            assert (round_.agreement is None) == (timed.setting.mode == "training")
    assert first.scan_backend is None
    assert summarise(first.cells[1]).status == "done"  # channels_last computes the same
    assert list(timing_launch.run_timings(plan_for(("tiny_timed",), plugin, tmp_path, rounds=1))) == []
    added = list(timing_launch.run_timings(plan_for(("tiny_timed",), plugin, tmp_path, rounds=2)))
    assert [event.round.index for event in added if event.round is not None] == [1, 1, 1]
    second = read_sealed(path, TimingRecord)
    assert [timed.rounds[:1] for timed in second.cells] == [timed.rounds for timed in first.cells]


def test_memory_that_ran_out_is_a_status(plugin: Path, tmp_path: Path) -> None:
    """Inference is measured, training is `oom` and never a smaller batch, and a later round does not try again."""
    plan = plan_for(("hungry_timed",), plugin, tmp_path, rounds=1)
    events = [event for event in timing_launch.run_timings(plan) if event.round is not None]
    made = read_sealed(timing_path(tmp_path, plan.label, "hungry_timed"), TimingRecord)
    assert [summarise(timed).status for timed in made.cells] == ["done", "done", "oom"]
    assert timing_launch.missing(made, plan, 1) == list(plan.settings[:2])
    assert "allocate memory" in events[2].line()


def test_a_process_cannot_take_the_last_memory() -> None:
    """Under the limit an allocation fails as `oom`; without it the system would kill whom it likes."""
    code = """
import torch
from bench.machine.memory import is_out_of_memory
from bench.measure.timing.steps import limit_memory
limit = limit_memory(share=0.01)
torch.empty(1000)
try:
    torch.empty(limit, dtype=torch.uint8)
except Exception as error:
    assert is_out_of_memory(error), error
else:
    raise SystemExit("the limit does not hold")
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", ["std::bad_alloc", "can't start new thread", "mmap failed", "CUDA out of memory"])
def test_whichever_library_lacks_memory_the_cell_is_oom(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    """Not `failed`, which would be tried again each time."""

    def fails(self: CellTimer, way: Setting) -> Round:
        raise RuntimeError(words)

    monkeypatch.setattr(CellTimer, "_measure", fails)
    timer = CellTimer("resnet18_28", "cpu", Budget(1.0, 1.0, 1, 0.1), round_index=0)
    assert timer.measure(SETTING).status == "oom"


def test_a_killed_process_loses_one_cell(plugin: Path, tmp_path: Path) -> None:
    """A worker that the system kills while it trains has left its inference cells, and the reason is recorded."""
    plan = plan_for(("fatal_timed",), plugin, tmp_path, rounds=1)
    events = list(timing_launch.run_timings(plan))
    cells = read_sealed(timing_path(tmp_path, plan.label, "fatal_timed"), TimingRecord).cells
    assert [summarise(timed).status for timed in cells] == ["done", "done", "oom"]
    assert events[-1].round is not None
    assert "killed" in events[-1].round.reason


def test_overwrite_forgets_the_plans_settings_alone(plugin: Path, tmp_path: Path) -> None:
    """Rounds of other settings stay; the plan's are measured anew."""
    plan = plan_for(("tiny_timed",), plugin, tmp_path)
    path = timing_path(tmp_path, plan.label, "tiny_timed")
    start = timing_launch.load_or_start(plan, "tiny_timed")
    kept = Round(index=0, status="failed", reason="kept")
    for one in (setting(batch_size=64), *plan.settings):
        start = timing_launch.with_round(start, one, kept)
    timing_launch.write_sealed(path, start)
    assert timing_launch.missing(start, plan, 0) == []
    assert timing_launch.missing(start, plan, 1) == list(plan.settings)
    left = timing_launch.without(start, plan.settings)
    assert [(timed.setting.batch_size, timed.rounds) for timed in left.cells] == [(64, [kept])]


def test_overwrite_forgets_a_timing_only_when_its_new_round_is_written(plugin: Path, tmp_path: Path) -> None:
    """A call that ends in between loses nothing: what was not measured again stands as it was."""
    plan = plan_for(("tiny_timed",), plugin, tmp_path, rounds=1)
    path = timing_path(tmp_path, plan.label, "tiny_timed")
    assert len(list(timing_launch.run_timings(plan))) == len(plan.settings)
    before = {timed.setting: timed.rounds for timed in read_sealed(path, TimingRecord).cells}
    again = timing_launch.run_timings(plan, overwrite=True)
    assert next(again).setting == plan.settings[0]
    after = {timed.setting: timed.rounds for timed in read_sealed(path, TimingRecord).cells}
    again.close()
    assert after.keys() == before.keys()
    assert [one for one in plan.settings if after[one] != before[one]] == [plan.settings[0]]


@pytest.mark.parametrize("what", ["torch", "code", "damage"])
def test_a_record_that_cannot_be_gone_on_with_is_never_replaced_unasked(
    plugin: Path, tmp_path: Path, what: str
) -> None:
    """Timed with another torch, with other code, or damaged: one line, the file as it was; --overwrite replaces it."""
    plan = plan_for(("tiny_timed",), plugin, tmp_path, rounds=1)
    path = timing_path(tmp_path, plan.label, "tiny_timed")
    old = timing_launch.load_or_start(plan, "tiny_timed")
    old = timing_launch.with_round(old, setting(), Round(index=0, status="failed", reason="kept"))
    here = old.packages["torch"]
    changes: dict[str, dict[str, Any]] = {"torch": {"packages": {**old.packages, "torch": "1.0"}}}
    changes["code"] = {"model_fingerprint": "0" * 64}
    timing_launch.write_sealed(path, old.model_copy(update=changes.get(what, {})))
    if what == "damage":
        path.write_bytes(path.read_bytes()[:-9])
    before = path.read_bytes()
    says = {
        "torch": f"tiny_timed was timed with torch 1.0, and would now run {here}; --overwrite forgets what is recorded",
        "code": "tiny_timed was timed with other code than what is here; --overwrite forgets what is recorded",
        "damage": f"{path}: no JSON",
    }
    assert ": 0 of 3 cells x rounds to measure" in timing_launch.announcement(plan)
    (event,) = timing_launch.run_timings(plan)
    assert says[what] in event.line()
    assert "--overwrite forgets what is recorded" in event.line()
    assert path.read_bytes() == before
    assert len(list(timing_launch.run_timings(plan, overwrite=True))) == len(plan.settings)
    made = read_sealed(path, TimingRecord)
    assert [round_.status for timed in made.cells for round_ in timed.rounds] == ["done"] * len(plan.settings)


def test_two_commands_never_time_into_one_record(plugin: Path, tmp_path: Path) -> None:
    """The second says so; each device has a record, and so a lock, of its own."""
    plan = plan_for(("tiny_timed",), plugin, tmp_path, rounds=1)
    with held(lock_file(tmp_path, "timings__cpu-test-1-thread__tiny_timed")):
        (event,) = timing_launch.run_timings(plan)
        assert event.line() == "skipped: tiny_timed is being timed by another command; wait for it"
        other = dataclasses.replace(plan, device_name="cpu: another")
        assert len(list(timing_launch.run_timings(other))) == len(plan.settings)
    assert not plan.path("tiny_timed").exists()
    assert len(list(timing_launch.run_timings(plan))) == len(plan.settings)


def test_a_changed_model_starts_a_new_record(plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds of other code never stand beside new ones; a report leaves a stale record out with a note."""
    plan = plan_for(("tiny_timed",), plugin, tmp_path)
    path = timing_path(tmp_path, plan.label, "tiny_timed")
    old = timing_launch.with_round(
        timing_launch.load_or_start(plan, "tiny_timed"), setting(), Round(index=0, status="failed")
    )
    timing_launch.write_sealed(path, old)
    assert len(read_timings(tmp_path)[0]) == 1
    plugin.write_text(TINY.replace("3, padding=1", "5, padding=2"), encoding="utf-8")
    assert timing_launch.load_or_start(plan, "tiny_timed").cells == []
    assert len(read_timings(tmp_path)[0]) == 1  # of nobody's model, which a report cannot compare with its file
    monkeypatch.setattr("bench.records.own_models.HERE", plugin.parent)
    records, notes = read_timings(tmp_path)
    assert records == []
    assert "stale" in notes[0]


def test_a_set_up_that_cannot_start_gives_the_reason(plugin: Path, tmp_path: Path) -> None:
    """A worker that dies before it measures is no failed cell: the reason is passed on, nothing is recorded."""
    plan = plan_for(("tiny_timed",), plugin, tmp_path, rounds=1)
    broken = process.TimingPlan(**{**vars(plan), "plugins": (str(tmp_path / "missing.py"),)})
    events = list(timing_launch.run_timings(broken))
    assert len(events) == 1
    assert "missing.py" in events[0].line()
    assert not timing_path(tmp_path, plan.label, "tiny_timed").exists()


def test_a_worker_that_hangs_is_ended(plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence for longer than the limit is a timeout, not a wait for ever."""
    monkeypatch.setattr(process, "HANG_SECONDS", 0.3)
    monkeypatch.setattr(process, "HANG_FACTOR", 0.0)
    plan = plan_for(("tiny_timed",), plugin, tmp_path, rounds=1)
    answers = list(process.answers(plan, "tiny_timed", 0, plan.settings))
    assert answers[-1]["round"]["status"] == "timeout"


def test_a_model_with_a_scan_says_which() -> None:
    """MedMamba's column names the backend, ResNet's is empty."""
    assert CellTimer("medmamba_t", "cpu", QUICK, 0).scan_backend(32) in ("torch", "mamba_ssm")
    assert CellTimer("resnet18", "cpu", QUICK, 0).scan_backend(32) is None


def test_two_scans_never_share_a_record(plugin: Path, tmp_path: Path) -> None:
    """A kernel that was installed between two rounds is named, and what is recorded stays."""
    plan = plan_for(("tiny_timed",), plugin, tmp_path, rounds=2)
    path = timing_path(tmp_path, plan.label, "tiny_timed")
    old = timing_launch.load_or_start(plan, "tiny_timed").model_copy(update={"scan_backend": "mamba_ssm"})
    timing_launch.write_sealed(path, timing_launch.with_round(old, setting(), Round(index=0, status="failed")))
    before = path.read_bytes()
    (event,) = timing_launch.run_timings(plan)
    assert "was timed with the scan mamba_ssm, and would now run None; --overwrite" in event.line()
    assert path.read_bytes() == before


def test_a_scan_that_was_chosen_has_a_record_of_its_own(plugin: Path, tmp_path: Path) -> None:
    """Only for models with a scan, and only if that scan is what ran."""
    plan = dataclasses.replace(plan_for(("tiny_timed",), plugin, tmp_path, rounds=1), scan="torch")
    (event,) = timing_launch.run_timings(plan)
    assert "tiny_timed has no selective scan" in event.line()
    usual, requested = (timing_path(tmp_path, "cpu: a", "tiny_timed", scan) for scan in ("auto", "torch"))
    assert usual != requested
    print_ = catalog.fingerprint(catalog.get_spec("tiny_timed"))
    for backend, count in (("torch", 2), ("mamba_ssm", 1)):
        for path in (usual, requested):
            made = make_timing("tiny_timed", "cpu: a", [], model_fingerprint=print_, scan_backend=backend)
            timing_launch.write_sealed(path, made)
        records, notes = read_timings(tmp_path)
        assert (len(records), len(notes)) == (count, 2 - count)


def test_the_kernel_can_be_hidden_from_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `--scan torch` does in its process: an installed mamba-ssm is not found."""
    package = tmp_path / "mamba_ssm" / "ops"
    package.mkdir(parents=True)
    for file in (package.parent / "__init__.py", package / "__init__.py", package / "selective_scan_interface.py"):
        file.touch()
    monkeypatch.syspath_prepend(tmp_path)
    code = "import sys; from bench.measure.timing import worker as w; from models import selective_scan as s"
    request = "{'num_threads': 1, 'device': 'cuda', 'plugins': ['missing.py'], 'scan': sys.argv[1]}"
    code += f"\ntry: w.work({request}, sys.stdout)\nexcept Exception as error: print(type(error).__name__)"
    code += "\nprint(s._has_mamba_ssm())"
    for scan, has_kernel in (("auto", "True"), ("torch", "False")):
        environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"}
        command = [sys.executable, "-c", code, scan]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["ModelError", has_kernel]


@pytest.mark.parametrize("broken", [True, False])
def test_a_device_that_answers_no_more_costs_one_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    """After an error that the process cannot recover from a new process goes on; after another, the same one."""
    settings = [SETTING, SETTING.model_copy(update={"batch_size": 2}), SETTING.model_copy(update={"batch_size": 3})]
    started: list[int] = []

    def answers(plan: Any, model: str, index: int, left: Sequence[Setting]) -> Iterator[dict[str, Any]]:
        """A process of one thread: its first cell fails, and with it, where broken, all that it does after."""
        text = io.StringIO()
        monkeypatch.setattr(CellTimer, "scan_backend", lambda self, size: None)
        monkeypatch.setattr(CellTimer, "is_alive", lambda self: not broken)
        monkeypatch.setattr(
            CellTimer,
            "measure",
            lambda self, way: Round(
                index=0,
                status="failed" if way == SETTING or (broken and not started[-1]) else "done",
                iterations=1,
                block_seconds=[1.0],
            ),
        )
        started.append(len(started))
        request = {"model": model, "device": "cpu", "num_threads": 1, "round": index, "plugins": [], "scan": "auto"}
        monkeypatch.setattr(worker, "limit_memory", lambda: 0)
        budget = {"cell_seconds": 1.0, "warm_up_seconds": 1.0, "min_blocks": 1, "block_seconds": 0.1}
        worker.work({**request, "budget": budget, "settings": [s.model_dump() for s in left]}, text)
        yield from (json.loads(line) for line in text.getvalue().splitlines())

    monkeypatch.setattr("bench.measure.timing.rounds.answers", answers)
    plan = timing_launch.make_plan(["resnet18_28"], settings, "cpu", tmp_path, 1, 0, 1, 1.0, [])
    events = list(timing_launch.run_timings(plan))
    assert [event.round and event.round.status for event in events] == ["failed", "done", "done"]
    assert len(started) == (2 if broken else 1)


def test_a_card_that_does_not_answer_costs_a_value_and_no_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Virtualised cards refuse some of NVML's questions."""

    def refuse(*_: object) -> None:
        raise RuntimeError("Not Supported")

    nvml = types.ModuleType("pynvml")
    for name in ("ClockInfo", "Temperature", "CurrentClocksThrottleReasons", "TotalEnergyConsumption"):
        setattr(nvml, f"nvmlDeviceGet{name}", refuse)
    vars(nvml).update(
        NVML_CLOCK_SM=1, NVML_TEMPERATURE_GPU=0, NVMLError=RuntimeError, nvmlSystemGetDriverVersion=refuse
    )
    meter = Meter("cpu")
    meter.nvml, meter.handle = nvml, "a card"
    assert (meter.joules(), meter.driver()) == (None, None)
    state = meter.state()
    assert (state.sm_clock_mhz, state.temperature_c, state.throttle_reasons) == (None, None, None)


def test_the_meter_reads_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    """Millijoules become joules, and the card is found by UUID, since numbers differ under CUDA_VISIBLE_DEVICES."""
    nvml = types.ModuleType("pynvml")
    values: dict[str, Any] = {
        "NVML_CLOCK_SM": 1,
        "NVML_TEMPERATURE_GPU": 0,
        "NVMLError": RuntimeError,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        "nvmlDeviceGetClockInfo": lambda handle, kind: 1980,
        "nvmlDeviceGetTemperature": lambda handle, kind: 41,
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda handle: 4,
        "nvmlDeviceGetTotalEnergyConsumption": lambda handle: 12_500,
        "nvmlSystemGetDriverVersion": lambda: b"550.1",
    }
    for name, value in values.items():
        setattr(nvml, name, value)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: types.SimpleNamespace(uuid="0-1-2"))
    meter = Meter("cuda:0")
    assert meter.handle == "GPU-0-1-2"
    assert meter.joules() == 12.5
    assert meter.driver() == "550.1"
    assert (meter.state().sm_clock_mhz, meter.state().temperature_c, meter.state().throttle_reasons) == (1980, 41, 4)
    assert Meter("cpu").joules() is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("way", core_settings("cuda", 64, (1, 16)), ids=lambda way: way.label())
def test_the_core_matrix_runs_on_cuda(way: Setting) -> None:
    """Events, peak memory and agreement are there for every core setting of a real model."""
    round_ = CellTimer("resnet18", "cuda", Budget(cell_seconds=None, warm_up_seconds=2.0, min_blocks=5), 0).measure(way)
    assert round_.status == "done", round_.reason
    assert round_.wall_over_event is not None
    assert round_.wall_over_event >= 0.99
    assert round_.peak_memory_mib is not None
    assert round_.peak_memory_mib > 0
    if way.mode == "inference":
        assert round_.agreement is not None
        assert round_.agreement.holds(way.precision)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_memory_that_runs_out_on_cuda_is_a_status() -> None:
    """A batch that fits no card is `oom`."""
    huge = setting(batch_size=2_000_000, img_size=224)
    assert CellTimer("resnet18", "cuda", QUICK, 0).measure(huge).status == "oom"
