"""`medbench report`: every file is a pure function of a results folder; same records, same bytes.

`results/tables/` and `reports/` are written and compared here. Records on data made here give files of their own,
named and stamped SYNTHETIC.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import RecordError
from bench.report.evidence import MODELS
from bench.report.stamp import draws_as_locked, inputs_digest, remember, unchanged
from bench.sealed import write_atomic

__all__ = ["Built", "build", "compare"]

PICTURES = (".svg", ".pdf")
LINK = re.compile(rb"((?:\.\./)*)\.\./results/")  # rooms write links as if reports/ stood beside results/
INLINE_PICTURE = re.compile(rb"<svg\b.*?</svg>", re.DOTALL)


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


def build(results: Path, reports: Path, models: Sequence[str] = MODELS) -> Built:
    """Write every generated file and remove what no longer belongs; at once where nothing changed.

    Args:
        results: The results folder.
        reports: Where pages, tables and figures go.
        models: Whose curves, confusion matrices and areas are drawn.

    Raises:
        RecordError: If a folder is missing or refuses.
    """
    if not results.is_dir():
        raise RecordError(f"There is no results folder {results}; give another with --results")
    inputs = inputs_digest(results, reports, models)
    current = unchanged(results, reports, inputs)
    if current is not None:
        return Built(current, [], was_current=True)
    files, strays, notes = _targets(results, reports, models)
    for path, content in files.items():
        if not path.exists() or path.read_bytes() != content:
            write_atomic(path, content)
    for stray in strays:
        stray.unlink()
    remember(results, reports, inputs, files)
    return Built(list(files), notes, was_current=False)


def compare(results: Path, reports: Path, models: Sequence[str] = MODELS) -> list[str]:
    """What differs between the folders and what the records give, one line a file; empty when nothing does.

    Pictures, and those inside pages, are compared under the lock file's versions only: another drawing library may
    place a line elsewhere. The numbers behind each are compared always.

    Raises:
        RecordError: If the results folder is not there.
    """
    files, strays, _ = _targets(results, reports, models)
    exact = draws_as_locked()
    wrong = []
    for path, content in files.items():
        if not path.exists():
            wrong.append(f"{path}: missing; medbench report writes it")
        elif not _same(path, content, exact=exact):
            wrong.append(f"{path}: is not what the records give; medbench report rewrites it")
    return wrong + [f"{path}: no record gives this file" for path in strays]


def _same(path: Path, content: bytes, *, exact: bool) -> bool:
    found = path.read_bytes()
    if exact or found == content:
        return found == content
    if path.suffix in PICTURES:
        return True
    return path.suffix == ".html" and INLINE_PICTURE.sub(b"", found) == INLINE_PICTURE.sub(b"", content)


def _targets(results: Path, reports: Path, models: Sequence[str]) -> tuple[dict[Path, bytes], list[Path], list[str]]:
    """What each generated file must hold, files that a report wrote once and no record gives, and the notes."""
    from bench.report.contents import render  # drawing libraries: two seconds that an unchanged folder need not pay
    from bench.report.first_screen import into_readme, readme_beside

    tables, pages, notes = render(results, models)
    way = os.path.relpath(results, reports).encode()
    if way != b"../results":
        pages = {name: _linked(name, content, way) for name, content in pages.items()}
    files: dict[Path, bytes] = {}
    strays: list[Path] = []
    for folder, contents in ((results / "tables", tables), (reports, pages)):
        files |= {folder / name: content for name, content in contents.items()}
        found = sorted(folder.rglob("*")) if folder.is_dir() else []
        strays += [path for path in found if path.is_file() and path not in files and _is_generated(path)]
    readme = readme_beside(reports)
    if readme is not None and "summary.md" in pages:
        text = into_readme(readme.read_text(encoding="utf-8"), pages["summary.md"].decode())
        files[readme] = text.encode()
    return files, strays, notes


def _linked(name: str, content: bytes, way: bytes) -> bytes:
    """A page whose links lead to where the results folder is."""
    if not name.endswith((".md", ".html")):
        return content
    return LINK.sub(lambda found: found[1] + way + b"/", content)


def _is_generated(path: Path) -> bool:
    """Whether a report wrote a file; other people's stay."""
    if path.parent.name == "tables":
        return True
    if path.suffix == ".pdf":  # the mark is in its Info dictionary
        return b"medbench report" in path.read_bytes()
    with path.open("rb") as stream:
        return b"medbench report" in stream.read(600)
