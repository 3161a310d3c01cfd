"""What the leaderboard shows of each cell: texts, sort keys, marks, trust; from records and statistics alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pandas as pd

from bench.check.trust import MEASURED, CellTrust, Rerun, trust_of_cell
from bench.records.card import DataCard
from bench.records.run_record import Record
from bench.report.analysis.analyse import Analysis
from bench.report.evidence import Evidence
from bench.report.links import Links
from bench.report.tables.score_cells import METRICS, TEST_PARTS, interval_text, score_cells, value_text

ROUNDING = 1e-9  # statistics are rounded to ten digits


@dataclass(frozen=True)
class Value:
    """A number in a cell.

    Attributes:
        text: What is shown.
        order: What it is sorted by; lower than any score where there is none.
        tip: What a reader gets by pointing at it or reaching it by keyboard.
        mark: `best`, `tie` or "".
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
    n_seeds: int
    num_images: Mapping[str, int]
    measured: Mapping[tuple[str, str], Value]
    published: Mapping[str, Value]
    trust: CellTrust
    link: str
    run_ids: list[str] = field(repr=False)

    def value(self, part: str, metric: str) -> Value:
        """The measured number of a part and metric."""
        return self.measured.get((part, metric), NO_VALUE)

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
    cells = score_cells(analysis.cells)
    records: dict[tuple[str, str, str], list[Record]] = {}
    for record in evidence.finished(synthetic=synthetic):
        records.setdefault((record.protocol, record.dataset, record.model), []).append(record)
    sound = _sound(cells, analysis.classes, evidence.cards)
    found = []
    for key, group in cells.groupby(["protocol", "dataset", "model"], sort=False):
        protocol, dataset, model = (str(part) for part in key)
        runs = records.get((protocol, dataset, model), [])
        trust = trust_of_cell(runs, reruns, rescored=sound.get((protocol, dataset, model), False))
        found.append(_entry(protocol, dataset, model, group, trust, evidence.links))
    return sorted(found, key=lambda e: (e.dataset, e.protocol, -e.value("test", "auc").order, e.model))


def _entry(protocol: str, dataset: str, model: str, group: pd.DataFrame, trust: CellTrust, links: Links) -> Entry:
    rows = group.to_dict("records")
    measured = {(str(row["part"]), str(row["metric"])): _measured(row, trust) for row in rows}
    published = {str(row["metric"]): _published(row) for row in rows if row["part"] == "test"}
    run_ids = str(rows[0]["run_ids"])
    return Entry(
        protocol=protocol,
        dataset=dataset,
        model=model,
        n_seeds=max(int(row["n_seeds"]) for row in rows),
        num_images={str(row["part"]): int(row["num_images"]) for row in rows},
        measured=measured,
        published=published,
        trust=trust,
        link=links.to_records(protocol, model, dataset, run_ids),
        run_ids=run_ids.split(),
    )


def _measured(row: Mapping[object, object], trust: CellTrust) -> Value:
    mean, sd, low, high = (float(str(row[key])) for key in ("mean", "sd", "ci_low", "ci_high"))
    name = f"{METRICS[str(row['metric'])]}, {TEST_PARTS[str(row['part'])]}"
    if math.isnan(mean):
        return Value("n/a", -1.0, f"{name}: undefined, a class has no image or a run has no value")
    seeds, images = int(str(row["n_seeds"])), int(str(row["num_images"]))
    interval = interval_text(low, high)
    over = {"images": "over test images", "images and seeds": "over test images and seeds"}.get(
        str(row["interval"]), ""
    )
    told = [f"{name} {mean:.4f}"]
    told += [] if math.isnan(low) else [f"95 % interval {low:.4f} to {high:.4f} {over}".strip()]
    told += [f"{seeds} seed{'s' if seeds > 1 else ''}"]
    told += [] if math.isnan(sd) else [f"standard deviation {sd:.4f}"]
    told += [f"{images:,} test images"]
    mark = str(row["drawn"]) if trust.level in MEASURED else ""
    return Value(value_text(mean, sd), mean, ", ".join(told), mark, "" if math.isnan(low) else interval)


