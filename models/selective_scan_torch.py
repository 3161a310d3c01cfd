"""The selective scan in torch: a loop over time, cut into blocks that stay in cache, and its written gradient.

Source:   written from the recurrence, no code taken; the interface is `models.selective_scan`.

Memory traffic decides the speed. A block's decays and states fit the cache, one fused multiply-add advances a
(Z, G, N, E) state by a step, and everything else works on a whole block. The forward pass keeps the state before
each block; the backward pass recomputes the block from it. Nothing of size L x R x N exists.

Shape suffixes: L time, T steps of a block, Z batch, G groups (scan directions), N states, E channels of a group.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK_STEPS = 32  # time steps a block; block x lane x 4 bytes is 1.5 MB, what must fit the cache
LANE_STATES = 12_288  # states advanced together on a CPU; other devices advance all of them
LOG2_E = 1.0 / math.log(2.0)  # exp2 is about half the price of exp on a CPU


class _Lane:
    """The working memory of one block for the states that advance together; slot 0 of `states` is the boundary."""

    def __init__(self, like: Tensor, shape: tuple[int, ...], *, adjoint: bool) -> None:
        self.decay = like.new_empty((BLOCK_STEPS, *shape))
        self.state = like.new_empty((BLOCK_STEPS + 1, *shape))
        self.adjoint = like.new_empty((BLOCK_STEPS if adjoint else 0, *shape))
        # Taking a step's slice costs as much as the step: cut once, not once a block.
        self.decays, self.states, self.adjoints = self.decay.unbind(), self.state.unbind(), self.adjoint.unbind()

    def advance(self, steps: int, delta: Tensor, drive: Tensor, A_log2: Tensor, B: Tensor) -> None:
        """Fill decays and states of a block, from `states[0]` on; step t's state is `states[t + 1]`."""
        torch.mul(delta, A_log2, out=self.decay[:steps]).exp2_()
        torch.mul(B.unsqueeze(-1), drive, out=self.state[1 : steps + 1])
        previous = self.states[0]
        for decay, state in zip(self.decays[:steps], self.states[1 : steps + 1], strict=True):
            previous = state.addcmul_(decay, previous)

    def retreat(self, steps: int, grad: Tensor, C: Tensor, carry: Tensor) -> None:
        """Fill the adjoints of a block's states, last step first; `carry` comes from the block after it."""
        torch.mul(C.unsqueeze(-1), grad, out=self.adjoint[:steps])
        following = self.adjoints[steps - 1].add_(carry)
        for step in range(steps - 2, -1, -1):
            following = self.adjoints[step].addcmul_(self.decays[step + 1], following)


def _lanes(like: Tensor, shape: tuple[int, int, int, int], *, adjoint: bool) -> Iterator[tuple[_Lane, slice, slice]]:
    """Cut (Z, G) into pieces of about `LANE_STATES` states; yields memory, samples, groups."""
    batch, groups, states, channels = shape
    limit = LANE_STATES if like.device.type == "cpu" else batch * groups * states * channels
    samples = max(1, limit // (groups * states * channels))
    width = groups if samples > 1 else max(1, min(groups, limit // (states * channels)))
    lanes: dict[tuple[int, ...], _Lane] = {}
    for start in range(0, batch, samples):
        for first in range(0, groups, width):
            size = (min(samples, batch - start), min(width, groups - first), states, channels)
            if size not in lanes:
                lanes[size] = _Lane(like, size, adjoint=adjoint)
            yield lanes[size], slice(start, start + size[0]), slice(first, first + size[1])


def _row_products(vectors: Tensor, matrices: Tensor) -> Tensor:
    """(T, Z, G, J) times (T, Z, G, J, K) -> (T, Z, G, K), T the steps of a block.

    Rows times matrices in one batched product: matrices times columns take five times as long in these shapes.
    """
    rows = vectors.reshape(-1, 1, vectors.shape[-1])
    return torch.bmm(rows, matrices.flatten(0, 2)).view(*vectors.shape[:3], matrices.shape[-1])


def scan_blocks(
    delta: Tensor, drive: Tensor, A: Tensor, B: Tensor, C: Tensor, keep_states: bool
) -> tuple[Tensor, Tensor]:
    """C_t h_t for delta and drive = delta u (L, Z, G, E), A (G, N, E), B and C (L, Z, G, N).

    Returns:
        (L, Z, G, E), and the state before each block (blocks, Z, G, N, E), of no block unless `keep_states`.
    """
    length, batch, groups, channels = delta.shape
    size = (batch, groups, A.shape[1], channels)
    starts = range(0, length, BLOCK_STEPS)
    y = torch.empty_like(drive)
    boundaries = delta.new_empty((len(starts) if keep_states else 0, *size))
    A_log2 = A * LOG2_E
    for lane, z, g in _lanes(delta, size, adjoint=False):
        lane.states[0].zero_()
        for block, start in enumerate(starts):
            t = slice(start, min(start + BLOCK_STEPS, length))
            steps = t.stop - start
            if keep_states:
                boundaries[block, z, g] = lane.states[0]
            lane.advance(steps, delta[t, z, g, None], drive[t, z, g, None], A_log2[g], B[t, z, g])
            y[t, z, g] = _row_products(C[t, z, g], lane.state[1 : steps + 1])
            lane.states[0].copy_(lane.states[steps])
    return y, boundaries


def scan_blocks_backward(
    grad: Tensor, delta: Tensor, drive: Tensor, A: Tensor, B: Tensor, C: Tensor, boundaries: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of `scan_blocks` in delta (through the decay alone), drive, A, B and C; shapes as there."""
    length, batch, groups, channels = delta.shape
    grad_delta, grad_drive, grad_A = torch.empty_like(delta), torch.empty_like(drive), torch.zeros_like(A)
    grad_B, grad_C = (B.new_empty((batch, length, *B.shape[2:])).transpose(0, 1) for _ in range(2))
    A_log2 = A * LOG2_E
    for lane, z, g in _lanes(delta, (batch, groups, A.shape[1], channels), adjoint=True):
        carry = torch.zeros_like(lane.states[0])
        for block in reversed(range(len(boundaries))):
            t = slice(block * BLOCK_STEPS, min((block + 1) * BLOCK_STEPS, length))
            steps = t.stop - t.start
            delta_t = delta[t, z, g, None]
            lane.states[0].copy_(boundaries[block, z, g])
            lane.advance(steps, delta_t, drive[t, z, g, None], A_log2[g], B[t, z, g])
            lane.retreat(steps, grad[t, z, g, None], C[t, z, g], carry)
            decay, adjoint = lane.decay[:steps], lane.adjoint[:steps]
            grad_drive[t, z, g] = _row_products(B[t, z, g], adjoint)
            grad_B[t, z, g] = _row_products(drive[t, z, g], adjoint.mT)
            grad_C[t, z, g] = _row_products(grad[t, z, g], lane.state[1 : steps + 1].mT)
            carry.copy_(decay.mul_(adjoint)[0])
            grad_exponent = decay.mul_(lane.state[:steps])  # of delta A: adjoint x decay x state before
            grad_delta[t, z, g] = torch.mul(grad_exponent, A[g], out=adjoint).sum(-2)
            grad_A[g] += grad_exponent.mul_(delta_t).sum((0, 1))
    return grad_delta, grad_drive, grad_A, grad_B, grad_C
