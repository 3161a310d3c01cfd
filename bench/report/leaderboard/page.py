"""The leaderboard page: one HTML file that works from disk, without a network and without its scripts.

Text is escaped by the templates (`bench/report/templates/`); the only markup from outside them is itables'
bundle and the figures' SVG. The page forbids itself every request by its content security policy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markupsafe import Markup

from bench.check.trust import MEANING, MEASURED, UNSEEN, read_reruns, read_self_reported
from bench.records.card import DataCard
from bench.records.names import SYNTHETIC_PREFIX
from bench.report.analysis.analyse import Analysis
from bench.report.analysis_plan import MARGIN, NUM_TEST_SCANS
from bench.report.evidence import Evidence, first_line
from bench.report.figures.style import Caption
from bench.report.leaderboard.figures import PageFigure, page_figures
from bench.report.leaderboard.rows import Entry, comparison_rows, drop_rows, entries, resolution_lines
from bench.report.rendering import template
from bench.report.tables.missing import lost_seeds, missing_groups
from bench.report.tables.score_cells import METRICS, TEST_PARTS
from bench.report.tables.table3 import missing_cells
from bench.report.tidy import STAMP, dirty_lines, paper_datasets, unpinned_lines

TITLES = {
    "bloodmnist": "BloodMNIST",
    "breastmnist": "BreastMNIST",
    "dermamnist": "DermaMNIST",
    "pneumoniamnist": "PneumoniaMNIST",
    "organcmnist": "OrganCMNIST",
    "organsmnist": "OrganSMNIST",
}
READY = re.compile(r"window\.(_itables_\w+)")


SCANS = "; the images are slices of few scans, taken as independent: intervals are a lower bound, p is too small"


@dataclass(frozen=True)
class ProtocolPart:
    """One protocol's table of a data set."""

    name: str
    entries: list[Entry]
    resolution: list[str]
    missing: list[str]
    comparisons: list[dict[str, str]]
    drops: list[dict[str, str]]
    scans: str = ""


@dataclass(frozen=True)
class DatasetPart:
    """A page part."""

    name: str
    title: str
    card: DataCard | None
    problems: list[str]
    protocols: list[ProtocolPart]
    figures: list[PageFigure]

    @property
    def entries(self) -> list[Entry]:
        """Every ranked cell of the set."""
        return [entry for part in self.protocols for entry in part.entries]


def render(
    evidence: Evidence,
    analysis: Analysis,
    *,
    synthetic: bool,
    figures: Mapping[str, bytes],
    captions: Mapping[str, Caption],
) -> dict[str, bytes]:
    """The page: `index.html`, or `SYNTHETIC_index.html` for runs on synthetic data.

    Args:
        evidence: The results folder.
        analysis: Its statistics, of the same kind of records.
        synthetic: Which of the records.
        figures: Path below `reports/` -> content; the SVGs are set into the page.
        captions: Figure's name -> title and text.
    """
    reruns, rerun_notes = read_reruns(evidence.results)
    reported, reported_notes = ([], []) if synthetic else read_self_reported(evidence.results)
    cells = entries(evidence, analysis, reruns, synthetic=synthetic)
    ranked = [entry for entry in cells if entry.trust.level in MEASURED]
    pictures = page_figures(figures, captions)
    records = evidence.finished(synthetic=synthetic)
    library, ready = _itables()
    notes = [*evidence.notes, *rerun_notes, *reported_notes]
    datasets = _datasets(evidence, analysis, ranked, pictures, synthetic=synthetic)
    shown = {picture.name for part in datasets for picture in part.figures}
    html = template("index.html.jinja").render(
        line=f"{STAMP + ' | ' if synthetic else ''}{first_line(records)}",
        digest=first_line(records),
        synthetic=synthetic,
        stamp=STAMP,
        num_records=len(records),
        entries=ranked,
        unsound=[entry for entry in cells if entry.trust.level not in MEASURED],
        datasets=datasets,
        figures=[picture for picture in pictures if picture.name not in shown],
        reported=reported,
        notes=[note for note in notes if (SYNTHETIC_PREFIX in note) == synthetic],
        meaning=MEANING,
        unseen=UNSEEN,
        metrics=METRICS,
        parts=TEST_PARTS,
        margin=MARGIN,
        links=evidence.links,
        library=library,
        ready=ready,
    )
    return {f"{STAMP + '_' if synthetic else ''}index.html": html.encode()}


@cache
def _itables() -> tuple[Markup, str]:
    """Itables' script with its table library, and the name of the promise that it leaves in `window`.

    Its notice for notebooks is left out. The files that it comes with are read, whatever a user's settings say.
    """
    import itables
    from itables.javascript import generate_init_offline_itables_html

    bundle = Path(itables.__file__).parent / "html" / "dt_bundle.js"
    text, end, _ = generate_init_offline_itables_html(bundle).partition("</script>")
    match = READY.search(text)
    assert match is not None, "this version of itables leaves no promise"
    return Markup(text + end), match.group(1)


def _datasets(
    evidence: Evidence, analysis: Analysis, ranked: list[Entry], pictures: list[PageFigure], *, synthetic: bool
) -> list[DatasetPart]:
    """A part for each of the six sets, and for every other one with records."""
    six = paper_datasets(synthetic=synthetic)
    names = [*six, *sorted({entry.dataset for entry in ranked} - set(six))]
    protocols = sorted({entry.protocol for entry in ranked})
    missing = {
        protocol: missing_cells(protocol, [s for s in analysis.scores if s.protocol == protocol], synthetic=synthetic)
        for protocol in protocols
    }
    parts = []
    for name in names:
        tables = [
            _protocol(
                evidence, analysis, protocol, name, ranked, [cell for cell in missing[protocol] if cell[1] == name]
            )
            for protocol in protocols
        ]
        card = evidence.cards.get(name)
        title = TITLES.get(name, name)
        own = [picture for picture in pictures if picture.caption.dataset == name]
        parts.append(
            DatasetPart(name, title, card, data_problems(card), [t for t in tables if t.entries or t.missing], own)
        )
    return parts


def _protocol(
    evidence: Evidence,
    analysis: Analysis,
    protocol: str,
    dataset: str,
    ranked: list[Entry],
    missing: list[tuple[str, str]],
) -> ProtocolPart:
    own = [entry for entry in ranked if (entry.protocol, entry.dataset) == (protocol, dataset)]
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
        drops=list(drop_rows(analysis.drops, dataset, protocol)),
        scans=SCANS if dataset in NUM_TEST_SCANS else "",
    )


def data_problems(card: DataCard | None) -> list[str]:
    """What is wrong with a data set, as its card counted it, one line each."""
    if card is None:
        return []
    lines = []
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