def _published(row: Mapping[object, object]) -> Value:
    value = float(str(row["published"]))
    if math.isnan(value):
        return NO_VALUE
    difference = f"measured less published {float(str(row['difference'])):+.4f}".replace("-", "−")
    tip = f"{row['published_name']}: {value:g}; {difference}, between two protocols; {row['published_source']}"
    return Value(f"{value:.3f}", value, tip)


def _sound(
    cells: pd.DataFrame, classes: pd.DataFrame, cards: Mapping[str, DataCard]
) -> dict[tuple[str, str, str], bool]:
    """Whether a cell's AUC and accuracy on the official test are what its predictions give.

    The means in `cells` are of the numbers that the records hold; `classes` was computed from the predictions, and
    both scores follow from it: the AUC is that of label 1 or the mean over classes, the accuracy the recalls weighted
    by the classes' images. `medbench verify --scores` does the same run by run and for every measure.
    """
    stored = cells[cells["part"] == "test"].set_index(["protocol", "dataset", "model", "metric"])["mean"].to_dict()
    found = {}
    for key, group in classes[classes["part"] == "test"].groupby(["protocol", "dataset", "model"], sort=False):
        protocol, dataset, model = (str(part) for part in key)
        card = cards.get(dataset)
        if card is None:
            continue
        ordered = group.sort_values("class_index")
        areas, recalls = ordered["auc"].tolist(), ordered["recall"].tolist()
        counts = card.class_counts["test"]
        area = areas[1] if card.task == "binary-class" else math.fsum(areas) / len(areas)
        right = math.fsum(recall * count for recall, count in zip(recalls, counts, strict=True) if count)
        again = {"auc": area, "acc": right / sum(counts)}
        held = {metric: float(stored.get((protocol, dataset, model, metric), math.nan)) for metric in again}
        found[protocol, dataset, model] = all(_agree(held[metric], again[metric]) for metric in again)
    return found


def _agree(stored: float, computed: float) -> bool:
    return (math.isnan(stored) and math.isnan(computed)) or abs(stored - computed) <= ROUNDING


def comparison_rows(pairs: pd.DataFrame, dataset: str, protocol: str) -> Iterator[dict[str, str]]:
    """The primary comparisons of a data set and protocol, as texts."""
    chosen = pairs[(pairs["family"] == "primary") & (pairs["dataset"] == dataset) & (pairs["protocol"] == protocol)]
    for row in chosen.to_dict("records"):
        yield {
            "model": row["model"],
            "baseline": row["baseline"],
            "n_seeds": str(row["n_seeds"]),
            "difference": f"{row['difference']:+.3f}".replace("-", "−"),
            "interval": f"{row['ci_low']:+.3f} to {row['ci_high']:+.3f}".replace("-", "−"),
            "p": _probability(row["p"]),
            "p_holm": _probability(row["p_holm"]),
            "verdict": row["verdict"],
        }


def _probability(p: float) -> str:
    return "n/a" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def resolution_lines(resolution: pd.DataFrame, dataset: str) -> list[str]:
    """The smallest differences that a data set's test images could show; a second line for a design effect."""
    rows = resolution[resolution["dataset"] == dataset]
    lines: dict[str, dict[str, list[str]]] = {}
    for row in rows.to_dict("records"):
        part = f"{TEST_PARTS[row['part']]} ({row['num_images']:,} images)"
        value = "n/a" if math.isnan(row["smallest_difference"]) else f"{row['smallest_difference']:.3f}"
        lines.setdefault(row["note"], {}).setdefault(part, []).append(f"{METRICS[row['metric']]} {value}")
    around = f"around {rows['reference'].iloc[0]:g}" if len(rows) else ""
    return [
        f"Smallest difference that these images could show {around}: "
        + "; ".join(f"{part} {', '.join(values)}" for part, values in parts.items())
        + (f". {note[0].upper()}{note[1:]}." if note else ".")
        for note, parts in lines.items()
    ]
