"""A corruption track: scored as a run ends or after the fact, killed or not, the same record bit for bit."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import models
from bench.check.verify import verify
from bench.cli.app import app
from bench.data.card import measure
from bench.data.corruptions import corrupt
from bench.data.loading import load
from bench.data.track_card import measure_track
from bench.errors import BenchError, RecordError
from bench.machine import provenance
from bench.machine.cpu_isa import CpuIsa
from bench.plan.selection import Selection
from bench.protocols.loading import load_protocol
from bench.records.card import card_path, write_card
from bench.records.names import Run, predictions_path
from bench.records.predictions import frame_bytes, read_predictions
from bench.records.run_record import read_record
from bench.records.sealed import pretty, read_sealed
from bench.records.tracks.card import TrackCard, read_card_images, track_card_path, write_track_card
from bench.records.tracks.record import (
    TrackRecord,
    logits_path,
    parse_logits,
    read_logits,
    read_tracks,
    score_cells,
    track_path,
)
from bench.runs.request import Hooks, Launch, RunBundle, RunRequest
from bench.runs.runner import run_one
from bench.runs.tracks import scoring as track_scoring
from bench.runs.tracks.late import current_record, ready_track_card, score_recorded, score_selection
from bench.runs.tracks.scoring import fitted_predictor, partial_path
from bench.runs.writing import write_bundle
from bench.tracks.loading import load_track
from bench.tracks.schema import CORRUPTIONS, SEVERITIES, cells
from bench.training.trainer import InterruptedTraining
from models import catalog
from tests.making import make_run, read_frame

SET = "synthetic-breastmnist"
TRACK = load_track("c28")
PLUGIN = '''"""A small network."""
from torch import nn

from models import register_model


@register_model(paper="none", source="a test", code_license="MIT")
def track_net(*, num_classes, in_chans=3, img_size=28, pretrained=False):
    return nn.Sequential(nn.Conv2d(in_chans, 8, 5, stride=3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(),
                         nn.Linear(512, num_classes))
'''


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A researcher's network, known to this file alone."""
    before = dict(catalog._plugins)
    path = tmp_path_factory.mktemp("plugin") / "track_net.py"
    path.write_text(PLUGIN, encoding="utf-8")
    models.load_plugin(path)
    yield str(path)
    catalog._plugins.clear()
    catalog._plugins.update(before)


