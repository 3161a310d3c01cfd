"""What MedSpectralNet's parts add, and whose gain it is: two comparisons that the paper lacks.

Parts are removed one at a time under one recipe; and {trunk, whole model} x {plain, CutMix} under one optimiser tells
the architecture's share of a gain from the augmentation's. Both are exploratory by the analysis plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.records.names import SYNTHETIC_PREFIX
from bench.report.ablations import FACTORS, factorial_protocol
from bench.report.analysis.analyse import Analysis
from bench.report.analysis.contrasts import EFFECTS, OF_BOTH_MODELS, TRUNK, WHOLE, Contrast, gain_of_cutmix
from bench.report.analysis.pairs import Pair
from bench.report.analysis.scores import Score
from bench.report.analysis_plan import PARTS
from bench.report.evidence import Evidence, Reason
from bench.report.formats import NOTHING, Block, Bullets, Heading, Row, Table, Text, quoted
from bench.report.links import Links
from bench.report.published.names import dataset_name, model_name, model_names
from bench.report.tables.missing import NOT_RUN, lost_seeds, planned, why_missing
from bench.report.tables.score_cells import (
    METRICS,
    READING,
    UNITS,
    MissingCell,
    difference_text,
    exploratory_text,
    measured_text,
    missing_cell,
    resolution_text,
    table_files,
)
from bench.report.tables.table2 import AUGMENTATIONS, OPTIMISERS
from bench.report.tidy import STAMP, grouped

PROTOCOL, DATASET = "lite-96", "breastmnist"
NAMES = {WHOLE: "nothing", **PARTS, TRUNK: "all three: the trunk alone"}


def render(evidence: Evidence, analysis: Analysis, *, synthetic: bool) -> dict[str, bytes]:
    """`ablation.md`, `ablation.tex` and `ablation.csv`; on synthetic data only where a part was removed, stamped."""
    scores = [score for score in analysis.table_scores if score.part == "test" and score.model in NAMES]
    dataset = f"{SYNTHETIC_PREFIX}{DATASET}" if synthetic else DATASET
    factorial = [score for score in scores if score.protocol in FACTORS]
    removed = _with_parts([score for score in scores if score.protocol not in FACTORS], dataset)
    if synthetic and not any(score.model in PARTS for score in removed):
        return {}
    stamp = f" ({STAMP})" if synthetic else ""
    blocks: list[Block] = [Heading(f"What the parts add{stamp}", 1), _reading(), Heading(f"Parts removed{stamp}")]
    rows: list[Score | MissingCell] = list(removed)
    for protocol, name in dict.fromkeys([(PROTOCOL, dataset), *((s.protocol, s.dataset) for s in removed)]):
        own = [score for score in removed if (score.protocol, score.dataset) == (protocol, name)]
        blocks += [
            resolution_text(analysis.resolution, protocol, "test", metric, [name], notes=True) for metric in METRICS
        ]
        blocks.append(_leads_text(analysis, protocol, name))
        blocks.append(_parts_table(evidence, analysis, own, f"{dataset_name(name)}, official test, {protocol}{stamp}"))
        have = {(protocol, score.model) for score in own}
        wanted = [(protocol, model) for model in NAMES]
        rows += [missing_cell(evidence, *cell, name) for cell in wanted if cell not in have]
        blocks += _missing(evidence, wanted, have, name)
    blocks += [Heading(f"Whose gain: the parts' or CutMix's?{stamp}"), _factors(evidence)]
    every = {(factorial_protocol("adam", kind), model) for kind in AUGMENTATIONS for model in (WHOLE, TRUNK)}
    for name in dict.fromkeys([dataset, *(score.dataset for score in factorial)]):
        own = [score for score in factorial if score.dataset == name]
        have = {(score.protocol, score.model) for score in own}
        wanted = sorted(every if name == DATASET else every & have)
        blocks += _factorial(evidence, analysis, own, name, stamp)
        rows += own
        rows += [missing_cell(evidence, *cell, name) for cell in wanted if cell not in have]
        blocks += _missing(evidence, wanted, have, name)
    records = evidence.behind([*removed, *factorial], synthetic=synthetic)
    return table_files("ablation", [block for block in blocks if block != ""], rows, records, synthetic=synthetic)


def _with_parts(scores: Sequence[Score], dataset: str) -> list[Score]:
    """Scores under the study's protocol and data set, and under others where at least one part was removed."""
    keys = {(score.protocol, score.dataset) for score in scores if score.model in PARTS} | {(PROTOCOL, dataset)}
    return [score for score in scores if (score.protocol, score.dataset) in keys]


