"""Locks on files: who writes a run, or does it, holds its lock; a killed holder's lock is free at once. No torch."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from bench.errors import RecordError
from bench.records.sealed import explain_os_error

# What a file system without flock answers; ENOLCK is NFS without its lock service.
WITHOUT_LOCKS = (errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL)


class BusyError(Exception):
    """Another process holds the lock."""


@contextlib.contextmanager
def held(path: Path, *, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold a lock file while the block runs; the folder is made if it is not there.

    Args:
        path: The lock file.
        wait_seconds: How long to wait for another holder.

    Raises:
        BusyError: If another process still holds it.
        RecordError: If the file system refuses, or has no locks.
    """
    from filelock import FileLock, Timeout

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=wait_seconds)
        lock.acquire()
    except Timeout:
        raise BusyError(f"{path} is held by another process") from None
    except (OSError, NotImplementedError) as error:
        raise _explain(error, path) from None
    try:
        yield
    finally:
        lock.release()


def _explain(error: OSError | NotImplementedError, path: Path) -> RecordError:
    """One line for a lock that could not be had; two commands could do one run twice without it."""
    if isinstance(error, NotImplementedError) or error.errno in WITHOUT_LOCKS:
        return RecordError(
            f"{path.parent}: the file system has no file locks (flock), without which two commands could write one "
            "record; give --results on a file system that has them"
        )
    return explain_os_error(error, path)
