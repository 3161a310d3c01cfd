"""Replacing a record loses nothing: killed at every step, on a full disk, beside readers and other writers."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.check.verify import verify
from bench.errors import RecordError
from bench.records.names import Run, history_path, lock_path, predictions_path
from bench.records.predictions import read_attached
from bench.records.run_record import Record, read_record, write_run
from bench.records.sealed import sealed_bytes, staged, sweep_left, write_atomic, write_new
from bench.records.writing.locks import BusyError, held
from bench.records.writing.swap import kept_path
from bench.records.writing.sweep import sweep_store
from tests.making import make_run

RUN = Run("smoke", "resnet18", "breastmnist", 0)
FILES = ["seed0.history.parquet", "seed0.json", "seed0.predictions.parquet"]
ROOT = Path(__file__).parents[2]


def in_child(work: Callable[[], object]) -> int:
    """Do something in a forked process; its exit code, minus the signal's number if one ended it."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode


Outcome = tuple[Record, bytes, bytes]


def two_outcomes(tmp_path: Path) -> tuple[Path, Record, Outcome]:
    """A store with a finished run, its record, and another outcome of the same run: record, predictions, history."""
    old = make_run(tmp_path / "store", RUN)
    new = make_run(tmp_path / "other", Run(RUN.protocol, RUN.model, RUN.dataset, 7))
    path = new.run.path(tmp_path / "other")
    record = new.model_copy(update={"seed": 0, "run_id": RUN.run_id}).sealed()
    return tmp_path / "store", old, (record, predictions_path(path).read_bytes(), history_path(path).read_bytes())


def read_whole(store: Path) -> Record:
    """The run's record, with every table that it names."""
    record = read_record(RUN.path(store), store)
    read_attached(predictions_path(RUN.path(store)), record.predictions_sha256)
    if record.history_sha256 is not None:
        read_attached(history_path(RUN.path(store)), record.history_sha256)
    return record


def names(store: Path) -> list[str]:
    return sorted(path.name for path in RUN.path(store).parent.iterdir())


def killed_at(step: int, store: Path, outcome: Outcome) -> None:
    """Write an outcome; SIGKILL comes before the step-th flush, rename or removal."""
    calls = 0

    def counted(function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            nonlocal calls
            calls += 1
            if calls == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)

        return call

    Path.replace, Path.unlink, os.fsync = counted(Path.replace), counted(Path.unlink), counted(os.fsync)  # type: ignore[method-assign,assignment]
    write_run(store, *outcome)
    os._exit(0)


def test_a_kill_at_any_step_leaves_one_whole_record(tmp_path: Path) -> None:
    """At every moment a reader finds the old record or the new one with its tables, and a sweep leaves nothing else."""
    seen = []
    for step in range(1, 40):
        store, old, new = two_outcomes(tmp_path / str(step))
        ended = in_child(lambda step=step, store=store, new=new: killed_at(step, store, new))  # type: ignore[misc]
        record = read_whole(store)
        assert record in (old, new[0])
        assert [p for p in verify(store, scores=True).problems if "/.tmp-" not in p and "/.kept-" not in p] == []
        sweep_store(store)
        assert read_whole(store) == record
        assert names(store) == FILES
        assert verify(store, scores=True).problems == []
        seen.append(record == old)
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
    assert ended == 0
    assert seen == sorted(seen, reverse=True)  # old until the new one counts, then new
    assert set(seen) == {True, False}


def test_a_replacement_after_a_kill_starts_from_what_stood(tmp_path: Path) -> None:
    """Killed between tables and record, the run is written again without a sweep before."""
    for step in range(1, 12):
        store, _, new = two_outcomes(tmp_path / str(step))
        in_child(lambda step=step, store=store, new=new: killed_at(step, store, new))  # type: ignore[misc]
        write_run(store, *new)
        assert read_whole(store) == new[0]
        assert names(store) == FILES


@pytest.mark.parametrize("limit", [0, 500, 1000, 2000, 3000, 4000])
def test_a_full_disk_leaves_the_old_record(tmp_path: Path, limit: int) -> None:
    """Where any of the new files does not fit, the old one stands, and no other file is left."""
    store, old, new = two_outcomes(tmp_path)
    sizes = [len(content) for content in (sealed_bytes(new[0]), *new[1:])]

    def on_a_small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            write_run(store, *new)
        except RecordError as error:
            os._exit(3 if "Cannot write" in str(error) else 4)
        os._exit(0)

    assert in_child(on_a_small_disk) == (3 if limit < max(sizes) else 0)
    assert read_whole(store) == (old if limit < max(sizes) else new[0])
    assert verify(store, scores=True).problems == []


