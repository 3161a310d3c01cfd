"""What a person sees while runs go on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from bench.cli import console, progress
from bench.cli.console import duration
from bench.cli.progress import LiveProgress
from bench.protocols.loading import load_protocol
from bench.records.names import Run
from bench.runs.request import Event, RunProgress, RunRequest
from tests.making import make_card

LOUD_NET = """
import os
from torch import nn
from models import register_model
print("imported")


@register_model(source="a test")
def loud_net(*, num_classes, in_chans=3, img_size=28, pretrained=False):
    print("built")
    os.write(1, b"from C")
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_chans, num_classes))
"""


def test_the_time_left_of_a_resumed_run_counts_from_where_it_went_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """30 of 40 epochs were done before; one more took ten seconds, so nine more take ninety."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    request = RunRequest(Run("smoke", "resnet18", "breastmnist", 0), load_protocol("smoke"), make_card("breastmnist"))
    live = LiveProgress(1)
    live(Event("started", request))

    def note(epoch: int) -> str:
        seen = RunProgress(epoch=epoch, epochs=40, step=0, steps=5, images_per_second=9.0)
        live(Event("progress", request, progress=seen))
        return str(live.bars.tasks[-1].fields["note"])

    assert note(30) == "epoch 31/40, 9/s, unknown left"
    now[0] += 10
    assert note(31) == f"epoch 32/40, 9/s, {duration(90)} left"


def test_no_name_is_broken_where_room_is_short(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wide enough, a table; else a block a row: a run's id can be copied in both."""
    name = "medspectralnet__breastmnist__breast-ablation-sgd-plain__s0"
    rows = [{"run": name, "state": "done", "AUC": 0.123456789, "why [x]": "it is [done]", "none": None}]
    for width, is_table in ((140, True), (80, False)):
        monkeypatch.setattr(console, "out", Console(highlight=False, width=width))
        console.print_table("plan", rows)
        output = capsys.readouterr().out
        assert name in output
        assert ("┃" in output) is is_table
        for text in ("0.123457", "it is [done]", "why [x]"):
            assert text in output
    assert "none" not in output


def test_no_word_is_cropped(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A long text beside a long name takes more lines, not letters."""
    words = [f"word{number}" for number in range(60)]
    rows = [{"run": "x" * 60, "number": "+0.0001 (-0.0002 to +0.0003)", "reason": " ".join(words)}]
    monkeypatch.setattr(console, "out", Console(highlight=False, width=110))
    console.print_table("runs", rows)
    output = capsys.readouterr().out
    assert "┃" in output
    assert [word for word in words if word not in output] == []


@pytest.mark.parametrize("command", [("check", "--img-size", "28"), ("measure", "costs", "--models", "loud_net")])
def test_what_a_model_prints_does_not_spoil_json(tmp_path: Path, command: tuple[str, ...]) -> None:
    """From Python or from C, when it is imported, built or run: it goes to stderr."""
    (tmp_path / "loud_net.py").write_text(LOUD_NET, encoding="utf-8")
    size = () if command[0] == "check" else ("--size", "28")
    done = subprocess.run(
        [sys.executable, "-m", "bench.cli", *command, *size, "--plugin", "loud_net.py", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert json.loads(done.stdout)
    for printed in ("imported", "built", "from C"):
        assert printed in done.stderr


def test_json_goes_where_stdout_went_and_stdout_comes_back(capfd: pytest.CaptureFixture[str]) -> None:
    with console.json_alone():
        print("a library's word")
        console.print_json({"a": 1})
    print("after")
    output, error = capfd.readouterr()
    assert output == '{\n "a": 1\n}\nafter\n'
    assert error == "a library's word\n"


@pytest.mark.parametrize(
    ("arguments", "redirected", "code", "said"),
    [
        ("list datasets", ">&-", 0, ""),
        ("list nothing", "<&- >&-", 2, "medbench: Invalid value"),
        ("--version", ">/dev/full", 2, "medbench: No space left on device\n"),
        ("--version", "| exec true", 0, ""),
        ("plan --protocol smoke --models resnet18 --datasets breastmnist", ">/dev/full", 2, "medbench: No space left"),
        ("verify --results nowhere --log-file /dev/full", "", 2, "the log file ends here: No space left on device\n"),
    ],
)
def test_output_that_cannot_go_out_is_no_traceback(
    tmp_path: Path, arguments: str, redirected: str, code: int, said: str
) -> None:
    """A closed stream, a full disk, a reader that left: nothing but a line, not as Python ends either."""
    done = subprocess.run(
        ["sh", "-c", f'"$0" -m bench.cli {arguments} {redirected}', sys.executable],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == (said != "") + arguments.startswith("verify")


def test_a_name_that_is_no_text_can_be_logged_and_printed(tmp_path: Path) -> None:
    """A file name may hold any byte."""
    name = os.fsdecode(b"a\xff")
    done = subprocess.run(
        [sys.executable, "-m", "bench.cli", "verify", "--results", name, "--json", "--log-file", "log"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    line = "There is no results folder a\\udcff; give another with --results\n"
    assert (done.returncode, done.stderr) == (2, f"medbench: {line}")
    assert f"error: {line}" in (tmp_path / "log").read_text(encoding="utf-8")


def test_a_current_folder_that_was_removed_is_named(tmp_path: Path) -> None:
    """Where a relative path can mean nothing."""
    (tmp_path / "gone").mkdir()
    done = subprocess.run(
        ["sh", "-c", 'rmdir "$PWD"; exec "$0" -m bench.cli list models --plugin net.py', sys.executable],
        cwd=tmp_path / "gone",
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (
        2,
        "medbench: the current folder was removed; change into one that is there\n",
    )
