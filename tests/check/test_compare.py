"""`medbench compare`: the same run twice, and what may be concluded about the two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from bench.check.compare.contrast import Contrast, within_seeds
from bench.check.compare.folders import COPY, compare_folders
from bench.check.compare.reasons import SAME, origins
from bench.check.compare.rows import CellRow, Comparison, RunRow, Verdict
from bench.check.trust import read_reruns
from bench.check.verdicts import RerunVerdict
from bench.cli.app import app
from bench.errors import RecordError
from bench.records.names import Run, predictions_path
from bench.records.run_record import Record
from bench.stats.comparisons import EQUIVALENCE_MARGIN, Difference
from tests import making
from tests.making import make_record, make_rerun, make_run

RUN = Run("smoke", "resnet18_28", "breastmnist", 0)
OTHER = Run("smoke", "resnet18_28", "breastmnist", 1)
RESULTS = Path(__file__).parents[2] / "results"
Z_90 = 1.6448536269514722


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    make_run(tmp_path / "a", RUN)
    make_run(tmp_path / "a", OTHER)
    return tmp_path / "a", tmp_path / "b"


@pytest.fixture
def many_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Test sets of 2,000 images instead of 24: enough to show equivalence."""

    def labels(dataset: str, num_classes: int = 2) -> dict[str, np.ndarray]:
        return {split: np.arange(n) * 7 % num_classes for split, n in (("train", 30), ("val", 12), ("test", 2000))}

    monkeypatch.setattr(making, "make_labels", labels)


def same(table: pd.DataFrame) -> pd.DataFrame:
    return table


def jittered(table: pd.DataFrame) -> pd.DataFrame:
    """As another machine would: every logit a little off."""
    logits = [name for name in table if name.startswith("logit_")]
    noise = np.random.default_rng(1).normal(scale=1e-3, size=(len(table), len(logits)))
    return table.assign(**(table[logits] + noise).astype(np.float32))


def reversed_logits(table: pd.DataFrame) -> pd.DataFrame:
    """Every answer becomes the other one."""
    return table.assign(logit_0=table["logit_1"], logit_1=table["logit_0"])


def test_equal_scores_are_bit_equal_whatever_the_file(folders: tuple[Path, Path]) -> None:
    """Rows in another order make another file of the same scores; what only one folder has does not count."""
    a, b = folders
    make_rerun(b, RUN, lambda table: table.sample(frac=1, random_state=0))
    comparison = compare_folders(a, b)
    assert [(row.run_id, row.verdict) for row in comparison.rows] == [
        (RUN.run_id, "bit-equal"),
        (OTHER.run_id, "only in A"),
    ]
    assert (comparison.verdict, comparison.exit_code()) == ("bit-equal", 0)
    assert [(cell.n_seeds, cell.verdict) for cell in comparison.cells] == [(1, "bit-equal")]
    assert comparison.summary() == "bit-equal: 1 bit-equal, 1 only in A"


def test_a_few_images_cannot_show_equivalence(folders: tuple[Path, Path]) -> None:
    """Logits that moved in the third decimal change no answer, and 24 images are no evidence that none would change."""
    a, b = folders
    make_rerun(b, RUN, jittered)
    comparison = compare_folders(a, b)
    row = comparison.rows[0]
    assert row.verdict == comparison.cells[0].verdict == "not told apart"
    assert "McNemar p = 1" in row.reason
    assert "no evidence of equality" in row.reason
    assert row.contrast is not None
    assert not row.contrast.bit_equal
    assert (comparison.exit_code(), comparison.exit_code(strict=True)) == (0, 1)


@pytest.mark.usefixtures("many_images")
def test_many_images_show_equivalence(tmp_path: Path) -> None:
    """The same jitter on 2,000 images: the verdict says what it rests on, and the numbers are shown."""
    a, b = tmp_path / "a", tmp_path / "b"
    make_run(a, RUN)
    make_rerun(b, RUN, jittered)
    comparison = compare_folders(a, b)
    row = comparison.rows[0]
    assert row.verdict == comparison.cells[0].verdict == "equivalent"
    assert row.reason.startswith("both intervals lie within 0.02; ")
    assert (comparison.exit_code(), comparison.exit_code(strict=True)) == (0, 0)
    numbers = json.loads(json.dumps(comparison.as_dict()))["runs"][0]
    for name in ("auc", "acc"):
        low, high = numbers[f"{name}_interval_90"]
        assert -EQUIVALENCE_MARGIN < low <= numbers[f"{name}_difference"] <= high < EQUIVALENCE_MARGIN
    assert "(90 %)" in " ".join(row.as_row())
    assert " to " in row.as_row()["ACC (90 %)"]


