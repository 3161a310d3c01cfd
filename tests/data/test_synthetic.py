"""The synthetic stand-ins: bytes that never change, the real sets' form, and something to learn."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bench.data import loading as data
from bench.data.md5 import arrays_md5
from bench.data.npz import read_npz
from bench.data.synthetic import MIN_PER_CLASS, SPLIT_SIZES, STAND_INS, class_counts, make, stand_in
from bench.data.twins import find_twins
from bench.errors import DataError
from tests.making import write_npz

every_stand_in = pytest.mark.parametrize("flag", STAND_INS)
GOLDEN_MD5 = {
    "bloodmnist": "e73399a66c587b26db41ec3d42fbea37",
    "breastmnist": "4d7e1f2857fd4dfd706f6647b8555e61",
    "dermamnist": "2e7cf2347b40695d44c71777d8e402a1",
    "pneumoniamnist": "f1b12f9a4899343f5945411e92669578",
    "organcmnist": "000ed45738da71bfc1e750c9b34485b4",
    "organsmnist": "27f74b3f02ee6825dd3347d6f5d2bad6",
}


def test_class_counts_by_hand():
    """147 : 399 of 128 is 34.5 : 93.5; the largest class takes up the rounding and what the rare ones need."""
    assert class_counts((147, 399), 128) == [34, 94]
    assert class_counts((1, 1, 998), 10) == [2, 2, 6]
    assert class_counts((1, 1), 4) == [2, 2]


@example([1, 1, 1, 1, 1, 1, 1, 439, 452, 398], 44)
@given(st.lists(st.integers(1, 5000), min_size=2, max_size=11), st.integers(44, 500))
def test_every_class_is_in_every_split(train_counts, num_images):
    """Counts sum to the split and no class has fewer than two."""
    counts = class_counts(tuple(train_counts), num_images)
    assert sum(counts) == num_images
    assert min(counts) >= MIN_PER_CLASS


@every_stand_in
def test_bytes_never_change(flag):
    """A stand-in's bytes are pinned: numpy's version and the machine have no say."""
    assert arrays_md5(make(f"synthetic-{flag}")) == GOLDEN_MD5[flag]


def test_md5_sees_values_and_shapes():
    """The MD5 that stands for a file's changes with a pixel, a shape, a dtype and a name."""
    plain = {"a": np.zeros((2, 3), dtype=np.uint8)}
    changed = plain["a"].copy()
    changed[1, 2] = 1
    others = [{"a": changed}, {"a": plain["a"].reshape(3, 2)}, {"a": plain["a"].astype(np.int8)}, {"b": plain["a"]}]
    assert len({arrays_md5(content) for content in [plain, *others]}) == 5


@pytest.mark.skipif(importlib.util.find_spec("medmnist") is None, reason="medmnist is not installed")
@every_stand_in
def test_form_is_the_real_sets(flag):
    """Task, channels, classes and number of training images are those of medmnist's INFO."""
    real, form = data.get_info(flag), STAND_INS[flag]
    assert (form.task, form.num_channels, len(form.train_counts)) == (real.task, real.num_channels, real.num_classes)
    assert sum(form.train_counts) == real.num_images["train"]


@every_stand_in
@pytest.mark.parametrize("size", [28, 64])
def test_arrays_are_like_an_official_file(flag, size):
    """Six uint8 arrays, labels as a column, about 128, 44 and 88 images, imbalanced like the training split."""
    content, form = make(f"synthetic-{flag}", size), STAND_INS[flag]
    assert set(content) == {f"{split}_{kind}" for split in SPLIT_SIZES for kind in ("images", "labels")}
    for split, num_images in SPLIT_SIZES.items():
        images, labels = content[f"{split}_images"], content[f"{split}_labels"]
        assert images.dtype == labels.dtype == np.uint8
        assert images.shape == (num_images, size, size) + ((3,) if form.num_channels == 3 else ())
        assert labels.shape == (num_images, 1)
        assert np.bincount(labels[:, 0]).tolist() == class_counts(form.train_counts, num_images)


