"""The command line: exit codes, one line an error, nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.records.names import Run
from bench.records.run_record import read_records
from tests.making import make_run

RESULTS = Path(__file__).parents[2] / "results"
SMOKE = ["--protocol", "smoke", "--models", "floor/prior", "--device", "cpu"]


def medbench(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command as a user calls it; no network is tried."""
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        [sys.executable, "-m", "bench.cli", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": root, "MEDBENCH_OFFLINE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def refusal(*arguments: str, cwd: Path, **environment: str) -> str:
    """The one line of a refused command."""
    done = medbench(*arguments, cwd=cwd, **environment)
    assert done.returncode == 2, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("medbench: ")
    return lines[0]


def called(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """`main` in this process: exit code and stderr."""
    monkeypatch.setattr(sys, "argv", ["medbench", *arguments])
    with pytest.raises(SystemExit) as caught:
        app.main()
    code = caught.value.code
    return (code if isinstance(code, int) else 1), capsys.readouterr().err


def selection(protocol: str = "smoke", models: str = "resnet18", datasets: str = "breastmnist") -> list[str]:
    return ["plan", "--protocol", protocol, "--models", models, "--datasets", datasets]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (selection(models="resnet81"), "did you mean 'resnet18'"),
        (selection(protocol="smok"), "did you mean 'smoke'"),
        (selection(datasets="brestmnist"), "did you mean 'breastmnist'"),
        (["plan", "--study", "lit"], "did you mean 'lite'"),
        (["plan"], "Nothing is selected"),
        (["plan", "--study", "lite", "--models", "resnet18"], "--study names its own"),
        (["plan", "--study", "lite", "--seeds", "3"], "--study names its own"),
        (selection(models="zzz*"), "matches no model"),
        (selection(models=","), "--models ',' names nothing"),
        (selection(datasets=" , "), "names nothing"),
        ([*selection(), "--seeds", "3-1"], "0-2,5"),
        ([*selection(), "--seeds", "0-99999999"], "ranges of at most"),
        ([*selection(), "--results", "r" * 300], "File name too long"),
        (selection(protocol="p" * 300), "File name too long"),
        (["run", "--study", "lite", "--timeout", "-5"], "--timeout -5 is refused"),
        (["run", "--study", "lite", "--timeout", "nan"], "--timeout nan is refused"),
        (["plan", "--jobs", "2"], "No such option: --jobs"),
        (["run", "--study", "lite", "--ray-address", "somewhere:1"], "--ray-address is for --engine ray"),
        (["measure", "data", "--datasets", ","], "names nothing"),
        (["explain", "table4", "--model", "resnet18", "--dataset", "x"], "table4 has none"),
        (["explain", "table4", "--model", "resnet18", "--protocol", "lite-96"], "--protocol and --part are of scores"),
        (["explain", "table3", "--model", "resnet18"], "--dataset is wanted"),
        (["check", "resnet18", "--img-size", "0"], "medbench check --help"),
        (["run", "--jobs", "x"], "medbench run --help"),
        (["measure", "everything"], "medbench measure --help"),
        (["measure", "costs", "--models", "resnet18_28", "--num-classes", "1"], "whole numbers from 2"),
        (["measure", "timing", "--models", "resnet18_28", "--batch-sizes", "0"], "whole numbers from 1"),
        (["measure", "timing", "--models", "resnet18_28", "--size", "-28"], "whole numbers from 1"),
        (["measure", "timing", "--models", "resnet18_28", "--cell-seconds", "-1"], "--cell-seconds -1 is refused"),
        (["measure", "timing", "--models", "resnet18_28", "--device", "cuda:99"], "'cuda:99' is not available"),
        (["everything"], "No such command 'everything'"),
        (["verify", "--results", "nowhere"], "no results folder"),
        (["verify", "--results", "."], "it holds no records/"),
        (["run", *selection(models="timm/resnet81")[1:], "--device", "cpu"], "did you mean 'timm/resnet18'"),
        (["report", "--results", "nowhere"], "no results folder"),
        (["report", "--against", "a", "--documents"], "leave --check, --documents and --repository out"),
        (["verify", "--results", "no\nwhere\x1b\udcff"], r"no results folder no\nwhere\x1b\udcff;"),
        (["export", "every-eval-ever", "--protocol", "lite-96"], "are for eval-results"),
        (["export", "eval-results", "--benchmark", "/x", "--results", str(RESULTS)], "give --benchmark owner/name"),
        (["check"], "Nothing to check"),
        (["list", "models", "--plugin", "nowhere.py"], "Cannot read the model file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    """What came and what would do."""
    monkeypatch.chdir(tmp_path)
    code, error = called(monkeypatch, capsys, *arguments)
    assert code == 2
    assert message in error
    assert error.startswith("medbench: ")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_bug_is_not_dressed_up_as_bad_input() -> None:
    """Only what a user can fix becomes one line."""
    with pytest.raises(ZeroDivisionError):
        app._explain(ZeroDivisionError())


def test_a_mistyped_protocol_key_is_named(tmp_path: Path) -> None:
    """The key, and the known ones."""
    text = (Path(app.__file__).parents[1] / "protocols" / "smoke.toml").read_text(encoding="utf-8")
    (tmp_path / "mine.toml").write_text(text.replace("img_size", "image_size"), encoding="utf-8")
    line = refusal("plan", "--protocol", "mine.toml", "--models", "resnet18", "--datasets", "breastmnist", cwd=tmp_path)
    assert "unknown key 'data.image_size'" in line
    assert "img_size" in line


def test_damaged_data_stop_before_anything_runs(tmp_path: Path) -> None:
    """A truncated file is refused by name with both sums, exit code 2, and no run of another set has started."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "breastmnist.npz").write_bytes(b"PK\x03\x04 not the official file")
    arguments = ["run", *SMOKE, "--datasets", "synthetic-bloodmnist,breastmnist", "--results", "r"]
    line = refusal(*arguments, cwd=tmp_path, MEDMNIST_ROOT=str(tmp_path / "data"))
    assert "breastmnist" in line
    assert "750601b1f35ba3300ea97c75c52ff8f6" in line  # the official MD5, medmnist's INFO
    assert not (tmp_path / "r" / "records").exists()


def test_absent_data_skip_their_runs_and_the_others_go_on(tmp_path: Path) -> None:
    """A clear line, exit code 1, the skipped run counts as missing."""
    arguments = ["run", *SMOKE, "--datasets", "breastmnist,synthetic-bloodmnist", "--results", "r"]
    done = medbench(*arguments, cwd=tmp_path, MEDMNIST_ROOT=str(tmp_path))
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("skipped: ")]
    for part in ("breastmnist", str(tmp_path), "https://", "MEDMNIST_ROOT"):
        assert part in line
    records, problems = read_records(tmp_path / "r")
    assert problems == []
    assert {record.dataset: record.status for record in records} == {
        "breastmnist": "skipped",
        "synthetic-bloodmnist": "done",
    }
    skipped = next(record for record in records if record.status == "skipped")
    assert skipped.failure is not None
    assert str(tmp_path) not in skipped.failure.message
    selection = ["--protocol", "smoke", "--models", "floor/prior", "--datasets", "breastmnist"]
    planned = medbench("plan", *selection, "--results", "r", "--json", cwd=tmp_path)
    assert json.loads(planned.stdout)[0]["state"] == "missing"


def test_what_can_never_run_fails_no_study(tmp_path: Path) -> None:
    """A study asks for every model under every protocol: one without public weights is named, and no failure.

    Requested by name it is one: nothing of what was wanted ran.
    """
    (tmp_path / "two.toml").write_text(
        """question = "?"
[[parts]]
protocols = ["paper-224-imagenet"]
models = ["medmamba_t", "floor/prior"]
datasets = ["synthetic-breastmnist"]
seeds = [0]
""",
        encoding="utf-8",
    )
    study = medbench("run", "--study", "two.toml", "--results", "r", "--device", "cpu", cwd=tmp_path)
    assert study.returncode == 0, study.stderr
    assert "pins no public ImageNet-1k weights for medmamba_t" in study.stderr
    assert "1 done, 0 failed, 1 skipped." in study.stdout
    selection = ["--protocol", "paper-224-imagenet", "--models", "medmamba_t", "--datasets", "synthetic-breastmnist"]
    assert medbench("run", *selection, "--results", "r", "--device", "cpu", cwd=tmp_path).returncode == 1


@pytest.mark.parametrize("seeds", ["[-1]", "[4294967296]"])
def test_a_study_s_seeds_are_checked(tmp_path: Path, seeds: str) -> None:
    """What no generator takes is refused when the study is read."""
    text = 'question = "?"\n[[parts]]\nprotocols = ["smoke"]\nmodels = ["resnet18"]\ndatasets = ["breastmnist"]\n'
    (tmp_path / "bad.toml").write_text(f"{text}seeds = {seeds}\n", encoding="utf-8")
    assert "parts.0.seeds.0" in refusal("plan", "--study", "bad.toml", cwd=tmp_path)


def test_synthetic_runs_are_refused_by_a_store_of_real_ones(tmp_path: Path) -> None:
    """Before anything ran."""
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "store.json").write_text('{"real_only": true}', encoding="utf-8")
    line = refusal("run", *SMOKE, "--datasets", "synthetic-bloodmnist", "--results", "r", cwd=tmp_path)
    assert "real records only" in line
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["store.json"]


def test_a_results_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """What no right to write would also be: a folder that cannot be made."""
    (tmp_path / "r").write_text("a file", encoding="utf-8")
    line = refusal("run", *SMOKE, "--datasets", "synthetic-bloodmnist", "--results", "r", cwd=tmp_path)
    assert "Cannot write r" in line
    assert (tmp_path / "r").read_text(encoding="utf-8") == "a file"


def test_a_folder_in_the_place_of_a_report_s_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, and the folder stays."""
    results, reports = tmp_path / "results", tmp_path / "reports"
    make_run(results, Run("lite-96", "resnet18", "breastmnist", 0))
    (reports / "index.html" / "mine").mkdir(parents=True)
    code, printed = called(monkeypatch, capsys, "report", "--results", str(results), "--reports", str(reports))
    assert code == 2
    assert printed.strip().endswith(f"Is a directory: {reports / 'index.html'}"), printed
    assert (reports / "index.html" / "mine").is_dir()


def test_a_checkpoint_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """Before anything ran."""
    (tmp_path / "c").write_text("a file", encoding="utf-8")
    arguments = ["run", *SMOKE, "--datasets", "synthetic-bloodmnist", "--results", "r", "--checkpoint-dir", "c"]
    assert "--checkpoint-dir c is a file; name a folder" in refusal(*arguments, cwd=tmp_path)
    assert not (tmp_path / "r" / "records").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small or read-only file system needs root")
@pytest.mark.parametrize(
    ("options", "reason"), [("size=64k", "disk is full"), ("size=64k,ro", "Read-only file system")]
)
def test_a_full_or_read_only_disk_is_refused_and_nothing_is_half_written(
    tmp_path: Path, options: str, reason: str
) -> None:
    """A real tmpfs of 64 KiB, filled up, or mounted read-only."""
    folder = tmp_path / "r"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this machine does not let root mount a tmpfs")
    try:
        if "ro" not in options:
            (folder / "ballast").write_bytes(b"0" * 60 * 1024)
        line = refusal("run", *SMOKE, "--datasets", "synthetic-bloodmnist", "--results", "r", cwd=tmp_path)
        assert reason in line
        left = [path for path in folder.rglob("*") if path.is_file() and path.name != "ballast"]
        assert not [path for path in left if path.name.startswith(".tmp") or "records" in path.parts]
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_plan_prints_states_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table's numbers and the summary line."""
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "results", Run("smoke", "resnet18_28", "breastmnist", 0))
    arguments = [*selection(models="resnet18_28"), "--seeds", "0-1"]
    result = CliRunner().invoke(app.app, arguments)
    assert result.exit_code == 0
    rows = json.loads(CliRunner().invoke(app.app, [*arguments, "--json"]).output)
    assert [row["state"] for row in rows] == ["done", "missing"]


