"""What MedSpectralNet's parts add, and whose gain it is: two comparisons that the paper lacks.

Parts are removed one at a time under one recipe; and {trunk, whole model} x {plain, CutMix} under one optimiser tells
the architecture's share of a gain from the augmentation's. Both are exploratory by the analysis plan.
"""

from __future__ import annotations

import pandas as pd

from bench.records.names import SYNTHETIC_PREFIX
from bench.report.ablations import FACTORS, factorial_protocol
from bench.report.analysis.analyse import Analysis
from bench.report.analysis.contrasts import EFFECTS, TRUNK, WHOLE
from bench.report.analysis_plan import PARTS
from bench.report.evidence import Evidence
from bench.report.formats import NOTHING, Block, Bullets, Heading, Row, Table, Text, quoted, signed
from bench.report.links import Links
from bench.report.tables.score_cells import (
    METRICS,
    READING,
    UNITS,
    measured_text,
    resolution_text,
    score_cells,
    signed_interval,
    table_files,
)
from bench.report.tables.table2 import AUGMENTATIONS, OPTIMISERS
from bench.report.tables.table3 import missing_rows
from bench.report.tidy import NOT_RUN, STAMP, lost_lines, planned, why_missing

PROTOCOL, DATASET = "lite-96", "breastmnist"
NAMES = {WHOLE: "nothing", **PARTS, TRUNK: "all three: the trunk alone"}


def render(evidence: Evidence, analysis: Analysis, *, synthetic: bool) -> dict[str, bytes]:
    """`ablation.md`, `ablation.tex` and `ablation.csv`; on data made here only where a part was removed, stamped."""
    cells = score_cells(analysis.cells)
    cells = cells[(cells["part"] == "test") & cells["model"].isin(list(NAMES))]
    is_factorial = cells["protocol"].isin(list(FACTORS))
    factorial = cells[is_factorial]
    dataset = f"{SYNTHETIC_PREFIX}{DATASET}" if synthetic else DATASET
    removed = _with_parts(cells[~is_factorial], dataset)
    if synthetic and not set(removed["model"]) & PARTS.keys():
        return {}
    stamp = f" ({STAMP})" if synthetic else ""
    blocks: list[Block] = [Heading(f"What the parts add{stamp}", 1), _reading(), Heading(f"Parts removed{stamp}")]
    rows = [removed]
    groups = dict.fromkeys([(PROTOCOL, dataset), *zip(removed["protocol"], removed["dataset"], strict=True)])
    for protocol, name in groups:
        found = removed[(removed["protocol"] == protocol) & (removed["dataset"] == name)]
        blocks += [resolution_text(analysis.resolution, "test", metric, [name], notes=True) for metric in METRICS]
        blocks.append(_parts_table(evidence, analysis, found, f"{name}, official test, {protocol}{stamp}"))
        have = {(protocol, model) for model in found["model"]}
        rows.append(missing_rows(evidence, protocol, [(m, name) for m in NAMES if (protocol, m) not in have]))
        blocks += _missing(evidence, [(protocol, model) for model in NAMES], have, name)
    blocks += [Heading(f"Whose gain: the parts' or CutMix's?{stamp}"), _factors(evidence)]
    wanted = {(protocol, model) for protocol in _factorial_protocols() for model in (WHOLE, TRUNK)}
    for name in dict.fromkeys([dataset, *factorial["dataset"]]):
        found = factorial[factorial["dataset"] == name]
        have = set(zip(found["protocol"], found["model"], strict=True))
        blocks += _factorial(evidence, analysis, found, name, stamp)
        rows.append(found)
        asked = sorted(wanted if name == DATASET else wanted & have)
        rows += [missing_rows(evidence, p, [(model, name)]) for p, model in asked if (p, model) not in have]
        blocks += _missing(evidence, asked, have, name)
    seen = _run_ids(removed) | _run_ids(factorial)
    records = [record for record in evidence.finished(synthetic=synthetic) if record.run_id in seen]
    return table_files("ablation", [block for block in blocks if block != ""], rows, records, synthetic=synthetic)