@every_stand_in
def test_first_images_are_a_mixture(flag):
    """A part of train, as `max_train` takes it, is not one class."""
    labels = make(f"synthetic-{flag}")["train_labels"][:, 0]
    assert len(set(labels[:32].tolist())) >= min(len(STAND_INS[flag].train_counts), 4)


def test_sizes_share_labels_and_scenes():
    """A larger stand-in has the same labels, and shows the same scenes under other noise."""
    small, large = make("synthetic-pneumoniamnist"), make("synthetic-pneumoniamnist", 56)
    assert np.array_equal(small["test_labels"], large["test_labels"])
    shrunk = large["test_images"].reshape(88, 28, 2, 28, 2).mean(axis=(2, 4)).reshape(88, -1)
    correlation = np.corrcoef(small["test_images"].reshape(88, -1), shrunk)[:88, 88:]
    better = (correlation > np.diag(correlation)[:, None]).sum(axis=1)  # of 87 other scenes
    assert np.median(better) <= 5


@every_stand_in
def test_no_twins_across_or_within_splits(flag):
    """No two images of a stand-in are near twins: 0.9 is far below the twins' 0.99."""
    content = make(f"synthetic-{flag}")
    images = np.concatenate([content[f"{split}_images"] for split in SPLIT_SIZES])
    assert find_twins(images, images, threshold=0.9).pairs == [[index, index] for index in range(len(images))]


@every_stand_in
def test_classes_can_be_learned(flag):
    """What tells classes apart carries over to test: the nearest neighbour by spectrum beats the majority class."""
    content = make(f"synthetic-{flag}")
    spectra = {}
    for split in ("train", "test"):
        images = content[f"{split}_images"].astype(float)
        gray = images.mean(axis=-1) if images.ndim == 4 else images
        spectra[split] = np.abs(np.fft.fft2(gray))[:, :5, :5].reshape(len(gray), -1)[:, 1:]
    distance = ((spectra["test"][:, None] - spectra["train"][None]) ** 2).sum(axis=-1)
    preds, labels = content["train_labels"][distance.argmin(axis=1), 0], content["test_labels"][:, 0]
    majority = np.bincount(labels).max() / len(labels)
    assert (preds == labels).mean() >= majority + 0.05
    assert (preds == labels).mean() < 1.0


def test_written_file_passes_the_loader(tmp_path):
    """A written stand-in goes through the loader of official files and is the set that `load` makes."""
    path = write_npz("synthetic-dermamnist", tmp_path, 64)
    assert path.name == "synthetic-dermamnist_64.npz"
    made = data.load("synthetic-dermamnist", 64)
    read = data.to_arrays(read_npz(path), made.info, 64, made.md5, str(path))
    for split in SPLIT_SIZES:
        assert np.array_equal(read.images[split], made.images[split])
        assert np.array_equal(read.labels[split], made.labels[split])


@pytest.mark.parametrize("name", ["breastmnist", "synthetic-pathmnist", "synthetic-", "synthetic-brestmnist"])
def test_unknown_stand_in_lists_the_known(name):
    """A name without a stand-in is refused with the six that there are."""
    with pytest.raises(DataError, match=f"{name}.*synthetic-organsmnist"):
        stand_in(name)


@pytest.mark.data
@pytest.mark.parametrize("flag", ["breastmnist", "pneumoniamnist"])
def test_proportions_are_the_official_files(flag):
    """The counts that a stand-in follows are those of the official training split."""
    if not (data.data_root() / data.file_name(flag, 28)).exists():
        pytest.skip(f"{flag} is not in {data.data_root()}")
    arrays = data.load(flag, 28, download=False)
    assert tuple(np.bincount(arrays.labels["train"]).tolist()) == STAND_INS[flag].train_counts
