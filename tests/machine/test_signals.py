"""Interruptions: none is swallowed, and a process ends with its parent."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.errors import Interrupted
from bench.machine.signals import interruptible

ROOT = Path(__file__).parents[2]
# As medmnist does: whatever comes while it imports is taken for a missing package.
SWALLOWS = """
try:
    import slow_part
    complete = True
except:
    complete = False
"""
SLOW = "import time\nprint('importing', flush=True)\nend = time.monotonic() + 1\nwhile time.monotonic() < end: pass\n"
ENDLESS = SLOW + "while True: time.sleep(0.01)\n"
PROGRAM = """
import time
from bench.errors import Interrupted
from bench.machine.signals import interruptible
try:
    with interruptible():
        import swallows
        time.sleep(60)
        print("went on", flush=True)
except Interrupted as error:
    import swallows
    print(f"interrupted {error.signum}, complete {swallows.complete}", flush=True)
"""


def start(folder: Path, slow: str, code: str = PROGRAM) -> subprocess.Popen[str]:
    """The program, at its import."""
    (folder / "swallows.py").write_text(SWALLOWS, encoding="utf-8")
    (folder / "slow_part.py").write_text(slow, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{ROOT}"}
    program = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    assert program.stdout.readline() == "importing\n"
    return program


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_package_that_catches_everything_swallows_no_interruption(tmp_path: Path, signum: signal.Signals) -> None:
    """It is imported whole, then the interruption comes."""
    program = start(tmp_path, SLOW)
    program.send_signal(signum)
    output, _ = program.communicate(timeout=60)
    assert output == f"interrupted {int(signum)}, complete True\n"


NESTED = """
import sys
from bench.machine.signals import interruptible
try:
    with interruptible():
        import swallows
        with interruptible():
            pass
        sys.exit(0)
except BaseException as error:
    print(f"{type(error).__name__}, complete {swallows.complete}", flush=True)
"""


@pytest.mark.parametrize("program", [NESTED, NESTED.replace("        with interruptible():\n            pass\n", "")])
def test_an_interruption_that_waits_survives_what_follows_the_import(tmp_path: Path, program: str) -> None:
    """Neither a second guard, as a command's own, nor the command's end makes it forgotten."""
    process = start(tmp_path, SLOW, program)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert output == "Interrupted, complete True\n"


def test_an_import_that_never_ends_is_ended_by_a_second_signal(tmp_path: Path) -> None:
    program = start(tmp_path, ENDLESS)
    program.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert program.poll() is None
    program.send_signal(signal.SIGINT)
    assert program.wait(timeout=60) == 130
    assert program.stdout is not None
    program.stdout.close()


def test_outside_an_import_it_comes_at_once_and_handlers_are_given_back() -> None:
    """No `Exception`, so that no library takes it for an error; nested as the commands and the functions nest it."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)]

    def interrupt() -> None:
        with interruptible(), interruptible(), contextlib.suppress(Exception):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)

    with pytest.raises(Interrupted) as caught:
        interrupt()
    assert caught.value.signum == signal.SIGTERM
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)] == before
