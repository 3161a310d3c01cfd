"""Shards and their merge: together they are the plan, and a contradiction is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.check.merge import merge
from bench.cli.app import app
from bench.errors import BenchError, RecordError
from bench.plan.shards import take_shard
from bench.records.card import read_card, write_card
from bench.records.names import Run, predictions_path
from bench.records.run_record import Failure, read_record, read_records, write_run
from tests.making import make_record, make_run

RUNS = [Run("smoke", "resnet18", "breastmnist", seed) for seed in range(4)]


@given(st.integers(0, 40), st.integers(1, 9))
def test_shards_together_are_the_plan(length: int, count: int) -> None:
    """No run is in two shards, none is lost, and their sizes differ by at most one."""
    parts = [take_shard(range(length), f"{index}/{count}") for index in range(1, count + 1)]
    assert sorted(item for part in parts for item in part) == list(range(length))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "1/0", "a/b", "-1/2", "1/2/3", "1" * 5000 + "/2"])
def test_a_mistyped_shard_is_refused(shard: str) -> None:
    """The message shows how to write one."""
    with pytest.raises(BenchError, match="2/8"):
        take_shard([1], shard)


def test_merging_shards_gives_the_whole(tmp_path: Path) -> None:
    """Two shards with their data cards become one folder that verifies; again changes nothing."""
    from bench.check.verify import verify

    for index, run in enumerate(RUNS):
        make_run(tmp_path / f"shard{index % 2}", run)
    whole = tmp_path / "whole"
    merged = merge([tmp_path / "shard0", tmp_path / "shard1"], whole)
    assert sorted(merged.taken) == sorted(run.run_id for run in RUNS)
    assert verify(whole, scores=True).problems == []
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    again = merge([tmp_path / "shard0", tmp_path / "shard1"], whole)
    assert (len(again.taken), len(again.known)) == (0, 4)
    assert before == {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}


def test_a_contradiction_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    """The same run with another outcome: both folders are named, the target stays as it was."""
    make_run(tmp_path / "one", RUNS[0])
    make_run(tmp_path / "two", RUNS[0], val={"auc": 0.25, "acc": 0.25})
    make_run(tmp_path / "two", RUNS[1])
    with pytest.raises(RecordError, match=r"ended differently in .*one and .*two"):
        merge([tmp_path / "one", tmp_path / "two"], tmp_path / "whole")
    assert not (tmp_path / "whole").exists()


def test_sources_with_different_cards_are_refused(tmp_path: Path) -> None:
    """Also where the target has none yet: the shards were run on different data."""
    for name, run in (("one", RUNS[0]), ("two", RUNS[1])):
        make_run(tmp_path / name, run)
    card = read_card(tmp_path / "two", "breastmnist")
    assert card is not None
    write_card(tmp_path / "two", card.model_copy(update={"num_channels": 3}))
    with pytest.raises(RecordError, match=r"two.*breastmnist.json and .*one.* describe different data"):
        merge([tmp_path / "one", tmp_path / "two"], tmp_path / "whole")
    assert not (tmp_path / "whole").exists()


def test_a_finished_run_replaces_a_failed_one(tmp_path: Path) -> None:
    """A failure is no contradiction: the finished record is taken, in either order."""
    lost = {"val": None, "test": None, "test_twin_free": None, "predictions_sha256": None}
    failed = make_record(RUNS[0], status="failed", failure=Failure(kind="error", message="gone"), **lost)
    write_run(tmp_path / "failed", failed, None, None)
    make_run(tmp_path / "done", RUNS[0])
    for name, order in (("a", ("failed", "done")), ("b", ("done", "failed"))):
        merge([tmp_path / part for part in order], tmp_path / name)
        assert [record.status for record in read_records(tmp_path / name)[0]] == ["done"]
    shutil.copytree(tmp_path / "failed", tmp_path / "target")
    assert merge([tmp_path / "done"], tmp_path / "target").replaced == [RUNS[0].run_id]


@pytest.mark.parametrize("part", ["json", "parquet"])
def test_a_damaged_shard_is_refused_by_file(tmp_path: Path, part: str) -> None:
    """A changed record or a changed prediction file never enters."""
    make_run(tmp_path / "shard", RUNS[0])
    path = RUNS[0].path(tmp_path / "shard")
    victim = path if part == "json" else predictions_path(path)
    content = victim.read_bytes()
    victim.write_bytes(content.replace(b'"seed": 0', b'"seed": 1') if part == "json" else content[:-1])
    with pytest.raises(RecordError, match="seed0"):
        merge([tmp_path / "shard"], tmp_path / "whole")
    assert not (tmp_path / "whole").exists()


def test_synthetic_records_stay_out_of_a_real_store(tmp_path: Path) -> None:
    """The target's store.json decides."""
    make_run(tmp_path / "shard", Run("smoke", "resnet18", "synthetic-breastmnist", 0))
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "store.json").write_text('{"real_only": true}', encoding="utf-8")
    with pytest.raises(RecordError, match="real records only"):
        merge([tmp_path / "shard"], tmp_path / "real")


def test_the_command_merges(tmp_path: Path) -> None:
    """`medbench merge` says what it took over; a folder that is none is one clear line."""
    from typer.testing import CliRunner

    make_run(tmp_path / "shard", RUNS[0])
    done = CliRunner().invoke(app, ["merge", str(tmp_path / "shard"), "--results", str(tmp_path / "whole")])
    assert done.exit_code == 0
    assert "1 records taken over" in done.stdout
    assert read_record(RUNS[0].path(tmp_path / "whole")).seed == 0
    wrong = CliRunner().invoke(app, ["merge", str(tmp_path / "nowhere"), "--results", str(tmp_path / "whole")])
    assert isinstance(wrong.exception, RecordError)
