"""Trust levels: decided by the evidence that stands, never by who sent it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from bench.check.compare.folders import compare_folders
from bench.check.trust import (
    MEANING,
    MEASURED,
    UNSEEN,
    Rerun,
    read_reruns,
    read_self_reported,
    rerun_path,
    trust_of_cell,
)
from bench.check.verify import verify
from bench.errors import RecordError
from bench.records.card import write_card
from bench.records.names import Run, predictions_path
from bench.records.sealed import canonical, pretty, write_atomic
from bench.report.analysis.analyse import analyse
from bench.report.evidence import gather
from bench.report.site.rows import entries
from tests.making import make_card, make_record, make_rerun, make_run

RUN = Run("smoke", "resnet18_28", "breastmnist", 0)
ROW = {
    "model": "SomeNet",
    "dataset": "breastmnist",
    "protocol": "224 px, 100 epochs, by its authors",
    "acc": 0.9,
    "source_url": "https://example.org/somenet",
    "author": "A. Person",
    "date": "2026-05-01",
}


def level(results: Path) -> str:
    """Of the one cell of a store, as the pages show it."""
    evidence = gather(results)
    analysis = analyse(evidence, synthetic=False)
    (entry,) = entries(evidence, analysis, read_reruns(results)[0], synthetic=False)
    return entry.trust.level


NUMBERS: dict[str, dict[str, Any]] = {  # verdict -> what it can rest on
    "bit-equal": {
        "auc_difference": 0.0,
        "auc_interval_90": [0.0, 0.0],
        "acc_difference": 0.0,
        "acc_interval_90": [0.0, 0.0],
    },
    "equivalent": {
        "auc_difference": 0.001,
        "auc_interval_90": [-0.009, 0.011],
        "acc_difference": 0.0,
        "acc_interval_90": [-0.01, 0.01],
        "auc_p": 0.5,
        "mcnemar_p": 1.0,
    },
    "not told apart": {
        "auc_difference": 0.01,
        "auc_interval_90": [-0.01, 0.03],
        "acc_difference": 0.0,
        "acc_interval_90": [-0.05, 0.05],
        "auc_p": 0.4,
        "mcnemar_p": 1.0,
    },
    "differs": {
        "auc_difference": 0.1,
        "auc_interval_90": [0.08, 0.12],
        "acc_difference": 0.0,
        "acc_interval_90": [-0.05, 0.05],
        "auc_p": 0.001,
        "mcnemar_p": 1.0,
    },
}


def make_evidence(results: Path, digest: str, verdict: str, **changes: Any) -> None:
    rerun: dict[str, Any] = dict.fromkeys(Rerun.model_fields)
    rerun |= {"schema_version": 1, "record_digest": "", "suite_version": "0.1.0", "run_id": RUN.run_id}
    rerun |= {"reference_digest": digest, "rerun_digest": "2" * 64, "verdict": verdict, "reason": ""}
    rerun |= {
        "rerun_predictions_sha256": "3" * 64,
        "rerun_packages": {"pandas": "0", "pyarrow": "0"},
        **NUMBERS[verdict],
        **changes,
    }
    content = {key: value for key, value in rerun.items() if key != "record_digest"}
    seal = hashlib.sha256(canonical(content)).hexdigest()
    write_atomic(rerun_path(results, RUN.run_id), pretty({**content, "record_digest": seal}))


def test_a_whole_record_is_re_scored(tmp_path: Path) -> None:
    """Its predictions, on the labels of the stored digest, give every score that it holds."""
    make_run(tmp_path, RUN)
    assert level(tmp_path) == "re-scored"


def test_scores_that_the_predictions_do_not_give_are_somebody_s_word(tmp_path: Path) -> None:
    """A score that was changed in the record stands beside predictions that give another."""
    record = make_run(tmp_path, RUN)
    make_run(tmp_path, RUN, test={**(record.test or {}), "acc": (record.test or {}).get("acc", 0) - 2e-9})
    assert level(tmp_path) == "self-reported"


def test_without_predictions_or_on_other_labels_nothing_is_reported(tmp_path: Path) -> None:
    """A cell is refused, not shown by the word of its record."""
    make_run(tmp_path, RUN)
    predictions_path(RUN.path(tmp_path)).unlink()
    with pytest.raises(RecordError, match="the statistics need the predictions of every run"):
        level(tmp_path)
    make_run(tmp_path, RUN)
    card = make_card(RUN.dataset)
    write_card(tmp_path, card.model_copy(update={"labels_digest": {**card.labels_digest, "test": "0" * 64}}))
    assert [reason for _, reason in gather(tmp_path).stale] == ["the data changed"]


def test_a_re_run_that_agrees_raises_the_level(tmp_path: Path) -> None:
    """`medbench compare --record` is what raises it."""
    results, mine = tmp_path / "results", tmp_path / "mine"
    make_run(results, RUN)
    make_rerun(mine, RUN, lambda table: table)
    assert level(results) == "re-scored"
    compare_folders(results, mine, record=True)
    assert level(results) == "re-run"


def test_a_re_run_of_an_older_record_or_one_that_differs_counts_for_nothing(tmp_path: Path) -> None:
    """The evidence is about one digest, and its verdict is read."""
    record = make_run(tmp_path, RUN)
    make_evidence(tmp_path, "1" * 64, "bit-equal")
    assert level(tmp_path) == "re-scored"
    make_evidence(tmp_path, record.record_digest, "differs")
    assert level(tmp_path) == "re-scored"
    make_evidence(tmp_path, record.record_digest, "not told apart")
    assert level(tmp_path) == "re-scored"
    make_evidence(tmp_path, record.record_digest, "equivalent")
    assert level(tmp_path) == "re-run"
    make_evidence(tmp_path, record.record_digest, "bit-equal")
    assert level(tmp_path) == "re-run"


def test_changed_evidence_of_a_re_run_is_left_out_and_named(tmp_path: Path) -> None:
    """The seal covers every field; the file's name covers the run."""
    record = make_run(tmp_path, RUN)
    make_evidence(tmp_path, record.record_digest, "differs")
    path = rerun_path(tmp_path, RUN.run_id)
    path.write_text(path.read_text(encoding="utf-8").replace('"reason": ""', '"reason": "none"'), encoding="utf-8")
    reruns, notes = read_reruns(tmp_path)
    assert reruns == {}
    assert "record_digest does not fit" in notes[0]
    make_evidence(tmp_path, record.record_digest, "bit-equal")
    path.rename(path.with_name("another__run__smoke__s0.json"))
    assert "belongs elsewhere" in read_reruns(tmp_path)[1][0]
    assert level(tmp_path) == "re-scored"


