"""The workflows: what a contributor sends is data, nothing that runs can write, and a recorded run comes out again."""

from __future__ import annotations

import importlib.util
import os
import re
import stat
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bench.errors import RecordError
from bench.records.names import Run
from bench.records.run_record import Record
from tests.making import make_record, make_run

GITHUB = Path(__file__).parent.parent / ".github"
WORKFLOW = GITHUB / "workflows" / "leaderboard.yml"
RERUN = GITHUB / "workflows" / "rerun.yml"
IDENTITY = {f"GIT_{who}_{what}": "test@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def workflow(path: Path = WORKFLOW) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("#"))


def step(name: str, path: Path = WORKFLOW) -> str:
    """The commands of a step."""
    pattern = rf"- name: {re.escape(name)}\n(?:\s+if: .*\n)?\s+run: \|\n((?:          .*\n?|\n)+)"
    match = re.search(pattern, workflow(path))
    assert match is not None, name
    return textwrap.dedent(match.group(1))


def test_nothing_can_write() -> None:
    """One permission, to read; no token stays in a checkout; no event that lends a contributor rights or secrets."""
    text = workflow()
    assert re.findall(r"^permissions:\n((?:  .*\n)+)", text, re.MULTILINE) == ["  contents: read\n"]
    assert text.count("permissions") == 1
    assert text.count("persist-credentials: false") == text.count("actions/checkout@") == 2
    for word in ("pull_request_target", "workflow_run", "secrets", "write"):
        assert word not in text


def test_a_contributor_s_words_reach_no_shell() -> None:
    """The only thing of the event that is pasted into the file is the pull request's number."""
    assert re.findall(r"\$\{\{(.*?)\}\}", workflow()) == [" github.event.pull_request.number "]


def test_only_main_s_code_runs() -> None:
    """Every command is one of main's, and what was sent is gone but for two folders before any of them reads it."""
    text = workflow()
    assert "ref: main" in text
    taken = text.index("Take the contribution, as data")
    assert text.index("./run_all.sh tables") < taken
    later = text[taken:]
    assert re.findall(r"^\s+(\.\S+)", later, re.MULTILINE) == [".venv/bin/medbench"] * 3
    assert "contribution" not in later[later.index("rm -rf results/.cache contribution") + 40 :]
    assert "verify --against" in later
    assert "verify --scores" in later
    assert "report --check --strict" in later


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", *arguments], cwd=folder, check=True, capture_output=True, env={**os.environ, **IDENTITY}, timeout=60
    )


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A checkout of main, and beside it one of what a pull request would make of it."""
    folder = tmp_path / "workspace"
    merged = folder / "contribution"
    for directory in (folder, merged):
        (directory / "results").mkdir(parents=True)
        (directory / "reports").mkdir()
        (directory / "results" / "old.json").write_text("{}", encoding="utf-8")
        (directory / "reports" / "index.html").write_text("old", encoding="utf-8")
    git(merged, "init", "-q", "-b", "main")
    git(merged, "add", ".")
    git(merged, "commit", "-q", "-m", "what stands")
    git(merged, "checkout", "-q", "-b", "contributed")
    (merged / "results" / "new.json").write_text("{}", encoding="utf-8")
    (merged / "setup.py").write_text("raise SystemExit", encoding="utf-8")
    return folder


def take(folder: Path) -> subprocess.CompletedProcess[str]:
    """Merge the pull request as the platform does, and run the workflow's step."""
    merged = folder / "contribution"
    git(merged, "add", ".")
    git(merged, "commit", "-q", "-m", "a contribution")
    git(merged, "checkout", "-q", "main")
    git(merged, "merge", "-q", "--no-ff", "-m", "merged", "contributed")
    temporary = folder.parent / "temporary"
    temporary.mkdir()
    return subprocess.run(
        ["bash", "-e", "-c", step("Take the contribution, as data")],
        cwd=folder,
        env={**os.environ, "RUNNER_TEMP": str(temporary)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_step_takes_two_folders_and_names_what_changed(workspace: Path) -> None:
    """Results and reports as they would be after the merge, the results that stand, and every changed path."""
    done = take(workspace)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (workspace / "results").iterdir()) == ["new.json", "old.json"]
    assert [path.name for path in (workspace.parent / "temporary" / "base" / "results").iterdir()] == ["old.json"]
    changed = (workspace.parent / "temporary" / "changed.txt").read_text(encoding="utf-8").split()
    assert changed == ["results/new.json", "setup.py"]
    assert not (workspace / "contribution").exists()
    assert not (workspace / "setup.py").exists()


def test_the_step_refuses_links(workspace: Path) -> None:
    """Before anything is copied."""
    (workspace / "contribution" / "results" / "link.json").symlink_to("/etc/hostname")
    done = take(workspace)
    assert done.returncode == 1
    assert "symbolic links and submodules are refused" in done.stdout
    assert [path.name for path in (workspace / "results").iterdir()] == ["old.json"]


def test_the_re_run_can_write_nothing_and_takes_nobody_s_words() -> None:
    """It starts by the clock or by hand, reads the repository, and has no input, no token and no secret."""
    text = workflow(RERUN)
    assert re.findall(r"^permissions:\n((?:  .*\n)+)", text, re.MULTILINE) == ["  contents: read\n"]
    assert text.count("permissions") == 1
    assert text.count("persist-credentials: false") == text.count("actions/checkout@") == 1
    assert re.findall(r"^on:\n((?:  .*\n)+)", text, re.MULTILINE) == [
        '  schedule:\n    - cron: "41 3 * * 6"\n  workflow_dispatch:\n'
    ]
    for word in ("${{", "pull_request", "secrets", "write", "inputs"):
        assert word not in text


def test_every_action_is_pinned_alike() -> None:
    """All workflows take the same version of an action."""
    used = re.findall(r"uses: (\S+)@(\S+)", "".join(workflow(path) for path in sorted(RERUN.parent.glob("*.yml"))))
    assert {name for name, _ in used} == {"actions/checkout", "actions/setup-python", "actions/upload-artifact"}
    assert len(set(used)) == 3
    assert all(re.fullmatch(r"v[0-9]+|[0-9a-f]{40}", version) for _, version in used)


@pytest.mark.parametrize(("codes", "expected"), [((0, 0), 0), ((0, 1), 1), ((1, 0), 123), ((0, 2), 2)])
def test_a_difference_or_a_failed_run_fails_the_workflow(tmp_path: Path, codes: tuple[int, int], expected: int) -> None:
    """The step runs what was drawn into a folder of its own, on a CPU, and compares strictly."""
    command = tmp_path / ".venv" / "bin" / "medbench"
    command.parent.mkdir(parents=True)
    script = f'#!/bin/sh\necho "$@" >> calls.txt\nif [ "$1" = run ]; then exit {codes[0]}; else exit {codes[1]}; fi\n'
    command.write_text(script, encoding="utf-8")
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "selection.txt").write_text("--protocol smoke --models resnet18 --datasets breastmnist --seeds 0\n")
    done = subprocess.run(
        ["bash", "-e", "-c", step("Run it again and compare", RERUN)],
        cwd=tmp_path,
        env={**os.environ, "RUNNER_TEMP": str(tmp_path)},
        timeout=60,
        check=False,
    )
    assert done.returncode == expected
    calls = (tmp_path / "calls.txt").read_text(encoding="utf-8").splitlines()
    given = "--protocol smoke --models resnet18 --datasets breastmnist --seeds 0"
    assert calls[0] == f"run --results rerun --device cpu {given}"
    assert calls[1:] == ([] if codes[0] else ["compare results rerun --strict"])


