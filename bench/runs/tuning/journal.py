"""What a sweep knows of its trials while it goes on: a file that a killed sweep is taken up from. No torch."""

from __future__ import annotations

import hashlib
import io
import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.errors import RecordError
from bench.records.run_record import Record
from bench.records.sealed import canonical, pretty, read_json, write_atomic
from bench.records.tuning.record import CURVES
from bench.runs.request import RunBundle

Curves = dict[str, list[float | None]]


@dataclass
class Journal:
    """Curves of a sweep's trials so far, by number.

    Attributes:
        folder: Where it stands, beside the trials' checkpoints.
        key: Digest of all that must be equal for a sweep to go on with it.
        curves: Of each trial that has any.
        diverged: Why a trial goes no further, by number.
        machine: What the trials were trained on: device, arithmetic, threads.
    """

    folder: Path
    key: str
    curves: dict[int, Curves] = field(default_factory=dict)
    diverged: dict[int, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def opened(cls, folder: Path, same: list[Any]) -> Journal:
        """The journal in a folder, empty where there is none with the same key."""
        journal = cls(folder, hashlib.sha256(canonical(same)).hexdigest())
        try:
            content = read_json(journal.path)
        except RecordError:
            return journal
        if isinstance(content, dict) and content.get("key") == journal.key:
            journal.curves = {int(number): curves for number, curves in content["curves"].items()}
            journal.diverged = {int(number): why for number, why in content["diverged"].items()}
            journal.machine = content["machine"]
        return journal

    @property
    def path(self) -> Path:
        """Its file."""
        return self.folder / "trials.json"

    def checkpoints(self, number: int) -> Path:
        """The folder of a trial's checkpoints."""
        return self.folder / f"trial{number}"

    def note(self, number: int, until: int, bundle: RunBundle) -> None:
        """Take over what a trial hands over at a rung.

        Raises:
            RecordError: If the file system refuses.
        """
        import pandas as pd

        history = pd.read_parquet(io.BytesIO(bundle.history or b"")).to_dict("records")[:until]
        self.curves[number] = {name: [_finite(row[name]) for row in history] for name in CURVES}
        record = bundle.record
        if record.status == "done":
            self.machine = {key: getattr(record, key) for key in ("device", "cpu_isa", "num_threads")}
        elif record.failure is not None:
            self.diverged[number] = record.failure.message
        write_atomic(self.path, pretty({k: v for k, v in vars(self).items() if k != "folder"}))

    def forget(self, number: int) -> None:
        """Remove the checkpoints of a trial that goes no further."""
        shutil.rmtree(self.checkpoints(number), ignore_errors=True)

    def remove(self) -> None:
        """Remove everything: the sweep has its record."""
        shutil.rmtree(self.folder, ignore_errors=True)


def is_outcome(record: Record) -> bool:
    """Whether a trial's end says something of its recipe: it reached its rung, or its loss was not finite."""
    return record.status == "done" or (record.failure is not None and record.failure.kind == "diverged")


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
