"""A timing process and its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.machine.test_fork_server import is_gone

# Requests a timing and stops at the first answer, with the timing process at work.
ASKER = """
import sys, time
from pathlib import Path
import psutil
from bench.measure.timing.process import answers
from bench.measure.timing.rounds import make_plan
from bench.records.timing_record import choose_settings
settings = choose_settings("cpu", [28], [1], [], compiled=False)
plan = make_plan(["resnet18_28"], settings, "cpu", Path(sys.argv[1]), 1, 0, 1, 30.0, [])
stream = answers(plan, "resnet18_28", 0, plan.settings)
next(stream)
print(psutil.Process().children()[0].pid, flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_a_timing_process_ends_with_the_one_that_asks(tmp_path: Path) -> None:
    """SIGKILL to the command: nothing goes on measuring."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", ASKER, str(tmp_path)]
    asker = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert asker.stdout is not None
    with asker.stdout:
        worker = int(asker.stdout.readline())
    asker.send_signal(signal.SIGKILL)
    asker.wait()
    assert is_gone(worker)
