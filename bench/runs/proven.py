"""A run's trained model, proved against its record: from a file of kept weights, or from a training now.

Such a training is `bench.runs.runner.run_one` itself, so its record is the run's record, and its weights are those that
`medbench run --keep-weights` keeps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from bench.data.loading import Arrays, load
from bench.errors import BenchError, Interrupted, RecordError
from bench.machine import cpu_isa as isa
from bench.machine.cpu_isa import CpuIsa
from bench.machine.provenance import device_name
from bench.machine.signals import signals_noted
from bench.plan.state import stand
from bench.protocols.schema import Protocol
from bench.records.card import known_card, labels_digest
from bench.records.names import lock_path, predictions_path, weights_path
from bench.records.predictions import read_attached, read_predictions
from bench.records.run_record import Record, read_record
from bench.records.sealed import write_atomic
from bench.records.staleness import staleness
from bench.records.writing.locks import BusyError, held
from bench.runs.request import Hooks, RunProgress, RunRequest
from bench.runs.runner import run_one
from bench.runs.weights import Logits, identity, split_logits, trained_model, unequal_splits
from bench.runs.worker import forget_checkpoints
from bench.runs.writing import write_bundle
from bench.training.kept_weights import KeptWeights, parse_weights, read_weights
from bench.training.trainer import InterruptedTraining
from models import get_spec


@dataclass(frozen=True)
class ProvenModel:
    """A run's trained model, which gives the logits of its record bit for bit.

    Attributes:
        model: On the request's device, in the protocol's type and memory format, in evaluation mode.
        weights: What it was made of.
        request: The run, its protocol and its data set's card.
        arrays: The data set, at the protocol's source size.
    """

    model: nn.Module
    weights: KeptWeights
    request: RunRequest
    arrays: Arrays


def proven_model(
    record: Record,
    results: Path,
    *,
    weights: Path | None = None,
    device: str = "cpu",
    data_root: str | None = None,
    plugins: tuple[str, ...] = (),
    cpu_isa: CpuIsa = isa.DEFAULT,
    on_progress: Callable[[RunProgress], None] = lambda event: None,
) -> ProvenModel:
    """The trained model of a record: out of a file of kept weights, else of a training now, and proved either way.

    Args:
        record: A network's finished record of `results`.
        results: The results folder.
        weights: The folder of kept weights, None for `results/checkpoints`; weights made now are kept there.
        device: Where the model is wanted; the proof needs a device that computes as the record's did.
        data_root: Folder of the npz files, None for `$MEDMNIST_ROOT`.
        plugins: Model files that were loaded.
        cpu_isa: The CPU's arithmetic, which must be in force.
        on_progress: Called with the training's progress.

    Raises:
        BenchError: If the record is not a network's finished one, is stale, or the weights do not give its logits.
        Interrupted: If the training received a signal to stop.
        RecordError: If predictions are damaged or a file cannot be written.
    """
    card = known_card(results, record.dataset)
    if record.status != "done" or get_spec(record.model).kind != "network":
        raise BenchError(f"{record.run_id} left no weights: it is no finished run of a network")
    reason = staleness(record, card)
    if reason:
        raise BenchError(f"{record.run_id} is stale, {reason}: run it again with --overwrite stale")
    protocol = Protocol.model_validate(record.resolved_protocol)
    request = RunRequest(record.run, protocol, card, device, data_root, plugins=plugins, cpu_isa=cpu_isa)
    arrays = load(record.dataset, protocol.data.source_size, root=data_root, download=False)
    if {split: labels_digest(labels) for split, labels in arrays.labels.items()} != record.labels_digest:
        raise BenchError(f"{record.dataset}: the labels are not those of {record.run_id}")
    path = kept_path(request, results, weights)
    chosen = kept_weights(request, path)
    if chosen is None:
        _check_reachable(record, request)
        chosen = chosen_weights(request, results, weights, on_progress)
    model = trained_model(request, chosen.state)
    _prove(record, results, chosen, split_logits(request, model, arrays), path)
    return ProvenModel(model, chosen, request, arrays)


def _check_reachable(record: Record, request: RunRequest) -> None:
    """Refuse a training, of hours perhaps, that cannot give the record's bits.

    A pinned record's are those of that arithmetic, an unpinned one's those of its device alone.

    Raises:
        BenchError: If the request is of another arithmetic or device.
    """
    isa = record.cpu_isa
    if isa in (CpuIsa.avx2, CpuIsa.avx512):
        if request.device != "cpu" or request.cpu_isa != isa:
            here = request.device if request.device != "cpu" else request.cpu_isa
            raise BenchError(
                f"{record.run_id}: its record is from a CPU held at {isa}, whose bits {here} does not give; add "
                f"--device cpu --cpu-isa {isa}"
            )
    elif record.device != device_name(request.device):
        raise BenchError(
            f"{record.run_id}: its record is from {record.device or 'another device'} at an arithmetic of its own, "
            "whose bits no training here gives; medbench run --overwrite isa makes the run again, and --track scores "
            "it then"
        )


def _prove(record: Record, results: Path, weights: KeptWeights, logits: Logits, path: Path) -> None:
    """Refuse weights that are not a record's.

    Raises:
        BenchError: If their digest is not the record's, where it has one, or their logits are not.
        RecordError: If the record's predictions are damaged.
    """
    advice = f"remove {path} to have them made anew"
    if record.trained_weights_sha256 not in (None, weights.digest()):
        raise BenchError(f"The weights are not those of {record.run_id}: another digest than its record's; {advice}")
    table = read_predictions(read_attached(predictions_path(record.run.path(results)), record.predictions_sha256))
    unequal = unequal_splits(logits, {split: table.split(split).logits for split in ("val", "test")})
    if unequal:
        raise BenchError(
            f"The weights do not give the {' and '.join(unequal)} logits of {record.run_id}, whose record is from "
            f"{record.device or 'another device'} at {record.cpu_isa or 'an arithmetic of its own'}; {advice}"
        )


def kept_path(request: RunRequest, results: Path, weights: Path | None = None) -> Path:
    """The file of a run's chosen weights: in the given folder, else in one of the results folder that git ignores."""
    return weights_path(weights if weights is not None else results / "checkpoints", request.run)


