"""May a contributed results folder replace the one that stands? Files as data, nothing of them is executed. No torch.

New evidence is welcome; what stands stays. A run that has no scores yet (failed, skipped) may be filled in. Each new
file is read through its schema, and what nothing else looks at is refused: files that are no evidence, tables that no
record names, seeds that nobody planned. Whether the new evidence is sound is `bench.check.verify`'s question.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from bench.check.inventory import Evidence, Inventory, tables_of, take_inventory
from bench.check.trust import Rerun
from bench.errors import RecordError
from bench.protocols.planned import is_planned, planned_seeds
from bench.records.cam_record import CamRecord
from bench.records.cost_record import CostRecord
from bench.records.own_models import mixed_code, own_spec
from bench.records.run_record import MEASURED_FOLDERS, Record, read_record
from bench.records.timing_record import TimingRecord
from bench.records.tuning.record import TuningRecord

ALLOWED_ROOTS = ("results", "reports")
EVIDENCE_SUFFIXES = (".json", ".parquet")
# Below results/tables/, made from the evidence; reports --check compares them. A test holds them equal to the report's.
TABLES = tuple(
    f"{name}.csv"
    for name in (
        *("scores", "runs", "costs", "timings", "cells", "pairs", "mcnemar", "classes", "contrasts", "resolution"),
        *("published_checks", "draws", "draw_pairs", "twins", "epochs", "robustness", "robustness_pairs"),
        *("calibration", "calibration_pairs"),
    )
)
UNTRACKED = (".cache", ".locks", "checkpoints", "logs")
NEW_FOLDERS = ("records", "data", *MEASURED_FOLDERS)
MAX_FILE_BYTES = 8 * 2**20  # twice what predictions of any MedMNIST set take, and more: a test holds it
MAX_TOTAL_BYTES = 512 * 2**20
NOTICES = {
    "data": "a new data card; its label digests are the sender's word until a maintainer measures the data",
    "costs": "counted by the sender; medbench measure costs --overwrite counts again",
    "timings": "timed by the sender; nobody can repeat it but on such a device",
    "cams": "maps of weights that are not here; medbench gradcam makes them anew",
    "tracks": "logits on corrupted images by weights that are not here; medbench track makes them anew",
    "tuning": "a choice by curves on val that the sender measured; medbench tune makes them anew",
    "self_reported": "numbers without predictions; look at the source before merging",
    "reruns": "a re-run is the sender's word; whoever recorded the run should be somebody else",
}


@dataclass
class Contribution:
    """What a contribution would change.

    Attributes:
        problems: Why it is refused, one line each; empty when it may be merged.
        new: Files that it adds, relative to the folder.
        notices: What a maintainer has to look at, one line each.
    """

    problems: list[str] = field(default_factory=list)
    new: list[PurePosixPath] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """One line for a person."""
        verdict = f"{len(self.problems)} problems" if self.problems else "nothing that stands changes"
        return f"contribution: {len(self.new)} new files: {verdict}"


def outside(changed: Iterable[str]) -> list[str]:
    """Problems with the changed paths of a pull request: only `results/` and `reports/` may be touched.

    Args:
        changed: Paths relative to the repository's root, as `git diff --name-only` gives them; empty ones do not count.
    """
    problems = []
    for name in (line.rstrip("\n") for line in changed):
        parts = PurePosixPath(name).parts
        if parts and (parts[0] not in ALLOWED_ROOTS or len(parts) == 1):
            problems.append(f"{name}: a contribution of results touches only results/ and reports/; send code apart")
        elif any(part.startswith(".") for part in parts) or parts[1:2] in (("checkpoints",), ("logs",)):
            problems.append(f"{name}: caches, checkpoints, logs and hidden files are no evidence; remove it")
    return problems


def check_contribution(results: Path, base: Path) -> Contribution:
    """Compare a contributed results folder with the one that stands.

    Args:
        results: The contributed folder, whole.
        base: The folder that stands.

    Raises:
        RecordError: If a folder is not there.
    """
    for folder in (results, base):
        if not folder.is_dir() or folder.is_symlink():
            raise RecordError(f"There is no results folder {folder}; name the contributed one and the one that stands")
    contribution = Contribution()
    theirs, ours = _files(results), _files(base)
    filled = []
    for name in sorted(ours.keys() - theirs.keys()):
        contribution.problems.append(f"{name}: vanished; what stands stays, a maintainer removes records")
    for name in sorted(theirs.keys() & ours.keys()):
        if theirs[name].is_symlink():
            contribution.problems.append(f"{name}: symbolic links are refused")
        elif _differs(theirs[name], ours[name]):
            problems = list(_changed(name, ours[name], base))
            contribution.problems.extend(problems)
            filled += [] if problems else [name]
    contribution.new = sorted(theirs.keys() - ours.keys())
    brought = sorted([*contribution.new, *filled])
    inventory = take_inventory(results, MAX_FILE_BYTES)
    known = {table for name, one in inventory.evidence.items() for table in tables_of(one, name)}
    for name in brought:
        contribution.problems.extend(f"{name}: {problem}" for problem in _refused(name, theirs[name], inventory, known))
        if name in inventory.evidence and name.parts[0] in NOTICES:
            contribution.notices.append(f"{name}: {NOTICES[name.parts[0]]}")
    total = sum(theirs[name].lstat().st_size for name in brought)
    if total > MAX_TOTAL_BYTES:
        contribution.problems.append(
            f"the new files have {total:,} bytes; at most {MAX_TOTAL_BYTES:,} are taken at once"
        )
    new = {name: inventory.evidence[name] for name in brought if name in inventory.evidence}
    contribution.problems.extend(_unplanned(new, inventory.evidence))
    contribution.problems.extend(_own_reruns(new, ours))
    contribution.problems.extend(_other_code(new, inventory.evidence))
    contribution.notices.extend(_unknown_models(new))
    return contribution


def _files(folder: Path) -> dict[PurePosixPath, Path]:
    """Everything of a results folder that is not made from the rest; a link is a file here, never followed."""
    files = {}
    for path in sorted(folder.rglob("*")):
        name = PurePosixPath(path.relative_to(folder).as_posix())
        if name.parts[0] in UNTRACKED or (path.is_dir() and not path.is_symlink()):
            continue
        if name.parts[0] == "tables" and _is_table(name, path):
            continue
        files[name] = path
    return files


def _differs(theirs: Path, ours: Path) -> bool:
    """Whether a file is another than the one that stands; one of another size is not read."""
    if not theirs.is_file() or theirs.lstat().st_size != ours.lstat().st_size:
        return True
    return theirs.read_bytes() != ours.read_bytes()


def _is_table(name: PurePosixPath, path: Path) -> bool:
    """Whether a file is one of the tables that a report makes, which may change."""
    regular = path.is_file() and not path.is_symlink()
    return len(name.parts) == 2 and name.name in TABLES and regular and path.lstat().st_size <= MAX_FILE_BYTES


def _changed(name: PurePosixPath, ours: Path, base: Path) -> Iterator[str]:
    """A change is a problem, unless it fills in a run without scores."""
    record_name = name.name.split(".")[0] + ".json"
    if name.parts[0] == "records":
        try:
            if read_record(ours.with_name(record_name), base).status != "done":
                return
        except RecordError:
            pass
    yield f"{name}: changed; what stands stays, new evidence takes a new name (another seed, device or data set)"


def _refused(name: PurePosixPath, path: Path, inventory: Inventory, tables: Iterable[PurePosixPath]) -> Iterator[str]:
    """Why a new file is refused: it is no evidence, or not what its schema says."""
    if name in inventory.problems:
        yield inventory.problems[name]
    elif path.is_symlink():
        yield "symbolic links are refused"
    elif name.parts[0] not in NEW_FOLDERS:
        yield f"new evidence stands below {', '.join(NEW_FOLDERS)}; remove it"
    elif name in inventory.left:
        yield "left by a killed writer; remove it"
    elif name not in inventory.evidence and name not in tables:
        yield f"only {', '.join(EVIDENCE_SUFFIXES)} files that a schema knows are evidence; remove it"


def _unplanned(new: Mapping[PurePosixPath, Evidence], every: Mapping[PurePosixPath, Evidence]) -> Iterator[str]:
    """Runs of seeds that no study plans: whoever may choose a seed may choose the best.

    Under a recipe that no study has, seeds count from 0, without a gap.
    """
    runs = [(_cell(record), record.seed) for record in every.values() if isinstance(record, Record)]
    for name, record in new.items():
        if isinstance(record, Record):
            cell = _cell(record)
            gap = sorted(set(range(record.seed)) - {seed for other, seed in runs if other == cell})
            if not is_planned(*cell, record.seed):
                seeds = ", ".join(map(str, planned_seeds(*cell)))
                yield f"{name}: seed {record.seed} is not planned; the studies plan {seeds} under {record.protocol}"
            elif gap and not planned_seeds(*cell):
                before = "seed 0" if record.seed == 1 else f"seeds 0 to {record.seed - 1}"
                yield f"{name}: no study plans {record.protocol}, so seed {record.seed} comes with all of {before}"


def _cell(record: Record) -> tuple[str, str, str]:
    return record.protocol, record.model, record.dataset


def _code(evidence: Mapping[PurePosixPath, Evidence]) -> dict[PurePosixPath, tuple[str, str]]:
    """(model, fingerprint) of what was made with a model's code; runs without scores count in no table."""
    made = CamRecord | CostRecord | TimingRecord | TuningRecord
    return {
        name: (one.model, one.model_fingerprint)
        for name, one in evidence.items()
        if isinstance(one, made) or (isinstance(one, Record) and one.status == "done")
    }


