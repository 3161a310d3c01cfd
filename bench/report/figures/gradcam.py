"""Grad-CAM figures, the paper's Figs 12 and 13: test images, the trained model's maps, a randomised model's maps.

Drawn from `results/cams/` alone. A map is drawn in its own places, not smoothed: 7x7 numbers are 49 squares.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bench.records.cam_record import (
    RANDOM,
    TRAINED,
    CamImage,
    CamLayer,
    CamRecord,
    Map,
    read_cams,
    read_images,
    read_maps,
)
from bench.records.cam_similarity import median, rank_correlation, similarity_across_images, similarity_to_random
from bench.records.names import model_slug
from bench.report.evidence import Evidence
from bench.report.figures.style import WIDE, Caption, Plot, beginnings, new_figure
from bench.report.published.names import dataset_name, model_name

MODELS = ("medspectralnet",)
FIGURES = {"gate.depthwise": 12}  # layer -> the paper's figure; every other layer is a last map, as in Fig 13
LAST = 13
IMAGE, SHOWN_RANDOM = "image", f"{RANDOM} 0"
HEADINGS = {IMAGE: "image", TRAINED: "trained", SHOWN_RANDOM: "randomised"}
COLOURS = colormaps["inferno"]
COLUMNS = 3  # images a filled row
GAP = 0.12  # between panels, in panels
NOTHING = "no place\nabove 0"
VEIL = 0.55  # how much of a place's colour covers the image below it
INVERTED = {
    "breastmnist": "the paper's section 4.4 calls class 0 normal and class 1 abnormal (benign or malignant): the other "
    "way round, and another grouping than the data set's"
}


def notes(evidence: Evidence, *, models: Sequence[str] = MODELS) -> list[str]:
    """What was left out and why, and which figures of the paper no maps give, one line each."""
    records, left_out = read_cams(evidence.results)
    have = {record.model for record in records if record.dataset == "breastmnist"}
    return left_out + [
        f"Figs 12 and 13 of the paper (BreastMNIST) are absent: no maps of {model}; medbench gradcam --model {model}"
        for model in models
        if model not in have
    ]


def plots(evidence: Evidence, *, synthetic: bool, models: Sequence[str]) -> Iterator[Plot]:
    """A figure for each layer, none drawn yet; of several seeds the lowest."""
    cells: dict[tuple[str, str, str], CamRecord] = {}
    for record in sorted(read_cams(evidence.results)[0], key=lambda r: (r.protocol, r.dataset, r.model, r.seed)):
        if record.synthetic == synthetic and record.model in models and record.images:
            cells.setdefault((record.protocol, record.dataset, record.model), record)
    for record in cells.values():
        for layer in record.layers:
            yield _plot(evidence, record, layer)


def _plot(evidence: Evidence, record: CamRecord, layer: CamLayer) -> Plot:
    number = FIGURES.get(layer.path, LAST)
    maps = read_maps(evidence.results, record)
    subject = f"{model_slug(record.model)}__{record.dataset}__{record.protocol}"
    shown = f"{model_name(record.model)} on {dataset_name(record.dataset)}, {record.protocol}"
    title = f"Grad-CAM of {layer.path} ({layer.words}), {shown}"
    return Plot(
        f"fig{number}_gradcam-{layer.path.replace('.', '-')}__{subject}",
        Caption(title, _text(record, layer, maps), record.dataset),
        [record],
        lambda: numbers(record, layer, maps, read_images(evidence.results, record)),
        lambda table: draw(table, title),
    )


def _text(record: CamRecord, layer: CamLayer, maps: dict[tuple[int, str, str], Map]) -> str:
    """What is shown, how, what it is worth, from where."""
    names = ", ".join(f"{label} = {name}" for label, name in enumerate(record.class_names))
    inverted = INVERTED.get(record.dataset)
    has_images = record.images_sha256 is not None
    shown = "image, map over it, map of a randomised model over it" if has_images else "map, map of a randomised model"
    empty = [
        f"{record.class_names[cell.label]} predicted {'right' if cell.correct else 'wrong'}"
        for cell in record.cells
        if cell.num_test == 0
    ]
    rows = "; ".join(
        f"{record.class_names[cell.label]} {'right' if cell.correct else 'wrong'}: {cell.num_test}"
        for cell in record.cells
    )
    source = f"Images: {record.image_source}; licence {record.license}"
    source += ", shown enlarged and under the maps." if has_images else "; for that licence none is stored or shown."
    return " ".join(
        [
            f"{layer.height}x{layer.width} maps of the predicted class, after the ReLU, each over its own maximum. By "
            f"label and outcome, the first test images in the split's order: {shown}.",
            f"Test images in all: {rows}." + (f" None is {', none '.join(empty)}." if empty else ""),
            _sanity(record, layer, maps),
            f"Labels are medmnist's: {names}{'; ' + inverted if inverted else ''}.",
            source,
            f"Protocol {record.protocol}, weights {record.weights_sha256[:12]}, run {record.run_id}.",
        ]
    )


def _sanity(record: CamRecord, layer: CamLayer, maps: dict[tuple[int, str, str], Map]) -> str:
    """How much of the maps is learned, by rank correlation."""
    random = similarity_to_random(maps, layer.path)
    across = similarity_across_images(maps, layer.path, record.predictions)
    zero = sum(not (maps[image.index, layer.path, TRAINED] > 0).any() for image in record.images)
    either = [None if value is None else abs(value) for value in random]
    text = (
        f"Median Spearman rank correlation of a trained map (before the ReLU) with the same image's maps of "
        f"{record.num_random} models with fresh weights: {_number(median(random))}, without its sign, which fresh "
        f"weights give at random, {_number(median(either))} ({len(random)} pairs; 1 = training changed nothing); of "
        f"the trained maps of two images predicted alike: {_number(median(across))} ({len(across)} pairs; 1 = one map "
        "for a class)."
    )
    return text + (f" {zero} of the trained maps {'has' if zero == 1 else 'have'} no place above 0." if zero else "")


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"


def numbers(
    record: CamRecord, layer: CamLayer, maps: dict[tuple[int, str, str], Map], pixels: dict[int, NDArray[np.uint8]]
) -> pd.DataFrame:
    """A row an image, map and randomised map; `values` row by row, of maps before the ReLU, of images 0 to 255."""
    rows = []
    for image in record.images:
        shared = _shared(record, image)
        if image.index in pixels:
            rows.append(shared | _content(IMAGE, pixels[image.index], None))
        trained = maps[image.index, layer.path, TRAINED]
        rows.append(shared | _content(TRAINED, trained, None))
        for number in range(record.num_random):
            other = maps[image.index, layer.path, f"{RANDOM} {number}"]
            rows.append(shared | _content(f"{RANDOM} {number}", other, rank_correlation(trained, other)))
    return pd.DataFrame(rows)


def _shared(record: CamRecord, image: CamImage) -> dict[str, Any]:
    return {
        "index": image.index,
        "label": image.label,
        "label_name": record.class_names[image.label],
        "prediction": image.prediction,
        "predicted_name": record.class_names[image.prediction],
        "probability": image.probability,
        "correct": image.correct,
    }


def _content(part: str, values: NDArray[Any], correlation: float | None) -> dict[str, Any]:
    height, width = values.shape[:2]
    text = " ".join(f"{value:.6g}" for value in values.ravel())
    return {"part": part, "height": height, "width": width, "values": text, "rank_correlation": correlation}


def _array(row: Mapping[Any, Any]) -> NDArray[np.float64]:
    """The values of a row of the table, (H, W) or (H, W, 3)."""
    flat = np.array(str(row["values"]).split(), dtype=np.float64)
    shape = (int(row["height"]), int(row["width"]))
    return flat.reshape(shape if flat.size == shape[0] * shape[1] else (*shape, 3))


def draw(table: pd.DataFrame, title: str) -> Figure:
    """Each image's panels side by side; a row a label and outcome, or filled rows where each has one image."""
    images = [part for _, part in table.groupby("index", sort=False)]
    filled = table.groupby(["label", "correct"])["index"].nunique().max() == 1
    lines: dict[str, list[pd.DataFrame]] = {}
    for index, part in enumerate(images):
        first = part.iloc[0]
        outcome = "right" if first["correct"] else "wrong"
        name = str(index // COLUMNS) if filled else "\n".join([*textwrap.wrap(first["label_name"], 11)[:2], outcome])
        lines.setdefault(name, []).append(part)
    panels = [part for part in HEADINGS if part in set(table["part"])]
    columns = max(len(line) for line in lines.values())
    side = (WIDE - 1.1) / max(columns * len(panels) * (1 + GAP), 6)
    figure = new_figure(title, 0.6 + len(lines) * (side + (0.29 if filled else 0.17)), WIDE)
    grid = figure.subplots(len(lines), columns, squeeze=False)
    for axes in grid.flat:
        _bare(axes)
    for index, (name, line) in enumerate(lines.items()):
        for axes, part in zip(grid[index], line, strict=False):
            _draw_image(axes, part, panels, heads=index == 0, named=filled)
        if not filled:
            grid[index, 0].set_ylabel(name, fontsize=7)
    scale = figure.colorbar(ScalarMappable(cmap=COLOURS), ax=grid, fraction=0.012, pad=0.005, ticks=[0, 1])
    scale.ax.set_yticklabels(["0", "max"], fontsize=6.5)
    return figure


def _draw_image(axes: Axes, part: pd.DataFrame, panels: Sequence[str], *, heads: bool, named: bool) -> None:
    """The panels of one test image side by side, and below them what the model predicted."""
    contents = {str(line["part"]): line for line in part.to_dict("records")}
    image = _array(contents[IMAGE]) / 255 if IMAGE in contents else None
    for place, kind in enumerate(panels):
        left = place * (1 + GAP)
        picture = _grey(image) if kind == IMAGE else _overlay(_array(contents[kind]), image)
        axes.imshow(picture, interpolation="none", extent=(left, left + 1, 0, 1))
        if heads:
            axes.text(left + 0.5, 1.04, HEADINGS[kind], ha="center", va="bottom", fontsize=7)
        if kind != IMAGE and not (_array(contents[kind]) > 0).any():
            axes.text(left + 0.5, 0.5, NOTHING, ha="center", va="center", color="white", fontsize=6)
    shown = contents[TRAINED]
    label, name = beginnings([str(shown["label_name"]), str(shown["predicted_name"])], 16)
    words = f"test {shown['index']}: {label + chr(10) if named else ''}predicted {name}, {shown['probability']:.2f}"
    axes.set_xlabel(words, fontsize=6.5, labelpad=2)
    axes.set(xlim=(0, len(panels) * (1 + GAP) - GAP), ylim=(0, 1))


def _bare(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _grey(image: NDArray[np.float64] | None) -> NDArray[np.float64]:
    assert image is not None
    return image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)


def _overlay(values: Map, image: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """The map after its ReLU over its own maximum, in colours, over the image where there is one; (H, W, 3)."""
    positive = np.clip(values, 0, None)
    highest = positive.max()
    shares = positive / highest if highest > 0 else positive
    if image is None:
        return np.asarray(COLOURS(shares))[:, :, :3]
    below = _grey(image)
    rows = np.arange(below.shape[0]) * values.shape[0] // below.shape[0]
    columns = np.arange(below.shape[1]) * values.shape[1] // below.shape[1]
    above = np.asarray(COLOURS(shares[np.ix_(rows, columns)]))[:, :, :3]
    return (1 - VEIL) * below + VEIL * above
