"""The fork server: how each process ended is known, and nothing that it started outlives its client."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import pytest

from bench.errors import BenchError
from bench.machine import fork_server
from bench.machine.fork_server import ForkServer, ServerLostError

SECONDS = 60.0
# Starts a process that reports its id and then sleeps, whatever signals it gets.
STUBBORN = """
import sys, time
from bench.machine.fork_server import ForkServer
from tests.machine.test_fork_server import sleep
if __name__ == "__main__":
    server = ForkServer(())
    child = server.start(sleep)
    print(server.process.pid, child.pipe.recv(), flush=True)
    time.sleep(600)
"""


def sleep(pipe: Connection) -> None:
    pipe.send(os.getpid())
    time.sleep(600)


def sleep_through_it(pipe: Connection) -> None:
    signal.signal(signal.SIGTERM, lambda *_: None)
    sleep(pipe)


def leave(code: int, pipe: Connection) -> None:
    os._exit(code)


def echo(pipe: Connection) -> None:
    pipe.send(pipe.recv())


def add(a: int, b: int) -> int:
    return a + b


def refuse() -> None:
    raise BenchError("no such thing")


@pytest.fixture
def server() -> Iterator[ForkServer]:
    with ForkServer(()) as started:
        yield started


def is_gone(pid: int, seconds: float = 20.0) -> bool:
    """Whether a process ends within some time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.02)
                continue
        return True
    return False


def test_a_process_talks_and_its_end_is_known(server: ForkServer) -> None:
    """Two at once: one answers and ends with 0, the other leaves with its own code."""
    talker, leaver = server.start(echo), server.start(leave, 7)
    talker.pipe.send("hello")
    assert talker.pipe.recv() == "hello"
    assert server.wait(talker, SECONDS)
    assert server.wait(leaver, SECONDS)
    assert (talker.exitcode, leaver.exitcode) == (0, 7)


def test_a_call_gives_the_result_or_the_error(server: ForkServer) -> None:
    """What the function returns or raises; a process that dies is one clear line."""
    assert server.call(add, 2, 3) == 5
    with pytest.raises(BenchError, match="no such thing"):
        server.call(refuse)
    with pytest.raises(BenchError, match="the process exited with code 3"):
        server.call(os._exit, 3)


def test_a_killed_process_is_not_a_killed_server(server: ForkServer) -> None:
    """SIGKILL to one: its exit code says so, and the next one starts."""
    child = server.start(sleep)
    os.kill(child.pipe.recv(), signal.SIGKILL)
    assert server.wait(child, SECONDS)
    assert child.exitcode == -signal.SIGKILL
    assert not server.is_lost
    assert server.call(add, 1, 1) == 2


def test_a_killed_server_is_noticed_and_its_processes_end(server: ForkServer) -> None:
    """No exit code is made up for them, and nothing more can be started."""
    child = server.start(sleep)
    pid = child.pipe.recv()
    server.process.kill()
    server.process.wait()
    assert not server.wait(child, SECONDS)
    assert server.is_lost
    assert child.exitcode is None
    assert is_gone(pid)
    with pytest.raises(ServerLostError):
        server.start(echo)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_server_lives_through_a_signal_to_the_group(server: ForkServer, signum: signal.Signals) -> None:
    """At its start too: what the signal means is for the client to say."""
    server.process.send_signal(signum)
    assert server.call(add, 1, 2) == 3
    server.process.send_signal(signum)
    assert server.call(add, 3, 4) == 7


def test_nothing_outlives_the_one_that_asked(tmp_path: Path) -> None:
    """SIGKILL to it: server and processes end by themselves, and no file is left."""
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    driver = subprocess.Popen([sys.executable, "-c", STUBBORN], env=environment, stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    with driver.stdout:
        pids = [int(pid) for pid in driver.stdout.readline().split()]
    driver.kill()
    driver.wait()
    assert len(pids) == 2
    assert [is_gone(pid) for pid in pids] == [True, True]
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_imports_ends_with_the_one_that_asked(tmp_path: Path) -> None:
    """SIGKILL in the first seconds: nothing goes on importing."""
    (tmp_path / "slow_part.py").write_text("import time\ntime.sleep(600)\n", encoding="utf-8")
    program = STUBBORN.replace("ForkServer(())", 'ForkServer(["slow_part"])').replace("child.pipe.recv()", "0")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}
    driver = subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    with driver.stdout:
        pid = int(driver.stdout.readline().split()[0])
    time.sleep(0.5)
    driver.kill()
    driver.wait()
    assert is_gone(pid)


def test_what_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ignores the request to end is killed when its time is over."""
    monkeypatch.setattr(fork_server, "CODE", fork_server.CODE.replace("main()", "main(patience=0.2)"))
    with ForkServer(()) as started:
        pid = started.start(sleep_through_it).pipe.recv()
    assert is_gone(pid, 1.0)


def no_room(*_: object, **__: object) -> None:
    raise BlockingIOError(11, "Resource temporarily unavailable")


def test_a_system_without_room_for_the_server_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", no_room)
    with pytest.raises(BenchError, match=r"No process can be started: .* Resource temporarily unavailable"):
        ForkServer(())


def test_a_system_without_room_for_a_process_is_said_to_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused, which is no failure of what it should have done."""
    here = "from tests.machine.test_fork_server import no_room; import os; os.fork = no_room; main()"
    monkeypatch.setattr(fork_server, "CODE", fork_server.CODE.replace("main()", here))
    with ForkServer(()) as started:
        child = started.start(sleep)
        assert started.wait(child, SECONDS)
        assert child.refused
        with pytest.raises(BenchError, match="No process can be started"):
            started.call(add, 1, 2)
