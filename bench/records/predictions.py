"""The files that a record is sealed with: predictions and history as parquet bytes. No torch."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import RecordError

if TYPE_CHECKING:  # imported where tables are read: a third of `medbench plan`'s second
    import pandas as pd


def frame_bytes(frame: pd.DataFrame) -> bytes:
    """A table as parquet bytes; the same table gives the same bytes under the same pyarrow."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False, compression="zstd")
    return buffer.getvalue()


def read_attached(file: Path, sha256: str | None, of: str = "the record") -> bytes:
    """The bytes of a file that a record is sealed with.

    Args:
        file: Predictions, history or maps.
        sha256: What the record says of it.
        of: What the message calls the record.

    Raises:
        RecordError: If the file is missing or another.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise RecordError(f"{file}: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise RecordError(f"{file} is not the file that {of} was sealed with; restore it or do the run again")
    return content


def read_predictions(source: Path | bytes) -> pd.DataFrame:
    """Predictions as a table: `split, index, label, logit_0 ...`.

    Raises:
        RecordError: If the file is missing or damaged.
    """
    import pandas as pd

    name = source if isinstance(source, Path) else "predictions"
    try:
        return pd.read_parquet(source if isinstance(source, Path) else io.BytesIO(source))
    except (OSError, ValueError) as error:
        raise RecordError(f"{name}: unreadable predictions ({error})") from None
