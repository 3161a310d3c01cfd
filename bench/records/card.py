"""What `results/data/<dataset>.json` holds: a data set's card. No torch."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from bench.errors import RecordError
from bench.records.sealed import Strict, explain_validation, pretty, write_atomic


class DataCard(Strict):
    """What `results/data/<dataset>.json` holds: all that reports need of a data set."""

    schema_version: Literal[1] = 1
    dataset: str
    synthetic: bool
    task: Literal["binary-class", "multi-class", "ordinal-regression"]
    source_size: int
    num_channels: int
    class_names: list[str]
    clinical_positive: int | None
    license: str
    citation: str
    md5: str
    num_images: dict[str, int]
    class_counts: dict[str, list[int]]
    labels_digest: dict[str, str]
    twin_threshold: float
    num_exact_pairs: dict[str, int]
    num_twin_pairs: dict[str, int]
    twins: dict[str, list[list[int]]]
    exact: dict[str, list[list[int]]]
    twin_test_indices: list[int]


def labels_digest(labels: NDArray[np.int64]) -> str:
    """SHA-256 over labels as little-endian int64: what cards and records know a split by."""
    return hashlib.sha256(labels.astype("<i8").tobytes()).hexdigest()


def card_path(results: Path, dataset: str) -> Path:
    """Where a data set's card stands."""
    return results / "data" / f"{dataset}.json"


def read_card(results: Path, dataset: str) -> DataCard | None:
    """The data set's card, None where it was not measured.

    Raises:
        RecordError: If the card is damaged.
    """
    path = card_path(results, dataset)
    if not path.exists():
        return None
    try:
        return DataCard.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise RecordError(f"{path}: {explain_validation(error)}") from None


def write_card(results: Path, card: DataCard) -> None:
    """Write a data set's card."""
    write_atomic(card_path(results, card.dataset), pretty(card.model_dump(mode="json")))