@pytest.mark.parametrize(
    ("verdict", "change", "message"),
    [
        ("bit-equal", {"acc_difference": 0.01}, "differences of 0"),
        ("bit-equal", {"auc_interval_90": [-0.01, 0.01]}, "differences of 0"),
        ("bit-equal", {"mcnemar_p": 1.0}, "no test"),
        ("bit-equal", {"rerun_digest": "1" * 64}, "the record itself"),
        ("equivalent", {"acc_interval_90": [-0.01, 0.05]}, "say 'not told apart'"),
        ("equivalent", {"auc_difference": None, "auc_interval_90": None, "auc_p": None}, "say 'not told apart'"),
        ("equivalent", {"auc_difference": 0.015}, "outside its interval"),
        ("equivalent", {"mcnemar_p": None}, "without the tests"),
        ("equivalent", {"auc_interval_90": None}, "come together"),
        ("not told apart", {"auc_p": 0.001}, "say 'differs'"),
        ("differs", {"auc_p": 0.5}, "say 'not told apart'"),
        ("differs", {"auc_difference": 0.0, "auc_interval_90": [0.0, 0.0], "acc_interval_90": [0, 0]}, "'equivalent'"),
    ],
)
def test_evidence_that_contradicts_itself_is_refused(
    tmp_path: Path, verdict: str, change: dict[str, Any], message: str
) -> None:
    """Its numbers give its verdict, or it is left out by name, whatever its seal says."""
    make_run(tmp_path, RUN)
    make_evidence(tmp_path, "1" * 64, verdict)
    assert read_reruns(tmp_path)[1] == []
    make_evidence(tmp_path, "1" * 64, verdict, **change)
    reruns, notes = read_reruns(tmp_path)
    assert reruns == {}
    assert message in notes[0]
    assert any(message in problem for problem in verify(tmp_path).problems)


