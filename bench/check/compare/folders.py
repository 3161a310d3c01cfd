"""`medbench compare A B`: is what B measured what A says? Runs are paired by id. No torch.

`bench.check.verdicts` states the rule: *bit-equal*, *equivalent*, *not told apart*, *differs*. Each verdict but the
first comes with the difference, its 90 % interval, and what the two records show that can have made it
(`bench.check.compare.reasons`). A difference no larger than two seeds of A's own cell would have (95 %, Student, at
least three finished seeds) is called that and stays a difference: a re-run of a seed should come out as that seed, not
as another one. A cell of several common seeds is judged by its mean difference, images crossed with seeds. Two records
under another protocol, on other data or of another model are *not the same run*: refused, and no statistic is made of
them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from bench import __version__
from bench.check.compare.contrast import (
    Contrast,
    contrast,
    in_words,
    mean_contrast,
    other_run,
    read_table,
    within_seeds,
)
from bench.check.compare.reasons import origins
from bench.check.compare.rows import CellRow, Comparison, RunRow, Verdict
from bench.check.trust import Rerun, read_reruns, rerun_path, same_scores
from bench.errors import BenchError, RecordError
from bench.records.card import DataCard, read_card
from bench.records.run_record import Record, existing_folder, read_record, record_files
from bench.records.sealed import write_sealed
from bench.records.staleness import staleness
from bench.records.writing.sweep import sweep_store
from bench.stats.comparisons import EQUIVALENCE_MARGIN

COPY = "the same record: a copy, not a re-run"


def compare_folders(a: Path, b: Path, *, record: bool = False) -> Comparison:
    """Compare two results folders run by run; only files of runs that both have are read.

    Args:
        a: The reference.
        b: The re-runs.
        record: Write what each re-run showed to `<a>/reruns/<run_id>.json`.

    Raises:
        RecordError: If a folder is not there, or the two have no run in common.
    """
    for folder in (a, b):
        existing_folder(folder, "name two results folders")
    files = [{path.relative_to(folder): path for path in record_files(folder)} for folder in (a, b)]
    if not files[0].keys() & files[1].keys():
        raise RecordError(f"{a} and {b} have no run in common; re-run with --results {b} what {a} holds")
    comparison = Comparison(a, b, [], [])
    for name in sorted(files[0].keys() | files[1].keys()):
        if name in files[0] and name in files[1]:
            comparison.rows.append(_row(comparison, files[0][name], files[1][name]))
        else:
            comparison.rows.append(RunRow(_run_id(name), "only in A" if name in files[0] else "only in B"))
    comparison.cells = _cells(comparison.rows)
    if record:
        _record(comparison)
    return comparison


def _run_id(name: Path) -> str:
    """The id that a record's path stands for: `records/<protocol>/<model>/<dataset>/seed<k>.json`."""
    _, protocol, slug, dataset, file = name.parts
    return f"{slug}__{dataset}__{protocol}__s{file.removeprefix('seed').removesuffix('.json')}"


def _row(comparison: Comparison, path_a: Path, path_b: Path) -> RunRow:
    """One run that both folders have."""
    name = _run_id(path_a.relative_to(comparison.a))
    try:
        a, b = read_record(path_a, comparison.a), read_record(path_b, comparison.b)
        cards = [read_card(folder, a.dataset) for folder in (comparison.a, comparison.b)]
    except RecordError as error:
        return RunRow(name, "damaged", str(error))
    for letter, record, card in zip("AB", (a, b), cards, strict=True):
        reason = staleness(record, card, own_only=True)
        if reason:
            comparison.notes.append(f"stale in {letter}: {name}: {reason}")
    reason = other_run(a, b)
    if reason:
        return RunRow(name, "not the same run", reason, None, a, b)
    if a.status != "done" or b.status != "done":
        verdict: Verdict = "no scores" if a.status == b.status else "differs"
        return RunRow(name, verdict, f"{a.status} in A, {b.status} in B", None, a, b)
    card = cards[0] or cards[1]
    if card is None:
        missing = f"neither folder has data/{a.dataset}.json: medbench measure data --datasets {a.dataset}"
        return RunRow(name, "damaged", missing, None, a, b)
    try:
        tables = read_table(comparison.a, a), read_table(comparison.b, b)
        compared = contrast(*tables, card, (f"{name} in A", f"{name} in B"))
    except BenchError as error:
        return RunRow(name, "damaged", str(error), None, a, b)
    verdict, reason = _judge(comparison, a, b, compared, card)
    return RunRow(name, verdict, reason, compared if verdict != "damaged" else None, a, b)


