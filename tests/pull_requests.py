"""Pull requests that tests make and send through the workflows: a repository, a clone of it, the steps of a job.

A step is what the YAML says: `run` in bash as the platform runs it, a checkout as the clone that its `with` describes.
What is not the project's (setting up Python, keeping an artifact) is done by a copy, or is there already.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import yaml

from bench.records.card import read_card
from bench.records.names import Run, predictions_path
from bench.records.predictions import frame_bytes, read_predictions
from bench.records.run_record import Record, read_record, write_run
from bench.records.scoring import score_predictions
from tests.making import make_history, make_record, read_frame

ROOT = Path(__file__).parent.parent
IDENTITY = {f"GIT_{who}_{what}": "test@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
CONDITIONS = {  # of a pull request that nobody cancelled
    "github.event_name == 'pull_request'": True,
    "${{ !cancelled() && github.event_name == 'pull_request' }}": True,
}
ALWAYS = "cancelled()"  # such a step runs after one that failed, too
SKILL = 1.5  # how far the right class's score lies above the others
NUMBER = "${{ github.event.pull_request.number }}"
COMMANDS = {"medbench": "-m bench.cli", "python": "", "ruff": "-m ruff", "mypy": "-m mypy"}
GH = """#!/bin/sh
printf '%s\\n' "$*" >> "$CALLS"
case "$*" in
  *"/pulls "*) printf '%s' "$NUMBER" ;;
  "run download"*) [ -n "$SENT" ] && mkdir comparison && cp "$SENT" comparison/comparison.txt ;;
  *--paginate*) printf '%s' "$STANDING" ;;
  *) cp body.md "$CALLS.body" ;;
