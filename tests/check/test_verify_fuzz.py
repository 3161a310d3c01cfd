"""Random damage to every kind of file: named or harmless, never a traceback, never a wait, never a changed file."""

from __future__ import annotations

import dataclasses
import hashlib
import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from bench.check.trust import Rerun, read_reruns, rerun_path
from bench.check.verify import verify
from bench.errors import BenchError
from bench.records.cam_record import cam_path, images_path, maps_path, read_cams
from bench.records.names import Run, history_path, predictions_path
from bench.records.run_record import read_record, real_only
from bench.records.sealed import write_sealed
from bench.report.contents import render
from bench.report.evidence import gather
from tests.check.damage import damage, files_of
from tests.check.faults import RESULTS, SEEDS, copy_store

MAPS = Run("gradcam-224", "medspectralnet", "breastmnist", 0)
TIMING = "timings/cpu-amd-epyc-1-thread/resnet18.json"
# Nothing else in a folder says that these were there: `--against` and the history of the store do.
ALONE = ("costs", "timings", "reruns", "bands.toml", "store.json")
SECONDS = 60.0


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A file of every kind."""
    results = copy_store(tmp_path / "results")
    record, cam = MAPS.path(RESULTS), cam_path(RESULTS, MAPS)
    files = [record, predictions_path(record), history_path(record), cam, maps_path(cam), images_path(cam)]
    for file in (*files, RESULTS / TIMING):
        copy = results / file.relative_to(RESULTS)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    write_rerun(results, SEEDS[0])
    return results


def write_rerun(results: Path, run: Run) -> None:
    """Evidence that a run was made again, bit for bit."""
    record = read_record(run.path(results))
    content: dict[str, Any] = dict.fromkeys(Rerun.model_fields)
    content |= {"schema_version": 1, "record_digest": "", "suite_version": "0", "run_id": run.run_id, "reason": ""}
    content |= {"reference_digest": record.record_digest, "rerun_digest": "2" * 64, "verdict": "bit-equal"}
    content |= {"auc_difference": 0.0, "auc_interval_90": (0.0, 0.0)}
    content |= {"acc_difference": 0.0, "acc_interval_90": (0.0, 0.0)}
    content |= {"rerun_predictions_sha256": record.predictions_sha256, "rerun_packages": record.packages}
    write_sealed(rerun_path(results, run.run_id), Rerun.model_validate(content))


def digests(results: Path) -> dict[Path, str]:
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files_of(results)}


def seen(results: Path) -> Any:
    """All that a report is made of, or why there is none."""
    try:
        evidence = gather(results)
        files = [
            path.read_bytes()
            for record in evidence.records
            for path in (predictions_path(record.run.path(results)), history_path(record.run.path(results)))
            if path.exists()
        ]
        parts = {field.name: getattr(evidence, field.name) for field in dataclasses.fields(evidence)}
        costs, timings = evidence.costs, evidence.timings
        rest = read_cams(results), read_reruns(results), real_only(results)
        return parts, costs, timings, rest, files
    except BenchError as error:
        return str(error)


def hurt(results: Path, seed: int, rounds: int) -> list[str]:
    """Damage a store again and again; what was neither named nor harmless, one line each."""
    wrong = []
    before = {path: path.read_bytes() for path in files_of(results)}
    whole = seen(results)
    for number in range(rounds):
        draw = random.Random(f"{seed}/{number}")
        path, what = damage(results, draw)
        left = digests(results)
        started = time.monotonic()
        findings = verify(results, scores=True)
        name = f"{number}: {path.relative_to(results)} {what}"
        if time.monotonic() - started > SECONDS:
            wrong.append(f"{name}: took too long")
        if digests(results) != left:
            wrong.append(f"{name}: a file was changed")
        if any("\n" in line for line in findings.problems):
            wrong.append(f"{name}: a problem of several lines")
        removed = what == "removed" and path.relative_to(results).parts[0] in ALONE
        if not findings.problems and not findings.stale and not removed and seen(results) != whole:
            wrong.append(f"{name}: not noticed")
        path.write_bytes(before[path])
    return wrong


def test_damage_is_noticed_or_harmless(store: Path) -> None:
    """Hundreds of damages, one at a time."""
    assert verify(store, scores=True).problems == []
    assert hurt(store, seed=18, rounds=200) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_much_damage_is_noticed_or_harmless(store: Path, seed: int) -> None:
    """The same, thousands of times."""
    assert hurt(store, seed=seed, rounds=700) == []


@pytest.mark.slow
def test_a_damaged_store_is_reported_or_refused_in_one_line(store: Path) -> None:
    """Several damages at once: a report of the rest, or one clear line."""
    before = {path: path.read_bytes() for path in files_of(store)}
    for number in range(8):
        draw = random.Random(f"report/{number}")
        hurt_files = [damage(store, draw)[0] for _ in range(3)]
        message = ""
        try:
            render(store)
        except BenchError as error:
            message = str(error)
        assert "\n" not in message
        for path in hurt_files:
            path.write_bytes(before[path])
