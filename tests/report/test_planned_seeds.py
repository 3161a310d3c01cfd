"""Dropping a bad seed or adding a good one shows: the mean is of the planned seeds, the rest is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.records.names import Run
from bench.report.analysis.analyse import analyse
from bench.report.contents import render
from bench.report.evidence import gather
from bench.report.tables import table3
from bench.report.tables.missing import lost_seeds
from bench.report.tidy import seeds_text
from tests.making import make_run

PLANNED = [Run("lite-96", "resnet18", "breastmnist", seed) for seed in (0, 1)]
EXTRA = Run("lite-96", "resnet18", "breastmnist", 97)
FITTED = Run("lite-96", "floor/prior", "breastmnist", 0)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seeds") / "results"
    for run in (*PLANNED, FITTED):
        make_run(folder, run)
    make_run(folder, EXTRA, dirty=True, commit="c" * 40)
    return folder


def test_a_seed_that_is_not_planned_is_in_no_mean(results: Path) -> None:
    """The cell is that of the planned seeds; the other one is noted."""
    evidence = gather(results)
    scores = analyse(evidence, synthetic=False).scores
    (run_ids,) = {score.run_ids for score in scores if score.model == "resnet18"}
    assert run_ids == tuple(run.run_id for run in PLANNED)
    assert [record.run_id for record in evidence.unplanned] == [EXTRA.run_id]
    assert any(f"{EXTRA.run_id}: no study plans seed 97" in note for note in evidence.notes)


def test_missing_and_extra_seeds_are_named(results: Path) -> None:
    """A planned one that nobody ran, and the scores of one that nobody planned; what is fitted lacks none."""
    missing, extra = (item.line for item in lost_seeds(gather(results), "lite-96", ["resnet18", "floor/prior"]))
    assert missing == "BreastMNIST: seed 2 not run (ResNet-18)"
    assert extra.startswith("BreastMNIST: ResNet-18, seed 97: no study plans it, in no mean: AUC 0.")


def test_the_number_of_seeds_says_how_many_are_planned(results: Path) -> None:
    """Beside the cell, in the table and on the page."""
    evidence = gather(results)
    page = table3.render(evidence, analyse(evidence, synthetic=False), synthetic=False)["table3.md"].decode()
    assert "| ResNet-18 " in page
    assert " 2 of 3 |" in page
    assert "- BreastMNIST: seed 2 not run (ResNet-18)" in page
    assert seeds_text("lite-96", "floor/prior", "breastmnist", 1) == "1"
    assert seeds_text("smoke", "resnet18", "breastmnist", 1) == "1"


@pytest.mark.slow
def test_the_page_and_the_table_of_runs_hold_both(results: Path) -> None:
    """Nothing that was run vanishes."""
    content = render(results)
    assert b"seed 97: no study plans it" in content.pages["datasets/breastmnist.html"]
    assert b"2 of 3" in content.pages["datasets/breastmnist.html"]
    row = next(line for line in content.tables["runs.csv"].decode().splitlines() if EXTRA.run_id in line)
    assert ",done,no study plans the seed," in row
    assert EXTRA.run_id not in content.tables["scores.csv"].decode()


def test_changed_code_shows_in_every_table_that_uses_it(tmp_path: Path) -> None:
    """The run and the commit that it is not."""
    make_run(tmp_path, PLANNED[0], dirty=True, commit="c" * 40)
    evidence = gather(tmp_path)
    page = table3.render(evidence, analyse(evidence, synthetic=False), synthetic=False)["table3.md"].decode()
    assert "Made by code that was changed after commit cccccccccccc: resnet18" in page
