"""The way of a data set into memory: names, files, checksums, checks of arrays."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.data import loading as data
from bench.data import synthetic
from bench.data.card import CLINICAL_POSITIVE
from bench.data.names import DATASETS
from bench.errors import DataError, DataMissingError
from bench.records.card import labels_digest
from tests.data.npz_files import STAND_IN, npz, put, with_md5

pytestmark = pytest.mark.usefixtures("apart")
REPOSITORY = Path(__file__).parents[2]
needs_medmnist = pytest.mark.skipif(importlib.util.find_spec("medmnist") is None, reason="medmnist is not installed")


@needs_medmnist
def test_known_flags_are_medmnists():
    """The static list is INFO's: every 2D set with one label an image, and planning knows the same."""
    single = ("multi-class", "binary-class", "ordinal-regression")
    info = data._medmnist_info()
    usable = {flag for flag, entry in info.items() if entry["task"] in single and not flag.endswith("3d")}
    assert set(DATASETS) == usable
    assert len(DATASETS) == len(usable)


@needs_medmnist
def test_info_of_every_flag_is_usable():
    """Every known set has its classes, three splits, and an MD5 and an address for the four sizes."""
    for flag in DATASETS:
        info = data.get_info(flag)
        assert (info.name, info.flag, info.synthetic) == (flag, flag, False)
        assert len(info.class_names) == info.num_classes >= 2
        assert list(info.num_images) == list(data.SPLITS)
        assert list(info.md5) == list(info.url) == [28, 64, 128, 224]
        assert all(len(md5) == 32 for md5 in info.md5.values())
        for size, url in info.url.items():
            assert f"/{data.file_name(flag, size)}" in url
    assert data.get_info("dermamnist").license == "CC BY-NC 4.0"
    assert data.get_info("breastmnist").class_names[CLINICAL_POSITIVE["breastmnist"]] == "malignant"
    assert data.get_info("pneumoniamnist").class_names[CLINICAL_POSITIVE["pneumoniamnist"]] == "pneumonia"
    assert data.get_info("dermamnist").class_names[CLINICAL_POSITIVE["dermamnist"]] == "melanoma"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("chestmnist", "several labels"),
        ("organmnist3d", "volumes"),
        ("brestmnist", "did you mean 'breastmnist'"),
        ("BreastMNIST", "did you mean 'breastmnist'"),
        ("imagenet", "known: bloodmnist, breastmnist"),
        ("synthetic-pathmnist", "did you mean 'synthetic-"),
        ("synthetic-chestmnist", "synthetic-bloodmnist"),
    ],
)
def test_unusable_names_have_messages_of_their_own(name, words):
    """Multi-label sets, volumes and typing errors are refused, each with what would do."""
    with pytest.raises(DataError, match=words) as caught:
        data.get_info(name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_synthetic_sets_need_no_medmnist(monkeypatch):
    """A stand-in is known and made where medmnist is not installed; a real set is a clear error there."""
    monkeypatch.setitem(sys.modules, "medmnist", None)
    info = data.load(STAND_IN, 28).info
    assert (info.flag, info.task, info.num_classes, info.num_channels) == ("breastmnist", "binary-class", 2, 1)
    with pytest.raises(DataError, match=r"need the package medmnist.*\[run\]"):
        data.get_info("breastmnist")


def test_import_is_light():
    """Planning may import the module: neither torch nor medmnist comes with it."""
    heavy = ("torch", "medmnist", "timm")
    code = f"import sys, bench.data.loading; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@needs_medmnist
def test_a_home_that_cannot_be_written_is_no_reason_to_stop(monkeypatch, tmp_path):
    """Where medmnist cannot make ~/.medmnist it warns; the suite goes on, even with warnings as errors."""
    data._medmnist_info()
    for module in [name for name in sys.modules if name.split(".")[0] == "medmnist"]:
        monkeypatch.delitem(sys.modules, module)
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file" / "home"))
    assert data.get_info("breastmnist").num_images["test"] == 156
    assert sys.modules["medmnist.info"].DEFAULT_ROOT is None


def test_root_is_the_argument_then_the_variable_then_home(monkeypatch, official, tmp_path):
    """The folder is the argument's, else MEDMNIST_ROOT's, else ~/.medmnist."""
    folders = [tmp_path / "home" / ".medmnist", tmp_path / "variable", tmp_path / "argument"]
    for folder in folders:
        folder.mkdir(parents=True)
        put(folder, official.content)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert data.find_file("breastmnist", 28) == folders[0] / "breastmnist.npz"
    monkeypatch.setenv(data.ROOT_VARIABLE, str(folders[1]))
    assert data.find_file("breastmnist", 28) == folders[1] / "breastmnist.npz"
    assert data.find_file("breastmnist", 28, root=folders[2]) == folders[2] / "breastmnist.npz"
    assert data.find_file("breastmnist", 28, root=str(folders[2])).parent == folders[2]


def test_other_sizes_have_medmnists_names(official, root):
    """The 64 px file is breastmnist_64.npz and has its own MD5."""
    official.entry["MD5_64"] = hashlib.md5(b"sixty-four").hexdigest()
    assert data.find_file("breastmnist", 64, put(root, b"sixty-four", "breastmnist_64.npz").parent).exists()
    with pytest.raises(DataError, match="no breastmnist with 32 px; there are 28, 64 px"):
        data.find_file("breastmnist", 32, root)


@pytest.mark.parametrize("damage", [lambda content: content[:-100], lambda content: content + b" ", lambda _: b""])
def test_a_wrong_file_is_refused_with_both_sums(official, root, damage):
    """A truncated, lengthened or empty file is refused by name, with the MD5 found and the official one."""
    path = put(root, damage(official.content))
    with pytest.raises(DataError) as caught:
        data.load("breastmnist", 28, root)
    message = str(caught.value)
    assert not isinstance(caught.value, DataMissingError)
    for part in (str(path), "breastmnist", hashlib.md5(path.read_bytes()).hexdigest(), official.entry["MD5"]):
        assert part in message
    assert "\n" not in message


def test_a_file_is_summed_once_until_it_changes(monkeypatch, official, root):
    """The MD5 is read on the first use in a process, and again when the file's time or size changed."""
    sums = []
    plain = data.md5_of
    monkeypatch.setattr(data, "md5_of", lambda stream: sums.append(stream.name) or plain(stream))
    path = put(root, official.content)
    for _ in range(3):
        data.load("breastmnist", 28, root)
    assert len(sums) == 1
    put(root, official.content[:-1])
    with pytest.raises(DataError, match="not the official"):
        data.find_file("breastmnist", 28, root)
    put(root, official.content)
    os.utime(path, ns=(1, 1))
    data.find_file("breastmnist", 28, root)
    assert len(sums) == 3


def test_a_folder_that_cannot_be_written_is_read(official, root):
    """A good file in a read-only folder is used; nothing is left beside it."""
    put(root, official.content)
    root.chmod(0o555)
    try:
        data.load("breastmnist", 28, root)
        assert [file.name for file in root.iterdir()] == ["breastmnist.npz"]
    finally:
        root.chmod(0o755)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_cannot_be_read_is_a_clear_error(official, root, what):
    """A file or folder without the right to read it is named; it is not taken for a missing one."""
    path = put(root, official.content)
    shut = path if what == "file" else root
    shut.chmod(0)
    try:
        with pytest.raises(DataError, match="Permission denied") as caught:
            data.find_file("breastmnist", 28, root)
        assert not isinstance(caught.value, DataMissingError)
    finally:
        shut.chmod(0o755)


def test_a_synthetic_set_has_no_file(root):
    """Requesting a stand-in's file is an error that says how to get it."""
    with pytest.raises(DataError, match="made by formula"):
        data.find_file(STAND_IN, 28, root)


def test_load_gives_whole_arrays(official, root):
    """Images stay uint8 as they are, the label column becomes a row of int64, and MD5 and info come along."""
    put(root, official.content)
    arrays = data.load("breastmnist", 28, root, download=False)
    made = synthetic.make(STAND_IN)
    for split in data.SPLITS:
        assert arrays.images[split].dtype == np.uint8
        assert np.array_equal(arrays.images[split], made[f"{split}_images"])
        assert arrays.labels[split].dtype == np.int64
        assert arrays.labels[split].tolist() == made[f"{split}_labels"][:, 0].tolist()
    assert arrays.md5 == official.entry["MD5"]
    assert arrays.info.class_names == ("malignant", "normal, benign")


def pickled():
    return npz(train_images=np.array([{"never": "run"}], dtype=object))


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04 broken", pickled(), npz()[:10]])
def test_what_is_no_npz_is_a_clear_error(official, root, content):
    """Bytes that are no npz file, or one with pickled objects, are refused although their MD5 is right."""
    path = put(root, with_md5(official, content))
    with pytest.raises(DataError, match="not a readable npz file") as caught:
        data.load("breastmnist", 28, root)
    assert str(path) in str(caught.value)


def test_a_single_array_is_no_npz(official, root):
    """A .npy file under an npz's name is refused."""
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    put(root, with_md5(official, buffer.getvalue()))
    with pytest.raises(DataError, match="not a readable npz file"):
        data.load("breastmnist", 28, root)


def test_an_npz_with_a_damaged_member_is_a_clear_error(official, root):
    """A flipped byte inside a member is detected by zip's own sum, without a traceback."""
    content = bytearray(official.content)
    content[len(content) // 2] ^= 0xFF
    put(root, with_md5(official, bytes(content)))
    with pytest.raises(DataError, match="not a readable npz file"):
        data.load("breastmnist", 28, root)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda arrays: arrays.pop("val_labels"), "needs test_images, test_labels"),
        (lambda arrays: arrays.update(more=np.zeros(1)), "holds more, test_images"),
        (lambda arrays: arrays.update(train_images=arrays["train_images"] / 255), "train_images is float64"),
        (lambda arrays: arrays.update(val_images=arrays["val_images"][:-1]), r"val_images is uint8 \(43, 28, 28\)"),
        (lambda arrays: arrays.update(val_images=arrays["val_images"][..., None]), r"needed is uint8 \(44, 28, 28\)"),
        (lambda arrays: arrays.update(test_labels=arrays["test_labels"] * 1.0), "test_labels is float64"),
        (lambda arrays: arrays.update(test_labels=arrays["test_labels"][:, 0]), r"test_labels is uint8 \(88,\)"),
        (lambda arrays: arrays.update(test_labels=arrays["test_labels"] + 1), "go from 1 to 2; there are 2 classes"),
        (lambda arrays: arrays.update(test_labels=arrays["test_labels"].astype(int) - 1), "go from -1 to 0"),
    ],
)
def test_arrays_of_another_form_are_refused(official, root, change, words):
    """Missing or further keys, other dtypes, shapes, counts and labels are named with what is needed."""
    arrays = synthetic.make(STAND_IN)
    change(arrays)
    path = put(root, with_md5(official, npz(**arrays)))
    with pytest.raises(DataError, match=words) as caught:
        data.load("breastmnist", 28, root)
    assert str(path) in str(caught.value)


def test_labels_digest_is_over_little_endian_int64():
    """The digest is SHA-256 of the labels as eight-byte little-endian numbers, whatever their order in memory."""
    expected = hashlib.sha256(struct.pack("<3q", 0, 1, 10)).hexdigest()
    assert labels_digest(np.array([0, 1, 10])) == expected
    assert labels_digest(np.array([0, 1, 10], dtype=">i8")) == expected
    assert labels_digest(np.array([0, 9, 1, 9, 10])[::2]) == expected
