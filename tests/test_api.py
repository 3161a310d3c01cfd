"""The public face: what a notebook may use."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import bench
from bench import api
from bench.cli.app import app
from bench.errors import BenchError, RecordError
from bench.machine.cpu_isa import CpuIsa
from bench.records.names import Run, predictions_path
from bench.records.run_record import read_records
from bench.runs.tracks.late import Scored
from tests.making import make_run

UNTYPED: Any = api  # as a notebook calls it
FITTED = api.Selection(protocols=("smoke",), models=("floor/prior",), datasets=("synthetic-breastmnist",))


@pytest.fixture
def one_run(tmp_path: Path) -> tuple[Path, Run]:
    """A folder that holds one finished run."""
    return tmp_path, make_run(tmp_path, Run("lite-96", "resnet18", "breastmnist", 0)).run


def _modules(code: str) -> set[str]:
    """Modules that a new process has loaded after some code."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(done.stdout.split())


def test_importing_bench_loads_nothing_heavy() -> None:
    """Neither numpy nor pandas for the version; no torch for the whole face."""
    assert not _modules("import bench; bench.__version__") & {"numpy", "pandas", "pydantic", "bench.api", "torch"}
    assert not _modules("import bench.api") & {"torch", "timm", "medmnist", "pandas"}


def test_every_name_is_there_and_documented() -> None:
    """What `__all__` promises, with a docstring; `bench` hands on the same objects."""
    for name in api.__all__:
        assert getattr(api, name).__doc__, name
    for name in set(bench.__all__) - {"__version__"}:
        assert getattr(bench, name) is getattr(api, name)
    assert set(api.__all__) - set(bench.__all__) == {"plan", "report"}


def test_the_rooms_keep_their_names() -> None:
    """`bench.plan` and `bench.report` are subpackages, whatever was imported first."""
    code = "import bench; bench.load_results; from bench import plan, report; print(plan.__name__, report.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["bench.plan", "bench.report"]


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="no_such_name"):
        bench.no_such_name  # noqa: B018


def test_the_package_is_marked_as_typed() -> None:
    """A type checker reads the annotations of both packages."""
    for package in ("bench", "models"):
        assert (Path(__file__).parents[1] / package / "py.typed").is_file()


def test_results_that_are_not_there_are_an_error(tmp_path: Path) -> None:
    """One line, with the sibling that was meant; an empty table would be taken for no results."""
    (tmp_path / "results" / "records").mkdir(parents=True)
    with pytest.raises(BenchError, match=r"There is no results folder .*resluts; did you mean 'results'\?$"):
        api.load_results(tmp_path / "resluts")
    with pytest.raises(BenchError, match=r"There is no results folder \S*/elsewhere/mine$"):
        api.load_results(tmp_path / "elsewhere" / "mine")
    with pytest.raises(BenchError, match="holds no records/"):
        api.load_results(tmp_path)
    assert len(api.load_results(tmp_path / "results")) == 0


def test_predictions_come_with_their_record(one_run: tuple[Path, Run]) -> None:
    """By id, run or record; one row an image of val and test."""
    results, run = one_run
    table = api.load_predictions(run.run_id, results)
    assert table["split"].value_counts().to_dict() == {"val": 12, "test": 24}
    assert table.equals(api.load_predictions(run, str(results)))
    assert table.equals(api.load_predictions(read_records(results)[0][0], results))


def test_an_unknown_run_is_named_with_the_closest(one_run: tuple[Path, Run]) -> None:
    """One line, with the id that was meant."""
    results, run = one_run
    for wrong in (f"x{run.run_id}", run.run_id.replace("__", "_")):
        with pytest.raises(RecordError, match=f"no record of '{wrong}'; did you mean '{run.run_id}'"):
            api.load_predictions(wrong, results)


def test_other_predictions_than_the_sealed_ones_are_refused(one_run: tuple[Path, Run]) -> None:
    """What is returned is what the record was scored on."""
    results, run = one_run
    file = predictions_path(run.path(results))
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(RecordError, match="not the file that the record was sealed with"):
        api.load_predictions(run.run_id, results)


