"""Work in forked processes: the same results in the same order, whatever becomes of a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from bench.errors import RecordError
from bench.machine import forked
from bench.machine.forked import forked_map

SLEEPERS = """
import signal, time
from bench.machine.forked import forked_map
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with it ignored
def work(item):
    print(item, flush=True)
    time.sleep(600)
forked_map(work, range(8), share=1, processes=2)
"""
HERE = os.getpid()
forks = pytest.mark.skipif(sys.platform != "linux", reason="nothing is forked where that is unsafe")


@forks
def test_results_keep_the_order_of_the_items() -> None:
    """A closure over what is here, in two processes."""
    offset = 100
    assert forked_map(lambda item: item + offset, range(20), share=2, processes=2) == list(range(100, 120))


@forks
def test_many_items_go_to_other_processes_and_few_do_not() -> None:
    assert HERE not in forked_map(lambda _: os.getpid(), range(12), share=6, processes=2)
    assert set(forked_map(lambda _: os.getpid(), range(11), share=6, processes=2)) == {HERE}
    assert set(forked_map(lambda _: os.getpid(), range(12), share=6, processes=1)) == {HERE}
    assert forked_map(lambda item: item, [], share=1) == []


@forks
def test_an_error_reaches_the_caller_as_it_was_raised() -> None:
    def work(item: int) -> int:
        if item == 3:
            raise RecordError("the predictions of run 3 are damaged")
        return item

    with pytest.raises(RecordError, match="run 3 are damaged"):
        forked_map(work, range(12), share=2, processes=2)


@forks
def test_a_killed_process_costs_time_and_no_result() -> None:
    def work(item: int) -> int:
        if item == 3 and os.getpid() != HERE:
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    assert forked_map(work, range(12), share=2, processes=2) == list(range(12))


@forks
@pytest.mark.parametrize("lacking", ["threads", "processes"])
def test_a_machine_without_room_does_the_work_all_the_same(lacking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread is needed, and what cannot be forked is done here."""

    def refuse(*_: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(*((threading.Thread, "start", refuse) if lacking == "threads" else (os, "fork", refuse)))
    assert forked_map(lambda item: item + 1, range(12), share=2, processes=2) == list(range(1, 13))


@forks
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_the_one_that_forked_it(signum: signal.Signals) -> None:
    """Whoever reads what they write, as in `medbench report | cat`, reads to the end."""
    program = subprocess.Popen([sys.executable, "-c", SLEEPERS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert program.stdout is not None
    started = [program.stdout.readline(), program.stdout.readline()]
    program.send_signal(signum)
    program.communicate(timeout=20)
    assert b"" not in started
    assert program.returncode != 0


def test_a_system_that_does_not_fork_safely_has_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert forked.num_cores() == 1
