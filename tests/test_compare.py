"""`medbench compare`: the same run twice, and what may be said of the two."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from bench.compare import COPY, compare_folders
from bench.compare_runs import Contrast, cell_told_apart_by, contrast, within_seeds
from bench.errors import RecordError
from bench.records import Run, frame_bytes, predictions_path, read_predictions
from bench.trust import read_reruns
from tests.making import make_card, make_predictions, make_rerun, make_run

RUN = Run("smoke", "resnet18_28", "breastmnist", 0)
OTHER = Run("smoke", "resnet18_28", "breastmnist", 1)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    make_run(tmp_path / "a", RUN)
    make_run(tmp_path / "a", OTHER)
    return tmp_path / "a", tmp_path / "b"


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
    found = compare_folders(a, b)
    assert [(row.run_id, row.verdict) for row in found.rows] == [
        (RUN.run_id, "bit-equal"),
        (OTHER.run_id, "only in A"),
    ]
    assert (found.verdict, found.exit_code) == ("bit-equal", 0)
    assert [(cell.n_seeds, cell.verdict) for cell in found.cells] == [(1, "bit-equal")]
    assert found.summary() == "bit-equal: 1 bit-equal, 1 only in A"


def test_a_little_jitter_is_noise(folders: tuple[Path, Path]) -> None:
    """Logits that moved in the third decimal change no verdict about the model; the numbers are told."""
    a, b = folders
    make_rerun(b, RUN, jittered)
    row = compare_folders(a, b).rows[0]
    assert row.verdict == "within noise"
    assert "McNemar p = 1" in row.reason
    assert row.contrast is not None
    assert not row.contrast.bit_equal
    assert compare_folders(a, b).exit_code == 0


def test_opposite_answers_differ(folders: tuple[Path, Path]) -> None:
    """A model that answers the opposite is told apart, and the command fails."""
    a, b = folders
    make_rerun(b, RUN, reversed_logits)
    found = compare_folders(a, b)
    assert found.rows[0].verdict == "differs"
    assert (found.verdict, found.exit_code) == ("differs", 1)
    assert json.loads(json.dumps(found.as_dict()))["runs"][0]["auc_difference"] < -0.3


def test_the_two_tests_by_hand() -> None:
    """McNemar is scipy's exact binomial test on the discordant images; differences are B minus A."""
    card = make_card("breastmnist")
    first = read_predictions(make_predictions("breastmnist", 0))
    second = read_predictions(make_predictions("breastmnist", 1))
    found = contrast(first, second, card, ("one", "two"))
    right = []
    for table in (first, second):
        test = table[table["split"] == "test"]
        right.append((test["logit_1"] > test["logit_0"]).to_numpy() == (test["label"] == 1).to_numpy())
    only = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    assert found.mcnemar_p == pytest.approx(scipy_stats.binomtest(only[0], sum(only)).pvalue, abs=1e-12)
    assert found.acc == pytest.approx(right[1].mean() - right[0].mean(), abs=1e-15)
    assert found.auc_resamples.std() > 0


def test_the_spread_over_seeds_by_hand() -> None:
    """Three seeds with standard deviation 0.01: two of them differ by up to 4.303 x 0.01 x sqrt(2)."""
    bound = 4.302653 * 0.01 * 2**0.5
    seeds = [0.89, 0.90, 0.91]
    assert within_seeds(bound - 1e-5, seeds)
    assert within_seeds(-bound + 1e-5, seeds)
    assert not within_seeds(bound + 1e-5, seeds)
    assert not within_seeds(0.001, seeds[:2])
    assert within_seeds(None, [])


def test_a_difference_as_between_seeds_is_noise(folders: tuple[Path, Path]) -> None:
    """Where A's own seeds disagree as much, the images alone do not decide."""
    a, b = folders
    make_rerun(b, RUN, reversed_logits)
    make_rerun(a, Run("smoke", "resnet18_28", "breastmnist", 2), reversed_logits)
    row = compare_folders(a, b).rows[0]
    assert row.verdict == "within noise"
    assert "no further apart than two of A's 3 seeds" in row.reason


