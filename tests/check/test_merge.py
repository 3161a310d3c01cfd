"""Merging believes nothing and overwrites nothing: every kind of file, and other processes beside it."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.check import merge as merging
from bench.check.merge import merge
from bench.check.verify import verify
from bench.errors import RecordError
from bench.records.cam_record import cam_path, maps_path
from bench.records.card import card_path
from bench.records.names import Run, lock_file, lock_path, predictions_path
from bench.records.run_record import read_record
from bench.records.sealed import pretty, read_sealed, write_sealed
from bench.records.timing_record import TimingRecord, timing_lock_name, timing_path
from bench.records.writing.locks import held
from tests.check.test_trust import ROW
from tests.making import make_card, make_run, make_timing

RUN = Run("smoke", "resnet18", "breastmnist", 0)
OTHER = Run("smoke", "resnet18", "breastmnist", 1)
RESULTS = Path(__file__).parents[2] / "results"
DEVICE = "cpu: one, 1 thread"
# Of the store, a file of each kind that has no short stand-in, with the tables beside it.
COST = "costs/resnet18/224-8.json"
CAM = "cams/gradcam-224/medspectralnet/breastmnist/seed0"
TRACKS = ("tracks/c28/breastmnist", "tracks/c28/lite-96/floor--prior/breastmnist/seed0")


def take_from_store(shard: Path, *stems: str) -> list[Path]:
    """Copy files of the store, each with what is named after it; more records of the store change nothing here."""
    files = [file for stem in stems for file in sorted(RESULTS.glob(f"{stem.removesuffix('.json')}.*"))]
    copies = [shard / file.relative_to(RESULTS) for file in files]
    for file, copy in zip(files, copies, strict=True):
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    return copies


def refused(source: Path, target: Path) -> str:
    """Why a merge is refused, of which nothing may be written."""
    with pytest.raises(RecordError) as refusal:
        merge([source], target)
    assert not target.exists()
    assert len(str(refusal.value).splitlines()) == 1
    return str(refusal.value)


def content_of(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and ".locks" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """A shard with one run."""
    make_run(tmp_path / "shard", RUN)
    return tmp_path / "shard"


def test_every_kind_of_evidence_is_taken_over(tmp_path: Path, shard: Path) -> None:
    """Records, cards, costs, timings, maps, tracks, rows and re-runs arrive as they are; again, nothing changes."""
    copies = take_from_store(shard, COST, CAM, *TRACKS)
    assert len(copies) == 1 + 3 + 2 + 2
    write_sealed(timing_path(shard, DEVICE, "resnet18"), make_timing("resnet18", DEVICE, []))
    (shard / "self_reported").mkdir()
    (shard / "self_reported" / "some.json").write_text(json.dumps(ROW), encoding="utf-8")
    merged = merge([shard], tmp_path / "whole")
    assert merged.taken == [RUN.run_id]
    places = {path.relative_to(shard) for path in copies if path.suffix == ".json"}
    places |= {timing_path(shard, DEVICE, "resnet18").relative_to(shard), Path("self_reported/some.json")}
    assert {path.relative_to(tmp_path / "whole") for path in merged.files} == places
    assert len(merged.files) == 6
    whole, source = content_of(tmp_path / "whole"), content_of(shard)
    assert whole.keys() == source.keys()
    assert [name for name in whole if whole[name] != source[name]] == ["self_reported/some.json"]  # keys sorted now
    assert merge([shard], tmp_path / "whole").files == []
    assert content_of(tmp_path / "whole") == whole


def test_a_card_is_written_where_its_content_belongs(tmp_path: Path, shard: Path) -> None:
    """A card that names `../../x`, sealed anew, writes nothing anywhere."""
    card = make_card("breastmnist").model_copy(update={"dataset": "../../x"}).sealed()
    card_path(shard, "breastmnist").write_bytes(pretty(card.model_dump(mode="json")))
    assert "data/breastmnist.json: dataset" in refused(shard, tmp_path / "deep" / "whole")
    assert not list(tmp_path.rglob("x.json"))


@pytest.mark.parametrize(
    "name",
    [
        "costs/resnet18/224-8.json",
        "timings/cpu/resnet18.json",
        "cams/smoke/resnet18/breastmnist/seed0.json",
        "reruns/resnet18__breastmnist__smoke__s0.json",
        "self_reported/some.json",
        "data/bloodmnist.json",
        "records/smoke/resnet18/breastmnist/notes.json",
    ],
)
@pytest.mark.parametrize("content", [b'{"torn": ', b"{}", b"[]", b"\xff"])
def test_what_is_no_evidence_is_refused_by_name(tmp_path: Path, shard: Path, name: str, content: bytes) -> None:
    """Torn JSON and JSON of something else, below every folder of evidence."""
    (shard / name).parent.mkdir(parents=True, exist_ok=True)
    (shard / name).write_bytes(content)
    assert f"{shard / name}: " in refused(shard, tmp_path / "whole")


@pytest.mark.parametrize("name", ["costs/.hidden.json", "timings/page.html", "costs/a/224-8.parquet", "cams/.x/y.json"])
def test_foreign_files_are_refused_by_name(tmp_path: Path, shard: Path, name: str) -> None:
    """Hidden files, pages, tables that no record names."""
    (shard / name).parent.mkdir(parents=True, exist_ok=True)
    (shard / name).write_bytes(b"garbage")
    assert f"{shard / name}: " in refused(shard, tmp_path / "whole")


def test_links_and_pipes_are_refused_unread(tmp_path: Path, shard: Path) -> None:
    """A link to another's file, a link to a folder and a pipe, which would never end, each by its name."""
    (tmp_path / "secret.json").write_text("{}", encoding="utf-8")
    make: dict[str, Callable[[Path], object]] = {
        "costs/linked.json": lambda path: path.symlink_to(tmp_path / "secret.json"),
        "cams/linked": lambda path: path.symlink_to(tmp_path),
        "timings/pipe.json": os.mkfifo,
    }
    for name, function in make.items():
        path = shard / name
        path.parent.mkdir(exist_ok=True)
        function(path)
        assert f"{path}: {'is no regular file' if 'pipe' in name else 'symbolic links'}" in refused(
            shard, tmp_path / "whole"
        )
        path.unlink()
    predictions = predictions_path(RUN.path(shard))
    predictions.rename(tmp_path / "elsewhere.parquet")
    predictions.symlink_to(tmp_path / "elsewhere.parquet")
    assert "symbolic links are refused" in refused(shard, tmp_path / "whole")


