"""The workflows: what a contributor sends is data, nothing that runs can write, and a recorded run comes out again."""

from __future__ import annotations

import importlib.util
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from bench.errors import RecordError
from bench.records.names import Run
from bench.records.run_record import Record
from bench.report.exports.files import FORMATS
from tests.making import make_record, make_run
from tests.pull_requests import post

GITHUB = Path(__file__).parent.parent / ".github"
WORKFLOW = GITHUB / "workflows" / "leaderboard.yml"
RERUN = GITHUB / "workflows" / "rerun.yml"
CI = GITHUB / "workflows" / "ci.yml"
COMMENT = GITHUB / "workflows" / "comment.yml"
IDENTITY = {f"GIT_{who}_{what}": "test@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def workflow(path: Path = WORKFLOW) -> str:
    """The text without the lines that are comments."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("#"))


def step(name: str, path: Path = WORKFLOW) -> str:
    """The commands of a step."""
    steps = [one for job in parsed(path)["jobs"].values() for one in job["steps"] if one.get("name") == name]
    assert len(steps) == 1, name
    return str(steps[0]["run"])


def parsed(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def test_what_a_pull_request_starts_can_write_nothing() -> None:
    """Its jobs read; no token stays in a checkout; no event lends a contributor rights or secrets."""
    for path in (WORKFLOW, RERUN, CI):
        content = parsed(path)
        assert content["permissions"] == {"contents": "read"}
        for name, job in content["jobs"].items():
            assert ("permissions" in job) == ((path, name) == (WORKFLOW, "documents"))
            for one in job["steps"]:
                assert "checkout@" not in one.get("uses", "") or one["with"]["persist-credentials"] is False
        for word in ("pull_request_target", "workflow_run", "secrets"):
            assert word not in workflow(path)


def test_only_a_push_to_main_writes_and_only_the_documents() -> None:
    """The one job with the right to write starts after the checks, on what was merged, and commits two files."""
    job = parsed(WORKFLOW)["jobs"]["documents"]
    assert job["if"] == "github.event_name == 'push'"
    assert job["needs"] == "verify"
    assert job["permissions"] == {"contents": "write"}
    assert [one["run"].splitlines()[-1] for one in job["steps"] if one.get("name") == "Write the documents"] == [
        ".venv/bin/medbench report --documents"
    ]
    pushing = step("Commit them to main")
    assert pushing.count("git diff") == pushing.count(" commit ") == 1
    assert pushing.count("-- README.md docs/findings.md") == 2
    assert [one.get("env") for one in job["steps"]].count({"GH_TOKEN": "${{ github.token }}"}) == 1


def test_a_contributor_s_words_reach_no_shell() -> None:
    """Nothing of the event is pasted into a command: numbers and names go through `with` and the environment."""
    for path in GITHUB.glob("workflows/*.yml"):
        for job in parsed(path)["jobs"].values():
            assert [one["run"] for one in job["steps"] if "${{" in one.get("run", "")] == []
    inputs = re.findall(r"\$\{\{(.*?)\}\}", str([job["steps"] for job in parsed(WORKFLOW)["jobs"].values()]))
    assert {one.strip() for one in inputs} == {
        "github.event.pull_request.number",
        "!cancelled() && github.event_name == 'pull_request'",
        "runner.temp",
        "github.token",
    }


def test_only_main_s_code_runs() -> None:
    """Every command is one of main's, and what was sent is gone but for two folders before any of them reads it."""
    text = workflow().partition("  documents:")[0]
    assert "ref: main" in text
    taken = text.index("Take the contribution, as data")
    assert text.index("./run_all.sh tables") < taken
    later = text[taken:]
    assert set(re.findall(r"(?:^|[ {])(\.\S+)", later, re.MULTILINE)) == {".venv/bin/medbench"}
    assert "contribution" not in later[later.index("rm -rf results/.cache contribution") + 40 :]
    for command in ("verify --against", "verify --scores", "report --check --strict", "report --against"):
        assert f"medbench {command}" in later


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


def test_the_re_run_takes_nobody_s_words() -> None:
    """It starts by the clock or by hand, and has no input, no token and no secret."""
    text = workflow(RERUN)
    assert re.findall(r"^on:\n((?:  .*\n)+)", text, re.MULTILINE) == [
        '  schedule:\n    - cron: "41 3 * * 6"\n  workflow_dispatch:\n'
    ]
    for word in ("${{", "pull_request", "secrets", "write", "inputs"):
        assert word not in text


def test_every_action_is_pinned_by_its_commit() -> None:
    """All workflows take the same commit of an action, with its version beside it."""
    used = re.findall(r"uses: (\S+)@(\S+)(.*)", "".join(workflow(path) for path in sorted(RERUN.parent.glob("*.yml"))))
    assert {name for name, _, _ in used} == {"actions/checkout", "actions/setup-python", "actions/upload-artifact"}
    assert len(set(used)) == 3
    for _, commit, version in used:
        assert re.fullmatch(r"[0-9a-f]{40}", commit)
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", version)


def test_zizmor_finds_nothing() -> None:
    """The linter of workflows, offline; the one finding that is ignored says why where it stands."""
    command = [str(Path(sys.executable).with_name("zizmor")), "--offline", "--no-progress", "--format=plain", "."]
    if not Path(command[0]).is_file():
        pytest.skip("zizmor comes with the extra dev")
    done = subprocess.run(command, cwd=GITHUB.parent, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    ignored = [line for path in sorted(WORKFLOW.parent.glob("*.yml")) for line in path.read_text().splitlines()]
    (reason,) = [line for line in ignored if "zizmor: ignore" in line]
    assert re.search(r"# zizmor: ignore\[dangerous-triggers\] \w+", reason)


def test_ci_has_every_export_read_by_its_format_s_own_validator() -> None:
    """The script that does it is a job of its own, and it names each format that there is."""
    commands = [one.get("run") for one in parsed(CI)["jobs"]["exports"]["steps"]]
    assert commands[-1] == "tools/validate_exports.sh"
    script = (GITHUB.parent / "tools" / "validate_exports.sh").read_text(encoding="utf-8")
    assert re.findall(r"medbench export (\S+)", script) == list(FORMATS)


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


def test_a_comment_is_text_that_can_link_mention_and_show_nothing(tmp_path: Path) -> None:
    """Whatever the artifact holds: each of its lines is one of a code block, signs that steer a terminal are gone."""
    sent = b"```\n</pre> @everyone ![x](https://h/x.png)\n\x1b[31m<!-- -->\r\n\xff" + b"a" * 60_000
    calls, body = post(tmp_path, sent)
    head, _, text = body.partition("\n\n")
    assert head.startswith("<!-- what the leaderboard workflow saw -->\n")
    assert text.splitlines()[:3] == ["    ```", "    </pre> @everyone ![x](https://h/x.png)", "    [31m<!-- -->"]
    assert all(line.startswith("    ") for line in text.splitlines())
    assert len(body) < 60_000  # of 65,536 that a comment may have
    assert calls[-1] == "api repos/o/r/issues/7/comments -F body=@body.md"


def test_a_comment_that_stands_is_replaced(tmp_path: Path) -> None:
    """A second push does not fill the page."""
    calls, _ = post(tmp_path, b"text\n", standing="123\n")
    assert calls[-1] == "api --method PATCH repos/o/r/issues/comments/123 -F body=@body.md"


@pytest.mark.parametrize(("sent", "number"), [(None, "7"), (b"text", "")])
def test_without_a_comparison_or_a_pull_request_nothing_is_posted(
    tmp_path: Path, sent: bytes | None, number: str
) -> None:
    """No error either: a closed pull request and one whose files were refused unread have none."""
    calls, body = post(tmp_path, sent, number)
    assert body == ""
    assert not [call for call in calls if "comments" in call]


def test_the_comment_s_workflow_runs_nothing_of_a_pull_request() -> None:
    """It takes no checkout and no action, has the two rights that it needs, and follows pull requests alone."""
    content = parsed(COMMENT)
    assert content["permissions"] == {}
    (job,) = content["jobs"].values()
    assert job["permissions"] == {"actions": "read", "pull-requests": "write"}
    assert job["if"] == "github.event.workflow_run.event == 'pull_request'"
    assert all("uses" not in one for one in job["steps"])
