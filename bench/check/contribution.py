"""May a contributed results folder replace the one that stands? Files as data, nothing of them is executed. No torch.

New evidence is welcome; what stands stays. A run that has no scores yet (failed, skipped) may be filled in. Whether the
new evidence is sound is `bench.check.verify`'s question.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from bench.check.trust import Rerun, read_row
from bench.errors import RecordError
from bench.records.run_record import MEASURED_FOLDERS, read_record
from bench.records.sealed import read_sealed

ALLOWED_ROOTS = ("results", "reports")
EVIDENCE_SUFFIXES = (".json", ".parquet", ".md")
GENERATED = ("tables",)  # below results/, made from the evidence; reports --check compares it
UNTRACKED = (".cache", ".locks", "checkpoints")
NEW_FOLDERS = ("records", "data", *MEASURED_FOLDERS)
MAX_FILE_BYTES = 8 * 2**20  # twice what predictions of any MedMNIST set take, and more: a test holds it
MAX_TOTAL_BYTES = 512 * 2**20


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
        elif any(part.startswith(".") for part in parts) or parts[1:2] == ("checkpoints",):
            problems.append(f"{name}: caches, checkpoints and hidden files are no evidence; remove it")
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
    found = Contribution()
    theirs, ours = _files(results), _files(base)
    for name in sorted(ours.keys() - theirs.keys()):
        found.problems.append(f"{name}: vanished; what stands stays, a maintainer removes records")
    for name in sorted(theirs.keys() & ours.keys()):
        if theirs[name].is_symlink() or theirs[name].read_bytes() != ours[name].read_bytes():
            found.problems.extend(_changed(name, ours[name], base))
    for name in sorted(theirs.keys() - ours.keys()):
        found.new.append(name)
        found.notices.extend(_notice(name))
    for name, path in sorted(theirs.items()):
        found.problems.extend(f"{name}: {problem}" for problem in _unfit(name, path, is_new=name not in ours))
    total = sum(theirs[name].lstat().st_size for name in found.new)
    if total > MAX_TOTAL_BYTES:
        found.problems.append(f"the new files have {total:,} bytes; at most {MAX_TOTAL_BYTES:,} are taken at once")
    found.problems.extend(_own_reruns(theirs, ours, results))
    return found


def _files(folder: Path) -> dict[PurePosixPath, Path]:
    """Everything of a results folder that is not made from the rest; a link is a file here, never followed."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = PurePosixPath(path.relative_to(folder).as_posix())
        if name.parts[0] in UNTRACKED or (path.is_dir() and not path.is_symlink()):
            continue
        if name.parts[0] in GENERATED and len(name.parts) == 2 and path.suffix == ".csv" and not path.is_symlink():
            continue
        found[name] = path
    return found


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


def _unfit(name: PurePosixPath, path: Path, *, is_new: bool) -> Iterator[str]:
    """Problems of one file, whatever it says."""
    if path.is_symlink():
        yield "symbolic links are refused"
        return
    if not path.is_file():
        yield "is no regular file"
        return
    if not is_new:
        return
    if path.suffix not in EVIDENCE_SUFFIXES or any(part.startswith(".") for part in name.parts):
        yield f"only {', '.join(EVIDENCE_SUFFIXES)} files are evidence; remove it"
    if len(name.parts) < 2 or name.parts[0] not in NEW_FOLDERS:
        yield f"new evidence stands below {', '.join(NEW_FOLDERS)}"
    size = path.lstat().st_size
    if size > MAX_FILE_BYTES:
        yield f"has {size:,} bytes; a file of evidence has at most {MAX_FILE_BYTES:,}"
    elif path.suffix == ".json":
        yield from _unreadable(name, path)


def _unreadable(name: PurePosixPath, path: Path) -> Iterator[str]:
    """Evidence that `verify` does not read: rows without predictions, and re-runs."""
    try:
        if name.parts[0] == "self_reported":
            read_row(path)
        elif name.parts[0] == "reruns" and read_sealed(path, Rerun).run_id != path.stem:
            yield "is about another run than its name says"
    except RecordError as error:
        yield str(error).removeprefix(f"{path}: ")


def _notice(name: PurePosixPath) -> Iterator[str]:
    if name.parts[0] == "data":
        yield f"{name}: a new data card; its label digests are the sender's word until a maintainer measures the data"
    elif name.parts[0] == "self_reported":
        yield f"{name}: numbers without predictions; look at the source before merging"
    elif name.parts[0] == "reruns":
        yield f"{name}: a re-run is the sender's word; whoever recorded the run should be somebody else"


def _own_reruns(theirs: dict[PurePosixPath, Path], ours: dict[PurePosixPath, Path], results: Path) -> Iterator[str]:
    """A re-run of a record that comes with it proves nothing."""
    new = [name for name in theirs.keys() - ours.keys() if name.parts[0] == "reruns"]
    if not new:
        return
    standing = set()
    for name, path in ours.items():
        if name.parts[0] == "records" and path.suffix == ".json":
            try:
                standing.add(read_record(path).record_digest)
            except RecordError:
                continue
    for name in sorted(new):
        try:
            digest = read_sealed(results / name, Rerun).reference_digest
        except RecordError:
            continue  # told already
        if digest not in standing:
            yield f"{name}: the record that was run again does not stand here; a record and its re-run come apart"
