"""The Grad-CAM figures: drawn from stored maps alone, with their check, their source and their licence."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.protocols.loading import load_protocol
from bench.records.cam_record import (
    TRAINED,
    CamCell,
    CamImage,
    CamLayer,
    CamRecord,
    image_source,
    images_bytes,
    maps_bytes,
    may_store_images,
    read_cams,
    write_cam,
)
from bench.records.names import Run
from bench.records.run_record import read_record
from bench.report.evidence import MODELS, gather
from bench.report.figures import gradcam
from bench.report.figures.drawing import captions_of, draw_all
from bench.report.figures.gradcam import NOTHING, _array, _overlay, draw, notes, plots
from bench.report.figures.style import Plot, style
from models.catalog import fingerprint, get_spec

ROOT = Path(__file__).parents[2]
RUN = Run("gradcam-224", "medspectralnet", "breastmnist", 0)
LAYERS = [
    CamLayer(path="gate.depthwise", words="ContextGate's depthwise convolution", height=7, width=7),
    CamLayer(path="flow2", words="the second SpectralFlow", height=7, width=7),
]
IMAGES = [
    CamImage(index=4, label=0, prediction=0, probability=0.75),
    CamImage(index=1, label=0, prediction=1, probability=0.625),
    CamImage(index=0, label=1, prediction=1, probability=0.875),
]
CELLS = [
    CamCell(label=0, correct=True, num_test=1),
    CamCell(label=0, correct=False, num_test=1),
    CamCell(label=1, correct=True, num_test=9),
    CamCell(label=1, correct=False, num_test=0),
]


def make_maps(layers: Sequence[CamLayer] = tuple(LAYERS)) -> dict[tuple[int, str, str], np.ndarray]:
    """By formula: the trained map rises, random 0 falls, random 1 rises; the third image's map is negative."""
    rising = np.arange(49.0).reshape(7, 7)
    maps = {}
    for image in IMAGES:
        for layer in layers:
            shift = -100.0 if image.index == 0 else 0.0
            maps[image.index, layer.path, TRAINED] = rising + shift
            maps[image.index, layer.path, "random 0"] = -rising
            maps[image.index, layer.path, "random 1"] = rising**2
    return maps


def put(
    results: Path,
    run: Run = RUN,
    license_name: str = "CC BY 4.0",
    layers: Sequence[CamLayer] = tuple(LAYERS),
    **changes: Any,
) -> CamRecord:
    """Write made-up maps of a run."""
    maps = maps_bytes((*key, values) for key, values in make_maps(layers).items())
    pixels = {image.index: np.full((28, 28), 10 * image.index, np.uint8) for image in IMAGES}
    stored = images_bytes(pixels) if may_store_images(license_name) else None
    content: dict[str, Any] = {
        "suite_version": "0.1.0",
        "run_id": run.run_id,
        "model": run.model,
        "dataset": run.dataset,
        "protocol": run.protocol,
        "seed": run.seed,
        "synthetic": run.synthetic,
        "method": "made up",
        "layers": list(layers),
        "images": IMAGES,
        "cells": CELLS,
        "num_random": 2,
        "class_names": ["malignant", "normal, benign"],
        "license": license_name,
        "citation": "Yang et al.",
        "image_source": image_source(run.dataset, "Yang et al."),
        "protocol_digest": load_protocol(run.protocol).digest(),
        "model_fingerprint": fingerprint(get_spec(run.model)),
        "labels_digest": {"test": "0" * 64},
        "data_md5": "0" * 32,
        "weights_sha256": "ab" * 32,
        "predictions_sha256": "0" * 64,
        "run_record_digest": None,
        "agrees_with_record": None,
        "maps_sha256": hashlib.sha256(maps).hexdigest(),
        "images_sha256": hashlib.sha256(stored).hexdigest() if stored else None,
        "commit": None,
        "dirty": None,
        "packages": {},
        "device": "cpu: none",
    }
    record = CamRecord.model_validate({**content, **changes}).sealed()
    write_cam(results, record, maps, stored)
    return record


def plots_of(results: Path, *, synthetic: bool, models: Sequence[str] = MODELS) -> list[Plot]:
    return list(plots(gather(results), synthetic=synthetic, models=models))


def drawn(results: Path, *, synthetic: bool = False, **options: Any) -> dict[str, bytes]:
    return draw_all(plots_of(results, synthetic=synthetic, **options), synthetic=synthetic)