def test_evidence_in_another_s_place_is_refused(tmp_path: Path, shard: Path) -> None:
    """A cost, a timing and a map record stand where their content says."""
    for kind, name in (("costs", COST), ("cams", f"{CAM}.json")):
        source = RESULTS / name
        wrong = shard / kind / "other" / source.name
        wrong.parent.mkdir(parents=True)
        shutil.copy(source, wrong)
        assert "its content belongs to" in refused(shard, tmp_path / "whole")
        shutil.rmtree(shard / kind)


def test_synthetic_evidence_of_any_kind_stays_out_of_a_real_store(tmp_path: Path, shard: Path) -> None:
    """Maps of a synthetic set, and such maps that call themselves real."""
    take_from_store(shard, CAM)
    path = shard / f"{CAM}.json"
    cam = merging.read_evidence(shard, merging.PurePosixPath(path.relative_to(shard).as_posix()))
    assert isinstance(cam, merging.CamRecord)
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "store.json").write_text('{"real_only": true}', encoding="utf-8")
    for synthetic, reason in ((True, "real records only"), (False, "synthetic does not fit")):
        dataset = "synthetic-breastmnist"
        run = Run(cam.protocol, cam.model, dataset, cam.seed)
        made = cam.model_copy(update={"dataset": dataset, "run_id": run.run_id, "synthetic": synthetic})
        target = cam_path(shard, run)
        write_sealed(target, made)
        shutil.copy(maps_path(path), maps_path(target))
        if cam.images_sha256 is not None:
            shutil.copy(path.with_suffix(".images.parquet"), target.with_suffix(".images.parquet"))
        with pytest.raises(RecordError, match=reason):
            merge([shard], tmp_path / "real")
    assert [path.name for path in (tmp_path / "real").iterdir()] == ["store.json"]


