"""`medbench report`: every file is a pure function of a results folder; same records, same bytes.

`results/tables/` and `reports/` are written and compared here. Records on synthetic data give files of their own,
named and stamped SYNTHETIC.
"""

from __future__ import annotations

import contextlib
import csv
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import RecordError
from bench.records.names import lock_file
from bench.records.run_record import existing_folder
from bench.records.sealed import sweep_left, write_atomic
from bench.records.writing.locks import BusyError, held
from bench.records.writing.sweep import sweep_store
from bench.report.evidence import MODELS, STATISTICS
from bench.report.links import Links
from bench.report.manifest import MANIFEST, listed, manifest
from bench.report.stamp import draws_as_locked, inputs_digest, remember, unchanged

__all__ = ["Built", "build", "compare"]

PICTURES = (".svg", ".pdf")
# What stands at the head of everything that a report writes, behind what a format wants first.
MARK = re.compile(rb"(?:<\?xml[^>]*\?>)?\s*(?:<!-- |# |% |/\* )(?:SYNTHETIC \| )?medbench report \| ")
TIDY = {  # below results/tables/, which no other command writes to; the stamp is not imported for its table library
    f"{stamp}{name}.csv" for stamp in ("", "SYNTHETIC_") for name in ("scores", "runs", "costs", "timings", *STATISTICS)
}
FEW_NAMES = 4  # of models that a line lists
WAIT_SECONDS = 600.0  # for another report of the same results folder


@dataclass(frozen=True)
class Built:
    """What a report left: its files, notes for a person, and whether everything was as it should be already."""

    files: list[Path]
    notes: list[str]
    was_current: bool

    def summary(self) -> str:
        """One line for a person."""
        if self.was_current:
            return f"nothing changed: {len(self.files)} files are what the records give"
        folders = sorted({str(path.parent) for path in self.files})
        return f"{len(self.files)} files written to {', '.join(folders)}"

    def places(self) -> list[str]:
        """Where the rows of finished runs stand, a line for those on real data and one for those on synthetic data."""
        by_name = {path.name: path for path in self.files}
        lines = []
        for prefix, data in (("", "real"), ("SYNTHETIC_", "synthetic")):
            runs, table = by_name.get(f"{prefix}runs.csv"), by_name.get(f"{prefix}table3.md")
            if runs is None or table is None:
                continue
            with runs.open(encoding="utf-8", newline="") as stream:
                rows = csv.DictReader(line for line in stream if not line.startswith("#"))
                models = [row["model"] for row in rows if row["status"] == "done"]
            names = sorted(set(models))
            shown = ", ".join(names) if len(names) <= FEW_NAMES else f"{len(names)} models"
            page = table.with_name(f"{prefix}index.html")
            if models:
                lines.append(
                    f"{len(models)} finished run{'s' * (len(models) > 1)} on {data} images ({shown}): {table}, {page}"
                )
        return lines


def build(
    results: Path, reports: Path, models: Sequence[str] = MODELS, *, documents: bool = False, repository: str = ""
) -> Built:
    """Write every generated file and remove what no longer belongs; at once where nothing changed.

    One report of a results folder is made at a time: another waits, and finds its work done.

    Args:
        results: The results folder.
        reports: Where pages, tables and figures go.
        models: Whose curves, confusion matrices and areas are drawn.
        documents: Write the generated parts of README.md and docs/findings.md beside the reports folder, too.
        repository: Address of the folder that holds the results folder: pages link to records there, so that the
            reports folder can be hosted alone. "" for relative links.

    Raises:
        BenchError: If `repository` is not an address.
        RecordError: If a folder is missing or refuses, or another report of it is made for longer than ten minutes.
    """
    existing_folder(results)
    _check_folder(results, reports)
    with _alone(results):
        sweep_store(results)
        sweep_left(reports)
        return _build(results, reports, models, documents=documents, repository=repository)


def _arguments(models: Sequence[str], *, documents: bool, repository: str) -> list[str]:
    """What of a call decides which files a report has, and what is in them."""
    return [*models, *(["--documents"] if documents else []), *([f"--repository={repository}"] if repository else [])]


@contextlib.contextmanager
def _alone(results: Path) -> Iterator[None]:
    """While no other report of the results folder is made; where a folder has no locks, both write the same bytes."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(lock_file(results, "report"), wait_seconds=WAIT_SECONDS))
        except BusyError:
            raise RecordError(f"another report of {results} is being made; wait for it, then run it again") from None
        except RecordError:
            pass
        yield


def _build(results: Path, reports: Path, models: Sequence[str], *, documents: bool, repository: str) -> Built:
    inputs = inputs_digest(results, reports, _arguments(models, documents=documents, repository=repository))
    current = unchanged(results, reports, inputs)
    if current is not None:
        _sweep_beside(current, results, reports)
        return Built(current, [], was_current=True)
    files, strays, notes = _targets(results, reports, models, documents=documents, repository=repository)
    changed = [path for path, content in files.items() if not path.exists() or path.read_bytes() != content]
    foreign = [path for path in changed if path.exists() and not _may_replace(path, results, reports)]
    if foreign:
        raise RecordError(f"{foreign[0]} was not written by medbench report; move it, or choose another --reports")
    _sweep_beside(files, results, reports)
    for path in changed:
        write_atomic(path, files[path])
    for stray in strays:
        stray.unlink(missing_ok=True)
    remember(results, reports, inputs, files)
    return Built(list(files), [*notes, *(f"removed, no record gives it: {path}" for path in strays)], was_current=False)


def _sweep_beside(files: Iterable[Path], results: Path, reports: Path) -> None:
    """What a killed writer left beside a report's files, README.md among them."""
    for folder in {path.parent for path in files} - {results, reports}:
        sweep_left(folder, below=False)


