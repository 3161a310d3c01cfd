"""The way of a data set into memory: names, files, checksums, download, checks, and the committed cards."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.server
import importlib.util
import io
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest

from bench.data import download, synthetic
from bench.data import loading as data
from bench.data.card import CLINICAL_POSITIVE, measure
from bench.data.names import DATASETS
from bench.errors import DataError, DataMissingError
from bench.records.card import card_path, labels_digest, read_card
from bench.records.sealed import pretty
from tests.making import write_npz

REPOSITORY = Path(__file__).parents[2]
REAL_ROOT = data.data_root()  # before a test hides it
needs_medmnist = pytest.mark.skipif(importlib.util.find_spec("medmnist") is None, reason="medmnist is not installed")
CARDS = ("breastmnist", "pneumoniamnist")
STAND_IN = "synthetic-breastmnist"  # plays the official breastmnist in these tests


@pytest.fixture(autouse=True)
def apart(monkeypatch, tmp_path):
    """No test sees this machine's files, nor what another test learned."""
    for variable in (data.ROOT_VARIABLE, download.OFFLINE_VARIABLE, "http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "_silent_hosts", {})
    data._md5_of.cache_clear()


@pytest.fixture
def root(tmp_path):
    """An empty folder for files."""
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def official(monkeypatch, tmp_path):
    """A small file that INFO calls breastmnist: its bytes, and INFO's entry to change."""
    (tmp_path / "official").mkdir()
    content = write_npz(STAND_IN, tmp_path / "official").read_bytes()
    entry = {
        "task": "binary-class",
        "label": {"0": "malignant", "1": "normal, benign"},
        "n_channels": 1,
        "n_samples": dict(synthetic.SPLIT_SIZES),
        "license": "CC BY 4.0",
        "url": "http://127.0.0.1:9/breastmnist.npz?download=1",
        "MD5": hashlib.md5(content).hexdigest(),
        "url_64": "http://127.0.0.1:9/breastmnist_64.npz?download=1",
        "MD5_64": "0" * 32,
    }
    monkeypatch.setattr(data, "_medmnist_info", lambda: {"breastmnist": entry})
    return types.SimpleNamespace(content=content, entry=entry)


@pytest.fixture
def server():
    """A web server on this machine; `answers` maps a path to (status, body, announced length)."""
    answers: dict[str, tuple[int, bytes, int]] = {}
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            status, body, length = answers.get(self.path, (404, b"", 0))
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as service:
        thread = threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        address = f"http://127.0.0.1:{service.server_port}"
        yield types.SimpleNamespace(address=address, answers=answers, asked=asked)
        service.shutdown()
        thread.join()


def put(root, content, name="breastmnist.npz"):
    path = root / name
    path.write_bytes(content)
    return path


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def with_md5(official, content):
    """Make INFO take these bytes as official."""
    official.entry["MD5"] = hashlib.md5(content).hexdigest()
    return content


# Names


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
def test_unusable_names_are_told_apart(name, words):
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


# Files and checksums


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
    """Asking for a stand-in's file is an error that says how to get it."""
    with pytest.raises(DataError, match="made by formula"):
        data.find_file(STAND_IN, 28, root)


# What a file holds


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
    """A flipped byte inside a member is found by zip's own sum, without a traceback."""
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


# Missing files and download


def test_a_missing_set_says_what_to_do(monkeypatch, official, root):
    """The line names the set, where it was looked for, the address, why not, and what would do; no trace is left."""
    monkeypatch.setenv(download.OFFLINE_VARIABLE, "1")
    folder = root / "not" / "there"
    with pytest.raises(DataMissingError) as caught:
        data.load("breastmnist", 28, folder)
    message = str(caught.value)
    for part in ("breastmnist (28 px)", str(folder / "breastmnist.npz"), official.entry["url"], "MEDBENCH_OFFLINE"):
        assert part in message
    assert f"set {data.ROOT_VARIABLE}" in message
    assert "\n" not in message
    assert not (root / "not").exists()


def test_without_download_nobody_is_asked(official, server, root):
    """`download=False` asks no server."""
    official.entry["url"] = f"{server.address}/breastmnist.npz"
    with pytest.raises(DataMissingError, match="not tried"):
        data.find_file("breastmnist", 28, root, download=False)
    assert server.asked == []


def test_download_gets_the_file_once(official, server, root):
    """A missing file is fetched from INFO's address into a folder made for it, and nothing else is left there."""
    official.entry["url"] = f"{server.address}/breastmnist.npz?download=1"
    server.answers["/breastmnist.npz?download=1"] = (200, official.content, len(official.content))
    folder = root / "new"
    for _ in range(2):
        assert data.load("breastmnist", 28, folder).md5 == official.entry["MD5"]
    assert server.asked == ["/breastmnist.npz?download=1"]
    assert [file.name for file in folder.iterdir()] == ["breastmnist.npz"]
    assert (folder / "breastmnist.npz").read_bytes() == official.content


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda content: (404, b"", 0), "HTTP 404 Not Found"),
        (lambda content: (503, b"later", 5), "HTTP 503"),
        (lambda content: (200, b"<html>log in</html>", 19), hashlib.md5(b"<html>log in</html>").hexdigest()),
        (lambda content: (200, content[:-9], len(content)), "what came has the MD5|IncompleteRead"),
    ],
)
def test_a_download_that_brings_something_else_leaves_nothing(official, server, root, answer, words):
    """An error, another file or half a file is told in one line, and the folder stays as it was."""
    official.entry["url"] = f"{server.address}/breastmnist.npz"
    server.answers["/breastmnist.npz"] = answer(official.content)
    with pytest.raises(DataMissingError, match=words) as caught:
        data.load("breastmnist", 28, root)
    assert "\n" not in str(caught.value)
    assert list(root.iterdir()) == []


