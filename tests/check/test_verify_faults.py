"""What somebody could plant in the real store, with fitting digests, is named by `medbench verify --scores`."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from bench.check import verify as checks
from bench.check.verify import Findings, verify
from bench.records.cost_record import read_costs
from bench.records.run_record import read_record, read_records
from tests.check import faults
from tests.check.faults import RESULTS, SEEDS, copy_store, reseal

Plant = Callable[[Path], Path]
FAULTS: dict[str, tuple[Plant, str]] = {
    "logits swapped between two models": (faults.swapped_logits, "val_auc in epoch"),
    "invented logits": (faults.invented_logits, "val_auc in epoch"),
    "invented logits without a history": (faults.not_trained, "a trained run without best_epoch, num_params, history"),
    "one seed's run again under another": (faults.copied_seed, "has the predictions of resnet18__breastmnist__lite-96"),
    "the same, written anew": (partial(faults.copied_seed, compression="gzip"), "has the predictions of resnet18"),
    "val and test swapped": (faults.swapped_splits, "labels beside the predictions are not the data set's"),
    "val and test swapped in the card too": (faults.swapped_splits_of_the_card, "val_auc in epoch"),
    "foreign data_md5": (lambda r: reseal(r, SEEDS[0], data_md5="0" * 32), "data_md5 is 0000"),
    "no data_md5": (lambda r: reseal(r, SEEDS[0], data_md5=None), "data_md5 is None"),
    "another best_epoch": (faults.other_epoch, "first highest val_auc is in epoch"),
    "no such best_epoch": (lambda r: reseal(r, SEEDS[0], best_epoch=999), "best_epoch is 999"),
    "reversed history": (faults.reversed_history, "epochs are not 0 .. 19 in this order"),
    "reversed history, epochs numbered anew": (
        partial(faults.reversed_history, kept=["epoch"]),
        "the history's lr in epoch 0",
    ),
    "a better epoch that was not kept": (faults.raised_epoch, "first highest val_auc is in epoch 19"),
    "edited resolved_protocol": (faults.edited_protocol, "resolved_protocol is not what protocol_digest"),
    "rules of another protocol": (faults.other_protocol, "resolved_protocol is 'paper-224-scratch'"),
    "num_params of a seed": (
        faults.edited_params,
        "num_params is 11177539, 2 other runs of the same kind have 11177538",
    ),
    "num_params of a cell": (faults.edited_cell, "num_params is 25,863,343, 23,524,424"),
    "logits rounded to float16": (faults.rounded_logits, "val_loss in epoch"),
    "test logits rounded to float16": (partial(faults.rounded_logits, splits=["test"]), "the test logits were rounded"),
    "changed code": (lambda r: reseal(r, SEEDS[0], dirty=True), "code that was changed after commit"),
    "scores of a failed run": (
        lambda r: reseal(r, SEEDS[0], status="failed", failure={"kind": "oom", "message": "none left"}),
        "status is 'failed', yet it has scores",
    ),
    "costs that are no sum": (partial(faults.changed_cost, num_trainable_params=1 << 40), "parameters are trainable"),
    "a model's name that is no path": (
        lambda r: faults.edit_json(r / faults.COST, model="../x") or r / faults.COST,
        "no usable model name",
    ),
    "torn costs": (partial(faults.written, name=faults.COST, content="{"), "no JSON"),
    "a torn timing": (partial(faults.written, name="timings/cpu/resnet18.json", content="{"), "no JSON"),
    "a torn re-run": (partial(faults.written, name="reruns/x.json", content="{}"), "schema_version is None"),
    "a torn row": (partial(faults.written, name="self_reported/x.json", content="[]"), "x.json"),
    "a torn declaration": (partial(faults.written, name="store.json", content='{"real_only": 1}'), "is damaged"),
    "a file that is no evidence": (partial(faults.written, name="costs/note.txt", content=""), "put there by hand"),
    "a card's count of labels": (
        partial(faults.changed_card, class_counts={"train": [147, 399], "val": [21, 57], "test": [43, 113]}),
        "class_counts of test are [43, 113], its labels give [42, 114]",
    ),
    "a card's images with twins": (
        partial(faults.changed_card, twin_test_indices=[], similarity=None),
        "twin_test_indices are not the test images of its twins",
    ),
    "a wider band": (faults.edited_bands, "auc of resnet18_28 on breastmnist is 0.775 to 0.927"),
    "lists in lists": (
        lambda r: faults.written(r, "records/lite-96/resnet18/breastmnist/seed0.json", "[" * 255 + "]" * 255),
        "nested too deeply",
    ),
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return copy_store(tmp_path / "results")


def named(findings: Findings, path: Path, fault: str) -> bool:
    return any(str(path) in problem and fault in problem for problem in findings.problems)


def test_the_copied_store_is_clean(store: Path) -> None:
    """What the faults are planted in has none."""
    findings = verify(store, scores=True)
    assert findings.problems == []
    assert findings.rescored == 5


def test_the_real_store_is_clean() -> None:
    """No false alarm on what was measured, some of it before the arithmetic was pinned."""
    findings = verify(RESULTS, scores=True)
    assert findings.problems == []
    assert findings.rescored == findings.counts["done"] > 0


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_named(store: Path, name: str) -> None:
    """The file and what is wrong with it."""
    plant, fault = FAULTS[name]
    path = plant(store)
    findings = verify(store, scores=True)
    assert named(findings, path, fault), findings.problems


def test_a_commit_that_is_not_here_is_named(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code that made it cannot be looked at; nothing is checked where there is no history."""
    path = reseal(store, SEEDS[0], commit="f" * 40)
    known = frozenset(item.commit for item in (*read_records(store)[0], *read_costs(store)[0])) - {"f" * 40}
    known |= {read_record(SEEDS[0].path(RESULTS)).commit}
    monkeypatch.setattr(checks, "ancestors", lambda: known)
    assert named(verify(store), path, "made by commit " + "f" * 40)
    assert len(verify(store).problems) == 1
    monkeypatch.setattr(checks, "ancestors", lambda: None)
    findings = verify(store)
    assert findings.problems == []
    assert "commits not looked up" in findings.summary()


def test_a_pipe_is_not_waited_for(store: Path) -> None:
    """What never ends is not opened."""
    for path in (SEEDS[0].path(store), store / faults.COST, store / "self_reported" / "pipe.json"):
        path.unlink(missing_ok=True)
        path.parent.mkdir(exist_ok=True)
        os.mkfifo(path)
        assert named(verify(store, scores=True), path, "no regular file")
        path.unlink()
