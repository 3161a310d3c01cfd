"""`reports/summary.md`: the answer so far, what is measured set by set, a condensed Table 3 and Table 4."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from bench.data.names import PAPER_DATASETS
from bench.plan.selection import expand_study
from bench.records.own_models import own_models
from bench.records.run_record import Record
from bench.report.analysis.analyse import Analysis
from bench.report.analysis.scores import Score
from bench.report.analysis_plan import PARTS
from bench.report.claims.terms import SIZE
from bench.report.evidence import Evidence, first_line
from bench.report.formats import NOTHING, Row, Table, Text, markdown_text
from bench.report.links import Links
from bench.report.published.names import dataset_name, dataset_names, model_names
from bench.report.published.numbers import quoted_cost
from bench.report.site.readme_answer import answer_text
from bench.report.tables.score_cells import interval_text, measured_text, smallest_text
from bench.report.tables.table4 import NUM_CLASSES
from bench.report.tidy import grouped, model_order, seed_list, seeds_text
from bench.stats.power import POWER

PROTOCOLS = ("lite-96", "paper-224-scratch", "paper-224-imagenet")  # the ones with MedSpectralNet, weakest first
DESIGN_CARD = ("medspectralnet", "resnet18", "resnet50", "medvit_t", "swin_t", "convnext_t", "medmamba_t")
INITIALISATION = {"scratch": "random weights", "imagenet": "ImageNet-1k weights"}
STUDIES = ("lite", "table2", "ablation", "lightweight", "table3")
UNKNOWN_START = "weights as the model's own file leaves them"


def render(evidence: Evidence, analysis: Analysis, claims: str) -> dict[str, bytes]:
    """`summary.md` of the real records; arguments as `summary_text`'s."""
    answer = answer_text(evidence, analysis, claims, evidence.links)
    body = f"{answer}\n\n{summary_text(evidence, analysis, claims, evidence.links)}"
    line = first_line(evidence.finished(synthetic=False))
    return {"summary.md": f"<!-- {line} -->\n\n{body}\n".encode()}


def summary_text(evidence: Evidence, analysis: Analysis, claims: str, links: Links) -> str:
    """The summary of the real records as Markdown, without a first line.

    Args:
        evidence: The results folder.
        analysis: The statistics of its real records.
        claims: How many of the paper's claims got which verdict, and by what; "" for no such row.
        links: Of the page that shows it.
    """
    scores = [s for s in analysis.table_scores if s.metric == "auc" and s.model not in PARTS]
    parts = [markdown_text([_status(evidence, claims, links)])]
    for protocol in PROTOCOLS:
        parts += _scores(analysis, [score for score in scores if score.protocol == protocol], protocol, links)
    parts.append(markdown_text([_costs(evidence)]))
    return "\n\n".join(parts).strip()


def study_counts(records: Iterable[Record]) -> list[tuple[str, int, int]]:
    """(study, runs that are done, runs that it plans)."""
    done = {(r.protocol, r.model, r.dataset, r.seed) for r in records}
    runs = {study: expand_study(study) for study in STUDIES}
    return [(s, sum((r.protocol, r.model, r.dataset, r.seed) in done for r in runs[s]), len(runs[s])) for s in STUDIES]


def _status(evidence: Evidence, claims: str, links: Links) -> Table:
    """Which sets, which initialisation, how many records and seeds, and what is not reproduced."""
    records, thinned = evidence.finished(synthetic=False), evidence.thinned(synthetic=False)
    rows = [Row(["records", evidence.counted(synthetic=False)])]
    if thinned:
        rows.append(Row(["of them with rare classes or few images", f"{len(thinned)}, in no mean of this page"]))
    for protocol in sorted({record.protocol for record in records}):
        own = [record for record in records if record.protocol == protocol]
        start = INITIALISATION[own[0].resolved_protocol["init"]["kind"]]
        for dataset in sorted({record.dataset for record in own}):
            rows.append(Row([f"`{protocol}`, {dataset_name(dataset)}", _initialised(start, own, dataset)]))
    have = {record.dataset for record in records}
    absent = [dataset for dataset in PAPER_DATASETS if dataset not in have]
    if absent:
        where = "their files are taken from $MEDMNIST_ROOT, else downloaded"
        rows.append(Row(["no record on", f"{dataset_names(absent)}: {where}"]))
    for study, done, runs in study_counts(records):
        state = f"{done} of {runs} runs; `./run_all.sh {study}` does the rest" if done < runs else "complete"
        rows.append(Row([f"study `{study}`", state]))
    if claims:
        rows.append(Row(["the paper's claims", Text(claims, links.to_report("claims.md"))]))
    return Table("What is measured, and what is not:", ["", ""], rows)


