"""A data set of one's own: what a card and its file may be, and one line for all that they may not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.data import own
from bench.data.card import measure, own_change
from bench.data.loading import load
from bench.data.own_import import import_folder
from bench.data.twins import shrunk
from bench.errors import BenchError
from bench.plan.selection import Selection, expand, expand_study
from tests.own_data import CARD, make_arrays, write_set

Arrays = dict[str, np.ndarray]


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins in a process that knows no set."""
    monkeypatch.setattr(own, "_cards", {})


def test_six_arrays_come_as_they_are(tmp_path: Path) -> None:
    """Images at their own size and labels, whatever size a protocol names; the name says whose they are."""
    arrays = make_arrays(size=20)
    name = own.resolve(str(write_set(tmp_path, arrays=arrays)))
    loaded = load(name, 28)
    assert name == "own-cells"
    assert loaded.info.class_names == ("round", "long", "star")
    for split in ("train", "val", "test"):
        assert np.array_equal(loaded.images[split], arrays[f"{split}_images"])
        assert np.array_equal(loaded.labels[split], arrays[f"{split}_labels"].ravel())


@pytest.mark.parametrize("flat", [True, False])
def test_a_folder_names_its_card_and_gray_images_may_have_an_axis_of_one(tmp_path: Path, flat: bool) -> None:
    """(N, S, S) and (N, S, S, 1), labels (N,) and (N, 1)."""
    arrays = make_arrays(channels=1)
    given = {key: a[..., None] if key.endswith("images") and not flat else a for key, a in arrays.items()}
    given = {key: a.ravel() if key.endswith("labels") and flat else a for key, a in given.items()}
    write_set(tmp_path, CARD.replace("channels = 3", "channels = 1"), given)
    loaded = load(own.resolve(str(tmp_path)), 28)
    assert np.array_equal(loaded.images["val"], arrays["val_images"])
    assert np.array_equal(loaded.labels["test"], arrays["test_labels"].ravel())


def _whole() -> Arrays:
    """Images without splits; the first two of a class are equal."""
    arrays = make_arrays(num=20)
    images = np.concatenate([arrays[f"{split}_images"] for split in ("train", "val", "test")])
    labels = np.concatenate([arrays[f"{split}_labels"] for split in ("train", "val", "test")])
    images[3] = images[0]
    return {"images": images, "labels": labels}


SPLIT = "\n[split]\nseed = {seed}\nval = 0.2\ntest = 0.3\n"


def _split_of(folder: Path, arrays: Arrays, seed: int = 0) -> dict[str, list[bytes]]:
    path = write_set(folder, CARD + SPLIT.format(seed=seed), arrays)
    content = own.read_content(path, own.read_own_card(path))
    return {split: [image.tobytes() for image in content[f"{split}_images"]] for split in own.SPLITS}


def test_a_seeded_split_takes_its_shares_of_each_class(tmp_path: Path) -> None:
    """Every image once, in the order of the file, its label with it."""
    arrays = _whole()
    path = write_set(tmp_path, CARD + SPLIT.format(seed=0), arrays)
    content = own.read_content(path, own.read_own_card(path))
    counts = {split: np.bincount(content[f"{split}_labels"].ravel()).tolist() for split in own.SPLITS}
    assert sum(map(sum, counts.values())) == 60
    assert all(abs(val - 4) <= 1 for val in counts["val"])  # the equal pair may put one more image into a split
    assert all(abs(test - 6) <= 1 for test in counts["test"])
    labels = arrays["labels"].ravel()
    label_of = {image.tobytes(): int(label) for image, label in zip(arrays["images"], labels, strict=True)}
    for split in own.SPLITS:
        for image, label in zip(content[f"{split}_images"], content[f"{split}_labels"].ravel(), strict=True):
            assert label_of[image.tobytes()] == label


