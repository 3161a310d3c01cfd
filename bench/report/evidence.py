"""What a report is made of: the records that count, and why the others do not."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeVar

from bench import __version__
from bench.protocols.loading import family_of
from bench.protocols.planned import is_planned
from bench.records.card import DataCard, read_card
from bench.records.cost_record import CostRecord, read_costs
from bench.records.own_models import mixed_code, mixed_text, own_spec
from bench.records.run_record import Record, read_records
from bench.records.sealed import Sealed
from bench.records.staleness import staleness, unchecked
from bench.records.timing_record import TimingRecord, read_timings
from bench.records.tracks.card import TrackCard, read_track_cards
from bench.records.tracks.record import TrackRecord, read_tracks
from bench.records.tuning.record import TuningRecord, read_tunings
from bench.report.links import BESIDE, Links

STATISTICS = (  # of an `Analysis`
    *("cells", "pairs", "mcnemar", "classes", "calibration", "calibration_pairs"),
    *("contrasts", "resolution", "published_checks", "draws", "draw_pairs", "twins", "epochs"),
    *("robustness", "robustness_pairs"),
)
MODELS = ("medspectralnet",)  # whose curves, confusion matrices and areas are drawn where no others are named


Measured = TypeVar("Measured", CostRecord, TimingRecord)
REPEAT_FAILED, REPEAT_STALE = " --overwrite failed", " --overwrite stale"


@dataclass(frozen=True)
class Reason:
    """Why a cell is empty.

    Attributes:
        text: As tables show it.
        option: What `medbench run` needs beside the names to fill the cell; None where no command does.
    """

    text: str
    option: str | None = None


class OfRuns(Protocol):
    """A row that names the runs that it comes from."""

    @property
    def run_ids(self) -> Sequence[str]:
        """Their ids."""


@dataclass
class Evidence:
    """The content of a results folder, sorted for reports.

    Attributes:
        results: The folder.
        records: Finished runs that count, real ones and synthetic ones.
        unfinished: Failed and skipped runs: reasons for missing cells.
        stale: Finished runs that no longer count, each with the reason.
        drawn: Finished runs of a family's members that count: rare classes and few images, in tables of their own.
        tuned: Finished runs that count of recipes that a sweep chose for their model: in a table of their own.
        unplanned: Finished runs of seeds that no study plans: shown apart, in no mean.
        own: Finished runs that count on data sets of somebody's own: in a table of their own.
        own_lost: Failed, skipped and stale runs on such sets, each with the reason.
        cards: The data sets' cards by name.
        notes: What was left out and why, one line each.
        asides: What depends on the plugins that are loaded here, for a person and in no page.
        links: Of a page in the reports folder.
    """

    results: Path
    records: list[Record] = field(default_factory=list)
    unfinished: list[Record] = field(default_factory=list)
    stale: list[tuple[Record, str]] = field(default_factory=list)
    drawn: list[Record] = field(default_factory=list)
    tuned: list[Record] = field(default_factory=list)
    unplanned: list[Record] = field(default_factory=list)
    own: list[Record] = field(default_factory=list)
    own_lost: list[tuple[Record, str]] = field(default_factory=list)
    cards: dict[str, DataCard] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    asides: list[str] = field(default_factory=list)
    links: Links = BESIDE

    @cached_property
    def costs(self) -> tuple[list[CostRecord], list[str]]:
        """Counted costs that stand, and why others were left out; read on first use."""
        return self._of_the_runs(*read_costs(self.results))

    @cached_property
    def timings(self) -> tuple[list[TimingRecord], list[str]]:
        """Timings that stand, and why others were left out; read on first use."""
        return self._of_the_runs(*read_timings(self.results))

    @cached_property
    def tracks(self) -> list[TrackRecord]:
        """Runs on corrupted test images that count; why others were left out is noted on first use."""
        records, notes = read_tracks(self.results)
        self.notes.extend(notes)
        return records

    @cached_property
    def track_cards(self) -> list[TrackCard]:
        """What tracks do to the data sets; why others were left out is noted on first use."""
        cards, notes = read_track_cards(self.results)
        self.notes.extend(notes)
        return cards

    @cached_property
    def sweeps(self) -> list[TuningRecord]:
        """Sweeps that count; why others were left out is noted on first use."""
        sweeps, notes = read_tunings(self.results)
        self.notes.extend(notes)
        return sweeps

    def _of_the_runs(self, measured: Iterable[Measured], notes: list[str]) -> tuple[list[Measured], list[str]]:
        """Without what was measured on another version of somebody else's model than its runs were made with."""
        codes = {r.model: r.model_fingerprint for r in (*self.records, *self.unplanned) if own_spec(r.model) is None}
        kept = []
        for one in measured:
            if codes.get(one.model, one.model_fingerprint) == one.model_fingerprint:
                kept.append(one)
            else:
                notes = [*notes, f"left out: {type(one).__name__} of {one.model}: measured on other code than its runs"]
        return kept, notes

    def without_scores(self, protocol: str) -> list[tuple[Record, Reason]]:
        """The runs of a protocol that failed, were skipped or are stale, each with the reason, in the runs' order."""
        lost = [
            (r, Reason(f"{r.status}: {r.failure.message}", REPEAT_FAILED if r.status == "failed" else None))
            for r in self.unfinished
            if r.failure
        ]
        lost += [(record, Reason(f"stale: {reason}", REPEAT_STALE)) for record, reason in self.stale]
        return sorted((item for item in lost if item[0].protocol == protocol), key=lambda item: item[0].run)

    def finished(self, *, synthetic: bool) -> list[Record]:
        """Finished runs on synthetic data, or on real data, without those of `drawn`."""
        return [record for record in self.records if record.synthetic == synthetic]

    def every(self, *, synthetic: bool) -> list[Record]:
        """Those of `finished` and of `thinned`."""
        return [*self.finished(synthetic=synthetic), *self.thinned(synthetic=synthetic)]

    def alone(self, records: list[Record]) -> Evidence:
        """The same folder with these finished runs in place of all that count.

        What was read on first use is read for both, and noted once.
        """
        _ = self.tracks, self.track_cards  # what an analysis reads; a copy takes along what was read
        found = copy.copy(self)
        found.records, found.drawn = records, []
        return found

    def behind(self, rows: Iterable[OfRuns], *, synthetic: bool) -> list[Record]:
        """The records of the runs that some rows of a table or figure come from, those of `thinned` first."""
        shown = {run_id for row in rows for run_id in row.run_ids}
        every = (*self.thinned(synthetic=synthetic), *self.finished(synthetic=synthetic))
        return [record for record in every if record.run_id in shown]

    def counted(self, *, synthetic: bool) -> str:
        """How many finished runs of how many models there are: `249 finished runs of 20 models`."""
        runs = self.every(synthetic=synthetic)
        models = len({record.model for record in runs})
        return f"{len(runs)} finished run{'' if len(runs) == 1 else 's'} of {models} model{'' if models == 1 else 's'}"

    def thinned(self, *, synthetic: bool) -> list[Record]:
        """Those of `drawn` on synthetic data, or on real data."""
        return [record for record in self.drawn if record.synthetic == synthetic]

    def chosen(self, *, synthetic: bool) -> list[Record]:
        """Those of `tuned` on synthetic data, or on real data."""
        return [record for record in self.tuned if record.synthetic == synthetic]