@pytest.mark.parametrize("what", ["models", "datasets", "protocols", "studies"])
def test_list_is_readable_by_machines(what: str) -> None:
    """`--json` gives a list of objects with a name each."""
    result = CliRunner().invoke(app.app, ["list", what, "--json"])
    assert result.exit_code == 0
    rows = json.loads(result.output)
    assert rows
    assert all(row["name"] for row in rows)


def test_report_check_names_what_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 1 until the report is built, 0 after."""
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "results", Run("smoke", "resnet18_28", "breastmnist", 0))
    assert CliRunner().invoke(app.app, ["report", "--check"]).exit_code == 1
    assert CliRunner().invoke(app.app, ["report"]).exit_code == 0
    assert CliRunner().invoke(app.app, ["report", "--check"]).exit_code == 0
    assert CliRunner().invoke(app.app, ["verify", "--scores"]).exit_code == 0


NET = """
from torch import nn
from models import register_model


@register_model(paper="none", source="a test", code_license="MIT")
def {name}(*, num_classes, in_chans=3, img_size=64, pretrained=False):
    return nn.Sequential(nn.AdaptiveAvgPool2d({side}), nn.Flatten(), nn.Linear(in_chans * {side} ** 2, num_classes))
"""


def test_a_plugin_without_a_claimed_count_passes_the_check(tmp_path: Path) -> None:
    """What does not apply is skipped, and skipped is not failed."""
    (tmp_path / "unclaimed_net.py").write_text(NET.format(name="unclaimed_net", side=2), encoding="utf-8")
    result = CliRunner().invoke(app.app, ["check", str(tmp_path / "unclaimed_net.py"), "--json"])
    rows = json.loads(result.output)
    assert "skipped" in {row["holds"] for row in rows}
    assert "no" not in {row["holds"] for row in rows}
    assert result.exit_code == 0


def test_plugins_of_the_same_file_name_keep_their_own_code(tmp_path: Path) -> None:
    """Two folders, one file name, two models."""
    from models import create_model, load_plugin

    for folder, name, side in (("a", "same_file_one", 1), ("b", "same_file_two", 3)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "net.py").write_text(NET.format(name=name, side=side), encoding="utf-8")
        load_plugin(tmp_path / folder / "net.py")
    sizes = [create_model(name, num_classes=2)[-1].in_features for name in ("same_file_one", "same_file_two")]
    assert sizes == [3, 27]


def test_a_cell_is_text_and_not_markup() -> None:
    """`[run]` in a table is printed."""
    from bench.cli import console

    with console.out.capture() as captured:
        console.print_table("t", [{"detail": "install the extra [run]"}])
    assert "[run]" in captured.get()
