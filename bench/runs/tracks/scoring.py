"""A run's weights on corrupted test images: scored as the run ends, or later by weights that are proved to be its own.

Both ways come here with a predictor, and what comes out follows from weights, pixels and rules alone. Finished cells
are kept beside the run's checkpoints, so that a killed scoring goes on where it was and gives the same record.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench import __version__
from bench.data.corruptions import Pixels, chosen_images, corrupt
from bench.data.names import flag_of
from bench.errors import BenchError
from bench.machine import cpu_isa, provenance
from bench.protocols.schema import Protocol
from bench.records.names import Run, is_own
from bench.records.predictions import read_predictions
from bench.records.sealed import canonical
from bench.records.tracks.record import NUM_CELLS, TrackLogits, TrackRecord, logits_bytes, parse_logits, score_cells
from bench.records.writing.framed import read_framed, write_framed
from bench.runs.request import Hooks, RunProgress, RunRequest, TrackBundle, run_key
from bench.stats.metrics import score, softmax
from bench.tracks.schema import Track, cells
from models import fingerprint, get_spec

if TYPE_CHECKING:
    from torch import nn

    from bench.data.loading import Arrays

Logits = NDArray[np.float32]

MAX_VALUES = 2**27  # pixels that a fit predicts at once: 1 GiB as float64
PIXEL_PACKAGES = ("pillow", "scipy")  # that decide pixels, beside those of every record


@dataclass(frozen=True)
class Predictor:
    """What scores images: (M, H, W) or (M, H, W, 3) uint8 to (M, K) logits.

    Attributes:
        predict: The function.
        cells_at_once: How many cells one call takes: a fit costs more than its predictions.
    """

    predict: Callable[[Pixels], Logits]
    cells_at_once: int = 1


def network_predictor(model: nn.Module, request: RunRequest) -> Predictor:
    """Predictions of a trained network as its test split was predicted, a cell at a time."""
    from bench.training.trainer import SplitData, predict

    def logits_of(images: Pixels) -> Logits:
        data = SplitData.from_arrays(images, np.zeros(len(images), dtype=np.int64), request.device)
        return predict(model, data, request.protocol)

    return Predictor(logits_of)


def fitted_predictor(run: Run, arrays: Arrays) -> Predictor:
    """Predictions of a classical model, which is fitted again for as many cells as memory takes.

    Args:
        run: The run.
        arrays: The data set, its training images cut as the protocol says.
    """
    from bench.classical import fit_predict

    def logits_of(images: Pixels) -> Logits:
        labels = np.zeros(len(images), dtype=np.int64)
        corrupted = replace(arrays, images={**arrays.images, "test": images}, labels={**arrays.labels, "test": labels})
        return fit_predict(run.model, corrupted, run.seed)["test"]

    return Predictor(logits_of, max(1, MAX_VALUES // arrays.images["test"].size))


def applies(track: Track, protocol: Protocol, dataset: str) -> bool:
    """Whether a track can be scored under a protocol on a data set."""
    if is_own(dataset):
        return False
    return protocol.data.source_size == track.source_size and flag_of(dataset) in track.datasets


def score_track(
    request: RunRequest, track: Track, predictor: Predictor, arrays: Arrays, predictions: bytes, hooks: Hooks
) -> TrackBundle:
    """Score every cell of a track.

    Args:
        request: The run; where it has a folder for checkpoints, finished cells are kept there.
        track: The track, which applies to the run.
        predictor: Of the run's own weights.
        arrays: The data set.
        predictions: The run's own, as they are stored.
        hooks: How it reports, and is requested to stop.

    Raises:
        InterruptedTraining: If the hooks requested a stop; the finished cells have been kept.
        BenchError: If a logit is not finite.
        RecordError: If a file cannot be written.
    """
    run, test = request.run, read_predictions(predictions).split("test")
    predictions_sha256 = hashlib.sha256(predictions).hexdigest()
    indices = chosen_images(track, run.dataset, len(test.labels))
    partial = _Partial.of(request, track, predictions_sha256)
    found, pixels_sha256 = _logits(request, track, predictor, arrays.images["test"][indices], indices, partial, hooks)
    content = logits_bytes(TrackLogits(indices, found))
    stored = parse_logits(content, len(indices))
    clean = softmax(np.ascontiguousarray(test.logits[indices]))
    record = TrackRecord(
        suite_version=__version__,
        run_id=run.run_id,
        track=track.name,
        model=run.model,
        dataset=run.dataset,
        protocol=run.protocol,
        seed=run.seed,
        synthetic=run.synthetic,
        track_digest=track.digest(flag_of(run.dataset)),
        protocol_digest=request.protocol.digest(),
        model_fingerprint=fingerprint(get_spec(run.model)),
        labels_digest=request.card.labels_digest["test"],
        data_md5=arrays.md5,
        num_images=len(indices),
        pixels_sha256=pixels_sha256,
        run_predictions_sha256=predictions_sha256,
        logits_sha256=hashlib.sha256(content).hexdigest(),
        clean=score(test.labels[indices], clean, request.card.task),
        scores=score_cells(test.labels, stored, request.card.task),
        **provenance.origin({name: importlib.metadata.version(name) for name in PIXEL_PACKAGES}),
        **_arithmetic(request),
    )
    return TrackBundle(record.sealed(), content)


def _arithmetic(request: RunRequest) -> dict[str, Any]:
    """The record's fields on how this process computes."""
    from bench.machine import foreign

    device = request.device if get_spec(request.run.model).kind == "network" else "cpu"
    in_force = cpu_isa.in_force() if device == "cpu" else None
    return {"device": provenance.device_name(device), "cpu_isa": in_force, "num_threads": foreign.num_threads()}


