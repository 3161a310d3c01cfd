"""Processes, kills and two drivers at once: nothing torn, nothing done twice, nothing lost."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from bench.data.card import measure
from bench.machine import cpu_isa
from bench.protocols.loading import load_protocol
from bench.records.names import Run
from bench.records.run_record import read_records, write_run
from bench.runs.request import RunRequest
from bench.runs.runner import run_one
from models import catalog

PROTOCOL = """
extends = "smoke"
description = "Ten short epochs: long enough to be killed in the middle."
[schedule]
epochs = 10
"""
TINY_NET = '''
"""A small net: fast, with batch norm and dropout."""
from torch import nn
from models import register_model


@register_model(paper="none", source="a test", code_license="MIT")
def tiny_net(*, num_classes, in_chans=3, img_size=28, pretrained=False):
    return nn.Sequential(
        nn.Conv2d(in_chans, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Dropout(0.1), nn.Linear(32, num_classes),
    )
'''
FAULTS = {
    "raises": "raise RuntimeError('a broken model')",
    "exits": "import os; os._exit(7)",
    "wrong_shape": "return self.net(x)[:, :1]",
    "emits_nan": "return self.net(x) * float('nan')",
    "never_ends": "import time; time.sleep(600)",
}
FAULTY_NET = """
from torch import nn
from models import register_model


class Net(nn.Module):
    def __init__(self, num_classes, in_chans):
        super().__init__()
        self.net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_chans, num_classes))

    def forward(self, x):
        {fault}


@register_model(paper="none", source="a test", code_license="MIT")
def {name}(*, num_classes, in_chans=3, img_size=28, pretrained=False):
    return Net(num_classes, in_chans)
"""
SET = "synthetic-bloodmnist"


@pytest.fixture
def workshop(tmp_path: Path) -> Path:
    return furnish(tmp_path)


def furnish(folder: Path) -> Path:
    """A folder with a protocol and plugins."""
    (folder / "ten.toml").write_text(PROTOCOL, encoding="utf-8")
    (folder / "tiny.py").write_text(TINY_NET, encoding="utf-8")
    for name, fault in FAULTS.items():
        (folder / f"{name}.py").write_text(FAULTY_NET.format(name=name, fault=fault), encoding="utf-8")
    return folder


def command(workshop: Path, results: str, *more: str, seeds: str = "0", models: str = "tiny_net") -> list[str]:
    arguments = ["run", "--protocol", "ten.toml", "--models", models, "--datasets", SET, "--seeds", seeds]
    arguments += ["--results", results, "--device", "cpu", "--plugin", "tiny.py", *more]
    return [sys.executable, "-m", "bench.cli", *arguments]


def environment() -> dict[str, str]:
    """Checkpoint at every step, so that a kill at any moment finds one."""
    root = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": root, "MEDBENCH_CHECKPOINT_SECONDS": "0"}


def run(workshop: Path, results: str, *more: str, **options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(workshop, results, *more, **options),
        cwd=workshop,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def scores(results: Path) -> dict[str, tuple[object, ...]]:
    """What must be equal between equal runs: scores and the digests of both tables."""
    records, problems = read_records(results)
    assert problems == []
    return {r.run_id: (r.status, r.val, r.test, r.predictions_sha256, r.history_sha256) for r in records}


def leftovers(results: Path) -> list[str]:
    """Files that a finished plan must not leave."""
    files = [path for path in results.rglob("*") if path.is_file()]
    return [str(path) for path in files if path.name.startswith(".tmp") or path.suffix in (".ckpt", ".tmp")]


def test_the_same_command_twice_is_bit_identical_and_again_does_nothing(workshop: Path) -> None:
    """Two folders, one content; the third call has nothing to do and changes no byte."""
    assert run(workshop, "one", "--jobs", "2", seeds="0-1").returncode == 0
    assert run(workshop, "two", seeds="0-1").returncode == 0
    assert scores(workshop / "one") == scores(workshop / "two")
    assert len(scores(workshop / "one")) == 2
    assert {record.cpu_isa for record in read_records(workshop / "one")[0]} == {cpu_isa.in_force()}
    before = {path: path.read_bytes() for path in (workshop / "one" / "records").rglob("*.*")}
    again = run(workshop, "one", seeds="0-1")
    assert again.returncode == 0
    assert "2 done" in again.stdout
    assert before == {path: path.read_bytes() for path in (workshop / "one" / "records").rglob("*.*")}


@pytest.mark.parametrize("victims", ["everyone", "driver"])
def test_killed_and_started_again_equals_undisturbed(workshop: Path, victims: str) -> None:
    """SIGKILL in the middle, to the driver alone or to all its processes; the same command then finishes it."""
    assert run(workshop, "calm").returncode == 0
    checkpoints = workshop / "killed" / "checkpoints"
    killed = 0
    for wanted in (1, 2):
        process = subprocess.Popen(
            command(workshop, "killed"),
            cwd=workshop,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 300
        seen: set[int] = set()
        while process.poll() is None and time.monotonic() < deadline and len(seen) <= 3 * wanted:
            for path in checkpoints.rglob("*.ckpt"):
                with contextlib.suppress(FileNotFoundError):  # a temporary file that has its name by now
                    seen.add(path.stat().st_mtime_ns)
            time.sleep(0.005)
        if process.poll() is None:
            killed += 1
            if victims == "everyone":
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        process.wait()
    assert killed > 0
    finished = run(workshop, "killed")
    assert finished.returncode == 0, finished.stderr
    assert scores(workshop / "killed") == scores(workshop / "calm")
    assert leftovers(workshop / "killed") == []


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_says_how_to_go_on(workshop: Path, signum: signal.Signals, code: int) -> None:
    """One line, the right exit code, a checkpoint to go on from."""
    process = subprocess.Popen(
        command(workshop, "stopped"),
        cwd=workshop,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        if list((workshop / "stopped" / "checkpoints").rglob("*.ckpt")):
            break
        time.sleep(0.005)
    process.send_signal(signum)
    _, error = process.communicate(timeout=300)
    assert process.returncode == code
    assert error.strip() == "medbench: interrupted; the same command goes on from the last checkpoint"
    # A run that was handing over when the signal came is written instead, and needs no checkpoint any more.
    assert [*(workshop / "stopped" / "checkpoints").rglob("*.ckpt"), *scores(workshop / "stopped")]


def start(workshop: Path, results: str, *more: str, seeds: str = "0") -> subprocess.Popen[str]:
    """The command in a process group of its own, when its first run trains."""
    process = subprocess.Popen(
        command(workshop, results, *more, seeds=seeds),
        cwd=workshop,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    checkpoints = workshop / results / "checkpoints"
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline and not list(checkpoints.rglob("*.ckpt")):
        time.sleep(0.005)
    assert process.poll() is None
    return process


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The driver's fork server and its workers, the server first."""
    return psutil.Process(process.pid).children(recursive=True)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[object, ...]]:
    """What three undisturbed runs give."""
    workshop = furnish(tmp_path_factory.mktemp("calm"))
    assert run(workshop, "calm", seeds="0-2").returncode == 0
    return scores(workshop / "calm")


