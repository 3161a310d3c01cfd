"""Reports: a pure function of the records; nothing false enters a table."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
import pytest

from bench.records import Run
from bench.report import build, compare, render
from tests.making import make_run

REAL = [Run("smoke", "resnet18_28", "breastmnist", seed) for seed in (0, 1)]
FLOOR = Run("smoke", "floor/prior", "breastmnist", 0)
MADE = Run("smoke", "resnet18_28", "synthetic-breastmnist", 0)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    for run in (*REAL, FLOOR, MADE):
        make_run(folder, run)
    return folder


def test_the_same_records_give_the_same_bytes(results: Path, tmp_path: Path) -> None:
    """Building twice changes nothing and `--check` agrees; line one names command, version and digest."""
    written, notes = build(results, tmp_path / "reports")
    before = {path: path.read_bytes() for path in written}
    build(results, tmp_path / "reports")
    assert before == {path: path.read_bytes() for path in written}
    assert compare(results, tmp_path / "reports") == []
    assert notes == []
    first = (tmp_path / "reports" / "table3.md").read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("<!-- medbench report | medspectral-bench ")
    assert "3 records" in first


def test_check_names_what_differs(results: Path, tmp_path: Path) -> None:
    """A touched table, a missing one and one that no record gives."""
    reports = tmp_path / "reports"
    build(results, reports)
    (results / "tables" / "scores.csv").write_text("changed", encoding="utf-8")
    (reports / "table3.md").unlink()
    (reports / "old.md").write_text("<!-- medbench report | old -->", encoding="utf-8")
    (reports / "notes.txt").write_text("a person's file", encoding="utf-8")
    wrong = compare(results, reports)
    assert len(wrong) == 3
    assert {Path(line.split(":")[0]).name for line in wrong} == {"scores.csv", "table3.md", "old.md"}
    build(results, reports)
    assert compare(results, reports) == []
    assert (reports / "notes.txt").exists()


def test_scores_are_one_measurement_a_row_with_all_digits(results: Path) -> None:
    """A reader of the CSV gets the record's number back."""
    tables, _, _ = render(results)
    frame = pd.read_csv(io.BytesIO(tables["scores.csv"]))
    assert list(frame.columns) == ["protocol", "model", "dataset", "seed", "part", "metric", "value", "run_id"]
    record = json.loads(REAL[0].path(results).read_bytes())
    chosen = frame[(frame["run_id"] == record["run_id"]) & (frame["part"] == "test") & (frame["metric"] == "auc")]
    assert chosen["value"].tolist() == [record["test"]["auc"]]


def test_synthetic_never_meets_real(results: Path) -> None:
    """Synthetic records have stamped tables of their own; the real tables do not know them."""
    tables, pages, _ = render(results)
    for name, content in {**tables, **pages}.items():
        if name.startswith("SYNTHETIC_"):
            assert b"synthetic-breastmnist" in content
            if name.endswith(".md"):
                assert content.decode().count("SYNTHETIC") >= 2
            if name == "SYNTHETIC_table3.csv":
                assert content.startswith(b"# SYNTHETIC")
        else:
            assert b"synthetic" not in content, name
    assert {"SYNTHETIC_table3.md", "SYNTHETIC_table3.csv"} <= set(pages)
    assert {"SYNTHETIC_scores.csv", "SYNTHETIC_runs.csv"} <= set(tables)


def test_a_stale_record_enters_no_table_unnoticed(results: Path) -> None:
    """It is left out and named."""
    make_run(results, REAL[1], model_fingerprint="1" * 64)
    tables, pages, notes = render(results)
    assert REAL[1].run_id.encode() not in tables["scores.csv"]
    assert "(n=2)" not in pages["table3.md"].decode()
    assert [REAL[1].run_id in note and "stale" in note for note in notes] == [True]


def test_a_damaged_record_is_left_out_and_named(results: Path) -> None:
    """The others' tables go on without it."""
    REAL[0].path(results).write_bytes(b"{")
    tables, _, notes = render(results)
    assert REAL[0].run_id.encode() not in tables["scores.csv"]
    assert REAL[1].run_id.encode() in tables["scores.csv"]
    assert len(notes) == 1
    assert "seed0.json" in notes[0]
