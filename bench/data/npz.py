"""The arrays of an npz file, of which nothing is executed."""

from __future__ import annotations

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
            content = {key: archive[key] for key in archive.files}
            if not all(isinstance(value, np.ndarray) for value in content.values()):
                raise ValueError("it holds other files than arrays")
            return content
    except MemoryError:
        raise
    except Exception as error:  # what the parsers of numpy and zipfile raise, RuntimeError of an encrypted file too
        raise DataError(f"{path} is not a readable npz file ({error}); {advice}") from None