def _judge(comparison: Comparison, a: Record, b: Record, compared: Contrast, card: DataCard) -> tuple[Verdict, str]:
    if compared.bit_equal:
        if not (same_scores(a.test, b.test or {}) and same_scores(a.val, b.val or {})):
            return "damaged", "equal predictions, other scores: medbench verify --scores names the wrong one"
        return "bit-equal", COPY if a.record_digest == b.record_digest else ""
    reason = _numbers_say(compared)
    if compared.verdict == "differs":
        seeds = _finished_seeds(comparison.a, a, card)
        values = {name: [v for r in seeds if (v := (r.test or {}).get(name)) is not None] for name in ("auc", "acc")}
        area = None if compared.auc is None else compared.auc.value
        if within_seeds(area, values["auc"]) and within_seeds(compared.acc.value, values["acc"]):
            reason += f", no further apart than two of A's {len(seeds)} seeds"
    return compared.verdict, f"{reason}; {origins(a, b)}"


def _numbers_say(compared: Contrast) -> str:
    """What a verdict on runs that are not bit-equal rests on."""
    if compared.verdict == "equivalent":
        also = f", though told apart ({compared.told_apart_by})" if compared.told_apart_by else ""
        return f"both intervals lie within {EQUIVALENCE_MARGIN:g}{also}"
    if compared.verdict == "differs":
        return compared.told_apart_by
    return f"{in_words(compared.tests)}: no evidence of equality"


def _finished_seeds(results: Path, record: Record, card: DataCard) -> list[Record]:
    """The readable finished seeds of a record's cell, of the same protocol, code and data."""
    others = []
    for path in sorted(record.run.path(results).parent.glob("seed*.json")):
        try:
            other = read_record(path, results)
        except RecordError:
            continue
        if other.status == "done" and not other_run(record, other) and other.labels_digest == card.labels_digest:
            others.append(other)
    return others


def _cells(rows: Sequence[RunRow]) -> list[CellRow]:
    """Verdicts over seeds, of the runs that were compared."""
    compared = [(row.a, row.contrast, row.reason) for row in rows if row.a is not None and row.contrast is not None]
    cells = []
    for key, group in itertools.groupby(
        sorted(compared, key=lambda item: item[0].run),
        key=lambda item: (item[0].protocol, item[0].model, item[0].dataset),
    ):
        members = list(group)
        if len(members) == 1:
            judged, reason = members[0][1], members[0][2]
        else:
            judged = mean_contrast([contrast_ for _, contrast_, _ in members])
            reason = "" if judged.bit_equal else _numbers_say(judged)
        cells.append(CellRow(*key, len(members), judged.verdict, reason, judged))
    return cells


def _record(comparison: Comparison) -> None:
    """Write the evidence; one that stands for the same record stays, since evidence is never overwritten."""
    sweep_store(comparison.a)
    standing, notes = read_reruns(comparison.a)
    comparison.notes.extend(notes)
    for row in comparison.rows:
        if row.contrast is None or row.a is None or row.b is None:
            continue
        held = standing.get(row.a.record_digest)
        if row.reason == COPY:
            comparison.notes.append(f"not recorded: {row.run_id}: {COPY}")
        elif held is not None and held.rerun_digest != row.b.record_digest:
            comparison.notes.append(f"not recorded: {row.run_id}: another re-run of it stands; remove that file first")
        elif held is None:
            path = rerun_path(comparison.a, row.run_id)
            write_sealed(path, _rerun(row, row.a, row.b, row.contrast))
            comparison.written.append(path)


def _rerun(row: RunRow, a: Record, b: Record, compared: Contrast) -> Rerun:
    area = compared.auc
    return Rerun(
        suite_version=__version__,
        run_id=row.run_id,
        reference_digest=a.record_digest,
        rerun_digest=b.record_digest,
        verdict=compared.verdict,
        reason=row.reason,
        auc_difference=None if area is None else area.value,
        acc_difference=compared.acc.value,
        auc_interval_90=None if area is None else (area.low_90, area.high_90),
        acc_interval_90=(compared.acc.low_90, compared.acc.high_90),
        auc_p=None if compared.bit_equal or area is None else area.p,
        mcnemar_p=compared.mcnemar_p,
        rerun_predictions_sha256=str(b.predictions_sha256),
        rerun_device=b.device,
        rerun_cpu_isa=b.cpu_isa,
        rerun_num_threads=b.num_threads,
        rerun_commit=b.commit,
        rerun_dirty=b.dirty,
        rerun_packages=b.packages,
    )
