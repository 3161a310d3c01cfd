"""Is a results folder what it says? Schema, digests, names, files; with `--scores` every metric again. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.check.bands import band_problems, read_bands, standings
from bench.check.store.evidence import (
    Measured,
    card_problem,
    evidence_problems,
    label_problems,
    read_measured,
    strays,
)
from bench.check.store.records import code_problems, copied_problems, outlier_problems
from bench.check.store.run import check_files, field_problems, params_problem
from bench.errors import BenchError, RecordError
from bench.machine.provenance import ancestors
from bench.records.card import DataCard, card_path, read_card
from bench.records.names import is_own
from bench.records.own_models import mixed_code, mixed_text
from bench.records.predictions import PredictionTable
from bench.records.run_record import Record, read_records, real_only, record_files, results_folder
from bench.records.sealed import TEMPORARY
from bench.records.staleness import staleness
from bench.records.writing.swap import INTERRUPTED, KEPT


@dataclass
class Findings:
    """What verification saw: problems, one line each, and counts.

    Attributes:
        results: The folder.
        problems: What is wrong.
        notices: What a reader should know and nobody has to mend, in a store that takes more than finished evidence.
        stale: What no longer counts, with the reason.
        counts: Records by status.
        rescored: Runs whose scores were computed again.
        unchecked: What could not be looked at here.
        bands: Where records stand, one line a band.
    """

    results: Path
    problems: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    rescored: int = 0
    unchecked: list[str] = field(default_factory=list)
    bands: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """One line for a person."""
        total = sum(self.counts.values())
        states = ", ".join(f"{number} {state}" for state, number in sorted(self.counts.items()))
        rescored = f", {self.rescored} re-scored from their predictions" if self.rescored else ""
        stale = f", {len(self.stale)} stale" if self.stale else ""
        verdict = f"{len(self.problems)} problems" if self.problems else "all whole"
        unchecked = "".join(f"; {line}" for line in self.unchecked)
        return f"{self.results}: {total} records ({states or 'none'}){stale}{rescored}: {verdict}{unchecked}"

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "results": str(self.results),
            "counts": dict(self.counts),
            "rescored": self.rescored,
            "stale": self.stale,
            "problems": self.problems,
            "unchecked": self.unchecked,
            "bands": self.bands,
        }


def verify(results: Path, *, scores: bool = False) -> Findings:
    """Check everything of a results folder that a report is made of.

    Args:
        results: The folder.
        scores: Recompute every stored metric from the stored predictions, and compare both with the history.

    Returns:
        The findings; `problems` is empty when all is whole.

    Raises:
        RecordError: If the folder is not there.
    """
    results_folder(results)
    findings = Findings(results)
    strict = _is_real_only(findings)
    records, problems = read_records(results)
    findings.problems.extend(str(problem) for problem in problems)
    cards = _cards(findings, {record.dataset for record in records}, strict=strict)
    measured = read_measured(results)
    tables = _check_records(findings, records, cards, measured, scores=scores)
    done = [record for record in records if record.status == "done"]
    findings.problems.extend(copied_problems(done, tables, results))
    findings.problems.extend(outlier_problems(done, results))
    by_id = {record.run_id: record for record in records}
    wrong, stale = evidence_problems(results, measured, by_id, tables, cards)
    findings.problems.extend(wrong)
    findings.stale.extend(stale)
    findings.problems.extend(strays(results))
    findings.problems.extend(_orphans(results))
    _check_code(findings, records, measured, strict=strict)
    _check_bands(findings, done)
    return findings


def _is_real_only(findings: Findings) -> bool:
    """Whether the store takes finished evidence on real data alone; a damaged declaration is a problem."""
    try:
        return real_only(findings.results)
    except RecordError as error:
        findings.problems.append(str(error))
        return True


def _cards(findings: Findings, datasets: set[str], *, strict: bool) -> dict[str, DataCard]:
    """The cards that can be read, those of no record included."""
    cards = {}
    files = (findings.results / "data").glob("*.json")
    for dataset in sorted({*datasets, *(path.stem for path in files)}):
        path = card_path(findings.results, dataset)
        try:
            card = read_card(findings.results, dataset)
        except RecordError as error:
            findings.problems.append(str(error))
            continue
        if card is None:
            continue
        problem = card_problem(card) or ("own data in a store of official sets" if strict and is_own(dataset) else "")
        if problem:
            findings.problems.append(f"{path}: {problem}")
        cards[dataset] = card
    return cards


def _check_records(
    findings: Findings, records: list[Record], cards: dict[str, DataCard], measured: Measured, *, scores: bool
) -> dict[str, PredictionTable]:
    """Problems of each record, and the predictions that could be scored, by run id."""
    results, tables = findings.results, {}
    counted = {(c.model, c.img_size, c.num_classes): c.num_params for c in measured.costs}
    labelled: set[str] = set()
    mixed = mixed_code((r.model, r.model_fingerprint) for r in records if r.status == "done")
    for record in records:
        findings.counts[record.status] += 1
        path = record.run.path(results)
        problems = list(field_problems(record, results))
        if record.status == "done":
            card = cards.get(record.dataset)
            reason = staleness(record, card, own_only=True)
            reason = reason or (mixed_text(mixed[record.model]) if record.model in mixed else "")
            if reason:
                findings.stale.append(f"{record.run_id}: {reason}")
            checked = check_files(record, path, card, scores=scores)
            problems += checked.problems
            if card is not None and not reason:
                problems += filter(None, [params_problem(record, card, counted)])
            if checked.table is not None:
                tables[record.run_id] = checked.table
                findings.rescored += 1
                if card is not None and record.dataset not in labelled:
                    labelled.add(record.dataset)
                    wrong_labels = label_problems(card, checked.table)
                    findings.problems.extend(f"{card_path(results, card.dataset)}: {line}" for line in wrong_labels)
        findings.problems.extend(f"{path}: {problem}" for problem in problems)
    return tables


def _check_code(findings: Findings, records: list[Record], measured: Measured, *, strict: bool) -> None:
    """Where a store takes finished evidence alone, its code must be open to inspection; elsewhere a notice says so."""
    results, known = findings.results, ancestors()
    evidence = [(str(record.run.path(results)), record.commit, record.dirty) for record in records]
    evidence += [(f"costs of {c.model}", c.commit, c.dirty) for c in measured.costs]
    evidence += [(f"timings of {t.model} on {t.device}", t.commit, t.dirty) for t in measured.timings.values()]
    evidence += [(f"maps of {cam.run_id}", cam.commit, cam.dirty) for cam in measured.cams]
    evidence += [(f"{t.track} of {t.run_id}", t.commit, t.dirty) for t in measured.tracks]
    evidence += [(f"{c.track} on {c.dataset}", c.commit, c.dirty) for c in measured.track_cards]
    (findings.problems if strict else findings.notices).extend(dict.fromkeys(code_problems(evidence, known)))
    if known is None:
        findings.unchecked.append("commits not looked up, there is no whole git history here")


def _check_bands(findings: Findings, done: list[Record]) -> None:
    """Where records stand, and whether the bands are what their rule gives."""
    results = findings.results
    stale = {line.split(":")[0] for line in findings.stale}
    try:
        findings.bands = standings(results, [record for record in done if record.run_id not in stale])
        bands = read_bands(results)
        findings.problems.extend(band_problems(results, bands) if bands else ())
    except BenchError as error:
        findings.problems.append(str(error))


def _orphans(results: Path) -> Iterator[str]:
    """Files that no record accounts for."""
    known = set(record_files(results))
    for file in sorted((results / "records").rglob("*")):
        if file.is_dir():
            continue
        owner = file.with_name(file.name.split(".")[0] + ".json")
        if file.name.startswith(KEPT):
            yield f"{file}: {INTERRUPTED}"
        elif file.name.startswith(TEMPORARY) or file.suffix not in (".json", ".parquet"):
            yield f"{file}: left by a killed writer or put there by hand; remove it"
        elif file.suffix == ".json" and file not in known:
            yield f"{file}: no run's record has this name; remove it"
        elif file.suffix == ".parquet" and owner not in known:
            yield f"{file}: no record beside it; the run will be done again"
