"""Scoring a corruption track after the fact: for runs whose records stand, by weights that are proved to be theirs.

A network's weights come out of a folder of kept ones, or of a training now (`bench.runs.proven`); a classical model is
fitted again, and must give the record's predictions. What is scored already and current is left as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BenchError, Interrupted, RecordError
from bench.machine import provenance
from bench.machine.signals import signals_noted
from bench.plan.state import PlannedRun, make_plan
from bench.protocols.schema import Protocol
from bench.records.card import known_card
from bench.records.names import Run, predictions_path
from bench.records.predictions import frame_bytes, read_attached
from bench.records.run_record import Record
from bench.records.sealed import read_sealed
from bench.records.tracks.card import TrackCard, card_problem_of, track_card_path, write_track_card
from bench.records.tracks.record import TrackRecord, problem_of, track_path, write_track
from bench.runs.request import Event, Hooks, Launch, RunRequest, TrackBundle
from bench.runs.tracks.scoring import Predictor, applies, fitted_predictor, network_predictor, partial_path, score_track
from bench.tracks.loading import load_track
from bench.tracks.schema import Track
from models import get_spec

if TYPE_CHECKING:
    from bench.data.loading import Arrays
    from bench.plan.selection import Selection


@dataclass
class Scored:
    """What a call left.

    Attributes:
        records: Those that were written.
        known: Runs whose record of the track was current already.
        problems: Runs that have none, with the reason.
    """

    records: list[TrackRecord] = field(default_factory=list)
    known: list[Run] = field(default_factory=list)
    problems: dict[Run, str] = field(default_factory=dict)


def score_selection(
    selection: Selection,
    launch: Launch,
    name: str,
    *,
    weights: Path | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> Scored:
    """Score a track for every finished run of a selection that has no current record of it, one after another.

    Args:
        selection: Which runs.
        launch: Results, device, data, arithmetic and plugins; the rest is of no account.
        name: The track.
        weights: The folder of kept weights, None for `results/checkpoints`; weights made now are kept there.
        on_event: Called at every start, progress and end.

    Raises:
        BenchError, ModelError: If a name is unknown, or data or the results folder cannot be used.
        Interrupted: After a signal; the same call goes on where it was.
    """
    track, scored = load_track(name), Scored()
    for item in make_plan(selection.runs(), launch.results):
        run = item.run
        problem = _refused(item, track)
        if problem:
            scored.problems[run] = problem
        elif current_record(launch.results, name, run) is not None:
            scored.known.append(run)
        else:
            assert item.record is not None
            try:
                ready_track_card(launch.results, track, run.dataset, launch.data_root)
                scored.records.append(score_recorded(item.record, launch, track, weights=weights, on_event=on_event))
            except RecordError:
                raise
            except BenchError as error:
                scored.problems[run] = str(error)
    return scored


def unscored(planned: Iterable[PlannedRun], names: Iterable[str], results: Path) -> dict[str, list[Record]]:
    """The finished runs without a current record of a track that applies to them, by track; no track without such.

    Args:
        planned: The runs.
        names: The tracks.
        results: Where records stand.
    """
    items, found = list(planned), {}
    for name in names:
        track = load_track(name)
        mine = [item.record for item in items if item.record and not _refused(item, track)]
        found[name] = [record for record in mine if current_record(results, name, record.run) is None]
    return {name: records for name, records in found.items() if records}


def _refused(item: PlannedRun, track: Track) -> str:
    """Why a run cannot be scored on a track, "" if it can."""
    if item.state != "done" or item.record is None:
        if item.refusal:
            return item.refusal
        again = "" if item.state == "missing" else f" --overwrite {item.state}"
        return f"{item.reason or item.state}: medbench run --track {track.name}{again} does both"
    if not applies(track, Protocol.model_validate(item.record.resolved_protocol), item.run.dataset):
        sets = ", ".join(track.datasets)
        return f"{track.name} is for {track.source_size} px files of {sets}"
    return ""


def current_record(results: Path, track: str, run: Run) -> TrackRecord | None:
    """A run's record of a track, None where there is none that counts."""
    path = track_path(results, track, run)
    try:
        record = read_sealed(path, TrackRecord)
    except RecordError:
        return None
    return None if problem_of(record, path) else record