def _reading() -> str:
    return (
        f"{UNITS} Shown: {READING} Differences are of means over all seeds, paired by test image. All of it is "
        "exploratory by the analysis plan, without a correction for how many are looked at, but the AUC difference to "
        f"{model_name(TRUNK)}: that is one of the plan's comparisons, and its verdict is by the corrected p. The paper "
        f"has no such table. M: millions of parameters. Lead: {model_name(WHOLE)} minus the model of the row; verdict: "
        "what it is beside it."
    )


def _factors(evidence: Evidence) -> str:
    whole, trunk = model_name(WHOLE), model_name(TRUNK)
    imagenet = any(record.protocol == "paper-224-imagenet" for record in evidence.records)
    return (
        f"Cells: {whole} and {trunk}, its trunk, each with and without CutMix, one optimiser. Interaction: what CutMix "
        f"does for {whole} minus what it does for {trunk}. The third factor, ImageNet weights, is `paper-224-imagenet`"
        f"{'.' if imagenet else ', which has no record: its weights could not be had where these runs were made.'}"
    )


def _parts_table(evidence: Evidence, analysis: Analysis, scores: Sequence[Score], caption: str) -> Table:
    """A row a model: what is missing from it, what it scores, and the whole model's lead over it."""
    pairs = {
        (pair.protocol, pair.dataset, pair.metric, pair.baseline): pair
        for pair in analysis.pairs
        if (pair.model, pair.part) == (WHOLE, "test")
    }
    shown = {run_id for score in scores for run_id in score.run_ids}
    sizes = {r.model: r.num_params for r in evidence.records if r.num_params and r.run_id in shown}
    rows = []
    for model, without in NAMES.items():
        own = {score.metric: score for score in scores if score.model == model}
        size = f"{sizes[model] / 1e6:.2f}" if model in sizes else NOTHING
        texts: list[Text | str] = [model, without, size, str(max((s.n_seeds for s in own.values()), default=0))]
        for metric in METRICS:
            score = own.get(metric)
            texts.append(NOTHING if score is None else _plain(score, evidence.links))
            pair = pairs.get((score.protocol, score.dataset, metric, model)) if score else None
            texts += [NOTHING, ""] if pair is None else [_with_interval(pair), pair.verdict]
        rows.append(Row(texts))
    header = ["model", "without", "M", "n"]
    header += [text for name in METRICS.values() for text in (name, "lead, 95 %", "verdict")]
    return Table(caption, header, rows, right=frozenset({2, 3}))


def _leads_text(analysis: Analysis, protocol: str, dataset: str) -> str:
    """How many of the table's exploratory tests are below 5 %."""
    key = (WHOLE, protocol, dataset, "test", "exploratory")
    return exploratory_text(
        [
            pair.p
            for pair in analysis.pairs
            if (pair.model, pair.protocol, pair.dataset, pair.part, pair.family) == key and pair.baseline in NAMES
        ],
        "the leads below",
    )


def _plain(score: Score, links: Links) -> Text:
    """A measured cell without the mark that it has among all models of Table 3."""
    return measured_text(replace(score, drawn=""), links)


def _with_interval(row: Pair | Contrast) -> str:
    """`+0.012 (−0.010 to +0.034)`."""
    return difference_text(row.difference, row.ci_low, row.ci_high)


