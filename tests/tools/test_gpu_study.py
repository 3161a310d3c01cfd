"""The GPU part in pieces: steps in order, cut off in time, resumed, packed. The steps here are small and on a CPU."""

from __future__ import annotations

import subprocess
import tarfile
import time
from pathlib import Path

import psutil
import pytest

from bench.cli.options import match_models
from bench.plan.selection import expand
from bench.records.names import Run
from bench.records.run_record import read_records
from tests.making import make_run
from tools import gpu_study
from tools.gpu_study import DONE, FAILED, TIME_IS_UP, Step, do, for_one_architecture, pack, rest, untimed

FLOOR = Step("floor", ("run", "--protocol", "smoke", "--models", "floor/prior", "--datasets", "synthetic-breastmnist"))
LONG = Step(
    "net",
    ("run", "--protocol", "lite-96", "--models", "resnet18", "--datasets", "synthetic-breastmnist", "--device", "cpu"),
)
SETUP = """
cc_flag.append("-gencode")
cc_flag.append("arch=compute_80,code=sm_80")
if bare_metal_version >= Version("11.8"):
    cc_flag.append("-gencode")
    cc_flag.append("arch=compute_90,code=sm_90")
if bare_metal_version >= Version("12.8"):
    cc_flag.append("-gencode")
    cc_flag.append("arch=compute_100,code=sm_100")
"""


def test_every_step_is_a_command_that_medbench_plans() -> None:
    """Protocols, models and data sets exist; the first runs are the most telling ones."""
    steps = [*untimed(), *rest(with_kernel=True)]
    for step in (step for step in steps if "--protocol" in step.arguments):
        options = dict(zip(step.arguments[1::2], step.arguments[2::2], strict=True))
        models = match_models(options["--models"])
        assert expand(options["--protocol"].split(","), models, options["--datasets"].split(","), [0])
    names = [step.name for step in steps]
    assert names[1:5] == [
        "lite-96 on Breast",
        "paper-224-scratch on Breast, one seed",
        "timing matrix",
        "MedMamba, torch scan",
    ]
    assert "MedMamba, torch scan" not in [step.name for step in rest(with_kernel=False)]


