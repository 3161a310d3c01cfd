"""Has anything changed since the last report? Digests of what goes in, of the code, and of what came out.

The stamp stands in `<results>/.cache/`; it may be deleted at any time. It only spares work: `--check` never reads it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from packaging.requirements import Requirement

from bench.errors import RecordError
from bench.records.sealed import TEMPORARY, canonical, write_atomic
from bench.records.writing.swap import KEPT
from bench.report.manifest import MANIFEST, listed

ROOT = Path(__file__).resolve().parents[2]
CODE = ("bench", "models")
CODE_SUFFIXES = {".py", ".toml", ".csv", ".jinja", ".css", ".js"}
DRAWN_UNDER = "3.11"  # the Python that .ci/lock resolves for; a later one has other versions under the same lock
UNFINISHED = (TEMPORARY, KEPT)  # how the names of files begin that are being written or replaced
NOT_EVIDENCE = {"tables", ".cache", ".locks", "checkpoints"}
# What can move a byte of a picture or a page; their versions in the lock file are the reference.
DRAWING = ("matplotlib", "seaborn", "numpy", "pandas", "fonttools", "pillow", "contourpy", "jinja2", "scipy")


def versions(packages: Iterable[str] = DRAWING) -> dict[str, str]:
    """Installed versions of the packages that draw and print, and Python's."""
    installed = {"python": ".".join(map(str, sys.version_info[:2]))}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[package] = importlib.metadata.version(package)
    return installed


def locked_versions(lock: Path = ROOT / "requirements.lock") -> dict[str, str]:
    """Versions that the lock file pins for this Python and system; empty where there is no lock file."""
    pins: dict[str, str] = {}
    for line in lock.read_text(encoding="utf-8").splitlines() if lock.is_file() else ():
        if line[:1].isalpha() and "==" in line:
            requirement = Requirement(line.rstrip("\\ "))
            if requirement.marker is None or requirement.marker.evaluate():
                pins[requirement.name.lower()] = str(requirement.specifier).removeprefix("==")
    return pins


def draws_as_locked() -> bool:
    """Whether pictures drawn here must have the bytes of those made under the lock file."""
    pins = {**locked_versions(), "python": DRAWN_UNDER}
    return all(pins.get(name) == version for name, version in versions().items())


def _file_digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _files(folder: Path, skipped: set[str]) -> Iterable[Path]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name in skipped:
            continue
        found = (inner for inner in sorted(path.rglob("*")) if inner.is_file()) if path.is_dir() else (path,)
        yield from (inner for inner in found if not inner.name.startswith(UNFINISHED))


def inputs_digest(results: Path, reports: Path, arguments: Sequence[str]) -> str:
    """One digest of everything that a report depends on: evidence, code, packages and arguments.

    Args:
        results: The evidence; what is made of it does not count, nor does a reports folder inside.
        reports: Where the report goes.
        arguments: What else decides its content.

    Raises:
        RecordError: If a file is removed meanwhile.
    """
    digest = hashlib.sha256(canonical({"versions": versions(), "arguments": list(arguments)}))
    inside = f"{os.path.relpath(reports, results)}{os.sep}"
    for path in _files(results, NOT_EVIDENCE):
        if str(path.relative_to(results)).startswith(inside):
            continue
        try:
            digest.update(f"{path.relative_to(results)}\0{_file_digest(path)}\n".encode())
        except FileNotFoundError:
            raise RecordError(f"{path} was removed while the report was made; run it again") from None
    for line in code_lines(ROOT, CODE):
        digest.update(line)
    return digest.hexdigest()


def code_lines(root: Path, names: Iterable[str]) -> Iterator[bytes]:
    """Path and digest of each file of code, a line each.

    Args:
        root: What the paths are relative to.
        names: Folders and files under it.
    """
    for name in names:
        path = root / name
        for file in _files(path, {"__pycache__"}) if path.is_dir() else (path,):
            if file.suffix in CODE_SUFFIXES:
                yield f"{file.relative_to(root)}\0{_file_digest(file)}\n".encode()


def _stamp_path(results: Path) -> Path:
    return results / ".cache" / "report.json"


def unchanged(results: Path, reports: Path, inputs: str) -> list[Path] | None:
    """The files of the last report, if what goes in is the same and all of them are as they were written.

    A stamp that leaves out what the manifest or the tables' folder holds is no report's.
    """
    try:
        stamp = json.loads(_stamp_path(results).read_bytes())[str(reports.resolve())]
        if stamp["inputs"] != inputs:
            return None
        files = {Path(name): digest for name, digest in stamp["outputs"].items()}
        there = {reports / MANIFEST, *listed(reports), *(results / "tables").glob("*.csv")}
        if not files.keys() >= there or any(_file_digest(path) != digest for path, digest in files.items()):
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return list(files)


def remember(results: Path, reports: Path, inputs: str, outputs: Mapping[Path, bytes]) -> None:
    """Keep the digests for the next call, where the folder can be written."""
    path = _stamp_path(results)
    digests = {str(name): hashlib.sha256(content).hexdigest() for name, content in outputs.items()}
    try:
        stamps = json.loads(path.read_bytes())
        stamps = stamps if isinstance(stamps, dict) else {}
    except (OSError, ValueError):
        stamps = {}
    stamps[str(reports.resolve())] = {"inputs": inputs, "outputs": digests}
    with contextlib.suppress(RecordError):
        write_atomic(path, json.dumps(stamps).encode())