def test_opposite_answers_differ(folders: tuple[Path, Path]) -> None:
    """A model that answers the opposite is told apart, and the command fails."""
    a, b = folders
    make_rerun(b, RUN, reversed_logits)
    comparison = compare_folders(a, b)
    assert comparison.rows[0].verdict == "differs"
    assert (comparison.verdict, comparison.exit_code()) == ("differs", 1)
    assert json.loads(json.dumps(comparison.as_dict()))["runs"][0]["auc_difference"] < -0.3


def test_the_spread_over_seeds_by_hand() -> None:
    """Three seeds with standard deviation 0.01: two of them differ by up to 4.303 x 0.01 x sqrt(2)."""
    bound = 4.302653 * 0.01 * 2**0.5
    seeds = [0.89, 0.90, 0.91]
    assert within_seeds(bound - 1e-5, seeds)
    assert within_seeds(-bound + 1e-5, seeds)
    assert not within_seeds(bound + 1e-5, seeds)
    assert not within_seeds(0.001, seeds[:2])
    assert within_seeds(None, [])


def test_a_difference_as_between_seeds_is_a_difference(folders: tuple[Path, Path]) -> None:
    """A re-run of a seed should be that seed: that A's own seeds disagree as much is noted and excuses nothing."""
    a, b = folders
    make_rerun(b, RUN, reversed_logits)
    assert "no further apart" not in compare_folders(a, b).rows[0].reason
    make_rerun(a, Run("smoke", "resnet18_28", "breastmnist", 2), reversed_logits)
    comparison = compare_folders(a, b)
    assert comparison.rows[0].verdict == "differs"
    assert "no further apart than two of A's 3 seeds" in comparison.rows[0].reason
    assert comparison.exit_code() == 1


FULL: dict[str, Any] = {
    "cpu_isa": "avx2",
    "cpu_environment": {"MKL_CBWR": "COMPATIBLE"},
    "device": "cpu: one",
    "num_threads": 1,
    "packages": {"numpy": "2.0", "torch": "2.12"},
    "commit": "a" * 40,
    "dirty": False,
}


def described(**changes: Any) -> Record:
    """A record that states all of its origin; `model_copy` also takes a field that records do not have yet."""
    return make_record(RUN).model_copy(update={**FULL, **changes})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"cpu_isa": "avx512"}, "other instruction set (avx2 and avx512)"),
        ({"cpu_environment": {}}, "other settings of numeric libraries (MKL_CBWR)"),
        ({"device": "cpu: two"}, "other device (cpu: one and cpu: two)"),
        ({"num_threads": 2}, "other number of threads (1 and 2)"),
        (
            {"packages": {"numpy": "2.1", "timm": "1.0"}},
            "other versions (numpy 2.0 and 2.1, timm none and 1.0, torch 2.12 and none)",
        ),
        ({"commit": "b" * 40}, "other code (commits aaaaaaa and bbbbbbb)"),
        ({"dirty": True}, "other code (uncommitted changes in B)"),
        (
            {"cpu_isa": "native:AVX512", "device": "cpu: two", "commit": "b" * 40, "dirty": True},
            "other instruction set (avx2 and native:AVX512), other device (cpu: one and cpu: two), "
            "other code (commits aaaaaaa and bbbbbbb, uncommitted changes in B)",
        ),
        ({}, f"{SAME}this should have been bit-equal"),
        ({"cpu_isa": None}, "the records show no reason and do not state instruction set"),
        (
            {"cpu_isa": None, "packages": {}, "commit": None, "device": "cpu: two"},
            "other device (cpu: one and cpu: two) (not stated: instruction set, package versions, commit)",
        ),
    ],
)
def test_a_difference_comes_with_what_the_records_show(change: dict[str, Any], expected: str) -> None:
    """Each thing that can move a number is named where it differs, and what is not stated is not taken for equal."""
    assert origins(described(), described(**change)) == expected