def picking() -> ModuleType:
    """The script that draws, loaded from its file."""
    spec = importlib.util.spec_from_file_location("pick_recorded", GITHUB / "pick_recorded.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def recorded(seed: int = 0, model: str = "resnet18_28", **changes: Any) -> Record:
    """A record that can be done again; `model_copy` also takes a field that records do not have yet."""
    record = make_record(Run("smoke", model, "breastmnist", seed), device="cpu: one", train_seconds=60.0)
    return record.model_copy(update={"cpu_isa": "avx2", **changes})


@pytest.mark.parametrize(
    "change",
    [
        {"status": "failed"},
        {"synthetic": True},
        {"device": "cuda: one"},
        {"device": None},
        {"train_seconds": 1201.0},
        {"train_seconds": None},
        {"cpu_isa": None},
        {"cpu_isa": "native:AVX512"},
        {"protocol_digest": "0" * 64},
        {"model_fingerprint": "0" * 64},
        {"model": "floor/prior"},
    ],
)
def test_what_cannot_come_out_again_is_not_drawn(tmp_path: Path, change: dict[str, Any]) -> None:
    """Only finished, current, short runs of networks on a CPU at the one pinned instruction set."""
    script = picking()
    assert script.can_be_redone(recorded(), tmp_path)
    assert not script.can_be_redone(recorded(**change), tmp_path)
    assert not script.can_be_redone(recorded().model_copy(update={"model": "a_plugin_that_is_not_here"}), tmp_path)
    with pytest.raises(RecordError, match="holds no finished run of a network on a CPU at avx2"):
        script.pick([recorded(**change)], tmp_path, "1")


def test_the_draw_is_the_seed_s(tmp_path: Path) -> None:
    """The same seed draws the same run whatever the order; twenty seeds draw each of three."""
    script = picking()
    records = [recorded(seed) for seed in range(3)]
    drawn = [script.pick(records, tmp_path, str(seed)).seed for seed in range(20)]
    assert drawn == [script.pick(records[::-1], tmp_path, str(seed)).seed for seed in range(20)]
    assert set(drawn) == {0, 1, 2}
    assert script.selection(records[1]) == "--protocol smoke --models resnet18_28 --datasets breastmnist --seeds 1"


def test_a_folder_without_a_fitting_run_is_one_line(tmp_path: Path) -> None:
    """A check that checks nothing does not pass."""
    make_run(tmp_path, Run("smoke", "floor/prior", "breastmnist", 0))
    command = [sys.executable, str(GITHUB / "pick_recorded.py"), str(tmp_path), "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("pick_recorded.py: ")
    assert len(done.stderr.splitlines()) == 1
