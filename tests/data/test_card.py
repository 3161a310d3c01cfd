"""Data cards: what is measured of a set, and the committed ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench.data import loading as data
from bench.data import synthetic
from bench.data.card import measure
from bench.records.card import card_path, labels_digest, read_card
from bench.records.sealed import pretty
from tests.data.npz_files import STAND_IN, npz, put, with_md5

pytestmark = pytest.mark.usefixtures("apart")
REPOSITORY = Path(__file__).parents[2]
REAL_ROOT = data.data_root()  # before a test hides it
CARDS = ("breastmnist", "pneumoniamnist")


def test_measure_describes_the_set():
    """A card holds counts, digests and duplicates of all three splits; a stand-in's says synthetic and has none."""
    card = measure("synthetic-dermamnist")
    arrays = data.load("synthetic-dermamnist", 28)
    assert (card.synthetic, card.task, card.num_channels, card.clinical_positive) == (True, "multi-class", 3, 4)
    assert card.num_images == synthetic.SPLIT_SIZES
    for split, labels in arrays.labels.items():
        assert card.class_counts[split] == [int((labels == label).sum()) for label in range(7)]
        assert card.labels_digest[split] == labels_digest(labels)
    assert set(card.num_twin_pairs.values()) == set(card.num_exact_pairs.values()) == {0}
    assert (card.twin_test_indices, card.md5) == ([], arrays.md5)


def test_measure_finds_planted_duplicates(official, root):
    """A test image copied to train is an equal and a twin; a brighter copy in val is a twin only."""
    arrays = synthetic.make(STAND_IN)
    arrays["train_images"][5] = arrays["test_images"][40]
    arrays["val_images"][3] = np.minimum(arrays["test_images"][7], 250) + 5
    put(root, with_md5(official, npz(**arrays)))
    card = measure("breastmnist", root)
    assert card.exact == {"train/val": [], "train/test": [[5, 40]], "val/test": []}
    assert card.twins == {"train/val": [], "train/test": [[5, 40]], "val/test": [[3, 7]]}
    assert card.num_twin_pairs == {"train/val": 0, "train/test": 1, "val/test": 1}
    assert card.twin_test_indices == [7, 40]
    assert card.similarity["train/test"][40] == 1.0
    assert card.similarity["val/test"][7] >= 0.99
    assert np.flatnonzero(card.test_similarity >= 0.99).tolist() == [7, 40]
    assert (card.synthetic, card.clinical_positive, card.license) == (False, 0, "CC BY 4.0")


@pytest.mark.parametrize("flag", CARDS)
def test_committed_card_is_canonical(flag):
    """A committed card is valid, speaks of its set, and is written as the suite writes it."""
    card = read_card(REPOSITORY / "results", flag)
    assert card is not None
    assert (card.dataset, card.synthetic, card.source_size) == (flag, False, 28)
    content = card_path(REPOSITORY / "results", flag).read_bytes()
    assert content == pretty(json.loads(content)) == pretty(card.model_dump(mode="json"))
    assert sum(card.class_counts["train"]) == card.num_images["train"]
    assert card.class_names[card.clinical_positive] in ("malignant", "pneumonia")


def real(flag):
    path = REAL_ROOT / data.file_name(flag, 28)
    if not path.exists():
        pytest.skip(f"{path.name} is not in {path.parent}")
    return REAL_ROOT


@pytest.mark.data
@pytest.mark.parametrize("flag", CARDS)
def test_committed_card_is_the_real_files(flag):
    """Measured again from the official file, the committed card comes out."""
    assert measure(flag, real(flag), download=False) == read_card(REPOSITORY / "results", flag)


@pytest.mark.data
def test_breast_has_42_test_images_with_a_twin():
    """numpy's own correlation finds the same test images of BreastMNIST: 42 of 156."""
    images = data.load("breastmnist", 28, real("breastmnist"), download=False).images
    known = np.concatenate([images["train"], images["val"]]).reshape(-1, 784).astype(float)
    best = np.corrcoef(images["test"].reshape(-1, 784).astype(float), known)[:156, 156:].max(axis=1)
    card = read_card(REPOSITORY / "results", "breastmnist")
    assert np.flatnonzero(best >= 0.99).tolist() == card.twin_test_indices
    assert len(card.twin_test_indices) == 42
