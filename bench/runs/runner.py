"""One run, from names to a record: the only place where test is scored."""

from __future__ import annotations

import errno
import hashlib
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench import __version__
from bench.errors import BenchError, DataError, RecordError
from bench.machine import cpu_isa, provenance
from bench.machine.cpu_isa import CpuIsa
from bench.machine.memory import is_out_of_memory
from bench.protocols.schema import Protocol
from bench.records.card import DataCard, labels_digest
from bench.records.names import Run
from bench.records.predictions import PredictionTable, frame_bytes, read_predictions
from bench.records.run_record import Failure, Record, Scores
from bench.records.scoring import LAST, SCORED, score_predictions, split_scores
from bench.runs.request import Hooks, RunBundle, RunRequest, TrackBundle
from bench.runs.subset import cut
from bench.tracks.loading import load_track
from models import ModelError, fingerprint, get_spec, load_plugin
from models.loading import in_own_code

if TYPE_CHECKING:
    from torch import Tensor

    from bench.data.loading import Arrays

OFFICIAL_TOLERANCE = 1e-9
OTHER_CODE = (
    "{model}'s code here is not the one that the run was planned with: leave it alone while runs go on, and install "
    "one version of the suite on every node"
)


@dataclass(frozen=True)
class TrainedRun:
    """What a model leaves when it is trained or fitted: its logits, and for a network the record's fields on training.

    Attributes:
        logits: Of `val` and `test`, (N, K) float32 each; of both at the last step too, where the protocol says so.
        history: The epochs as parquet bytes.
        state: The chosen weights, on the CPU.
    """

    logits: dict[str, NDArray[np.float32]]
    history: bytes | None = None
    best_epoch: int | None = None
    num_params: int | None = None
    train_seconds: float | None = None
    images_per_second: float | None = None
    scan_backend: str | None = None
    weights_sha256: str | None = None
    trained_weights_sha256: str | None = None
    state: dict[str, Tensor] | None = None


class OfficialMismatchError(Exception):
    """Our metrics and medmnist's differ on the same scores."""


def base_fields(run: Run, protocol: Protocol, model_fingerprint: str) -> dict[str, Any]:
    """The fields that every record of a run has, whatever became of it; nothing is looked up by the model's name."""
    return {
        "suite_version": __version__,
        "run_id": run.run_id,
        "model": run.model,
        "dataset": run.dataset,
        "protocol": run.protocol,
        "seed": run.seed,
        "synthetic": run.synthetic,
        "protocol_digest": protocol.digest(),
        "resolved_protocol": protocol.model_dump(mode="json"),
        "model_fingerprint": model_fingerprint,
        **provenance.origin(),
    }


def skipped_record(run: Run, protocol: Protocol, failure: Failure) -> Record:
    """The record of a run that was not tried, with the reason; its model must be known here."""
    known = base_fields(run, protocol, fingerprint(get_spec(run.model)))
    return Record(**known, status="skipped", failure=failure).sealed()


def failed_record(request: RunRequest, failure: Failure) -> Record:
    """The record of a run that has no scores, with the reason; a process that never loaded the model can write it."""
    known = base_fields(request.run, request.protocol, request.model_fingerprint or fingerprint_here(request))
    return Record(**known, status="failed", failure=failure).sealed()


def fingerprint_here(request: RunRequest) -> str:
    """The fingerprint of a run's model, after its plugins were loaded."""
    for plugin in request.plugins:
        load_plugin(plugin)
    return fingerprint(get_spec(request.run.model))


def run_one(request: RunRequest, hooks: Hooks | None = None) -> RunBundle:
    """Do one run and classify what goes wrong; only an interruption and a full disk get out as exceptions.

    Raises:
        InterruptedTraining: If the hooks requested a stop; the checkpoint has been written.
        RecordError: If a checkpoint cannot be written.
    """
    from bench.training.trainer import InterruptedTraining

    hooks = hooks or Hooks()
    # Before the first step: a record names the code that ran, not what the files became meanwhile.
    known = base_fields(request.run, request.protocol, fingerprint_here(request))
    if request.model_fingerprint not in ("", known["model_fingerprint"]):
        failure = Failure(kind="infra", message=OTHER_CODE.format(model=request.run.model))
        return RunBundle(Record(**known, status="failed", failure=failure).sealed())
    try:
        return _execute(request, hooks, known)
    except (InterruptedTraining, KeyboardInterrupt, RecordError):
        raise
    except Exception as error:
        failure, log = classify(error, request.run.model), traceback.format_exc()
    return RunBundle(Record(**known, status="failed", failure=failure).sealed(), log=log)


