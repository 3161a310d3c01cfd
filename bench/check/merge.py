"""Bring shards' results together: every file read and checked, nothing overwritten, a contradiction refused. No torch.

What is taken over is decided twice: for all files before the first is written, and again for each run while its lock
is held, since `medbench run` may finish the same run meanwhile.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from bench.check.inventory import EVIDENCE, Evidence, Inventory, read_evidence, tables_of, take_inventory
from bench.check.trust import SelfReported
from bench.errors import RecordError
from bench.records.cam_record import CamRecord
from bench.records.card import DataCard
from bench.records.names import apart, lock_file
from bench.records.predictions import read_attached
from bench.records.run_record import Record, real_only
from bench.records.sealed import pretty, sealed_bytes, write_new
from bench.records.timing_record import TimingRecord, timing_lock_name
from bench.records.tracks.card import TrackCard, card_lock_name
from bench.records.tracks.record import TrackRecord, track_lock_name
from bench.records.writing.locks import BusyError, held
from bench.records.writing.swap import replace_together
from bench.records.writing.sweep import sweep_store

WAIT_SECONDS = 10.0  # for a run that is being written


WITH_TABLES = (Record, CamRecord, TrackRecord, TrackCard)
# How the names of the tables of each kind of evidence end.
ENDINGS: dict[type[Evidence], tuple[str, ...]] = {
    Record: ("predictions", "history"),
    CamRecord: ("maps", "images"),
    TrackRecord: ("logits",),
    TrackCard: ("images",),
}


@dataclass
class Merged:
    """What a merge did: run ids taken over, known already, and replaced (a failed run by a finished one)."""

    taken: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    def summary(self) -> str:
        """One line for a person."""
        text = f"{len(self.taken)} records taken over, {len(self.known)} known already"
        text += f", {len(self.replaced)} failed ones replaced by finished ones" if self.replaced else ""
        return text + (f", {len(self.files)} other measurements" if self.files else "")

    def note_known(self, offer: Offer) -> None:
        """Note a file that is here already."""
        if isinstance(offer.evidence, Record):
            self.known.append(offer.evidence.run_id)

    def note_taken(self, offer: Offer, standing: Evidence | None, results: Path) -> None:
        """Note what was taken over, in place of what."""
        if isinstance(offer.evidence, Record):
            (self.taken if standing is None else self.replaced).append(offer.evidence.run_id)
        elif not isinstance(offer.evidence, DataCard):
            self.files.append(results / offer.name)


@dataclass(frozen=True)
class Offer:
    """A file of evidence that a source has: its path below the source, which stays the same, and its content."""

    name: PurePosixPath
    evidence: Evidence
    source: Path


def merge(sources: Sequence[Path], results: Path) -> Merged:
    """Copy what several results folders hold into one.

    All is checked before the first file is written, so that a refused merge changes nothing. What another process wrote
    since is never overwritten: where that contradicts, the rest is taken over and the run is named.

    Args:
        sources: Folders of shards.
        results: Where everything goes.

    Raises:
        RecordError: If a file is no evidence or damaged, a run stands in two folders with different outcomes, cards or
            measurements differ, synthetic evidence would enter a store of real one, or a run is under way.
    """
    for source in sources:
        if not (source / "records").is_dir():
            raise RecordError(
                f"{source} is no results folder: it holds no records/; give the shards' --results folders"
            )
    merged = Merged()
    offers = _offers([_inventory(source) for source in sources], results, merged)
    for offer in offers:
        _outcome(_standing(results, offer), results, offer)
    if results.is_dir():
        sweep_store(results)
    late = [reason for offer in offers if (reason := _take(offer, results, merged))]
    if late:
        more = f" (and {len(late) - 1} more)" if len(late) > 1 else ""
        raise RecordError(f"{late[0]}{more}; everything else was taken over")
    return merged


def _inventory(source: Path) -> Inventory:
    """What a source holds.

    Raises:
        RecordError: If something in it is no evidence, by its name.
    """
    inventory = take_inventory(source)
    for name, problem in inventory.problems.items():
        more = f" (and {len(inventory.problems) - 1} more files)" if len(inventory.problems) > 1 else ""
        raise RecordError(f"{source / name}: {problem}{more}")
    return inventory


def _offers(inventories: Sequence[Inventory], results: Path, merged: Merged) -> list[Offer]:
    """One offer a file, the best outcome of each run; cards first, since records are checked against them."""
    best: dict[PurePosixPath, Offer] = {}
    takes_real_only = real_only(results)
    for inventory in inventories:
        for name, evidence in inventory.evidence.items():
            kind = apart(getattr(evidence, "dataset", ""))
            if takes_real_only and kind:
                raise RecordError(
                    f"{inventory.folder / name} is {kind} and {results} holds real records only; "
                    "merge into another folder"
                )
            offer = Offer(name, evidence, inventory.folder)
            other = best.get(name)
            if other is None or _outcome(other.evidence, other.source, offer):
                best[name] = offer
            elif _says_the_same(other.evidence, evidence):
                merged.note_known(offer)
    return sorted(best.values(), key=lambda offer: (EVIDENCE.index(offer.name.parts[0]), offer.name))


def _standing(results: Path, offer: Offer) -> Evidence | None:
    """What stands in the target where an offer belongs.

    Raises:
        RecordError: If that is damaged.
    """
    return read_evidence(results, offer.name) if (results / offer.name).exists() else None


def _outcome(standing: Evidence | None, folder: Path, offer: Offer) -> bool:
    """Whether an offer is taken over what stands in a folder.

    Raises:
        RecordError: If the two contradict.
    """
    new = offer.evidence
    if standing is None:
        return True
    if _says_the_same(standing, new):
        return False
    if isinstance(standing, Record) and isinstance(new, Record):
        if "done" not in (standing.status, new.status) or new.status != "done":
            return False  # a failure never displaces a record
        if standing.status != "done":
            return True
        raise RecordError(
            f"{new.run_id} ended differently in {folder} and {offer.source}; medbench compare shows how, then remove "
            "one of them"
        )
    files = f"{offer.source / offer.name} and {folder / offer.name}"
    if isinstance(new, DataCard):
        raise RecordError(f"{files} describe different data; measure one anew")
    raise RecordError(f"{files} differ; keep the one that you trust and merge again")


def _says_the_same(one: Evidence, other: Evidence) -> bool:
    """Whether two files are the same evidence; when and on what a run was done may differ."""
    if not (isinstance(one, Record) and isinstance(other, Record)):
        return one == other
    keys = ("status", "val", "test", "test_twin_free", "protocol_digest", "predictions_sha256", "labels_digest")
    return all(getattr(one, key) == getattr(other, key) for key in keys)


def _take(offer: Offer, results: Path, merged: Merged) -> str:
    """Write an offer, decided anew against what stands now; why it was not taken, "" if it was or is known."""
    try:
        standing = _write(offer, results)
    except BusyError:
        return f"{results / offer.name} is being written by another command; wait for it, then merge again"
    except _Contradiction as error:
        return str(error)
    if standing is offer.evidence:
        merged.note_known(offer)
    else:
        merged.note_taken(offer, standing, results)
    return ""


class _Contradiction(Exception):
    """What was written since the merge began contradicts an offer."""


def _write(offer: Offer, results: Path) -> Evidence | None:
    """Write an offer where it is to be taken; returns what it replaced, the offer itself if nothing was written.

    Raises:
        _Contradiction: If what stands now contradicts it.
        BusyError: If another process holds the lock of the run or of the timing.
        RecordError: If the file system refuses.
    """
    evidence, path = offer.evidence, results / offer.name
    with _lock(offer, results):
        if not isinstance(evidence, WITH_TABLES):
            if isinstance(evidence, SelfReported):
                content = pretty(evidence.model_dump(mode="json"))
            else:
                content = sealed_bytes(evidence)
            if path.exists() or not write_new(path, content):
                _decided(offer, results)
                return evidence
            return None
        standing, is_taken = _decided(offer, results)
        if not is_taken:
            return evidence
        tables: dict[Path, bytes | None] = dict.fromkeys(_places(offer, results))
        for table, digest in tables_of(evidence, offer.name).items():
            tables[results / table] = read_attached(offer.source / table, digest)
        replace_together(path, sealed_bytes(evidence), tables)
    return standing


def _lock(offer: Offer, results: Path) -> contextlib.AbstractContextManager[None]:
    """What another writer of the same file holds; nothing for a file that is written once and whole."""
    name = _lock_name(offer)
    return held(lock_file(results, name), wait_seconds=WAIT_SECONDS) if name else contextlib.nullcontext()


def _lock_name(offer: Offer) -> str:
    """What a writer of such evidence calls its lock, "" without one."""
    evidence = offer.evidence
    if isinstance(evidence, TrackRecord):
        return track_lock_name(evidence.track, evidence.run)
    if isinstance(evidence, TrackCard):
        return card_lock_name(evidence.track, evidence.dataset)
    if isinstance(evidence, TimingRecord):
        return timing_lock_name(offer.name)
    if isinstance(evidence, CamRecord):
        return f"cams__{evidence.run_id}"
    return evidence.run_id if isinstance(evidence, Record) else ""


def _decided(offer: Offer, results: Path) -> tuple[Evidence | None, bool]:
    """What stands now, and whether the offer is taken."""
    standing = _standing(results, offer)
    try:
        return standing, _outcome(standing, results, offer)
    except RecordError as error:
        raise _Contradiction(str(error)) from None


def _places(offer: Offer, results: Path) -> Iterator[Path]:
    """Where all tables of a run, of its maps or of a track can stand."""
    for ending in ENDINGS[type(offer.evidence)]:
        yield (results / offer.name).with_suffix(f".{ending}.parquet")
