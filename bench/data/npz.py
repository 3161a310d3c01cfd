"""The arrays of an npz file, of which nothing is executed."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.errors import DataError

Content = dict[str, NDArray[Any]]


def read_npz(path: Path, advice: str = "put the official file there") -> Content:
    """All arrays of an npz file; nothing in it is executed.

    Args:
        path: The file.
        advice: What would do where it is damaged.

    Raises:
        DataError: If it cannot be read as one.
    """
    try:
        with path.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array")
            return {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is not a readable npz file ({error}); {advice}") from None
