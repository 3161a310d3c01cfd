"""What ImageNet-1k weights do: the study `init`, one network under protocols that differ in where training starts.

The AUC difference on the official test is the plan's comparison; everything else on the page is exploratory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.records.names import SYNTHETIC_PREFIX
from bench.report.ablations import STARTED, STARTED_SEEDS, STARTS
from bench.report.analysis.analyse import Analysis
from bench.report.analysis.contrasts import WHOLE, Contrast, gain_of_imagenet, start_effects, start_p, start_verdict
from bench.report.analysis.scores import Score
from bench.report.evidence import Evidence
from bench.report.formats import NOTHING, Block, Bullets, Heading, Row, Table, Text, quoted
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


def render(evidence: Evidence, analysis: Analysis, *, synthetic: bool) -> dict[str, bytes]:
    """`initialisation.md`, `.tex` and `.csv`; on synthetic data only where something started from weights, stamped."""
    started = {(s.model, s.dataset) for s in analysis.table_scores if STARTS.get(s.protocol, "scratch") != "scratch"}
    if synthetic and not started:
        return {}
    named = [(model, f"{SYNTHETIC_PREFIX}{dataset}" if synthetic else dataset) for model, dataset in STARTED]
    cells = [cell for cell in dict.fromkeys([*named, *sorted(started)]) if not synthetic or cell in started]
    # A mark sets models of one protocol apart; the rows here are protocols.
    scores = [
        replace(score, mark="", drawn="")
        for score in analysis.table_scores
        if score.protocol in STARTS and (score.model, score.dataset) in cells
    ]
    stamp = f" ({STAMP})" if synthetic else ""
    blocks: list[Block] = [Heading(f"From scratch or from ImageNet{stamp}", 1), _reading()]
    missing: list[MissingCell] = []
    for model, dataset in cells:
        own = [score for score in scores if (score.model, score.dataset) == (model, dataset)]
        absent = [protocol for protocol in STARTS if protocol not in {score.protocol for score in own}]
        missing += [missing_cell(evidence, protocol, model, dataset) for protocol in absent]
        blocks += _section(evidence, analysis, own, (model, dataset), stamp)
    records = evidence.behind(scores, synthetic=synthetic)
    return table_files("initialisation", blocks, [*scores, *missing], records, synthetic=synthetic)


def _reading() -> str:
    return (
        f"{UNITS} Shown: {READING} Each start has a protocol of its own; they differ in nothing else, and the last one "
        "in the mean and std of the images too, which are the weights' own there; MedSpectralNet beside it is from "
        "scratch. Differences are of means over all seeds, paired by test image. By the analysis plan the AUC "
        f"difference by the start on the official test is one of {len(STARTED)} tests, its p multiplied by that; it "
        f"has a verdict once both starts have all {STARTED_SEEDS} seeds. All else is exploratory, without a correction."
    )


def _section(
    evidence: Evidence, analysis: Analysis, scores: Sequence[Score], cell: tuple[str, str], stamp: str
) -> list[Block]:
    """Scores and effects of a model on a data set, and what is missing."""
    model, dataset = cell
    title = f"{model_name(model)}, {dataset_name(dataset)}"
    blocks: list[Block] = [Heading(f"{title}{stamp}")]
    for part, words in TEST_PARTS.items():
        shown = [score for score in scores if score.part == part]
        if shown:
            entries = {str(start): [s for s in shown if s.protocol == protocol] for protocol, start in STARTS.items()}
            caption = f"{title}, {words}{stamp}"
            blocks.append(detail_table(entries, part, caption, evidence.links, label="start"))
    chosen = [c for c in analysis.contrasts if c.dataset == dataset and c.effect in start_effects(model)]
    if chosen:
        secondary = [c.p for c in chosen if not _is_primary(c, model)]
        counted = exploratory_text(secondary, "all but the AUC difference by the start on the official test")
        blocks += [text for text in (counted,) if text]
        blocks.append(_effects_table(chosen, model, f"Effects, {title}{stamp}"))
    return [*blocks, *_missing(evidence, scores, cell)]


def _is_primary(contrast: Contrast, model: str) -> bool:
    named = (contrast.effect, contrast.part, contrast.metric) == (gain_of_imagenet(model), "test", "auc")
    return named and (model, contrast.dataset.removeprefix(SYNTHETIC_PREFIX)) in STARTED


def _effects_table(contrasts: Sequence[Contrast], model: str, caption: str) -> Table:
    """A row an effect and part: both measures with their intervals; p and verdict of the plan's test."""
    rows = []
    shown = dict(zip(start_effects(model), start_effects(model_name(model), model_name(WHOLE)), strict=True))
    for (effect, part), group in grouped(contrasts, lambda c: (c.effect, c.part)).items():
        by_metric = {contrast.metric: contrast for contrast in group}
        texts: list[Text | str] = [shown[effect], TEST_PARTS[part], str(group[0].n_seeds)]
        for metric in METRICS:
            texts += difference_cells(by_metric.get(metric))
        auc = by_metric.get("auc")
        if auc is not None and _is_primary(auc, model):
            texts += [f"{start_p(auc.p):.2g}", start_verdict(auc.difference, auc.p, auc.n_seeds)]
            texts.append(f"{auc.detectable:.3f}")
        else:
            texts += ["", "exploratory", NOTHING if auc is None else f"{auc.detectable:.3f}"]
        rows.append(Row(texts))
    header = ["effect", "part", "n", *(text for name in METRICS.values() for text in (name, f"{name} 95 %"))]
    return Table(caption, [*header, "p corrected", "verdict", "power 0.8 finds"], rows, frozenset({2}))


def _missing(evidence: Evidence, scores: Sequence[Score], cell: tuple[str, str]) -> list[Block]:
    """Why starts are empty, the command that fills what nobody ran, and planned seeds without scores."""
    model, dataset = cell
    absent = [protocol for protocol in STARTS if protocol not in {score.protocol for score in scores}]
    reasons = grouped(absent, lambda protocol: why_missing(evidence, protocol, model, dataset))
    items = [f"{', '.join(protocols)}: {quoted(why.text)}" for why, protocols in reasons.items()]
    blocks: list[Block] = ["Missing cells:", Bullets(items)] if items else []
    blocks += ["`medbench run --study init` runs them."] if NOT_RUN in reasons and cell in STARTED else []
    lost = [f"{p}: {lack.line}" for p in STARTS for lack in lost_seeds(evidence, p, [model], dataset)]
    return [*blocks, "Planned seeds without scores, and seeds that no study plans:", Bullets(lost)] if lost else blocks