def test_a_cell_is_judged_over_its_seeds() -> None:
    """A shift that no seed shows alone is shown by ten together; opposite shifts are not."""
    rng = np.random.default_rng(0)
    shift = [Contrast(False, 0.02, 0.02, 0.3, 0.3, rng.normal(0.02, 0.03, 1000) / 9, np.zeros(1000)) for _ in range(10)]
    assert "AUC p" in cell_told_apart_by(shift)
    back = [Contrast(False, -0.02, 0.0, 0.3, 0.3, rng.normal(0, 0.03, 1000), np.zeros(1000)) for _ in range(10)]
    mixed = [item for pair in zip(shift, back, strict=True) for item in pair]
    assert cell_told_apart_by([Contrast(c.bit_equal, c.auc, 0.0, c.auc_p) for c in mixed]) == ""


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"protocol_digest": "1" * 64}, "the protocol"),
        ({"data_md5": "2" * 32}, "the file of the data set"),
        ({"labels_digest": {"train": "1", "val": "2", "test": "3"}}, "the labels"),
        ({"model_fingerprint": "1" * 64}, "the model's code"),
    ],
)
def test_another_protocol_data_or_code_is_refused(tmp_path: Path, change: dict[str, object], told: str) -> None:
    """Equal ids do not make the same run; equal predictions do not excuse it."""
    a, b = tmp_path / "a", tmp_path / "b"
    make_run(a, RUN, data_md5="0" * 32)
    make_rerun(b, RUN, same, **{"data_md5": "0" * 32, **change})
    found = compare_folders(a, b, record=True)
    assert found.rows[0].verdict == "not the same run"
    assert told in found.rows[0].reason
    assert found.exit_code == 1
    assert found.cells == []
    assert found.written == []


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
    found = compare_folders(a, b)
    assert [row.verdict for row in found.rows] == ["damaged", "damaged"]
    assert "seed0.json" in found.rows[0].reason
    assert "not the file that the record was sealed with" in found.rows[1].reason
    assert found.exit_code == 1
    stale = Run("smoke", "resnet18_28", "breastmnist", 2)
    make_run(a, stale, model_fingerprint="1" * 64)
    make_rerun(b, stale, same, model_fingerprint="1" * 64)
    found = compare_folders(a, b)
    assert found.rows[2].verdict == "bit-equal"
    assert [note.split(":")[0] for note in found.notes] == ["stale in A", "stale in B"]


def test_doctored_scores_beside_equal_predictions_fail(folders: tuple[Path, Path]) -> None:
    """Equal predictions cannot give two accuracies."""
    a, b = folders
    record = make_rerun(b, RUN, same)
    make_rerun(b, RUN, same, test={**(record.test or {}), "acc": 1.0})
    row = compare_folders(a, b).rows[0]
    assert row.verdict == "damaged"
    assert "verify --scores" in row.reason


def test_folders_that_cannot_be_compared(tmp_path: Path) -> None:
    """A missing folder and folders without a common run are told in one line."""
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
    found = compare_folders(a, b, record=True)
    assert found.written == [a / "reruns" / f"{RUN.run_id}.json"]
    assert found.notes == [f"not recorded: {OTHER.run_id}: {COPY}"]
    reruns, notes = read_reruns(a)
    assert notes == []
    (rerun,) = reruns.values()
    assert (rerun.verdict, rerun.rerun_device) == ("within noise", "cpu: another")
    assert rerun.rerun_digest == record.record_digest
    before = found.written[0].read_bytes()
    assert compare_folders(a, b, record=True).written == []
    make_rerun(b, RUN, same)
    assert any("another re-run of it stands" in note for note in compare_folders(a, b, record=True).notes)
    assert found.written[0].read_bytes() == before


def test_predictions_of_the_helper_are_what_the_runner_writes() -> None:
    """The helper's unchanged re-run is bit for bit the run itself."""
    table = read_predictions(make_predictions("breastmnist", 0))
    assert frame_bytes(same(table)) == make_predictions("breastmnist", 0)