def test_a_step_that_time_cuts_off_ends_the_piece(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What is done stays, the run in progress ends within the grace and leaves no record, later steps wait."""
    assert do([FLOOR], tmp_path / "results", time.monotonic() + 300) == DONE
    started = time.monotonic()
    code = do([FLOOR, LONG, Step("never", ("list", "models"))], tmp_path / "results", started + 10)
    assert code == TIME_IS_UP
    assert time.monotonic() - started < 10 + gpu_study.GRACE_SECONDS
    records, problems = read_records(tmp_path / "results")
    assert [record.model for record in records] == ["floor/prior"]
    assert problems == []
    output = capfd.readouterr().out
    assert "cut off, the time is up" in output
    assert "never: medbench" not in output


def test_a_failed_step_is_told_and_the_next_is_done(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    wrong = Step("wrong", ("run", "--protocol", "nowhere", "--models", "resnet18", "--datasets", "breastmnist"))
    assert do([wrong, FLOOR], tmp_path / "results", time.monotonic() + 900) == FAILED
    assert len(read_records(tmp_path / "results")[0]) == 1
    assert "wrong: ended with exit code 2" in capfd.readouterr().out
    assert do([FLOOR], tmp_path / "results", time.monotonic() + 900) == DONE
    assert do([FLOOR], tmp_path / "results", time.monotonic() - 1) == TIME_IS_UP


def test_the_archive_holds_what_git_does_not_know(tmp_path: Path) -> None:
    """New records and changed ones, by their path from the root; nothing that is committed or ignored."""
    results = tmp_path / "results"
    for command in (["init", "-q"], ["config", "user.email", "a@example.org"], ["config", "user.name", "a"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    make_run(results, Run("smoke", "resnet18", "breastmnist", 0))
    (tmp_path / ".gitignore").write_text("checkpoints/\n", encoding="utf-8")
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    subprocess.run(["git", "commit", "-qm", "records"], cwd=tmp_path, check=True)
    (results / "timings").mkdir()
    assert pack(results, tmp_path / "none.tar.gz") == 0
    make_run(results, Run("smoke", "resnet18", "breastmnist", 1))
    (results / "checkpoints").mkdir()
    (results / "checkpoints" / "last.pt").touch()
    archive = tmp_path / "out" / "new.tar.gz"
    assert pack(results, archive) == 3
    with tarfile.open(archive) as file:
        folder = "results/records/smoke/resnet18/breastmnist"
        assert file.getnames() == [
            f"{folder}/seed1.{end}" for end in ("history.parquet", "json", "predictions.parquet")
        ]
        file.extractall(tmp_path / "elsewhere", filter="data")
    assert [r.seed for r in read_records(tmp_path / "elsewhere" / "results")[0]] == [1]


def test_without_a_history_everything_is_packed(tmp_path: Path) -> None:
    """A copy of the working tree has no git to read; what was measured still comes back."""
    make_run(tmp_path / "results", Run("smoke", "resnet18", "breastmnist", 1))
    assert pack(tmp_path / "results", tmp_path / "new.tar.gz") == 3


def test_failed_runs_are_no_success(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Exit code 1 of medbench may mean weights that are not public; failed runs and missing data are reported."""
    step = Step("data", ("run", "--protocol", "smoke", "--models", "floor/prior", "--datasets", "breastmnist"))
    nowhere = {"MEDMNIST_ROOT": str(tmp_path), "MEDBENCH_OFFLINE": "1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in nowhere.items():
            patch.setenv(name, value)
        assert do([step], tmp_path / "results", time.monotonic() + 900) == FAILED
    assert "data: 1 runs without scores, the first: floor--prior__breastmnist__smoke__s0" in capfd.readouterr().out
    weights = Step(
        "weights",
        ("run", "--protocol", "paper-224-imagenet", "--models", "medvit_t", "--datasets", "synthetic-breastmnist"),
    )
    assert do([weights], tmp_path / "other", time.monotonic() + 900) == DONE


def test_nothing_of_a_step_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    """The process that times is a child of the process that is stopped; both are gone when the step is."""
    step = Step("timing", ("measure", "timing", "--device", "cpu", "--models", "resnet18_28", "--cell-seconds", "60"))
    assert do([step], tmp_path / "results", time.monotonic() + 15) == TIME_IS_UP
    seen = [
        (process.info["cmdline"] or [], process.info["ppid"]) for process in psutil.process_iter(["cmdline", "ppid"])
    ]
    assert [line for line, _ in seen if any(str(tmp_path) in part for part in line)] == []
    assert [line for line, parent in seen if "bench.measure.timing.worker" in line and parent == 1] == []


@pytest.mark.parametrize(
    ("card", "architecture"), [("80", "80"), ("86", "80"), ("89", "80"), ("90", "90"), ("100", "100")]
)
def test_a_kernel_is_built_for_one_architecture(card: str, architecture: str) -> None:
    """The file stays valid Python, and asks for one architecture alone: the card's, or an earlier one of its major."""
    flags: list[str] = []
    version = {"bare_metal_version": 13.0, "Version": float, "cc_flag": flags}
    exec(for_one_architecture(SETUP, card), version)
    assert flags == ["-gencode", f"arch=compute_{architecture},code=sm_{architecture}"]


def test_an_architecture_without_a_kernel_is_told() -> None:
    with pytest.raises(ValueError, match="no kernel for compute capability 75"):
        for_one_architecture(SETUP, "75")


def test_a_dry_run_prints_the_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_study.main(["--dry-run"]) == DONE
    assert capsys.readouterr().out.count("medbench ") == len([*untimed(), *rest(with_kernel=False)])
