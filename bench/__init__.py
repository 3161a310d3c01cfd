"""A reproducible benchmark of MedSpectralNet and the models it was compared with, on MedMNIST."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

__version__ = "0.1.0"
__all__ = ["__version__", "load_results"]


def load_results(results: str | Path = "results") -> pd.DataFrame:
    """Every record of a results folder as one table, one row a run.

    Args:
        results: The folder that holds `records/`.

    Returns:
        A DataFrame; scores are fractions in columns such as `test_auc` and `test_acc`.

    Raises:
        RecordError: If a record is damaged; nothing is left out silently.
    """
    from bench.records.run_record import read_records, to_frame

    records, problems = read_records(Path(results))
    if problems:
        raise problems[0]
    return to_frame(records)
