"""Hints in messages: the closest name, or what there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import RecordError, did_you_mean, suggestion
from bench.records.run_record import existing_folder, results_folder

KNOWN = ("breastmnist", "bloodmnist")


def test_a_hint_names_the_closest_name_or_all_that_are_known() -> None:
    """A mistyped name is one word away; where nothing is close, the list helps."""
    assert did_you_mean("braestmnist", KNOWN) == "did you mean 'breastmnist'?"
    assert did_you_mean("cifar", KNOWN) == ""
    assert suggestion("braestmnist", KNOWN) == "did you mean 'breastmnist'?"
    assert suggestion("cifar", KNOWN) == "known: breastmnist, bloodmnist"


def test_a_missing_results_folder_is_an_error_with_its_sibling_or_advice(tmp_path: Path) -> None:
    """Nothing is read from a folder that is not there, nor from one that holds no evidence."""
    (tmp_path / "results" / "records").mkdir(parents=True)
    assert results_folder(tmp_path / "results") == tmp_path / "results"
    with pytest.raises(RecordError, match=r"resluts; did you mean 'results'\?$"):
        existing_folder(tmp_path / "resluts")
    with pytest.raises(RecordError, match=r"elsewhere; give another with --results$"):
        existing_folder(tmp_path / "elsewhere")
    (tmp_path / "empty").mkdir()
    assert existing_folder(tmp_path / "empty") == tmp_path / "empty"
    with pytest.raises(RecordError, match="empty is no results folder"):
        results_folder(tmp_path / "empty")