def test_a_seeded_split_depends_on_seed_and_pixels_alone(tmp_path: Path) -> None:
    """Another order of the file changes no image's split, another seed does; equal images stay together."""
    arrays = _whole()
    first = _split_of(tmp_path / "a", arrays)
    turned = _split_of(tmp_path / "b", {key: array[::-1] for key, array in arrays.items()})
    other = _split_of(tmp_path / "c", arrays, seed=1)
    assert {split: sorted(images) for split, images in first.items()} == {
        split: sorted(images) for split, images in turned.items()
    }
    assert sorted(first["test"]) != sorted(other["test"])
    equal = arrays["images"][0].tobytes()
    assert sorted(images.count(equal) for images in first.values()) == [0, 0, 2]


def _with(key: str, change: Callable[[np.ndarray], Any]) -> Arrays:
    arrays = make_arrays()
    return {**arrays, key: change(arrays[key])}


def _without(key: str) -> Arrays:
    return {name: array for name, array in make_arrays().items() if name != key}


def _set_label(value: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(labels: np.ndarray) -> np.ndarray:
        labels = labels.astype(np.int64)
        labels[0] = value
        return labels

    return change


FAULTY_CARDS = {
    "no TOML": ("name = [", "is no TOML file"),
    "a nest": (f"name = {'[' * 5000}", "is no TOML file"),
    "a long number": (f"name = {'1' * 5000}", "is no TOML file"),
    "a key that is not there": (CARD.replace('license = "CC BY 4.0"\n', ""), "license: Field required"),
    "an unknown key": (CARD + "colour = true\n", "colour: Extra inputs"),
    "a name with a space": (CARD.replace("cells", "my cells"), "name: "),
    "an unknown task": (CARD.replace("multi-class", "multi-label"), "task: "),
    "two channels": (CARD.replace("channels = 3", "channels = 2"), "channels: "),
    "one class": (CARD.replace('["round", "long", "star"]', '["round"]'), "classes: "),
    "a class twice": (CARD.replace("long", "round"), "two classes have one name"),
    "a binary task with three classes": (CARD.replace("multi-class", "binary-class"), "binary-class is for two"),
    "a positive that is no class": (CARD + 'positive = "square"\n', "positive 'square' is none of the classes"),
    "a name in two lines": (CARD.replace("CC BY", "CC\\nBY"), "license: .*one line"),
    "a split that leaves nothing": (CARD + "[split]\nval = 0.5\ntest = 0.5\n", "leave nothing to train on"),
    "a share of nothing": (CARD + "[split]\nval = 0.0\n", "split.val: "),
    "another file": (CARD + 'file = "other.npz"\n', "other.npz is not there"),
    "a split of what is divided": (CARD + "[split]\nseed = 1\n", "is divided already"),
}

FAULTY_FILES: dict[str, tuple[Callable[[], Arrays], str]] = {
    "five arrays": (lambda: _without("val_labels"), "the card needs test_images, test_labels"),
    "no arrays": (dict, "holds nothing"),
    "images without splits": (_whole, r"a \[split\] table in the card divides them"),
    "float images": (lambda: _with("train_images", lambda a: a / 255), "train_images is float64 .* needs uint8"),
    "gray images": (lambda: _with("val_images", lambda a: a[..., 0]), r"val_images is uint8 .*\(N, S, S, 3\)"),
    "four channels": (lambda: _with("val_images", lambda a: a[..., [0, 1, 2, 0]]), r"\(12, 20, 20, 4\)"),
    "images that are not square": (lambda: _with("test_images", lambda a: a[:, 1:]), "19 x 20 pixels; .* square"),
    "two sizes": (lambda: _with("val_images", lambda a: a[:, 1:, 1:]), "one size; .* val_images 19 px"),
    "no image": (lambda: _with("val_images", lambda a: a[:0]), "val_images holds no image"),
    "several labels": (lambda: _with("val_labels", lambda a: np.hstack([a, a])), "2 labels an image"),
    "labels of fewer images": (lambda: _with("val_labels", lambda a: a[1:]), "one for each of 12 images"),
    "labels that are names": (lambda: _with("val_labels", lambda a: a.astype(str)), "needed are whole numbers"),
    "a label too many": (lambda: _with("test_labels", _set_label(3)), "from 0 to 3; the card names 3 classes"),
    "a negative label": (lambda: _with("test_labels", _set_label(-1)), "from -1 to 2"),
    "a split without a class": (
        lambda: _with("val_labels", lambda a: np.where(a == 2, 1, a)),
        "val has no image of the class 'star'",
    ),
}


def _refused(call: Callable[[], Any], says: str) -> None:
    with pytest.raises(BenchError, match=says) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(("text", "says"), FAULTY_CARDS.values(), ids=FAULTY_CARDS)
def test_a_faulty_card_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    """What is wrong, and with which file."""
    path = write_set(tmp_path, text)
    _refused(lambda: load(own.resolve(str(path)), 28), says)


@pytest.mark.parametrize(("arrays", "says"), FAULTY_FILES.values(), ids=FAULTY_FILES)
def test_a_faulty_file_is_one_line(tmp_path: Path, arrays: Callable[[], Arrays], says: str) -> None:
    """What is wrong, and with which array."""
    path = write_set(tmp_path, arrays=arrays())
    _refused(lambda: load(own.resolve(str(path)), 28), says)


def test_a_file_that_is_no_npz_and_a_card_that_is_not_there_are_one_line(tmp_path: Path) -> None:
    """Nothing in the file is executed."""
    path = write_set(tmp_path)
    (tmp_path / "images.npz").write_bytes(b"no archive")
    _refused(lambda: load(own.resolve(str(path)), 28), "not a readable npz file .*numpy.savez_compressed")
    np.savez(tmp_path / "images.npz", images=np.array([{}], dtype=object), labels=np.zeros(1, dtype=np.int64))
    _refused(lambda: load("own-cells", 28), "not a readable npz file")
    _refused(lambda: own.resolve(str(tmp_path / "no.toml")), "No such file or directory; --datasets takes a card.toml")


def test_two_cards_of_one_name_are_refused(tmp_path: Path) -> None:
    """Their records would stand in one place."""
    own.resolve(str(write_set(tmp_path / "a")))
    _refused(lambda: own.resolve(str(write_set(tmp_path / "b"))), "give one of the two another name")


def test_a_card_selects_runs_and_a_bare_name_or_a_study_does_not(tmp_path: Path) -> None:
    """A name alone says nothing of the file; a study rests on data that everybody can get."""
    _refused(lambda: expand(["smoke"], ["floor/knn1"], ["own-cells"], [0]), "name its card")
    path = write_set(tmp_path)
    chosen = Selection(protocols=("smoke",), models=("floor/knn1",), datasets=(str(path), "breastmnist"))
    assert [run.dataset for run in chosen.runs()] == ["own-cells", "breastmnist"]
    study = tmp_path / "mine.toml"
    part = '[[parts]]\nprotocols = ["smoke"]\nmodels = ["floor/knn1"]\ndatasets = ["own-cells"]\nseeds = [0]\n'
    study.write_text(f'question = "?"\n{part}')
    _refused(lambda: expand_study(str(study)), "a data set of one's own")


@pytest.mark.parametrize("flag", ["breastmnist", "synthetic-breastmnist"])
def test_a_folder_hides_no_official_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: str) -> None:
    """A flag is a flag whatever stands in the working directory; as a path, and by any other name, it is the folder."""
    monkeypatch.chdir(tmp_path)
    write_set(tmp_path / flag)
    assert own.resolve(flag) == flag
    assert own.resolve(f"./{flag}") == "own-cells"
    (tmp_path / flag).rename(tmp_path / "synthetic-cells")
    monkeypatch.setattr(own, "_cards", {})
    assert own.resolve("synthetic-cells") == "own-cells"


