"""A page a data set: what it holds, what is wrong with it, every score with its interval, comparisons, figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.records.card import DataCard
from bench.report.ablations import is_compared
from bench.report.analysis.analyse import Analysis
from bench.report.analysis_plan import NUM_TEST_SCANS, PARTS
from bench.report.evidence import Evidence
from bench.report.published.independence import independence
from bench.report.published.names import model_name
from bench.report.site.answer import HEADLINE
from bench.report.site.rows import Entry, comparison_rows, resolution_lines
from bench.report.tables.missing import lost_seeds, missing_groups
from bench.report.tables.table3 import STUDIED, missing_cells
from bench.report.tidy import dirty_lines, unpinned_lines

__all__ = ["DatasetPart", "ProtocolPart", "dataset_part"]

SCANS = "; the images are slices of few scans, treated as independent: intervals are too narrow, p-values too small"


@dataclass(frozen=True)
class ProtocolPart:
    """One protocol's scores of a data set."""

    name: str
    entries: list[Entry]
    resolution: list[str]
    missing: list[str]
    comparisons: list[dict[str, str]]
    scans: str = ""


@dataclass(frozen=True)
class Absent:
    """Models that have no run under a protocol, and why."""

    protocol: str
    reason: str
    models: str


@dataclass(frozen=True)
class DatasetPart:
    """What a data set's page shows."""

    name: str
    card: DataCard | None
    problems: list[str]
    protocols: list[ProtocolPart]
    absent: list[Absent]


def dataset_part(
    evidence: Evidence, analysis: Analysis, dataset: str, ranked: Sequence[Entry], *, synthetic: bool
) -> DatasetPart:
    """The content of a data set's page; what Table 2 and the ablation compare stands on their pages.

    Args:
        evidence: The results folder.
        analysis: Its statistics.
        dataset: The set.
        ranked: Every measured cell, of all sets.
        synthetic: Whether the set is.
    """
    here = [entry for entry in ranked if entry.dataset == dataset and entry.model not in PARTS]
    own = [entry for entry in here if is_compared(entry.protocol)]
    measured = sorted({entry.protocol for entry in own}, key=lambda name: (name != HEADLINE, name))
    parts, absent = [], []
    for protocol in [*measured, *(name for name in (() if synthetic else STUDIED) if name not in measured)]:
        scores = [score for score in analysis.scores if score.protocol == protocol]
        missing = [cell for cell in missing_cells(protocol, scores, synthetic=synthetic) if cell[1] == dataset]
        if protocol in measured:
            parts.append(_protocol(evidence, analysis, protocol, dataset, own, missing))
        else:
            absent += [
                Absent(protocol, group.reason, ", ".join(map(model_name, group.models)))
                for group in missing_groups(evidence, protocol, missing)
            ]
    card = evidence.cards.get(dataset)
    return DatasetPart(dataset, card, data_problems(card), parts, absent)


def _protocol(
    evidence: Evidence,
    analysis: Analysis,
    protocol: str,
    dataset: str,
    entries: Sequence[Entry],
    missing: list[tuple[str, str]],
) -> ProtocolPart:
    own = [entry for entry in entries if entry.protocol == protocol]
    shown = [entry.model for entry in own] + [record.model for record in evidence.unplanned]
    groups = missing_groups(evidence, protocol, missing)
    lost = lost_seeds(evidence, protocol, shown, dataset)
    used = [r for r in evidence.records if (r.protocol, r.dataset) == (protocol, dataset)]
    return ProtocolPart(
        name=protocol,
        entries=own,
        resolution=[
            *resolution_lines(analysis.resolution, protocol, dataset),
            *unpinned_lines(used),
            *dirty_lines(used),
        ],
        missing=[*(group.text for group in groups), *(seeds.text for seeds in lost)],
        comparisons=list(comparison_rows(analysis.pairs, dataset, protocol)),
        scans=SCANS if dataset in NUM_TEST_SCANS else "",
    )


def data_problems(card: DataCard | None) -> list[str]:
    """What is wrong with a data set, as its source says and its card counted it, one line each."""
    if card is None:
        return []
    known = independence(card.dataset)
    lines = [known.warning] if known is not None and known.warning else []
    for pair, number in sorted(card.num_exact_pairs.items()):
        if number:
            lines.append(f"{pair.replace('/', ' and ')}: {number:,} exact duplicate{'s' if number > 1 else ''}")
    for pair, number in sorted(card.num_twin_pairs.items()):
        if number:
            pairs = f"{number:,} pair{'s' if number > 1 else ''} of near twins"
            lines.append(f"{pair.replace('/', ' and ')}: {pairs} (pixel correlation ≥ {card.twin_threshold:g})")
    val = {pair[1] for pair in card.twins["train/val"]}
    if val:
        share = f"{'at least ' if len(card.twins['train/val']) < card.num_twin_pairs['train/val'] else ''}{len(val):,}"
        lines.append(
            f"{share} of {card.num_images['val']:,} val images, which choose epoch and threshold, have a near twin in "
            "train: they can favour an epoch that remembers train"
        )
    if card.twin_test_indices:
        share = f"{len(card.twin_test_indices):,} of {card.num_images['test']:,}"
        lines.append(f"{share} test images have a near twin in train or val; the twin-free test leaves them out")
    return lines
