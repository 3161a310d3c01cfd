"""The soak in short: one blow of each kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.soak import CODES, KILLS, soak


@pytest.mark.slow
def test_a_plan_survives_one_blow_of_each_kind(tmp_path: Path) -> None:
    """Nothing lost, nothing differs, no run failed for an interruption, no process or file left."""
    result = soak(tmp_path, 4, dict.fromkeys((*KILLS, *CODES), 1), seed=1)
    assert result["blows"] == dict.fromkeys((*KILLS, *CODES), 1)
    assert result["records"] == 8
    assert [result[key] for key in ("wrong", "missing", "differing", "left")] == [[], [], [], []]
