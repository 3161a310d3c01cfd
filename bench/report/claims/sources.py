"""The evidence that claims are checked against, gathered once: measured, published, and the paper's own quotes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench.data.names import PAPER_DATASETS
from bench.errors import RecordError
from bench.records.card import DataCard, read_card
from bench.records.cost_record import CostRecord
from bench.records.run_record import Record
from bench.report.analysis.analyse import Analysis
from bench.report.evidence import Evidence
from bench.report.published.names import dataset_name
from bench.report.published.numbers import PublishedCost, PublishedScore, published_costs, published_scores
from bench.report.tidy_costs import Timing, timing_rows

FOLDER = Path(__file__).parent
STATED = "paper-224-imagenet"  # the protocol that the claims are about
INFO_SOURCE = "medmnist 3.0.2 INFO (claims/info.csv)"


@dataclass(frozen=True)
class Claim:
    """One claim as it was listed; `consistent` and `note` are remarks, never an input of a verdict."""

    id: str
    section: str
    quote: str
    claim: str
    expected: str
    unit: str
    consistent: str
    note: str


@dataclass(frozen=True)
class DataFacts:
    """What is known of a data set: from its measured card, or from medmnist's INFO where there is none.

    Attributes:
        dataset: A MedMNIST flag.
        num_channels: In the npz.
        class_names: In the order of the labels.
        num_images: By split.
        class_counts: Images of each class by split; empty without a card.
        source: The card with its MD5, or INFO.
    """

    dataset: str
    num_channels: int
    class_names: tuple[str, ...]
    num_images: Mapping[str, int]
    class_counts: Mapping[str, list[int]]
    source: str


@dataclass(frozen=True)
class Sources:
    """All evidence of a report's claims; nothing here is synthetic."""

    results: Path
    quotes: Mapping[str, str]
    costs: Mapping[tuple[str, int, int], CostRecord]
    timings: tuple[Timing, ...]
    scores: tuple[PublishedScore, ...]
    published_costs: tuple[PublishedCost, ...]
    data: Mapping[str, DataFacts]
    analysis: Analysis
    records: tuple[Record, ...]


def read_claims() -> list[Claim]:
    """The 174 claims, in the given order.

    Raises:
        RecordError: If an id is there twice.
    """
    frame = pd.read_csv(FOLDER / "claims.csv", dtype=str, keep_default_na=False)
    twice = frame["id"][frame["id"].duplicated()]
    if len(twice):
        raise RecordError(f"claims.csv has {twice.iloc[0]} twice; ids are unique")
    names = ["id", "section", "quote", "claim", "expected_value", "unit", "arithmetic_consistent", "note"]
    return [Claim(*map(str, row)) for row in frame[names].itertuples(index=False)]


def collect(evidence: Evidence, analysis: Analysis) -> Sources:
    """Everything that a check may need, of real data alone.

    Raises:
        RecordError: If a data set's card is damaged.
    """
    (costs, _), (timings, _) = evidence.costs, evidence.timings
    return Sources(
        results=evidence.results,
        quotes={claim.id: claim.quote for claim in read_claims()},
        costs={(record.model, record.img_size, record.num_classes): record for record in costs},
        timings=tuple(timing_rows(timings)),
        scores=published_scores(),
        published_costs=published_costs(),
        data={facts.dataset: facts for facts in _data(evidence.results)},
        analysis=analysis,
        records=tuple(evidence.finished(synthetic=False)),
    )


def _data(results: Path) -> list[DataFacts]:
    table = pd.read_csv(FOLDER / "info.csv", dtype=str)
    info = {str(row["dataset"]): row for row in table.to_dict("records")}
    facts = []
    for dataset in PAPER_DATASETS:
        card = read_card(results, dataset)
        facts.append(of_card(card) if card is not None else _of_info(dataset, info[dataset]))
    return facts


def of_card(card: DataCard) -> DataFacts:
    """What a measured card says."""
    return DataFacts(
        card.dataset,
        card.num_channels,
        tuple(card.class_names),
        card.num_images,
        card.class_counts,
        f"results/data/{card.dataset}.json (npz MD5 {card.md5[:12]})",
    )


def _of_info(dataset: str, row: Mapping[Any, Any]) -> DataFacts:
    counts = {split: int(row[split]) for split in ("train", "val", "test")}
    names = tuple(row["class_names"].split("; "))
    return DataFacts(
        dataset,
        int(row["num_channels"]),
        names,
        counts,
        {},
        f"{dataset_name(dataset)}: {INFO_SOURCE}, npz not measured",
    )
