"""A data set of one's own: a TOML card beside an npz file -> six checked arrays.

Its name, `own-<name>`, keeps it apart from the official sets everywhere. A process knows a set once its card was named
(`resolve`), as it knows a protocol that stands in a file.
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from bench.data.names import DATASETS, flag_of
from bench.data.npz import Content, read_npz
from bench.errors import DataError
from bench.records.names import OWN_PREFIX, SYNTHETIC_PREFIX, is_own
from bench.records.sealed import Line, Strict, explain_validation

CARD_NAME = "card.toml"
SPLITS = ("train", "val", "test")
SPLIT_KEYS = {f"{split}_{kind}" for split in SPLITS for kind in ("images", "labels")}
WHOLE_KEYS = {"images", "labels"}
MAX_NAME = 40

Text = Annotated[Line, Field(min_length=1, max_length=300)]
_cards: dict[str, Path] = {}  # the sets that this process knows: name -> card


class SeededSplit(Strict):
    """How images without official splits are divided: shares of val and test, drawn by a seed, class by class."""

    seed: int = Field(default=0, ge=0)
    val: float = Field(default=0.15, gt=0.0, lt=1.0)
    test: float = Field(default=0.15, gt=0.0, lt=1.0)

    @model_validator(mode="after")
    def _leaves_train(self) -> Self:
        if self.val + self.test >= 1.0:
            raise ValueError("val and test together leave nothing to train on")
        return self


class OwnCard(Strict):
    """What `card.toml` says.

    `classes` are named in the order of the labels, `positive` is the class that a clinician asks for, `file` stands
    beside the card. With `split` the file holds `images` and `labels`, without it medmnist's six arrays.
    """

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=MAX_NAME)
    task: Literal["binary-class", "multi-class", "ordinal-regression"]
    channels: Literal[1, 3]
    classes: tuple[Text, ...] = Field(min_length=2)
    license: Text
    citation: Text = "none given"
    positive: str | None = None
    file: str = Field(default="images.npz", min_length=1)
    split: SeededSplit | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("two classes have one name")
        if (len(self.classes) == 2) != (self.task == "binary-class"):
            raise ValueError(f"the task is {self.task} with {len(self.classes)} classes; binary-class is for two")
        if self.positive is not None and self.positive not in self.classes:
            raise ValueError(f"positive {self.positive!r} is none of the classes")
        return self

    @property
    def clinical_positive(self) -> int | None:
        """The label of `positive`."""
        return None if self.positive is None else self.classes.index(self.positive)


def resolve(name: str) -> str:
    """A data set's name from what a user wrote: a name, or a card or the folder that holds one, which is known then.

    A flag is the official set even where a folder is called so; `./breastmnist` is the folder.

    Raises:
        DataError: If no such set can be scored, or the card cannot be used.
    """
    is_folder = name.removeprefix(SYNTHETIC_PREFIX) not in DATASETS and Path(name).is_dir()
    if not (name.endswith(".toml") or "/" in name or os.sep in name or is_folder):
        if name not in _cards:
            flag_of(name)
        return name
    path = Path(os.path.expanduser(name)).resolve()
    path = path / CARD_NAME if path.is_dir() else path
    dataset = OWN_PREFIX + read_own_card(path).name
    if _cards.setdefault(dataset, path) != path:
        raise DataError(f"{path}: the name of {_cards[dataset]} too; give one of the two another name")
    return dataset


def card_file(dataset: str) -> Path:
    """The card of a set that this process knows.

    Raises:
        DataError: If its card was not named.
    """
    if dataset not in _cards:
        flag_of(dataset)
    return _cards[dataset]


def card_path_of(dataset: str) -> str | None:
    """What another process needs to know a set: its card's path, None for an official or synthetic one."""
    return str(card_file(dataset)) if is_own(dataset) else None


