"""The weights that a Grad-CAM explains: the chosen epoch's of a training that is `medbench run`'s, kept in a file.

The training is `bench.runs.runner.run_one` itself, so its record is the run's record. When it ends, the checkpoint that
it resumes from also holds the chosen weights; they are copied to `results/checkpoints/<run_id>/best.pt` before the
checkpoint is removed.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.errors import BenchError, Interrupted, RecordError
from bench.machine.signals import signals_noted
from bench.records.names import lock_path
from bench.records.run_record import Record, read_record, write_run
from bench.records.staleness import staleness
from bench.records.writing.framed import read_framed, write_framed
from bench.records.writing.locks import BusyError, held
from bench.runs.request import Hooks, RunBundle, RunProgress, RunRequest, run_key
from bench.runs.runner import run_one
from bench.runs.worker import forget_checkpoints
from bench.training.checkpoint import Checkpoint
from bench.training.trainer import InterruptedTraining


@dataclass(frozen=True)
class Weights:
    """The chosen epoch's weights of a run.

    Attributes:
        state: By parameter and buffer, on the CPU.
        predictions_sha256: Of the predictions that the training ended with.
    """

    state: Mapping[str, Tensor]
    predictions_sha256: str

    def digest(self) -> str:
        """SHA-256 over names, types, shapes and values, whatever file they come from."""
        return weights_digest(self.state)


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and values of a state dict."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        array = value.detach().cpu().contiguous()
        digest.update(f"{name}\0{array.dtype}\0{tuple(array.shape)}\0".encode())
        digest.update(array.numpy().tobytes())
    return digest.hexdigest()


def weights_path(results: Path, request: RunRequest) -> Path:
    """Where a run's chosen weights are kept; git ignores the folder."""
    return results / "checkpoints" / request.run.run_id / "best.pt"


def read_weights(path: Path, key: str) -> Weights | None:
    """Weights from a file; None where there is none, it is damaged, or it belongs to other code, rules or data."""
    payload = read_framed(path)
    if payload is None:
        return None
    content: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    if content.get("key") != key:
        return None
    return Weights(content["state"], content["predictions_sha256"])


def write_weights(path: Path, key: str, weights: Weights) -> None:
    """Keep weights: a SHA-256, then what torch.save wrote.

    Raises:
        RecordError: If the file system refuses.
    """
    buffer = io.BytesIO()
    content = {"key": key, "state": dict(weights.state), "predictions_sha256": weights.predictions_sha256}
    torch.save(content, buffer)
    write_framed(path, buffer.getvalue())


def chosen_weights(
    request: RunRequest, results: Path, on_progress: Callable[[RunProgress], None] = lambda event: None
) -> Weights:
    """The run's chosen weights: the kept ones, or those of a training now.

    A training without a record that counts leaves the run's record. Where there is one, it stays as it is: whether the
    predictions are the same is for the caller to say (`recorded_run`).

    Args:
        request: The run.
        results: The results folder.
        on_progress: Called with the training's progress.

    Raises:
        BenchError: If the training failed, or the same run goes on elsewhere.
        Interrupted: If the training received a signal to stop; it goes on from its checkpoint.
        RecordError: If a file cannot be written.
    """
    key, path = run_key(request), weights_path(results, request)
    kept = read_weights(path, key)
    if kept is not None:
        return kept
    try:
        with held(lock_path(results, request.run)):
            return _train(replace(request, checkpoint_dir=str(path.parent)), results, key, on_progress)
    except BusyError:
        raise BenchError(f"{request.run.run_id} is being run by another process; wait for it, then try again") from None


def _train(request: RunRequest, results: Path, key: str, on_progress: Callable[[RunProgress], None]) -> Weights:
    """Do the run as `medbench run` does, keep the weights and, where none counts yet, the record."""
    signals: list[int] = []
    with signals_noted(lambda signum, _: signals.append(signum)):
        try:
            bundle = run_one(request, Hooks(on_progress, lambda: bool(signals)))
        except InterruptedTraining:
            raise Interrupted(signals[0]) from None
    record = bundle.record
    if record.status != "done" or record.predictions_sha256 is None:
        reason = record.failure.message if record.failure else record.status
        raise BenchError(f"No weights to explain: {record.run_id} failed: {reason}")
    weights = Weights(_chosen_state(request, key), record.predictions_sha256)
    write_weights(weights_path(results, request), key, weights)
    _keep_record(bundle, request, results)
    forget_checkpoints(request)
    return weights


def _chosen_state(request: RunRequest, key: str) -> dict[str, Tensor]:
    """The chosen epoch's weights, out of the checkpoint that the training left when it ended."""
    assert request.checkpoint_dir is not None
    state = Checkpoint(Path(request.checkpoint_dir), key).load()
    assert state is not None, "the runner's checkpoint has another key than run_key"
    chosen: dict[str, Tensor] = state["best_state"]
    return chosen


def _keep_record(bundle: RunBundle, request: RunRequest, results: Path) -> None:
    """Write the training's record where none counts yet."""
    if recorded_run(request, results) is None:
        write_run(results, bundle.record, bundle.predictions, bundle.history)


def recorded_run(request: RunRequest, results: Path) -> Record | None:
    """The run's finished record that counts today, None where there is none."""
    try:
        record = read_record(request.run.path(results), results)
    except RecordError:
        return None
    return record if record.status == "done" and not staleness(record, request.card) else None
