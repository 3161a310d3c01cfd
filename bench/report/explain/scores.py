"""`medbench explain`: where a cell of a table comes from, down to records, digests, commit, hardware and formula."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.data.names import flag_of
from bench.errors import RecordError, suggestion
from bench.protocols.loading import list_protocols, load_protocol
from bench.records.names import SYNTHETIC_PREFIX, Run
from bench.records.run_record import Record, existing_folder
from bench.report.ablations import FACTORS
from bench.report.analysis.analyse import analyse
from bench.report.analysis.scores import Score
from bench.report.evidence import Evidence, gather
from bench.report.explain.costs import COST_METRICS, explain_cost
from bench.report.formats import signed
from bench.report.published.rows import row_id
from bench.report.tables.missing import fill_command, planned, why_missing
from bench.report.tables.score_cells import METRICS, TEST_PARTS, interval_text, value_text
from models.catalog import ModelError, get_spec

TABLES = ("table2", "table3", "table4")
METHODS = {
    "auc": "AUC as medmnist defines it; interval on the logit scale",
    "acc": "accuracy as medmnist defines it; Wilson's interval for the images that its variance is worth",
}


def explain(
    results: Path,
    *,
    table: str,
    model: str,
    dataset: str = "",
    metric: str,
    protocol: str | None = None,
    part: str = "test",
) -> list[str]:
    """What stands behind a cell, in lines; one block a protocol, an empty cell says why and what fills it.

    Args:
        results: The results folder.
        table: `table2`, `table3` or `table4`.
        model: A registered name, or one that a record has.
        dataset: A flag; Table 4 knows no data set.
        metric: `auc` or `acc`; Table 4: `params`, `thop`, `ptflops` or `aten`.
        protocol: One protocol; all that have the cell or plan it by default.
        part: `test` or `test_twin_free`.

    Raises:
        RecordError, DataError, ProtocolError: If a name is unknown; one line, with the closest known name.
    """
    _known("table", table, TABLES)
    _known("metric", metric, COST_METRICS if table == "table4" else tuple(METRICS))
    _known("part", part, tuple(TEST_PARTS))
    existing_folder(results)
    if table == "table4":
        _check_model(model, ())
        return explain_cost(results, model=model, metric=metric)
    evidence = _of_dataset(gather(results), model, dataset)
    analysis = analyse(evidence, synthetic=dataset.startswith(SYNTHETIC_PREFIX))
    scores = {(s.protocol, s.part, s.metric): s for s in analysis.table_scores if s.model == model}
    lines: list[str] = []
    for name in _protocols(evidence, table, model, dataset, protocol):
        score = scores.get((name, part, metric))
        lines += [""] if lines else []
        lines.append(f"{table}: {model}, {dataset}, {metric}, {TEST_PARTS[part]}, protocol {name}")
        lines += _score_lines(evidence, score) if score else _empty_lines(evidence, name, model, dataset)
    return lines


def _known(what: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise RecordError(f"Unknown {what} {name!r}; {suggestion(name.lower(), known)}")


def _check_model(model: str, recorded: Iterable[str]) -> None:
    if model in set(recorded):
        return  # a plugin that is not loaded here still has its records
    try:
        get_spec(model)
    except ModelError as error:
        raise RecordError(str(error)) from None


def _of_dataset(evidence: Evidence, model: str, dataset: str) -> Evidence:
    """The evidence on one data set, which is all that a cell and its marks depend on."""
    every = [*evidence.records, *evidence.unfinished]
    _check_model(model, {record.model for record in every})
    if dataset not in {record.dataset for record in every}:
        flag_of(dataset)
    records = [record for record in evidence.records if record.dataset == dataset]
    unfinished = [record for record in evidence.unfinished if record.dataset == dataset]
    return dataclasses.replace(evidence, records=records, unfinished=unfinished)


def _protocols(evidence: Evidence, table: str, model: str, dataset: str, protocol: str | None) -> list[str]:
    """The protocols that have the cell, or for which a study plans it; the one that is given.

    Raises:
        ProtocolError, RecordError: If it is unknown, or belongs to another table.
    """
    every = [*evidence.records, *evidence.unfinished]
    recorded = {record.protocol for record in every if record.model == model}
    if protocol is not None:
        if protocol not in {record.protocol for record in every}:
            load_protocol(protocol)
        if (protocol in FACTORS) != (table == "table2"):
            raise RecordError(
                f"{protocol} is no protocol of {table}; explain {'table3' if table == 'table2' else 'table2'}"
            )
        return [protocol]
    synthetic = dataset.startswith(SYNTHETIC_PREFIX)
    wants = {
        name for name in list_protocols() if (model, dataset) in {c[:2] for c in planned(name, synthetic=synthetic)}
    }
    chosen = sorted(name for name in recorded | wants if (name in FACTORS) == (table == "table2"))
    if not chosen:
        raise RecordError(f"No record has {model} on {dataset} and no study plans it for {table}; name a --protocol")
    return chosen


def _score_lines(evidence: Evidence, score: Score) -> list[str]:
    drawn = {"best": " (bold: alone in the confidence set for the best)", "tie": " ≈ (may be the best)"}.get(
        score.drawn, ""
    )
    over = f"; 95 % interval over {score.interval}" if score.interval else ""
    spread = "mean over seeds ± sample standard deviation (n - 1)" if score.n_seeds > 1 else "the record's own number"
    lines = [
        f"  printed     {value_text(score.mean, score.sd)}{drawn}",
        f"  interval    {interval_text(score.ci_low, score.ci_high)}{over}",
        f"  formula     n = {score.n_seeds}, {score.num_images} images: {spread}; {METHODS[score.metric]}",
        "              computed and tested as results/ANALYSIS_PLAN.md says",
    ]
    reference = score.reference
    if reference is None:
        lines.append("  published   none is held for this cell")
    else:
        row = row_id(reference)
        lines.append(f"  published   {reference.value:.3f}, {reference.name} (row {row} of table3.md)")
        lines.append(f"  difference  {signed(score.difference)}, measured minus published, between two protocols")
        lines.append(f"  source      {reference.cited}")
    order = {run_id: number for number, run_id in enumerate(score.run_ids)}
    records = sorted((r for r in evidence.records if r.run_id in order), key=lambda r: order[r.run_id])
    for record in records:
        lines += _record_lines(evidence, record, score.part, score.metric)
    return lines + _left_out(evidence, Run(score.protocol, score.model, score.dataset, 0))


def _record_lines(evidence: Evidence, record: Record, part: str, metric: str) -> list[str]:
    value = (getattr(record, part) or {}).get(metric)
    dirty = {True: ", and the code differed from it", False: "", None: ""}[record.dirty]
    packages = ", ".join(f"{name} {version}" for name, version in record.packages.items())
    threads = f"{record.num_threads or 'unknown'} thread{'' if record.num_threads == 1 else 's'}"
    isa = f"at {record.cpu_isa}, " if record.cpu_isa else ""
    scan = f", selective scan {record.scan_backend}" if record.scan_backend else ""
    epoch = "" if record.best_epoch is None else f", epoch {record.best_epoch} chosen on val"
    return [
        f"  seed {record.seed}      {'undefined' if value is None else repr(value)}{epoch}",
        f"    run       {record.run_id}",
        f"    file      {record.run.path(evidence.results).as_posix()}",
        f"    digest    {record.record_digest}",
        f"    protocol  {record.protocol_digest}",
        f"    commit    {record.commit or 'none recorded'}{dirty}",
        f"    hardware  {record.device or 'not recorded'}, {isa}{threads}{scan}",
        f"    packages  {packages or 'not recorded'}",
    ]


def _empty_lines(evidence: Evidence, protocol: str, model: str, dataset: str) -> list[str]:
    reason = why_missing(evidence, protocol, model, dataset)
    lines = ["  printed     – (missing)", f"  because     {' '.join(reason.text.split())}"]
    lines += _left_out(evidence, Run(protocol, model, dataset, 0))
    if reason.option is not None:
        plan = planned(protocol, synthetic=dataset.startswith(SYNTHETIC_PREFIX))
        seeds = [seed for name, flag, own in plan for seed in own if (name, flag) == (model, dataset)]
        lines.append(f"  to fill it  {fill_command(protocol, [model], [dataset], seeds or [0], reason.option)}")
    return lines


def _left_out(evidence: Evidence, run: Run) -> list[str]:
    """What the report says of the cell's damaged and stale records."""
    marks = (run.run_id.removesuffix("0"), run.path(evidence.results).parent.as_posix() + "/")
    return [f"  left out    {note}" for note in evidence.notes if any(mark in note for mark in marks)]