def test_a_download_gets_its_name_last(monkeypatch, official, server, root):
    """The file appears whole, by rename: where that fails, on a full disk say, nothing is left."""
    official.entry["url"] = f"{server.address}/breastmnist.npz"
    server.answers["/breastmnist.npz"] = (200, official.content, len(official.content))

    def full(self, target):
        assert self.read_bytes() == official.content
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(DataMissingError, match="No space left"):
        data.load("breastmnist", 28, root)
    assert list(root.iterdir()) == []


def test_a_server_that_is_not_there_is_asked_once(monkeypatch, official, root):
    """Refused connections are told at once; the other sets of that host do not ask again."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as closed:
        port = closed.getsockname()[1]
    official.entry["url"] = f"http://127.0.0.1:{port}/breastmnist.npz"
    with pytest.raises(DataMissingError, match="Connection refused"):
        data.load("breastmnist", 28, root)
    monkeypatch.setattr(download.urllib.request, "urlopen", lambda *_, **__: pytest.fail("asked again"))
    with pytest.raises(DataMissingError, match="Connection refused"):
        data.load("breastmnist", 28, root)


def test_a_silent_server_is_given_up(monkeypatch, official, root):
    """A server that takes the connection and says nothing costs the waiting time, under ten seconds, not more."""
    assert download.ANSWER_SECONDS < 10
    monkeypatch.setattr(download, "ANSWER_SECONDS", 0.2)
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
        official.entry["url"] = f"http://127.0.0.1:{silent.getsockname()[1]}/breastmnist.npz"
        start = time.monotonic()
        with pytest.raises(DataMissingError, match=r"no answer within 0\.2 s"):
            data.load("breastmnist", 28, root)
    assert time.monotonic() - start < 5


def test_a_silent_name_server_is_given_up(monkeypatch, official, root):
    """Name resolution, which no timeout of urllib covers, is given up too."""
    release = threading.Event()
    monkeypatch.setattr(download, "ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(download.urllib.request, "urlopen", lambda *_, **__: release.wait(30))
    start = time.monotonic()
    with pytest.raises(DataMissingError, match=r"no answer within 0\.1 s"):
        data.load("breastmnist", 28, root)
    release.set()
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("kind", ["read-only", "file in the way"])
def test_a_root_that_cannot_be_written_is_a_clear_error(official, server, root, kind):
    """Where the download cannot be stored the set counts as missing, with the reason."""
    if kind == "read-only" and os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    official.entry["url"] = f"{server.address}/breastmnist.npz"
    server.answers["/breastmnist.npz"] = (200, official.content, len(official.content))
    folder = root
    if kind == "read-only":
        root.chmod(0o555)
    else:
        (root / "file").touch()
        folder = root / "file" / "folder"
    try:
        with pytest.raises(DataMissingError, match=r"Permission denied|Not a directory|File exists"):
            data.load("breastmnist", 28, folder)
    finally:
        root.chmod(0o755)


# Cards


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
