"""One model, train and val arrays, one protocol -> the weights of the epoch that val chose.

Nothing here is ever handed test data. A training that is interrupted and resumed equals one that was not, bit
for bit on a CPU: the random streams follow from epoch and step (`bench.streams`), all else is in the checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.errors import BenchError
from bench.machine.foreign import Pinned, cast, seed_generators
from bench.protocols.schedule import epoch_bounds, learning_rate
from bench.protocols.schema import OptimRules, Protocol
from bench.stats.metrics import accuracy, auc, clipped_loss, softmax
from bench.streams import Streams, stream_seed
from bench.training.augment import augment, prepare
from bench.training.checkpoint import Checkpoint
from bench.training.loss import TrainingLoss
from bench.training.sampling import epoch_order

EVAL_BATCH = 256
EVAL_SEED = stream_seed("eval")  # a model that draws while it is scored draws the same each time
DTYPES = {"fp32": torch.float32, "bf16": torch.float32, "fp64": torch.float64}
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


class DivergedError(Exception):
    """The training loss is not finite any more."""

    def __init__(self, epoch: int, step: int) -> None:
        super().__init__(f"the loss is not finite at epoch {epoch}, step {step}")
        self.epoch, self.step = epoch, step


class InterruptedTraining(Exception):
    """The training stopped on request; its checkpoint has been written."""


@dataclass(frozen=True)
class SplitData:
    """Images (N, C, H, W) uint8 and labels (N,) int64 of one split, whole on the training device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def from_arrays(cls, images: NDArray[np.uint8], labels: NDArray[np.int64], device: str) -> SplitData:
        """A split on a device.

        Args:
            images: (N, H, W) gray or (N, H, W, C) colour.
            labels: (N,) class indices.
            device: `cpu`, `cuda` or `cuda:<index>`.
        """
        tensor = torch.from_numpy(images)
        x_BCHW = tensor.unsqueeze(1) if tensor.ndim == 3 else tensor.permute(0, 3, 1, 2)
        return cls(x_BCHW.contiguous().to(device), torch.from_numpy(labels).to(device))


@dataclass
class Progress:
    """All that a resume needs beside weights and optimiser; floats are Python's, counts whole."""

    epoch: int = 0
    step: int = 0
    losses: list[float] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)
    best_auc: float = -1.0
    best_epoch: int = -1
    train_seconds: float = 0.0
    images_seen: int = 0


@dataclass(frozen=True)
class TrainResult:
    """What training leaves.

    Attributes:
        best_epoch: The chosen epoch, from 0.
        history: One row an epoch: epoch, lr, train_loss, val_loss, val_auc, val_acc, plain_train_loss, plain_train_acc.
        train_seconds: Seconds in training steps, over all resumes; scoring is not in it.
        images_per_second: Training images through the steps over `train_seconds`.
        last_state: The last step's weights, where the protocol has them scored.
    """

    best_epoch: int
    history: list[dict[str, float]]
    train_seconds: float
    images_per_second: float
    last_state: dict[str, Tensor] | None = None


def evenly_spaced(data: SplitData, count: int) -> SplitData:
    """So many images of a split at even distances in its order, all where it has no more."""
    if count >= len(data):
        return data
    chosen = torch.arange(count, device=data.labels.device) * len(data) // count
    return SplitData(data.images[chosen], data.labels[chosen])


