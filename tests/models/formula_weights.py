"""Weights and images by formula, the same on every machine: no generator is drawn from."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def wave(shape: tuple[int, ...], phase: float) -> Tensor:
    """Float64 values in [-1, 1]: sin(0.7 i + 0.001 i^2 + phase) over the running index i modulo 8191."""
    index = torch.arange(8191, dtype=torch.float64)
    period = torch.sin(0.7 * index + 0.001 * index**2 + phase)
    length = torch.Size(shape).numel()
    return period.repeat(-(-length // 8191))[:length].reshape(shape)


@torch.no_grad()
def fill(model: nn.Module) -> nn.Module:
    """Give every floating tensor of the state dict values by formula; the model becomes float64, in eval mode.

    Matrices and kernels have about unit gain, norm weights and variances lie in 0.5 to 1.5, the rest is small.
    """
    model.double().eval()
    for number, (key, value) in enumerate(model.state_dict().items()):
        if not value.is_floating_point():
            continue
        unit = wave(tuple(value.shape), float(number))
        if value.ndim > 1:
            value.copy_(unit * (2.0 / value[0].numel()) ** 0.5)
        elif key.endswith(("weight", "running_var")):
            value.copy_(1.0 + 0.5 * unit)
        else:
            value.copy_(0.1 * unit)
    return model


def image(batch: int, chans: int, height: int, width: int) -> Tensor:
    """(B, C, H, W) float64 images by formula; no two are alike."""
    return torch.stack([wave((chans, height, width), 10.0 * row) for row in range(batch)])