def kept_weights(request: RunRequest, path: Path) -> KeptWeights | None:
    """Weights from a file; None where there is none, it is damaged, or it belongs to other code, rules or data."""
    kept = read_weights(path)
    return kept if kept is not None and identity(request).items() <= kept.about.items() else None


def chosen_weights(
    request: RunRequest,
    results: Path,
    weights: Path | None = None,
    on_progress: Callable[[RunProgress], None] = lambda event: None,
) -> KeptWeights:
    """The run's chosen weights: the kept ones, or those of a training now, which are kept.

    A training without a finished record leaves the run's record. A record that counts stays as it is: whether the
    predictions are the same is for the caller to say (`recorded_run`). One that does not count is replaced by `run`
    alone, when it is told to.

    Args:
        request: The run.
        results: The results folder.
        weights: The folder of kept weights, None for `results/checkpoints`.
        on_progress: Called with the training's progress.

    Raises:
        BenchError: If the training failed, the same run goes on elsewhere, or its record is stale or damaged.
        Interrupted: If the training received a signal to stop; it goes on from its checkpoint.
        RecordError: If a file cannot be written.
    """
    path = kept_path(request, results, weights)
    kept = kept_weights(request, path)
    if kept is not None:
        return kept
    state, reason, record = stand(request.run, results, lambda _: request.card)
    if state == "stale" or (state == "failed" and record is None):
        raise BenchError(f"{request.run.run_id}: {reason}; medbench run --overwrite {state} makes it anew first")
    checkpoints = str(results / "checkpoints" / request.run.run_id)
    try:
        with held(lock_path(results, request.run)):
            return _train(replace(request, checkpoint_dir=checkpoints, keep_weights=True), results, path, on_progress)
    except BusyError:
        raise BenchError(f"{request.run.run_id} is being run by another process; wait for it, then try again") from None


def _train(request: RunRequest, results: Path, path: Path, on_progress: Callable[[RunProgress], None]) -> KeptWeights:
    """Do the run as `medbench run` does, keep the weights and, where none counts yet, the record."""
    signals: list[int] = []
    with signals_noted(lambda signum, _: signals.append(signum)):
        try:
            bundle = run_one(request, Hooks(on_progress, lambda: bool(signals)))
        except InterruptedTraining:
            raise Interrupted(signals[0]) from None
    record = bundle.record
    if bundle.weights is None:
        reason = record.failure.message if record.failure else record.status
        raise BenchError(f"No weights: {record.run_id} failed: {reason}")
    write_atomic(path, bundle.weights)
    if recorded_run(request, results) is None:
        write_bundle(bundle, results)
    forget_checkpoints(request)
    weights = parse_weights(bundle.weights)
    assert weights is not None, "the runner hands over what it has read itself"
    return weights


def recorded_run(request: RunRequest, results: Path) -> Record | None:
    """The run's finished record that counts today, None where there is none."""
    try:
        record = read_record(request.run.path(results), results)
    except RecordError:
        return None
    return record if record.status == "done" and not staleness(record, request.card) else None
