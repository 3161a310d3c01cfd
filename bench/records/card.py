"""What `results/data/<dataset>.json` holds: a data set's card, sealed. No torch."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from bench.errors import BenchError, RecordError
from bench.records.names import SLUG, SYNTHETIC_PREFIX
from bench.records.run_record import check_apart
from bench.records.sealed import Sealed, read_sealed, write_sealed

SPLITS = ("train", "val", "test")
SPLIT_PAIRS = ("train/val", "train/test", "val/test")


class DataCard(Sealed):
    """What `results/data/<dataset>.json` holds: all that reports need of a data set."""

    dataset: str
    synthetic: bool
    task: Literal["binary-class", "multi-class", "ordinal-regression"]
    source_size: int = Field(ge=1)
    num_channels: int = Field(ge=1, le=3)
    class_names: list[str] = Field(min_length=2)
    clinical_positive: int | None
    license: str
    citation: str
    md5: str = Field(pattern=r"^[0-9a-f]{32}$")
    num_images: dict[str, int]
    class_counts: dict[str, list[int]]
    labels_digest: dict[str, str]
    twin_threshold: float = Field(ge=0.0, le=1.0)
    num_exact_pairs: dict[str, int]
    num_twin_pairs: dict[str, int]
    twins: dict[str, list[list[int]]]
    exact: dict[str, list[list[int]]]
    twin_test_indices: list[int]
    # By splits, each image's highest pixel correlation with the first split. Cards measured before it lack it.
    similarity: dict[str, list[float]] | None = Field(default=None, exclude_if=lambda value: value is None)

    @property
    def num_predicted(self) -> int:
        """Images of val and test: the rows of a run's prediction table."""
        return self.num_images["val"] + self.num_images["test"]

    @property
    def test_similarity(self) -> NDArray[np.float64] | None:
        """(N,) each test image's highest correlation with one of train or val, 1 with an equal one; None if unknown."""
        if self.similarity is None:
            return None
        highest = np.maximum(self.similarity["train/test"], self.similarity["val/test"])
        equal = [pair[1] for key in ("train/test", "val/test") for pair in self.exact[key]]
        highest[np.array(equal, dtype=np.int64)] = 1.0  # images of one value have no correlation
        return highest

    @field_validator("dataset")
    @classmethod
    def _slug(cls, value: str) -> str:
        if not SLUG.fullmatch(value):
            raise ValueError("lower-case letters, digits and single hyphens only")
        return value

    @field_validator("class_names", "license", "citation")
    @classmethod
    def _one_line(cls, value: str | list[str]) -> str | list[str]:
        for text in [value] if isinstance(value, str) else value:
            if not text or not text.isprintable():
                raise ValueError("printable characters in one line only")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.synthetic != self.dataset.startswith(SYNTHETIC_PREFIX):
            raise ValueError("synthetic does not fit the data set's name")
        for name in ("num_images", "class_counts", "labels_digest"):
            _check_keys(name, getattr(self, name), SPLITS)
        for name in ("num_exact_pairs", "num_twin_pairs", "twins", "exact"):
            _check_keys(name, getattr(self, name), SPLIT_PAIRS)
        for split, counts in self.class_counts.items():
            if len(counts) != len(self.class_names) or min(counts) < 0 or sum(counts) != self.num_images[split]:
                raise ValueError(f"class_counts of {split} are not those of its images and classes")
        if any(not re.fullmatch(r"[0-9a-f]{64}", digest) for digest in self.labels_digest.values()):
            raise ValueError("labels_digest: SHA-256 in hexadecimal digits")
        if self.clinical_positive is not None and not 0 <= self.clinical_positive < len(self.class_names):
            raise ValueError("clinical_positive is no class")
        _check_indices("twin_test_indices", self.twin_test_indices, self.num_images["test"])
        for name, total in (("twins", self.num_twin_pairs), ("exact", self.num_exact_pairs)):
            self._check_pairs(name, getattr(self, name), total)
        self._check_similarity()
        return self

    def _check_similarity(self) -> None:
        """One correlation an image, and the twins of the test images are those that reach the threshold."""
        if self.similarity is None:
            return
        _check_keys("similarity", self.similarity, SPLIT_PAIRS)
        for key, values in self.similarity.items():
            if len(values) != self.num_images[key.split("/")[1]] or not all(-1.0 <= value <= 1.0 for value in values):
                raise ValueError(f"similarity of {key}: a correlation for each image of the second split")
        highest = self.test_similarity
        if highest is not None and np.flatnonzero(highest >= self.twin_threshold).tolist() != self.twin_test_indices:
            raise ValueError("twin_test_indices are not the images whose similarity reaches the threshold")

    def _check_pairs(self, name: str, pairs: Mapping[str, list[list[int]]], total: Mapping[str, int]) -> None:
        """Pairs of images of two splits, and how many there are."""
        for key in SPLIT_PAIRS:
            if any(len(pair) != 2 for pair in pairs[key]) or len(pairs[key]) > total[key]:
                raise ValueError(f"{name} of {key}: pairs of images, no more than are counted")
            for side, split in enumerate(key.split("/")):
                _check_indices(f"{name} of {key}", {pair[side] for pair in pairs[key]}, self.num_images[split])


def _check_keys(name: str, given: Mapping[str, Any], wanted: Iterable[str]) -> None:
    if set(given) != set(wanted):
        raise ValueError(f"{name}: {', '.join(wanted)}, and no other")


def _check_indices(name: str, indices: Iterable[int], count: int) -> None:
    """Different indices in 0 .. count - 1, in order where they are a list."""
    ordered = sorted(indices) if isinstance(indices, set) else list(indices)
    if any(not 0 <= index < count for index in ordered) or any(a >= b for a, b in itertools.pairwise(ordered)):
        raise ValueError(f"{name}: different indices below {count}, in order")


def labels_digest(labels: NDArray[np.int64]) -> str:
    """SHA-256 over labels as little-endian int64: what cards and records know a split by."""
    return hashlib.sha256(labels.astype("<i8").tobytes()).hexdigest()


def card_path(results: Path, dataset: str) -> Path:
    """Where a data set's card stands."""
    return results / "data" / f"{dataset}.json"


def known_card(results: Path, dataset: str) -> DataCard:
    """As `read_card`, of a data set that must have been measured.

    Raises:
        RecordError: As `read_card`.
        BenchError: If there is none, which ends what needs it and nothing else.
    """
    card = read_card(results, dataset)
    if card is None:
        command = f"medbench measure data --datasets {dataset}"
        raise BenchError(f"{results} has no card of {dataset}; measure it with: {command}")
    return card


def read_card(results: Path, dataset: str) -> DataCard | None:
    """The data set's card, None where it was not measured.

    Raises:
        RecordError: If the card is damaged, was changed after it was measured, or is another data set's.
    """
    path = card_path(results, dataset)
    if not path.exists():
        return None
    try:
        card = read_sealed(path, DataCard)
    except RecordError as error:
        raise RecordError(f"{error}; medbench measure data --datasets {dataset} measures it anew") from None
    if card.dataset != dataset:
        raise RecordError(f"{path}: the card names {card.dataset}, which belongs elsewhere")
    return card


def write_card(results: Path, card: DataCard) -> None:
    """Seal a data set's card and write it.

    Raises:
        RecordError: If the folder refuses, or a card of synthetic or own data would enter a store of real records.
    """
    check_apart(results, card.dataset, card.dataset)
    write_sealed(card_path(results, card.dataset), card)
