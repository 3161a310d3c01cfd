"""The checksum that a data set is known by: of its official file, or of arrays that have no file."""

from __future__ import annotations

import hashlib
from typing import IO, Any

from numpy.typing import NDArray


def md5_of(stream: IO[bytes]) -> str:
    """MD5 of what a stream holds from here on."""
    return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()  # type: ignore[arg-type]


def arrays_md5(content: dict[str, NDArray[Any]]) -> str:
    """MD5 over the arrays' names, dtypes, shapes and bytes: what stands for a file's MD5."""
    digest = hashlib.md5(usedforsecurity=False)
    for key in sorted(content):
        array = content[key]
        digest.update(f"{key} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