def _factorial(
    evidence: Evidence, analysis: Analysis, scores: Sequence[Score], dataset: str, stamp: str
) -> list[Block]:
    """Means and effects of each optimiser under which both models ran."""
    chosen = [c for c in analysis.contrasts if (c.dataset, c.part) == (dataset, "test")]
    blocks: list[Block] = []
    for optimiser, contrasts in sorted(grouped(chosen, lambda contrast: contrast.optimiser).items()):
        by_key = {(contrast.effect, contrast.metric): contrast for contrast in contrasts}
        if not any(effect in OF_BOTH_MODELS for effect, _ in by_key):
            continue  # one model alone: Table 2 has its gain
        where = f"{dataset_name(dataset)}, official test, {OPTIMISERS.get(optimiser, optimiser)}{stamp}"
        blocks.append(_means_table(evidence, scores, optimiser, f"Means, {where}"))
        blocks.append(exploratory_text([contrast.p for contrast in contrasts], "all effects under this optimiser"))
        rows = []
        names = {gain_of_cutmix(model): gain_of_cutmix(model_name(model)) for model in (WHOLE, TRUNK)}
        for effect in EFFECTS:
            both = [by_key.get((effect, metric)) for metric in METRICS]
            seeds = [str(contrast.n_seeds) for contrast in both if contrast is not None]
            if seeds:
                rows.append(
                    Row(
                        [
                            names.get(effect, effect),
                            seeds[0],
                            *(NOTHING if c is None else _with_interval(c) for c in both),
                        ]
                    )
                )
        header = ["effect", "n", *(f"{name}, 95 %" for name in METRICS.values())]
        blocks.append(Table(f"Effects, {where}", header, rows, right=frozenset({1})))
    return blocks


def _means_table(evidence: Evidence, scores: Sequence[Score], optimiser: str, caption: str) -> Table:
    by_key = {(score.model, score.protocol, score.metric): score for score in scores}
    rows = []
    for model in (WHOLE, TRUNK):
        texts: list[Text | str] = [model]
        for metric in METRICS:
            for augmentation in AUGMENTATIONS:
                score = by_key.get((model, factorial_protocol(optimiser, augmentation), metric))
                texts.append(NOTHING if score is None else _plain(score, evidence.links))
        rows.append(Row(texts))
    header = ["model", *(f"{name}, {kind}" for name in METRICS.values() for kind in AUGMENTATIONS.values())]
    return Table(caption, header, rows)


def _missing(
    evidence: Evidence, wanted_cells: list[tuple[str, str]], have: set[tuple[str, str]], dataset: str
) -> list[Block]:
    """Why cells (protocol, model) are empty, the command that fills what nobody ran, and seeds without scores."""
    cells = [cell for cell in wanted_cells if cell not in have]
    reasons: dict[tuple[Reason, str], list[str]] = {}
    for protocol, model in cells:
        reasons.setdefault((why_missing(evidence, protocol, model, dataset), protocol), []).append(model)
    items = [f"{protocol}: {model_names(models)}: {quoted(why.text)}" for (why, protocol), models in reasons.items()]
    wanted = {(p, m) for p, m in cells if (m, dataset) in {cell[:2] for cell in planned(p, synthetic=False)}}
    is_open = any(why == NOT_RUN for why, _ in reasons)
    command = ["`medbench run --study ablation` runs them."] if is_open and wanted else []
    lost = [
        f"{protocol}: {run.line}"
        for protocol in dict.fromkeys(protocol for protocol, _ in wanted_cells)
        for run in lost_seeds(evidence, protocol, [m for p, m in wanted_cells if p == protocol], dataset)
    ]
    blocks: list[Block] = ["Missing cells:", Bullets(items), *command] if items else []
    return [*blocks, "Planned seeds without scores, and seeds that no study plans:", Bullets(lost)] if lost else blocks
