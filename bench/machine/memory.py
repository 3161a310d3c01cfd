"""Whether an error means that the system gives no more memory, whatever library says so."""

from __future__ import annotations

import errno

# In lower case: what names tensors, objects, threads, and of a library's own code.
SIGNS = (
    "out of memory",
    "allocate memory",
    "bad_alloc",
    "bad alloc",
    "can't start new thread",
    "failed to launch worker thread",
    "thread creation failed",
    "failed to map segment",
    "mmap failed",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error, or one that it came from, is a lack of memory."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError) or (isinstance(seen, OSError) and seen.errno == errno.ENOMEM):
            return True
        if any(sign in str(seen).lower() for sign in SIGNS):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