def test_the_command_on_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """`run --overwrite always` where no file fits: one line, exit code 2, and the record is what it was."""
    command = [sys.executable, "-m", "bench.cli", "run", "--models", "floor/prior", "--protocol", "smoke", "--results"]
    command += ["r", "--datasets", "synthetic-breastmnist", "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=120)
    before = {path: path.read_bytes() for path in (tmp_path / "r" / "records").rglob("*") if path.is_file()}
    assert before
    full = subprocess.run(
        [*command, "--overwrite", "always"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    )
    assert (full.returncode, full.stderr.count("\n")) == (2, 1), full.stderr
    assert "Cannot write" in full.stderr
    assert {path: path.read_bytes() for path in (tmp_path / "r" / "records").rglob("*") if path.is_file()} == before


def test_a_table_that_the_new_record_lacks_goes(tmp_path: Path) -> None:
    """A fitted model's record that replaces a trained one's leaves no history behind."""
    store, _, new = two_outcomes(tmp_path)
    fitted = new[0].model_copy(update={"history_sha256": None}).sealed()
    write_run(store, fitted, new[1], None)
    assert read_whole(store) == fitted
    assert names(store) == FILES[1:]


def test_a_reader_finds_a_kept_table_by_its_digest_alone(tmp_path: Path) -> None:
    """A file under the other name that is not the record's is no table of it."""
    store, old, _ = two_outcomes(tmp_path)
    file = predictions_path(RUN.path(store))
    kept = kept_path(file)
    file.rename(kept)
    assert read_attached(file, old.predictions_sha256) == kept.read_bytes()
    kept.write_bytes(b"another")
    with pytest.raises(RecordError, match=r"seed0\.predictions\.parquet"):
        read_attached(file, old.predictions_sha256)


def test_a_living_writer_s_file_is_never_swept(tmp_path: Path) -> None:
    """While a file is being written the sweep passes it over; after a kill it goes."""
    with staged(tmp_path / "deep" / "cost.json", b"half") as temporary:
        assert in_child(lambda: os._exit(len(sweep_left(tmp_path)))) == 0
        assert temporary.read_bytes() == b"half"
    assert not temporary.exists()

    def killed() -> None:
        with staged(tmp_path / "deep" / "cost.json", b"half"):
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(killed) == -signal.SIGKILL
    left = list((tmp_path / "deep").iterdir())
    assert len(left) == 1
    assert sweep_left(tmp_path) == left
    assert list((tmp_path / "deep").iterdir()) == []


def test_what_living_runs_hold_is_not_put_right(tmp_path: Path) -> None:
    """A replacement that goes on under the run's lock is its holder's business."""
    store, _, _ = two_outcomes(tmp_path)
    file = predictions_path(RUN.path(store))
    file.rename(kept_path(file))
    with held(lock_path(store, RUN)):
        sweep_store(store)
        assert kept_path(file).exists()
    sweep_store(store)
    assert file.exists()
    assert not kept_path(file).exists()


def test_a_new_file_never_takes_another_s_place(tmp_path: Path) -> None:
    """Of two writers of one name the first one's content stays."""
    assert write_new(tmp_path / "card.json", b"first")
    assert not write_new(tmp_path / "card.json", b"second")
    assert (tmp_path / "card.json").read_bytes() == b"first"
    write_atomic(tmp_path / "card.json", b"third")
    assert [path.name for path in tmp_path.iterdir()] == ["card.json"]
    assert (tmp_path / "card.json").read_bytes() == b"third"


def test_a_held_lock_is_named_and_freed_by_a_kill(tmp_path: Path) -> None:
    """A second holder gets an error at once; a killed holder holds nothing."""
    path = tmp_path / "locks" / "one.lock"

    def second() -> None:
        with contextlib.suppress(BusyError), held(path):
            os._exit(1)
        os._exit(0)

    with held(path):
        assert in_child(second) == 0

    def killed() -> None:
        with held(path):
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(killed) == -signal.SIGKILL
    with held(path):
        pass