def _with_parts(cells: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """Cells of the study's protocol and data set, and of others under which at least one part was removed."""
    keys = {(row["protocol"], row["dataset"]) for _, row in cells.iterrows() if row["model"] in PARTS}
    keys.add((PROTOCOL, dataset))
    chosen = [key in keys for key in zip(cells["protocol"], cells["dataset"], strict=True)]
    return cells[pd.Series(chosen, index=cells.index, dtype=bool)]


def _run_ids(cells: pd.DataFrame) -> set[str]:
    return {run for runs in cells["run_ids"] for run in runs.split()}


def _factorial_protocols() -> list[str]:
    return [factorial_protocol("adam", augmentation) for augmentation in AUGMENTATIONS]


def _reading() -> str:
    return (
        f"{UNITS} Shown: {READING} Differences are paired over common seeds and test images. All of it is exploratory "
        "by the analysis plan, without a correction for how many are looked at, but the AUC difference to "
        f"{TRUNK}: that is one of the plan's comparisons, and its verdict is by Holm's p. The paper has no such table. "
        f"M: millions of parameters. Lead: {WHOLE} less the model of the row; verdict: what {WHOLE} is beside it."
    )


def _factors(evidence: Evidence) -> str:
    imagenet = any(record.protocol == "paper-224-imagenet" for record in evidence.records)
    return (
        f"Cells: {WHOLE} and {TRUNK}, its trunk, each with and without CutMix, one optimiser. Interaction: what CutMix "
        f"does for {WHOLE} less what it does for {TRUNK}. The third factor, ImageNet weights, is `paper-224-imagenet`"
        f"{'.' if imagenet else ', which has no record: its weights could not be had where these runs were made.'}"
    )


def _parts_table(evidence: Evidence, analysis: Analysis, cells: pd.DataFrame, caption: str) -> Table:
    """A row a model: what is missing from it, what it scores, and the whole model's lead over it."""
    pairs = analysis.pairs[(analysis.pairs["model"] == WHOLE) & (analysis.pairs["part"] == "test")]
    shown = _run_ids(cells)
    sizes = {r.model: r.num_params for r in evidence.records if r.num_params and r.run_id in shown}
    rows = []
    for model, without in NAMES.items():
        own = {row["metric"]: row for _, row in cells[cells["model"] == model].iterrows()}
        size = f"{sizes[model] / 1e6:.2f}" if model in sizes else NOTHING
        texts: list[Text | str] = [model, without, size, str(max((r["n_seeds"] for r in own.values()), default=0))]
        for metric in METRICS:
            row = own.get(metric)
            texts.append(NOTHING if row is None else _plain(row, evidence.links))
            pair = None if row is None else _pair(pairs, row)
            texts += [NOTHING, ""] if pair is None else [_with_interval(pair), str(pair["verdict"])]
        rows.append(Row(texts))
    header = ["model", "without", "M", "n"]
    header += [text for name in METRICS.values() for text in (name, "lead, 95 %", "verdict")]
    return Table(caption, header, rows, right=frozenset({2, 3}))


def _plain(row: pd.Series, links: Links) -> Text:
    """A measured cell without the mark that it has among all models of Table 3."""
    found = measured_text(row, links)
    return Text(found.text.removesuffix(" ≈"), found.link)


def _pair(pairs: pd.DataFrame, row: pd.Series) -> pd.Series | None:
    chosen = pairs["baseline"] == row["model"]
    for name in ("protocol", "dataset", "metric"):
        chosen &= pairs[name] == row[name]
    found = pairs[chosen]
    return None if found.empty else found.iloc[0]


def _with_interval(row: pd.Series) -> str:
    """`+0.012 (−0.010 to +0.034)`."""
    return f"{signed(row['difference'])} ({signed_interval(row)})"


def _factorial(evidence: Evidence, analysis: Analysis, cells: pd.DataFrame, dataset: str, stamp: str) -> list[Block]:
    """Means and effects of each optimiser under which both models ran."""
    contrasts = analysis.contrasts
    contrasts = contrasts[(contrasts["dataset"] == dataset) & (contrasts["part"] == "test")]
    blocks: list[Block] = []
    for optimiser, found in contrasts.groupby("optimiser", sort=True):
        if not any(effect.startswith("model") for effect in found["effect"]):
            continue  # one model alone: Table 2 has its gain
        where = f"{dataset}, official test, {OPTIMISERS.get(str(optimiser), optimiser)}{stamp}"
        blocks.append(_means_table(evidence, cells, str(optimiser), f"Means, {where}"))
        by_key = {(row["effect"], row["metric"]): row for _, row in found.iterrows()}
        rows = []
        for effect in (name for name in EFFECTS if (name, "auc") in by_key or (name, "acc") in by_key):
            both = [by_key.get((effect, metric)) for metric in METRICS]
            seeds = next(str(row["n_seeds"]) for row in both if row is not None)
            rows.append(Row([effect, seeds, *(NOTHING if row is None else _with_interval(row) for row in both)]))
        header = ["effect", "n", *(f"{name}, 95 %" for name in METRICS.values())]
        blocks.append(Table(f"Effects, {where}", header, rows, right=frozenset({1})))
    return blocks


def _means_table(evidence: Evidence, cells: pd.DataFrame, optimiser: str, caption: str) -> Table:
    by_key = {(row["model"], row["protocol"], row["metric"]): row for _, row in cells.iterrows()}
    rows = []
    for model in (WHOLE, TRUNK):
        texts: list[Text | str] = [model]
        for metric in METRICS:
            for augmentation in AUGMENTATIONS:
                row = by_key.get((model, factorial_protocol(optimiser, augmentation), metric))
                texts.append(NOTHING if row is None else _plain(row, evidence.links))
        rows.append(Row(texts))
    header = ["model", *(f"{name}, {kind}" for name in METRICS.values() for kind in AUGMENTATIONS.values())]
    return Table(caption, header, rows)


def _missing(
    evidence: Evidence, wanted_cells: list[tuple[str, str]], have: set[tuple[str, str]], dataset: str
) -> list[Block]:
    """Why cells (protocol, model) are empty, the command that fills what nobody ran, and seeds without scores."""
    cells = [cell for cell in wanted_cells if cell not in have]
    reasons: dict[tuple[str, str], list[str]] = {}
    for protocol, model in cells:
        reasons.setdefault((why_missing(evidence, protocol, model, dataset), protocol), []).append(model)
    items = [f"{protocol}: {', '.join(models)}: {quoted(why)}" for (why, protocol), models in reasons.items()]
    wanted = {(p, m) for p, m in cells if (m, dataset) in {found[:2] for found in planned(p, synthetic=False)}}
    is_open = any(why == NOT_RUN for why, _ in reasons)
    command = ["`medbench run --study ablation` runs them."] if is_open and wanted else []
    lost = [
        f"{protocol}: {line}"
        for protocol in dict.fromkeys(protocol for protocol, _ in wanted_cells)
        for line in lost_lines(evidence, protocol, [m for p, m in wanted_cells if p == protocol], dataset)
    ]
    blocks: list[Block] = ["Missing cells:", Bullets(items), *command] if items else []
    return [*blocks, "Runs without scores, beside the seeds that finished:", Bullets(lost)] if lost else blocks
