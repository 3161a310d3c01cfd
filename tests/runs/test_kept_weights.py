"""Weights that stay: the file, the proof that it gives a record's logits, and the model that comes back."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
from typer.testing import CliRunner

import models
from bench.cli.app import app
from bench.data.card import measure
from bench.errors import BenchError, RecordError
from bench.protocols.loading import load_protocol
from bench.records.card import write_card
from bench.records.names import Run, weights_path
from bench.records.run_record import Record, read_records
from bench.records.sealed import sealed_bytes, write_atomic
from bench.runs import proven
from bench.runs.engine_ray import RayEngine
from bench.runs.launch import check_weights_folder
from bench.runs.proven import chosen_weights, proven_model
from bench.runs.request import Hooks, RunBundle, RunRequest
from bench.runs.runner import run_one
from bench.runs.writing import write_bundle
from bench.training.kept_weights import parse_weights, read_weights, weights_bytes, weights_digest
from bench.training.trainer import InterruptedTraining
from models import catalog
from tests.making import make_record

SET = "synthetic-bloodmnist"
PLUGIN = '''"""Two small networks, one of which keeps something out of its state."""
from torch import nn

from models import register_model


@register_model(paper="none", source="a test", code_license="MIT")
def keeper(*, num_classes, in_chans=3, img_size=28, pretrained=False):
    return nn.Sequential(nn.Conv2d(in_chans, 8, 5, stride=3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(),
                         nn.Dropout(0.1), nn.Linear(512, num_classes))


class Counting(nn.Linear):
    seen = 0

    def forward(self, x):
        self.seen += self.training
        return super().forward(x.mean(dim=(2, 3))) + self.seen


@register_model(paper="none", source="a test", code_license="MIT")
def forgetful(*, num_classes, in_chans=3, img_size=28, pretrained=False):
    return Counting(in_chans, num_classes)
'''


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A researcher's networks, known to this file alone."""
    before = dict(catalog._plugins)
    path = tmp_path_factory.mktemp("plugin") / "keeper.py"
    path.write_text(PLUGIN, encoding="utf-8")
    models.load_plugin(path)
    yield str(path)
    catalog._plugins.clear()
    catalog._plugins.update(before)


@pytest.fixture(scope="module")
def request_(plugin: str) -> RunRequest:
    run = Run("smoke", "keeper", SET, 0)
    return RunRequest(run, load_protocol("smoke"), measure(SET), plugins=(plugin,), keep_weights=True)


@pytest.fixture(scope="module")
def bundle(request_: RunRequest) -> RunBundle:
    done = run_one(request_)
    assert done.record.status == "done", done.record.failure
    return done


@pytest.fixture
def store(request_: RunRequest, bundle: RunBundle, tmp_path: Path) -> Path:
    """A results folder with the run, and `kept` beside it with its weights."""
    write_card(tmp_path / "results", request_.card)
    write_bundle(bundle, tmp_path / "results", tmp_path / "kept")
    return tmp_path / "results"


def refuse(*_: Any) -> None:
    raise AssertionError("trained again")


# The file


def test_the_digest_is_of_names_types_shapes_and_values_in_any_order() -> None:
    """Another order is the same weights; one name, type, shape or value more is not."""
    a, b = torch.tensor([[1.0, 2.0]]), torch.tensor(3)
    digest = weights_digest({"a": a, "b": b})
    assert weights_digest({"b": b, "a": a}) == digest
    for other in (
        {"a": a, "c": b},
        {"a": a.double(), "b": b},
        {"a": a.view(2, 1), "b": b},
        {"a": a + 1, "b": b},
        {"a": -a * 0, "b": b},
    ):
        assert weights_digest(other) != digest
    assert weights_digest({"a": a * 0}) != weights_digest({"a": -a * 0}), "bits, not numbers"


def test_equal_weights_are_equal_files_that_safetensors_reads(tmp_path: Path) -> None:
    """Metadata has one order; another library finds the same tensors and the metadata."""
    state = {"b": torch.randn(3, 2), "a": torch.tensor(7), "c": torch.zeros(0), "d": torch.randn(2, dtype=torch.cfloat)}
    about = {key: key for key in ("run_id", "protocol_digest", "img_size", "in_chans", "num_classes", "x", "y")}
    contents = {weights_bytes(state, about) for _ in range(8)}
    assert len(contents) == 1
    (content,) = contents
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with safetensors.safe_open(path, framework="pt") as file:
        assert about.items() <= file.metadata().items()
        assert {key: file.get_tensor(key).numpy().tobytes() for key in file.keys()} == {  # noqa: SIM118
            key: value.numpy().tobytes() for key, value in state.items()
        }
    flipped = bytearray(content)
    flipped[-1] ^= 1
    assert parse_weights(bytes(flipped)) is None
    assert parse_weights(content[:-1]) is None
    assert parse_weights(b"") is None
    assert read_weights(tmp_path / "none.safetensors") is None


