"""Training: chosen on val, resumable bit for bit, its numbers pinned."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.protocols.loading import load_protocol
from bench.protocols.schedule import batch_bounds, learning_rate
from bench.protocols.schema import Protocol, ScheduleRules
from bench.streams import Streams, stream_seed
from bench.training.checkpoint import Checkpoint
from bench.training.trainer import (
    DivergedError,
    InterruptedTraining,
    SplitData,
    Trainer,
    build_optimizer,
    evenly_spaced,
    predict,
)

GOLDEN = Path(__file__).parents[1] / "goldens" / "training.json"


class Tiny(nn.Module):
    """Convolution, batch norm, dropout, head: every kind of state and every random stream."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.AdaptiveAvgPool2d(2)
        )
        self.head = nn.Linear(16, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.head(self.body(x_BCHW).flatten(1))


def split(num: int, offset: int) -> SplitData:
    """Images by formula: the label is in the mean brightness."""
    index = torch.arange(num)
    labels = (index + offset) % 3
    pixels = (torch.arange(64)[None] * (index[:, None] + 3 + offset) % 97 + labels[:, None] * 50) % 256
    return SplitData(pixels.to(torch.uint8).reshape(num, 1, 8, 8), labels)


def rules(**changes: Any) -> Protocol:
    """A short protocol with every kind of change switched on."""
    content = load_protocol("paper-224-scratch").model_dump()
    content["data"]["img_size"] = 16
    content["schedule"].update(epochs=3, batch_size=8, warmup_epochs=1)
    content["numerics"] = {"precision": "fp64", "memory_format": "contiguous"}
    content["optim"] = {"name": "adamw", "lr": 0.01, "weight_decay": 0.05}
    for key, value in changes.items():
        content[key].update(value)
    return Protocol.model_validate(content)


def trainer(protocol: Protocol, folder: Path | None = None, **hooks: Any) -> Trainer:
    """A fresh training; the same seeds every time."""
    streams = Streams("tiny", "made", 0)
    torch.manual_seed(streams.init())
    checkpoint = None if folder is None else Checkpoint(folder, "key")
    return Trainer(
        Tiny(),
        split(29, 0),
        split(12, 1),
        protocol,
        streams,
        task="multi-class",
        num_classes=3,
        checkpoint=checkpoint,
        **hooks,
    )


def weights_digest(model: nn.Module) -> str:
    joined = b"".join(value.detach().numpy().tobytes() for value in model.state_dict().values())
    return hashlib.sha256(joined).hexdigest()


def test_the_last_batch_of_one_joins_the_batch_before() -> None:
    """Batch norm needs two; a training set of one batch stays as it is."""
    assert batch_bounds(9, 4) == [(0, 4), (4, 9)]
    assert batch_bounds(8, 4) == [(0, 4), (4, 8)]
    assert batch_bounds(10, 4) == [(0, 4), (4, 8), (8, 10)]
    assert batch_bounds(1, 4) == [(0, 1)]


def test_learning_rates_by_hand() -> None:
    """Warm-up by equal steps, cosine from the base to nearly zero, steps by gamma."""
    cosine = ScheduleRules(name="cosine", epochs=3, batch_size=2, warmup_epochs=1)
    assert learning_rate(cosine, 1.0, 0, 0, 2) == 0.5
    assert learning_rate(cosine, 1.0, 0, 1, 2) == 1.0
    assert learning_rate(cosine, 1.0, 1, 0, 2) == 1.0
    assert learning_rate(cosine, 1.0, 2, 0, 2) == pytest.approx(0.5)
    assert learning_rate(cosine, 1.0, 2, 1, 2) == pytest.approx(0.5 * (1 + np.cos(0.75 * np.pi)))
    official = load_protocol("medmnist-28").schedule
    rates = [learning_rate(official, 1e-3, epoch, 0, 5) for epoch in (0, 49, 50, 74, 75, 99)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adam", "adamw"])
def test_the_optimiser_is_torchs(name: str) -> None:
    """The protocol's words reach torch; a decay that spares norms and biases makes two groups."""
    optim = rules(optim={"name": name, "momentum": 0.9}).optim
    built = build_optimizer(Tiny(), optim)
    assert type(built).__name__.lower() == name
    assert built.param_groups[0]["lr"] == 0.01
    assert built.param_groups[0]["weight_decay"] == 0.05
    spared = build_optimizer(Tiny(), rules(optim={"decay_norm_and_bias": False}).optim)
    assert [(len(g["params"]), g["weight_decay"]) for g in spared.param_groups] == [(2, 0.05), (4, 0.0)]


def test_the_numbers_of_a_tiny_training_are_pinned() -> None:
    """Who changes the numerics of training must see this fail, and bump the protocols (new file, new name).

    Regenerate with `MEDBENCH_REGENERATE=1 pytest tests/training/test_train.py`.
    """
    import os

    fitted = trainer(rules())
    result = fitted.fit()
    measured = {
        "best_epoch": result.best_epoch,
        "train_loss": [row["train_loss"] for row in result.history],
        "val_loss": [row["val_loss"] for row in result.history],
        "val_auc": [row["val_auc"] for row in result.history],
        "val_logits": predict(fitted.model, split(12, 1), rules()).astype(float).tolist(),
    }
    if os.environ.get("MEDBENCH_REGENERATE"):
        GOLDEN.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert measured["best_epoch"] == golden["best_epoch"]
    for key in ("train_loss", "val_loss", "val_auc"):
        np.testing.assert_allclose(measured[key], golden[key], rtol=1e-6, err_msg=key)
    np.testing.assert_allclose(measured["val_logits"], golden["val_logits"], rtol=1e-5)


@pytest.mark.parametrize("precision", ["fp64", "fp32", "bf16"])
def test_the_same_training_twice_is_bit_identical(precision: str) -> None:
    """One seed, one result, whatever was drawn before."""
    protocol = rules(numerics={"precision": precision, "memory_format": "channels_last"})
    first = trainer(protocol)
    first.fit()
    torch.rand(17)
    second = trainer(protocol)
    second.fit()
    assert weights_digest(first.model) == weights_digest(second.model)


@pytest.mark.parametrize("stop_after", [1, 3, 4, 5, 8, 11])
@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path: Path, stop_after: int, memory_format: str) -> None:
    """Stopped in mid-epoch, at an epoch's end, more than once: bit for bit the same weights and history."""
    protocol = rules(numerics={"precision": "fp32", "memory_format": memory_format})
    whole = trainer(protocol)
    expected = whole.fit()
    num_calls = 0

    def stop() -> bool:
        nonlocal num_calls
        num_calls += 1
        return num_calls % stop_after == 0 and num_calls <= 3 * stop_after

    for _ in range(20):
        again = trainer(protocol, tmp_path, should_stop=stop)
        try:
            result = again.fit()
            break
        except InterruptedTraining:
            torch.rand(5)
    assert result.history == expected.history
    assert result.best_epoch == expected.best_epoch
    assert weights_digest(again.model) == weights_digest(whole.model)


def test_a_checkpoint_of_another_key_or_a_damaged_one_is_not_used(tmp_path: Path) -> None:
    """A damaged file is noticed by its digest and the one before it is used."""
    checkpoint = Checkpoint(tmp_path, "key")
    checkpoint.save({"value": torch.tensor(1.0)})
    checkpoint.save({"value": torch.tensor(2.0)})
    assert Checkpoint(tmp_path, "other").load() is None
    newest = max(tmp_path.glob("turn*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(bytes(content))
    state = Checkpoint(tmp_path, "key").load()
    assert state is not None
    assert state["value"].item() == 1.0
    newest.write_bytes(b"")
    assert Checkpoint(tmp_path, "key").load() is not None
    checkpoint.remove()
    assert not tmp_path.exists()


def test_a_step_moves_no_further_than_the_clipped_gradient() -> None:
    """Plain SGD at a rate of 1: the first step is as long as the gradient's norm may be, a thousandth."""
    plain = {"name": "sgd", "lr": 1.0, "weight_decay": 0.0, "momentum": 0.0}
    schedule = {"epochs": 1, "warmup_epochs": 0}
    weights: list[Tensor] = []

    def note(*_: Any) -> None:
        weights.append(torch.cat([p.detach().flatten() for p in fitted.model.parameters()]).clone())

    fitted = trainer(rules(optim={**plain, "clip_grad_norm": 1e-3}, schedule=schedule), on_progress=note)
    note()
    fitted.fit()
    assert len(weights) == 1 + 4
    assert float((weights[1] - weights[0]).norm()) == pytest.approx(1e-3, rel=1e-4)


def test_ties_keep_the_earlier_epoch() -> None:
    """With a learning rate that moves nothing every epoch scores the same, and the first is chosen."""
    protocol = rules(optim={"lr": 1e-30, "weight_decay": 0.0})
    frozen = trainer(protocol)
    for module in frozen.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
    result = frozen.fit()
    assert len({row["val_auc"] for row in result.history}) == 1
    assert result.best_epoch == 0


def test_the_chosen_weights_are_those_of_the_best_epoch() -> None:
    """After training the model scores val exactly as the history says of the chosen epoch."""
    from bench.stats.metrics import auc, softmax

    fitted = trainer(rules(optim={"lr": 0.3}))
    result = fitted.fit()
    val = split(12, 1)
    score = auc(val.labels.numpy(), softmax(predict(fitted.model, val, rules())), "multi-class")
    aucs = [row["val_auc"] for row in result.history]
    assert score == aucs[result.best_epoch] == max(aucs)


def test_a_loss_that_is_not_finite_names_its_step() -> None:
    """A learning rate beyond all measure diverges; the error says where."""

    class Explodes(Tiny):
        calls = 0

        def forward(self, x_BCHW: Tensor) -> Tensor:
            self.calls += 1
            scale = float("nan") if self.calls == 3 else 1.0
            return super().forward(x_BCHW) * scale

    protocol = rules()
    streams = Streams("tiny", "made", 0)
    broken = Trainer(Explodes(), split(29, 0), split(12, 1), protocol, streams, task="multi-class", num_classes=3)
    with pytest.raises(DivergedError) as caught:
        broken.fit()
    assert (caught.value.epoch, caught.value.step) == (0, 2)


def test_streams_follow_from_names_alone() -> None:
    """All models see the same batches; another model, seed or epoch has another stream."""
    one, two = Streams("a", "set", 0), Streams("b", "set", 0)
    assert one.augment(1, 2) == two.augment(1, 2)
    assert one.order(1) == two.order(1)
    assert one.forward(1, 2) != two.forward(1, 2)
    assert one.init() != two.init()
    assert one.augment(1, 2) != one.augment(2, 1)
    assert Streams("a", "set", 1).order(0) != one.order(0)
    assert 0 <= stream_seed("x", 1) < 2**63
    assert stream_seed("ab", "c") != stream_seed("a", "bc")


@pytest.fixture
def tf32() -> Iterator[None]:
    """TF32 as torch allows it, and what was before restored."""
    switches = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = True
    yield
    for switch, value in zip(switches, before, strict=True):
        switch.allow_tf32 = value


def test_fp32_is_no_tf32(tf32: None) -> None:
    """What torch would allow on a GPU, the suite forbids, in training and in scoring: the protocol says fp32."""
    protocol = load_protocol("smoke")
    data = SplitData(torch.zeros(4, 3, 28, 28, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]))
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 28 * 28, 2))
    predict(net, data, protocol)
    assert not torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = True
    Trainer(net, data, data, protocol, Streams("m", "d", 0), task="binary-class", num_classes=2)
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32


