"""What `medbench compare` answers: a row a run, a row a cell, the whole, and its exit code. No torch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bench.check.compare.contrast import Contrast
from bench.check.verdicts import AGREEING, RerunVerdict
from bench.records.run_record import Record
from bench.stats.comparisons import Difference

Verdict = RerunVerdict | Literal["not the same run", "damaged", "no scores", "only in A", "only in B"]
COMPARED: tuple[RerunVerdict, ...] = ("bit-equal", "equivalent", "not told apart", "differs")
WORST_FIRST: tuple[Verdict, ...] = ("damaged", "not the same run", *reversed(COMPARED))
FAILING: tuple[Verdict, ...] = ("damaged", "not the same run", "differs")  # any of these: exit code 1
ONE_SIDED: tuple[Verdict, ...] = ("only in A", "only in B")


def _numbers(contrast: Contrast | None) -> dict[str, Any]:
    """Differences and intervals for `--json`."""
    numbers: dict[str, Any] = {}
    for name in ("auc", "acc"):
        difference: Difference | None = getattr(contrast, name, None)
        numbers[f"{name}_difference"] = None if difference is None else difference.value
        numbers[f"{name}_interval_90"] = None if difference is None else [difference.low_90, difference.high_90]
    return numbers


def _in_words(difference: Difference | None, bit_equal: bool) -> str:
    if difference is None or bit_equal:
        return "" if difference is None else "0"
    return f"{difference.value:+.4f} ({difference.low_90:+.4f} to {difference.high_90:+.4f})"


def _columns(contrast: Contrast | None) -> dict[str, str]:
    """Differences and intervals for a person."""
    bit_equal = contrast is not None and contrast.bit_equal
    return {f"{name} (90 %)": _in_words(getattr(contrast, name.lower(), None), bit_equal) for name in ("AUC", "ACC")}


@dataclass(frozen=True)
class RunRow:
    """One run id and what two folders say of it; differences are B minus A."""

    run_id: str
    verdict: Verdict
    reason: str = ""
    contrast: Contrast | None = None
    a: Record | None = None
    b: Record | None = None

    def as_row(self) -> dict[str, str]:
        """What a person sees of it."""
        return {"run": self.run_id, "verdict": self.verdict, **_columns(self.contrast), "reason": self.reason}

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        contrast = self.contrast
        p_values = {
            "auc_p": None if contrast is None or contrast.bit_equal or contrast.auc is None else contrast.auc.p,
            "mcnemar_p": None if contrast is None else contrast.mcnemar_p,
        }
        return {"run": self.run_id, "verdict": self.verdict, **_numbers(contrast), **p_values, "reason": self.reason}


@dataclass(frozen=True)
class CellRow:
    """One cell over the seeds that both folders have; the differences are of its means."""

    protocol: str
    model: str
    dataset: str
    n_seeds: int
    verdict: RerunVerdict
    reason: str
    contrast: Contrast

    def _names(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("protocol", "model", "dataset", "n_seeds", "verdict")}

    def as_row(self) -> dict[str, Any]:
        """What a person sees of it."""
        return {**self._names(), **_columns(self.contrast), "reason": self.reason}

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {**self._names(), **_numbers(self.contrast), "reason": self.reason}


@dataclass
class Comparison:
    """What two results folders say of the same runs.

    Attributes:
        a, b: The folders; A is the reference.
        rows: One a run id.
        cells: One a cell with at least one compared run.
        notes: Stale records, and re-runs that were not recorded, one line each.
        written: Evidence of re-runs that was written into A.
    """

    a: Path
    b: Path
    rows: list[RunRow]
    cells: list[CellRow]
    notes: list[str] = field(default_factory=list)
    written: list[Path] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        """The worst of all runs and cells that both folders have."""
        reached = {row.verdict for row in self.rows} | {cell.verdict for cell in self.cells}
        return next((verdict for verdict in WORST_FIRST if verdict in reached), "no scores")

    def exit_code(self, *, strict: bool = False) -> int:
        """1 if something differs, is damaged or is another run, else 0.

        *Not told apart* is 0: it contradicts nothing, and a small test set, which cannot show equivalence, would fail
        every honest re-run on other hardware. It proves nothing either, and raises no trust level.

        Args:
            strict: 1 unless every run that both folders have, and every cell, is bit-equal or equivalent: for a re-run
                that should come out the same.
        """
        verdicts = [row.verdict for row in self.rows if row.verdict not in ONE_SIDED]
        verdicts += [cell.verdict for cell in self.cells]
        if strict:
            return 0 if all(verdict in AGREEING for verdict in verdicts) else 1
        return 1 if any(verdict in FAILING for verdict in verdicts) else 0

    def summary(self) -> str:
        """One line for a person."""
        counts = Counter(row.verdict for row in self.rows)
        return f"{self.verdict}: " + ", ".join(f"{number} {verdict}" for verdict, number in sorted(counts.items()))

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "a": str(self.a),
            "b": str(self.b),
            "verdict": self.verdict,
            "runs": [row.as_dict() for row in self.rows],
            "cells": [cell.as_dict() for cell in self.cells],
            "notes": self.notes,
            "written": [str(path) for path in self.written],
        }
