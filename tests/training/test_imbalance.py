"""Few or rare images in training: the loss and the sampler by hand, as many steps for every subset."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.errors import BenchError
from bench.protocols.schema import LossRules, Protocol
from bench.streams import Streams
from bench.training.checkpoint import Checkpoint
from bench.training.loss import TrainingLoss
from bench.training.sampling import epoch_order
from bench.training.trainer import InterruptedTraining, SplitData, Trainer, TrainResult
from tests.training.test_train import Tiny, rules, split, weights_digest

LABELS = torch.tensor([0] * 9 + [1])  # shares 0.9 and 0.1
LOGITS = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
TARGETS = torch.eye(2, dtype=torch.float64)


def loss(**keys: Any) -> float:
    return float(TrainingLoss(LossRules(**keys), LABELS, 2, torch.float64)(LOGITS, TARGETS))


def test_class_weights_by_hand() -> None:
    """1 / (2 x 0.9) and 1 / (2 x 0.1), divided by the two images: their mean over train is 1."""
    each = math.log(1 + math.exp(-1)), math.log(1 + math.exp(-2))
    assert loss() == pytest.approx(sum(each) / 2, rel=1e-12)
    assert loss(class_weights="balanced") == pytest.approx((each[0] / 1.8 + each[1] / 0.2) / 2, rel=1e-12)


def test_logit_adjustment_by_hand() -> None:
    """z + tau log(share): the rare class needs a lead of log 9 for the loss that an even one has."""
    by_hand = math.log(1 + math.exp(-1 + math.log(0.1 / 0.9))), math.log(1 + math.exp(-2 + math.log(0.9 / 0.1)))
    assert loss(logit_adjustment=1.0) == pytest.approx(sum(by_hand) / 2, rel=1e-12)
    halved = math.log(1 + math.exp(-1 + math.log(1 / 3) * 1.0)), math.log(1 + math.exp(-2 + math.log(3)))
    assert loss(logit_adjustment=0.5) == pytest.approx(sum(halved) / 2, rel=1e-12)


@pytest.mark.parametrize("keys", [{"class_weights": "balanced"}, {"logit_adjustment": 1.0}])
def test_a_class_without_images_has_no_weight(keys: dict[str, Any]) -> None:
    """One line instead of an infinite loss; the plain loss needs no shares."""
    with pytest.raises(BenchError, match=r"classes of \[9, 1, 0\]"):
        TrainingLoss(LossRules(**keys), LABELS, 3, torch.float64)
    assert TrainingLoss(LossRules(), LABELS, 3, torch.float64).weights_K is None


def test_the_plain_order_is_a_permutation_a_pass() -> None:
    """One pass draws what `randperm` draws; the next one follows in the same stream."""
    torch.manual_seed(3)
    first, second = torch.randperm(10), torch.randperm(10)
    torch.manual_seed(3)
    assert epoch_order(LABELS, "shuffled", 2).tolist() == [*first.tolist(), *second.tolist()]


def test_the_balanced_order_takes_classes_and_their_images_equally_often() -> None:
    """Of 40,000 draws half are the one rare image, a ninth of the others each of the frequent ones."""
    torch.manual_seed(5)
    order = epoch_order(LABELS[torch.arange(9, -1, -1)], "balanced", 4_000)  # the rare image stands first
    counts = order.bincount(minlength=10).tolist()
    assert sum(counts) == 40_000
    assert abs(counts[0] - 20_000) < 5 * math.sqrt(40_000 / 4)
    assert max(abs(count - 20_000 / 9) for count in counts[1:]) < 5 * math.sqrt(20_000 / 9)


def test_a_class_without_images_is_never_drawn() -> None:
    """Nor does it take another's turn."""
    torch.manual_seed(0)
    assert set(epoch_order(torch.tensor([0, 2, 2]), "balanced", 50).tolist()) == {0, 1, 2}


def training(protocol: Protocol, num: int, folder: Path | None = None, **hooks: Any) -> tuple[Trainer, TrainResult]:
    streams = Streams("tiny", "made", 0)
    torch.manual_seed(streams.init())
    whole, val = split(29, 0), split(12, 1)
    trainer = Trainer(
        Tiny(),
        SplitData(whole.images[:num], whole.labels[:num]),
        val,
        protocol,
        streams,
        task="multi-class",
        num_classes=3,
        num_split=29,
        checkpoint=None if folder is None else Checkpoint(folder, "key"),
        **hooks,
    )
    return trainer, trainer.fit()


def few(sampler: str = "balanced", **keys: Any) -> Protocol:
    changes = {"schedule": {"steps_of": "split"}, "data": {"sampler": sampler}, "loss": keys}
    return rules(**changes).model_copy(update={"score_last": True})


def test_every_subset_gets_the_same_steps() -> None:
    """29 images in batches of 8 are 4 steps an epoch; so are 5 of them, in batches of 5."""
    for num, images in ((29, 29), (5, 20), (11, 22)):
        steps: list[int] = []
        trainer, _ = training(few("shuffled"), num, on_progress=lambda at, per_epoch, s=steps: s.append(per_epoch))
        assert steps == [4] * 12
        assert trainer.progress.images_seen == 3 * images


def test_the_whole_split_is_trained_as_without_the_rule() -> None:
    """Its weights and history are those of a protocol that knows no subset, bit for bit."""
    (plain, before), (ours, after) = training(rules(), 29), training(few("shuffled"), 29)
    assert weights_digest(plain.model) == weights_digest(ours.model)
    assert before.history == after.history


@pytest.mark.parametrize("keys", [{"class_weights": "balanced"}, {"logit_adjustment": 1.0}])
def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path, keys: dict[str, Any]) -> None:
    """In the middle of an epoch that passes over the images several times, with sampler and arm; last step included."""
    whole, expected = training(few(**keys), 7)
    count = 0

    def stop() -> bool:
        nonlocal count
        count += 1
        return count == 7

    with pytest.raises(InterruptedTraining):
        training(few(**keys), 7, tmp_path, should_stop=stop)
    resumed, found = training(few(**keys), 7, tmp_path)
    assert weights_digest(resumed.model) == weights_digest(whole.model)
    assert found.history == expected.history
    assert expected.last_state is not None
    assert found.last_state is not None
    assert all(torch.equal(value, found.last_state[name]) for name, value in expected.last_state.items())


def test_the_last_steps_weights_are_kept_where_the_protocol_has_them_scored() -> None:
    """Those of the chosen epoch if that is the last, others if not; none without the rule."""
    trainer, result = training(few(), 11)
    assert result.last_state is not None
    same = all(torch.equal(value, result.last_state[name]) for name, value in trainer.model.state_dict().items())
    assert same == (result.best_epoch == 2)
    assert training(rules(), 11)[1].last_state is None