def test_a_split_from_arrays_has_channels_first() -> None:
    """Gray images get a channel, colour images have theirs moved; pixels and labels stay."""
    labels = np.array([0, 1], dtype=np.int64)
    gray = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    split = SplitData.from_arrays(gray, labels, "cpu")
    assert split.images.shape == (2, 1, 3, 4)
    assert np.array_equal(split.images[:, 0].numpy(), gray)
    assert split.labels.tolist() == [0, 1]
    colour = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    images = SplitData.from_arrays(colour, labels, "cpu").images
    assert images.shape == (2, 3, 3, 4)
    assert images.is_contiguous()
    assert np.array_equal(images[:, 1].numpy(), colour[..., 1])


def test_scoring_train_images_as_they_are_moves_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without it: the same weights, chosen epoch and history of everything else."""
    scored = trainer(rules())
    with_scores = scored.fit()
    monkeypatch.setattr(Trainer, "_plain_scores", lambda self: {})
    bare = trainer(rules())
    without = bare.fit()
    assert weights_digest(scored.model) == weights_digest(bare.model)
    assert with_scores.best_epoch == without.best_epoch
    plain = ("plain_train_loss", "plain_train_acc")
    assert [{k: v for k, v in row.items() if k not in plain} for row in with_scores.history] == without.history
    assert all(set(plain) <= set(row) for row in with_scores.history)


def test_train_scores_are_of_unchanged_images_at_even_distances() -> None:
    """As many as val has: of 29 images for 12, number k is 29 k / 12, rounded down; the last epoch's by hand."""
    data = split(29, 0)
    chosen = [0, 2, 4, 7, 9, 12, 14, 16, 19, 21, 24, 26]
    picked = evenly_spaced(data, 12)
    assert torch.equal(picked.images, data.images[chosen])
    assert torch.equal(picked.labels, data.labels[chosen])
    assert evenly_spaced(data, 30) is data
    protocol = rules(schedule={"epochs": 1, "warmup_epochs": 0})
    fitted = trainer(protocol)
    row = fitted.fit().history[0]  # of one epoch, whose weights are the chosen ones
    logits = torch.from_numpy(predict(fitted.model, picked, protocol)).double()
    loss = torch.nn.functional.cross_entropy(logits, picked.labels)
    assert row["plain_train_loss"] == pytest.approx(float(loss), rel=1e-6)
    assert row["plain_train_acc"] == float((logits.argmax(1) == picked.labels).double().mean())


def test_train_logits_that_are_not_finite_end_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only val's and the loss may: what is noted alone is noted as not a number."""
    fitted = trainer(rules())
    real = predict

    def spoiled(model: nn.Module, data: SplitData, protocol: Protocol) -> Any:
        logits = real(model, data, protocol)
        return logits * np.float32("nan") if data is fitted.plain_train else logits

    monkeypatch.setattr("bench.training.trainer.predict", spoiled)
    history = fitted.fit().history
    assert len(history) == 3
    assert all(np.isnan(row["plain_train_loss"]) and np.isnan(row["plain_train_acc"]) for row in history)
