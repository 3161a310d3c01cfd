"""The selective scan of Mamba, with a written gradient that stores states at block boundaries only.

    h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t,    y_t = C_t h_t + D u_t,    delta_t = softplus(raw_t + bias)

Paper:    Gu & Dao 2023, https://arxiv.org/abs/2312.00752
Source:   written from the recurrence, no code taken.
Backends: `mamba_ssm`, that package's CUDA kernel; `torch`, a loop over blocks of time, on any device. `auto` takes
          the kernel where it can run, and `selected_backend` tells which one that is, for the record.

The torch backend is the registered op `medbench::selective_scan`, so `torch.compile` keeps it whole and a FLOP
counter can be taught its formula. There is no second derivative.

Shape suffixes: Z batch, G groups (scan directions), E channels of a group, R = G*E rows, L time, N states.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from models.catalog import ModelError
from models.selective_scan_torch import BLOCK_STEPS, scan_blocks, scan_blocks_backward

BACKENDS = ("auto", "mamba_ssm", "torch")


def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor, *, backend: str = "auto"
) -> Tensor:
    """Run the recurrence over time, every row with its own states, from a zero state.

    Args:
        u: (Z, R, L) input sequences; rows of one group are neighbours.
        delta: (Z, R, L) step sizes before bias and softplus.
        A: (R, N) state matrix, its diagonal; negative values decay.
        B: (Z, G, N, L) input projection, shared by the rows of a group.
        C: (Z, G, N, L) output projection, shared by the rows of a group.
        D: (R,) weight of the input in the output.
        delta_bias: (R,) added to `delta` before the softplus.
        backend: `auto`, `mamba_ssm` or `torch`.

    Returns:
        y, (Z, R, L): float64 where `u` is, else float32, also under autocast.

    Raises:
        ModelError: If the shapes disagree, or the backend is unknown or cannot run here.
    """
    _check_shapes(u, delta, A, B, C, D, delta_bias)
    dtype = torch.float64 if u.dtype == torch.float64 else torch.float32
    tensors = [tensor.to(dtype) for tensor in (u, delta, A, B, C, D, delta_bias)]
    if _choose(backend, u.device, dtype) == "mamba_ssm":
        return _scan_mamba_ssm(tensors)
    keep_states = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    y_ZRL, _ = torch.ops.medbench.selective_scan(*tensors, keep_states)
    return y_ZRL


def selected_backend(device: torch.device | str, dtype: torch.dtype = torch.float32) -> str:
    """Name of the backend that `auto` runs on a device: `mamba_ssm` or `torch`."""
    return _choose("auto", torch.device(device), dtype)


def _choose(backend: str, device: torch.device, dtype: torch.dtype) -> str:
    if backend not in BACKENDS:
        raise ModelError(f"Unknown scan backend {backend!r}; known: {', '.join(BACKENDS)}")
    kernel_runs = device.type == "cuda" and dtype == torch.float32 and _has_mamba_ssm()
    if backend == "mamba_ssm" and not kernel_runs:
        raise ModelError(
            f"The scan backend mamba_ssm cannot run on {device.type} in {str(dtype).removeprefix('torch.')}; it needs "
            "float32 on CUDA and the extra [gpu]; use backend='torch'"
        )
    if backend == "auto":
        return "mamba_ssm" if kernel_runs else "torch"
    return backend


@functools.cache
def _has_mamba_ssm() -> bool:
    """Whether the package imports: it also installs without its kernel, and then it does not."""
    try:
        importlib.import_module("mamba_ssm.ops.selective_scan_interface")
    except ImportError:
        return False
    return True


@torch.compiler.disable  # it calls an extension that no compiler can trace
def _scan_mamba_ssm(tensors: list[Tensor]) -> Tensor:
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    u, delta, A, B, C, D, delta_bias = tensors
    y_ZRL: Tensor = selective_scan_fn(u, delta, A, B, C, D, delta_bias=delta_bias, delta_softplus=True)
    return y_ZRL


def _check_shapes(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor) -> None:
    fits = u.ndim == 3 and B.ndim == 4 and A.ndim == 2 and u.shape[1] % B.shape[1] == 0
    if fits:
        batch, rows, length = u.shape
        fits = (
            delta.shape == u.shape
            and A.shape[0] == rows
            and B.shape == C.shape == (batch, B.shape[1], A.shape[1], length)
            and D.shape == bias.shape == (rows,)
        )
    if not fits:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in (u, delta, A, B, C, D, bias))
        raise ModelError(
            f"selective_scan got u, delta, A, B, C, D, delta_bias of shapes {shapes}; it takes "
            "(Z, R, L), (Z, R, L), (R, N), (Z, G, N, L), (Z, G, N, L), (R,), (R,) with R a multiple of G"
        )


def _time_first(x_ZRL: Tensor, groups: int) -> Tensor:
    """(Z, R, L) -> (L, Z, G, E), in memory (Z, L, G, E): no copy of what is stored channel-last."""
    return x_ZRL.transpose(1, 2).unflatten(2, (groups, -1)).contiguous().transpose(0, 1)


def _rows_first(x_LZGE: Tensor) -> Tensor:
    """(L, Z, G, E) -> (Z, R, L), the inverse of `_time_first`."""
    return x_LZGE.transpose(0, 1).flatten(2).contiguous().transpose(1, 2)


class _Operands:
    """The op's inputs in the order in which the blocks read them."""

    def __init__(self, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, delta_bias: Tensor) -> None:
        groups = B.shape[1]
        self.u = _time_first(u, groups)
        self.raw_delta = _time_first(delta, groups) + delta_bias.view(groups, -1)
        self.delta = functional.softplus(self.raw_delta)
        self.drive = self.delta * self.u
        self.A = A.unflatten(0, (groups, -1)).mT.contiguous()
        self.B, self.C = B.permute(3, 0, 1, 2), C.permute(3, 0, 1, 2)


