"""`medbench compare A B`: is what B measured what A says? Runs are paired by id. No torch.

The rule. *Bit-equal*: every stored class score is equal. *Within noise*: on the same test images neither of two tests
at 2.5 % tells the runs apart, exact McNemar on the right answers and a paired bootstrap of the AUC difference; together
they call at most one faithful re-run in twenty different for what the images alone do. A re-run of a seed on other
hardware is as good as another seed, so a difference that the images do show is still noise where it is no larger than
two seeds of A's own cell would have (95 %, Student, at least three finished seeds). Else it *differs*. A cell of
several common seeds is judged by its mean difference, by the same bootstrap for AUC and accuracy at 2.5 % each, images
crossed with seeds. Two records under another protocol, on other data or of other code are *not the same run*: refused,
and no statistic is made of them. Not separated is not proven equal: small test sets hide small differences.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from bench import __version__
from bench.compare_runs import Contrast, cell_told_apart_by, contrast, other_run, read_table, within_seeds
from bench.errors import BenchError, RecordError
from bench.plan import staleness
from bench.records import DataCard, Record, read_card, read_record, record_files
from bench.sealed import write_sealed
from bench.trust import Rerun, RerunVerdict, read_reruns, rerun_path, same_scores

Verdict = Literal[
    "bit-equal", "within noise", "differs", "not the same run", "damaged", "no scores", "only in A", "only in B"
]
COMPARED = ("bit-equal", "within noise", "differs")
FAILING = ("differs", "not the same run", "damaged")  # any of these: exit code 1
COPY = "the same record: a copy, not a re-run"


@dataclass(frozen=True)
class RunRow:
    """One run id and what two folders say of it; differences are B minus A."""

    run_id: str
    verdict: Verdict
    reason: str = ""
    contrast: Contrast | None = None
    a: Record | None = None
    b: Record | None = None

    def as_dict(self) -> dict[str, Any]:
        """What a person or `--json` sees of it."""
        found = self.contrast
        return {
            "run": self.run_id,
            "verdict": self.verdict,
            "auc_difference": None if found is None else found.auc,
            "acc_difference": None if found is None else found.acc,
            "auc_p": None if found is None else found.auc_p,
            "mcnemar_p": None if found is None else found.mcnemar_p,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class CellRow:
    """One cell over the seeds that both folders have."""

    protocol: str
    model: str
    dataset: str
    n_seeds: int
    verdict: Verdict
    reason: str = ""


@dataclass
class Comparison:
    """What two results folders say of the same runs.

    Attributes:
        a, b: The folders; A is the reference.
        rows: One a run id.
        cells: One a cell with at least one compared run.
        notes: Stale records, and re-runs that were not recorded, one line each.
        written: Evidence of re-runs that was written into A.
    """

    a: Path
    b: Path
    rows: list[RunRow]
    cells: list[CellRow]
    notes: list[str] = field(default_factory=list)
    written: list[Path] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        """The worst of all runs and cells that both folders have."""
        found = {row.verdict for row in self.rows} | {cell.verdict for cell in self.cells}
        order: tuple[Verdict, ...] = ("damaged", "not the same run", "differs", "within noise", "bit-equal")
        return next((verdict for verdict in order if verdict in found), "no scores")

    @property
    def exit_code(self) -> int:
        """0: all that both have is bit-equal or within noise. 1: something differs, is damaged or another run."""
        return 1 if self.verdict in FAILING else 0

    def summary(self) -> str:
        """One line for a person."""
        counts = Counter(row.verdict for row in self.rows)
        return f"{self.verdict}: " + ", ".join(f"{number} {verdict}" for verdict, number in sorted(counts.items()))

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "a": str(self.a),
            "b": str(self.b),
            "verdict": self.verdict,
            "runs": [row.as_dict() for row in self.rows],
            "cells": [vars(cell) for cell in self.cells],
            "notes": self.notes,
            "written": [str(path) for path in self.written],
        }


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
        if not folder.is_dir():
            raise RecordError(f"There is no results folder {folder}; name two results folders")
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
    """The id that a record's place stands for: `records/<protocol>/<model>/<dataset>/seed<k>.json`."""
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
        reason = staleness(record, card)
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
        return RunRow(name, "damaged", f"neither folder has data/{a.dataset}.json: medbench measure data", None, a, b)
    try:
        tables = read_table(comparison.a, a), read_table(comparison.b, b)
        found = contrast(*tables, card, (f"{name} in A", f"{name} in B"))
    except BenchError as error:
        return RunRow(name, "damaged", str(error), None, a, b)
    verdict, reason = _judge(comparison, a, b, found, card)
    return RunRow(name, verdict, reason, found, a, b)


