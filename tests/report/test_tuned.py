"""Tuned runs have a table of their own: beside the recipe that they started from, and in no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.protocols import loading
from bench.records.names import Run
from bench.records.tracks.record import track_path
from bench.records.tuning.record import tuning_path
from bench.report.contents import render
from tests.making import make_skilled
from tests.sweeps import make_sweep, smoke_grid

MODELS = ("resnet18_28", "timm/resnet26")
SEEDS = (0, 1)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models, two seeds each, under the base and under what was chosen for each."""
    folder, grid = tmp_path / "mine", smoke_grid(tmp_path)
    for model in MODELS:
        chosen = make_sweep(folder, grid, model).chosen
        monkeypatch.setitem(loading._by_path, chosen.name, chosen)
        for seed in SEEDS:
            make_skilled(folder, Run("smoke", model, "breastmnist", seed), 0.5)
            make_skilled(folder, Run(chosen.name, model, "breastmnist", seed), 2.0)
    return folder


def _texts(results: Path) -> dict[str, str]:
    content = render(results)
    return {name: text.decode(errors="replace") for name, text in (content.pages | content.tables).items()}


def test_a_row_a_model_beside_the_base(results: Path) -> None:
    """Both means with their difference, the choice and what it cost; the page's rows are those of its CSV."""
    pages = _texts(results)
    page = pages["tuned.md"]
    table = page.partition("official test")[2]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    shown = [row for row in rows if row[1:2] == ["smoke"]]  # both parts of the test, each in the models' order
    assert len(shown) == 2 * len(MODELS)
    for model, cells in zip(MODELS, shown, strict=False):
        assert f"{model}, breastmnist: optim.lr = 0.001; val_auc 0.900; 4 trials, 0 diverged, 6 epochs" in page
        assert cells[1:4] == ["smoke", "2", "2"]
        tuned, base = (float(cells[place].lstrip("[")[:5]) for place in (4, 6))
        assert tuned > base
        assert float(cells[7]) == pytest.approx(tuned - base, abs=0.0011)
    assert "tuned-lrs-resnet18-28-breastmnist,resnet18_28,breastmnist,test,auc,2" in pages["tuned.csv"]


def test_tuned_rows_stand_nowhere_else(results: Path) -> None:
    """Table 3 compares models under one recipe; the tidy tables of all runs name the protocol."""
    pages = _texts(results)
    named = {name for name, text in pages.items() if "tuned-lrs" in text}
    assert {"tuned.md", "tuned.csv", "scores.csv", "runs.csv"} <= named
    assert named <= {"tuned.md", "tuned.csv", "tuned.tex", "tuned.html", "scores.csv", "runs.csv"}
    assert "Protocol `smoke`" in pages["table3.md"]


def test_without_tuned_runs_there_is_no_table(tmp_path: Path) -> None:
    """Nor a sentence about one."""
    make_skilled(tmp_path / "mine", Run("smoke", MODELS[0], "breastmnist", 0), 1.0)
    assert not [name for name, text in _texts(tmp_path / "mine").items() if "tuned" in name or "medbench tune" in text]


def test_a_sweep_that_is_not_here_is_named(results: Path) -> None:
    """The runs stand by the rules that they hold; where the choice came from cannot be shown."""
    tuning_path(results, "lrs", MODELS[0], "breastmnist").unlink()
    page = _texts(results)["tuned.md"]
    assert f"{MODELS[0]}, breastmnist: the sweep over lrs is not here" in page
    assert f"{MODELS[1]}, breastmnist: optim.lr" in page


def test_what_both_analyses_leave_out_is_noted_once(results: Path) -> None:
    """A damaged track record is read for Table 3's runs and for tuned ones, and is one line."""
    path = track_path(results, "c28", Run("smoke", MODELS[0], "breastmnist", 0))
    path.parent.mkdir(parents=True)
    path.write_text("{", encoding="utf-8")
    (note,) = [note for note in render(results).notes if str(path) in note]
    assert "no JSON" in note