def build_optimizer(model: nn.Module, rules: OptimRules) -> torch.optim.Optimizer:
    """The protocol's optimiser over all parameters that need a gradient."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if rules.decay_norm_and_bias or rules.weight_decay == 0.0:
        groups: list[dict[str, Any]] = [{"params": parameters, "weight_decay": rules.weight_decay}]
    else:
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": rules.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
    if rules.name == "sgd":
        return torch.optim.SGD(groups, lr=rules.lr, momentum=rules.momentum)
    if rules.name == "rmsprop":
        return torch.optim.RMSprop(groups, lr=rules.lr, momentum=rules.momentum)
    if rules.name == "adam":
        return torch.optim.Adam(groups, lr=rules.lr)
    return torch.optim.AdamW(groups, lr=rules.lr)


def predict(model: nn.Module, data: SplitData, protocol: Protocol) -> NDArray[np.float32]:
    """Logits (N, K) float32 of a split, in evaluation mode.

    Raises:
        BenchError: If the model's code changes the number of threads, or its logits are complex.
    """
    dtype = DTYPES[protocol.numerics.precision]
    memory_format = FORMATS[protocol.numerics.memory_format]
    model.eval()
    parts = []
    with Pinned() as pinned, torch.inference_mode(), _autocast(data.images.device, protocol):
        seed_generators(EVAL_SEED)
        for start in range(0, len(data), EVAL_BATCH):
            x_BCHW = prepare(data.images[start : start + EVAL_BATCH], protocol, dtype=dtype)
            parts.append(_real(model(x_BCHW.to(memory_format=memory_format))).float())
            pinned.check_threads()
    logits: NDArray[np.float32] = torch.cat(parts).cpu().numpy()
    return logits


def _real(logits_BK: Tensor) -> Tensor:
    if logits_BK.is_complex():
        raise BenchError("the model returns complex logits, whose imaginary part no loss sees; return real ones")
    return logits_BK


def _autocast(device: torch.device, protocol: Protocol) -> torch.autocast:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=protocol.numerics.precision == "bf16")


class Trainer:
    """The training of one run.

    Args:
        model: On the device of the data, already initialised.
        train: What the protocol's data rules leave of the training split.
        val: The split that chooses the epoch.
        protocol: The rules.
        streams: The run's seeds.
        task: medmnist's task, for the AUC.
        num_classes: K.
        num_split: Images of the whole training split; None for those of `train`.
        checkpoint: Where to save and resume, None to do neither.
        on_progress: Called after each step with the progress and the number of steps an epoch.
        should_stop: Called after each step; True saves and raises InterruptedTraining.
    """

    def __init__(
        self,
        model: nn.Module,
        train: SplitData,
        val: SplitData,
        protocol: Protocol,
        streams: Streams,
        *,
        task: str,
        num_classes: int,
        num_split: int | None = None,
        checkpoint: Checkpoint | None = None,
        on_progress: Callable[[Progress, int], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self.pinned = Pinned()
        self.pinned.hold()
        self.train_data, self.val_data = train, val
        self.protocol, self.streams = protocol, streams
        self.task, self.num_classes = task, num_classes
        self.checkpoint, self.on_progress, self.should_stop = checkpoint, on_progress, should_stop
        self.dtype = DTYPES[protocol.numerics.precision]
        self.memory_format = FORMATS[protocol.numerics.memory_format]
        self.model = cast(model, self.dtype, self.memory_format)
        self.optimizer = build_optimizer(self.model, protocol.optim)
        self.plain_train = evenly_spaced(train, len(val))
        self.loss = TrainingLoss(protocol.loss, train.labels, num_classes, self.dtype)
        self.bounds = epoch_bounds(protocol.schedule, len(train), len(train) if num_split is None else num_split)
        self.best_state = self._copy_weights()
        self.progress = Progress()
        self._epoch_losses = torch.empty(0)

    def fit(self) -> TrainResult:
        """Train, or go on from the checkpoint; leaves the chosen epoch's weights in the model.

        Raises:
            BenchError: If the model's code changes the number of threads, or its logits are complex.
            DivergedError: If a loss is not finite.
            InterruptedTraining: If `should_stop` returned true.
        """
        self._resume()
        progress = self.progress
        while progress.epoch < self.protocol.schedule.epochs:
            self._train_epoch()
            self._score_epoch()
            progress.epoch, progress.step, progress.losses = progress.epoch + 1, 0, []
            if self.should_stop is not None and self.should_stop():
                self._save()
                raise InterruptedTraining
        if self.checkpoint is not None:
            self._save()
        last_state = self._copy_weights() if self.protocol.score_last else None
        self.model.load_state_dict(self.best_state)
        rate = progress.images_seen / progress.train_seconds if progress.train_seconds else 0.0
        return TrainResult(progress.best_epoch, progress.history, progress.train_seconds, rate, last_state)

    def _train_epoch(self) -> None:
        progress, bounds, labels = self.progress, self.bounds, self.train_data.labels
        seed_generators(self.streams.order(progress.epoch))
        order = epoch_order(labels, self.protocol.data.sampler, -(-bounds[-1][1] // len(labels)))
        # Losses stay on the device until the epoch's end: no step waits for the host.
        losses = torch.zeros(len(bounds), dtype=self.dtype, device=labels.device)
        losses[: progress.step] = torch.tensor(progress.losses, dtype=self.dtype, device=labels.device)
        self._epoch_losses = losses
        self.model.train()
        while progress.step < len(bounds):
            started = time.perf_counter()
            first, last = bounds[progress.step]
            losses[progress.step] = self._step(order[first:last], len(bounds))
            progress.step += 1
            progress.images_seen += last - first
            progress.train_seconds += time.perf_counter() - started
            self._after_step(len(bounds))
        started = time.perf_counter()
        progress.losses = losses.tolist()  # on CUDA this waits for the epoch's last step
        progress.train_seconds += time.perf_counter() - started
        bad = [step for step, loss in enumerate(progress.losses) if not np.isfinite(loss)]
        if bad:
            raise DivergedError(progress.epoch, bad[0])

    def _step(self, chosen: Tensor, steps: int) -> Tensor:
        epoch, step = self.progress.epoch, self.progress.step
        optim = self.protocol.optim
        rate = learning_rate(self.protocol.schedule, optim.lr, epoch, step, steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.pinned.hold()
        seed_generators(self.streams.augment(epoch, step))
        x_BCHW, targets_BK = augment(
            self.train_data.images[chosen],
            self.train_data.labels[chosen],
            self.protocol,
            self.num_classes,
            dtype=self.dtype,
        )
        seed_generators(self.streams.forward(epoch, step))
        self.optimizer.zero_grad(set_to_none=True)
        with _autocast(x_BCHW.device, self.protocol):
            logits_BK = _real(self.model(x_BCHW.to(memory_format=self.memory_format)))
        loss = self.loss(logits_BK.to(self.dtype), targets_BK)
        loss.backward()  # type: ignore[no-untyped-call]
        if optim.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), optim.clip_grad_norm)
        self.optimizer.step()
        self.pinned.check_threads()
        return loss.detach()

    def _after_step(self, steps: int) -> None:
        if self.on_progress is not None:
            self.on_progress(self.progress, steps)
        stop = self.should_stop is not None and self.should_stop()
        if stop or (self.checkpoint is not None and self.checkpoint.due()):
            self.progress.losses = self._epoch_losses[: self.progress.step].tolist()
            self._save()
        if stop:
            raise InterruptedTraining

    def _score_epoch(self) -> None:
        progress = self.progress
        labels = self.val_data.labels.cpu().numpy()
        logits = predict(self.model, self.val_data, self.protocol)
        if not np.isfinite(logits).all():
            raise DivergedError(progress.epoch, progress.step - 1)
        probs = softmax(logits)
        val_auc = auc(labels, probs, self.task)
        progress.history.append(
            {
                "epoch": progress.epoch,
                "lr": self.optimizer.param_groups[0]["lr"],
                "train_loss": float(np.mean(progress.losses)),
                "val_loss": clipped_loss(labels, probs),
                "val_auc": float("nan") if val_auc is None else val_auc,
                "val_acc": accuracy(labels, probs, self.task),
                **self._plain_scores(),
            }
        )
        if (val_auc or 0.0) > progress.best_auc:  # ties keep the earlier epoch
            progress.best_auc, progress.best_epoch = val_auc or 0.0, progress.epoch
            self.best_state = self._copy_weights()

    def _plain_scores(self) -> dict[str, float]:
        """Loss and accuracy on train images as they are, not augmented and not mixed; NaN where a logit is not finite.

        They are noted, and choose nothing: the images are as many as val has, so that they cost what val does.
        """
        logits = predict(self.model, self.plain_train, self.protocol)
        if not np.isfinite(logits).all():
            return {"plain_train_loss": float("nan"), "plain_train_acc": float("nan")}
        labels, probs = self.plain_train.labels.cpu().numpy(), softmax(logits)
        return {
            "plain_train_loss": clipped_loss(labels, probs),
            "plain_train_acc": accuracy(labels, probs, self.task),
        }

    def _copy_weights(self) -> dict[str, Tensor]:
        return {key: value.detach().clone() for key, value in self.model.state_dict().items()}

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        self.checkpoint.save(
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "best_state": self.best_state,
                "progress": vars(self.progress).copy(),
            }
        )

    def _resume(self) -> None:
        state = self.checkpoint.load() if self.checkpoint is not None else None
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        device = self.train_data.labels.device
        self.best_state = {key: value.to(device) for key, value in state["best_state"].items()}
        self.progress = Progress(**state["progress"])