def test_a_gpu_promises_no_equal_bits() -> None:
    """There no promise was made that could be broken."""
    gpu = described(device="cuda: one")
    assert origins(gpu, gpu) == f"{SAME}a GPU does not promise equal bits"


def test_the_reason_stands_in_the_row(folders: tuple[Path, Path]) -> None:
    """What differs is named beside what the images show; equal bits need no reason."""
    a, b = folders
    origin = {"packages": {"numpy": "2.0"}, "commit": "a" * 40, "dirty": False, "num_threads": 1}
    make_run(a, RUN, **origin, device="cpu: one")
    make_rerun(b, RUN, jittered, **{**origin, "packages": {"numpy": "2.1"}}, device="cpu: one")
    assert "; other versions (numpy 2.0 and 2.1)" in compare_folders(a, b).rows[0].reason
    make_rerun(b, RUN, same, **{**origin, "packages": {"numpy": "2.1"}}, device="cpu: one")
    assert compare_folders(a, b).rows[0].reason == ""


def folder_with(*verdicts: Verdict, cells: tuple[RerunVerdict, ...] = ()) -> Comparison:
    rows = [RunRow(str(number), verdict) for number, verdict in enumerate(verdicts)]
    none = Contrast(False, None, Difference(0.0, 0.0, 0.0, 1.0, 0.0, 0.0))
    return Comparison(Path("a"), Path("b"), rows, [CellRow("p", "m", "d", 2, verdict, "", none) for verdict in cells])


@pytest.mark.parametrize(
    ("comparison", "codes"),
    [
        (folder_with("bit-equal", "only in A", "only in B"), (0, 0)),
        (folder_with("equivalent", "bit-equal"), (0, 0)),
        (folder_with("bit-equal", "not told apart"), (0, 1)),
        (folder_with("equivalent", cells=("not told apart",)), (0, 1)),
        (folder_with("equivalent", cells=("differs",)), (1, 1)),
        (folder_with("bit-equal", "no scores"), (0, 1)),
        (folder_with("bit-equal", "differs"), (1, 1)),
        (folder_with("bit-equal", "damaged"), (1, 1)),
        (folder_with("bit-equal", "not the same run"), (1, 1)),
    ],
)
def test_exit_codes(comparison: Comparison, codes: tuple[int, int]) -> None:
    """0 unless something contradicts A; strict: 0 only if all that both have is shown to be the same."""
    assert (comparison.exit_code(), comparison.exit_code(strict=True)) == codes


def test_the_command_takes_strict(folders: tuple[Path, Path]) -> None:
    """Its exit codes are the comparison's, and it prints each difference with its interval."""
    a, b = folders
    make_rerun(b, RUN, jittered)
    plain = CliRunner().invoke(app, ["compare", str(a), str(b)])
    assert plain.exit_code == 0
    strict = CliRunner().invoke(app, ["compare", str(a), str(b), "--strict", "--json"])
    assert strict.exit_code == 1
    assert json.loads(strict.stdout)["cells"][0]["acc_interval_90"][0] < 0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"protocol_digest": "1" * 64}, "the protocol"),
        ({"data_md5": "2" * 32}, "the file of the data set"),
        ({"labels_digest": {"train": "1", "val": "2", "test": "3"}}, "the labels"),
        ({"model_fingerprint": "1" * 64}, "the model's code"),
    ],
)
def test_another_protocol_data_or_code_is_refused(tmp_path: Path, change: dict[str, object], expected: str) -> None:
    """Equal ids do not make the same run; equal predictions do not excuse it."""
    a, b = tmp_path / "a", tmp_path / "b"
    make_run(a, RUN, data_md5="0" * 32)
    make_rerun(b, RUN, same, **{"data_md5": "0" * 32, **change})
    comparison = compare_folders(a, b, record=True)
    assert comparison.rows[0].verdict == "not the same run"
    assert expected in comparison.rows[0].reason
    assert comparison.exit_code() == 1
    assert comparison.cells == []
    assert comparison.written == []


