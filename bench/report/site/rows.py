"""What pages show of each cell: texts, sort keys, marks, trust; from records and statistics alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bench.check.trust import MEASURED, CellTrust, Rerun, trust_of_cell
from bench.records.card import DataCard
from bench.report.analysis.analyse import Analysis
from bench.report.analysis.calibration import Calibration
from bench.report.analysis.pairs import Pair
from bench.report.analysis.resolution import Resolution
from bench.report.analysis.scores import ClassScore, Score
from bench.report.evidence import Evidence
from bench.report.formats import signed
from bench.report.links import Links
from bench.report.published.numbers import PublishedScore
from bench.report.tables.calibration import number
from bench.report.tables.score_cells import (
    METRICS,
    TEST_PARTS,
    interval_text,
    p_text,
    signed_interval,
    smallest_text,
    value_text,
)
from bench.report.tidy import grouped, seeds_text
from bench.stats.power import POWER

ROUNDING = 1e-9  # statistics are rounded to ten digits
OVER = {"images": "over test images", "images and seeds": "over test images and seeds"}
Cell = tuple[str, str, str]  # protocol, data set, model


@dataclass(frozen=True)
class Value:
    """A number in a cell.

    Attributes:
        text: What is shown.
        order: What it is sorted by; lower than any score where there is none.
        tip: What a reader gets by pointing at it or reaching it by keyboard.
        mark: `best`, `tie`, `miscalibrated` or "".
        interval: `0.790–0.914`.
    """

    text: str
    order: float
    tip: str = ""
    mark: str = ""
    interval: str = ""


NO_VALUE = Value("–", -1.0)


@dataclass(frozen=True)
class Entry:
    """One cell: a model on a data set under a protocol, measured, beside what was published."""

    protocol: str
    dataset: str
    model: str
    recorded: tuple[int, ...]  # its seeds
    measured: Mapping[tuple[str, str], Value]
    published: Mapping[str, Value]
    trust: CellTrust
    run_ids: list[str] = field(repr=False)
    errors: Mapping[str, Value] = field(default_factory=dict)

    def error(self, part: str) -> Value:
        """The calibration error on a part, marked only where chance alone does not bring it."""
        return self.errors.get(part, NO_VALUE)

    def value(self, part: str, metric: str) -> Value:
        """The measured number of a part and metric."""
        return self.measured.get((part, metric), NO_VALUE)

    @property
    def seeds(self) -> str:
        """`3`, or `1 of 3` where planned seeds are missing."""
        return seeds_text(self.protocol, self.model, self.dataset, len(self.recorded))

    def records(self, links: Links) -> str:
        """Where its records stand, from a page with these links."""
        return links.to_records(self.protocol, self.model, self.dataset, self.recorded)

    @property
    def runs(self) -> str:
        """The ids of its runs, shortened in the middle."""
        ids = self.run_ids
        return ", ".join(ids if len(ids) <= 4 else [*ids[:2], f"... ({len(ids)} runs) ...", ids[-1]])


def entries(evidence: Evidence, analysis: Analysis, reruns: Mapping[str, Rerun], *, synthetic: bool) -> list[Entry]:
    """Every cell with a finished run, highest AUC first within a protocol and data set.

    Args:
        evidence: The records.
        analysis: Their statistics.
        reruns: From `bench.check.trust.read_reruns`.
        synthetic: Which of the records.
    """
    groups = grouped(analysis.table_scores, lambda s: (s.protocol, s.dataset, s.model))
    records = grouped(evidence.finished(synthetic=synthetic), lambda r: (r.protocol, r.dataset, r.model))
    sound = _sound(groups, analysis.classes, evidence.cards)
    errors = grouped(analysis.calibration, lambda c: (c.protocol, c.dataset, c.model))
    cells = []
    for key, scores in groups.items():
        trust = trust_of_cell(records.get(key, []), reruns, rescored=sound.get(key, False))
        cells.append(_entry(key, scores, errors.get(key, []), trust))
    return sorted(cells, key=lambda e: (e.dataset, e.protocol, -e.value("test", "auc").order, e.model))


def _entry(key: Cell, scores: Sequence[Score], errors: Sequence[Calibration], trust: CellTrust) -> Entry:
    protocol, dataset, model = key
    return Entry(
        protocol=protocol,
        dataset=dataset,
        model=model,
        recorded=scores[0].seeds,
        measured={(score.part, score.metric): _measured(score, trust) for score in scores},
        published={score.metric: _published(score) for score in scores if score.part == "test"},
        trust=trust,
        run_ids=list(scores[0].run_ids),
        errors={row.part: _error(row) for row in errors},
    )


def _error(row: Calibration) -> Value:
    if math.isnan(row.ece):
        return Value("n/a", -1.0, "calibration error: undefined")
    tip = (
        f"expected calibration error {row.ece:.4f}, 95 % interval {row.ece_low:.4f} to {row.ece_high:.4f}; chance "
        f"alone brings {row.ece_floor:.4f}, at most {row.ece_floor_95:.4f} in 95 % of draws; {row.seeds_above} of "
        f"{row.n_seeds} seeds lie above; {row.num_images:,} test images"
    )
    return Value(number(row.ece), row.ece, tip, row.verdict)


def _measured(score: Score, trust: CellTrust) -> Value:
    name = f"{METRICS[score.metric]}, {TEST_PARTS[score.part]}"
    if math.isnan(score.mean):
        return Value("n/a", -1.0, f"{name}: undefined, a class has no image or a run has no value")
    interval = "" if math.isnan(score.low) else interval_text(score.ci_low, score.ci_high)
    over = OVER.get(score.interval, "")
    parts = [f"{name} {score.mean:.4f}"]
    parts += [f"95 % interval {score.ci_low:.4f} to {score.ci_high:.4f} {over}".strip()] if interval else []
    parts += [f"{score.n_seeds} seed{'s' if score.n_seeds > 1 else ''}"]
    parts += [] if math.isnan(score.sd) else [f"standard deviation {score.sd:.4f}"]
    parts += [f"{score.num_images:,} test images"]
    mark = score.drawn if trust.level in MEASURED else ""
    return Value(value_text(score.mean, score.sd), score.mean, ", ".join(parts), mark, interval)


def _published(score: Score) -> Value:
    difference = f"measured minus published {signed(score.difference, 4)}, between two protocols; "
    return printed_value(score.reference, difference)


def printed_value(reference: PublishedScore | None, beside: str = "") -> Value:
    """A number that others printed, with its source.

    Args:
        reference: The number, None where there is none.
        beside: What its tip says of a measured one, before the source.
    """
    if reference is None:
        return NO_VALUE
    tip = f"{reference.name}: {reference.value:g}; {beside}{reference.cited}"
    return Value(f"{reference.value:.3f}", reference.value, tip)


def _sound(
    groups: Mapping[Cell, Sequence[Score]], classes: Iterable[ClassScore], cards: Mapping[str, DataCard]
) -> dict[Cell, bool]:
    """Whether a cell's AUC and accuracy on the official test are what its predictions give.

    The means in the scores are of the numbers that the records hold; the classes' were computed from the predictions,
    and both scores follow from them: the AUC is that of label 1 or the mean over classes, the accuracy the recalls
    weighted by the classes' images. `medbench verify --scores` does the same run by run and for every measure.
    """
    official = [row for row in classes if row.part == "test" and row.dataset in cards]
    sound = {}
    for key, rows in grouped(official, lambda row: (row.protocol, row.dataset, row.model)).items():
        card = cards[key[1]]
        counts = card.class_counts["test"]
        area = rows[1].auc if card.task == "binary-class" else math.fsum(row.auc for row in rows) / len(rows)
        right = math.fsum(row.recall * count for row, count in zip(rows, counts, strict=True) if count)
        again = {"auc": area, "acc": right / sum(counts)}
        stored = {score.metric: score.mean for score in groups.get(key, ()) if score.part == "test"}
        sound[key] = all(_agree(stored.get(metric, math.nan), again[metric]) for metric in again)
    return sound


def _agree(stored: float, computed: float) -> bool:
    return (math.isnan(stored) and math.isnan(computed)) or abs(stored - computed) <= ROUNDING


def comparison_rows(pairs: Iterable[Pair], dataset: str, protocol: str) -> Iterator[dict[str, str]]:
    """The primary comparisons of a data set and protocol, as texts."""
    for pair in pairs:
        if (pair.family, pair.dataset, pair.protocol) == ("primary", dataset, protocol):
            yield {
                "model": pair.model,
                "baseline": pair.baseline,
                "n_seeds": pair.seeds,
                "difference": signed(pair.difference),
                "interval": signed_interval(pair.ci_low, pair.ci_high),
                "p": p_text(pair.p),
                "p_corrected": p_text(pair.p_corrected),
                "verdict": pair.verdict,
                "p_higher": _share(pair.p_higher),
                "rope_inside": _share(pair.rope_inside),
            }


def _share(probability: float) -> str:
    """A posterior probability to two digits, none of which says that anything is certain."""
    return "< 0.01" if probability < 0.01 else "> 0.99" if probability > 0.99 else f"{probability:.2f}"


def resolution_lines(resolution: Iterable[Resolution], protocol: str, dataset: str) -> list[str]:
    """The smallest differences that a protocol's comparisons find; a second line for a design effect."""
    lines: dict[str, dict[str, list[str]]] = {}
    for row in resolution:
        if (row.protocol, row.dataset) == (protocol, dataset):
            part = f"{TEST_PARTS[row.part]} ({row.num_images:,} images)"
            lines.setdefault(row.note, {}).setdefault(part, []).append(f"{METRICS[row.metric]} {smallest_text(row)}")
    return [
        f"Smallest difference that the comparisons find with a power of {POWER:g}, their median: "
        + "; ".join(f"{part} {', '.join(values)}" for part, values in parts.items())
        + (f". {note[0].upper()}{note[1:]}." if note else ".")
        for note, parts in lines.items()
    ]
