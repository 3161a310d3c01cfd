"""Records: whole or not at all, refused when touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bench
from bench.errors import RecordError
from bench.records.names import Run, history_path, model_slug, predictions_path
from bench.records.predictions import frame_bytes
from bench.records.run_record import Record, read_record, read_records, sweep_run, write_run
from bench.records.sealed import write_atomic
from tests.making import RUN, make_predictions, make_record, read_frame


def test_names_become_paths_and_ids() -> None:
    """`/` becomes `--`; the id names model, data set, protocol and seed."""
    assert RUN.run_id == "timm--resnet26__breastmnist__smoke__s3"
    assert str(RUN.path(Path("r"))) == "r/records/smoke/timm--resnet26/breastmnist/seed3.json"


@pytest.mark.parametrize("name", ["../../x", "<script>", "a/b/c", "a--b", "", "a b", "..", ".hidden", "a/../b"])
def test_a_name_that_could_leave_its_folder_is_refused(name: str) -> None:
    """No model's name escapes `records/` or breaks a page."""
    with pytest.raises(RecordError, match="no usable model name"):
        model_slug(name)


def test_a_record_comes_back_as_it_went(tmp_path: Path) -> None:
    """Every float keeps all its digits through the file."""
    record = make_record()
    path = write_run(tmp_path, record, b"p", b"h")
    assert read_record(path, tmp_path) == record
    assert predictions_path(path).read_bytes() == b"p"
    assert history_path(path).read_bytes() == b"h"
    assert bench.load_results(tmp_path)["test_twin_free_acc"].tolist() == [1 / 3]


@pytest.mark.parametrize("damage", ["seed", "test", "commit", "record_digest"])
def test_a_changed_field_is_noticed(tmp_path: Path, damage: str) -> None:
    """The digest covers every field."""
    path = write_run(tmp_path, make_record(), None, None)
    content = json.loads(path.read_bytes())
    content[damage] = {"seed": 4, "test": {"auc": 0.9, "acc": 0.9}, "commit": "abc", "record_digest": "0" * 64}[damage]
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(RecordError, match=r"seed3\.json: record_digest does not fit"):
        read_record(path, tmp_path)


def test_a_record_in_a_wrong_place_is_refused(tmp_path: Path) -> None:
    """A copied file does not become another run's result."""
    path = write_run(tmp_path, make_record(), None, None)
    other = path.with_name("seed4.json")
    path.rename(other)
    with pytest.raises(RecordError, match="belongs elsewhere"):
        read_record(other, tmp_path)


def test_a_newer_schema_is_refused_by_name(tmp_path: Path) -> None:
    """An old suite does not guess what a newer one meant."""
    path = write_run(tmp_path, make_record(), None, None)
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "schema_version": 2}), encoding="utf-8")
    with pytest.raises(RecordError, match="written by a newer suite"):
        read_record(path, tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"schema_version": 1}', b"\xff\xfe", b"NaN"])
def test_what_is_no_record_is_refused_with_its_file(tmp_path: Path, content: bytes) -> None:
    """The other records stay readable; the broken one is named."""
    good = write_run(tmp_path, make_record(), None, None)
    bad = good.with_name("seed9.json")
    bad.write_bytes(content)
    records, problems = read_records(tmp_path)
    assert [record.seed for record in records] == [3]
    assert len(problems) == 1
    assert "seed9.json" in str(problems[0])
    with pytest.raises(RecordError):
        bench.load_results(tmp_path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_no_flipped_byte_gives_another_record(tmp_path: Path, position: float, flip: int) -> None:
    """A damaged byte is refused, or leaves the very same record (white space)."""
    record = make_record()
    path = write_run(tmp_path, record, None, None)
    content = bytearray(path.read_bytes())
    content[int(position * len(content))] ^= flip
    path.write_bytes(bytes(content))
    try:
        read = read_record(path, tmp_path)
    except RecordError:
        return
    assert read == record


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    """A write is whole or not at all."""
    path = tmp_path / "file"
    write_atomic(path, b"old")

    with pytest.raises(RecordError, match="Cannot write"):
        write_atomic(tmp_path / "file" / "below", b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_sweep_removes_only_what_a_killed_writer_left(tmp_path: Path) -> None:
    """Temporary files and parquet without JSON go; a whole record stays."""
    path = write_run(tmp_path, make_record(), b"p", b"h")
    temporary = path.with_name(".tmp-1-seed3.json")
    temporary.write_bytes(b"half")
    sweep_run(tmp_path, RUN)
    assert path.exists()
    assert not temporary.exists()
    path.unlink()
    sweep_run(tmp_path, RUN)
    assert not list(path.parent.iterdir())


def test_synthetic_never_enters_a_store_of_real_records(tmp_path: Path) -> None:
    """A folder that says `real_only` refuses."""
    (tmp_path / "store.json").write_text('{"real_only": true}', encoding="utf-8")
    run = Run("smoke", "resnet18", "synthetic-bloodmnist", 0)
    with pytest.raises(RecordError, match="real records only"):
        write_run(tmp_path, make_record(run), None, None)
    assert not (tmp_path / "records").exists()


def test_the_published_schema_is_the_codes() -> None:
    """`results/record.schema.json` is what `Record` checks."""
    path = Path(__file__).parents[2] / "results" / "record.schema.json"
    assert json.loads(path.read_text(encoding="utf-8")) == Record.model_json_schema()


def test_the_recorded_store_takes_real_records_only() -> None:
    """The repository's own results refuse synthetic ones."""
    store = Path(__file__).parents[2] / "results" / "store.json"
    assert json.loads(store.read_text(encoding="utf-8")) == {"real_only": True}


def test_predictions_of_the_helper_are_what_the_runner_writes() -> None:
    """Read and written again, the helper's predictions are the same bytes."""
    content = make_predictions("breastmnist", 0)
    assert frame_bytes(read_frame(content)) == content
