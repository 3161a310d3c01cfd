"""Somebody else's model: a report knows of it what its records say, whether its file is here or not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.check.contribution import check_contribution
from bench.check.verify import verify
from bench.records.cost_record import CostCell, CostRecord, recorded
from bench.records.names import Run
from bench.records.sealed import read_sealed, write_sealed
from bench.records.timing_record import timing_path
from bench.report import build
from bench.report.evidence import gather
from models import catalog, load_plugin
from models.catalog import fingerprint, get_spec
from tests.making import make_run, make_timing
from tests.measure.timings import cell

OWN = Path(__file__).parents[2] / "results"
DEVICE = "cpu: one, 1 thread"
CODE = '''"""Their net."""
from models import register_model


@register_model(num_params=1000, min_size=64, published="1 M in the paper", differs="no dropout", kind="network")
def their_net(**sizes):
    return None
'''
Load = Callable[[str], None]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Register the net from a file with some code; "" forgets it again."""

    def change(code: str) -> None:
        monkeypatch.setattr(catalog, "_plugins", {})
        if code:
            (tmp_path / "their_net.py").write_text(code, encoding="utf-8")
            load_plugin(tmp_path / "their_net.py")

    return change


@pytest.fixture
def results(tmp_path: Path, load: Load) -> Path:
    """The suite's models on Breast, and the net with two seeds, a failed run, costs and timings."""
    folder = tmp_path / "results"
    for name in ("medspectralnet", "resnet18", "floor/prior"):
        make_run(folder, Run("lite-96", name, "breastmnist", 0))
    load(CODE)
    for seed in (0, 1):
        make_run(folder, Run("lite-96", "their_net", "breastmnist", seed))
    failure = {"kind": "oom", "message": "out of memory"}
    make_run(folder, Run("lite-96", "their_net", "pneumoniamnist", 0), status="failed", failure=failure, test=None)
    print_ = fingerprint(get_spec("their_net"))
    cost = read_sealed(CostCell("resnet18", 224, 8).path(OWN), CostRecord)
    cost = cost.model_copy(update={"model": "their_net", "model_fingerprint": print_})
    write_sealed(CostCell("their_net", 224, 8).path(folder), cost)
    timing = make_timing("their_net", DEVICE, [cell([[1.0, 1.1]], img_size=224)], model_fingerprint=print_)
    write_sealed(timing_path(folder, DEVICE, "their_net"), timing)
    load("")
    return folder


def written(results: Path, reports: Path) -> dict[str, bytes]:
    """Every generated file by its path, and the notes that a person gets."""
    built = build(results, reports)
    files = {
        path.name if path.parent.name == "tables" else str(path.relative_to(reports)): path for path in built.files
    }
    return {name: path.read_bytes() for name, path in files.items()} | {"notes": "\n".join(built.notes).encode()}


def test_a_report_is_the_same_with_the_plugin_and_without(results: Path, tmp_path: Path, load: Load) -> None:
    """Rows, counts, timings and reasons of its runs, byte for byte; with another version of its code, too."""
    without = written(results, tmp_path / "a" / "reports")
    assert b"their_net" in without["index.html"]
    assert b"their_net" in without["table3.md"]
    assert b"| their_net " in without["table4.md"]
    assert b"their_net" in without["timings.csv"]
    notes = without.pop("notes").decode()
    assert "not checked for staleness: 2 runs of the model their_net on breastmnist" in notes
    for code in (CODE, CODE.replace("return None", "return 1")):
        load(code)
        shutil.rmtree(results / ".cache")
        given = written(results, tmp_path / "a" / "reports")
        notes = given.pop("notes").decode()
        assert given == without
        stale = "counted all the same: their_net__breastmnist__lite-96__s0: the model's code"
        assert (stale in notes) == (code != CODE)


def test_runs_of_two_versions_of_its_code_count_in_no_mean(results: Path, load: Load) -> None:
    """Which of them is meant nobody can tell, so verify, the report and a contribution say so."""
    base = results.parent / "base"
    shutil.copytree(results, base)
    load(CODE.replace("return None", "return 1"))
    make_run(results, Run("lite-96", "their_net", "breastmnist", 2))
    load("")
    evidence = gather(results)
    assert {record.model for record in evidence.records} == {"medspectralnet", "resnet18", "floor/prior"}
    assert {record.seed for record, reason in evidence.stale if "2 versions of its code" in reason} == {0, 1, 2}
    assert len([line for line in verify(results).stale if "their_net" in line and "2 versions" in line]) == 3
    problems = check_contribution(results, base).problems
    assert len(problems) == 1
    assert "seed2.json: their_net stands for 2 versions of its code; give new code a new model name" in problems[0]


def test_costs_of_other_code_than_the_runs_are_left_out(results: Path, load: Load) -> None:
    """One model, one code: a count of another version is no count of what was trained."""
    path = CostCell("their_net", 224, 8).path(results)
    write_sealed(path, read_sealed(path, CostRecord).model_copy(update={"model_fingerprint": "0" * 64}))
    costs, notes = gather(results).costs
    assert costs == []
    assert [note for note in notes if "their_net" in note and "other code than its runs" in note]


def test_to_measure_again_looks_at_the_plugin_that_is_loaded(results: Path, load: Load) -> None:
    """A count of its older code is not taken for one of today's."""
    load(CODE)
    assert recorded(CostCell("their_net", 224, 8), results) is not None
    load(CODE.replace("return None", "return 1"))
    assert recorded(CostCell("their_net", 224, 8), results) is None


def test_a_contribution_of_an_unknown_model_asks_for_its_code(results: Path, tmp_path: Path) -> None:
    """It passes with a notice: nobody can run it again without the file."""
    base = tmp_path / "base"
    shutil.copytree(results, base)
    shutil.rmtree(base / "records" / "lite-96" / "their_net")
    contribution = check_contribution(results, base)
    assert contribution.problems == []
    assert "their_net: 2 files of a model that is not the suite's; ask for its code" in contribution.notices


def test_its_figures_can_be_drawn_without_its_file(results: Path, tmp_path: Path) -> None:
    """`--figures-for` takes what has a record, and refuses what nobody knows."""
    built = build(results, tmp_path / "reports", ("their_net",))
    assert [path for path in built.files if "their_net" in path.name]
    index = (tmp_path / "reports" / "models" / "index.html").read_text(encoding="utf-8")
    assert '<a href="../models/their_net.html">their_net</a>' in index
    wrong: dict[str, Any] = {"models": ("their_nut",)}
    with pytest.raises(catalog.ModelError, match="Unknown model 'their_nut'"):
        build(results, tmp_path / "other", **wrong)
