"""The leaderboard workflow: what a contributor sends is data, and nothing that runs can write."""

from __future__ import annotations

import os
import re
import subprocess
import textwrap
from pathlib import Path

import pytest

WORKFLOW = Path(__file__).parent.parent / ".github" / "workflows" / "leaderboard.yml"
IDENTITY = {f"GIT_{who}_{what}": "test@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def workflow() -> str:
    lines = WORKFLOW.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("#"))


def step(name: str) -> str:
    """The commands of a step."""
    found = re.search(rf"- name: {re.escape(name)}\n(?:\s+if: .*\n)?\s+run: \|\n((?:          .*\n?|\n)+)", workflow())
    assert found is not None, name
    return textwrap.dedent(found.group(1))


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
    assert "report --check" in later


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", *arguments], cwd=folder, check=True, capture_output=True, env={**os.environ, **IDENTITY}, timeout=60
    )


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A checkout of main, and beside it one of what a pull request would make of it."""
    folder = tmp_path / "workspace"
    merged = folder / "contribution"
    for place in (folder, merged):
        (place / "results").mkdir(parents=True)
        (place / "reports").mkdir()
        (place / "results" / "old.json").write_text("{}", encoding="utf-8")
        (place / "reports" / "index.html").write_text("old", encoding="utf-8")
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