def classify(error: Exception, model: str) -> Failure:
    """Whose fault it is; a model's or a library's names the line of the model's own code, the other runs go on."""
    from bench.training.trainer import DivergedError

    if isinstance(error, DivergedError):
        return Failure(kind="diverged", message=str(error), epoch=error.epoch, step=error.step)
    if isinstance(error, DataError):
        return Failure(kind="data", message=str(error))
    if isinstance(error, (ModelError, BenchError)):
        return Failure(kind="error", message=str(error))
    if isinstance(error, MemoryError):
        return Failure(kind="oom", message="out of memory on the host")
    text = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"
    text += in_own_code(error, get_spec(model).file)
    if is_out_of_memory(error):
        return Failure(kind="oom", message=text)
    if isinstance(error, OSError) and error.errno in (errno.EIO, errno.ECONNRESET, errno.ETIMEDOUT):
        return Failure(kind="infra", message=text)
    return Failure(kind="error", message=text)


def _execute(request: RunRequest, hooks: Hooks, known: dict[str, Any]) -> RunBundle:
    from bench.data import own
    from bench.data.loading import load
    from bench.machine import foreign

    if request.own_data is not None:
        own.resolve(request.own_data)
    run, protocol, card = request.run, request.protocol, request.card
    arrays = load(run.dataset, protocol.data.source_size, root=request.data_root, download=False)
    for split, labels in arrays.labels.items():
        if labels_digest(labels) != card.labels_digest[split]:
            raise DataError(f"{run.dataset}: the {split} labels are not those of results/data/{run.dataset}.json")
    num_split = len(arrays.labels["train"])
    arrays = cut(arrays, protocol.data, card.clinical_positive)
    is_network = get_spec(run.model).kind == "network"
    device = request.device if is_network else "cpu"
    arithmetic = cpu_arithmetic(request) if device == "cpu" else {}
    trained = _train_and_predict(request, hooks, arrays, num_split) if is_network else _fit_and_predict(run, arrays)
    num_threads = foreign.num_threads()
    predictions = frame_bytes(prediction_table(trained.logits, arrays.labels))
    predictions_sha256 = hashlib.sha256(predictions).hexdigest()
    table = read_predictions(predictions)
    scores = score_predictions(table, card)
    check_official(table, card, scores)
    record = Record(
        **known,
        status="done",
        val=scores["val"],
        test=scores["test"],
        test_twin_free=scores["test_twin_free"],
        val_last=scores.get("val_last"),
        test_last=scores.get("test_last"),
        data_md5=arrays.md5,
        labels_digest=card.labels_digest,
        predictions_sha256=predictions_sha256,
        history_sha256=hashlib.sha256(trained.history).hexdigest() if trained.history is not None else None,
        device=provenance.device_name(device),
        **arithmetic,
        num_threads=num_threads,
        peak_memory_mib=provenance.peak_memory_mib(device),
        best_epoch=trained.best_epoch,
        num_params=trained.num_params,
        train_seconds=trained.train_seconds,
        images_per_second=trained.images_per_second,
        scan_backend=trained.scan_backend,
        weights_sha256=trained.weights_sha256,
        trained_weights_sha256=trained.trained_weights_sha256,
    )
    weights = _kept(request, trained, predictions_sha256, arrays) if request.keep_weights else None
    tracks = _scored(request, trained, predictions, arrays, hooks)
    return RunBundle(record.sealed(), predictions, trained.history, weights, tracks)


def _scored(
    request: RunRequest, trained: TrainedRun, predictions: bytes, arrays: Arrays, hooks: Hooks
) -> tuple[TrackBundle, ...]:
    """The tracks that the run was requested to score, by the weights that it ends with."""
    if not request.tracks:
        return ()
    from bench.runs.tracks.scoring import fitted_predictor, network_predictor, score_track

    if trained.state is None:
        predictor = fitted_predictor(request.run, arrays)
    else:
        from bench.runs.weights import trained_model

        predictor = network_predictor(trained_model(request, trained.state), request)
    return tuple(score_track(request, load_track(n), predictor, arrays, predictions, hooks) for n in request.tracks)


def _kept(request: RunRequest, trained: TrainedRun, predictions_sha256: str, arrays: Arrays) -> bytes | None:
    """The file of a network's weights, proved to give its logits; None of a fitted model."""
    if trained.state is None:
        return None
    from bench.runs.weights import keep

    return keep(request, trained.state, predictions_sha256, arrays, trained.logits)


