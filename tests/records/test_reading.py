"""What is read of evidence: never more than it can hold, and never what might not end."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.errors import RecordError
from bench.records.names import Run
from bench.records.predictions import read_history, read_predictions
from bench.records.run_record import read_record
from bench.records.scoring import num_rows
from bench.records.sealed import MAX_DEPTH, read_file, read_json
from tests.making import make_card, make_record, make_run


def folded(rows: int, **columns: Any) -> bytes:
    """A table whose every column is one value, which takes next to nothing in a file."""
    buffer = io.BytesIO()
    pd.DataFrame({**columns}, index=range(rows)).to_parquet(buffer, index=False, compression="zstd")
    return buffer.getvalue()


def test_a_table_with_more_rows_than_the_card_has_images_is_not_unfolded() -> None:
    """A million rows in a few KB, where there are 36 images."""
    table = folded(2**20, split="val", index=0, label=0, logit_0=0.0, logit_1=0.0)
    assert len(table) < 2**16
    with pytest.raises(RecordError, match="1,048,576 rows and 5 columns; at most 36"):
        read_predictions(table, num_rows=36)
    with pytest.raises(RecordError, match="at most 20"):
        read_history(table, num_rows=20)


def test_a_table_has_as_many_rows_as_val_and_test_have_images() -> None:
    """12 and 24; twice as many where the last step is scored too."""
    card, run = make_card("breastmnist"), Run("smoke", "resnet18_28", "breastmnist", 0)
    last = {"val_last": {"auc": 0.5, "acc": 0.5}, "test_last": {"auc": 0.5, "acc": 0.5}}
    assert (num_rows(make_record(run), card), num_rows(make_record(run, **last), card)) == (36, 72)


def test_a_table_with_larger_values_than_numbers_is_not_unfolded() -> None:
    """The rows are few, and a name is as long as a book."""
    table = folded(30, split="val" * 2**20, index=0, label=0, logit_0=0.0)
    with pytest.raises(RecordError, match="bytes unfolded; 30 rows have at most"):
        read_predictions(table, num_rows=36)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 255, 100_000])
def test_json_on_more_levels_than_evidence_has_is_one_line(tmp_path: Path, depth: int) -> None:
    """Whatever would print it might not come back."""
    path = tmp_path / "deep.json"
    path.write_text("[" * depth + "]" * depth, encoding="utf-8")
    with pytest.raises(RecordError, match="nested too deeply"):
        read_json(path)


def test_a_record_with_a_deep_field_is_one_line(tmp_path: Path) -> None:
    """The rules of a protocol may hold anything, but not on 255 levels."""
    run = Run("smoke", "resnet18_28", "breastmnist", 0)
    make_run(tmp_path, run)
    path = run.path(tmp_path)
    content = json.loads(path.read_bytes())
    content["resolved_protocol"]["data"] = json.loads('{"a":' * 255 + "1" + "}" * 255)
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(RecordError, match="nested too deeply"):
        read_record(path, tmp_path)


def test_a_pipe_a_folder_and_a_huge_file_are_not_read(tmp_path: Path) -> None:
    """One line each, at once."""
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(RecordError, match="no regular file"):
            read_file(tmp_path / name)
    (tmp_path / "large").write_bytes(b"12")
    with pytest.raises(RecordError, match="has 2 bytes; a file of evidence has at most 1"):
        read_file(tmp_path / "large", max_bytes=1)