def request_of(plugin: str, model: str = "track_net", **changes: object) -> RunRequest:
    plain = RunRequest(Run("smoke", model, SET, 0), load_protocol("smoke"), measure(SET), plugins=(plugin,))
    return replace(plain, tracks=("c28",), **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def bundle(plugin: str) -> RunBundle:
    """A run that scored the track as it ended."""
    return run_one(request_of(plugin))


@pytest.fixture
def store(tmp_path: Path, bundle: RunBundle) -> Path:
    """A results folder with the run and its track."""
    results = tmp_path / "results"
    write_card(results, measure(SET))
    write_bundle(bundle, results)
    ready_track_card(results, TRACK, SET, None)
    return results


def launch_of(results: Path, plugin: str) -> Launch:
    return Launch(results=results, plugins=(plugin,))


def contents(results: Path, run: Run) -> tuple[bytes, bytes]:
    """The two files of a track record."""
    path = track_path(results, "c28", run)
    return path.read_bytes(), logits_path(path).read_bytes()


def test_a_run_scores_every_cell_by_its_own_weights(bundle: RunBundle) -> None:
    """70 cells of all test images, whose scores are those of the stored logits; the clean ones are the run's."""
    (track,) = bundle.tracks
    record, predictions = track.record, read_predictions(bundle.predictions or b"")
    assert record.run_id == bundle.record.run_id
    assert record.run_predictions_sha256 == bundle.record.predictions_sha256
    assert record.clean == bundle.record.test
    found = parse_logits(track.logits, record.num_images)
    assert found.logits.shape == (70, 88, 2)
    assert np.array_equal(found.indices, np.arange(88))
    assert score_cells(predictions.split("test").labels, found, "binary-class") == record.scores
    assert len({logits.tobytes() for logits in found.logits}) > 60  # other pixels, other logits


def test_the_logits_are_of_the_tracks_pixels(bundle: RunBundle, plugin: str) -> None:
    """A cell that is made and predicted by itself, by weights that came out of a file, has the stored bits."""
    from bench.runs.tracks.scoring import network_predictor
    from bench.runs.weights import trained_model
    from bench.training.kept_weights import parse_weights

    request = request_of(plugin, keep_weights=True)
    kept = parse_weights(run_one(request).weights or b"")
    assert kept is not None
    predictor = network_predictor(trained_model(request, kept.state), request)
    images, place = load(SET, 28).images["test"], 37
    alone = predictor.predict(corrupt(images, range(88), TRACK, SET, list(cells())[place]))
    assert np.array_equal(parse_logits(bundle.tracks[0].logits, 88).logits[place], alone)


def test_scoring_a_track_changes_nothing_of_the_run(bundle: RunBundle, plugin: str) -> None:
    """The record is the same but for what is measured in seconds and MiB; predictions and history to the byte."""
    plain = run_one(replace(request_of(plugin), tracks=()))
    measured = {"record_digest", "train_seconds", "images_per_second", "peak_memory_mib"}
    assert plain.tracks == ()
    assert plain.predictions == bundle.predictions
    assert plain.history == bundle.history
    assert plain.record.model_dump(exclude=measured) == bundle.record.model_dump(exclude=measured)


def test_after_the_fact_gives_the_same_bits(store: Path, bundle: RunBundle, plugin: str) -> None:
    """By weights that are trained again, and by weights that were kept: both files are those of the run itself."""
    run = bundle.record.run
    expected = contents(store, run)
    for name in ("trained", "kept"):
        shutil.rmtree(store / "tracks" / "c28" / "smoke")
        score_recorded(read_record(run.path(store)), launch_of(store, plugin), TRACK)
        assert contents(store, run) == expected, name
    assert [path.name for path in (store / "checkpoints").rglob("*.safetensors")] == [f"{run.run_id}.safetensors"]
    assert not list((store / "checkpoints").rglob("*.part"))


@pytest.mark.parametrize("model", ["floor/prior", "floor/knn1", "sklearn/logistic", "sklearn/hist_gradient_boosting"])
def test_fitted_models_are_scored_too(model: str, tmp_path: Path, plugin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the run ends, later, and with other cells beside them in memory: the same bits."""
    bundle = run_one(request_of(plugin, model))
    assert bundle.record.status == "done", bundle.record.failure
    write_card(tmp_path, measure(SET))
    write_bundle(bundle, tmp_path)
    expected = contents(tmp_path, bundle.record.run)
    shutil.rmtree(tmp_path / "tracks")
    images = load(SET, 28).images["test"]
    monkeypatch.setattr(track_scoring, "MAX_VALUES", 40 * images.size)
    assert fitted_predictor(bundle.record.run, load(SET, 28)).cells_at_once == 40
    score_recorded(read_record(bundle.record.run.path(tmp_path)), launch_of(tmp_path, plugin), TRACK)
    assert contents(tmp_path, bundle.record.run) == expected


class Stop:
    """Requests a stop after so many cells; counts the cells that were predicted."""

    def __init__(self, after: int) -> None:
        self.after, self.cells = after, 0

    def hooks(self) -> Hooks:
        def on_progress(at: object) -> None:
            self.cells += bool(getattr(at, "stage", ""))

        return Hooks(on_progress, lambda: self.cells == self.after)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each call of a network's predictor is given."""
    calls: list[int] = []
    original = track_scoring.network_predictor

    def counting(*arguments: object) -> track_scoring.Predictor:
        predictor = original(*arguments)  # type: ignore[arg-type]

        def predict(images: np.ndarray) -> np.ndarray:
            calls.append(len(images))
            return predictor.predict(images)

        return replace(predictor, predict=predict)

    monkeypatch.setattr(track_scoring, "network_predictor", counting)
    return calls


def test_an_interrupted_scoring_goes_on_and_ends_the_same(
    tmp_path: Path, plugin: str, bundle: RunBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after 30 cells, it predicts 40 more when it is done again: bit for bit a run that was never stopped."""
    request = request_of(plugin, checkpoint_dir=str(tmp_path / "run"))
    with pytest.raises(InterruptedTraining):
        run_one(request, Stop(30).hooks())
    assert partial_path(tmp_path / "run", "c28").is_file()
    calls = counted(monkeypatch)
    again = run_one(request)
    assert len(calls) == 40
    assert again.tracks == bundle.tracks
    assert again.predictions == bundle.predictions


def test_a_killed_scoring_goes_on_from_what_it_had_kept(
    tmp_path: Path, plugin: str, bundle: RunBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill at cell 31 that nothing could prepare for: cells are kept at intervals, and a damaged file is none."""
    monkeypatch.setenv("MEDBENCH_CHECKPOINT_SECONDS", "0")
    request = request_of(plugin, checkpoint_dir=str(tmp_path / "run"))

    def killed(run: Run, logits: np.ndarray, group: list[tuple[str, int]]) -> None:
        if group[0] == list(cells())[30]:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(track_scoring, "_check_finite", killed)
        with pytest.raises(KeyboardInterrupt):
            run_one(request)
    kept = partial_path(tmp_path / "run", "c28")
    content = kept.read_bytes()
    calls = counted(monkeypatch)
    assert run_one(request).tracks == bundle.tracks
    assert len(calls) == 40
    kept.write_bytes(content[:-7])
    calls.clear()
    assert run_one(request).tracks == bundle.tracks
    assert len(calls) == 70


def test_cells_of_other_weights_are_not_used(tmp_path: Path, plugin: str) -> None:
    """What another seed's scoring left in the folder starts from nothing."""
    one = request_of(plugin, checkpoint_dir=str(tmp_path / "run"))
    with pytest.raises(InterruptedTraining):
        run_one(one, Stop(5).hooks())
    other = replace(one, run=replace(one.run, seed=1))
    assert run_one(other).tracks == run_one(replace(other, checkpoint_dir=None)).tracks


def test_a_run_whose_logits_overflow_names_the_cell(plugin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No score is made of what is not finite."""
    original = track_scoring.network_predictor

    def overflowing(*arguments: object) -> track_scoring.Predictor:
        predictor = original(*arguments)  # type: ignore[arg-type]
        return replace(predictor, predict=lambda images: np.full_like(predictor.predict(images), np.inf))

    monkeypatch.setattr(track_scoring, "network_predictor", overflowing)
    failure = run_one(request_of(plugin)).record.failure
    assert failure is not None
    assert "under gaussian_noise at severity 1 are not finite" in failure.message


def test_a_selection_is_scored_where_it_is_not(store: Path, bundle: RunBundle, plugin: str) -> None:
    """Known, scored, or named with the reason; one that cannot be scored ends nothing."""
    chosen = Selection(("smoke",), ("floor/prior", "track_net"), (SET,), (0, 1), plugins=(Path(plugin),))
    scored = score_selection(chosen, launch_of(store, plugin), "c28")
    assert scored.known == [bundle.record.run]
    assert not scored.records
    assert {run.run_id: reason.split(":")[0] for run, reason in scored.problems.items()} == {
        f"floor--prior__{SET}__smoke__s0": "missing",
        f"track_net__{SET}__smoke__s1": "missing",
    }


def test_a_missing_file_ends_one_run_alone(store: Path, plugin: str, tmp_path: Path) -> None:
    """A data set that is not here is named with the reason; the other runs are looked at all the same."""
    real = Run("smoke", "floor/prior", "breastmnist", 0)
    make_run(store, real)
    chosen = Selection(("smoke",), ("floor/prior",), ("breastmnist", SET), (0,))
    scored = score_selection(chosen, replace(launch_of(store, plugin), data_root=str(tmp_path)), "c28")
    assert "is not available" in scored.problems[real]
    assert len(scored.problems) == 2


def test_a_missing_card_ends_one_run_alone(store: Path, plugin: str) -> None:
    """It is named with the command that measures it; other errors of a store end the whole call."""
    track_path(store, "c28", Run("smoke", "track_net", SET, 0)).unlink()
    card_path(store, SET).unlink()
    chosen = Selection(("smoke",), ("track_net",), (SET,), (0, 1), plugins=(Path(plugin),))
    scored = score_selection(chosen, launch_of(store, plugin), "c28")
    assert len(scored.problems) == 2
    assert f"medbench measure data --datasets {SET}" in scored.problems[Run("smoke", "track_net", SET, 0)]


def test_weights_that_are_not_the_records_are_refused(store: Path, bundle: RunBundle, plugin: str) -> None:
    """A record with other predictions than its training gives is not scored, and says why."""
    run = bundle.record.run
    table = predictions_path(run.path(store))
    frame = read_frame(table.read_bytes())
    frame.loc[3, "logit_0"] += 1
    table.write_bytes(frame_bytes(frame))
    reseal(run.path(store), predictions_sha256=digest_of(table.read_bytes()))
    with pytest.raises(BenchError, match="do not give the"):
        score_recorded(read_record(run.path(store)), launch_of(store, plugin), TRACK)


def test_a_record_whose_bits_are_out_of_reach_is_not_trained_for(
    store: Path, bundle: RunBundle, plugin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unpinned on another processor: said before a training of hours, with the command that helps."""
    run = bundle.record.run
    shutil.rmtree(store / "checkpoints", ignore_errors=True)
    reseal(run.path(store), cpu_isa=None, device="cpu: AMD EPYC")
    monkeypatch.setattr("bench.runs.proven.run_one", lambda *_: pytest.fail("trained for nothing"))
    with pytest.raises(BenchError, match=r"from cpu: AMD EPYC at an arithmetic .* medbench run --overwrite isa"):
        score_recorded(read_record(run.path(store)), launch_of(store, plugin), TRACK)
    reseal(run.path(store), cpu_isa="avx2", device="cpu: AMD EPYC")
    for elsewhere in ({"cpu_isa": CpuIsa.native}, {"device": "cuda"}):
        with pytest.raises(BenchError, match=r"held at avx2, whose bits .* add --device cpu --cpu-isa avx2"):
            score_recorded(read_record(run.path(store)), replace(launch_of(store, plugin), **elsewhere), TRACK)


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def reseal(path: Path, **changes: object) -> None:
    """Change a record of either kind and give it a fitting digest."""
    content = {**json.loads(path.read_bytes()), **changes, "record_digest": ""}
    if "track" in content:
        kind: type[TrackRecord | TrackCard] = TrackRecord if path.name.startswith("seed") else TrackCard
        path.write_bytes(pretty(kind.model_validate(content).sealed().model_dump(mode="json")))
    else:
        record = read_record(path).model_copy(update={**changes, "record_digest": ""})
        path.write_bytes(pretty(record.sealed().model_dump(mode="json")))


def test_a_record_of_another_track_or_run_is_stale(store: Path, bundle: RunBundle) -> None:
    """The track's parameters, the run's predictions or its code changed, or the run is gone."""
    run = bundle.record.run
    path = track_path(store, "c28", run)
    whole = path.read_bytes()
    assert current_record(store, "c28", run) is not None
    for changes, reason in (
        ({"track_digest": "0" * 64}, "the track changed"),
        ({"protocol_digest": "0" * 64}, "the protocol changed"),
        ({"run_predictions_sha256": "0" * 64}, "the run was done again"),
        ({"model_fingerprint": "0" * 64}, "the run was done again"),
    ):
        path.write_bytes(whole)
        reseal(path, **changes)
        records, notes = read_tracks(store)
        assert not records
        assert reason in notes[0]
        assert current_record(store, "c28", run) is None
    path.write_bytes(whole)
    run.path(store).unlink()
    assert "no finished record" in read_tracks(store)[1][0]


def test_verify_notices_what_was_changed(store: Path, bundle: RunBundle, tmp_path: Path) -> None:
    """Whole as written; then a score, the pixels, a table, a stray file, each named."""
    run = bundle.record.run
    path = track_path(store, "c28", run)

    def problems() -> list[str]:
        return [line for line in verify(store, scores=True).problems if "/tracks/" in line]

    assert problems() == []
    whole, table = path.read_bytes(), logits_path(path).read_bytes()
    scores = json.loads(whole)["scores"]
    scores["jpeg"][4]["auc"] = 0.99
    reseal(path, scores=scores)
    assert [line.split(": ")[-1][:22] for line in problems()] == ["jpeg 5 auc is 0.99 in "]
    path.write_bytes(whole)
    reseal(path, pixels_sha256="0" * 64)
    assert "other pixels than c28's card" in problems()[0]
    path.write_bytes(whole)
    found = read_logits(store, read_sealed(path, TrackRecord))
    swapped = track_scoring.logits_bytes(replace(found, logits=found.logits[::-1]))
    logits_path(path).write_bytes(swapped)
    assert "is missing or is not the file" in problems()[0]
    reseal(path, logits_sha256=digest_of(swapped))
    assert "by its logits" in problems()[0]
    path.write_bytes(whole)
    logits_path(path).write_bytes(table)
    stray = path.with_name("notes.txt")
    stray.write_text("x", encoding="utf-8")
    assert problems() == [f"{stray}: left by a killed writer or put there by hand; remove it"]
    stray.unlink()
    track_card_path(store, "c28", SET).unlink()
    assert any("has no card" in line for line in problems())


def test_a_table_that_is_none_is_refused(bundle: RunBundle) -> None:
    """Damaged, short, or with images in another order."""
    (track,) = bundle.tracks
    found = parse_logits(track.logits, 88)
    for content, count in ((track.logits[:-9], 88), (track.logits, 87)):
        with pytest.raises(RecordError, match="no table of a track"):
            parse_logits(content, count)
    shuffled = track_scoring.logits_bytes(replace(found, indices=found.indices[::-1]))
    with pytest.raises(RecordError, match="once and in order"):
        parse_logits(shuffled, 88)


def test_a_card_holds_what_the_track_does_to_a_set(store: Path, bundle: RunBundle) -> None:
    """The pixels of every run's record, how like their source they are, and one image with all its corruptions."""
    card = read_sealed(track_card_path(store, "c28", SET), TrackCard)
    assert card.pixels_sha256 == bundle.tracks[0].record.pixels_sha256
    images = read_card_images(store, card)
    assert set(images) == {("clean", 0), *cells()}
    source = load(SET, 28).images["test"][[0]]
    assert np.array_equal(images["clean", 0], source[0])
    assert np.array_equal(images["jpeg", 5], corrupt(source, [0], TRACK, SET, ("jpeg", 5))[0])
    assert all(len(card.similarity[name]) == len(SEVERITIES) for name in CORRUPTIONS)


def test_images_of_an_unknown_licence_are_never_stored(tmp_path: Path) -> None:
    """As of the Grad-CAM figures: the card has their digests alone."""
    arrays = load(SET, 28)
    closed = replace(arrays, info=replace(arrays.info, license="CC BY-NC 4.0"))
    card, images = measure_track(TRACK, closed, provenance.origin())
    assert images is None
    assert card.images_sha256 is None
    with pytest.raises(RecordError, match="never stored"):
        write_track_card(tmp_path, card, b"x")
    assert read_card_images(tmp_path, card) == {}


def test_the_commands(tmp_path: Path, plugin: str) -> None:
    """`run --track` scores as it goes, `track` finds nothing left to do, and verify calls both whole."""
    results = str(tmp_path / "results")
    chosen = ["--protocol", "smoke", "--models", "floor/knn1,track_net", "--datasets", SET, "--plugin", plugin]
    where = ["--results", results, "--device", "cpu"]
    runner = CliRunner()
    done = runner.invoke(app, ["run", *chosen, *where, "--track", "c28"])
    assert done.exit_code == 0, done.output
    assert len(read_tracks(Path(results))[0]) == 2
    assert not list((tmp_path / "results" / "checkpoints").rglob("*.part"))
    done = runner.invoke(app, ["track", "c28", *chosen, *where])
    assert done.exit_code == 0, done.output
    assert "0 scored, 2 known, 0 without" in done.output
    assert verify(Path(results), scores=True).problems == []
    with pytest.raises(BenchError, match="Unknown track"):
        runner.invoke(app, ["run", *chosen, *where, "--track", "c29"], catch_exceptions=False)


def test_a_track_is_for_files_of_its_size_and_sets_with_severities() -> None:
    """Enlarged 28 px images too; neither OCT, which has no severities, nor the 64 px files."""
    smoke = load_protocol("smoke")
    large = smoke.model_copy(update={"data": smoke.data.model_copy(update={"source_size": 64})})
    assert track_scoring.applies(TRACK, smoke, "breastmnist")
    assert track_scoring.applies(TRACK, load_protocol("lite-96"), SET)
    assert not track_scoring.applies(TRACK, smoke, "octmnist")
    assert not track_scoring.applies(TRACK, large, "breastmnist")
