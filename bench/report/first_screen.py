"""What a reader sees first: what is measured and what is not, Table 3 and Table 4 in small; Markdown for README.md.

`reports/summary.md` holds it; in a checkout the same text stands in README.md between two marks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from bench.datasets import PAPER_DATASETS
from bench.plan import expand_study
from bench.protocol import load_protocol
from bench.records import Record
from bench.report.analysis import Analysis
from bench.report.analysis_plan import PARTS
from bench.report.claim_values import VERDICTS
from bench.report.evidence import Evidence, first_line
from bench.report.formats import NOTHING, Block, Row, Table, Text, markdown
from bench.report.published import quoted_cost
from bench.report.score_cells import interval_text, measured_text, score_cells
from bench.report.table4 import NUM_CLASSES, SIZE
from bench.report.tables import model_order

BESIDE = re.compile(r"\]\((?!\.\./|https?:)")  # a link to a file of reports/
BEGIN, END = "<!-- measured: written by medbench report -->", "<!-- measured: end -->"
PROTOCOLS = ("lite-96", "paper-224-scratch", "paper-224-imagenet")  # the ones with MedSpectralNet, weakest first
STUDIES = ("lite", "table2", "ablation", "lightweight", "table3")
DESIGN_CARD = ("medspectralnet", "resnet18", "resnet50", "medvit_t", "swin_t", "convnext_t", "medmamba_t")
INITIALISATION = {"scratch": "random weights", "imagenet": "ImageNet-1k weights"}


def render(evidence: Evidence, analysis: Analysis, verdicts: Sequence[tuple[str, int]]) -> dict[str, bytes]:
    """The summary of the real records.

    Args:
        evidence: The results folder.
        analysis: The statistics of its real records.
        verdicts: How many of the paper's claims got which verdict.
    """
    records = evidence.finished(synthetic=False)
    cells = score_cells(analysis.cells)
    cells = cells[~cells["model"].isin(list(PARTS))]
    parts = [_text([_status(records, verdicts)])]
    for protocol in PROTOCOLS:
        if protocol in set(cells["protocol"]):
            parts += _scores(analysis, cells[cells["protocol"] == protocol], protocol)
    parts.append(_text([_costs(evidence)]))
    body = "\n\n".join(parts)
    return {"summary.md": f"<!-- {first_line(records)} -->\n\n{body}\n".encode()}


def _text(blocks: Sequence[Block]) -> str:
    """Blocks as Markdown without a first line; what holds a link of its own is written beside them."""
    return markdown(blocks, "").decode().partition("\n")[2].strip()


def into_readme(readme: str, summary: str) -> str:
    """README.md with the summary between its marks; links lead from the repository's root."""
    head, begin, rest = readme.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        return readme
    body = BESIDE.sub("](reports/", summary.partition("\n")[2].strip()).replace("](../", "](")
    return f"{head}{BEGIN}\n\n{body}\n\n{END}{tail}"


def readme_beside(reports: Path) -> Path | None:
    """The checkout's README.md that shows the summary, None where there is none."""
    path = reports.parent / "README.md"
    return path if path.is_file() and BEGIN in path.read_text(encoding="utf-8") else None


def _status(records: Sequence[Record], verdicts: Sequence[tuple[str, int]]) -> Table:
    """Which sets, which initialisation, how many records and seeds, and what is not reproduced."""
    rows = [Row(["records", f"{len(records)} finished runs of {len({r.model for r in records})} models"])]
    for protocol in sorted({record.protocol for record in records}):
        own = [record for record in records if record.protocol == protocol]
        networks = sorted({r.model for r in own if r.num_params}, key=model_order)
        seeds = sorted({record.seed for record in own if record.num_params})
        start = INITIALISATION[load_protocol(protocol).init.kind]
        text = f"{', '.join(sorted({r.dataset for r in own}))}; {start}; {_listed(networks)}"
        rows.append(Row([f"`{protocol}`", text + (f"; seeds {', '.join(map(str, seeds))}" if seeds else "")]))
    have = {record.dataset for record in records}
    absent = [dataset for dataset in PAPER_DATASETS if dataset not in have]
    if absent:
        rows.append(Row(["no record on", f"{', '.join(absent)}: their files were not at hand"]))
    done = {(r.protocol, r.model, r.dataset, r.seed) for r in records}
    for study in STUDIES:
        runs = expand_study(study)
        left = sum((run.protocol, run.model, run.dataset, run.seed) not in done for run in runs)
        state = f"{len(runs) - left} of {len(runs)} runs; `./run_all.sh {study}` does the rest" if left else "complete"
        rows.append(Row([f"study `{study}`", state]))
    if verdicts:
        told = ", ".join(f"{number} {verdict}" for verdict, number in verdicts if verdict in VERDICTS)
        rows.append(Row(["the paper's claims", Text(told, "claims.md")]))
    return Table("What is measured, and what is not:", ["", ""], rows)


