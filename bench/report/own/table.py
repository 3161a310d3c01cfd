"""Runs on data sets of somebody's own: a table apart, never beside the official sets, in no claim and no answer."""

from __future__ import annotations

from collections.abc import Sequence

from bench.records.card import DataCard
from bench.report.analysis.analyse import Analysis, analyse
from bench.report.analysis.scores import Score
from bench.report.evidence import Evidence
from bench.report.formats import NOTHING, Block, Bullets, Heading, Row, Table, Text, quoted
from bench.report.links import Links
from bench.report.tables.score_cells import (
    MARKS,
    METRICS,
    READING,
    TEST_PARTS,
    UNITS,
    interval_text,
    measured_text,
    resolution_text,
    table_files,
)
from bench.report.tidy import grouped

NAME = "own_data"
APART = (
    "Data sets of somebody's own, not MedMNIST's. They stand in this table alone: in no claim, no study, no "
    "leaderboard and no comparison with published numbers. What is said of the data is its owner's word."
)


def render(evidence: Evidence) -> dict[str, bytes]:
    """`own_data.md`, `own_data.tex` and `own_data.csv`; nothing where there is no run on such a set."""
    if not (evidence.own or evidence.own_lost):
        return {}
    analysis = analyse(evidence.alone(evidence.own), synthetic=False)
    blocks: list[Block] = [Heading("Own data: AUC and ACC on the test splits", 1), APART]
    blocks.append(f"{UNITS} Shown: {READING} {MARKS}")
    for dataset, scores in sorted(grouped(analysis.table_scores, lambda score: score.dataset).items()):
        card = evidence.cards[dataset]
        blocks += [Heading(f"Own data `{dataset}`"), *_facts(card)]
        for protocol, own in grouped(scores, lambda score: score.protocol).items():
            blocks += _section(analysis, own, protocol, card, evidence.links)
    if evidence.own_lost:
        lost = sorted(evidence.own_lost, key=lambda item: item[0].run)
        blocks += [Heading("Runs without scores"), Bullets([f"{r.run_id}: {quoted(why)}" for r, why in lost])]
    return table_files(NAME, blocks, analysis.table_scores, evidence.own, synthetic=False)


def _facts(card: DataCard) -> list[Block]:
    """What the data set is, and which of its images stand in two splits."""
    counts = ", ".join(f"{split} {card.num_images[split]:,}" for split in card.num_images)
    form = f"{card.source_size} x {card.source_size} px, {card.num_channels} channel{'s'[: card.num_channels - 1]}"
    lines = [
        f"{card.task}, {len(card.class_names)} classes ({quoted(', '.join(card.class_names))}), {form}",
        f"images: {counts}; MD5 of the arrays {card.md5}",
        f"licence: {quoted(card.license)}; cite: {quoted(card.citation)}",
    ]
    for pair, number in sorted(card.num_twin_pairs.items()):
        equal = card.num_exact_pairs[pair]
        if number or equal:
            lines.append(f"{pair.replace('/', ' and ')}: {equal:,} equal pairs, {number:,} pairs of near twins")
    return [Bullets(lines)]


def _section(analysis: Analysis, scores: Sequence[Score], protocol: str, card: DataCard, links: Links) -> list[Block]:
    """One protocol on one set: a table of the test split, and one of what twins leave of it."""
    dataset = card.dataset
    blocks: list[Block] = [Heading(f"Protocol `{protocol}`, own data `{dataset}`", 3)]
    for part, title in TEST_PARTS.items():
        if part == "test_twin_free" and not card.twin_test_indices:
            blocks.append("No test image has a near twin in train or val: the twin-free test is the whole test.")
            continue
        rows = []
        for model, own in grouped([s for s in scores if s.part == part], lambda score: score.model).items():
            texts: list[Text | str] = [model, str(own[0].n_seeds)]
            by_metric = {score.metric: score for score in own}
            for metric in METRICS:
                score = by_metric.get(metric)
                texts += [NOTHING, NOTHING] if score is None else _texts(score, links)
            rows.append(Row(texts, f"runs: {' '.join(own[0].run_ids)}"))
        header = ["model", "n", *(text for name in METRICS.values() for text in (name, f"{name} 95 %"))]
        blocks.append(Table(f"{title}, {protocol}, own data {dataset}", header, rows, right=frozenset({1})))
        lines = [resolution_text(analysis.resolution, protocol, part, m, [dataset], notes=False) for m in METRICS]
        blocks += [line for line in lines if line]
    return blocks


def _texts(score: Score, links: Links) -> list[Text | str]:
    return [measured_text(score, links), interval_text(score.ci_low, score.ci_high)]
