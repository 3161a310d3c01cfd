"""Is a results folder what it says? Schema, digests, names, files; with `--scores` every metric again. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.check.bands import standings
from bench.check.trust import read_reruns
from bench.errors import BenchError, RecordError
from bench.records.cam_record import read_cams
from bench.records.card import DataCard, read_card
from bench.records.names import history_path, predictions_path
from bench.records.predictions import read_attached, read_predictions
from bench.records.run_record import Record, Scores, read_records, real_only, record_files, results_folder
from bench.records.scoring import same_score, score_predictions, wrong_labels
from bench.records.staleness import staleness

UNSCORED = "cannot be scored"


@dataclass
class Findings:
    """What verification saw: problems, one line each, and counts."""

    results: Path
    problems: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    rescored: int = 0
    bands: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """One line for a person."""
        total = sum(self.counts.values())
        states = ", ".join(f"{number} {state}" for state, number in sorted(self.counts.items()))
        rescored = f", {self.rescored} re-scored from their predictions" if self.rescored else ""
        stale = f", {len(self.stale)} stale" if self.stale else ""
        verdict = f"{len(self.problems)} problems" if self.problems else "all whole"
        return f"{self.results}: {total} records ({states or 'none'}){stale}{rescored}: {verdict}"

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "results": str(self.results),
            "counts": dict(self.counts),
            "rescored": self.rescored,
            "stale": self.stale,
            "problems": self.problems,
            "bands": self.bands,
        }


def verify(results: Path, *, scores: bool = False) -> Findings:
    """Check every record of a results folder.

    Args:
        results: The folder.
        scores: Recompute every stored metric from the stored predictions.

    Returns:
        The findings; `problems` is empty when all is whole.

    Raises:
        RecordError: If the folder is not there.
    """
    results_folder(results)
    findings = Findings(results)
    records, problems = read_records(results)
    findings.problems.extend(str(problem) for problem in problems)
    cards: dict[str, DataCard | None] = {}
    counted: set[str] = set()
    for record in records:
        findings.counts[record.status] += 1
        if record.dataset not in cards:
            try:
                cards[record.dataset] = read_card(results, record.dataset)
            except RecordError as error:
                findings.problems.append(str(error))
                cards[record.dataset] = None
        path = record.run.path(results)
        findings.problems.extend(f"{path}: {problem}" for problem in _check(record, path, results))
        if record.status == "done":
            card = cards[record.dataset]
            reason = staleness(record, card)
            if reason:
                findings.stale.append(f"{record.run_id}: {reason}")
            else:
                counted.add(record.run_id)
            found = list(_check_files(record, path, card))
            if scores and card is not None and not found:
                found = list(_check_scores(record, predictions_path(path), card))
                findings.rescored += not any(problem.startswith(UNSCORED) for problem in found)
            findings.problems.extend(f"{path}: {problem}" for problem in found)
    findings.problems.extend(_orphans(results))
    findings.problems.extend(read_cams(results)[1])
    findings.problems.extend(read_reruns(results)[1])
    try:
        findings.bands = standings(results, [record for record in records if record.run_id in counted])
    except RecordError as error:
        findings.problems.append(str(error))
    return findings


def _check(record: Record, path: Path, results: Path) -> Iterator[str]:
    """Problems of the JSON itself."""
    if record.synthetic != record.run.synthetic:
        yield "synthetic does not fit the data set's name"
    if record.synthetic and real_only(results):
        yield "a synthetic record in a store of real ones"
    if record.status == "done":
        missing = [
            name for name in ("val", "test", "test_twin_free", "predictions_sha256") if not getattr(record, name)
        ]
        if missing:
            yield f"a finished run without {', '.join(missing)}"
    elif record.failure is None:
        yield f"status is {record.status!r} without a reason"


def _check_files(record: Record, path: Path, card: DataCard | None) -> Iterator[str]:
    """Problems of the parquet files and of the data set's card."""
    for file, expected in (
        (predictions_path(path), record.predictions_sha256),
        (history_path(path), record.history_sha256),
    ):
        if expected is None:
            continue
        try:
            read_attached(file, expected)
        except RecordError as error:
            yield str(error).removeprefix(f"{file.parent}/")
            return
    if card is None:
        yield f"results/data/{record.dataset}.json is missing: medbench measure data --datasets {record.dataset}"
        return
    if record.labels_digest != card.labels_digest:
        yield "the record's labels are not those of the data set's card"


def _check_scores(record: Record, file: Path, card: DataCard) -> Iterator[str]:
    """Differences between the scores and what the predictions give."""
    try:
        table = read_predictions(file)
        problem = wrong_labels(table, card)
        if problem:
            yield f"{UNSCORED}: {problem}"
            return
        again = score_predictions(table, card)
    except (BenchError, KeyError) as error:
        yield f"{UNSCORED}: {error}"
        return
    for name, computed in again.items():
        stored: Scores = getattr(record, name) or {}
        for metric in sorted({*computed, *stored}):
            if not same_score(stored.get(metric), computed.get(metric)):
                found = f"{stored.get(metric)} in the record, {computed.get(metric)} by its predictions"
                yield f"{name} {metric} is {found}"


def _orphans(results: Path) -> Iterator[str]:
    """Files that no record accounts for."""
    known = set(record_files(results))
    for file in sorted((results / "records").rglob("*")):
        if file.is_dir():
            continue
        owner = file.with_name(file.name.split(".")[0] + ".json")
        if file.name.startswith(".tmp-") or file.suffix not in (".json", ".parquet"):
            yield f"{file}: left by a killed writer or put there by hand; remove it"
        elif file.suffix == ".json" and file not in known:
            yield f"{file}: no run's record has this name; remove it"
        elif file.suffix == ".parquet" and owner not in known:
            yield f"{file}: no record beside it; the run will be done again"
