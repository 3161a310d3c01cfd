"""A file that knows when it is not whole: a SHA-256, then what it covers. No torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

from bench.records.sealed import write_atomic

DIGEST_BYTES = 32


def write_framed(path: Path, payload: bytes) -> None:
    """Write a payload behind its digest, whole or not at all.

    Raises:
        RecordError: If the file system refuses.
    """
    write_atomic(path, hashlib.sha256(payload).digest() + payload)


def read_framed(path: Path) -> bytes | None:
    """The payload, None where there is no file or a damaged one."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, payload = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
    return payload if hashlib.sha256(payload).digest() == digest else None
