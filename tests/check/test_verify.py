"""Verification: every planted fault is detected, and nothing else."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.check.store.evidence import evidence_problems, read_measured
from bench.check.verify import verify
from bench.errors import RecordError
from bench.records.card import card_path, read_card
from bench.records.names import Run, history_path, predictions_path
from bench.records.predictions import frame_bytes, read_predictions
from bench.records.run_record import Record
from bench.records.scoring import score_predictions
from bench.records.sealed import pretty, write_sealed
from bench.records.timing_record import Round, TimingCell, core_settings, timing_path
from models.catalog import fingerprint, get_spec
from tests.making import make_run, make_timing

RUNS = [Run("smoke", "resnet18_28", "breastmnist", seed) for seed in range(3)]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for run in RUNS:
        make_run(tmp_path, run)
    make_run(tmp_path, Run("smoke", "resnet18_28", "synthetic-organcmnist", 0), num_classes=11)
    return tmp_path


def reseal(path: Path, **changes: object) -> None:
    """Change a record and give it a fitting digest: what a careful forger would do."""
    record = Record.model_validate({**json.loads(path.read_bytes()), **changes, "record_digest": ""})
    path.write_bytes(pretty(record.sealed().model_dump(mode="json")))


def test_a_timing_s_problem_is_named_under_its_own_file(tmp_path: Path) -> None:
    """The scan that was requested has a record of its own, beside the usual one."""
    empty = Round(index=0, status="done")  # without a block
    (setting,) = core_settings("cuda", 28, (1,))[:1]
    spec = get_spec("medmamba_t")
    made = {"model_fingerprint": fingerprint(spec), "scan_backend": "torch"}
    for scan, rounds in (("auto", []), ("torch", [empty])):
        timing = make_timing("medmamba_t", "cpu: a", [TimingCell(setting=setting, rounds=rounds)], **made)
        write_sealed(timing_path(tmp_path, "cpu: a", "medmamba_t", scan), timing)
    problems, _ = evidence_problems(tmp_path, read_measured(tmp_path), {}, {}, {})
    path = timing_path(tmp_path, "cpu: a", "medmamba_t", "torch")
    assert problems == [f"{path}: {setting.label()}: a finished round without times"]


def test_whole_results_have_no_problem(results: Path) -> None:
    """What the suite wrote verifies, scores included."""
    findings = verify(results, scores=True)
    assert findings.problems == []
    assert findings.rescored == 4
    assert "4 records (4 done)" in findings.summary()


def test_a_changed_score_is_found_by_re_scoring(results: Path) -> None:
    """A forged number with a fitting digest passes the digest and fails the predictions."""
    path = RUNS[0].path(results)
    test = json.loads(path.read_bytes())["test"]
    reseal(path, test={**test, "auc": test["auc"] + 1e-9})
    assert verify(results).problems == []
    (problem,) = verify(results, scores=True).problems
    assert "test auc is" in problem
    assert "seed0.json" in problem


def test_changed_predictions_are_found(results: Path) -> None:
    """The file is not the one that the record was written with."""
    path = predictions_path(RUNS[1].path(results))
    table = pd.read_parquet(path)
    table.loc[0, "logit_0"] += 1.0
    path.write_bytes(frame_bytes(table))
    (problem,) = verify(results).problems
    assert "seed1.predictions.parquet is not the file" in problem


def test_permuted_indices_are_found(results: Path) -> None:
    """Every image's scores under another image's number: the labels in index order are not the data set's."""
    path = RUNS[1].path(results)
    table = pd.read_parquet(predictions_path(path))
    is_test = table["split"] == "test"
    table.loc[is_test, "index"] = np.roll(table.loc[is_test, "index"].to_numpy(), 1)
    content = frame_bytes(table)
    predictions_path(path).write_bytes(content)
    card = read_card(results, RUNS[1].dataset)
    assert card is not None
    again = score_predictions(read_predictions(content), card)
    reseal(path, **again, predictions_sha256=hashlib.sha256(content).hexdigest())
    (problem,) = verify(results, scores=True).problems
    assert "the test labels beside the predictions are not the data set's" in problem


def test_what_was_not_scored_is_not_counted_as_scored(results: Path) -> None:
    """A missing card; a file with a name that no run has."""
    card_path(results, RUNS[0].dataset).unlink()
    (RUNS[0].path(results).parent / "extra.json").write_text("{}", encoding="utf-8")
    findings = verify(results, scores=True)
    assert findings.rescored == sum(run.dataset != RUNS[0].dataset for run in RUNS) + 1
    assert [problem for problem in findings.problems if "extra.json: no run's record has this name" in problem]


def test_shuffled_test_order_is_found(results: Path) -> None:
    """Labels in another order are not the data set's, even where record and file fit each other."""
    path = RUNS[1].path(results)
    table = pd.read_parquet(predictions_path(path))
    test = table[table["split"] == "test"].iloc[::-1].assign(index=range(24))
    content = frame_bytes(pd.concat([table[table["split"] == "val"], test], ignore_index=True))
    predictions_path(path).write_bytes(content)
    reseal(path, predictions_sha256=hashlib.sha256(content).hexdigest())
    (problem,) = verify(results, scores=True).problems
    assert "labels beside the predictions are not the data set's" in problem


def test_missing_files_and_orphans_are_found(results: Path) -> None:
    """A record without its table, a table without its record, a left temporary file."""
    history_path(RUNS[0].path(results)).unlink()
    RUNS[1].path(results).unlink()
    RUNS[2].path(results).with_name(".tmp-1-seed2.json").write_bytes(b"")
    problems = verify(results).problems
    assert any("seed0.history.parquet: No such file" in problem for problem in problems)
    assert sum("no record beside it" in problem for problem in problems) == 2
    assert any("left by a killed writer" in problem for problem in problems)


def test_a_synthetic_record_in_a_real_store_is_found(results: Path) -> None:
    """Somebody copied it there by hand."""
    (results / "store.json").write_text('{"real_only": true}', encoding="utf-8")
    (problem,) = verify(results).problems
    assert "synthetic record in a store of real ones" in problem


def test_a_real_name_on_a_synthetic_record_is_found(results: Path) -> None:
    """`synthetic: false` does not make a stand-in real."""
    reseal(Run("smoke", "resnet18_28", "synthetic-organcmnist", 0).path(results), synthetic=False)
    (problem,) = verify(results).problems
    assert "synthetic does not fit" in problem


def test_a_stale_record_is_told_but_is_no_damage(results: Path) -> None:
    """Old code makes a record stale, not wrong."""
    reseal(RUNS[0].path(results), model_fingerprint="1" * 64)
    findings = verify(results)
    assert findings.problems == []
    assert len(findings.stale) == 1
    assert "1 stale" in findings.summary()


def test_columns_that_are_missing_are_one_clear_line(results: Path) -> None:
    """A table of another form is a finding, not a crash."""
    path = RUNS[0].path(results)
    buffer = io.BytesIO()
    pd.DataFrame({"split": ["val"], "label": [0]}).to_parquet(buffer)
    predictions_path(path).write_bytes(buffer.getvalue())
    reseal(path, predictions_sha256=hashlib.sha256(buffer.getvalue()).hexdigest())
    (problem,) = verify(results, scores=True).problems
    assert "seed0.json" in problem


def test_no_folder_is_a_clear_error(tmp_path: Path) -> None:
    """The path that came, and what to give."""
    with pytest.raises(RecordError, match="no results folder"):
        verify(tmp_path / "nothing")
