"""Hostile input: truncated data, flipped bytes in scores and checkpoints, names that would leave their folder."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.check.verify import verify
from bench.data.npz import read_npz
from bench.errors import DataError, RecordError
from bench.records.names import Run, predictions_path
from bench.records.run_record import read_record, read_records, real_only
from bench.records.sealed import pretty
from bench.report import build
from bench.training.checkpoint import Checkpoint
from tests.making import make_record, make_run, write_npz

RUN = Run("smoke", "resnet18", "breastmnist", 0)
SLOW_FOLDERS = [HealthCheck.function_scoped_fixture]


@pytest.mark.parametrize("part", range(20))
def test_a_truncated_npz_is_a_clear_error(tmp_path: Path, part: int) -> None:
    """Cut at twenty positions, an npz is refused by name; no cut gives arrays."""
    content = write_npz("synthetic-breastmnist", tmp_path).read_bytes()
    path = tmp_path / "cut.npz"
    path.write_bytes(content[: len(content) * part // 20])
    with pytest.raises(DataError, match=r"cut\.npz"):
        read_npz(path)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999999999,)}",
        "{'descr': '|u1', (((",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
        None,
    ],
)
def test_an_odd_array_in_an_npz_is_a_clear_error(tmp_path: Path, header: str | None) -> None:
    """A shape that no number holds, a header that never ends, objects, a file that is no array."""
    member = b"" if header is None else b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    with zipfile.ZipFile(tmp_path / "odd.npz", "w") as archive:
        archive.writestr("images" if header is None else "images.npy", member)
    with pytest.raises(DataError, match=r"odd\.npz is not a readable npz file"):
        read_npz(tmp_path / "odd.npz")


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW_FOLDERS)
@given(position=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_no_flipped_byte_in_the_scores_is_accepted(tmp_path: Path, position: float, flip: int) -> None:
    """A changed prediction file is a named problem of `verify`, never a number."""
    make_run(tmp_path, RUN)
    path = predictions_path(RUN.path(tmp_path))
    content = bytearray(path.read_bytes())
    content[int(position * len(content))] ^= flip
    path.write_bytes(bytes(content))
    problems = verify(tmp_path, scores=True).problems
    assert len(problems) == 1
    assert path.name in problems[0]


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW_FOLDERS)
@given(position=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255), cut=st.booleans())
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, position: float, flip: int, cut: bool) -> None:
    """Whatever byte is lost or changed, the state before it is used and nothing is raised."""
    shutil.rmtree(tmp_path / "c", ignore_errors=True)
    checkpoint = Checkpoint(tmp_path / "c", "key")
    for epoch in (1, 2):
        checkpoint.save({"epoch": epoch, "weight": torch.full((3,), float(epoch))})
    path = tmp_path / "c" / "turn1.ckpt"
    content = bytearray(path.read_bytes())
    offset = int(position * len(content))
    content[offset] ^= flip
    path.write_bytes(bytes(content[:offset] if cut else content))
    state = Checkpoint(tmp_path / "c", "key").load()
    assert state is not None
    assert state["epoch"] == 1
    assert torch.equal(state["weight"], torch.ones(3))


@pytest.mark.parametrize("name", ["../../x", "<script>alert(1)</script>", "a//b", "a--b", "/etc/passwd", "x\x00y", ""])
def test_a_record_with_a_hostile_name_is_refused_and_reports_go_on(tmp_path: Path, name: str) -> None:
    """It is listed by file and reason; the table is made of the others, and the name is on no page."""
    results = tmp_path / "results"
    make_run(results, RUN)
    content = json.loads(RUN.path(results).read_bytes())
    bad = RUN.path(results).with_name("seed7.json")
    sealed = make_record(RUN).model_copy(update={"model": name, "record_digest": ""})
    bad.write_bytes(pretty({**content, "model": name, "record_digest": sealed.computed_digest()}))
    assert [problem for problem in verify(results).problems if "seed7.json" in problem]
    notes = build(results, tmp_path / "reports").notes
    assert [note for note in notes if "left out" in note and "seed7.json" in note]
    assert [record.seed for record in read_records(results)[0]] == [0]
    if name:  # the page's notes say, escaped, what was left out; nothing else knows the name
        pages = [path for path in (tmp_path / "reports").rglob("*.*") if path.name != "trust.html"]
        assert not [path for path in pages if name.encode() in path.read_bytes()]
    assert b"<script>alert" not in (tmp_path / "reports" / "trust.html").read_bytes()


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"schema_version": 1, "model": "\\ud800"}', b"\xff\xfe", b"null", b"1" * 5000]
)
def test_a_record_that_is_no_record_is_one_problem(tmp_path: Path, content: bytes) -> None:
    """Nested too deeply, text without UTF-8, another type: named by file, the others are read."""
    make_run(tmp_path, RUN)
    RUN.path(tmp_path).with_name("seed7.json").write_bytes(content)
    records, problems = read_records(tmp_path)
    assert [record.seed for record in records] == [0]
    assert len(problems) == 1
    assert "seed7.json" in str(problems[0])


def test_lone_surrogates_in_a_record_are_refused(tmp_path: Path) -> None:
    """JSON can name half a character that no digest can be taken of."""
    make_run(tmp_path, RUN)
    path = RUN.path(tmp_path)
    content = json.loads(path.read_bytes())
    path.write_text(json.dumps({**content, "device": "\ud800"}), encoding="ascii")
    with pytest.raises(RecordError, match=r"seed0\.json.*UTF-8"):
        read_record(path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"real_only": "yes"}', "[" * 100_000])
def test_a_damaged_declaration_is_refused(tmp_path: Path, content: str) -> None:
    """A store that may hold real records alone is not taken for one that takes all."""
    (tmp_path / "store.json").write_text(content, encoding="utf-8")
    with pytest.raises(RecordError, match=r"store\.json is damaged"):
        real_only(tmp_path)