def test_evidence_is_held_against_its_record(tmp_path: Path) -> None:
    """Equal files are equal scores; the same writers write equal scores as equal files."""
    writers = {"pandas": "3.1.1", "pyarrow": "26.0.1"}
    record = make_run(tmp_path, RUN, packages=writers)
    sha256 = record.predictions_sha256
    for verdict, change, message in [
        ("bit-equal", {"rerun_packages": writers}, "wrote other predictions"),
        ("bit-equal", {"rerun_packages": {}}, "no pandas and pyarrow that wrote them"),
        ("differs", {"rerun_predictions_sha256": sha256}, "byte for byte"),
        ("bit-equal", {"rerun_packages": writers, "rerun_predictions_sha256": sha256}, ""),
        ("bit-equal", {"rerun_packages": {**writers, "pyarrow": "27.0.0"}}, ""),
        ("differs", {"rerun_packages": writers}, ""),
    ]:
        make_evidence(tmp_path, record.record_digest, verdict, **change)
        reruns, notes = read_reruns(tmp_path)
        assert (notes == []) == (not message)
        assert message in "".join(notes)
        assert (record.record_digest in reruns) == (not message)
    make_evidence(tmp_path, "1" * 64, "bit-equal", rerun_packages=writers)
    assert read_reruns(tmp_path)[1] == []  # about an older record, of which nothing is known


def test_a_cell_has_the_level_of_its_least_trusted_run(tmp_path: Path) -> None:
    """One seed re-run of two is mentioned, and does not raise the mean of both."""
    records = [make_record(Run("smoke", "resnet18_28", "breastmnist", seed)) for seed in (0, 1)]
    make_evidence(tmp_path, records[0].record_digest, "bit-equal")
    reruns, _ = read_reruns(tmp_path)
    trust = trust_of_cell(records, reruns, rescored=True)
    assert (trust.level, trust.detail) == ("re-scored", "1 of 2 seeds re-run")
    assert trust_of_cell(records[:1], reruns, rescored=True).level == "re-run"
    assert trust_of_cell(records[:1], reruns, rescored=False).level == "self-reported"
    make_evidence(tmp_path, records[0].record_digest, "differs")
    trust = trust_of_cell(records[:1], read_reruns(tmp_path)[0], rescored=True)
    assert (trust.level, trust.detail) == ("re-scored", "1 of 1 re-runs differ")
    make_evidence(tmp_path, records[0].record_digest, "not told apart")
    trust = trust_of_cell(records[:1], read_reruns(tmp_path)[0], rescored=True)
    assert (trust.level, trust.detail) == ("re-scored", "1 of 1 re-runs show no equivalence")


def test_only_measured_levels_are_ranked() -> None:
    """What a paper prints or a person sends is never among them."""
    assert MEASURED == ("re-scored", "re-run")
    assert set(MEANING) == {"published", "self-reported", *MEASURED}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"acc": 90.0}, "acc"),
        ({"acc": None}, "give auc, acc or both"),
        ({"source_url": "javascript:alert(1)"}, "source_url"),
        ({"source_url": 'https://example.org/"onclick='}, "source_url"),
        ({"dataset": "synthetic-breastmnist"}, "cannot be reported"),
        ({"dataset": "breast"}, "dataset"),
        ({"model": "a\nb"}, "one line"),
        ({"date": "yesterday"}, "date"),
        ({"rank": 1}, "rank"),
    ],
)
def test_a_self_reported_row_is_strict(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    """Percent, missing scores, other schemes, unknown sets and keys are refused by name."""
    folder = tmp_path / "self_reported"
    folder.mkdir()
    (folder / "somenet.json").write_text(json.dumps({**ROW, **change}), encoding="utf-8")
    rows, notes = read_self_reported(tmp_path)
    assert rows == []
    assert "somenet.json" in notes[0]
    assert message in notes[0]


def test_a_self_reported_row_is_read(tmp_path: Path) -> None:
    """What was sent is what is shown."""
    folder = tmp_path / "self_reported"
    folder.mkdir()
    (folder / "somenet.json").write_text(json.dumps(ROW), encoding="utf-8")
    (row,), notes = read_self_reported(tmp_path)
    assert notes == []
    assert (row.model, row.acc, row.auc) == ("SomeNet", 0.9, None)


def test_contributors_read_what_cannot_be_noticed() -> None:
    """The list of the page stands in CONTRIBUTING.md word for word."""
    text = " ".join((Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8").split())
    assert [line for line in UNSEEN if f"- {line}" not in text] == []