def test_measurements_that_differ_are_refused(tmp_path: Path, shard: Path) -> None:
    """What stands is never overwritten, and both files are named."""
    path = timing_path(shard, DEVICE, "resnet18")
    write_sealed(path, make_timing("resnet18", DEVICE, []))
    merge([shard], tmp_path / "whole")
    write_sealed(path, make_timing("resnet18", DEVICE, [], suite_version="1"))
    before = content_of(tmp_path / "whole")
    with pytest.raises(RecordError, match=r"shard/timings.* and .*whole/timings.* differ; keep the one"):
        merge([shard], tmp_path / "whole")
    assert content_of(tmp_path / "whole") == before
    assert read_sealed(timing_path(tmp_path / "whole", DEVICE, "resnet18"), TimingRecord).suite_version == "0"


def in_child(work: Callable[[], object]) -> None:
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(60)
    assert process.exitcode == 0


def test_a_run_that_finishes_meanwhile_is_never_overwritten(
    tmp_path: Path, shard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process records another outcome between the check and the lock: refused, the rest is taken over."""
    make_run(shard, OTHER)
    whole = tmp_path / "whole"

    def finish_elsewhere() -> None:
        with held(lock_path(whole, RUN)):
            make_run(whole, RUN, val={"auc": 0.25, "acc": 0.25})

    def after_another(*arguments: object, **named: object) -> object:
        monkeypatch.setattr(merging, "held", held)
        in_child(finish_elsewhere)
        return held(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(merging, "held", after_another)
    with pytest.raises(RecordError, match=r"ended differently in .*whole and .*shard.*everything else was taken over"):
        merge([shard], whole)
    assert read_record(RUN.path(whole), whole).val == {"auc": 0.25, "acc": 0.25}
    assert read_record(OTHER.path(whole), whole).status == "done"
    assert [problem for problem in verify(whole).problems if "seed1" in problem] == []


def test_a_run_under_way_is_named_after_a_while(tmp_path: Path, shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lock is not broken and the merge does not wait for ever."""
    monkeypatch.setattr(merging, "WAIT_SECONDS", 0.1)
    whole = tmp_path / "whole"
    with (
        held(lock_path(whole, RUN)),
        pytest.raises(RecordError, match=r"seed0\.json is being written by another"),
    ):
        merge([shard], whole)
    assert not RUN.path(whole).exists()
    assert merge([shard], whole).taken == [RUN.run_id]


def test_a_timing_is_not_taken_while_its_model_is_timed(
    tmp_path: Path, shard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command that times it goes on from what it read at its start and would write over the one taken."""
    monkeypatch.setattr(merging, "WAIT_SECONDS", 0.1)
    write_sealed(timing_path(shard, DEVICE, "resnet18"), make_timing("resnet18", DEVICE, []))
    whole = tmp_path / "whole"
    timing = timing_path(whole, DEVICE, "resnet18")
    lock = held(lock_file(whole, timing_lock_name(timing)))
    with lock, pytest.raises(RecordError, match=r"resnet18\.json is being written by another command"):
        merge([shard], whole)
    assert not timing.exists()
    assert merge([shard], whole).files == [timing]


def test_what_a_killed_shard_left_is_passed_over(tmp_path: Path, shard: Path) -> None:
    """Temporary files and tables without a record are no evidence and no reason to refuse the rest."""
    folder = RUN.path(shard).parent
    (folder / ".tmp-1-seed1.json").write_bytes(b"half")
    shutil.copy(predictions_path(RUN.path(shard)), predictions_path(OTHER.path(shard)))
    assert merge([shard], tmp_path / "whole").taken == [RUN.run_id]
    assert len(list(RUN.path(tmp_path / "whole").parent.iterdir())) == 3


def test_a_file_system_without_locks_is_one_line(tmp_path: Path, shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`merge` says what is missing and what would do; no record is written without its lock."""

    def no_flock(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", no_flock)
    with pytest.raises(RecordError, match="no file locks") as refusal:
        merge([shard], tmp_path / "whole")
    assert len(str(refusal.value).splitlines()) == 1
    assert not RUN.path(tmp_path / "whole").exists()
