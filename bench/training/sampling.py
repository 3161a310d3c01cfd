"""In which order an epoch takes the training images."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def epoch_order(labels: Tensor, sampler: Literal["shuffled", "balanced"], passes: int) -> Tensor:
    """Indices of training images, pass after pass, from torch's global generator, which the caller seeds.

    Args:
        labels: (N,) of the training images, on the device that the order is for.
        sampler: `shuffled`: each pass is a permutation. `balanced`: each pass is N draws with replacement, of a class
            first and then of one of its images, classes and images alike; so all classes are equally frequent. In whole
            numbers, so that no rounding moves a draw.
        passes: How many.

    Returns:
        (passes x N,) int64.
    """
    count, device = len(labels), labels.device
    if sampler == "shuffled":
        return torch.cat([torch.randperm(count, device=device) for _ in range(passes)])
    by_class = labels.argsort(stable=True)
    sizes = labels.bincount()
    present = sizes.nonzero().flatten()
    starts = sizes.cumsum(0) - sizes
    chosen = present[torch.randint(len(present), (passes * count,), device=device)]
    # Far above any class's size, so that the remainder favours no image.
    member = torch.randint(2**62, (passes * count,), device=device) % sizes[chosen]
    return by_class[starts[chosen] + member]
