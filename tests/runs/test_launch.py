"""Where runs go: devices of the runs that go on at once, and what travels to a node that has nothing."""

from __future__ import annotations

import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from bench.data import loading
from bench.data.card import measure
from bench.data.loading import data_root, file_name, find_file
from bench.errors import BenchError
from bench.machine import cpu_isa
from bench.machine.cpu_isa import CpuIsa
from bench.machine.devices import device_slots
from bench.plan.selection import Selection
from bench.plan.state import PlannedRun, State
from bench.protocols.loading import load_protocol
from bench.records.card import read_card
from bench.records.names import Run, lock_path
from bench.records.run_record import Failure, read_record, write_run
from bench.runs import engine_ray, launch
from bench.runs.engine_local import BUSY_SECONDS, LocalEngine
from bench.runs.engine_ray import TaskInput
from bench.runs.request import Event, RunBundle, RunRequest
from bench.runs.runner import failed_record
from bench.training.checkpoint import Checkpoint
from models import fingerprint, get_spec
from tests.making import make_card, make_record, make_run

RESULTS = Path(__file__).parents[2] / "results"
SET = "synthetic-bloodmnist"


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)


@pytest.mark.parametrize(
    ("device", "jobs", "share", "slots"),
    [
        ("cpu", 0, 1.0, ["cpu"]),
        ("cpu", 3, 1.0, ["cpu"] * 3),
        ("cuda", 0, 1.0, ["cuda:0", "cuda:1"]),
        ("cuda", 0, 0.5, ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]),
        ("cuda", 3, 0.25, ["cuda:0", "cuda:1", "cuda:0"]),
        ("cuda:1", 0, 1 / 3, ["cuda:1"] * 3),
    ],
)
def test_each_run_has_its_device(two_gpus: None, device: str, jobs: int, share: float, slots: list[str]) -> None:
    """Runs spread over the GPUs first; a share lets several use one."""
    assert device_slots(device, jobs, share) == slots


@pytest.mark.parametrize(("jobs", "share", "says"), [(3, 1.0, "3 is more than 2"), (1, 0.0, "0 is"), (1, 2.0, "2 is")])
def test_more_than_the_gpus_take_is_refused(two_gpus: None, jobs: int, share: float, says: str) -> None:
    """One line that says what would do."""
    with pytest.raises(BenchError, match=says):
        device_slots("cuda", jobs, share)


@pytest.mark.data
def test_a_node_without_data_or_plugins_gets_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The official file and the plugin's text travel; the copies stand in a folder named by content."""
    file = data_root(None) / file_name("breastmnist", 28)
    if not file.exists():
        pytest.skip(f"{file.name} is not in {file.parent}")
    monkeypatch.setattr("ray.get", lambda content: content)
    monkeypatch.setattr(engine_ray.tempfile, "gettempdir", lambda: str(tmp_path / "scratch"))
    card = read_card(RESULTS, "breastmnist")
    assert card is not None
    run = Run("smoke", "resnet18_28", "breastmnist", 0)
    nowhere: dict[str, Any] = {"data_root": str(tmp_path / "empty"), "plugins": ("/far/away/net.py",)}
    request = RunRequest(run, load_protocol("smoke"), card, **nowhere)
    plugins = ((("net.py", b"# a plugin"), ("parts/stem.py", b"# its own file")),)
    task_input = TaskInput(request, plugins, file.name, (file.read_bytes(),), None)
    arrived = engine_ray._unpacked(task_input)
    assert find_file("breastmnist", 28, arrived.data_root, download=False).read_bytes() == file.read_bytes()
    (plugin,) = (Path(path) for path in arrived.plugins)
    assert plugin.read_text(encoding="utf-8") == "# a plugin"
    assert (plugin.parent / "parts" / "stem.py").read_text(encoding="utf-8") == "# its own file"
    assert loading.load("breastmnist", 28, root=arrived.data_root).md5 == card.md5


def test_a_node_with_another_version_of_the_model_refuses() -> None:
    """Its record would be another model's."""
    card = read_card(RESULTS, "breastmnist")
    assert card is not None
    run = Run("smoke", "resnet18_28", "breastmnist", 0)
    request = RunRequest(run, load_protocol("smoke"), card, model_fingerprint="0" * 64)
    record = engine_ray.do_task(TaskInput(request, (), "", (), None)).record
    assert (record.status, record.failure and record.failure.kind) == ("failed", "infra")
    assert "resnet18_28's code here is not the one" in str(record.failure)


LOST = Failure(kind="oom", message="too large")


def test_a_failure_never_takes_the_place_of_what_was_measured(tmp_path: Path) -> None:
    """Doing a finished run again and failing loses nothing; a finished one replaces a failed one."""
    run = Run("smoke", "resnet18", "breastmnist", 0)
    failed = failed_record(RunRequest(run, load_protocol("smoke"), make_card(run.dataset)), LOST)
    write_run(tmp_path, failed, None, None)
    assert read_record(run.path(tmp_path)).status == "failed"
    make_run(tmp_path, run)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    write_run(tmp_path, failed, None, None)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_a_run_that_another_driver_does_is_not_marked_as_skipped(tmp_path: Path) -> None:
    """Neither while it goes on nor after it is done; else the reason is left."""
    run = Run("smoke", "resnet18", "breastmnist", 0)
    item, lock = PlannedRun(run, "missing"), lock_path(tmp_path, run)
    lock.parent.mkdir(parents=True)
    with FileLock(lock):
        launch._skip(tmp_path, item, "no data here", "data")
    assert not run.path(tmp_path).exists()
    launch._skip(tmp_path, item, "no data here", "data")
    assert read_record(run.path(tmp_path)).status == "skipped"
    make_run(tmp_path, run)
    launch._skip(tmp_path, item, "no data here", "data")
    assert read_record(run.path(tmp_path)).status == "done"


