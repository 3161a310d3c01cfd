"""The loss of a training step: cross-entropy, and what its rules do against imbalance."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.errors import BenchError
from bench.protocols.schema import LossRules


class TrainingLoss:
    """Cross-entropy under a protocol's rules; evaluation never sees what it does to logits.

    Args:
        rules: The protocol's.
        labels: (N,) of the images that are trained on, whose class shares the arms against imbalance use.
        num_classes: K.
        dtype: Of the loss.

    Raises:
        BenchError: If such an arm meets a class without training images.
    """

    def __init__(self, rules: LossRules, labels: Tensor, num_classes: int, dtype: torch.dtype) -> None:
        self.smoothing = rules.label_smoothing
        self.weights_K: Tensor | None = None
        self.shift_K: Tensor | None = None
        if rules.class_weights == "none" and rules.logit_adjustment == 0.0:
            return
        counts = labels.bincount(minlength=num_classes)
        if not bool((counts > 0).all()):
            raise BenchError(
                f"classes of {counts.tolist()} training images have no weights against imbalance; each needs an image"
            )
        shares = counts.double() / len(labels)
        if rules.class_weights == "balanced":
            self.weights_K = (1.0 / (num_classes * shares)).to(dtype)
        if rules.logit_adjustment:
            self.shift_K = (rules.logit_adjustment * shares.log()).to(dtype)

    def __call__(self, logits_BK: Tensor, targets_BK: Tensor) -> Tensor:
        """Mean over the batch, a number that can be differentiated.

        With class weights it is divided by the images, not by their weights, whose mean over train is 1: a batch
        without rare images then weighs less, as it should.

        Args:
            logits_BK: As the model gives them, in the loss's type.
            targets_BK: Rows that sum to 1.
        """
        if self.shift_K is not None:
            logits_BK = logits_BK + self.shift_K
        return F.cross_entropy(logits_BK, targets_BK, weight=self.weights_K, label_smoothing=self.smoothing)