def _initialised(start: str, records: Sequence[Record], dataset: str) -> str:
    """The networks by how they start; what is not the suite's did not have to pass the contract to be recorded."""
    known = set(own_models())
    here = [record for record in records if record.dataset == dataset]
    ours, others = ([record for record in here if (record.model in known) is own] for own in (True, False))
    parts = [f"{start}; {_networks(ours, dataset)}"] if not others or any(r.num_params for r in ours) else []
    return "; ".join([*parts, f"{UNKNOWN_START}; {_networks(others, dataset)}"] if others else parts)


def _networks(records: Sequence[Record], dataset: str) -> str:
    """The networks that ran on a data set, by the seeds that each has: most seeds first."""
    networks = sorted((r for r in records if r.dataset == dataset and r.num_params), key=lambda record: record.seed)
    runs = grouped(networks, lambda record: record.model)
    models = sorted(runs, key=lambda model: (-len(runs[model]), model_order(model)))
    groups = grouped(models, lambda model: tuple(record.seed for record in runs[model]))
    texts = [f"{seed_list(group)} of {model_names(models)}" for group, models in groups.items()]
    return "; ".join(texts) or "no network yet"


def _scores(analysis: Analysis, scores: Sequence[Score], protocol: str, links: Links) -> list[str]:
    """AUC of each model, floors first: Breast official and twin-free, Pneumonia; intervals and published beside."""
    auc = {(score.model, score.dataset, score.part): score for score in scores}
    columns = [
        ("breastmnist", "test", "Breast, official"),
        ("breastmnist", "test_twin_free", "Breast, twin-free"),
        ("pneumoniamnist", "test", "Pneumonia"),
    ]
    columns = [column for column in columns if any(key[1:] == column[:2] for key in auc)]
    if not columns:
        return []
    rows = []
    for model in sorted({key[0] for key in auc if key[1] in {name for name, _, _ in columns}}, key=model_order):
        first = auc.get((model, "breastmnist", "test"))
        texts: list[Text | str] = [model]
        for dataset, part, _ in columns:
            score = auc.get((model, dataset, part))
            seeds = NOTHING if score is None else seeds_text(protocol, model, dataset, score.n_seeds)
            texts += [seeds] if part == "test" else []
            texts += _measured(score, links)
        texts.append(f"{first.reference.value:.3f}" if first and first.reference else NOTHING)
        rows.append(Row(texts))
    header = ["AUC"]
    for _, part, name in columns:
        header += [*(["n"] if part == "test" else []), name, "95 %"]
    header.append("published, Breast")
    smallest: dict[tuple[str, str], str] = {}
    for row in analysis.resolution:
        if (row.protocol, row.metric) == (protocol, "auc"):
            smallest.setdefault((row.dataset, row.part), smallest_text(row))
    fixed = links.to_document("ANALYSIS_PLAN.md")
    gaps = [f"{name} {smallest[dataset, part]}" for dataset, part, name in columns if (dataset, part) in smallest]
    notes = (
        "≈: may be the best of the column, by a confidence set that holds the best at 95 %; bold: alone in it; one "
        "seed excludes nobody. n: seeds, in both Breast columns the same. Smallest AUC difference found with a power "
        f"of {POWER:g}: {'; '.join(gaps)}. Published numbers come from other protocols. All cells with "
        f"accuracy: [Table 3]({links.to_report('table3.md')}); statistics and their dated changes: "
        f"{f'[analysis plan]({fixed})' if fixed else 'analysis plan'}."
    )
    table = Table(f"Table 3, condensed, protocol `{protocol}`: AUC with 95 % intervals.", header, rows)
    return [markdown_text([table]), notes]


def _measured(score: Score | None, links: Links) -> list[Text | str]:
    return [NOTHING, ""] if score is None else [measured_text(score, links), interval_text(score.ci_low, score.ci_high)]


def _costs(evidence: Evidence) -> Table:
    """Table 4 in four columns, for the models of the comparison."""
    records, _ = evidence.costs
    shown = {r.model: r for r in records if (r.img_size, r.num_classes) == (SIZE, NUM_CLASSES)}
    rows = []
    for model in _known(shown):
        quoted, record = quoted_cost(model), shown[model]
        params = NOTHING if quoted is None or math.isnan(quoted.num_params_m) else f"{quoted.num_params_m:g}"
        gmacs = NOTHING if quoted is None or math.isnan(quoted.gmacs) else f"{quoted.gmacs:g}"
        counted = record.count("thop").macs / 1e9
        aten = record.count("aten").macs / 1e9
        sizes = [f"{params} / {record.num_params / 1e6:.2f}", f"{gmacs} / {counted:.3f}", f"{aten:.3f}"]
        rows.append(Row([model, *sizes]))
    header = ["model", "M parameters, published / counted", "GMACs, published / thop", "GMACs, aten"]
    return Table(
        f"Table 4, condensed, {SIZE} px, K = {NUM_CLASSES}: parameters and multiply-accumulates.",
        header,
        rows,
        frozenset({1, 2, 3}),
    )


def _known(shown: Iterable[str]) -> list[str]:
    return sorted(set(shown) & {*DESIGN_CARD, "medspectralnet_8m5"}, key=model_order)