def cpu_arithmetic(request: RunRequest) -> dict[str, Any]:
    """The record's fields on how this process computes on its CPU.

    Raises:
        BenchError: If that is not what the run asks for.
    """
    in_force = cpu_isa.in_force()
    if request.cpu_isa not in (in_force, CpuIsa.native):
        raise BenchError(
            f"this process computes at {in_force}, the run asks for {request.cpu_isa}: a numeric library was loaded "
            "before the pin; start the run in a new process, as `medbench run` does"
        )
    return {"cpu_isa": in_force, "cpu_environment": cpu_isa.variables()}


def _fit_and_predict(run: Run, arrays: Arrays) -> TrainedRun:
    """Fit a classical model on train; nothing is chosen, so val and test are predicted at once."""
    import sklearn.metrics  # noqa: F401  # its threads can be limited once it is loaded

    from bench.classical import fit_predict
    from bench.machine import foreign

    foreign.limit_pools()
    return TrainedRun(fit_predict(run.model, arrays, run.seed))


def _train_and_predict(request: RunRequest, hooks: Hooks, arrays: Arrays, num_split: int) -> TrainedRun:
    """Train on what is left of train's `num_split` images, choose on val, then open test."""
    from bench.runs.preparing import prepare
    from bench.training.kept_weights import copied_to_cpu, weights_digest
    from bench.training.trainer import SplitData, predict

    protocol, device = request.protocol, request.device
    images, labels = arrays.images, arrays.labels
    trainer, weights_sha256 = prepare(request, hooks, arrays, num_split)
    val = trainer.val_data
    result = trainer.fit()
    state = copied_to_cpu(trainer.model.state_dict())
    logits = {"val": predict(trainer.model, val, protocol)}
    test = SplitData.from_arrays(images["test"], labels["test"], device)
    logits["test"] = predict(trainer.model, test, protocol)
    if result.last_state is not None:
        trainer.model.load_state_dict(result.last_state)
        logits |= {LAST[name]: predict(trainer.model, data, protocol) for name, data in (("val", val), ("test", test))}
    return TrainedRun(
        logits,
        frame_bytes(pd.DataFrame(result.history)),
        best_epoch=result.best_epoch,
        num_params=sum(parameter.numel() for parameter in trainer.model.parameters()),
        train_seconds=result.train_seconds,
        images_per_second=result.images_per_second,
        scan_backend=_scan_backend(trainer.model, device),
        weights_sha256=weights_sha256,
        trained_weights_sha256=weights_digest(state),
        state=state,
    )


def _scan_backend(model: Any, device: str) -> str | None:
    """Which selective scan ran, None for models without one."""
    if not any("SS2D" in type(module).__name__ for module in model.modules()):
        return None
    from models.selective_scan import selected_backend

    return str(selected_backend(device))


def prediction_table(logits: dict[str, NDArray[np.float32]], labels: dict[str, NDArray[np.int64]]) -> pd.DataFrame:
    """What is stored of a run's predictions: `split`, `index`, `label`, `logit_0` ...

    Args:
        logits: Split -> (N, K).
        labels: Split -> (N,).

    Raises:
        ValueError: If the logits are not an image's each, or not finite.
    """
    parts = []
    for name in SCORED:
        split = name.removesuffix("_last")
        if name not in logits:
            continue
        num_images, num_classes = logits[name].shape
        if num_images != len(labels[split]) or not np.isfinite(logits[name]).all():
            raise ValueError(f"the model's {name} logits are {logits[name].shape} or not finite")
        columns: dict[str, Any] = {"split": name, "index": np.arange(num_images, dtype=np.int32)}
        columns["label"] = labels[split].astype(np.int16)
        columns.update({f"logit_{k}": logits[name][:, k].astype(np.float32) for k in range(num_classes)})
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def check_official(table: PredictionTable, card: DataCard, scores: dict[str, Scores]) -> None:
    """Give medmnist's own functions the same array.

    Raises:
        OfficialMismatchError: If AUC or accuracy differ by more than 1e-9.
    """
    from medmnist.evaluator import getACC, getAUC

    for split in ("val", "test"):
        labels, probs = split_scores(table, split)
        ours = scores[split]
        if ours["auc"] is None or ours["acc"] is None:
            continue
        official = {"auc": getAUC(labels[:, None], probs, card.task), "acc": getACC(labels[:, None], probs, card.task)}
        for key, value in official.items():
            if abs(float(value) - float(ours[key] or 0.0)) > OFFICIAL_TOLERANCE:
                raise OfficialMismatchError(f"{split} {key}: medmnist says {value!r}, the suite says {ours[key]!r}")
