"""Small synthetic stand-ins of six MedMNIST sets: same keys, dtypes, channels, classes and imbalance.

Every image is a grating of its class with random phase and sign, a smooth blob that means nothing, and noise.
All of it is whole-number arithmetic on raw PCG64 words, seeded from hashes of names: the bytes are the same
under every numpy and on every machine.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench.errors import DataError
from bench.records.names import SYNTHETIC_PREFIX

SPLIT_SIZES = {"train": 128, "val": 44, "test": 88}
MIN_PER_CLASS = 2
LICENSE = "MIT"
CITATION = "none: made by formula by this suite"

# Cycles across the width and the height, one pair a class. Flips map no class to another: the second is
# used with either sign.
_WAVES = ((1, 0), (0, 2), (2, 2), (3, 0), (0, 4), (1, 3), (4, 1), (2, 0), (0, 1), (3, 3), (1, 1))
_UNIT = 1 << 16  # one turn of a wave, and the width of an image
_TINTS = (8, 7, 6)  # eighths; a class turns them, so that colour carries some of it


Task = Literal["binary-class", "multi-class", "ordinal-regression"]  # medmnist's words


@dataclass(frozen=True)
class StandIn:
    """What a stand-in shares with its set.

    Attributes:
        num_channels: 1 or 3.
        train_counts: Images per class of the official training split, which all three splits follow here.
    """

    task: Task
    num_channels: int
    train_counts: tuple[int, ...]


# Counts: Breast and Pneumonia from the official files. Blood and Derma as several public repositories list
# them; 70 % of the counts of Acevedo et al. 2020 and Tschandl et al. 2018, class by class. OrganC and OrganS
# from class weights that are published as sqrt(N / n), which give whole numbers. Each sums to INFO's number of
# training images.
STAND_INS = {
    "bloodmnist": StandIn("multi-class", 3, (852, 2181, 1085, 2026, 849, 993, 2330, 1643)),
    "breastmnist": StandIn("binary-class", 1, (147, 399)),
    "dermamnist": StandIn("multi-class", 3, (228, 359, 769, 80, 779, 4693, 99)),
    "pneumoniamnist": StandIn("binary-class", 1, (1214, 3494)),
    "organcmnist": StandIn("multi-class", 1, (1148, 619, 595, 600, 1088, 1170, 2986, 1002, 1022, 1173, 1572)),
    "organsmnist": StandIn("multi-class", 1, (1148, 630, 614, 721, 1132, 1119, 3464, 741, 803, 2004, 1556)),
}


def stand_in(name: str) -> StandIn:
    """What `synthetic-<flag>` imitates.

    Raises:
        DataError: If there is no such stand-in.
    """
    flag = name.removeprefix(SYNTHETIC_PREFIX)
    if flag == name or flag not in STAND_INS:
        known = ", ".join(SYNTHETIC_PREFIX + known_flag for known_flag in STAND_INS)
        raise DataError(f"There is no synthetic set {name!r}; there are {known}")
    return STAND_INS[flag]


def class_counts(train_counts: tuple[int, ...], num_images: int) -> list[int]:
    """Images per class of a split: in proportion, at least two, the largest class takes up the rounding.

    Args:
        train_counts: Images per class to be in proportion to.
        num_images: What the counts sum to.
    """
    total = sum(train_counts)
    counts = [max(MIN_PER_CLASS, (2 * num_images * count + total) // (2 * total)) for count in train_counts]
    counts[counts.index(max(counts))] += num_images - sum(counts)
    while min(counts) < MIN_PER_CLASS:  # many small classes: the largest alone could not take up the rounding
        counts[counts.index(max(counts))] -= 1
        counts[counts.index(min(counts))] += 1
    return counts


def make(name: str, size: int = 28) -> dict[str, NDArray[np.uint8]]:
    """Make a stand-in: the six arrays of an official file.

    Args:
        name: `synthetic-<flag>`.
        size: Pixels a side; the same scenes at every size, the noise anew.

    Returns:
        `train_images` (N, size, size) or (N, size, size, 3), `train_labels` (N, 1), and so on, all uint8.

    Raises:
        DataError: If there is no such stand-in.
    """
    form = stand_in(name)
    content: dict[str, NDArray[np.uint8]] = {}
    for split, num_images in SPLIT_SIZES.items():
        counts = class_counts(form.train_counts, num_images)
        ordered = [label for label, count in enumerate(counts) for _ in range(count)]
        # Any first part of a split, as `max_train` takes, is a mixture of the classes.
        labels = [ordered[index] for index in np.argsort(_draw(f"{name}/{split}/order", num_images), kind="stable")]
        images = [_image(f"{name}/{split}/{index}", form, label, size) for index, label in enumerate(labels)]
        content[f"{split}_images"] = np.stack(images)
        content[f"{split}_labels"] = np.array(labels, dtype=np.uint8)[:, None]
    return content


def _draw(key: str, num: int) -> NDArray[np.int64]:
    """(num,) whole numbers in [0, 2**32) that hang on the key alone."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest(), "big")
    return (np.random.PCG64(seed).random_raw(num) >> np.uint64(32)).astype(np.int64)


def _image(key: str, form: StandIn, label: int, size: int) -> NDArray[np.uint8]:
    """One image: grating, blob, noise."""
    sign, phase, level, column, row, width, height = (int(value) for value in _draw(key, 7))
    centres = (2 * np.arange(size, dtype=np.int64) + 1) * _UNIT // (2 * size)  # of pixels
    across, down = _WAVES[label]
    down = down if sign % 2 else -down
    turn = (across * centres[None, :] + down * centres[:, None] + phase) % _UNIT
    grating = abs(turn - _UNIT // 2) * (4 + height % 80) // (_UNIT // 2)
    radius = _UNIT // 8 + width % (_UNIT // 8)
    distance = (centres[None, :] - column % _UNIT) ** 2 + (centres[:, None] - row % _UNIT) ** 2
    blob = np.maximum(radius**2 - distance, 0) * 40 // radius**2
    scene: NDArray[np.int64] = 40 + 32 * label // len(form.train_counts) + level % 48 + grating + blob
    if form.num_channels == 3:
        tints = np.array([_TINTS[(label + channel) % 3] for channel in range(3)], dtype=np.int64)
        scene = scene[:, :, None] * tints // 8
    noise: NDArray[np.int64] = _draw(f"{key}/{size}", scene.size).reshape(scene.shape) % 161 - 80
    image: NDArray[np.uint8] = np.clip(scene + noise, 0, 255).astype(np.uint8)
    return image
