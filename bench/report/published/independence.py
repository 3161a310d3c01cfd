"""Whether a data set's images are independent: what its source says of several images a patient, lesion or scan."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import pandas as pd

from bench.records.names import SYNTHETIC_PREFIX

FILE = Path(__file__).parent / "independence.csv"


@dataclass(frozen=True)
class Independence:
    """What the source of a data set says of images that belong together."""

    dataset: str
    unit: str  # what several images may be of
    several: Literal["yes", "unknown"]
    statement: str
    source: str
    url: str
    read: str  # what of the source was read for this: `abstract`, `as others quote it` ...

    @property
    def warning(self) -> str:
        """One line for a page, "" where the source says nothing."""
        if self.several != "yes":
            return ""
        return (
            f"Not independent: several images per {self.unit} ({self.statement}; {self.source}). Intervals and "
            "p-values treat images as independent, so the intervals are too narrow and the p-values too small"
        )


@cache
def independences() -> dict[str, Independence]:
    """Data set -> what its source says."""
    frame = pd.read_csv(FILE, keep_default_na=False, dtype=str)
    rows = [Independence(*row) for row in frame.itertuples(index=False, name=None)]
    return {row.dataset: row for row in rows}


def independence(dataset: str) -> Independence | None:
    """Of one data set; None for others than the paper's six, and for synthetic ones, whose images are independent."""
    return None if dataset.startswith(SYNTHETIC_PREFIX) else independences().get(dataset)