def test_a_card_is_measured_and_shows_what_changed(tmp_path: Path) -> None:
    """Counts, digests and duplicates; a changed pixel, or a changed card, is seen."""
    arrays = make_arrays()
    arrays["test_images"][4] = arrays["train_images"][7]
    path = write_set(tmp_path, CARD + 'positive = "star"\ncitation = "us"\n', arrays)
    name = own.resolve(str(path))
    card = measure(name)
    assert (card.dataset, card.synthetic, card.source_size, card.num_channels) == ("own-cells", False, 20, 3)
    assert (card.clinical_positive, card.citation, card.license) == (2, "us", "CC BY 4.0")
    assert card.exact["train/test"] == [[7, 4]]
    assert 4 in card.twin_test_indices
    assert own_change(card, load(name, 0)) == ""
    arrays["train_images"][0, 0, 0, 0] ^= 1
    write_set(tmp_path, CARD + 'positive = "star"\ncitation = "us"\n', arrays)
    assert own_change(card, load(name, 0)) == "images, labels or splits"
    write_set(tmp_path, CARD.replace("CC BY", "CC0"), arrays)
    assert own_change(card, load(name, 0)) == "clinical_positive, license, citation, md5"


def test_a_test_split_of_copies_is_refused(tmp_path: Path) -> None:
    """Nothing would be left of the twin-free test."""
    arrays = make_arrays()
    for kind in ("images", "labels"):
        arrays[f"test_{kind}"] = arrays[f"train_{kind}"][:18]
    name = own.resolve(str(write_set(tmp_path, arrays=arrays)))
    _refused(lambda: measure(name), "own-cells: every test image is, or nearly is, one of train or val")


