"""The contract's check of what a model returns: finite logits, and no probabilities."""

from __future__ import annotations

from torch import Tensor

from bench.check.contract_subject import CLASSES, Broken, Subject, logits

FEW_CLASSES = 2
ROUNDING = 1e-4  # of a sum of probabilities, in float32


def check_forward(subject: Subject) -> str:
    """Logits have shape (B, K) and are finite, for two numbers of classes; `check_sizes` takes a third."""
    if _are_probabilities(logits(subject.model, subject.x_BCHW)):
        raise Broken(
            "forward returns probabilities, each row sums to 1: leave the softmax at the end out, "
            "the loss and the scores take logits"
        )
    logits(subject.build(num_classes=FEW_CLASSES), subject.x_BCHW, FEW_CLASSES)
    return f"finite for {CLASSES} and {FEW_CLASSES} classes"


def _are_probabilities(output_BK: Tensor) -> bool:
    """Whether each row of (B, K) outputs is none below 0 and sums to 1."""
    sums_B = output_BK.double().sum(dim=1)
    return bool((output_BK >= 0).all() and ((sums_B - 1).abs() < ROUNDING).all())
