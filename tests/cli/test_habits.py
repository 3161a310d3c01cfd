"""What people expect of any command line: version, help, quiet, log, pipes, 80 columns, one pointer to protocols."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from bench import __version__
from bench.cli import console
from bench.cli.options import RULES, own_first
from bench.cli.progress import LiveProgress, progress_for
from bench.cli.report import TABLES
from bench.protocols.loading import load_protocol
from bench.records.names import Run
from bench.report.explain import scores
from bench.runs.request import Event, RunProgress, RunRequest
from tests.cli.test_cli import medbench, refusal
from tests.making import make_card, make_run

FITTED = ["--protocol", "smoke", "--models", "floor/prior", "--datasets", "synthetic-breastmnist", "--device", "cpu"]


def test_version_and_help_are_where_everybody_looks(tmp_path: Path) -> None:
    """`--version` names the suite's; `-h` is `--help`, for each command too."""
    done = medbench("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"medbench {__version__}\n")
    for arguments in (["-h"], ["run", "-h"], ["measure", "costs", "-h"]):
        done = medbench(*arguments, cwd=tmp_path)
        assert done.returncode == 0
        assert done.stdout == medbench(*arguments[:-1], "--help", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("run -q --models a", "-q run --models a"),
        ("run --log-file x --models a -v", "--log-file x -v run --models a"),
        ("run --log-file=x", "--log-file=x run"),
        ("merge -- -q", "merge -- -q"),
        ("run --log-file", "run --log-file"),
    ],
)
def test_the_options_of_every_command_may_stand_anywhere(given: str, expected: str) -> None:
    """But behind `--`, where everything is a name."""
    assert own_first(given.split()) == expected.split()


def test_quiet_leaves_results_and_the_log_has_everything(tmp_path: Path) -> None:
    """No line for a run's end on the screen; command, runs, the error of a later call and exit codes in the file."""
    log = tmp_path / "medbench.log"
    done = medbench("run", *FITTED, "--results", "mine", "-q", "--log-file", str(log), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "[1/1] done" not in done.stdout
    assert "1 done, 0 failed, 0 skipped." in done.stdout
    assert medbench("verify", "--results", "nothere", "--log-file", str(log), cwd=tmp_path).returncode == 2
    lines = log.read_text(encoding="utf-8").splitlines()
    assert all(re.match(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z ", line) for line in lines)
    texts = [line.partition(" ")[2] for line in lines]
    assert texts[0].startswith(f"medbench {__version__}: run --protocol smoke")
    assert any(text.startswith("[1/1] done: floor--prior__synthetic-breastmnist__smoke__s0") for text in texts)
    assert "error: There is no results folder nothere; give another with --results" in texts
    assert [text for text in texts if text.startswith("exit code")] == ["exit code 0", "exit code 2"]


def test_a_log_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """Before anything is run."""
    line = refusal("run", *FITTED, "--log-file", str(tmp_path / "no" / "x.log"), cwd=tmp_path)
    assert "Cannot write the log file" in line
    assert not (tmp_path / "results").exists()


def test_verbose_says_where_an_error_arose(tmp_path: Path) -> None:
    """The traceback above the line; without the option the line alone."""
    done = medbench("-v", "verify", "--results", "nothere", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("Traceback (most recent call last):")
    assert done.stderr.splitlines()[-1].startswith("medbench: There is no results folder")
    refusal("verify", "--results", "nothere", cwd=tmp_path)


@pytest.mark.parametrize("option", RULES)
def test_what_would_change_a_number_points_to_protocols(tmp_path: Path, option: str) -> None:
    """Whatever its value, and on each command that runs or plans."""
    for command in ("run", "plan"):
        line = refusal(command, *FITTED[:6], option, "lr=1", cwd=tmp_path)
        assert f"{option} would change numbers under an old name" in line
        assert "medbench protocol new" in line
        assert "docs/protocols.md" in line


def test_explain_names_the_tables_that_there_are(tmp_path: Path) -> None:
    """Whatever else was left out, the model too; with a table that there is, the model is asked for."""
    assert TABLES == scores.TABLES
    for more in ([], ["--model", "resnet18"]):
        line = refusal("explain", "table5", *more, cwd=tmp_path)
        assert line == f"medbench: Unknown table 'table5'; there are {', '.join(TABLES)}"
    assert "--model is wanted: whose cell of table3?" in refusal("explain", "table3", cwd=tmp_path)


def test_protocols_is_protocol(tmp_path: Path) -> None:
    """As `--models`, `--datasets` and `--seeds` are."""
    one, other = (
        medbench("plan", name, *FITTED[1:6], "--json", cwd=tmp_path) for name in ("--protocol", "--protocols")
    )
    assert json.loads(one.stdout) == json.loads(other.stdout) != []


def test_a_list_in_a_file_has_every_word_whole(tmp_path: Path) -> None:
    """Addresses can be copied from `medbench list models > models.txt`."""
    text = medbench("list", "models", cwd=tmp_path).stdout
    rows = json.loads(medbench("list", "models", "--json", cwd=tmp_path).stdout)
    assert len(rows) > 20
    for row in rows:
        for word in " ".join(str(value) for value in row.values() if isinstance(value, str)).split():
            assert word in text, word


@pytest.mark.parametrize(
    "command",
    [
        "list models --json",
        "list studies --json",
        "plan --protocol smoke --models resnet18_28 --datasets breastmnist --json",
        "verify --results mine --scores --json",
        "compare mine mine --json",
        "doctor --json",
        "check floor/prior --json",
    ],
)
def test_json_is_alone_on_stdout(tmp_path: Path, command: str) -> None:
    """With a log file and without quiet, too."""
    make_run(tmp_path / "mine", Run("smoke", "floor/prior", "breastmnist", 0))
    done = medbench(*command.split(), "--log-file", "x.log", cwd=tmp_path)
    assert done.returncode in (0, 1), done.stderr
    json.loads(done.stdout)


@pytest.mark.parametrize("width", [80, 100, 140])
def test_progress_fits_the_terminal(width: int) -> None:
    """A line a run, as long as the screen is wide, with where it is and the time left; a long name is shortened."""
    screen = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    live = LiveProgress(12, screen)
    for model in ("medspectralnet_no_flow1", "resnet18"):
        request = RunRequest(
            Run("lite-96", model, "pneumoniamnist", 0), load_protocol("lite-96"), make_card("breastmnist")
        )
        live(Event("started", request))
        for epoch in (0, 11):
            seen = RunProgress(epoch=epoch, epochs=100, step=3, steps=147, images_per_second=1234.5)
            live(Event("progress", request, progress=seen))
    screen.print(live.bars.get_renderable())
    lines = [line for line in screen.file.getvalue().splitlines() if line.strip()]
    assert len(lines) == 3
    assert all(len(line) <= width for line in lines)
    assert lines[0].startswith("0 of 12 runs")
    for line, name in zip(lines[1:], ("medspectralnet", "resnet18"), strict=True):
        assert line.startswith(f"  {name}")
        assert "epoch 12/100, 1234/s, " in line
        assert line.rstrip().endswith(" left")


def test_nothing_is_shown_of_progress_when_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a log file there is nothing to call at all."""
    console.speak(quiet=True)
    try:
        assert progress_for(3).parts == ()
    finally:
        console.speak()
    assert len(progress_for(3).parts) == 1


def test_a_shell_completes_commands() -> None:
    """The script that `--install-completion` installs asks the command itself."""
    variables = {"_MEDBENCH_COMPLETE": "complete_bash", "COMP_WORDS": "medbench re", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "bench.cli"],
        env={**os.environ, **variables, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == ["report"]