def test_a_large_image_is_looked_at_by_the_means_of_its_cells() -> None:
    """Whole cells by hand; an image that is small enough stays."""
    image = np.array([[[0, 2, 10, 10], [4, 6, 10, 13], [1, 1, 0, 0], [1, 2, 0, 255]]], dtype=np.uint8)
    assert shrunk(image, 2).tolist() == [[[3, 11], [1, 64]]]
    assert shrunk(image, 4) is image
    assert shrunk(np.zeros((2, 57, 57, 3), dtype=np.uint8), 28).shape == (2, 28, 28, 3)


def _write_images(top: Path, classes: dict[str, int], colour: bool, size: tuple[int, int] = (24, 20)) -> None:
    from PIL import Image

    generator = np.random.default_rng(len(top.name))
    for index, (name, number) in enumerate(classes.items()):
        (top / name).mkdir(parents=True)
        for image in range(number):
            pixels = generator.integers(0, 100, size=(size[1], size[0], 3), dtype=np.uint8) + np.uint8(70 * index)
            picture = Image.fromarray(pixels if colour else pixels[..., 0])
            picture.save(
                top / name / (f"{image}.png" if image % 2 else f"{image}.JPG"), format=None if image % 2 else "JPEG"
            )


@pytest.mark.parametrize("colour", [True, False])
def test_class_folders_become_a_set_with_a_seeded_split(tmp_path: Path, colour: bool) -> None:
    """PNG and JPEG, cut to a square, gray where no image has colour; the card can be used as it is."""
    _write_images(tmp_path / "My cells", {"long": 12, "round": 9}, colour)
    made = import_folder(tmp_path / "My cells", tmp_path / "out", size=16, split=own.SeededSplit(seed=3))
    card = own.read_own_card(made.card)
    assert (made.num_images, made.num_classes) == (21, 2)
    assert (card.name, card.task, card.classes) == ("my-cells", "binary-class", ("long", "round"))
    assert card.split == own.SeededSplit(seed=3)
    loaded = load(own.resolve(str(tmp_path / "out")), 28)
    assert loaded.images["train"].shape[1:] == ((16, 16, 3) if colour else (16, 16))
    assert {split: np.bincount(labels).tolist() for split, labels in loaded.labels.items()} == {
        "train": [8, 7],
        "val": [2, 1],
        "test": [2, 1],
    }


