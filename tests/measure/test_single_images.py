"""What kept weights say of single images: what they said of the same images in val."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from bench.cli.app import app
from bench.data.card import measure
from bench.data.loading import load
from bench.data.own_import import import_folder
from bench.errors import BenchError
from bench.measure import single_images
from bench.measure.single_images import predict_images
from bench.protocols.loading import load_protocol
from bench.records.card import write_card
from bench.records.names import Run, weights_path
from bench.records.predictions import read_predictions
from bench.runs.request import RunBundle, RunRequest
from bench.runs.runner import run_one
from bench.stats.metrics import softmax
from bench.training.kept_weights import read_weights, weights_bytes
from models import catalog, load_plugin
from tests.making import make_card

SET = "synthetic-bloodmnist"
NET = '''"""A small network."""
from torch import nn
from models import register_model


@register_model(source="a test", code_license="MIT")
def looking_net(*, num_classes, in_chans=3, img_size=28, pretrained=False):
    return nn.Sequential(nn.Conv2d(in_chans, 8, 5, stride=3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(8, num_classes))
'''


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunBundle, Path]:
    """A run's kept weights, what it handed over, and a folder with three images of val as PNG files."""
    folder = tmp_path_factory.mktemp("looking")
    plugin = folder / "looking_net.py"
    plugin.write_text(NET, encoding="utf-8")
    run = Run("smoke", "looking_net", SET, 0)
    request = RunRequest(run, load_protocol("smoke"), measure(SET), plugins=(str(plugin),), keep_weights=True)
    bundle = run_one(request)
    assert bundle.weights is not None, bundle.record.failure
    path = weights_path(folder, run)
    path.write_bytes(bundle.weights)
    for index, pixels in enumerate(load(SET, 28).images["val"][:3]):
        Image.fromarray(pixels).save(folder / f"val{index}.png")
    return path, bundle, folder