def _logits(
    request: RunRequest,
    track: Track,
    predictor: Predictor,
    images: Pixels,
    indices: NDArray[np.int64],
    partial: _Partial,
    hooks: Hooks,
) -> tuple[Logits, str]:
    """(70, N, K) logits of all cells, and the digest of all pixels, those of cells that were kept included."""
    from bench.training.trainer import InterruptedTraining

    every, step, started = list(cells()), predictor.cells_at_once, time.perf_counter()
    done, digest, predicted = partial.load(), hashlib.sha256(), 0
    for first in range(0, NUM_CELLS, step):
        group = every[first : first + step]
        pixels = [corrupt(images, indices, track, request.run.dataset, cell) for cell in group]
        for part in pixels:
            digest.update(part.tobytes())
        if any(first + place not in done for place in range(len(group))):
            logits = predictor.predict(np.concatenate(pixels)).reshape(len(group), len(images), -1)
            _check_finite(request.run, logits, group)
            done |= {first + place: part for place, part in enumerate(logits)}
            predicted += len(images) * len(group)
        rate = predicted / max(time.perf_counter() - started, 1e-9)
        hooks.on_progress(RunProgress(0, 1, min(first + step, NUM_CELLS), NUM_CELLS, rate, track.name))
        stop = hooks.should_stop()
        if stop or partial.due():
            partial.save(done)
        if stop:
            raise InterruptedTraining
    return np.stack([done[place] for place in range(NUM_CELLS)]), digest.hexdigest()


def _check_finite(run: Run, logits: Logits, group: Iterable[tuple[str, int]]) -> None:
    for (name, severity), part in zip(group, logits, strict=True):
        if not np.isfinite(part).all():
            raise BenchError(f"{run.run_id}: its logits under {name} at severity {severity} are not finite")


class _Partial:
    """The finished cells of a scoring, in a file that knows when it is not whole.

    Args:
        path: The file, None to keep nothing.
        key: Digest of all that must be equal for its cells to be used.
    """

    def __init__(self, path: Path | None, key: str) -> None:
        from bench.training.checkpoint import DEFAULT_INTERVAL_SECONDS, INTERVAL_VARIABLE

        self.path, self.key = path, key
        self.interval = float(os.environ.get(INTERVAL_VARIABLE, DEFAULT_INTERVAL_SECONDS))
        self.last = time.monotonic()

    @classmethod
    def of(cls, request: RunRequest, track: Track, predictions_sha256: str) -> _Partial:
        """The file of a run and a track."""
        same = [run_key(request), track.digest(flag_of(request.run.dataset)), predictions_sha256]
        key = hashlib.sha256(canonical(same)).hexdigest()
        folder = request.checkpoint_dir
        return cls(None if folder is None else partial_path(Path(folder), track.name), key)

    def load(self) -> dict[int, Logits]:
        """Logits by the cell's place; none where nothing of this key was kept."""
        content = None if self.path is None else read_framed(self.path)
        if content is None:
            return {}
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            if str(archive["key"]) != self.key:
                return {}
            return {int(name): archive[name] for name in archive.files if name != "key"}

    def due(self) -> bool:
        """Whether the interval has passed since the last save."""
        return self.path is not None and time.monotonic() - self.last >= self.interval

    def save(self, done: dict[int, Logits]) -> None:
        """Keep what is finished.

        Raises:
            RecordError: If the file system refuses.
        """
        if self.path is None:
            return
        stream = io.BytesIO()
        np.savez(stream, key=np.array(self.key), **{str(place): part for place, part in done.items()})  # type: ignore[arg-type]
        write_framed(self.path, stream.getvalue())
        self.last = time.monotonic()


def partial_path(folder: Path, track: str) -> Path:
    """Where the finished cells of an interrupted scoring are kept, in a folder of checkpoints."""
    return folder / f"{track}.part"
