"""Planning: what a selection means and how each run stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.plan.selection import expand, expand_study, parse_seeds, refusal
from bench.plan.state import choose, make_plan
from bench.protocols.loading import load_protocol
from bench.records.names import Run, predictions_path
from models import ModelError, get_spec
from tests.making import make_record, make_run


def test_seeds_are_lists_and_ranges() -> None:
    """`0-2,5` names four seeds; a seed named twice counts once."""
    assert parse_seeds("0-2,5") == [0, 1, 2, 5]
    assert parse_seeds("1,1,1") == [1]
    assert len(parse_seeds("0-9999")) == 10_000


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "0..2", "3-1", "0-10000"])
def test_other_seeds_are_refused(text: str) -> None:
    """One clear line."""
    with pytest.raises(BenchError, match="--seeds"):
        parse_seeds(text)


def test_a_selection_is_every_combination_and_a_floor_runs_once() -> None:
    """Two models, two sets, three seeds: six runs of the network and, whatever the seeds, two of the floor."""
    runs = expand(["smoke"], ["resnet18_28", "floor/prior"], ["breastmnist", "synthetic-bloodmnist"], [0, 1, 2])
    assert len(runs) == 6 + 2
    assert [run.seed for run in runs if run.model == "floor/prior"] == [0, 0]


@pytest.mark.parametrize(
    ("model", "dataset", "message"),
    [
        ("resnet81", "breastmnist", "did you mean 'resnet18'"),
        ("resnet18", "breastmnits", "did you mean 'breastmnist'"),
        ("resnet18", "chestmnist", "several labels|multi-label"),
        ("resnet18", "synthetic-octmnist", "synthetic"),
    ],
)
def test_an_unknown_name_gets_a_suggestion(model: str, dataset: str, message: str) -> None:
    """Unknown models and sets name the closest one."""
    with pytest.raises((BenchError, ModelError), match=message):
        expand(["smoke"], [model], [dataset], [0])


def test_states(tmp_path: Path) -> None:
    """Done, missing, failed, skipped and stale are told apart, with reasons."""
    runs = [Run("smoke", "resnet18_28", "breastmnist", seed) for seed in range(6)]
    make_run(tmp_path, runs[0])
    failure = {"kind": "diverged", "message": "the loss is not finite"}
    nothing = {"val": None, "test": None, "test_twin_free": None, "failure": failure}
    for run, status in ((runs[2], "failed"), (runs[3], "skipped")):
        make_run(tmp_path, run, status=status, **nothing)
    make_run(tmp_path, runs[4], protocol_digest="0" * 64)
    make_run(tmp_path, runs[5], model_fingerprint="0" * 64)
    planned = make_plan(runs, tmp_path)
    assert [item.state for item in planned] == ["done", "missing", "failed", "missing", "stale", "stale"]
    assert planned[2].reason == "diverged: the loss is not finite"
    assert planned[4].reason == "the protocol changed"
    assert "code" in planned[5].reason
    assert [item.run.seed for item in choose(planned, "never")] == [1, 3]
    assert [item.run.seed for item in choose(planned, "failed")] == [1, 2, 3]
    assert [item.run.seed for item in choose(planned, "stale")] == [1, 3, 4, 5]
    assert len(choose(planned, "always")) == 6


def test_changed_data_make_a_record_stale(tmp_path: Path) -> None:
    """A card with other labels than the record's."""
    run = Run("smoke", "resnet18_28", "breastmnist", 0)
    make_run(tmp_path, run, labels_digest={"train": "0", "val": "0", "test": "0"})
    assert make_plan([run], tmp_path)[0].reason == "the data changed"


def test_another_file_of_the_same_official_labels_makes_no_record_stale(tmp_path: Path) -> None:
    """MedMNIST's files are known by their labels; `verify` names one whose MD5 is not the card's."""
    run = Run("smoke", "resnet18_28", "breastmnist", 0)
    make_run(tmp_path, run, data_md5="f" * 32)
    assert make_plan([run], tmp_path)[0].state == "done"


def test_a_damaged_record_counts_as_failed(tmp_path: Path) -> None:
    """It is never taken for a result, and never overwritten silently."""
    run = Run("smoke", "resnet18_28", "breastmnist", 0)
    make_run(tmp_path, run)
    run.path(tmp_path).write_text("{", encoding="utf-8")
    item = make_plan([run], tmp_path)[0]
    assert item.state == "failed"
    assert "damaged" in item.reason
    assert choose([item], "never") == []


def test_models_without_public_weights_are_named_not_run() -> None:
    """Under the ImageNet protocol MedViT is a missing row with its reason."""
    protocol = load_protocol("paper-224-imagenet")
    assert refusal(get_spec("resnet18"), protocol) == ""
    assert "no public ImageNet-1k weights" in refusal(get_spec("resnet18_28"), protocol)
    assert "takes images of 32 px and more" in refusal(get_spec("convnext_t"), load_protocol("smoke"))
    assert refusal(get_spec("floor/prior"), protocol) == ""


def test_planning_changes_nothing(tmp_path: Path) -> None:
    """A plan over a folder that is not there leaves it so."""
    make_plan(expand_study("lite"), tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_parquet_without_json_is_no_record(tmp_path: Path) -> None:
    """A kill between the files leaves a missing run."""
    run = Run("smoke", "resnet18_28", "breastmnist", 0)
    make_run(tmp_path, run)
    run.path(tmp_path).unlink()
    assert predictions_path(run.path(tmp_path)).exists()
    assert make_plan([run], tmp_path)[0].state == "missing"
    assert make_record(run).run == run
