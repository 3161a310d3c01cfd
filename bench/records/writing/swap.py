"""Several files that belong together, replaced so that a full disk, a kill or a power cut loses none of them. No torch.

A record names its tables by digest. All new files are written whole beside the old ones first, which is where a full
disk ends it. Then the old tables get a name of their own (`.kept-seed0.predictions.parquet`), the new tables
theirs, and last the new record its own: from that moment on it counts, and what was kept is removed. Whoever reads
finds a table under either name, by its digest. `put_right` ends or takes back what a kill interrupted.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from bench.errors import RecordError
from bench.records.sealed import explain_os_error, staged

KEPT = ".kept-"
INTERRUPTED = "a replacement was interrupted; medbench run or merge into this folder puts it right"


def kept_path(file: Path) -> Path:
    """Where the former file stands while new ones are moved in."""
    return file.with_name(f"{KEPT}{file.name}")


def replace_together(record: Path, content: bytes, tables: Mapping[Path, bytes | None]) -> None:
    """Replace a record and its tables; call it only while holding their lock.

    Args:
        record: The record's path.
        content: The new record.
        tables: Paths and new content of its tables, None for one that it does not have.

    Raises:
        RecordError: If the file system refuses; then all is as it was.
    """
    put_right(record, tables)
    try:
        with contextlib.ExitStack() as stack:
            new = {
                file: stack.enter_context(staged(file, table)) for file, table in tables.items() if table is not None
            }
            new_record = stack.enter_context(staged(record, content))
            for file in tables:
                if file.exists():
                    file.replace(kept_path(file))
            for file, temporary in new.items():
                temporary.replace(file)
            _flush_names(record.parent)
            new_record.replace(record)
            _flush_names(record.parent)
            for file in tables:
                kept_path(file).unlink(missing_ok=True)
    except (OSError, RecordError) as error:
        put_right(record, tables)
        raise explain_os_error(error, record) if isinstance(error, OSError) else error from None


def put_right(record: Path, tables: Iterable[Path]) -> None:
    """After an interrupted replacement: the tables that the record names come back, others go.

    Args:
        record: The record's path.
        tables: The paths of its tables.

    Raises:
        RecordError: If the file system refuses.
    """
    every = list(tables)
    kept = {file: kept_path(file) for file in every if kept_path(file).exists()}
    if not kept:
        return
    try:
        named = record.read_bytes() if record.exists() else b""
        for file, former in kept.items():
            if _names(named, former) and not _names(named, file):
                former.replace(file)
            else:
                former.unlink()
        for file in every:
            if file.exists() and not _names(named, file):
                file.unlink()
    except OSError as error:
        raise explain_os_error(error, record) from None


def _names(record: bytes, file: Path) -> bool:
    """Whether a record's text holds the digest of a file that is there."""
    return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest().encode() in record


def _flush_names(folder: Path) -> None:
    """Have renames on the disk before the next step; a file system that cannot flush a folder keeps their order."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
