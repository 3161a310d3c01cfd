"""A protocol's optimiser, with arithmetic that is equal on every CPU.

SGD adds and multiplies alone. Adam and AdamW are torch's fused ones, whose square root is the processor's exact
instruction; torch's plain loop takes MKL's (`bench.exact_sqrt`). RMSprop has no fused form on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from bench.exact_sqrt import exact_sqrt
from bench.protocol import OptimRules


class RMSprop(torch.optim.Optimizer):
    """RMSprop as torch.optim's with its defaults: alpha 0.99, eps 1e-8, not centred, no momentum, L2 decay.

    v = alpha v + (1 - alpha) g^2, then w = w - lr g / (sqrt(v) + eps). Source: Hinton, Srivastava and Swersky 2012,
    Neural Networks for Machine Learning, lecture 6e.
    """

    ALPHA, EPS = 0.99, 1e-8

    def __init__(self, params: list[dict[str, Any]], lr: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient; no closure is called."""
        assert closure is None
        for group in self.param_groups:
            for parameter in (p for p in group["params"] if p.grad is not None):
                gradient = parameter.grad
                if group["weight_decay"]:
                    gradient = gradient.add(parameter, alpha=group["weight_decay"])
                state = self.state[parameter]
                if not state:
                    state["square_avg"] = torch.zeros_like(parameter)
                average = state["square_avg"]
                average.mul_(self.ALPHA).addcmul_(gradient, gradient, value=1 - self.ALPHA)
                parameter.addcdiv_(gradient, exact_sqrt(average).add_(self.EPS), value=-group["lr"])


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
        return RMSprop(groups, lr=rules.lr)
    fused = all(p.is_floating_point() for p in parameters)  # torch has no fused form for complex weights
    if rules.name == "adam":
        return torch.optim.Adam(groups, lr=rules.lr, fused=fused)
    return torch.optim.AdamW(groups, lr=rules.lr, fused=fused)
