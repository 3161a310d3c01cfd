"""Table 2: optimiser x CutMix on BreastMNIST, from the ablation's six protocols."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from bench.records.names import SYNTHETIC_PREFIX
from bench.report.ablations import FACTORS
from bench.report.analysis.analyse import Analysis
from bench.report.analysis.contrasts import Contrast, gain_of_cutmix
from bench.report.analysis.scores import Score
from bench.report.evidence import Evidence
from bench.report.formats import NOTHING, Block, Bullets, Heading, Row, Table, quoted
from bench.report.published.names import dataset_name, model_name
from bench.report.tables.missing import NOT_RUN, lost_seeds, why_missing
from bench.report.tables.score_cells import (
    METRICS,
    READING,
    TEST_PARTS,
    UNITS,
    MissingCell,
    detail_table,
    difference_cells,
    exploratory_text,
    missing_cell,
    table_files,
)
from bench.report.tidy import STAMP, grouped
from bench.stats.power import POWER

OPTIMISERS = {"sgd": "SGD", "rmsprop": "RMSprop", "adam": "Adam"}
AUGMENTATIONS = {"plain": "plain", "cutmix": "CutMix"}
MODEL, DATASET = "medspectralnet", "breastmnist"
SETTINGS = {
    protocol: f"{OPTIMISERS[own.optimiser]}, {AUGMENTATIONS[own.augmentation]}" for protocol, own in FACTORS.items()
}


def render(evidence: Evidence, analysis: Analysis, *, synthetic: bool) -> dict[str, bytes]:
    """`table2.md`, `table2.tex` and `table2.csv`; on synthetic data only where it was run there, stamped."""
    # A mark sets models of one protocol apart; the rows here are protocols.
    scores = [replace(s, mark="", drawn="") for s in analysis.table_scores if s.protocol in SETTINGS]
    stamp = f" ({STAMP})" if synthetic else ""
    if synthetic and not scores:
        return {}
    dataset = f"{SYNTHETIC_PREFIX}{DATASET}" if synthetic else DATASET
    groups = {(MODEL, dataset): list[Score]()} | grouped(scores, lambda score: (score.model, score.dataset))
    blocks = _head(stamp)
    missing: list[MissingCell] = []
    for (model, name), own in groups.items():
        absent = [p for p in SETTINGS if p not in {score.protocol for score in own}]
        missing += [missing_cell(evidence, protocol, model, name) for protocol in absent]
        blocks += _section(evidence, analysis, own, (model, name), stamp)
    records = [record for record in evidence.finished(synthetic=synthetic) if record.protocol in SETTINGS]
    return table_files("table2", blocks, [*scores, *missing], records, synthetic=synthetic)


def _head(stamp: str) -> list[Block]:
    published = (
        "The paper's Table 2 is lost in every source at hand: its columns stay empty rather than hold a number of "
        "another table. The paper states no learning rate for the ablation; the protocols say what was chosen."
    )
    reading = f"{UNITS} Shown: {READING} Each setting has a protocol of its own (`breast-ablation-...`)."
    return [Heading(f"Table 2: optimiser and CutMix on BreastMNIST{stamp}", 1), reading, published]


def _section(
    evidence: Evidence, analysis: Analysis, scores: Sequence[Score], pair: tuple[str, str], stamp: str
) -> list[Block]:
    model, dataset = pair
    title = f"{model_name(model)}, {dataset_name(dataset)}"
    blocks: list[Block] = [Heading(f"{title}{stamp}")]
    for part, name in TEST_PARTS.items():
        shown = [score for score in scores if score.part == part]
        if part != "test" and not shown:
            continue
        entries = {name: [s for s in shown if s.protocol == protocol] for protocol, name in SETTINGS.items()}
        caption = f"{title}, {name}{stamp}"
        blocks.append(detail_table(entries, part, caption, evidence.links, label="setting"))
    gains = _gains(analysis, pair)
    blocks += [text for text in (_can_find(gains),) if text]
    blocks.append(_gain_table(gains, f"{title}{stamp}"))
    missing = [protocol for protocol in SETTINGS if protocol not in {score.protocol for score in scores}]
    reasons = grouped(missing, lambda protocol: why_missing(evidence, protocol, *pair))
    if reasons:
        items = [f"{'; '.join(map(SETTINGS.__getitem__, names))}: {quoted(why.text)}" for why, names in reasons.items()]
        blocks += ["Missing cells:", Bullets(items)]
    if pair == (MODEL, DATASET) and NOT_RUN in reasons:
        blocks.append("`medbench run --study table2` runs them.")
    lost = [
        f"{name}: {lack.line}" for p, name in SETTINGS.items() for lack in lost_seeds(evidence, p, [model], dataset)
    ]
    return [*blocks, "Planned seeds without scores, and seeds that no study plans:", Bullets(lost)] if lost else blocks


def _gains(analysis: Analysis, pair: tuple[str, str]) -> dict[tuple[str, str], Contrast]:
    """(optimiser, metric) -> what CutMix does for a model on the official test."""
    model, dataset = pair
    key = (dataset, gain_of_cutmix(model), "test")
    chosen = [row for row in analysis.contrasts if (row.dataset, row.effect, row.part) == key]
    return {(row.optimiser, row.metric): row for row in chosen}


def _can_find(gains: Mapping[tuple[str, str], Contrast]) -> str:
    """The smallest gains that these comparisons find, and how many tests of how many are below 5 %."""
    smallest = [
        f"{title} {OPTIMISERS[optimiser]} {row.detectable:.3f}"
        for metric, title in METRICS.items()
        for (optimiser, of_metric), row in gains.items()
        if of_metric == metric and not math.isnan(row.detectable)
    ]
    if not smallest:
        return ""
    counted = exploratory_text([row.p for row in gains.values()], "CutMix minus plain")
    return f"Smallest difference found with a power of {POWER:g}: {', '.join(smallest)}. {counted}"


def _gain_table(gains: Mapping[tuple[str, str], Contrast], caption: str) -> Table:
    """CutMix less plain of each optimiser, means over all seeds, paired by test image."""
    rows = []
    for optimiser, title in OPTIMISERS.items():
        texts = [title]
        for metric in METRICS:
            texts += difference_cells(gains.get((optimiser, metric)))
        rows.append(Row([*texts, NOTHING]))
    columns = [text for name in METRICS.values() for text in (f"{name}, CutMix minus plain", f"{name} 95 %")]
    return Table(f"CutMix minus plain, official test; {caption}", ["optimiser", *columns, "published"], rows)