esac
"""


def git(folder: Path, *arguments: str) -> str:
    """What git prints; an error fails the test with git's own words."""
    environment = {**os.environ, **IDENTITY}
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def copy_checkout(folder: Path) -> None:
    """This checkout as it stands, with its history and what is not committed; its branch is called main."""
    git(folder.parent, "clone", "-q", "--no-checkout", str(ROOT), str(folder))
    git(folder, "symbolic-ref", "HEAD", "refs/heads/main")
    git(folder, "update-ref", "refs/heads/main", git(ROOT, "rev-parse", "HEAD").strip())
    git(folder, "remote", "remove", "origin")
    listed = subprocess.run(
        ["git", "ls-files", "-zco", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True, timeout=60
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def set_up(folder: Path) -> None:
    """An environment in place of the one that `run_all.sh` makes: this one's packages, the folder's own code."""
    commands = folder / ".venv" / "bin"
    commands.mkdir(parents=True)
    for name, module in COMMANDS.items():
        script = f'#!/bin/sh\nPYTHONPATH="{folder}" exec "{sys.executable}" {module} "$@"\n'
        (commands / name).write_text(script, encoding="utf-8")
        (commands / name).chmod(0o755)
    summing = ["bash", "-c", "cat requirements.lock pyproject.toml | cksum"]
    stamp = subprocess.run(summing, cwd=folder, capture_output=True, text=True, check=True)
    (folder / ".venv" / ".set-up").write_text(f"{stamp.stdout.strip()} full\n", encoding="utf-8")


def medbench(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command in a checkout, by the checkout's own code."""
    return subprocess.run(
        [str(folder / ".venv" / "bin" / "medbench"), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )


def make_run_like(results: Path, run: Run, like: Run, **changes: Any) -> Record:
    """Write a finished run of a network on the images of a standing one: real labels, made-up class scores.

    Args:
        results: A results folder with the standing run and its data set's card.
        run: The run; its model may be nobody's here.
        like: The standing run, under the same protocol.
        changes: Other fields of the record.
    """
    card = read_card(results, like.dataset)
    assert card is not None
    frame = read_frame(predictions_path(like.path(results)).read_bytes())
    logits = [name for name in frame.columns if name.startswith("logit_")]
    seed = int.from_bytes(hashlib.sha256(run.run_id.encode()).digest()[:4], "big")
    values = np.random.default_rng(seed).normal(size=(len(frame), len(logits)))
    values[np.arange(len(frame)), frame["label"].to_numpy()] += SKILL
    frame[logits] = pd.DataFrame(values.astype(np.float32), columns=logits, index=frame.index)
    predictions = frame_bytes(frame)
    history = make_history(run, predictions, card)
    standing = read_record(like.path(results))
    record = make_record(
        Run(run.protocol, like.model, run.dataset, run.seed),
        model=run.model,
        run_id=run.run_id,
        labels_digest=card.labels_digest,
        data_md5=standing.data_md5,
        predictions_sha256=hashlib.sha256(predictions).hexdigest(),
        history_sha256=hashlib.sha256(history).hexdigest(),
        best_epoch=0,
        num_params=22_496,
        device="cpu: one",
        cpu_isa="avx2",
        **{**score_predictions(read_predictions(predictions), card), **changes},
    )
    write_run(results, record, predictions, history)
    return record


@dataclass
class Replay:
    """A job that was run again: which steps ran, how the first that failed ended, and everything that was printed."""

    steps: list[str] = field(default_factory=list)
    failed: str = ""
    output: str = ""
    artifacts: Path = Path()


def steps_of(workflow: str, job: str) -> list[dict[str, Any]]:
    """A job's steps as the YAML has them."""
    content = yaml.safe_load((ROOT / ".github" / "workflows" / workflow).read_text(encoding="utf-8"))
    steps: list[dict[str, Any]] = content["jobs"][job]["steps"]
    return steps


def replay(
    workflow: str,
    job: str,
    repository: Path,
    folder: Path,
    *,
    skip: Container[str] = (),
    more: Mapping[str, str] = MappingProxyType({}),
) -> Replay:
    """A job's steps for pull request 1 of a repository, in a fresh clone, up to the first that fails.

    Args:
        workflow: The file's name.
        job: The job's name.
        repository: Whose `refs/pull/1/merge` is the merge.
        folder: An empty folder.
        skip: Names of steps that are left out.
        more: Environment of the commands.
    """
    workspace, temporary = folder / "workspace", folder / "temporary"
    temporary.mkdir(parents=True)
    result = Replay(artifacts=temporary)
    for number, step in enumerate(steps_of(workflow, job)):
        name = step.get("name") or step.get("uses", "").partition("@")[0] or f"step {number}"
        if not CONDITIONS.get(step.get("if", ""), "if" not in step):
            raise AssertionError(f"{name}: the condition {step['if']!r} has no value here")
        if name in skip or (result.failed and ALWAYS not in step.get("if", "")):
            continue
        result.steps.append(name)
        if "run" in step:
            environment = {**os.environ, **IDENTITY, "RUNNER_TEMP": str(temporary), **more}
            done = subprocess.run(
                ["bash", "-e", "-c", step["run"]],
                cwd=workspace,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=3000,
                check=False,
            )
            result.output += done.stdout
            result.failed = result.failed or (name if done.returncode else "")
        elif "checkout@" in step["uses"]:
            _check_out(repository, workspace, step["with"])
    return result


def _check_out(repository: Path, workspace: Path, wanted: dict[str, Any]) -> None:
    """As actions/checkout does it: one reference, as deep as it says; without one, the merge."""
    target = workspace / wanted.get("path", ".")
    target.mkdir(parents=True, exist_ok=True)
    reference = str(wanted.get("ref", "refs/pull/1/merge")).replace(NUMBER, "1")
    git(target, "init", "-q")
    git(target, "fetch", "-q", f"--depth={wanted.get('fetch-depth', 1)}", f"file://{repository}", reference)
    git(target, "checkout", "-q", "FETCH_HEAD")
    if target == workspace:
        set_up(target)


def post(folder: Path, sent: bytes | None, number: str = "7", standing: str = "") -> tuple[list[str], str]:
    """Run comment.yml's step with a stand-in for the platform's tool: its calls, and the comment's text.

    Args:
        folder: An empty folder.
        sent: The artifact's text, None for none.
        number: Of the open pull request with that commit, "" for none.
        standing: Of a comment that is there already.
    """
    (comment,) = steps_of("comment.yml", "comment")
    (folder / "bin").mkdir(parents=True)
    tool = folder / "bin" / "gh"
    tool.write_text(GH, encoding="utf-8")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    if sent is not None:
        (folder / "sent.txt").write_bytes(sent)
    calls = folder / "calls"
    (folder / "temporary").mkdir()
    variables = {"RUNNER_TEMP": folder / "temporary", "CALLS": calls, "NUMBER": number, "STANDING": standing}
    variables |= {"SENT": "" if sent is None else folder / "sent.txt", "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    event = {"GH_REPO": "o/r", "RUN_ID": "9", "RUN_URL": "https://h/9", "HEAD_SHA": "c", "HEAD_OWNER": "x"}
    event |= {"HEAD_BRANCH": "$(touch pwned);`touch pwned`"}
    variables |= event
    done = subprocess.run(
        ["bash", "-e", "-c", comment["run"]],
        env={**os.environ, **{name: str(value) for name, value in variables.items()}},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not list(folder.rglob("pwned"))
    body = folder / "calls.body"
    return calls.read_text(encoding="utf-8").splitlines(), body.read_text("utf-8") if body.exists() else ""