@pytest.mark.parametrize(("state", "redo"), [("missing", False), ("failed", False), ("stale", True), ("done", True)])
def test_only_what_has_scores_already_is_done_although_it_is_done(state: State, redo: bool) -> None:
    """A missing run that another driver finished meanwhile is left alone, whatever --overwrite says."""
    card = read_card(RESULTS, "breastmnist")
    assert card is not None
    request = launch._request(
        PlannedRun(Run("smoke", "resnet18", "breastmnist", 0), state), card, launch.Launch(RESULTS)
    )
    assert request.redo is redo
    assert request.model_fingerprint == fingerprint(get_spec("resnet18"))


def test_a_run_that_another_driver_holds_is_looked_at_now_and_then(tmp_path: Path) -> None:
    """Not as fast as processes start, even while other runs go on; once it is free it is done."""
    requests = [
        RunRequest(Run("smoke", "floor/prior", SET, seed), load_protocol("smoke"), measure(SET)) for seed in range(2)
    ]
    started: list[int] = []
    lock = FileLock(lock_path(tmp_path, requests[0].run))
    Path(lock.lock_file).parent.mkdir(parents=True)

    def watch(event: Event) -> None:
        if event.kind == "started" and event.request.run.seed == 0:
            started.append(len(started))
            if len(started) == 3:
                lock.release()

    lock.acquire()
    began = time.monotonic()
    records = LocalEngine(tmp_path, devices=["cpu", "cpu"], on_event=watch).run(requests)
    assert sorted(record.seed for record in records) == [0, 1]
    assert len(started) <= 1 + (time.monotonic() - began) / BUSY_SECONDS


def test_what_a_kill_left_of_a_finished_run_goes(tmp_path: Path) -> None:
    """Its checkpoint is removed, unless the run goes on elsewhere; a run that is not finished keeps what it needs."""
    done, stale, busy = (Run("smoke", "resnet18", "breastmnist", seed) for seed in (0, 1, 2))
    other = tmp_path / "elsewhere"
    for run in (done, stale, busy):
        for parent in (tmp_path / "checkpoints", other):
            Checkpoint(parent / run.run_id, "key").save({})
    lock = lock_path(tmp_path, busy)
    lock.parent.mkdir(parents=True)
    planned = [PlannedRun(done, "done"), PlannedRun(stale, "stale"), PlannedRun(busy, "done")]
    with FileLock(lock):
        launch.sweep_checkpoints(planned, tmp_path, other)
    for parent in (tmp_path / "checkpoints", other):
        assert {path.name for path in parent.iterdir()} == {stale.run_id, busy.run_id}
    launch.sweep_checkpoints(planned, tmp_path, None)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [stale.run_id]
    assert len(list(other.iterdir())) == 2


def hand_over_and_linger(request: RunRequest, _: str, pipe: Connection) -> None:
    """A run that is done and whose process does not end."""
    pipe.send(("bundle", RunBundle(make_record(request.run))))
    pipe.recv()
    time.sleep(600)


def test_a_run_that_is_done_is_not_called_late(tmp_path: Path) -> None:
    """Its process ends slowly, past the limit: it is killed, and its record is the only one."""
    request = RunRequest(Run("smoke", "floor/prior", SET, 0), load_protocol("smoke"), measure(SET))
    written: list[str] = []
    engine = LocalEngine(
        tmp_path,
        timeout=20,
        process=hand_over_and_linger,
        write=lambda _, bundle: written.append(bundle.record.status),
    )
    assert [record.status for record in engine.run([request])] == written == ["done"]


@pytest.mark.parametrize(("flags", "device", "says"), [((), "cpu", "has no AVX2"), (("avx2",), "cuda", "--device cpu")])
def test_records_are_not_replaced_for_an_arithmetic_that_is_not_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], device: str, says: str
) -> None:
    """On a CPU without AVX2, or on a GPU, `--overwrite isa` would replace pinned records by others."""
    monkeypatch.setattr(
        cpu_isa, "pin", lambda isa: isa if isa in flags else CpuIsa.native
    )  # this process keeps its own
    monkeypatch.setattr(launch, "choose_device", lambda name: name)
    run = Run("smoke", "floor/prior", SET, 0)
    make_run(tmp_path, run, device="cpu: A", cpu_isa="avx2" if says == "has no AVX2" else None)
    before = run.path(tmp_path).read_bytes()
    with pytest.raises(BenchError, match=says):
        launch.run(
            Selection(("smoke",), ("floor/prior",), (SET,), (0,)),
            launch.Launch(tmp_path, device=device),
            overwrite="isa",
        )
    assert run.path(tmp_path).read_bytes() == before
