"""Model cards: what a model is, what it may be used for, what was measured of it; from catalogue and records."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from bench.records.cost_record import COUNTERS, CostRecord
from bench.records.names import model_slug
from bench.records.own_models import own_models, own_spec
from bench.records.run_record import Record
from bench.report.ablations import FACTORS, STARTED, STARTS, is_compared
from bench.report.analysis.analyse import Analysis
from bench.report.analysis.scores import EpochScore, Score
from bench.report.analysis_plan import PARTS
from bench.report.claims.terms import SIZE
from bench.report.evidence import Evidence, first_line
from bench.report.formats import NOTHING, Block, Bullets, Heading, Row, Table, Text, markdown, quoted
from bench.report.links import Links
from bench.report.published.names import dataset_name, dataset_names, model_name
from bench.report.published.numbers import quoted_cost
from bench.report.site.layout import document
from bench.report.tables.missing import lost_seeds, missing_groups, planned
from bench.report.tables.score_cells import METRICS, READING, TEST_PARTS, UNITS, value_text
from bench.report.tables.table4 import NUM_CLASSES, notes_of
from bench.report.tidy import STAMP, grouped, model_order, paper_datasets
from models.catalog import HERE, ModelSpec

NOT_FOR_DIAGNOSIS = (
    "Not for diagnosis. Trained and scored on small public images for the comparison of methods; nobody has examined "
    "it for clinical use, and its scores say nothing about patients."
)
TRAINED = (
    "All random streams come from hashes of names: initialisation from (model, data set, seed), batches and "
    "augmentation from (data set, seed, epoch, step), so that adding a model moves no other's numbers. A run uses one "
    "CPU thread; on any x86-64 CPU with AVX2 and the same package versions a repeated run, and one that was killed and "
    "resumed, is equal bit for bit. Runs without recorded arithmetic are named under the tables. On a GPU nothing of "
    "this is promised."
)
FITTED_TEXT = (
    "Fitted on train alone, in one pass; it comes out the same for every seed, so there is one run a data set."
)


def render(evidence: Evidence, analysis: Analysis, *, synthetic: bool) -> dict[str, bytes]:
    """`models/<slug>.md` and its page for every model of the suite, and for others that have a finished run.

    On synthetic data only those others have one, `models/SYNTHETIC_<slug>.md`: what they are stands in no catalogue.
    """
    costs = grouped(evidence.costs[0], lambda cost: cost.model)
    by_model = grouped(evidence.finished(synthetic=synthetic), lambda record: record.model)
    scores = grouped(analysis.table_scores, lambda score: score.model)
    files, links = {}, evidence.links.below()
    own = own_models()
    named = [] if synthetic else own
    for name in sorted({*named, *(by_model.keys() - set(own))}, key=model_order):
        records, counted = by_model.get(name, []), costs.get(name, [])
        spec = own_spec(name) or ModelSpec(name=name, file=Path(), function="")
        blocks = [
            *(_identity(spec) if own_spec(name) else _recorded_identity(name, records, synthetic=synthetic)),
            *_sizes(spec, counted, links),
            *_scores(evidence, spec, scores.get(name, []), synthetic=synthetic),
            *_epochs([row for row in analysis.epochs if row.model == name]),
        ]
        blocks += [*_determinism(spec, records), *_data(evidence, records)]
        prefix, stamp = (f"{STAMP}_", f"{STAMP} | ") if synthetic else ("", "")
        line = f"{stamp}{first_line([*records, *counted])}"
        path = f"models/{prefix}{model_slug(name)}"
        files[f"{path}.md"] = markdown(blocks, line)
        files |= document(f"{path}.html", blocks, line, [f"{path}.md"], synthetic=synthetic)
    return files


def _recorded_identity(name: str, records: Sequence[Record], *, synthetic: bool) -> list[Block]:
    """Of a model that is not the suite's: what its records say, whether its file is here or not."""
    counts = sorted({record.num_params for record in records if record.num_params is not None})
    items = [
        "Kind: a network that is not the suite's; paper, source and licences stand in its own file",
        f"Its code: fingerprint `{records[0].model_fingerprint[:16]}`",
        f"Parameters, as trained: {', '.join(f'{count:,}' for count in counts) or 'not recorded'}",
    ]
    title = f"{STAMP}: model card: {name}" if synthetic else f"Model card: {name}"
    return [Heading(title, 1), NOT_FOR_DIAGNOSIS, Bullets(items)]


