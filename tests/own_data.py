"""A tiny data set of one's own, made by formula: what tests of such sets share."""

from __future__ import annotations

from pathlib import Path

import numpy as np

CARD = """name = "cells"
task = "multi-class"
channels = 3
classes = ["round", "long", "star"]
license = "CC BY 4.0"
"""
NUM_IMAGES = {"train": 30, "val": 12, "test": 18}


def make_arrays(size: int = 20, channels: int = 3, num: int | None = None) -> dict[str, np.ndarray]:
    """The six arrays: three classes in turn, each brighter in another third of the image; `num` images a split."""
    generator = np.random.default_rng(7)
    arrays = {}
    for split, number in NUM_IMAGES.items():
        labels = np.arange(num or number) % 3
        images = generator.integers(0, 160, size=(len(labels), size, size, 3), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[:, label * size // 3 : (label + 1) * size // 3] += 60
        arrays[f"{split}_images"] = images if channels == 3 else np.ascontiguousarray(images[..., 0])
        arrays[f"{split}_labels"] = labels[:, None].astype(np.uint8)
    return arrays


def write_set(folder: Path, card: str = CARD, arrays: dict[str, np.ndarray] | None = None) -> Path:
    """Write `card.toml` and `images.npz`; returns the card's path."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "images.npz", **(make_arrays() if arrays is None else arrays))
    path = folder / "card.toml"
    path.write_text(card, encoding="utf-8")
    return path
