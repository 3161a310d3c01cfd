"""A square root that every CPU rounds alike.

torch takes MKL's. On an AMD processor, and in MKL's branch COMPATIBLE, that one refines the processor's own
approximation (RSQRTPS), which differs between vendors; with it would differ every step of Adam and RMSprop, and batch
norms in evaluation mode. NumPy's is the processor's exact instruction.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

_kept: list[torch.library.Library] = []  # an override lasts as long as its library


@functools.cache
def use_exact_sqrt() -> None:
    """Let torch compute square roots on CPUs by `exact_sqrt`, in this process, wherever it calls its own."""
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of any override
        for name, kernel in KERNELS.items():
            library.impl(name, kernel, "CPU")  # type: ignore[no-untyped-call]
    _kept.append(library)


def exact_sqrt(values: Tensor) -> Tensor:
    """The correctly rounded square root of each number.

    Args:
        values: Any shape, on a CPU. Whole numbers become torch's default type, as torch does it.
    """
    if not (values.is_floating_point() or values.is_complex()):
        values = values.to(torch.get_default_dtype())
    if values.dtype in (torch.float16, torch.bfloat16):
        return exact_sqrt(values.float()).to(values.dtype)
    roots = torch.empty_like(values)
    with np.errstate(invalid="ignore"):  # a negative number's root is NaN, as torch has it
        np.sqrt(values.detach().numpy(), out=roots.numpy())
    return roots


KERNELS: dict[str, Callable[..., Tensor]] = {
    "sqrt": exact_sqrt,
    "sqrt_": lambda values: values.copy_(exact_sqrt(values)),
    "sqrt.out": lambda values, *, out: out.resize_(values.shape).copy_(exact_sqrt(values)),
}
