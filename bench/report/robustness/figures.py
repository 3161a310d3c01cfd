"""Corrupted test images in pictures: what each corruption costs each model, and the corruptions themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bench.records.tracks.card import CLEAN, TrackCard, read_card_images
from bench.records.tracks.record import TrackRecord
from bench.report.evidence import Evidence
from bench.report.figures.style import WIDE, Caption, Plot, data_words, new_figure
from bench.report.formats import signed
from bench.report.published.names import dataset_name, model_name
from bench.report.robustness.compare import Drop
from bench.report.robustness.drops import ALL
from bench.report.robustness.table import used
from bench.report.tidy import grouped, table
from bench.tracks.schema import CORRUPTIONS, SEVERITIES

COLUMNS = ["model", "corruption", "n_seeds", "clean", "corrupted", "drop", "ci_low", "ci_high"]
CELL = 0.2  # inches of a row of the map
COLOURS = colormaps["RdBu_r"]
SMALLEST_RANGE = 0.05  # of the colours, so that noise around 0 stays pale


def plots(evidence: Evidence, drops: Sequence[Drop], *, synthetic: bool) -> Iterator[Plot]:
    """A map of drops for each protocol and data set, and a contact sheet for each data set, none drawn yet."""
    areas = [drop for drop in drops if drop.metric == "auc"]
    for (track, protocol, dataset), own in grouped(areas, lambda d: (d.track, d.protocol, d.dataset)).items():
        records = used(evidence, own)
        whole = evidence.cards.get(dataset)
        data = data_words(whole, dataset, "test")
        if whole is not None and own[0].num_images < whole.num_images["test"]:
            data += f" Scored: {own[0].num_images} of them, the same for all."
        yield drops_plot(f"robustness__{dataset}__{protocol}__{track}", own, records, data)
    for card in evidence.track_cards:
        if card.synthetic == synthetic and card.images_sha256 is not None:
            yield sheet_plot(evidence, card)


def drops_plot(name: str, drops: Sequence[Drop], records: Sequence[TrackRecord], data: str) -> Plot:
    """AUC drops, a row a model and a column a corruption.

    Args:
        name: The figure's name.
        drops: Of one track, protocol and data set.
        records: That they come from.
        data: What the caption says of the data.
    """
    first = drops[0]
    title = f"AUC lost by corruption on {dataset_name(first.dataset)}, {first.protocol}, {first.track}"
    text = (
        "AUC on the clean test images minus the mean over five severities of each corruption, mean over seeds; red: "
        "lost, blue: gained. Last column: over all corruptions. Bold: the 95 % interval (over images and seeds; of "
        "what is fitted, or where no network has two seeds, over images) excludes 0, not corrected for how many are "
        f"looked at. Not in the paper. {data} {len(records)} track records."
    )
    return Plot(
        name,
        Caption(title, text, first.dataset),
        records,
        lambda: table(drops, COLUMNS),
        lambda numbers: draw_drops(numbers, title),
    )


def draw_drops(numbers: pd.DataFrame, title: str) -> Figure:
    """A coloured table, models in the order of the tables."""
    names = [*CORRUPTIONS, ALL]
    models = list(dict.fromkeys(map(str, numbers["model"])))
    values = np.full((len(models), len(names)), np.nan)
    figure = new_figure(title, 1.2 + CELL * len(models), WIDE)
    axes = figure.subplots()
    for row in numbers.to_dict("records"):
        place = models.index(str(row["model"])), names.index(str(row["corruption"]))
        values[place] = row["drop"]
        clear = row["ci_low"] > 0 or row["ci_high"] < 0
        text = signed(float(row["drop"]), 2).replace("0.", ".")
        axes.text(place[1], place[0], text, ha="center", va="center", fontsize=6, weight="bold" if clear else "normal")
    reach = max(SMALLEST_RANGE, float(np.nanmax(np.abs(values))))
    axes.imshow(values, cmap=COLOURS, norm=TwoSlopeNorm(0.0, -2 * reach, 2 * reach), aspect="auto")
    counts = numbers.drop_duplicates("model").set_index("model")["n_seeds"]
    axes.set_yticks(range(len(models)), [f"{model_name(model)}, n = {counts[model]}" for model in models], fontsize=6.5)
    axes.set_xticks(
        range(len(names)), [name.replace("_", " ") for name in names], fontsize=6.5, rotation=35, ha="right"
    )
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.axvline(len(CORRUPTIONS) - 0.5, color="0.3", linewidth=0.8)
    return figure


def sheet_plot(evidence: Evidence, card: TrackCard) -> Plot:
    """One test image with all its corruptions, at the source size."""
    title = f"The corruptions of {card.track} on {dataset_name(card.dataset)}, test image {card.shown_index}"
    lowest = min(CORRUPTIONS, key=lambda name: card.similarity[name][-1])
    text = (
        "At the left the image, then severities 1 to 5, each pixel as it is before the images are enlarged for a "
        f"model. Over the {card.num_images:,} test images: SSIM with the source falls with every severity, to "
        f"{card.similarity[lowest][-1]:.2f} ({lowest.replace('_', ' ')}); at most "
        f"{100 * max(max(values) for values in card.cut.values()):.0f} % of a cell's values are black or white; "
        f"{card.num_constant} images have one value alone. Image: {card.image_source}; licence {card.license}, changed "
        "as shown and enlarged. Not in the paper."
    )
    return Plot(
        f"robustness-images__{card.dataset}__{card.track}",
        Caption(title, text, card.dataset),
        [card],
        lambda: sheet_numbers(read_card_images(evidence.results, card)),
        lambda numbers: draw_sheet(numbers, title),
    )


def sheet_numbers(images: dict[tuple[str, int], NDArray[np.uint8]]) -> pd.DataFrame:
    """A row an image: `values` row by row, 0 to 255."""
    rows = [
        {"corruption": name, "severity": severity, "height": p.shape[0], "width": p.shape[1], "values": _text(p)}
        for (name, severity), p in images.items()
    ]
    return pd.DataFrame(rows)


def _text(pixels: NDArray[np.uint8]) -> str:
    return " ".join(map(str, pixels.ravel().tolist()))


def draw_sheet(numbers: pd.DataFrame, title: str) -> Figure:
    """Two columns of corruptions, each a row of six images."""
    images: dict[tuple[str, int], NDArray[np.float64]] = {}
    for row in numbers.to_dict("records"):
        flat = np.array(str(row["values"]).split(), dtype=np.float64) / 255
        shape = (int(row["height"]), int(row["width"]), flat.size // (int(row["height"]) * int(row["width"])))
        images[str(row["corruption"]), int(row["severity"])] = np.repeat(flat.reshape(shape), 4 - shape[2], axis=2)[
            :, :, :3
        ]
    down = -(-len(CORRUPTIONS) // 2)
    figure = new_figure(title, 0.35 + down * 0.53, WIDE)
    grid = figure.subplots(down, 2, squeeze=False)
    gap = np.ones((images[CLEAN, 0].shape[0], 1, 3))
    for place, name in enumerate(CORRUPTIONS):
        axes = grid[place % down, place // down]
        parts = [images[CLEAN, 0], *(images[name, severity] for severity in SEVERITIES)]
        strip = np.hstack([part for image in parts for part in (image, gap)][:-1])
        axes.imshow(strip, interpolation="none")
        axes.set_ylabel(name.replace("_", "\n"), fontsize=6.5, rotation=0, ha="right", va="center")
        axes.set(xticks=[], yticks=[])
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(False)
    return figure