# What a run keeps


def test_a_run_keeps_the_weights_that_its_record_names(request_: RunRequest, bundle: RunBundle) -> None:
    """The file says whose it is; the digest of its tensors stands in the record."""
    assert bundle.weights is not None
    kept = parse_weights(bundle.weights)
    assert kept is not None
    record = bundle.record
    assert record.trained_weights_sha256 == kept.digest()
    assert kept.predictions_sha256 == record.predictions_sha256
    expected = {
        "run_id": record.run_id,
        "protocol_digest": record.protocol_digest,
        "model_fingerprint": record.model_fingerprint,
        "num_classes": "8",
        "in_chans": "3",
        "img_size": "28",
    }
    assert expected.items() <= kept.about.items()


def test_keeping_weights_changes_nothing_of_a_record(request_: RunRequest, bundle: RunBundle) -> None:
    """Which folder a run was given is no part of what was measured."""
    plain = run_one(replace(request_, keep_weights=False))
    assert plain.weights is None
    measured = {"train_seconds", "images_per_second", "peak_memory_mib", "record_digest"}
    fields = plain.record.model_dump(exclude=measured)
    assert fields == bundle.record.model_dump(exclude=measured)
    assert plain.predictions == bundle.predictions


@pytest.mark.parametrize("stop_after", [1, 5])
def test_a_killed_and_resumed_run_keeps_the_same_file(
    request_: RunRequest, bundle: RunBundle, tmp_path: Path, stop_after: int
) -> None:
    """Stopped in the first epoch or later, what is kept in the end is equal byte for byte."""
    steps = iter(range(1, stop_after + 1))
    checkpointed = replace(request_, checkpoint_dir=str(tmp_path))
    with pytest.raises(InterruptedTraining):
        run_one(checkpointed, Hooks(should_stop=lambda: next(steps, None) == stop_after))
    resumed = run_one(checkpointed)
    assert resumed.weights == bundle.weights
    assert resumed.record.trained_weights_sha256 == bundle.record.trained_weights_sha256


def test_weights_that_do_not_give_the_scores_are_no_weights(request_: RunRequest) -> None:
    """A model that keeps something out of its state fails with the advice, and runs where nothing is to be kept."""
    forgetful = replace(request_, run=replace(request_.run, model="forgetful"))
    failed = run_one(forgetful)
    assert failed.weights is None
    assert failed.record.failure is not None
    assert "other val and test logits" in failed.record.failure.message
    assert "without --keep-weights" in failed.record.failure.message
    assert run_one(replace(forgetful, keep_weights=False)).record.status == "done"


def test_a_fitted_model_keeps_nothing(request_: RunRequest) -> None:
    """It has no weights; its run goes on as before."""
    done = run_one(replace(request_, run=replace(request_.run, model="floor/prior")))
    assert done.record.status == "done"
    assert done.weights is None
    assert done.record.trained_weights_sha256 is None


def test_a_record_without_the_digest_stays_as_it_was() -> None:
    """Records from before have no such key, and the digest that they were sealed with."""
    record = make_record()
    assert "trained_weights_sha256" not in record.model_dump()
    assert Record.model_validate(record.model_dump()).computed_digest() == record.record_digest


def test_the_weights_are_there_before_the_record(bundle: RunBundle, tmp_path: Path) -> None:
    """Where they cannot be written, no record stands that would count as done."""
    (tmp_path / "kept").write_text("a file", encoding="utf-8")
    with pytest.raises(RecordError, match="Cannot write"):
        write_bundle(bundle, tmp_path / "results", tmp_path / "kept")
    assert not (tmp_path / "results").exists()


