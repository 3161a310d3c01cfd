"""What killed writers left in a results folder: removed or put right, and nothing of a living one touched. No torch."""

from __future__ import annotations

import contextlib
from pathlib import Path

from bench.records.names import lock_file
from bench.records.sealed import sweep_left
from bench.records.writing.locks import BusyError, held
from bench.records.writing.swap import KEPT, put_right

SWAPPED = ("records", "cams", "tracks")  # folders whose records have tables beside them


def sweep_store(results: Path) -> list[Path]:
    """Remove temporary files of killed writers, and end or take back the replacements that they left half done.

    Returns:
        The temporary files that were removed.

    Raises:
        RecordError: If the file system refuses, or has no locks where a replacement must be put right.
    """
    left = sweep_left(results)
    for kind in SWAPPED:
        for record in sorted({_record_of(kept) for kept in (results / kind).rglob(f"{KEPT}*")}):
            with contextlib.suppress(BusyError), held(lock_file(results, _lock_name(record.relative_to(results)))):
                put_right(record, _tables_of(record))
    return left


def _lock_name(record: Path) -> str:
    """What the writer of a record calls its lock: from `<kind>/[<track>/]<protocol>/<model>/<dataset>/seed<k>.json`."""
    kind, *names = record.parts
    prefix = {"records": "", "cams": "cams__"}.get(kind, f"{kind}__{names[0]}__")
    if len(names) < 4:  # a data set's card of a track
        return f"{prefix}{record.stem}"
    protocol, slug, dataset, file = names[-4:]
    return f"{prefix}{slug}__{dataset}__{protocol}__s{file.removeprefix('seed').removesuffix('.json')}"


def _record_of(kept: Path) -> Path:
    """`.kept-seed0.predictions.parquet` -> `seed0.json`."""
    return kept.with_name(kept.name.removeprefix(KEPT).split(".")[0] + ".json")


def _tables_of(record: Path) -> list[Path]:
    """The paths of all tables of a record that are there or kept."""
    names = {path.name.removeprefix(KEPT) for path in record.parent.glob("*.parquet")}
    return [record.with_name(name) for name in sorted(names) if name.startswith(f"{record.stem}.")]