@pytest.fixture(autouse=True)
def plugin(trained: tuple[Path, RunBundle, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "_plugins", {})
    load_plugin(trained[2] / "looking_net.py")


def test_an_image_of_val_gets_the_probabilities_of_val(trained: tuple[Path, RunBundle, Path]) -> None:
    """The same preparation as in the run, class names in the order of the labels."""
    path, bundle, folder = trained
    files = [folder / f"val{index}.png" for index in range(3)]
    found = predict_images(path, files, results=folder / "nowhere")
    assert bundle.predictions is not None
    expected = softmax(read_predictions(bundle.predictions).split("val").logits[:3])
    assert found.notes == []
    assert list(found.probabilities) == [str(file) for file in files]
    for row, probs in zip(expected, found.probabilities.values(), strict=True):
        assert list(probs) == measure(SET).class_names
        np.testing.assert_allclose(list(probs.values()), row, atol=1e-6)


def test_an_image_of_another_size_is_resized_and_noted(trained: tuple[Path, RunBundle, Path], tmp_path: Path) -> None:
    """To the size of the data set's files, whatever its mode."""
    path, _, folder = trained
    Image.new("LA", (50, 40), 128).save(tmp_path / "gray.png")
    found = predict_images(path, [tmp_path / "gray.png"], results=folder)
    assert found.notes == [f"{tmp_path / 'gray.png'}: resized from 50 x 40 to 28 x 28 px"]
    (probs,) = found.probabilities.values()
    assert sum(probs.values()) == pytest.approx(1)


def test_the_command_prints_classes_and_that_it_is_no_diagnosis(trained: tuple[Path, RunBundle, Path]) -> None:
    """For a person and, with --json, for a program."""
    path, bundle, folder = trained
    arguments = ["predict", "--weights", str(path), str(folder / "val0.png")]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.output
    assert "synthetic 0" in shown.output
    assert f"By {bundle.record.run_id}. Not for diagnosis" in shown.output
    content = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert content["note"].startswith("Not for diagnosis")
    assert (content["model"], content["protocol"]) == ("looking_net", "smoke")
    assert set(content["images"][0]["probabilities"]) == set(measure(SET).class_names)


def test_weights_may_stand_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind `=` a shell leaves `~` alone."""
    monkeypatch.setenv("HOME", str(tmp_path))
    error = CliRunner().invoke(app, ["predict", "--weights=~/kept.safetensors", "image.png"]).exception
    assert str(error).startswith(f"{tmp_path / 'kept.safetensors'} is no file")


def test_what_is_no_image_or_no_weights_is_one_line(trained: tuple[Path, RunBundle, Path], tmp_path: Path) -> None:
    """Each names the file and what would do."""
    path, _, folder = trained
    text = tmp_path / "text.png"
    text.write_text("no image", encoding="utf-8")
    cases = {
        "is no image that can be read": (path, text),
        "Cannot read": (path, tmp_path / "nowhere.png"),
        "is no file": (tmp_path / "nowhere.safetensors", text),
        "holds no kept weights": (text, text),
    }
    for says, (weights, image) in cases.items():
        with pytest.raises(BenchError, match=says) as caught:
            predict_images(weights, [image], results=folder)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("protocol_digest", "0" * 64, "trained by other rules than those of smoke"),
        ("run_id", f"looking_net__{SET}__no-such__s0", "name its file with --protocol"),
        ("run_id", "something", "names no run"),
        ("model_fingerprint", "0" * 64, "other code of looking_net"),
        ("num_classes", "3", "is for num_classes 3; synthetic-bloodmnist has 8"),
        ("in_chans", "1", "is for in_chans 1; synthetic-bloodmnist has 3"),
        ("run_id", "looking_net__own-mine__smoke__s0", "own-mine stand in its results folder"),
    ],
)
def test_weights_of_something_else_are_refused(
    key: str, value: str, says: str, trained: tuple[Path, RunBundle, Path], tmp_path: Path
) -> None:
    """Other rules, code or classes than those that the file names give no probabilities."""
    path, _, folder = trained
    kept = read_weights(path)
    assert kept is not None
    other = tmp_path / "other.safetensors"
    other.write_bytes(weights_bytes(kept.state, {**kept.about, key: value}))
    with pytest.raises(BenchError, match=says):
        predict_images(other, [folder / "val0.png"], results=folder)


def test_a_data_set_of_ones_own_is_known_by_its_card(trained: tuple[Path, RunBundle, Path], tmp_path: Path) -> None:
    """Class names and size come from the results folder of the run; images are cut as imported ones were."""
    path, _, folder = trained
    kept = read_weights(path)
    assert kept is not None
    own = tmp_path / "own.safetensors"
    own.write_bytes(weights_bytes(kept.state, {**kept.about, "run_id": "looking_net__own-mine__smoke__s0"}))
    names = [f"kind {label}" for label in range(8)]
    card = make_card("own-mine", 8).model_copy(update={"class_names": names, "num_channels": 3, "source_size": 40})
    write_card(tmp_path, card.sealed())
    wide = tmp_path / "wide.png"
    Image.new("RGB", (50, 40), (10, 20, 30)).save(wide)
    found = predict_images(own, [folder / "val0.png", wide], results=tmp_path)
    assert found.notes == [
        f"{folder / 'val0.png'}: resized from 28 x 28 to 40 x 40 px",
        f"{wide}: cut to the central square and resized from 50 x 40 to 40 x 40 px",
    ]
    assert [list(probs) for probs in found.probabilities.values()] == [names, names]


@pytest.mark.parametrize("mode", ["I;16", "F"])
def test_an_image_of_more_than_8_bits_is_refused(
    trained: tuple[Path, RunBundle, Path], tmp_path: Path, mode: str
) -> None:
    """Pillow would make 255 of every pixel above; which window is wanted, only the owner knows."""
    deep = tmp_path / "deep.tif"
    Image.fromarray(np.full((28, 28), 4000, dtype=np.uint16 if mode == "I;16" else np.float32)).save(deep)
    with pytest.raises(BenchError, match=r"deep\.tif has 16 or more bits a channel; save it with 8"):
        predict_images(trained[0], [deep], results=tmp_path)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_for_ones_own_data_is_prepared_as_an_imported_one(tmp_path: Path, channels: int) -> None:
    """Turned as its EXIF says, cut to its central square, averaged: the pixels that `data import` writes."""
    pixels = np.random.default_rng(0).integers(0, 256, size=(30, 50, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    for name in ("a", "b"):
        for index in range(3):
            file = tmp_path / "in" / name / f"{index}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.roll(pixels, 7 * index + (name == "b"), axis=1)).save(file, exif=exif)
    import_folder(tmp_path / "in", tmp_path / "out", size=10, channels=channels)
    with np.load(tmp_path / "out" / "images.npz") as content:
        imported = content["images"]
    files = sorted((tmp_path / "in").rglob("*.png"))
    notes: list[str] = []
    read = np.stack([single_images._read_own(file, channels, 10, notes) for file in files])
    np.testing.assert_array_equal(read, imported)
    assert notes[0] == f"{files[0]}: cut to the central square and resized from 30 x 50 to 10 x 10 px"
    means = np.rot90(pixels, -1)[10:40].reshape(10, 3, 10, 3, 3).mean((1, 3))  # by hand: blocks of 3 x 3 pixels
    if channels == 3:
        assert np.abs(read[0] - means).max() <= 1.0  # Pillow rounds after each side