def interrupted(workshop: Path, process: subprocess.Popen[str], code: int = 143) -> str:
    """What a driver says that was interrupted: one line, the exit code, no run recorded as failed, no process left."""
    _, error = process.communicate(timeout=300)
    assert process.returncode == code, error
    assert "Traceback" not in error
    (line,) = error.strip().splitlines()
    assert line.startswith("medbench: interrupted")
    assert line.endswith("the same command goes on from the last checkpoint")
    assert {status for status, *_ in scores(workshop / "r").values()} <= {"done"}
    deadline = time.monotonic() + 60
    while (left := in_group(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []
    return line


def in_group(group: int) -> list[int]:
    """The processes of a group that have not ended."""
    members = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process.pid)
    return members


def test_a_worker_stopped_alone_is_no_failure(workshop: Path, calm: dict[str, tuple[object, ...]]) -> None:
    """SIGTERM to one worker: the other runs are done, its own has no record, and the same command goes on with it."""
    process = start(workshop, "r", seeds="0-1")
    (worker,) = _holders(next((workshop / "r" / ".locks").glob("tiny_net*.lock")))
    os.kill(worker, signal.SIGTERM)
    assert "stopped from outside: tiny_net__" in interrupted(workshop, process)
    assert len(scores(workshop / "r")) == 1
    finished = run(workshop, "r", seeds="0-2")
    assert finished.returncode == 0, finished.stderr
    assert scores(workshop / "r") == calm


@pytest.mark.parametrize("victims", ["server", "everyone but the driver"])
def test_a_killed_fork_server_is_an_interruption(
    workshop: Path, calm: dict[str, tuple[object, ...]], victims: str
) -> None:
    """SIGKILL to it, as a system out of memory does: what is recorded stays, and the same command goes on."""
    process = start(workshop, "r", "--jobs", "2", seeds="0-2")
    server, *workers = family(process)
    for victim in [server] if victims == "server" else [*workers, server]:
        victim.kill()
    assert "the process that starts the runs was killed" in interrupted(workshop, process)
    finished = run(workshop, "r", seeds="0-2")
    assert finished.returncode == 0, finished.stderr
    assert scores(workshop / "r") == calm
    assert leftovers(workshop / "r") == []


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_processes_with_the_driver_last(
    workshop: Path, calm: dict[str, tuple[object, ...]], signum: signal.Signals
) -> None:
    """As a cluster's scheduler and containers stop a job: an interruption, whoever gets the signal first."""
    process = start(workshop, "r", "--jobs", "2", seeds="0-2")
    for member in family(process):
        member.send_signal(signum)
    time.sleep(1)
    process.send_signal(signum)
    interrupted(workshop, process, 128 + signum)
    finished = run(workshop, "r", seeds="0-2")
    assert finished.returncode == 0, finished.stderr
    assert scores(workshop / "r") == calm


@pytest.mark.parametrize("delay", [0.0, 1.0, 3.0])
def test_ctrl_c_in_the_first_seconds_ends_the_command(workshop: Path, delay: float) -> None:
    """While the driver or the fork server imports: never swallowed, nothing recorded, nothing left running."""
    process = subprocess.Popen(
        command(workshop, "r"),
        cwd=workshop,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None and not _has_handler(process.pid):
        time.sleep(0.005)
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGINT)
    interrupted(workshop, process, 130)


def _has_handler(pid: int) -> bool:
    """Whether a process handles SIGTERM: Python alone handles SIGINT from its start."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    caught = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt"))
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def test_a_rerun_beside_a_finished_checkpoint_trains(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before the checkpoint was removed, then done again: new seconds, equal bytes, nothing left."""
    monkeypatch.setattr(catalog, "_plugins", {})
    results = workshop / "again"
    planned = Run("ten", "tiny_net", SET, 0)
    request = RunRequest(planned, load_protocol(str(workshop / "ten.toml")), measure(SET))
    folder = results / "checkpoints" / planned.run_id
    bundle = run_one(replace(request, plugins=(str(workshop / "tiny.py"),), checkpoint_dir=str(folder)))
    write_run(results, bundle.record, bundle.predictions, bundle.history)
    assert leftovers(results)
    assert run(workshop, "again", "--overwrite", "always").returncode == 0
    (record,), _ = read_records(results)
    assert record.train_seconds != bundle.record.train_seconds
    assert record.predictions_sha256 == bundle.record.predictions_sha256
    assert leftovers(results) == []


def _holders(file: Path) -> list[int]:
    """The processes that hold a file open: of a run's lock, its worker."""
    holders = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and any(link.readlink() == file.resolve() for link in (entry / "fd").iterdir()):
                holders.append(int(entry.name))
    return holders


def test_two_drivers_share_the_work(workshop: Path) -> None:
    """Started together on one folder, each run is done once and both end well."""
    drivers = [
        subprocess.Popen(
            command(workshop, "shared", seeds="0-3"),
            cwd=workshop,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [driver.communicate(timeout=500) for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], outputs
    assert len(scores(workshop / "shared")) == 4
    done = [line for text, _ in outputs for line in text.splitlines() if "] done: " in line]
    assert len(done) == 4


def test_a_broken_plugin_fails_alone(workshop: Path) -> None:
    """It raises, exits, returns a wrong shape, emits NaN or never ends: its run fails with a class, the rest go on."""
    plugins = [part for name in FAULTS for part in ("--plugin", f"{name}.py")]
    models = ",".join([*FAULTS, "tiny_net"])
    done = run(workshop, "faulty", *plugins, "--timeout", "60", "--jobs", "2", models=models)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    records, _ = read_records(workshop / "faulty")
    kinds = {record.model: record.failure.kind if record.failure else record.status for record in records}
    assert kinds == {
        "raises": "error",
        "exits": "error",
        "wrong_shape": "error",
        "emits_nan": "diverged",
        "never_ends": "timeout",
        "tiny_net": "done",
    }
    messages = {record.model: record.failure.message for record in records if record.failure}
    assert messages["raises"] == "RuntimeError: a broken model (raises.py:12, in forward)"
    assert "exited with code 7" in messages["exits"]
    arguments = ["plan", "--protocol", "ten.toml", "--models", "raises", "--datasets", SET, "--results", "faulty"]
    planned = subprocess.run(
        [sys.executable, "-m", "bench.cli", *arguments, "--plugin", "raises.py", "--json"],
        cwd=workshop,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(planned.stdout)[0]["state"] == "failed"
