"""Reliability diagrams with bin counts: a model, its trunk and the best baseline side by side. Not in the paper."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import binom

from bench.records.run_record import Record
from bench.report.analysis.calibration import Calibration
from bench.report.figures.style import WIDE, WIDTH, Caption, Plot, colour, listed, new_figure
from bench.report.published.names import dataset_name, model_name
from bench.stats.intervals import LEVEL
from bench.stats.metrics import NUM_ECE_BINS

COLUMNS = [
    *("model", "n_seeds", "ece", "ece_floor_95", "bin_low", "bin_high", "mean_count", "confidence", "frequency"),
    *("calibrated_low", "calibrated_high"),
]
HEIGHT = 2.7  # inches


def reliability_plot(name: str, errors: Sequence[Calibration], records: Sequence[Record], data: str) -> Plot:
    """Reliability diagrams of models on one data set under one protocol.

    Args:
        name: The figure's name.
        errors: The calibration of each on the official test; the one that the figure is about first.
        records: Their runs.
        data: What the caption says of the data.
    """
    first = errors[0]
    text = (
        "Dots: of the test images whose predicted label has a probability within a bin, the mean probability and the "
        "share that is right, all seeds together; on the diagonal probabilities mean what they say. A grey line is "
        f"where {100 * (1 - LEVEL):.0f} % of the dots of a calibrated model lie, by the images that a seed has in the "
        f"bin. Bars: the images in each of {NUM_ECE_BINS} bins, mean over seeds, with their number. ECE: the expected "
        "calibration error, mean over seeds, and up to where chance alone brings it (95 % point of its floor). Beside "
        "the model stand its trunk and the baseline with the highest AUC. Not in the paper. "
        f"{data} Protocol {first.protocol}. Records: {listed(records)}."
    )
    return Plot(
        name,
        Caption(f"Reliability of {model_name(first.model)} on {dataset_name(first.dataset)}", text, first.dataset),
        records,
        lambda: reliability_numbers(errors),
        lambda numbers: draw_reliability(numbers, f"Reliability on {dataset_name(first.dataset)}, {first.protocol}"),
    )


def reliability_numbers(errors: Sequence[Calibration]) -> pd.DataFrame:
    """`COLUMNS`; one row a bin that holds an image of any seed."""
    rows = []
    for error in errors:
        counts, confidence, frequency = error.bins.counts[0], error.bins.confidence[0], error.bins.frequency[0]
        for index in np.flatnonzero(counts):
            count = counts[index] / error.n_seeds
            ends = _calibrated(count, float(confidence[index]))
            edges = (index / NUM_ECE_BINS, (index + 1) / NUM_ECE_BINS)
            values = (round(float(v), 6) for v in (*edges, count, confidence[index], frequency[index], *ends))
            rows.append((error.model, error.n_seeds, error.ece, error.ece_floor_95, *values))
    return pd.DataFrame(rows, columns=COLUMNS)


def _calibrated(count: float, probability: float) -> tuple[float, float]:
    """Where 95 % of the shares of so many images lie that come true with a probability."""
    images = max(1, round(count))
    low, high = binom.ppf([LEVEL / 2, 1 - LEVEL / 2], images, min(1.0, probability))
    return float(low) / images, float(high) / images


def draw_reliability(numbers: pd.DataFrame, title: str) -> Figure:
    """A panel a model: the diagram over bars that show how many images each bin has."""
    groups = list(numbers.groupby("model", sort=False))
    figure = new_figure(title, HEIGHT, WIDE if len(groups) > 1 else WIDTH)
    panels = figure.subplots(1, len(groups), sharex=True, sharey=True, squeeze=False)[0]
    left = max(0.0, float(numbers["bin_low"].min()) - 0.02)
    for axes, (model, bins) in zip(panels, groups, strict=True):
        first, counts = bins.iloc[0], bins["mean_count"]
        middles, shares = (bins["bin_low"] + bins["bin_high"]) / 2, counts / counts.sum()
        axes.set_title(f"{model_name(str(model))}\nECE {first['ece']:.3f}, by chance to {first['ece_floor_95']:.3f}")
        axes.bar(middles, shares, width=0.85 / NUM_ECE_BINS, color=colour(9))
        for middle, share, count in zip(middles, shares, counts, strict=True):
            axes.text(middle, share + 0.01, f"{count:.0f}", fontsize=6, ha="center")
        axes.plot([0, 1], [0, 1], color="0.5", linestyle=":", linewidth=0.8)
        axes.vlines(bins["confidence"], bins["calibrated_low"], bins["calibrated_high"], color="0.75", linewidth=2.5)
        axes.plot(bins["confidence"], bins["frequency"], "o", color=colour(0), markersize=4, clip_on=False, zorder=3)
        axes.set(xlim=(left, 1.02), ylim=(0, 1.03), xlabel="probability of the predicted label")
    panels[0].xaxis.set_major_locator(MaxNLocator(3))  # ticks are most of what drawing costs
    panels[0].set_yticks([0, 0.25, 0.5, 0.75, 1])
    panels[0].set_ylabel("share right; bars: share of images")
    return figure