def gather(results: Path, links: Links = BESIDE) -> Evidence:
    """Read a results folder; damaged and stale records are left out and noted, never silently.

    Args:
        results: The folder.
        links: Of a page in the reports folder; by default that stands beside `results`.
    """
    evidence = Evidence(results, links=links)
    records, problems = read_records(results)
    evidence.notes.extend(f"left out: {problem}" for problem in problems)
    for dataset in sorted({record.dataset for record in records}):
        card = read_card(results, dataset)
        if card is not None:
            evidence.cards[dataset] = card
    finished = [record for record in records if record.status == "done"]
    for record in (record for record in records if record.status != "done"):
        reason = f"{record.status}: {record.failure.message}" if record.failure else record.status
        if record.run.own:
            evidence.own_lost.append((record, reason))
        else:
            evidence.unfinished.append(record)
    mixed = mixed_code((record.model, record.model_fingerprint) for record in finished)
    for record in finished:
        card = evidence.cards.get(record.dataset)
        reason = staleness(record, card, own_only=True)
        reason = reason or (mixed_text(mixed[record.model]) if record.model in mixed else "")
        if reason:
            if record.run.own:
                evidence.own_lost.append((record, f"stale: {reason}"))
            else:
                evidence.stale.append((record, reason))
            evidence.notes.append(f"left out as stale: {record.run_id}: {reason}")
            continue
        if record.run.own:
            evidence.own.append(record)
        elif record.resolved_protocol.get("tuned"):
            evidence.tuned.append(record)
        elif is_planned(record.protocol, record.model, record.dataset, record.seed):
            (evidence.drawn if family_of(record.protocol) else evidence.records).append(record)
        else:
            evidence.unplanned.append(record)
            evidence.notes.append(f"shown apart, in no mean: {record.run_id}: no study plans seed {record.seed}")
        # Of what is loaded beside the suite's files nothing was compared yet.
        here = staleness(record, card) if unchecked(record, own_only=True) else ""
        if here:
            evidence.asides.append(f"counted all the same: {record.run_id}: {here}; --overwrite stale runs it again")
    evidence.notes.extend(_unchecked(finished))
    for dataset in sorted({record.dataset for record in evidence.own}):
        number = sum(record.dataset == dataset for record in evidence.own)
        runs = f"{number} run{'s' if number > 1 else ''}"
        evidence.notes.append(f"own data, in own_data.md and nowhere else: {runs} on {dataset}")
    return evidence


def _unchecked(records: Iterable[Record]) -> Iterator[str]:
    """Whose protocols and models are in files that the suite does not have, one line each."""
    runs: dict[tuple[str, str], int] = {}
    for record in records:
        names = {"protocol": record.protocol, "model": record.model}
        for what in unchecked(record, own_only=True):
            owner = (f"{what} {names[what]}", record.dataset)
            runs[owner] = runs.get(owner, 0) + 1
    for (whose, dataset), number in sorted(runs.items()):
        plural = "s" if number > 1 else ""
        yield f"not checked for staleness: {number} run{plural} of the {whose} on {dataset}, no file of the suite"


def records_digest(records: Sequence[Sealed]) -> str:
    """One digest for a set of records: equal sets, equal digest."""
    joined = "\n".join(sorted(record.record_digest for record in records))
    return hashlib.sha256(joined.encode()).hexdigest()[:16]


def first_line(records: Sequence[Sealed]) -> str:
    """What line one of a generated file says; no commit and no date, so that same records give same bytes."""
    return f"medbench report | medspectral-bench {__version__} | {len(records)} records {records_digest(records)}"