def _identity(spec: ModelSpec) -> list[Block]:
    kinds = {"network": "a network", "floor": "a floor: what a model has to beat", "sklearn": "fitted by scikit-learn"}
    where = f"{'models' if spec.file.parent == HERE else 'bench'}/{spec.file.name}"
    items = [
        f"Registered as: `{spec.name}`",
        f"Kind: {kinds[spec.kind]}",
        f"Paper: {spec.paper or 'none named'}",
        f"Source: {spec.source or 'not stated'}; the code is `{where}`",
        f"Deviations from the paper: {spec.differs or 'none stated'}",
        f"Licence of the code: {spec.code_license or 'not stated'}",
        f"Licence of the weights: {spec.weights_license}",
        f"Public weights: {f'timm tag `{spec.pretrained_tag}`' if spec.pretrained_tag else 'none are used'}",
        f"Images: {spec.sizes}",
    ]
    if spec.kind != "network":
        items = items[:-2]
    elif spec.target_layer:
        items.append(f"Grad-CAM reads: `{spec.target_layer}`")
    return [Heading(f"Model card: {model_name(spec.name)}", 1), NOT_FOR_DIAGNOSIS, Bullets(items)]


def _sizes(spec: ModelSpec, costs: Sequence[CostRecord], links: Links) -> list[Block]:
    """Claimed, published and counted parameters and MACs."""
    if spec.kind != "network":
        return []
    items = [f"Registered: {spec.num_params:,} parameters with 8 classes at 224 px" if spec.num_params else ""]
    quoted_row = quoted_cost(spec.name)
    if quoted_row is not None:
        numbers = {"M parameters": quoted_row.num_params_m, "GMACs": quoted_row.gmacs}
        counts = ", ".join(f"{value:g} {unit}" for unit, value in numbers.items() if value == value)
        about = f"{quoted_row.source_kind}, {quoted_row.resolution} px: {quoted_row.source}"
        items.append(f"Published as {quoted_row.name}: {counts} ({about})")
    items += [f"Note: {note}" for note in notes_of(spec.name) if note != spec.differs]
    rows = [
        Row([*_count_cells(record, links), *(f"{record.count(counter).macs / 1e9:.3f}" for counter in COUNTERS)])
        for record in sorted(costs, key=lambda record: (record.img_size, record.num_classes))
    ]
    header = ["px", "K", "parameters", *(f"GMACs, {counter}" for counter in COUNTERS)]
    blocks: list[Block] = [Heading("Size"), Bullets([item for item in items if item])]
    if rows:
        return [*blocks, Table("Counted here, 3 channels, one image", header, rows, frozenset(range(len(header))))]
    command = f"medbench measure costs --size {SIZE} --num-classes {NUM_CLASSES} --models {spec.name}"
    return [*blocks, f"Not counted yet: `{command}`"]


def _count_cells(record: CostRecord, links: Links) -> list[Text | str]:
    link = links.to_costs(record.model, record.img_size, record.num_classes)
    size, classes = str(record.img_size), str(record.num_classes)
    return [size, classes, Text(f"{record.num_params:,}", link)]


def _scores(evidence: Evidence, spec: ModelSpec, scores: Sequence[Score], *, synthetic: bool) -> list[Block]:
    """What was measured, and what the studies still want."""
    groups = grouped(scores, lambda score: (score.protocol, score.dataset))
    rows = []
    for (protocol, dataset), group in sorted(groups.items()):
        values = {(score.part, score.metric): _value(score, evidence.links.below()) for score in group}
        texts: list[Text | str] = [protocol, dataset, str(max(score.n_seeds for score in group))]
        texts += [values.get((part, metric), NOTHING) for part in TEST_PARTS for metric in METRICS]
        rows.append(Row(texts))
    header = ["protocol", "data set", "n"]
    header += [f"{title}, {part}" for part in TEST_PARTS.values() for title in METRICS.values()]
    blocks: list[Block] = [Heading("Measured scores")]
    if rows:
        where = _where(spec, {protocol for protocol, _ in groups})
        blocks += [
            f"{UNITS} Shown: {READING} {where.replace('`table3', f'`{STAMP}_table3') if synthetic else where}",
            Table("", header, rows),
        ]
    else:
        blocks.append("No record of a run on real data yet.")
    if synthetic:
        return blocks
    missing = [line for protocol in _protocols(groups) for line in _missing(evidence, spec, protocol, groups)]
    return [*blocks, "Missing:", Bullets(missing)] if missing else blocks


