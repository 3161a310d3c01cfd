"""Settings and cells of timings that tests make up."""

from __future__ import annotations

from typing import Any

from bench.records.timing_record import (
    Round,
    Setting,
    TimingCell,
)


def setting(**changed: Any) -> Setting:
    """fp32 inference of 2 images of 8 px, or what is changed about it."""
    plain = {"mode": "inference", "precision": "fp32", "memory_format": "contiguous", "compiled": False}
    return Setting.model_validate({**plain, "batch_size": 2, "img_size": 8, **changed})


def cell(seconds: list[list[float]], *, iterations: int = 1, **changed: Any) -> TimingCell:
    """A finished cell from the block seconds of each round."""
    rounds = [
        Round(index=index, status="done", iterations=iterations, block_seconds=blocks, peak_memory_mib=100.0 + index)
        for index, blocks in enumerate(seconds)
    ]
    return TimingCell(setting=setting(**changed), rounds=rounds)
