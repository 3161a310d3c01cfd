"""Random streams from hashes of names: adding a model moves no other model's numbers.

Before each step's augmentation the global generators are seeded from (dataset, seed, epoch, step), before its
forward pass from (model, dataset, seed, epoch, step); initialisation from (model, dataset, seed); the epoch's
order from (dataset, seed, epoch). So all models see the same batches and a resume needs no generator state.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


def stream_seed(purpose: str, *names: str | int) -> int:
    """A 63-bit seed from a purpose and names; the same names give the same seed on every machine."""
    text = "\x1f".join([purpose, *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@dataclass(frozen=True)
class Streams:
    """The seeds of one run."""

    model: str
    dataset: str
    seed: int

    def init(self) -> int:
        """Seed of the initial weights."""
        return stream_seed("init", self.model, self.dataset, self.seed)

    def order(self, epoch: int) -> int:
        """Seed of an epoch's order of training images."""
        return stream_seed("order", self.dataset, self.seed, epoch)

    def augment(self, epoch: int, step: int) -> int:
        """Seed of a step's augmentation."""
        return stream_seed("augment", self.dataset, self.seed, epoch, step)

    def forward(self, epoch: int, step: int) -> int:
        """Seed of a step's forward pass (dropout, stochastic depth)."""
        return stream_seed("forward", self.model, self.dataset, self.seed, epoch, step)