def read_own_card(path: Path) -> OwnCard:
    """A card.

    Raises:
        DataError: If it is not there or not what a card must be, in one line.
    """
    try:
        return OwnCard.model_validate(tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; --datasets takes a card.toml or the folder that holds it") from None
    except ValidationError as error:
        raise DataError(f"{path}: {explain_validation(error)}; docs/own.md explains each key") from None
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, a number that is too long, a nest
        raise DataError(f"{path} is no TOML file ({error})") from None


def read_content(path: Path, card: OwnCard) -> Content:
    """The six arrays of a set, checked and divided.

    Args:
        path: The card's.
        card: What it says.

    Returns:
        `train_images` (N, S, S) or (N, S, S, 3) uint8, `train_labels` (N, 1) int64, and so on.

    Raises:
        DataError: If the file is not what the card says, in one line.
    """
    file = path.parent / card.file
    if not file.is_file():
        raise DataError(f"{file} is not there; {path} names it as its file")
    content = read_npz(file, "write it with numpy.savez_compressed")
    parts = _parts(content, card, file)
    checked: Content = {}
    for part in parts:
        where = f"{file}: {part}images"
        images = _images(content[f"{part}images"], card, where)
        labels = _labels(content[f"{part}labels"], len(images), card, f"{file}: {part}labels")
        checked |= {f"{part}images": images, f"{part}labels": labels}
    sizes = {f"{part}images": checked[f"{part}images"].shape[1] for part in parts}
    if len(set(sizes.values())) > 1:
        text = ", ".join(f"{key} {size} px" for key, size in sizes.items())
        raise DataError(f"{file}: all images need one size; there are {text}")
    if card.split is not None:
        checked = _divided(checked["images"], checked["labels"], card.split)
    _check_classes(checked, card, file)
    return checked


def _parts(content: Content, card: OwnCard, file: Path) -> tuple[str, ...]:
    """How the keys of the file's arrays begin: by split, or "" where the card divides them."""
    expected = SPLIT_KEYS if card.split is None else WHOLE_KEYS
    if set(content) == expected:
        return tuple(f"{split}_" for split in SPLITS) if card.split is None else ("",)
    needed = ", ".join(sorted(expected))
    if card.split is None and set(content) == WHOLE_KEYS:
        raise DataError(f"{file} holds images and labels without splits; a [split] table in the card divides them")
    if card.split is not None and set(content) == SPLIT_KEYS:
        raise DataError(f"{file} is divided already; leave the [split] table out of the card")
    raise DataError(f"{file} holds {', '.join(sorted(content)) or 'nothing'}; the card needs {needed}")


def _images(images: NDArray[Any], card: OwnCard, where: str) -> NDArray[np.uint8]:
    """(N, S, S) or (N, S, S, 3) uint8."""
    if card.channels == 1 and images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    form = "(N, S, S)" if card.channels == 1 else "(N, S, S, 3)"
    fits = images.ndim == 3 if card.channels == 1 else images.ndim == 4 and images.shape[3] == 3
    if images.dtype != np.uint8 or not fits:
        raise DataError(
            f"{where} is {images.dtype} {images.shape}; channels = {card.channels} needs uint8 {form}, 0 to 255"
        )
    if images.shape[1] != images.shape[2]:
        raise DataError(f"{where} has {images.shape[1]} x {images.shape[2]} pixels; images must be square")
    if images.size == 0:
        raise DataError(f"{where} holds no image; each split needs one")
    return images


def _labels(labels: NDArray[Any], num_images: int, card: OwnCard, where: str) -> NDArray[np.int64]:
    """(N, 1) int64."""
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise DataError(f"{where} has {labels.shape[1]} labels an image; the suite scores one")
    if labels.dtype.kind not in "iu" or labels.shape not in ((num_images,), (num_images, 1)):
        raise DataError(
            f"{where} is {labels.dtype} {labels.shape}; needed are whole numbers, one for each of {num_images} images"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(card.classes):
        raise DataError(f"{where} go from {low} to {high}; the card names {len(card.classes)} classes, from 0")
    return labels.reshape(-1, 1).astype(np.int64)


def _divided(images: NDArray[Any], labels: NDArray[Any], split: SeededSplit) -> Content:
    """The six arrays: each class divided by itself, in an order that the seed and the pixels alone decide.

    Equal images of a class come into the same split, and where the others stand in the file changes nothing for one.
    """
    chosen: dict[str, list[int]] = {name: [] for name in SPLITS}
    for label in np.unique(labels):
        members = np.flatnonzero(labels.ravel() == label).tolist()
        groups: dict[bytes, list[int]] = {}
        for index in members:
            key = hashlib.blake2b(f"{split.seed}\n".encode() + images[index].tobytes(), digest_size=16).digest()
            groups.setdefault(key, []).append(index)
        wanted = {name: max(1, int(len(members) * getattr(split, name) + 0.5)) for name in ("test", "val")}
        given = dict.fromkeys(wanted, 0)
        for key in sorted(groups):
            name = next((name for name in wanted if given[name] < wanted[name]), "train")
            chosen[name] += groups[key]
            if name in given:
                given[name] += len(groups[key])
    rows = {name: np.array(sorted(indices), dtype=np.intp) for name, indices in chosen.items()}
    content: Content = {}
    for name in SPLITS:
        content |= {f"{name}_images": images[rows[name]], f"{name}_labels": labels[rows[name]]}
    return content


def _check_classes(content: Content, card: OwnCard, file: Path) -> None:
    """Scores of a split without one of the classes are undefined."""
    for split in SPLITS:
        counts = np.bincount(content[f"{split}_labels"].ravel(), minlength=len(card.classes))
        if counts.min() == 0:
            missing = card.classes[int(counts.argmin())]
            raise DataError(
                f"{file}: {split} has no image of the class {missing!r}; each split needs one of each class"
            )
