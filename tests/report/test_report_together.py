"""Reports beside each other and beside other writers: one is made at a time, and what killed ones left goes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.check.verify import verify
from bench.errors import RecordError
from bench.records.card import write_card
from bench.records.names import Run, lock_file
from bench.records.sealed import staged
from bench.records.writing.locks import held
from bench.report.build import build, compare
from bench.report.stamp import inputs_digest
from tests.making import make_card, make_run

RUNS = [Run("smoke", "resnet18_28", "breastmnist", seed) for seed in (0, 1)]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for run in RUNS:
        make_run(tmp_path / "results", run)
    return tmp_path / "results"


def start(work: Callable[[], object]) -> multiprocessing.process.BaseProcess:
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


def killed_while_writing(path: Path) -> None:
    """A writer of a file that is killed in the middle."""

    def work() -> None:
        with staged(path, b"half"):
            os.kill(os.getpid(), signal.SIGKILL)

    process = start(work)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def unfinished(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.startswith((".tmp-", ".kept-"))]


def test_two_reports_at_once_give_one_report(results: Path, tmp_path: Path) -> None:
    """Three processes on one folder: all end well, and the files are those of a report made alone."""
    processes = [start(lambda: build(results, tmp_path / "reports")) for _ in range(3)]
    for process in processes:
        process.join(240)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert compare(results, tmp_path / "reports", strict=True) == []
    assert unfinished(tmp_path) == []


def test_a_report_waits_for_another(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one is made a second writes nothing, and after a while it says so in one line."""
    monkeypatch.setattr(sys.modules["bench.report.build"], "WAIT_SECONDS", 0.2)
    with held(lock_file(results, "report")), pytest.raises(RecordError, match=r"another report of .* is being made"):
        build(results, tmp_path / "reports")
    assert not (tmp_path / "reports").exists()


def test_what_killed_writers_left_goes_everywhere(results: Path, tmp_path: Path) -> None:
    """Below tables/, costs/, data/, cams/, the reports and beside the README, though nothing else changed."""
    reports = tmp_path / "reports"
    (tmp_path / "README.md").write_text(
        (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8"), encoding="utf-8"
    )
    built = build(results, reports, documents=True)
    places = ("tables/cells.csv", "costs/resnet18/224-8.json", "data/breastmnist.json", "cams/a/b/c/seed0.json")
    places += (".cache/report.json", "timings/cpu/resnet18.json", "reruns/a.json")
    for path in (*(results / place for place in places), reports / "figures" / "fig04.svg"):
        killed_while_writing(path)
    assert len(unfinished(tmp_path)) == 8
    killed_while_writing(tmp_path / "README.md")
    assert tmp_path / "README.md" in built.files
    assert build(results, reports, documents=True).files == built.files
    assert unfinished(tmp_path) == []
    assert [problem for problem in verify(results).problems if "killed" in problem] == []


def test_a_report_beside_writers_reads_no_half_file(results: Path, tmp_path: Path) -> None:
    """Files that appear and vanish while digests are taken are no input."""
    before = inputs_digest(results, tmp_path / "reports", ())
    stop = threading.Event()

    def write_again() -> None:
        while not stop.is_set():
            write_card(results, make_card("breastmnist"))

    writer = threading.Thread(target=write_again)
    writer.start()
    try:
        found = {inputs_digest(results, tmp_path / "reports", ()) for _ in range(5)}
    finally:
        stop.set()
        writer.join()
    assert found == {before}