def test_a_selection_is_planned_without_a_results_folder(tmp_path: Path) -> None:
    """Every run is missing, and planning leaves nothing."""
    (item,) = api.plan(FITTED, tmp_path / "none")
    assert (item.run.model, item.state) == ("floor/prior", "missing")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (api.Selection(), "Nothing is selected: give --study, or --protocol, --models, --datasets too"),
        (api.Selection(study="lite", seeds=(1,)), "--study names its own"),
        (api.Selection(protocols=("smoke",), models=("zz*",), datasets=("breastmnist",)), "matches no model"),
    ],
)
def test_a_selection_that_means_nothing_is_refused(selection: api.Selection, message: str) -> None:
    """One line that says what would do."""
    with pytest.raises(BenchError, match=message):
        selection.runs()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UNTYPED.Selection(models="resnet18"), r"models is the text 'resnet18'; give a tuple, \('resnet18',\)"),
        (lambda: api.Selection(seeds=(0, -1)), "seed -1 is refused; give whole numbers from 0 to 4,294,967,295"),
        (lambda: UNTYPED.Selection(seeds=(1.5,)), "seed 1.5 is refused"),
        (lambda: UNTYPED.Launch(engine="spark"), "engine 'spark' is unknown; known: local, ray"),
        (lambda: UNTYPED.Launch(cpu_isa="avx9"), "cpu_isa 'avx9' is unknown; known: avx2, avx512, native"),
        (lambda: api.Launch(jobs=-1), "jobs -1 is refused"),
        (lambda: api.Launch(timeout=0), "timeout 0 is refused"),
        (
            lambda: api.run(FITTED, api.Launch(), overwrite="alway"),
            "overwrite 'alway' is unknown; did you mean 'always'",
        ),
    ],
)
def test_what_a_command_would_refuse_is_refused_from_python(
    make: Callable[[], object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, before anything is looked up or run."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BenchError, match=message):
        make()
    assert list(tmp_path.iterdir()) == []


def test_text_from_a_notebook_is_taken_where_it_can_mean_one_thing() -> None:
    """The name of an instruction set, and the path of a plugin."""
    assert UNTYPED.Launch(cpu_isa="native").cpu_isa is CpuIsa.native
    assert UNTYPED.Selection(plugins=("net.py",)).plugins == (Path("net.py"),)


def test_a_shell_pattern_stands_for_what_it_matches_and_a_shard_for_its_part() -> None:
    """Two shards are together the whole selection."""
    chosen = {"protocols": ("smoke",), "models": ("floor/*",), "datasets": ("synthetic-breastmnist",)}
    whole = api.Selection(**chosen).runs()
    assert len(whole) > 1
    parts = [api.Selection(**chosen, shard=f"{index}/2").runs() for index in (1, 2)]
    assert sorted(parts[0] + parts[1]) == sorted(whole)


@pytest.mark.parametrize("by_command", [True, False])
def test_a_track_takes_weights_from_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_command: bool
) -> None:
    """A shell leaves `~` alone behind `=`: without it runs would be trained again, into a folder called `~`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    given: list[Path | None] = []

    def score_selection(*_: object, weights: Path | None, **__: object) -> Scored:
        given.append(weights)
        return Scored()

    monkeypatch.setattr("bench.runs.tracks.late.score_selection", score_selection)
    if by_command:
        chosen = ["--protocol", "smoke", "--models", "floor/prior", "--datasets", "synthetic-breastmnist"]
        done = CliRunner().invoke(app, ["track", "--weights=~/kept", *chosen])
        assert done.exit_code == 0, done.output
    else:
        api.track(FITTED, api.Launch(results=tmp_path), weights="~/kept")
        api.track(FITTED, api.Launch(results=tmp_path))
    assert given == [tmp_path / "kept", None][: len(given)]


def test_a_run_from_python_is_the_commands_run(tmp_path: Path) -> None:
    """Planned, done once, loaded; a second call has nothing to do."""
    launch = api.Launch(results=tmp_path / "mine")
    outcome = api.run(FITTED, launch)
    assert outcome.ok
    assert [record.status for record in outcome.records] == ["done"]
    assert api.load_results(tmp_path / "mine")["run_id"].tolist() == [FITTED.runs()[0].run_id]
    assert api.verify(tmp_path / "mine", scores=True).problems == []
    again = api.run(FITTED, launch)
    assert (again.records, again.ok) == ([], True)
    assert [row.verdict for row in api.compare(tmp_path / "mine", tmp_path / "mine").rows] == ["bit-equal"]


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("plan --protocol smoke --models floor/prior --datasets synthetic-breastmnist", "plan"),
        ("run --protocol smoke --models floor/prior --datasets synthetic-breastmnist", "run"),
        ("merge a b", "merge"),
        ("report", "report"),
        ("report --check", "check_report"),
        ("report --against a", "changes"),
        ("verify", "verify"),
        ("compare a b", "compare"),
        ("explain table2 --model resnet18 --dataset breastmnist", "explain"),
        ("check resnet18", "check_model"),
        ("doctor", "doctor"),
    ],
)
def test_a_command_calls_the_function_of_the_public_face(
    command: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the command line can do, a notebook can, by the same function."""

    def called(*_: object, **__: object) -> None:
        raise BenchError(name)

    monkeypatch.setattr(api, name, called)
    error = CliRunner().invoke(app, command.split()).exception
    assert isinstance(error, BenchError)
    assert str(error) == name