def test_folders_with_splits_keep_them(tmp_path: Path) -> None:
    """Six arrays, and no [split] in the card."""
    for split, number in (("train", 4), ("val", 2), ("test", 3)):
        _write_images(tmp_path / "in" / split, {"a": number, "b": number, "c": number}, colour=False)
    made = import_folder(tmp_path / "in", tmp_path / "out", size=8, positive="c", license="mine")
    card = own.read_own_card(made.card)
    assert (card.split, card.positive, card.license, card.task) == (None, "c", "mine", "multi-class")
    loaded = load(own.resolve(str(made.card)), 28)
    assert {split: len(labels) for split, labels in loaded.labels.items()} == {"train": 12, "val": 6, "test": 9}


def test_a_pixel_is_kept_where_nothing_is_resized(tmp_path: Path) -> None:
    """A square PNG of the wanted size comes out as it went in."""
    from PIL import Image

    _write_images(tmp_path / "in", {"a": 5, "b": 5}, colour=True, size=(8, 8))
    import_folder(tmp_path / "in", tmp_path / "out", size=8)
    with np.load(tmp_path / "out" / "images.npz") as content:
        assert np.array_equal(content["images"][1], np.asarray(Image.open(tmp_path / "in" / "a" / "1.png")))


@pytest.mark.parametrize("content", [b"no image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, b""])
def test_a_broken_image_is_one_line_and_nothing_is_written(tmp_path: Path, content: bytes) -> None:
    """Which file, and what would do."""
    _write_images(tmp_path / "in", {"a": 3, "b": 3}, colour=True)
    (tmp_path / "in" / "a" / "1.png").write_bytes(content)
    _refused(lambda: import_folder(tmp_path / "in", tmp_path / "out"), r"1\.png is no readable PNG or JPEG image")
    assert not (tmp_path / "out").exists()


def test_a_truncated_and_a_deep_image_are_one_line(tmp_path: Path) -> None:
    """Half a file decodes to half an image; 16 bits need a window that only the owner knows."""
    from PIL import Image

    _write_images(tmp_path / "in", {"a": 3, "b": 3}, colour=True)
    file = tmp_path / "in" / "b" / "0.JPG"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    _refused(lambda: import_folder(tmp_path / "in", tmp_path / "out"), r"0\.JPG is no readable PNG or JPEG image")
    file.unlink()
    Image.fromarray(np.full((9, 9), 4000, dtype=np.uint16)).save(tmp_path / "in" / "b" / "5.png")
    _refused(lambda: import_folder(tmp_path / "in", tmp_path / "out"), "16 or more bits")


def test_folders_that_are_no_classes_are_one_line(tmp_path: Path) -> None:
    """No folder, one class, an empty class, splits beside classes, a file in the way."""
    _refused(lambda: import_folder(tmp_path / "none", tmp_path / "out"), "is no folder")
    _write_images(tmp_path / "one", {"a": 3}, colour=False)
    _refused(lambda: import_folder(tmp_path / "one", tmp_path / "out"), "1 class folders")
    (tmp_path / "one" / "b").mkdir()
    _refused(lambda: import_folder(tmp_path / "one", tmp_path / "out"), "b holds no PNG or JPEG image")
    (tmp_path / "one" / "train").mkdir()
    _refused(lambda: import_folder(tmp_path / "one", tmp_path / "out"), "splits are train, val and test")
    _write_images(tmp_path / "few", {"a": 3, "b": 2}, colour=False)
    _refused(lambda: import_folder(tmp_path / "few", tmp_path / "out"), "train has no image of the class 'b'")
    assert list((tmp_path / "out").iterdir()) == []
    (tmp_path / "one" / "train").rename(tmp_path / "one" / os.fsdecode(b"r\xf6ntgen"))  # unpacked from another system
    _refused(lambda: import_folder(tmp_path / "one", tmp_path / "out"), r"'r\\udcf6ntgen' is no class name")
    write_set(tmp_path / "out")
    _refused(lambda: import_folder(tmp_path / "few", tmp_path / "out"), "is there already")
