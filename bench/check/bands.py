"""Is our training that of the official MedMNIST script? Bands around its published scores, and where records stand.

`results/bands.toml` holds them. They come from published numbers alone: the scores, and how much another seed moves
them by somebody else's runs of the same script. All were scored on the same test images, so only seeds can part them.
"""

from __future__ import annotations

import math
import statistics
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from bench.errors import RecordError
from bench.protocols.planned import is_planned
from bench.records.run_record import Record
from bench.records.sealed import Strict, explain_validation, read_file
from bench.stats.comparisons import EQUIVALENCE_MARGIN, is_inside
from bench.stats.intervals import CONFIDENCE, LEVEL, critical

BANDS_FILE = "bands.toml"
Metric = Literal["auc", "acc"]
METRICS: tuple[Metric, ...] = ("auc", "acc")
HALF_DIGIT = 5.01e-4  # the ends are rounded to three digits


class Band(Strict):
    """Where the mean over seeds of a model would lie if it were trained as a published result was, fractions.

    Attributes:
        published: AUC and ACC as printed.
        source: Where they stand.
        seed_scores: What single seeds of the same training gave others.
        seed_source: Where these stand.
        auc: Lowest and highest mean AUC on the official test split.
        acc: The same for accuracy.
    """

    model: str
    protocol: str
    dataset: str
    published: dict[Metric, float]
    source: str
    seed_scores: dict[Metric, list[float]]
    seed_source: str
    auc: tuple[float, float]
    acc: tuple[float, float]

    @model_validator(mode="after")
    def _holds_the_published(self) -> Band:
        for metric in METRICS:
            low, high = self.ends(metric)
            if metric not in self.published or not 0 <= low < self.published[metric] < high <= 1:
                raise ValueError(f"{metric}: the band must be two fractions around the published value")
            if len(self.seed_scores.get(metric, [])) < 2:
                raise ValueError(f"{metric}: the spread over seeds needs the scores of two seeds or more")
        return self

    def ends(self, metric: Metric) -> tuple[float, float]:
        """The band of one measure."""
        return self.auc if metric == "auc" else self.acc

    def contains(self, metric: Metric, mean: float) -> bool:
        """Whether nothing contradicts the published value."""
        low, high = self.ends(metric)
        return low <= mean <= high


class Bands(Strict):
    """The file's content: its rule in words, how many runs either mean is of, and the bands."""

    rule: str
    published_runs: int = Field(gt=0)
    our_runs: int = Field(gt=0)
    band: list[Band]

    def half_width(self, band: Band, metric: Metric, confidence: float = CONFIDENCE) -> float:
        """How far two means of runs may be apart by their seeds alone, with a confidence."""
        scores = band.seed_scores[metric]
        error = statistics.stdev(scores) * math.sqrt(1 / self.published_runs + 1 / self.our_runs)
        return critical(len(scores) - 1, confidence) * error

    def is_equivalent(self, band: Band, metric: Metric, mean: float) -> bool:
        """Two one-sided tests at 5 %: the 90 % interval of our mean less the published one is inside the margin."""
        difference, half = mean - band.published[metric], self.half_width(band, metric, 1 - 2 * LEVEL)
        return is_inside(difference - half, difference + half, EQUIVALENCE_MARGIN)


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
    """Ends that the file's own rule does not give of the published value and the scores of single seeds."""
    for band in bands.band:
        for metric in METRICS:
            middle, half = band.published[metric], bands.half_width(band, metric)
            ends = (max(middle - half, 0.0), min(middle + half, 1.0))
            if any(abs(a - b) > HALF_DIGIT for a, b in zip(band.ends(metric), ends, strict=True)):
                low, high = band.ends(metric)
                yield (
                    f"{results / BANDS_FILE}: {metric} of {band.model} on {band.dataset} is {low} to {high}, "
                    f"its rule gives {ends[0]:.3f} to {ends[1]:.3f}"
                )


def standings(results: Path, records: Iterable[Record]) -> list[str]:
    """One line a band: the mean over the planned seeds, and whether it contradicts the published result.

    Args:
        results: The folder with the bands.
        records: Finished records that count.
    """
    bands = read_bands(results)
    if bands is None:
        return []
    finished = list(records)
    return [
        f"band: {band.model} under {band.protocol} on {band.dataset}: {_standing(bands, band, finished)}"
        for band in bands.band
    ]


def _standing(bands: Bands, band: Band, records: list[Record]) -> str:
    cell = (band.protocol, band.model, band.dataset)
    runs = [r for r in records if (r.protocol, r.model, r.dataset) == cell and is_planned(*cell, r.seed)]
    if not runs:
        return "no record yet"
    values = {metric: [(run.test or {}).get(metric) for run in runs] for metric in METRICS}
    known = {metric: [value for value in scores if value is not None] for metric, scores in values.items()}
    if any(len(scores) < len(runs) for scores in known.values()):
        return "a run has no AUC or no accuracy: no verdict"
    if len(runs) < bands.our_runs:
        return f"{len(runs)} of {bands.our_runs} seeds: no verdict before all are there"
    means = {metric: statistics.fmean(scores) for metric, scores in known.items()}
    parts = [f"{m.upper()} {means[m]:.3f} ({band.ends(m)[0]:.3f} to {band.ends(m)[1]:.3f})" for m in METRICS]
    return f"{', '.join(parts)}, mean of {len(runs)} seeds: {_verdict(bands, band, means)}"


def _verdict(bands: Bands, band: Band, means: Mapping[Metric, float]) -> str:
    outside = [metric.upper() for metric in METRICS if not band.contains(metric, means[metric])]
    if outside:
        return f"contradicts the published result in {' and '.join(outside)}"
    if all(bands.is_equivalent(band, metric, means[metric]) for metric in METRICS):
        return f"equivalent to the published result within {EQUIVALENCE_MARGIN}"
    return f"no contradiction with the published result; equivalence within {EQUIVALENCE_MARGIN} is not shown"