def _judge(comparison: Comparison, a: Record, b: Record, found: Contrast, card: DataCard) -> tuple[Verdict, str]:
    if found.bit_equal:
        if not (same_scores(a.test, b.test or {}) and same_scores(a.val, b.val or {})):
            return "damaged", "equal predictions, other scores: medbench verify --scores names the wrong one"
        return "bit-equal", COPY if a.record_digest == b.record_digest else ""
    if not found.told_apart_by:
        return "within noise", f"McNemar p = {found.mcnemar_p:.2g}" + (
            "" if found.auc_p is None else f", AUC p = {found.auc_p:.2g}"
        )
    seeds = _finished_seeds(comparison.a, a, card)
    values = {metric: [v for r in seeds if (v := (r.test or {}).get(metric)) is not None] for metric in ("auc", "acc")}
    if within_seeds(found.auc, values["auc"]) and within_seeds(found.acc, values["acc"]):
        return "within noise", f"{found.told_apart_by}, but no further apart than two of A's {len(seeds)} seeds"
    return "differs", found.told_apart_by


def _finished_seeds(results: Path, record: Record, card: DataCard) -> list[Record]:
    """The readable finished seeds of a record's cell, of the same protocol, code and data."""
    found = []
    for path in sorted(record.run.path(results).parent.glob("seed*.json")):
        try:
            other = read_record(path, results)
        except RecordError:
            continue
        if other.status == "done" and not other_run(record, other) and other.labels_digest == card.labels_digest:
            found.append(other)
    return found


def _cells(rows: Sequence[RunRow]) -> list[CellRow]:
    """Verdicts over seeds, of the runs that were compared."""
    compared = [(row.a, row.contrast, row) for row in rows if row.a is not None and row.contrast is not None]
    compared = [item for item in compared if item[2].verdict in COMPARED]
    found = []
    for key, group in itertools.groupby(
        sorted(compared, key=lambda item: item[0].run),
        key=lambda item: (item[0].protocol, item[0].model, item[0].dataset),
    ):
        members = list(group)
        contrasts = [contrast_ for _, contrast_, _ in members]
        if len(members) == 1:
            verdict, reason = members[0][2].verdict, members[0][2].reason
        elif all(pair.bit_equal for pair in contrasts):
            verdict, reason = "bit-equal", ""
        else:
            reason = cell_told_apart_by(contrasts)
            verdict = "differs" if reason else "within noise"
        found.append(CellRow(*key, len(members), verdict, reason))
    return found


def _record(comparison: Comparison) -> None:
    """Write the evidence; one that stands for the same record stays, since evidence is never overwritten."""
    standing, notes = read_reruns(comparison.a)
    comparison.notes.extend(notes)
    for row in comparison.rows:
        if row.contrast is None or row.a is None or row.b is None or row.verdict not in COMPARED:
            continue
        held = standing.get(row.a.record_digest)
        if row.reason == COPY:
            comparison.notes.append(f"not recorded: {row.run_id}: {COPY}")
        elif held is not None and held.rerun_digest != row.b.record_digest:
            comparison.notes.append(f"not recorded: {row.run_id}: another re-run of it stands; remove that file first")
        elif held is None:
            path = rerun_path(comparison.a, row.run_id)
            write_sealed(path, _rerun(row, row.a, row.b, row.contrast, cast(RerunVerdict, row.verdict)))
            comparison.written.append(path)


def _rerun(row: RunRow, a: Record, b: Record, found: Contrast, verdict: RerunVerdict) -> Rerun:
    return Rerun(
        suite_version=__version__,
        run_id=row.run_id,
        reference_digest=a.record_digest,
        rerun_digest=b.record_digest,
        verdict=verdict,
        reason=row.reason,
        auc_difference=found.auc,
        acc_difference=found.acc,
        auc_p=found.auc_p,
        mcnemar_p=found.mcnemar_p,
        rerun_predictions_sha256=str(b.predictions_sha256),
        rerun_device=b.device,
        rerun_num_threads=b.num_threads,
        rerun_commit=b.commit,
        rerun_dirty=b.dirty,
        rerun_packages=b.packages,
    )
