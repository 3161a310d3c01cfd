"""A run from names to a record: test is read last, scores come from what is stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.data import loading
from bench.data.card import measure
from bench.data.loading import Arrays, load
from bench.machine import cpu_isa
from bench.machine.cpu_isa import CpuIsa
from bench.protocols.loading import load_protocol
from bench.records.card import labels_digest
from bench.records.names import Run
from bench.records.predictions import read_predictions
from bench.records.scoring import score_predictions
from bench.runs.request import Hooks, RunBundle, RunProgress, RunRequest
from bench.runs.runner import OfficialMismatchError, check_official, run_one
from bench.training.trainer import InterruptedTraining
from models import fingerprint, get_spec, load_plugin
from tests.making import read_frame

SET = "synthetic-bloodmnist"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A plugin: a researcher's baseline in one file."""
    path = tmp_path_factory.mktemp("plugin") / "runner_net.py"
    path.write_text(
        '"""A baseline."""\n'
        "from torch import nn\n"
        "from models import register_model\n\n\n"
        '@register_model(paper="none", source="a test", code_license="MIT")\n'
        "def runner_net(*, num_classes, in_chans=3, img_size=28, pretrained=False):\n"
        "    return nn.Sequential(nn.Conv2d(in_chans, 8, 5, stride=3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(),\n"
        "                         nn.Linear(8 * 8 * 8, num_classes))\n",
        encoding="utf-8",
    )
    return str(path)


def request(tiny: str, model: str = "runner_net", seed: int = 0) -> RunRequest:
    return RunRequest(Run("smoke", model, SET, seed), load_protocol("smoke"), measure(SET), plugins=(tiny,))


def with_arrays(monkeypatch: pytest.MonkeyPatch, change: Callable[[Arrays], Arrays]) -> None:
    original = load

    def changed(*arguments: object, **options: object) -> Arrays:
        return change(original(*arguments, **options))  # type: ignore[arg-type]

    monkeypatch.setattr(loading, "load", changed)


def test_a_run_names_the_arithmetic_that_it_had(tiny: str) -> None:
    """The record states it, with the variables that held it; another than requested is a failure, not a number."""
    record = run_one(request(tiny)).record
    assert record.cpu_isa == cpu_isa.in_force()
    assert record.cpu_environment == cpu_isa.variables()
    other = CpuIsa.avx512 if record.cpu_isa == CpuIsa.avx2 else CpuIsa.avx2
    refused = run_one(replace(request(tiny), cpu_isa=other)).record
    assert refused.status == "failed"
    assert refused.failure is not None
    assert f"computes at {record.cpu_isa}, the run asks for {other}" in refused.failure.message


def test_a_record_holds_what_its_predictions_give(tiny: str) -> None:
    """Every score follows from the stored bytes; the twin-free part is scored apart; digests fit."""
    import hashlib

    run_request = request(tiny)
    bundle = run_one(run_request)
    record = bundle.record
    assert record.status == "done", record.failure
    assert bundle.predictions is not None
    table = read_predictions(bundle.predictions)
    assert score_predictions(table, run_request.card) == {
        "val": record.val,
        "test": record.test,
        "test_twin_free": record.test_twin_free,
    }
    assert record.predictions_sha256 == hashlib.sha256(bundle.predictions).hexdigest()
    frame = read_frame(bundle.predictions)
    assert list(frame.columns) == ["split", "index", "label", *[f"logit_{k}" for k in range(8)]]
    assert frame["logit_0"].dtype == np.float32
    assert len(frame) == 44 + 88
    assert record.synthetic
    assert record.record_digest == record.computed_digest()
    assert record.num_threads == 1
    assert record.images_per_second is not None
    assert record.images_per_second > 0


