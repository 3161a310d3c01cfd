"""What predictions say, kept under `<results>/.cache/analysis/`: arrays behind a digest. No pickle.

A cache may be deleted at any time. A file that cannot be written means no cache; one that does not fit its digest is
ignored and written anew.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from bench.errors import RecordError
from bench.machine import cpu_isa
from bench.records.card import DataCard
from bench.records.run_record import Record
from bench.records.sealed import canonical, write_atomic
from bench.report.stamp import code_lines

Arrays = dict[str, NDArray[Any]]

_BENCH = Path(__file__).parents[2]
# Of `bench`: what a cell's arrays come from; `streams.py` seeds the bootstrap and the floors of calibration errors.
CODE = ("stats", "streams.py", "records", "report/analysis", "report/analysis_plan.py")


def cache_key(records: Sequence[Record], card: DataCard) -> str:
    """What a cell's arrays depend on: its records, the data set's card, the code that measures and its arithmetic.

    A process that is not pinned, as a notebook, rounds by its processor: its last digits are not those of a report.
    """
    digests = [record.record_digest for record in records]
    content = {
        "code": code_digest(_BENCH),
        "arithmetic": cpu_isa.in_force(),
        "records": digests,
        "card": card.model_dump(mode="json"),
    }
    return hashlib.sha256(canonical(content)).hexdigest()


@functools.cache
def code_digest(package: Path) -> str:
    """Digest of the measuring code and the versions of numpy and scipy: a change makes each cached array void.

    Args:
        package: The folder of `bench`.
    """
    digest = hashlib.sha256(f"numpy {np.__version__} scipy {scipy.__version__}\n".encode())
    for line in code_lines(package, CODE):
        digest.update(line)
    return digest.hexdigest()


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