def ready_track_card(results: Path, track: Track, dataset: str, data_root: str | None) -> TrackCard:
    """A data set's card of a track, made now if none that counts is there.

    Raises:
        DataMissingError: If the file is neither there nor downloadable.
        RecordError: If the folder refuses.
    """
    from bench.data.loading import load
    from bench.data.track_card import measure_track

    arrays = load(dataset, track.source_size, root=data_root)
    path = track_card_path(results, track.name, dataset)
    try:
        card = read_sealed(path, TrackCard)
        if not card_problem_of(card, path) and card.data_md5 == arrays.md5:
            return card
    except RecordError:
        pass
    card, images = measure_track(track, arrays, provenance.origin())
    write_track_card(results, card, images)
    return card


def score_recorded(
    record: Record,
    launch: Launch,
    track: Track,
    *,
    weights: Path | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> TrackRecord:
    """Score a track for a recorded run and write its record.

    Args, errors as in `score_selection`; a run whose weights are not the record's is a BenchError.
    """
    signals: list[int] = []
    predictions = read_attached(predictions_path(record.run.path(launch.results)), record.predictions_sha256)
    request, predictor, arrays = _proven(record, launch, weights, on_event)
    folder = launch.checkpoint_dir or launch.results / "checkpoints"
    request = replace(request, checkpoint_dir=str(folder / record.run_id))
    hooks = Hooks(lambda at: on_event(Event("progress", request, at)), lambda: bool(signals))
    from bench.training.trainer import InterruptedTraining

    with signals_noted(lambda signum, _: signals.append(signum)):
        try:
            bundle = score_track(request, track, predictor, arrays, predictions, hooks)
        except InterruptedTraining:
            raise Interrupted(signals[0]) from None
    return _written(bundle, launch.results, Path(str(request.checkpoint_dir)))


def _written(bundle: TrackBundle, results: Path, folder: Path) -> TrackRecord:
    write_track(results, bundle.record, bundle.logits)
    partial_path(folder, bundle.record.track).unlink(missing_ok=True)
    return bundle.record


def _proven(
    record: Record, launch: Launch, weights: Path | None, on_event: Callable[[Event], None]
) -> tuple[RunRequest, Predictor, Arrays]:
    """A predictor by the record's own weights, and what it was proved with.

    Raises:
        BenchError: If the weights are not the record's.
    """
    import torch

    from bench.machine import foreign

    foreign.limit_pools()
    torch.set_num_threads(1)
    protocol, card = Protocol.model_validate(record.resolved_protocol), known_card(launch.results, record.dataset)
    common = {"data_root": launch.data_root, "plugins": launch.plugins, "cpu_isa": launch.cpu_isa}
    request = RunRequest(record.run, protocol, card, launch.device, **common)  # type: ignore[arg-type]
    on_event(Event("started", request))
    if get_spec(record.model).kind != "network":
        arrays = _fitted_arrays(record, request)
        return request, fitted_predictor(record.run, arrays), arrays
    from bench.runs.proven import proven_model

    back = proven_model(
        record,
        launch.results,
        weights=weights,
        device=launch.device,
        on_progress=lambda at: on_event(Event("progress", request, at)),
        **common,  # type: ignore[arg-type]
    )
    return back.request, network_predictor(back.model, back.request), back.arrays


def _fitted_arrays(record: Record, request: RunRequest) -> Arrays:
    """The data of a classical model that, fitted now, gives its record's predictions."""
    import sklearn.metrics  # noqa: F401  # its threads can be limited once it is loaded

    from bench.classical import fit_predict
    from bench.data.loading import load
    from bench.machine import foreign
    from bench.runs.runner import prediction_table
    from bench.runs.subset import cut

    foreign.limit_pools()
    rules = request.protocol.data
    whole = load(record.dataset, rules.source_size, root=request.data_root, download=False)
    arrays = cut(whole, rules, request.card.clinical_positive)
    table = frame_bytes(prediction_table(fit_predict(record.model, arrays, record.seed), arrays.labels))
    if hashlib.sha256(table).hexdigest() != record.predictions_sha256:
        raise BenchError(f"{record.run_id}: fitted now, it gives other predictions than its record's; run it again")
    return arrays
