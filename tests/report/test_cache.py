"""What cached arrays depend on: a key that leaves something out gives a report another's numbers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench.records.names import Run
from bench.report.analysis import cache
from tests.making import make_card, make_run


def test_code_that_draws_is_code_that_measures(tmp_path: Path) -> None:
    """Where random numbers start is part of what an array comes from."""
    package = tmp_path / "bench"
    shutil.copytree(cache._BENCH, package, ignore=shutil.ignore_patterns("__pycache__"))
    with (package / "streams.py").open("a", encoding="utf-8") as file:
        file.write("# another\n")
    assert cache.code_digest(package) != cache.code_digest(cache._BENCH)


def test_another_arithmetic_is_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook that is not pinned rounds otherwise: what it keeps is not what a report reads, nor the reverse."""
    records, card = [make_run(tmp_path, Run("lite-96", "resnet18", "breastmnist", 0))], make_card("breastmnist")
    pinned = cache.cache_key(records, card)
    assert cache.cache_key(records, card) == pinned
    monkeypatch.setattr("bench.machine.cpu_isa.in_force", lambda: "native: avx512")
    assert cache.cache_key(records, card) != pinned
