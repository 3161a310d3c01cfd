"""The files that a record is sealed with, and the one reader of predictions. No torch.

pyarrow reads a table; pandas would take milliseconds more a file, and a report may have thousands to read.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.errors import RecordError
from bench.records.sealed import read_file
from bench.records.writing.swap import kept_path

if TYPE_CHECKING:  # imported where tables are read or written: a third of `medbench plan`'s second
    import pandas as pd

LAST_EPOCH = ("val_auc", "val_acc")  # of a history's last row
KNOWN_COLUMNS = "split, index, label, logit_0 ..."
MAX_ROWS = 2**20  # where no card says how many; ten times the largest set's val and test
MAX_COLUMNS = 1024
VALUE_BYTES, HEAD_BYTES = 16, 2**16  # a value unfolded, and what a table has beside its values: more than was ever seen


@dataclass(frozen=True)
class SplitPredictions:
    """One split of a prediction table, in index order.

    Attributes:
        indices: (N,) in the data set's split; whole are 0 .. N-1.
        labels: (N,) class indices.
        logits: (N, K) float32, a column contiguous.
    """

    indices: NDArray[np.int64]
    labels: NDArray[np.int64]
    logits: NDArray[np.float32]

    @property
    def is_whole(self) -> bool:
        """Whether every image of the split stands in it, once."""
        return np.array_equal(self.indices, np.arange(len(self.indices)))


@dataclass(frozen=True)
class PredictionTable:
    """A run's stored predictions, a row an image.

    Attributes:
        splits: (N,) `val` or `test`.
        indices: (N,) in the split.
        labels: (N,) class indices.
        logits: (K, N) float32, a row a class.
    """

    splits: NDArray[Any]
    indices: NDArray[np.int64]
    labels: NDArray[np.int64]
    logits: NDArray[np.float32]

    def split(self, name: str) -> SplitPredictions:
        """The rows of a split, sorted by index."""
        rows = np.flatnonzero(self.splits == name)
        rows = rows[np.argsort(self.indices[rows], kind="stable")]
        return SplitPredictions(self.indices[rows], self.labels[rows], np.take(self.logits, rows, axis=1).T)


def read_predictions(
    source: Path | bytes, name: str | Path = "predictions", num_rows: int | None = None
) -> PredictionTable:
    """Predictions from a file or its bytes.

    Args:
        source: The file or its bytes.
        name: What the message calls bytes.
        num_rows: How many images the data set's card has in val and test; a table with more is not unfolded.

    Raises:
        RecordError: If the file is missing, damaged, or no table of predictions.
    """
    import pyarrow as pa

    name = source if isinstance(source, Path) else name
    try:
        table = read_table(source, MAX_ROWS if num_rows is None else num_rows)
        return PredictionTable(
            splits=table.column("split").to_numpy(),
            indices=table.column("index").to_numpy().astype(np.int64),
            labels=table.column("label").to_numpy().astype(np.int64),
            logits=np.stack(
                [table.column(f"logit_{k}").to_numpy().astype(np.float32) for k in range(table.num_columns - 3)]
            ),
        )
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError) as error:
        raise RecordError(f"{name}: no prediction table ({error}); known columns: {KNOWN_COLUMNS}") from None


def read_history(source: Path | bytes, name: str | Path = "history", num_rows: int = MAX_ROWS) -> pd.DataFrame:
    """A run's epochs from a file or its bytes; args as `read_predictions`.

    Raises:
        RecordError: If the file is missing, damaged, or no table of epochs.
    """
    import pyarrow as pa

    name = source if isinstance(source, Path) else name
    try:
        frame: pd.DataFrame = read_table(source, num_rows).to_pandas()
        return frame
    except (OSError, pa.ArrowException, ValueError, TypeError) as error:
        raise RecordError(f"{name}: unreadable history ({error})") from None


def last_epoch(content: bytes, name: str | Path) -> tuple[int, float, float]:
    """How many epochs a history has, and val's AUC and accuracy after the last; a report reads thousands.

    Args:
        content: The file's bytes.
        name: What the message calls them.

    Raises:
        RecordError: If they are damaged, or no table of at least one epoch.
    """
    import pyarrow as pa

    try:
        table = read_table(content, MAX_ROWS, LAST_EPOCH)
        val_auc, val_acc = (float(table.column(column)[-1].as_py()) for column in LAST_EPOCH)
        return table.num_rows, val_auc, val_acc
    except (OSError, pa.ArrowException, KeyError, IndexError, ValueError, TypeError) as error:
        raise RecordError(f"{name}: unreadable history ({error})") from None


def read_table(source: Path | bytes, num_rows: int, columns: Sequence[str] | None = None) -> Any:
    """A parquet file's table, all of it or some columns, unfolded only if its metadata is within bounds."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(pa.BufferReader(read_file(source) if isinstance(source, Path) else source))
    _check_size(file.metadata, num_rows)
    return file.read(columns=None if columns is None else list(columns), use_threads=False)


def _check_size(metadata: Any, max_rows: int) -> None:
    """Refuse a table by what its footer says, before anything of it is unfolded: a few KB can hold gigabytes.

    Raises:
        ValueError: If it has more rows, columns or bytes than such a table can have.
    """
    rows, columns = metadata.num_rows, metadata.num_columns
    if rows > max_rows or columns > MAX_COLUMNS:
        raise ValueError(f"{rows:,} rows and {columns:,} columns; at most {max_rows:,} and {MAX_COLUMNS:,}")
    unfolded = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    most = HEAD_BYTES + VALUE_BYTES * rows * columns
    if unfolded > most:
        raise ValueError(f"{unfolded:,} bytes unfolded; {rows:,} rows have at most {most:,}")


def read_attached(file: Path, sha256: str | None, of: str = "the record") -> bytes:
    """The bytes of a file that a record is sealed with.

    Args:
        file: Predictions, history or maps.
        sha256: What the record says of it.
        of: What the message calls the record.

    Raises:
        RecordError: If the file is missing or another.
    """
    problem = f"{file} is not the file that {of} was sealed with; restore it or do the run again"
    for path in (file, kept_path(file)):  # the other while a replacement goes on, or was interrupted
        try:
            content = read_file(path)
        except RecordError as error:
            problem = str(error) if path == file else problem
            continue
        if hashlib.sha256(content).hexdigest() == sha256:
            return content
    raise RecordError(problem)


def frame_bytes(frame: pd.DataFrame) -> bytes:
    """A table as parquet bytes; the same table gives the same bytes under the same pyarrow."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False, compression="zstd")
    return buffer.getvalue()