def _check_folder(results: Path, reports: Path) -> None:
    """A report gets a folder of its own.

    Raises:
        RecordError: If it is a file, the results folder or one around it, or the root of a checkout.
    """
    target, evidence = reports.resolve(), results.resolve()
    if reports.exists() and not reports.is_dir():
        raise RecordError(f"--reports {reports} is a file; name a folder")
    if target == evidence or target in evidence.parents:
        raise RecordError(f"--reports {reports} is the results folder, or holds it; name a folder of its own")
    if any((target / name).exists() for name in (".git", "pyproject.toml", "records")):
        raise RecordError(f"--reports {reports} holds other things than reports; name a folder of its own")


def compare(
    results: Path,
    reports: Path,
    models: Sequence[str] = MODELS,
    *,
    strict: bool = False,
    documents: bool = False,
    repository: str = "",
) -> list[str]:
    """What differs between the folders and what the records give, one line a file; empty when nothing does.

    Pictures are compared under the lock file's versions only: another drawing library may put a line elsewhere. The
    numbers behind each are compared always.

    Args:
        results: The results folder.
        reports: Where pages, tables and figures stand.
        models: Whose curves, confusion matrices and areas are drawn.
        strict: Name every other file and link of the two folders too: somebody's own text, or what was slipped in.
        documents: Compare the generated parts of README.md and docs/findings.md, too.
        repository: As `build` had it.

    Raises:
        BenchError: If `repository` is not an address.
        RecordError: If the results folder is not there.
    """
    files, strays, _ = _targets(results, reports, models, documents=documents, repository=repository)
    exact = draws_as_locked()
    wrong = []
    for path, content in files.items():
        if strict and path.is_symlink():
            wrong.append(f"{path}: is a link; a report's files stand in its folder")
        elif not path.exists():
            wrong.append(f"{path}: missing; medbench report writes it")
        elif not _same(path, content, exact=exact):
            wrong.append(f"{path}: is not what the records give; medbench report rewrites it")
    if strict:
        strays = [path for folder in (results / "tables", reports) for path in _others(folder, files)]
    return wrong + [f"{path}: no record gives this file" for path in strays]


def _others(folder: Path, files: Collection[Path]) -> list[Path]:
    """Everything below a folder, hidden or not, that is neither a folder nor one of the files; no link is followed."""
    paths = sorted(folder.rglob("*"))
    return [path for path in paths if path not in files and (path.is_symlink() or not path.is_dir())]


def _same(path: Path, content: bytes, *, exact: bool) -> bool:
    present = path.read_bytes()
    if exact or present == content:
        return present == content
    return path.suffix in PICTURES


def _targets(
    results: Path, reports: Path, models: Sequence[str], *, documents: bool, repository: str
) -> tuple[dict[Path, bytes], list[Path], list[str]]:
    """What each generated file must hold, files that a report wrote once and no record gives, and the notes."""
    from bench.report import findings
    from bench.report.contents import render  # drawing libraries: two seconds that an unchanged folder need not pay
    from bench.report.site.readme_answer import into_readme, readme_beside

    readme = readme_beside(reports) if documents else None
    content = render(
        results,
        models,
        links=Links.of(reports, results, reports, repository),
        readme_links=None if readme is None else Links.of(readme.parent, results, reports),
    )
    files: dict[Path, bytes] = {}
    pages = {**content.pages, MANIFEST: manifest(content.pages)}
    for folder, contents in ((results / "tables", content.tables), (reports, pages)):
        files |= {folder / name: made for name, made in contents.items()}
    strays = [results / "tables" / name for name in sorted(TIDY) if (results / "tables" / name).is_file()]
    strays = [path for path in [*strays, *listed(reports)] if path not in files and _is_own(path, results)]
    if readme is not None:
        files[readme] = into_readme(readme.read_text(encoding="utf-8"), content.readme).encode()
    page = findings.findings_beside(reports) if documents else None
    if page is not None and "claims.csv" in content.pages and content.tables.keys() >= set(findings.TABLES):
        made = {name: content.tables[name] for name in findings.TABLES}
        files[page] = findings.render(made, content.pages["claims.csv"])
    return files, strays, content.notes


def _is_own(path: Path, results: Path) -> bool:
    """Whether a file still is what a report wrote under its name, and not somebody's own text.

    It begins with the mark, or is a table of the results. This can only save a file: what may be removed is listed in
    the manifest.
    """
    if path.parent == results / "tables":
        return path.name in TIDY
    if path.suffix == ".pdf":  # the mark is in its Info dictionary
        content = path.read_bytes()
        return content.startswith(b"%PDF") and b"medbench report | " in content
    with path.open("rb") as stream:
        return MARK.match(stream.read(600)) is not None


def _may_replace(path: Path, results: Path, reports: Path) -> bool:
    """Whether a report may write over what is there: its own, an empty file, the README between its marks."""
    own = path.parent == results / "tables" or reports not in path.parents
    return own or path.stat().st_size == 0 or _is_own(path, results)