@torch.library.custom_op(
    "medbench::selective_scan",
    mutates_args=(),
    schema="(Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor D, Tensor delta_bias, bool keep_states)"
    " -> (Tensor y, Tensor boundaries)",
)
def _scan_op(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor, keep_states: bool
) -> tuple[Tensor, Tensor]:
    with torch.autocast(u.device.type, enabled=False):
        inputs = _Operands(u, delta, A, B, C, delta_bias)
        y, boundaries = scan_blocks(inputs.delta, inputs.drive, inputs.A, inputs.B, inputs.C, keep_states)
        return _rows_first(y.addcmul_(inputs.u, D.view(B.shape[1], -1))), boundaries


@torch.library.custom_op(
    "medbench::selective_scan_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor D, Tensor delta_bias,"
    " Tensor boundaries) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def _scan_backward_op(
    grad: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    delta_bias: Tensor,
    boundaries: Tensor,
) -> tuple[Tensor, ...]:
    groups = B.shape[1]
    with torch.autocast(u.device.type, enabled=False):
        inputs, grad_y = (_Operands(u, delta, A, B, C, delta_bias), _time_first(grad, groups))
        grad_delta, grad_drive, grad_A, grad_B, grad_C = scan_blocks_backward(
            grad_y, inputs.delta, inputs.drive, inputs.A, inputs.B, inputs.C, boundaries
        )
        grad_delta.addcmul_(grad_drive, inputs.u)
        grad_raw = torch.ops.aten.softplus_backward(grad_delta, inputs.raw_delta, 1, 20)
        grad_u = grad_drive.mul_(inputs.delta).addcmul_(grad_y, D.view(groups, -1))
        return (
            _rows_first(grad_u),
            _rows_first(grad_raw),
            grad_A.mT.flatten(0, 1),
            grad_B.permute(1, 2, 3, 0),
            grad_C.permute(1, 2, 3, 0),
            (grad_y * inputs.u).sum((0, 1)).flatten(),
            grad_raw.sum((0, 1)).flatten(),
        )


def _empty_rows_first(x_ZRL: Tensor) -> Tensor:
    batch, rows, length = x_ZRL.shape
    return x_ZRL.new_empty((batch, length, rows)).transpose(1, 2)


@_scan_op.register_fake
def _scan_shapes(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor, keep_states: bool
) -> tuple[Tensor, Tensor]:
    batch, rows, length = u.shape
    groups = B.shape[1]
    blocks = (length + BLOCK_STEPS - 1) // BLOCK_STEPS if keep_states else 0
    return _empty_rows_first(u), u.new_empty((blocks, batch, groups, A.shape[1], rows // groups))


@_scan_backward_op.register_fake
def _scan_backward_shapes(
    grad: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    delta_bias: Tensor,
    boundaries: Tensor,
) -> tuple[Tensor, ...]:
    batch, groups, num_states, length = B.shape
    grad_B, grad_C = (B.new_empty((batch, length, groups, num_states)).permute(0, 2, 3, 1) for _ in range(2))
    rows = (u.new_empty(D.shape) for _ in range(2))
    return (_empty_rows_first(u), _empty_rows_first(u), A.new_empty(A.shape), grad_B, grad_C, *rows)


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    assert inputs[-1], "a scan that needs gradients keeps its block boundaries"
    ctx.save_for_backward(*inputs[:-1], output[1])
    ctx.set_materialize_grads(False)  # nothing uses the boundaries' gradient: no zeros of their size


def _differentiate(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 8  # seven tensors and a flag
    grads: tuple[Tensor, ...] = torch.ops.medbench.selective_scan_backward(grad, *ctx.saved_tensors)
    return *grads, None


_scan_op.register_autograd(_differentiate, setup_context=_save_for_backward)