def test_the_command_keeps_weights_of_each_run_of_a_shard(plugin: str, tmp_path: Path) -> None:
    """Two runs at once, and a second call that says what is lacking."""
    results, kept = tmp_path / "results", tmp_path / "new" / "kept"
    arguments = ["run", "--protocol", "smoke", "--models", "keeper,floor/prior", "--datasets", SET, "--seeds", "0-3"]
    arguments += ["--results", str(results), "--device", "cpu", "--plugin", plugin, "--jobs", "2", "--shard", "1/2"]
    arguments += ["--keep-weights", str(kept)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    records = {record.run_id: record for record in read_records(results)[0] if record.trained_weights_sha256}
    files = {path.stem: read_weights(path) for path in kept.iterdir()}
    assert files
    assert {name: file.digest() for name, file in files.items() if file is not None} == {
        name: record.trained_weights_sha256 for name, record in records.items()
    }
    shutil.rmtree(kept)
    again = CliRunner().invoke(app, arguments)
    assert f"{len(records)} finished runs have no weights" in " ".join(again.output.split())


def test_a_folder_that_cannot_take_weights_is_refused_at_once(tmp_path: Path) -> None:
    """A file, and a place among the evidence, each in one line."""
    (tmp_path / "file").touch()
    with pytest.raises(RecordError, match="Cannot write to --keep-weights"):
        check_weights_folder(tmp_path / "file", tmp_path / "results")
    with pytest.raises(RecordError, match="lies in the results folder"):
        check_weights_folder(tmp_path / "results" / "kept", tmp_path / "results")


def test_a_driver_of_a_cluster_writes_what_a_node_kept(request_: RunRequest, bundle: RunBundle, tmp_path: Path) -> None:
    """The node hands the weights over as it does the record; they are written here."""
    engine = RayEngine(tmp_path / "results", weights=tmp_path / "kept")
    engine.under_way["task"] = (request_, SimpleNamespace(release=lambda: None))
    ray = SimpleNamespace(get=lambda _: bundle, exceptions=SimpleNamespace(RayError=OSError))
    engine._collect(ray, "task")
    assert weights_path(tmp_path / "kept", request_.run).read_bytes() == bundle.weights


# The model that comes back


def test_a_record_and_its_kept_weights_are_a_model_without_a_training(
    store: Path, bundle: RunBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is trained; the model gives the record's logits."""
    monkeypatch.setattr(proven, "run_one", refuse)
    back = proven_model(bundle.record, store, weights=store.parent / "kept")
    assert back.weights.digest() == bundle.record.trained_weights_sha256
    assert not back.model.training
    assert back.request.run == bundle.record.run
    assert {split: len(labels) for split, labels in back.arrays.labels.items()} == {"train": 128, "val": 44, "test": 88}


def test_without_kept_weights_they_are_made_anew_and_kept(store: Path, bundle: RunBundle) -> None:
    """The same file as the run's own, in the given folder; the record is not touched."""
    path = bundle.record.run.path(store)
    before = path.read_bytes()
    back = proven_model(bundle.record, store, weights=store.parent / "other")
    assert weights_path(store.parent / "other", bundle.record.run).read_bytes() == bundle.weights
    assert back.weights.digest() == bundle.record.trained_weights_sha256
    assert path.read_bytes() == before
    assert not list(store.rglob("*.ckpt"))


def older(record: Record) -> Record:
    return record.model_copy(update={"trained_weights_sha256": None}).sealed()


def test_other_weights_under_a_runs_name_are_refused(store: Path, bundle: RunBundle) -> None:
    """By the digest where the record has one, by the logits where it is older: whole files of the right metadata."""
    kept = store.parent / "kept"
    assert bundle.weights is not None
    own = parse_weights(bundle.weights)
    assert own is not None
    state = {name: value + 1 if name.endswith("bias") else value for name, value in own.state.items()}
    write_atomic(weights_path(kept, bundle.record.run), weights_bytes(state, own.about))
    with pytest.raises(BenchError, match=r"another digest than its record's; remove .*safetensors"):
        proven_model(bundle.record, store, weights=kept)
    with pytest.raises(BenchError, match="do not give the val and test logits"):
        proven_model(older(bundle.record), store, weights=kept)


def test_an_older_record_proves_weights_by_its_logits(
    store: Path, bundle: RunBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records from before the digest need no new training where a file gives their logits."""
    monkeypatch.setattr(proven, "run_one", refuse)
    back = proven_model(older(bundle.record), store, weights=store.parent / "kept")
    for name, value in back.model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), back.weights.state[name].numpy())


def test_what_left_no_weights_is_refused_by_name(store: Path, bundle: RunBundle) -> None:
    """A fitted model, a failed run and a stale record, each with what to do."""
    fitted = bundle.record.model_copy(update={"model": "floor/prior"})
    failed = bundle.record.model_copy(update={"status": "failed"})
    for record in (fitted, failed):
        with pytest.raises(BenchError, match="left no weights"):
            proven_model(record, store)
    stale = bundle.record.model_copy(update={"model_fingerprint": "0" * 64})
    with pytest.raises(BenchError, match=r"is stale, .*--overwrite stale"):
        proven_model(stale, store)


def test_a_training_for_weights_replaces_no_finished_record(
    store: Path, request_: RunRequest, bundle: RunBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stale or damaged: it stays, and the command that may replace it is named."""
    monkeypatch.setattr(proven, "run_one", refuse)
    path = bundle.record.run.path(store)
    stale = bundle.record.model_copy(update={"model_fingerprint": "0" * 64, "record_digest": ""}).sealed()
    for content, option in ((sealed_bytes(stale), "stale"), (path.read_bytes()[:-9], "failed")):
        path.write_bytes(content)
        with pytest.raises(BenchError, match=f"medbench run --overwrite {option} makes it anew first"):
            chosen_weights(request_, store)
        assert path.read_bytes() == content
