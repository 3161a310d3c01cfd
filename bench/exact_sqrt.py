"""A square root that every CPU rounds alike."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def exact_sqrt(values: Tensor) -> Tensor:
    """The correctly rounded square root, on a CPU too.

    There torch takes MKL's, which on AMD, and in MKL's branch COMPATIBLE, refines the processor's own approximation
    (RSQRTPS), and that differs between vendors.

    Args:
        values: Any shape, floating-point.
    """
    if values.device.type != "cpu":
        return values.sqrt()
    roots = torch.empty_like(values)
    np.sqrt(values.detach().numpy(), out=roots.numpy())
    return roots
