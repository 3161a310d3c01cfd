"""The contract's check of image sizes: those of the protocols, and the edges of what a model's file claims."""

from __future__ import annotations

import torch
from torch import nn

from bench.check.contract_subject import CLASSES, Broken, Subject, checked, error_line, located_line, logits
from models import ModelError, ModelSpec

USUAL_PX = 64
PROTOCOL_PX = {USUAL_PX: "", 96: "lite-96", 224: "paper-224-scratch"}
MANY_CLASSES = 11
PAIR = 2  # images of a batch: a batch norm in training needs more than one value a channel
ADVICE = (
    "use img_size, pool before the last layer (nn.AdaptiveAvgPool2d(1)), or claim what it takes: "
    "img_sizes=({size},) in register_model"
)


def usual_size(spec: ModelSpec) -> int:
    """The size to check a model at: 64 px, the nearest that it takes from there, or the largest that it lists."""
    takes = [size for size in range(USUAL_PX, max(USUAL_PX, spec.min_size) + spec.size_multiple) if spec.takes(size)]
    return max(spec.img_sizes) if spec.img_sizes and not takes else min(takes, default=USUAL_PX)


def check_sizes(subject: Subject) -> str:
    """Sizes of the protocols and the smallest size that the spec claims run; others are a ModelError when built."""
    spec = subject.spec
    ran = []
    for size in sorted({*PROTOCOL_PX, *spec.img_sizes} - {subject.img_size}):
        if spec.takes(size):
            _check_training(subject, size)
            ran.append(str(size))
    step = spec.size_multiple
    smallest = min(spec.img_sizes, default=-(-spec.min_size // step) * step)
    refused = 0
    for size in sorted({smallest - 1, smallest, smallest + step - 1} - {0}):
        refused += not _runs_at(subject, size)
    edges = f"from {smallest} px in steps of {step}, {MANY_CLASSES} classes; {refused} sizes outside that were refused"
    return f"forward and backward at {' and '.join(ran)} px; {edges}" if ran else edges


def _check_training(subject: Subject, size: int) -> None:
    """Forward and backward at a size that the model claims: without numbers where it can, which takes no time."""
    try:
        with torch.device("meta"):
            _train(subject, size)
        return
    except (Exception, SystemExit):
        pass  # perhaps an operation that needs numbers: only what fails with them fails
    try:
        _train(subject, size)
    except ModelError as error:
        raise Broken(f"the file claims {size} px, but: {error_line(error)}") from None
    except (Exception, SystemExit) as error:
        of = f" ({PROTOCOL_PX[size]})" if PROTOCOL_PX.get(size) else ""
        line = located_line(error, subject.spec.file)
        raise Broken(f"fails at {size} px{of}: {line[:200]}; {ADVICE.format(size=subject.img_size)}") from None


def _train(subject: Subject, size: int) -> None:
    model = subject.build(img_size=size)
    output = checked(model.train()(torch.zeros(PAIR, 3, size, size)), PAIR, CLASSES)
    nn.functional.cross_entropy(output, torch.arange(PAIR)).backward()  # type: ignore[no-untyped-call]


def _runs_at(subject: Subject, size: int) -> bool:
    """Whether the model is built and runs at a size, and is refused only where that is not claimed."""
    spec = subject.spec
    claimed = spec.takes(size)
    try:
        model = subject.build(img_size=size, num_classes=MANY_CLASSES)
    except ModelError as error:
        if claimed and spec.min_size > 1:
            raise Broken(f"min_size and size_multiple claim {size} px, but: {error_line(error)}") from None
        return False
    try:
        logits(model, subject.x_BCHW.new_zeros(1, 3, size, size), MANY_CLASSES)
    except (Exception, SystemExit) as error:
        raise Broken(f"{size} px is accepted and fails in forward ({error_line(error)}); set min_size") from None
    return True
