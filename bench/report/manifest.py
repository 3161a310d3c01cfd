"""Which files of a reports folder a report wrote: only these may a later report remove.

`manifest.txt` in the folder lists them by name, so that it is the same under every version of the drawing libraries.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

__all__ = ["MANIFEST", "listed", "manifest"]

MANIFEST = "manifest.txt"
HEAD = "# medbench report | the files that it wrote here; it removes those that no record gives any longer\n"


def manifest(names: Iterable[str]) -> bytes:
    """The manifest of files by their paths below the reports folder, itself left out."""
    return (HEAD + "".join(f"{name}\n" for name in sorted(names))).encode()


def listed(reports: Path) -> list[Path]:
    """The files that the last report wrote and that are there, in the manifest's order; none without a manifest.

    A line that leads out of the folder is ignored.
    """
    path = reports / MANIFEST
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    names = [PurePosixPath(line) for line in lines if line and not line.startswith("#")]
    inside = [name for name in names if not name.is_absolute() and ".." not in name.parts]
    return [reports / name for name in inside if (reports / name).is_file()]
