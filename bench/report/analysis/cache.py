"""What predictions say, kept under `<results>/.cache/analysis/`: arrays behind a digest. No pickle.

A cache may be deleted at any time. A file that cannot be written means no cache; one that does not fit its digest is
ignored and written anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.errors import RecordError
from bench.records.card import DataCard
from bench.records.run_record import Record
from bench.records.sealed import canonical, write_atomic
from bench.report.analysis_plan import VERSION

Arrays = dict[str, NDArray[Any]]


def cache_key(records: Sequence[Record], card: DataCard) -> str:
    """What a cell's arrays depend on: its records, the data set's card and the code's version."""
    digests = [record.record_digest for record in records]
    content = {"version": VERSION, "records": digests, "card": card.model_dump(mode="json")}
    return hashlib.sha256(canonical(content)).hexdigest()


def _path(results: Path, key: str) -> Path:
    return results / ".cache" / "analysis" / f"{key}.npz"


def load(results: Path, key: str) -> Arrays | None:
    """The arrays kept under a key, None where there are none that can be trusted."""
    try:
        digest, _, content = _path(results, key).read_bytes().partition(b"\n")
    except OSError:
        return None
    if digest.decode("latin-1") != _digest(key, content):
        return None
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile):
        return None


def store(results: Path, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Keep arrays under a key, where the folder can be written."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    content = buffer.getvalue()
    with contextlib.suppress(RecordError):
        write_atomic(_path(results, key), _digest(key, content).encode() + b"\n" + content)


def _digest(key: str, content: bytes) -> str:
    """Over the key too, so that a file under another's name is ignored."""
    return hashlib.sha256(key.encode() + content).hexdigest()