def _epochs(rows: Sequence[EpochScore]) -> list[Block]:
    """Scores at the chosen epochs beside those after the last: what choosing on val favours."""
    if not rows:
        return []
    keys = grouped(rows, lambda row: (row.protocol, row.dataset))
    table = []
    for (protocol, dataset), group in sorted(keys.items()):
        first, by_metric = group[0], {row.metric: row for row in group}
        texts = [protocol, dataset, str(first.n_seeds), f"{first.best_epoch:.1f} of {first.num_epochs:g}"]
        for metric in METRICS:
            row = by_metric[metric]
            texts += [value_text(value, math.nan) for value in (row.val, row.val_last, row.test)]
            texts.append(NOTHING if math.isnan(row.test_last) else value_text(row.test_last, math.nan))
        table.append(Row(texts))
    header = ["protocol", "data set", "n", "epoch (from 0)"]
    header += [f"{name} {what}" for name in METRICS.values() for what in ("val", "val, last", "test", "test, last")]
    text = (
        "Means over seeds at the epoch that val chose, beside those after the last epoch. The chosen epoch is the best "
        "of all on val, so val is favoured there; test after the last epoch is scored under protocols with "
        "`score_last` alone, and chooses nothing."
    )
    return [Heading("Chosen and last epoch"), text, Table("", header, table)]


def _where(spec: ModelSpec, protocols: set[str]) -> str:
    """Which tables hold the intervals of these cells."""
    compared = any(map(is_compared, protocols))
    named = ["`table3.md`"] if compared and spec.name not in PARTS else []
    named += ["`ablation.md`"] if compared and spec.name in PARTS else []
    named += ["`table2.md` and `ablation.md`"] if protocols & FACTORS.keys() else []
    named += ["`initialisation.md`"] if spec.name in {model for model, _ in STARTED} else []
    return f"Intervals stand in {', '.join(named)}." if named else ""


def _value(score: Score, links: Links) -> Text:
    link = links.to_records(score.protocol, score.model, score.dataset, score.seeds)
    return Text(value_text(score.mean, score.sd), link)


def _protocols(have: Iterable[tuple[str, str]]) -> list[str]:
    return sorted({*(protocol for protocol, _ in have), "paper-224-imagenet", "paper-224-scratch", *STARTS})


def _missing(evidence: Evidence, spec: ModelSpec, protocol: str, have: Collection[tuple[str, str]]) -> list[str]:
    wanted = {dataset for model, dataset, _ in planned(protocol, synthetic=False) if model == spec.name}
    ordered = [name for name in paper_datasets(synthetic=False) if name in wanted]  # whichever study names it first
    ordered += sorted(wanted - set(ordered))
    cells = [(spec.name, dataset) for dataset in ordered if (protocol, dataset) not in have]
    lines = [f"{dataset_names(g.datasets)}: {quoted(g.reason)}" for g in missing_groups(evidence, protocol, cells)]
    lines += [f"{dataset_name(item.dataset)}: {item.what}" for item in lost_seeds(evidence, protocol, [spec.name])]
    return [f"`{protocol}`: {line}" for line in lines]


def _determinism(spec: ModelSpec, records: Sequence[Record]) -> list[Block]:
    text = TRAINED if spec.kind == "network" else FITTED_TEXT
    facts = {
        "Devices of the records": sorted({record.device for record in records if record.device}),
        "Threads": sorted({str(record.num_threads) for record in records if record.num_threads}),
        "Selective scan": sorted({record.scan_backend for record in records if record.scan_backend}),
    }
    items = [f"{name}: {'; '.join(map(quoted, values))}" for name, values in facts.items() if values]
    return [Heading("Determinism"), text, *([Bullets(items)] if items else [])]


def _data(evidence: Evidence, records: Sequence[Record]) -> list[Block]:
    """Licences of the data that the records were made with."""
    cards: Mapping[str, str] = {
        name: f"{dataset_name(name)}: {quoted(card.license)}; {quoted(card.citation)}"
        for name, card in sorted(evidence.cards.items())
        if name in {record.dataset for record in records}
    }
    return [Heading("Data"), Bullets(list(cards.values())) if cards else "None was used yet."]