def test_images_in_another_order_are_refused(folders: tuple[Path, Path]) -> None:
    """Labels that do not fit the other run's are no pair, whatever the scores say."""
    a, b = folders

    def shuffled(table: pd.DataFrame) -> pd.DataFrame:
        test = table["split"] == "test"
        turned = table.copy()
        turned.loc[test, "label"] = np.roll(table.loc[test, "label"].to_numpy(), 1)
        return turned

    make_rerun(b, RUN, shuffled)
    row = compare_folders(a, b).rows[0]
    assert row.verdict == "damaged"
    assert "pair runs on the same images in the same order" in row.reason


def test_damaged_and_stale_records_are_named(folders: tuple[Path, Path]) -> None:
    """A broken file fails with its path; a stale run is compared with its like and noted."""
    a, b = folders
    make_rerun(b, RUN, same)
    make_rerun(b, OTHER, same)
    RUN.path(b).write_bytes(b"{")
    predictions_path(OTHER.path(a)).write_bytes(b"not parquet")
    comparison = compare_folders(a, b)
    assert [row.verdict for row in comparison.rows] == ["damaged", "damaged"]
    assert "seed0.json" in comparison.rows[0].reason
    assert "not the file that the record was sealed with" in comparison.rows[1].reason
    assert comparison.exit_code() == 1
    stale = Run("smoke", "resnet18_28", "breastmnist", 2)
    make_run(a, stale, model_fingerprint="1" * 64)
    make_rerun(b, stale, same, model_fingerprint="1" * 64)
    comparison = compare_folders(a, b)
    assert comparison.rows[2].verdict == "bit-equal"
    assert [note.split(":")[0] for note in comparison.notes] == ["stale in A", "stale in B"]


def test_doctored_scores_beside_equal_predictions_fail(folders: tuple[Path, Path]) -> None:
    """Equal predictions cannot give two accuracies."""
    a, b = folders
    record = make_rerun(b, RUN, same)
    make_rerun(b, RUN, same, test={**(record.test or {}), "acc": 1.0})
    row = compare_folders(a, b).rows[0]
    assert row.verdict == "damaged"
    assert "verify --scores" in row.reason


def test_folders_that_cannot_be_compared(tmp_path: Path) -> None:
    """A missing folder and folders without a common run give a message of one line."""
    make_run(tmp_path / "a", RUN)
    with pytest.raises(RecordError, match="There is no results folder"):
        compare_folders(tmp_path / "a", tmp_path / "nowhere")
    make_run(tmp_path / "b", OTHER)
    with pytest.raises(RecordError, match="no run in common"):
        compare_folders(tmp_path / "a", tmp_path / "b")


def test_a_failed_run_beside_a_finished_one_differs(folders: tuple[Path, Path]) -> None:
    """It has no scores to compare, and it is not what A says."""
    a, b = folders
    failure = {"kind": "oom", "message": "out of memory"}
    make_rerun(b, RUN, same, status="failed", failure=failure, val=None, test=None, test_twin_free=None)
    row = compare_folders(a, b).rows[0]
    assert (row.verdict, row.reason) == ("differs", "done in A, failed in B")


def test_recording_writes_sealed_evidence_once(folders: tuple[Path, Path]) -> None:
    """`results/reruns/<run_id>.json` names both records and where the re-run ran; a copy is no re-run."""
    a, b = folders
    record = make_rerun(b, RUN, jittered)
    make_run(b, OTHER)
    comparison = compare_folders(a, b, record=True)
    assert comparison.written == [a / "reruns" / f"{RUN.run_id}.json"]
    assert comparison.notes == [f"not recorded: {OTHER.run_id}: {COPY}"]
    reruns, notes = read_reruns(a)
    assert notes == []
    (rerun,) = reruns.values()
    assert (rerun.verdict, rerun.rerun_device, rerun.rerun_cpu_isa) == ("not told apart", "cpu: another", None)
    assert rerun.acc_interval_90[0] < rerun.acc_difference < rerun.acc_interval_90[1]
    assert rerun.rerun_digest == record.record_digest
    before = comparison.written[0].read_bytes()
    assert compare_folders(a, b, record=True).written == []
    make_rerun(b, RUN, same)
    assert any("another re-run of it stands" in note for note in compare_folders(a, b, record=True).notes)
    assert comparison.written[0].read_bytes() == before