def captions(results: Path, *, synthetic: bool = False, **options: Any) -> dict[str, str]:
    """Captions by name: title and text together."""
    found = captions_of(plots_of(results, synthetic=synthetic, **options), synthetic=synthetic)
    return {name: f"{caption.title} {caption.text}" for name, caption in found.items()}


def table_of(content: bytes) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(content), comment="#")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder that holds nothing but maps."""
    folder = tmp_path / "results"
    folder.mkdir()
    return folder


def test_each_layer_has_its_figure_and_the_same_maps_give_the_same_bytes(results: Path) -> None:
    """Figs 12 and 13, three files each; nothing of when or where is in them."""
    put(results)
    first = drawn(results)
    subject = "medspectralnet__breastmnist__gradcam-224"
    names = [f"fig12_gradcam-gate-depthwise__{subject}", f"fig13_gradcam-flow2__{subject}"]
    expected = {f"figures/{name}.{suffix}" for name in names for suffix in ("svg", "pdf")}
    assert set(first) == expected | {f"figures/data/{name}.csv" for name in names}
    assert list(captions(results)) == names
    assert drawn(results) == first
    assert b"medbench report" in first[f"figures/{names[0]}.svg"][:400]


def test_the_numbers_are_the_stored_maps(results: Path) -> None:
    """A row an image, map and randomised map; correlations by hand: -1 to the falling map, 1 to the squares."""
    put(results)
    table = table_of(next(content for name, content in drawn(results).items() if "fig12" in name and "csv" in name))
    assert list(table["part"]) == ["image", "trained", "random 0", "random 1"] * 3
    assert list(table["index"].unique()) == [4, 1, 0]
    for row in table.to_dict("records"):
        found = _array(row)
        if row["part"] == "image":
            assert (found == 10 * row["index"]).all()
        else:
            np.testing.assert_allclose(found, make_maps()[row["index"], "gate.depthwise", row["part"]], rtol=1e-5)
    assert table.loc[table["part"] == "random 0", "rank_correlation"].tolist() == pytest.approx([-1] * 3)
    assert table.loc[table["part"] == "random 1", "rank_correlation"].tolist() == pytest.approx([1] * 3)


def test_a_map_is_drawn_in_its_own_places_after_the_relu() -> None:
    """Over a black image 2x2 values become 2x2 blocks, the highest in the last colour, negative ones in the first."""
    found = _overlay(np.array([[4.0, 2.0], [-3.0, 0.0]]), np.zeros((4, 4)))
    colours = gradcam.VEIL * np.asarray(gradcam.COLOURS([1.0, 0.5, 0.0]))[:, :3]
    np.testing.assert_allclose(found[:2, :2], np.broadcast_to(colours[0], (2, 2, 3)))
    np.testing.assert_allclose(found[:2, 2:], np.broadcast_to(colours[1], (2, 2, 3)))
    np.testing.assert_allclose(found[2:], np.broadcast_to(colours[2], (2, 4, 3)))
    alone = _overlay(np.array([[4.0, 2.0], [-3.0, 0.0]]), None)
    assert alone.shape == (2, 2, 3)
    bright = _overlay(np.zeros((2, 2)), np.ones((4, 4)))
    np.testing.assert_allclose(bright, np.broadcast_to(1 - gradcam.VEIL + colours[2], (4, 4, 3)))


def test_a_map_without_a_positive_place_says_so(results: Path) -> None:
    """It must not pass for one that is low everywhere: panel and caption tell it."""
    put(results)
    files = drawn(results)
    table = table_of(next(content for name, content in files.items() if "fig13" in name and "csv" in name))
    with style():
        figure = draw(table, "a title")
    words = [text.get_text() for axes in figure.axes for text in axes.texts]
    # the third image's trained map, and every falling map of random 0 but for its zero
    assert words.count(NOTHING) == 1 + 3
    assert " 1 of the trained maps has no place above 0." in next(iter(captions(results).values()))


def test_rows_are_labels_and_outcomes(results: Path) -> None:
    """Several images of a kind share a row with its name; one of each fills rows and carries its own label."""
    put(results)
    table = table_of(next(content for name, content in drawn(results).items() if "fig13" in name and "csv" in name))
    fourth = table[table["index"] == 0].assign(index=9)
    with style():
        filled, rows = draw(table, "a title"), draw(pd.concat([table, fourth]), "a title")
    assert [axes.get_xlabel() for axes in filled.axes[:3]] == [
        "test 4: malignant\npredicted malignant, 0.75",
        "test 1: malignant\npredicted normal, benign, 0.62",
        "test 0: normal, benign\npredicted normal, benign, 0.88",
    ]
    named = [axes.get_ylabel() for axes in rows.axes if axes.get_ylabel()]
    assert named == ["malignant\nright", "malignant\nwrong", "normal,\nbenign\nright"]
    assert [axes.get_xlabel().split(":")[0] for axes in rows.axes[4:6]] == ["test 0", "test 9"]


def test_the_caption_states_check_labels_source_and_licence(results: Path) -> None:
    """The median over images and fresh models, medmnist's labels, the paper's inverted ones, who made the images."""
    put(results)
    for text in captions(results).values():
        assert "2 models with fresh weights: 0.00, without its sign" in text  # three of -1 and three of 1
        assert "at random, 1.00 (6 pairs" in text
        assert "two images predicted alike: 1.00 (1 pairs" in text
        assert "0 = malignant, 1 = normal, benign" in text
        assert "the paper's section 4.4 calls class 0 normal" in text
        assert "Al-Dhabyani et al. 2020" in text
        assert "licence CC BY 4.0" in text
        assert "None is normal, benign predicted wrong." in text
        assert "malignant right: 1; malignant wrong: 1; normal, benign right: 9" in text


def test_images_that_may_not_be_shown_are_not(results: Path) -> None:
    """A non-commercial set: maps alone, in file, figure and words; its labels are not called inverted."""
    put(results, Run("gradcam-224", "medspectralnet", "dermamnist", 0), "CC BY-NC 4.0")
    assert not list(results.rglob("*.images.parquet"))
    tables = [table_of(content) for name, content in drawn(results).items() if name.endswith(".csv")]
    assert all("image" not in set(table["part"]) for table in tables)
    for text in captions(results).values():
        assert "licence CC BY-NC 4.0; for that licence none is stored or shown" in text
        assert "section 4.4" not in text


def test_synthetic_maps_have_figures_of_their_own(results: Path) -> None:
    """Stamped in name and picture, and never beside real ones."""
    put(results)
    put(results, Run("gradcam-224", "medspectralnet", "synthetic-breastmnist", 0), "MIT")
    made, real = drawn(results, synthetic=True), drawn(results)
    assert made
    assert all(Path(name).name.startswith("SYNTHETIC_") for name in made)
    assert all(b"SYNTHETIC" in content for name, content in made.items() if name.endswith((".svg", ".csv")))
    assert not any(b"SYNTHETIC" in content or b"synthetic" in content for content in real.values())
    assert all(name.startswith("SYNTHETIC_") for name in captions(results, synthetic=True))


def test_whose_maps_are_drawn_is_chosen(results: Path) -> None:
    """The models named, the lowest seed of each."""
    put(results)
    put(results, Run("gradcam-224", "medspectralnet", "breastmnist", 1), weights_sha256="cd" * 32)
    put(results, Run("gradcam-224", "resnet18", "breastmnist", 0), layers=LAYERS[1:])
    assert all("abababababab" in text for text in captions(results).values())
    assert list(captions(results, models=("resnet18",))) == ["fig13_gradcam-flow2__resnet18__breastmnist__gradcam-224"]


def test_what_is_left_out_or_absent_is_said(results: Path) -> None:
    """No maps: which command makes them; damaged or stale ones: why they do not count."""
    assert notes(gather(results)) == [
        "Figs 12 and 13 of the paper (BreastMNIST) are absent: no maps of medspectralnet; "
        "medbench gradcam --model medspectralnet"
    ]
    put(results, model_fingerprint="0" * 64)
    stale, absent = notes(gather(results))
    assert "stale, the code of medspectralnet" in stale
    assert "absent" in absent
    assert drawn(results) == {}
    put(results, protocol_digest="0" * 64)
    assert "stale, the protocol changed" in notes(gather(results))[0]
    put(results)
    assert notes(gather(results)) == []


def test_the_committed_maps_count_and_come_from_a_clean_checkout() -> None:
    """None is stale or damaged, each agrees with its run's record, and no image is kept that may not be."""
    records, left_out = read_cams(ROOT / "results")
    assert left_out == []
    assert records
    for record in records:
        assert record.dirty is False
        assert record.agrees_with_record is True
        run = read_record(record.run.path(ROOT / "results"))
        assert record.run_record_digest == run.record_digest
        assert record.predictions_sha256 == run.predictions_sha256
        assert (record.images_sha256 is None) == (not may_store_images(record.license))