def _other_code(new: Mapping[PurePosixPath, Evidence], every: Mapping[PurePosixPath, Evidence]) -> Iterator[str]:
    """Somebody's model has one code: more of it cannot come from another, for nobody could tell which one is meant."""
    mixed = mixed_code(_code(every).values())
    for name, (model, _) in sorted(_code(new).items()):
        if model in mixed:
            yield f"{name}: {model} stands for {mixed[model]} versions of its code; give new code a new model name"


def _unknown_models(new: Mapping[PurePosixPath, Evidence]) -> Iterator[str]:
    """Models that the suite does not have: nobody can run them again without their file."""
    files: dict[str, int] = {}
    for model, _ in _code(new).values():
        if own_spec(model) is None:
            files[model] = files.get(model, 0) + 1
    for model, number in sorted(files.items()):
        yield f"{model}: {number} file{'s' if number > 1 else ''} of a model that is not the suite's; ask for its code"


def _own_reruns(new: Mapping[PurePosixPath, Evidence], ours: Mapping[PurePosixPath, Path]) -> Iterator[str]:
    """A re-run of a record that comes with it proves nothing."""
    reruns = {name: rerun for name, rerun in new.items() if isinstance(rerun, Rerun)}
    if not reruns:
        return
    standing = set()
    for name, path in ours.items():
        if name.parts[0] == "records" and path.suffix == ".json":
            try:
                standing.add(read_record(path).record_digest)
            except RecordError:
                continue
    for name, rerun in sorted(reruns.items()):
        if rerun.reference_digest not in standing:
            yield f"{name}: the record that was run again does not stand here; a record and its re-run come apart"
