"""Is our training that of the official MedMNIST script? Bands that its published scores set, and where records stand.

`results/bands.toml` holds them. They were fixed from published numbers and the size of the test sets alone.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from bench.errors import RecordError
from bench.protocols.planned import is_planned
from bench.records.card import read_card
from bench.records.run_record import Record
from bench.records.sealed import Strict, explain_validation, read_file
from bench.stats.power import accuracy_error, auc_error

BANDS_FILE = "bands.toml"
METRICS: tuple[Literal["auc", "acc"], ...] = ("auc", "acc")
QUANTILE = 1.96  # of the rule
HALF_DIGIT = 5.01e-4  # the ends are rounded to three digits


class Band(Strict):
    """What the mean over seeds of a model must lie in, fractions, to be equivalent to a published result.

    Attributes:
        published: AUC and ACC as printed.
        auc: Lowest and highest mean AUC on the official test split.
        acc: The same for accuracy.
        source: Where the published values stand.
    """

    model: str
    protocol: str
    dataset: str
    published: dict[Literal["auc", "acc"], float]
    auc: tuple[float, float]
    acc: tuple[float, float]
    source: str

    @model_validator(mode="after")
    def _holds_the_published(self) -> Band:
        for metric in METRICS:
            low, high = getattr(self, metric)
            if metric not in self.published or not 0 <= low < self.published[metric] < high <= 1:
                raise ValueError(f"{metric}: the band must be two fractions around the published value")
        return self

    def contains(self, scores: Mapping[Literal["auc", "acc"], float]) -> bool:
        """Whether AUC and ACC both lie in the band."""
        return all(getattr(self, metric)[0] <= scores[metric] <= getattr(self, metric)[1] for metric in METRICS)


class Bands(Strict):
    """The file's content: its rule in words, the spread over seeds that it assumes, and the bands."""

    rule: str
    seed_sd: float = Field(gt=0)
    band: list[Band]


def read_bands(results: Path) -> Bands | None:
    """The bands of a results folder, None where it has none.

    Raises:
        RecordError: If the file is no such list.
    """
    path = results / BANDS_FILE
    if not path.exists():
        return None
    try:
        return Bands.model_validate(tomllib.loads(read_file(path).decode("utf-8")))
    except (ValueError, RecursionError) as error:
        if isinstance(error, ValidationError):
            raise RecordError(f"{path}: {explain_validation(error)}") from None
        raise RecordError(f"{path}: no TOML ({error})") from None


def band_problems(results: Path, bands: Bands) -> Iterator[str]:
    """Ends that the file's own rule does not give of the published value and the test split's images."""
    for band in bands.band:
        card = read_card(results, band.dataset)
        if card is None:
            continue
        errors: dict[Literal["auc", "acc"], float] = {
            "auc": auc_error(band.published["auc"], card.class_counts["test"], card.task),
            "acc": accuracy_error(band.published["acc"], card.num_images["test"]),
        }
        for metric in METRICS:
            middle, half = band.published[metric], QUANTILE * math.hypot(errors[metric], bands.seed_sd)
            ends = (middle - half, min(middle + half, 1.0))
            if any(abs(a - b) > HALF_DIGIT for a, b in zip(getattr(band, metric), ends, strict=True)):
                low, high = getattr(band, metric)
                yield (
                    f"{results / BANDS_FILE}: {metric} of {band.model} on {band.dataset} is {low} to {high}, "
                    f"its rule gives {ends[0]:.3f} to {ends[1]:.3f}"
                )


def standings(results: Path, records: Iterable[Record]) -> list[str]:
    """One line a band: the mean over the recorded seeds, and whether it is inside.

    Args:
        results: The folder with the bands.
        records: Finished records that count.
    """
    bands = read_bands(results)
    if bands is None:
        return []
    finished = list(records)
    return [_standing(band, finished) for band in bands.band]


def _standing(band: Band, records: list[Record]) -> str:
    which = f"{band.model} under {band.protocol} on {band.dataset}"
    cell = (band.protocol, band.model, band.dataset)
    runs = [r for r in records if (r.protocol, r.model, r.dataset) == cell and is_planned(*cell, r.seed)]
    if not runs:
        return f"band: {which}: no record yet"
    values = {metric: [(run.test or {}).get(metric) for run in runs] for metric in METRICS}
    known = {metric: [value for value in scores if value is not None] for metric, scores in values.items()}
    if any(len(scores) < len(runs) for scores in known.values()):
        return f"band: {which}: a run has no AUC or no accuracy: no verdict"
    means = {metric: sum(scores) / len(scores) for metric, scores in known.items()}
    parts = [
        f"{metric.upper()} {means[metric]:.3f} ({getattr(band, metric)[0]:.3f} to {getattr(band, metric)[1]:.3f})"
        for metric in METRICS
    ]
    verdict = "equivalent to the published result" if band.contains(means) else "NOT equivalent to the published result"
    seeds = f"{len(runs)} seed{'s' if len(runs) > 1 else ''}"
    return f"band: {which}: {', '.join(parts)}, mean of {seeds}: {verdict}"
