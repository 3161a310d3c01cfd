"""Tidy tables and Table 3: records -> rows -> files. Trains nothing, imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from bench.datasets import PAPER_DATASETS
from bench.records import SYNTHETIC_PREFIX, Record
from bench.report.evidence import Evidence, first_line
from models.catalog import ModelError, get_spec

SCORE_COLUMNS = ["protocol", "model", "dataset", "seed", "part", "metric", "value", "run_id"]
RUN_COLUMNS = [
    "protocol",
    "model",
    "dataset",
    "seed",
    "status",
    "reason",
    "best_epoch",
    "num_params",
    "train_seconds",
    "images_per_second",
    "peak_memory_mib",
    "device",
    "commit",
    "dirty",
    "record_digest",
    "run_id",
]
PARTS = ("val", "test", "test_twin_free")
KIND_ORDER = {"floor": 0, "sklearn": 1, "network": 2}
STAMP = "SYNTHETIC"


def score_rows(records: Sequence[Record]) -> pd.DataFrame:
    """One measurement a row; `results/README.md` defines the columns."""
    rows = [
        (r.protocol, r.model, r.dataset, r.seed, part, metric, value, r.run_id)
        for r in records
        for part in PARTS
        for metric, value in sorted((getattr(r, part) or {}).items())
    ]
    return pd.DataFrame(rows, columns=SCORE_COLUMNS)


def run_rows(records: Sequence[Record]) -> pd.DataFrame:
    """One run a row: how it ended, what it cost, where it ran."""
    rows = []
    for record in records:
        row = record.model_dump(include=set(RUN_COLUMNS))
        row["reason"] = f"{record.failure.kind}: {record.failure.message}" if record.failure else ""
        rows.append([row[column] for column in RUN_COLUMNS])
    frame = pd.DataFrame(rows, columns=RUN_COLUMNS)
    return frame.astype({"best_epoch": "Int64", "num_params": "Int64"})


def csv_bytes(frame: pd.DataFrame) -> bytes:
    """A table as CSV; floats with all their digits, so that a reader gets the record's number back."""
    return frame.to_csv(index=False, lineterminator="\n").encode()


def model_order(name: str) -> tuple[int, int, str]:
    """Floors first, then what scikit-learn fits, then networks with MedSpectralNet leading."""
    try:
        kind = get_spec(name).kind
    except ModelError:
        kind = "network"
    return KIND_ORDER[kind], 0 if name.startswith("medspectralnet") else 1, name


def cells(records: Sequence[Record]) -> pd.DataFrame:
    """One row a cell (protocol x model x dataset): mean, sample standard deviation and n of AUC and ACC."""
    scores = score_rows(records)
    scores = scores[(scores["part"] != "val") & scores["metric"].isin(["auc", "acc"])]
    grouped = scores.groupby(["protocol", "model", "dataset", "part", "metric"], sort=True)["value"]
    table = grouped.agg(["mean", "std", "count"]).reset_index()
    return table.rename(columns={"std": "sd", "count": "n"})


def table3_rows(records: Sequence[Record]) -> pd.DataFrame:
    """Table 3, tidy: `cells` with models in the tables' order."""
    table = cells(records)
    order = table["model"].map(model_order)
    table = table.assign(_order=order).sort_values(["protocol", "dataset", "_order", "part", "metric"], kind="stable")
    return table.drop(columns="_order").reset_index(drop=True)


def _shown(table: pd.DataFrame, model: str, dataset: str, part: str) -> str:
    """`0.873 / 0.840` (AUC / ACC), with the standard deviation where there are several seeds."""
    cell = table[(table["model"] == model) & (table["dataset"] == dataset) & (table["part"] == part)]
    if cell.empty:
        return "–"
    texts = []
    for metric in ("auc", "acc"):
        row = cell[cell["metric"] == metric]
        mean, sd, n = (row[key].iloc[0] for key in ("mean", "sd", "n")) if len(row) else (float("nan"), 0.0, 0)
        spread = f" ± {sd:.3f}" if n > 1 else ""
        texts.append("n/a" if pd.isna(mean) else f"{mean:.3f}{spread}")
    count = int(cell["n"].max())
    return f"{' / '.join(texts)}" + (f" (n={count})" if count > 1 else "")


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in [header, *rows]
    ]
    rule = "| " + " | ".join("-" * width for width in widths) + " |"
    return [lines[0], rule, *lines[1:]]


def _missing_reasons(evidence: Evidence, protocol: str, models: Sequence[str], datasets: Sequence[str]) -> list[str]:
    """Why cells are empty, grouped by reason."""
    have = {(r.model, r.dataset) for r in evidence.records if r.protocol == protocol}
    told = {(r.model, r.dataset): r for r in evidence.unfinished if r.protocol == protocol}
    reasons: dict[str, list[str]] = {}
    for dataset in datasets:
        for model in models:
            if (model, dataset) in have:
                continue
            record = told.get((model, dataset))
            why = (
                "not run" if record is None or record.failure is None else f"{record.status}: {record.failure.message}"
            )
            reasons.setdefault(f"{dataset}: {why}", []).append(model)
    return [f"- {reason} ({', '.join(names)})" for reason, names in reasons.items()]


def table3_markdown(evidence: Evidence, *, synthetic: bool) -> bytes:
    """Table 3 as Markdown: one section a protocol, floors first, official test and twin-free test.

    Synthetic records get a table of their own, stamped, over the synthetic stand-ins alone.
    """
    records = evidence.finished(synthetic=synthetic)
    datasets = [SYNTHETIC_PREFIX + flag if synthetic else flag for flag in PAPER_DATASETS]
    datasets += sorted({record.dataset for record in records} - set(datasets))
    title = (
        f"# {STAMP}: Table 3 on data made here; proves that the suite works, nothing else" if synthetic else "# Table 3"
    )
    lines = [f"<!-- {first_line(records)} -->", title, ""]
    lines += ["AUC / ACC on the test split, fractions; mean ± sample standard deviation over n seeds."]
    lines += ["Twin-free: without test images that have a near twin (pixel correlation >= 0.99) in train or val.", ""]
    table = table3_rows(records) if records else pd.DataFrame(columns=["protocol", "model", "dataset", "part"])
    if not records:
        lines += ["No records yet.", ""]
    for protocol in sorted(set(table["protocol"])):
        part = table[table["protocol"] == protocol]
        models = sorted(set(part["model"]), key=model_order)
        lines += [f"## Protocol `{protocol}`" + (f" ({STAMP})" if synthetic else ""), ""]
        for name, heading in (("test", "Official test"), ("test_twin_free", "Twin-free test")):
            rows = [[model, *[_shown(part, model, dataset, name) for dataset in datasets]] for model in models]
            lines += [f"### {heading}", "", *_markdown_table(["model", *datasets], rows), ""]
        missing = _missing_reasons(evidence, protocol, models, datasets)
        lines += ["Missing cells:", "", *missing, ""] if missing else []
    return "\n".join(lines).encode()