def test_nothing_but_the_final_score_depends_on_test(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other test images change the test scores and not one bit of training, choice or val."""
    plain = run_one(request(tiny))

    def poison(arrays: Arrays) -> Arrays:
        images = {**arrays.images, "test": 255 - arrays.images["test"]}
        return replace(arrays, images=images)

    run_request = request(tiny)
    with_arrays(monkeypatch, poison)
    poisoned = run_one(run_request)
    assert plain.history == poisoned.history
    assert plain.record.best_epoch == poisoned.record.best_epoch
    assert plain.record.val == poisoned.record.val
    assert plain.record.test != poisoned.record.test


def test_test_is_opened_once_after_the_choice(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order in which splits reach the device: train and val, then, after the last epoch, test."""
    import torch

    from bench.training import trainer

    opened: list[str] = []
    from_arrays, fit = trainer.SplitData.from_arrays, trainer.Trainer.fit
    sizes = {128: "train", 44: "val", 88: "test"}

    def watched(images: np.ndarray, labels: np.ndarray, device: str) -> trainer.SplitData:
        opened.append(sizes[len(labels)])
        return from_arrays(images, labels, device)

    def watched_fit(self: trainer.Trainer) -> trainer.TrainResult:
        result = fit(self)
        opened.append("chosen")
        return result

    monkeypatch.setattr(trainer.SplitData, "from_arrays", watched)
    monkeypatch.setattr(trainer.Trainer, "fit", watched_fit)
    assert run_one(request(tiny)).record.status == "done"
    assert opened == ["train", "val", "chosen", "test"]
    assert torch.get_num_threads() == 1


def test_max_train_also_cuts_what_is_fitted(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A floor under `smoke` sees no more than 128 training images, like the networks."""
    from bench import classical

    seen: list[int] = []

    def spy(name: str, arrays: Arrays, seed: int) -> dict[str, np.ndarray]:
        seen.append(len(arrays.labels["train"]))
        return classical_fit(name, arrays, seed)

    classical_fit = classical.fit_predict
    monkeypatch.setattr(classical, "fit_predict", spy)
    protocol = load_protocol("smoke")
    short = protocol.model_copy(update={"data": protocol.data.model_copy(update={"max_train": 50})})
    run_request = replace(request(tiny, "floor/prior"), protocol=short)
    assert run_one(run_request).record.status == "done"
    assert seen == [50]


def few_images(tiny: str, model: str = "runner_net") -> RunRequest:
    """A run on eight training images whose last step is scored beside val's choice."""
    protocol = load_protocol("smoke")
    changes = {
        "data": protocol.data.model_copy(update={"max_train": None, "train_per_class": 1}),
        "schedule": protocol.schedule.model_copy(update={"steps_of": "split"}),
        "score_last": True,
    }
    return replace(request(tiny, model), protocol=protocol.model_copy(update=changes))


def test_the_last_step_is_scored_beside_vals_choice(tiny: str, tmp_path: Path) -> None:
    """Its logits stand in the same table; its scores follow from them, and `verify` compares them with the history."""
    from bench.check.store.run import check_files, field_problems
    from bench.records.run_record import write_run

    run_request = few_images(tiny)
    bundle = run_one(run_request)
    record = bundle.record
    assert record.status == "done", record.failure
    assert bundle.predictions is not None
    frame = read_frame(bundle.predictions)
    assert frame["split"].value_counts().to_dict() == {"val": 44, "test": 88, "val_last": 44, "test_last": 88}
    assert record.test_last == score_predictions(read_predictions(bundle.predictions), run_request.card)["test_last"]
    path = write_run(tmp_path, record, bundle.predictions, bundle.history)
    assert not list(field_problems(record, tmp_path))
    assert not check_files(record, path, run_request.card, scores=True).problems

    wrong = {**(record.test_last or {}), "auc": 0.5}
    (problem,) = check_files(
        record.model_copy(update={"test_last": wrong}), path, run_request.card, scores=True
    ).problems
    assert problem.startswith("test_last auc is 0.5 in the record")
    without = record.model_copy(update={"test_last": None})
    assert "scores of the last step: some are missing" in list(field_problems(without, tmp_path))


def test_what_is_fitted_has_no_last_step(tiny: str) -> None:
    """Nothing is chosen in it; it sees the same few images."""
    record = run_one(few_images(tiny, "floor/knn1")).record
    assert record.status == "done", record.failure
    assert record.test_last is None


def test_swapped_logits_of_the_last_step_are_noticed(tiny: str, tmp_path: Path) -> None:
    """Scored again and sealed again they still are not those of the history's last epoch."""
    import hashlib

    from bench.check.store.run import check_files
    from bench.records.predictions import frame_bytes
    from bench.records.run_record import write_run

    run_request = few_images(tiny)
    bundle = run_one(run_request)
    frame = read_frame(bundle.predictions or b"")
    frame.loc[frame["split"] == "val_last", "logit_0"] += 3.0
    predictions = frame_bytes(frame)
    scores = score_predictions(read_predictions(predictions), run_request.card)
    digest = hashlib.sha256(predictions).hexdigest()
    record = bundle.record.model_copy(update={**scores, "predictions_sha256": digest}).sealed()
    path = write_run(tmp_path, record, predictions, bundle.history)
    problems = check_files(record, path, run_request.card, scores=True).problems
    assert problems
    assert all("in epoch 1 is" in problem for problem in problems)


def test_other_labels_than_the_cards_fail_the_run(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A card of another release: failure class `data`."""

    def other(arrays: Arrays) -> Arrays:
        labels = {**arrays.labels, "val": np.roll(arrays.labels["val"], 1)}
        assert labels_digest(labels["val"]) != labels_digest(arrays.labels["val"])
        return replace(arrays, labels=labels)

    run_request = request(tiny)
    with_arrays(monkeypatch, other)
    record = run_one(run_request).record
    assert (record.status, record.failure and record.failure.kind) == ("failed", "data")


def test_a_difference_from_medmnists_own_functions_fails_the_run(tiny: str) -> None:
    """AUC or accuracy that differ by more than 1e-9 are no result."""
    run_request = request(tiny)
    bundle: RunBundle = run_one(run_request)
    assert bundle.predictions is not None
    table = read_predictions(bundle.predictions)
    scores = score_predictions(table, run_request.card)
    check_official(table, run_request.card, scores)
    for key in ("auc", "acc"):
        off = {**scores, "test": {**scores["test"], key: (scores["test"][key] or 0.0) + 2e-9}}
        with pytest.raises(OfficialMismatchError, match=f"test {key}"):
            check_official(table, run_request.card, off)


def test_the_plugin_is_under_25_lines(tiny: str) -> None:
    """Adding a baseline is one short file."""
    assert len(Path(tiny).read_text(encoding="utf-8").splitlines()) < 25


def test_a_record_names_the_code_that_ran(tiny: str) -> None:
    """A model file that is changed while a run goes on changes nothing about the record's fingerprint."""
    run_request, file = request(tiny), Path(tiny)
    text = file.read_text(encoding="utf-8")
    load_plugin(tiny)
    before = fingerprint(get_spec("runner_net"))

    def edit(at: RunProgress) -> None:
        file.write_text(text.replace("stride=3", "stride=2 + 1"), encoding="utf-8")

    try:
        record = run_one(run_request, Hooks(on_progress=edit)).record
        assert fingerprint(get_spec("runner_net")) != before
    finally:
        file.write_text(text, encoding="utf-8")
    assert (record.status, record.model_fingerprint) == ("done", before)


def test_other_code_than_the_planned_is_not_run(tiny: str) -> None:
    """A run whose model was changed since the plan is refused, and says what to do."""
    record = run_one(replace(request(tiny), model_fingerprint="0" * 64)).record
    assert record.failure is not None
    assert (record.status, record.failure.kind) == ("failed", "infra")
    assert "leave it alone while runs go on" in record.failure.message


def test_a_fitted_model_needs_no_gpu(tiny: str) -> None:
    """Under --device cuda a floor is still fitted on the processor, and its record says so."""
    record = run_one(replace(request(tiny, model="floor/prior"), device="cuda:7")).record
    assert record.status == "done", record.failure
    assert str(record.device).startswith("cpu: ")


def steps_of(run_request: RunRequest, stop_after: int | None = None) -> tuple[RunBundle | None, int]:
    """Do a run and count its training steps; the bundle is None if it was stopped after some."""
    count = 0

    def step(at: RunProgress) -> None:
        nonlocal count
        count += 1

    try:
        return run_one(run_request, Hooks(step, lambda: count == stop_after)), count
    except InterruptedTraining:
        return None, count


def test_a_run_that_is_done_again_trains_again(tiny: str, tmp_path: Path) -> None:
    """The checkpoint of the finished run is not gone on from; a re-run's own is, and all end in the same bytes."""
    run_request = replace(request(tiny), checkpoint_dir=str(tmp_path / "checkpoints"))
    first, steps = steps_of(run_request)
    assert first is not None
    assert steps_of(run_request)[1] == 0  # a kill after the last step: nothing is left to train
    again = replace(run_request, replaces=first.record.record_digest)
    assert steps_of(again, stop_after=1) == (None, 1)
    second, rest = steps_of(again)
    assert second is not None
    assert rest == steps - 1
    third, anew = steps_of(replace(run_request, replaces=second.record.record_digest))
    assert third is not None
    assert anew == steps
    assert first.predictions == second.predictions == third.predictions