def _listed(networks: Sequence[str]) -> str:
    return f"networks {', '.join(networks)}" if networks else "no network yet"


def _scores(analysis: Analysis, cells: pd.DataFrame, protocol: str) -> list[str]:
    """AUC of each model, floors first: Breast official and twin-free, Pneumonia; intervals and published beside."""
    auc = {(r["model"], r["dataset"], r["part"]): r for _, r in cells[cells["metric"] == "auc"].iterrows()}
    columns = [
        ("breastmnist", "test", "Breast, official"),
        ("breastmnist", "test_twin_free", "Breast, twin-free"),
        ("pneumoniamnist", "test", "Pneumonia"),
    ]
    columns = [column for column in columns if any(key[1:] == column[:2] for key in auc)]
    rows = []
    for model in sorted({key[0] for key in auc}, key=model_order):
        first = auc.get((model, "breastmnist", "test"))
        texts: list[Text | str] = [model, "" if first is None else str(first["n_seeds"])]
        for dataset, part, _ in columns:
            texts += _measured(auc.get((model, dataset, part)))
        texts.append(NOTHING if first is None or pd.isna(first["published"]) else f"{first['published']:.3f}")
        rows.append(Row(texts))
    header = ["AUC", "n", *[text for _, _, name in columns for text in (name, "95 %")], "published, Breast"]
    resolution = analysis.resolution[analysis.resolution["metric"] == "auc"].drop_duplicates(["dataset", "part"])
    gaps = [
        f"{name} {row.smallest_difference:.3f}"
        for dataset, part, name in columns
        for row in resolution[(resolution["dataset"] == dataset) & (resolution["part"] == part)].itertuples()
    ]
    notes = (
        f"≈ shares the lead: no test separates it from the highest value. n: seeds. Smallest AUC difference that the "
        f"images could show around 0.9: {', '.join(gaps)}. Published numbers come from other protocols. All cells with "
        "accuracy: [Table 3](table3.md); statistics fixed beforehand: [analysis plan](../results/ANALYSIS_PLAN.md)."
    )
    forest = f"![Differences in AUC with intervals](figures/forest__{protocol}.svg)"
    table = Table(f"Table 3 in small, protocol `{protocol}`: AUC with 95 % intervals.", header, rows)
    return [_text([table]), notes, forest]


def _measured(row: pd.Series | None) -> list[Text | str]:
    return [NOTHING, ""] if row is None else [measured_text(row), interval_text(row["ci_low"], row["ci_high"])]


def _costs(evidence: Evidence) -> Table:
    """Table 4 in four columns, for the models of the comparison."""
    records, _ = evidence.costs
    shown = {r.model: r for r in records if (r.img_size, r.num_classes) == (SIZE, NUM_CLASSES)}
    rows = []
    for model in _known(shown):
        quoted, record = quoted_cost(model), shown[model]
        params = NOTHING if quoted is None or pd.isna(quoted.num_params_m) else f"{quoted.num_params_m:g}"
        gmacs = NOTHING if quoted is None or pd.isna(quoted.gmacs) else f"{quoted.gmacs:g}"
        counted = record.count("thop").macs / 1e9
        aten = record.count("aten").macs / 1e9
        sizes = [f"{params} / {record.num_params / 1e6:.2f}", f"{gmacs} / {counted:.3f}", f"{aten:.3f}"]
        rows.append(Row([model, *sizes]))
    header = ["model", "M parameters, published / counted", "GMACs, published / thop", "GMACs, aten"]
    return Table(
        f"Table 4 in small, {SIZE} px, K = {NUM_CLASSES}: parameters and multiply-accumulates.",
        header,
        rows,
        frozenset({1, 2, 3}),
    )


def _known(shown: Iterable[str]) -> list[str]:
    return sorted(set(shown) & {*DESIGN_CARD, "medspectralnet_8m5"}, key=model_order)
