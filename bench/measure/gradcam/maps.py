"""Grad-CAM of a run: which regions of an image raise the score of the class that the model predicts.

captum computes the maps. Beside the trained model's stand those of the same architecture with fresh weights: a map that
looks the same there shows the architecture or the image, not what was learned (Adebayo et al. 2018, Sanity Checks for
Saliency Maps, arXiv 1810.03292).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bench import __version__
from bench.data.loading import load
from bench.errors import BenchError, DataError
from bench.machine import provenance
from bench.machine.foreign import cast, keep_fp32
from bench.measure.gradcam.layers import Target, find_targets, tapped
from bench.protocols.schema import InitRules
from bench.records.cam_record import (
    RANDOM,
    TRAINED,
    CamCell,
    CamImage,
    CamLayer,
    CamRecord,
    Map,
    image_source,
    images_bytes,
    maps_bytes,
    may_store_images,
    write_cam,
)
from bench.records.card import labels_digest
from bench.records.names import predictions_path
from bench.records.predictions import read_attached, read_predictions
from bench.records.run_record import Record
from bench.records.writing.sweep import sweep_store
from bench.runs.building import build_model
from bench.runs.proven import chosen_weights, recorded_run
from bench.runs.request import RunProgress, RunRequest
from bench.runs.weights import trained_model
from bench.stats import metrics
from bench.streams import Streams, stream_seed
from bench.training.augment import prepare
from bench.training.kept_weights import KeptWeights
from bench.training.trainer import DTYPES, FORMATS, SplitData, predict
from models import fingerprint, get_spec

NUM_RANDOM = 5  # randomised models; one could be odd by chance
SHOWN_BINARY, SHOWN = 3, 1  # test images a label and outcome, with two classes and with more
BATCH = 16


@dataclass(frozen=True)
class Explained:
    """What explaining a run gives, before it is written.

    Attributes:
        logits: (N, K) of the test split.
        images: The images shown.
        cells: How many test images there are of each label and outcome.
        maps: The maps' table as bytes.
        pixels: The shown images' table as bytes, None where their licence lets nobody store them.
        data_md5: Of the data set's file.
    """

    logits: NDArray[np.float32]
    images: list[CamImage]
    cells: list[CamCell]
    maps: bytes
    pixels: bytes | None
    data_md5: str


def explain_run(
    request: RunRequest,
    results: Path,
    weights: Path | None = None,
    on_progress: Callable[[RunProgress], None] = lambda event: None,
) -> tuple[CamRecord, Path]:
    """Compute and store the maps of a run, which is trained first where its weights were not kept.

    Args:
        request: The run.
        results: The results folder.
        weights: The folder of kept weights, None for `results/checkpoints`.
        on_progress: Called with the training's progress.

    Returns:
        The record, and where it stands.

    Raises:
        BenchError: If the model is fitted, a layer's map localises nothing, captum is missing, or the training failed.
        Interrupted: If the training received a signal to stop.
    """
    run, protocol, card = request.run, request.protocol, request.card
    if get_spec(run.model).kind != "network":
        raise BenchError(f"{run.model} is fitted, it has no layer to explain; name a network")
    _captum()
    sweep_store(results)
    torch.set_num_threads(1)
    in_chans = 3 if protocol.data.channels == "rgb" else card.num_channels
    model, _ = build_model(run, protocol, card, Streams(run.model, run.dataset, run.seed))
    # Before the training: a layer that is refused has not cost one.
    targets = find_targets(run.model, model, in_chans, protocol.data.img_size)
    chosen = chosen_weights(request, results, weights, on_progress)
    explained = _explain(request, trained_model(request, chosen.state), targets)
    record = _record(request, results, chosen, targets, explained)
    return record, write_cam(results, record, explained.maps, explained.pixels)


def _explain(request: RunRequest, model: nn.Module, targets: Sequence[Target]) -> Explained:
    """Score the test split, choose images, compute their maps."""
    run, card = request.run, request.card
    arrays = load(run.dataset, request.protocol.data.source_size, root=request.data_root, download=False)
    if labels_digest(arrays.labels["test"]) != card.labels_digest["test"]:
        raise DataError(f"{run.dataset}: the test labels are not those of results/data/{run.dataset}.json")
    split = SplitData.from_arrays(arrays.images["test"], arrays.labels["test"], request.device)
    logits = predict(model, split, request.protocol)
    images, cells = choose_images(arrays.labels["test"], logits)
    maps = maps_bytes(_all_maps(request, model, targets, split, images))
    pixels = {image.index: arrays.images["test"][image.index] for image in images}
    stored = images_bytes(pixels) if may_store_images(card.license) else None
    return Explained(logits, images, cells, maps, stored, arrays.md5)


def _captum() -> str:
    """The version of captum.

    Raises:
        BenchError: If it is not installed.
    """
    try:
        return importlib.metadata.version("captum")
    except importlib.metadata.PackageNotFoundError:
        raise BenchError("Grad-CAM needs the package captum; install the extra [cam]") from None


def _placed(model: nn.Module, request: RunRequest) -> nn.Module:
    """The model as training had it: device, type, memory format; in evaluation mode."""
    rules = request.protocol.numerics
    return cast(model.to(request.device), DTYPES[rules.precision], FORMATS[rules.memory_format]).eval()


def choose_images(labels: NDArray[np.int64], logits: NDArray[np.float32]) -> tuple[list[CamImage], list[CamCell]]:
    """The test images to explain, by label, right before wrong, and how many there are of each kind.

    They are the first of each kind in the split's order: nothing about a map decides whether it is shown.

    Args:
        labels: (N,) class indices.
        logits: (N, K); the prediction is the suite's: `bench.stats.metrics.predict`.
    """
    probs = metrics.softmax(logits)
    num_classes = probs.shape[1]
    preds = metrics.predict(probs, "binary-class" if num_classes == 2 else "multi-class")
    shown = SHOWN_BINARY if num_classes == 2 else SHOWN
    images, cells = [], []
    for label in range(num_classes):
        for correct in (True, False):
            chosen = np.flatnonzero((labels == label) & ((preds == labels) == correct))
            cells.append(CamCell(label=label, correct=correct, num_test=len(chosen)))
            images += [
                CamImage(index=i, label=label, prediction=int(preds[i]), probability=float(probs[i, preds[i]]))
                for i in map(int, chosen[:shown])
            ]
    return images, cells


def grad_cam(model: nn.Module, layer: Target, x_BCHW: Tensor, classes: Sequence[int]) -> NDArray[np.float64]:
    """Grad-CAM before its ReLU: the layer's channels, each weighted by the mean of its gradient, added up.

    Args:
        model: In evaluation mode; (B, C, H, W) -> logits (B, K).
        layer: Whose map.
        x_BCHW: Normalised images.
        classes: Whose score is explained, one an image.

    Returns:
        (B, side, side).
    """
    from captum.attr import LayerGradCam

    parts = []
    with tapped(model, layer.path, layer.form) as tap:
        explainer = LayerGradCam(model, tap)
        for start in range(0, len(x_BCHW), BATCH):
            part = slice(start, start + BATCH)
            target = torch.tensor(list(classes[part]), device=x_BCHW.device)
            attribution = explainer.attribute(x_BCHW[part], target=target, relu_attributions=False)
            parts.append(attribution.detach().double().cpu().numpy()[:, 0])
    maps: NDArray[np.float64] = np.concatenate(parts)
    if not np.isfinite(maps).all():
        raise BenchError(f"The maps of {layer.path} are not finite; the weights or their gradients overflow")
    return maps


def _all_maps(
    request: RunRequest, trained: nn.Module, targets: Sequence[Target], split: SplitData, images: Sequence[CamImage]
) -> Iterator[tuple[int, str, str, Map]]:
    """(test index, layer, weights, map) of the trained model and of the randomised ones, of the same class's score."""
    keep_fp32()
    rules = request.protocol.numerics
    chosen = torch.tensor([image.index for image in images], device=split.images.device)
    x_BCHW = prepare(split.images[chosen], request.protocol, dtype=DTYPES[rules.precision])
    x_BCHW = x_BCHW.to(memory_format=FORMATS[rules.memory_format])
    for weights, model in _models(request, trained):
        for layer in targets:
            maps = grad_cam(model, layer, x_BCHW, [image.prediction for image in images])
            for image, values in zip(images, maps, strict=True):
                yield image.index, layer.path, weights, values


def _models(request: RunRequest, trained: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The trained model, then models with fresh weights, each from a random stream of its own; never public ones."""
    yield TRAINED, trained
    scratch = request.protocol.model_copy(update={"init": InitRules(kind="scratch")})
    for number in range(NUM_RANDOM):
        model, _ = build_model(request.run, scratch, request.card, _FreshWeights(request, number))
        yield f"{RANDOM} {number}", _placed(model, request)


@dataclass(frozen=True)
class _FreshWeights:
    """Stands where `build_model` expects the run's streams: other initial weights than any run's."""

    request: RunRequest
    number: int

    def init(self) -> int:
        run = self.request.run
        return stream_seed("gradcam", run.model, run.dataset, run.seed, self.number)


def _same_scores(record: Record, results: Path, logits: NDArray[np.float32]) -> bool:
    """Whether the kept weights give the record's test predictions, bit for bit."""
    table = read_predictions(read_attached(predictions_path(record.run.path(results)), record.predictions_sha256))
    return np.array_equal(table.split("test").logits, logits)


def _record(
    request: RunRequest, results: Path, weights: KeptWeights, targets: Sequence[Target], explained: Explained
) -> CamRecord:
    run, protocol, card = request.run, request.protocol, request.card
    recorded = recorded_run(request, results)
    return CamRecord(
        suite_version=__version__,
        run_id=run.run_id,
        model=run.model,
        dataset=run.dataset,
        protocol=run.protocol,
        seed=run.seed,
        synthetic=run.synthetic,
        method="Grad-CAM of the predicted class's logit, before the ReLU (captum LayerGradCam)",
        layers=[CamLayer(path=t.path, words=t.words, height=t.form.side, width=t.form.side) for t in targets],
        images=explained.images,
        cells=explained.cells,
        num_random=NUM_RANDOM,
        class_names=card.class_names,
        license=card.license,
        citation=card.citation,
        image_source=image_source(run.dataset, card.citation),
        protocol_digest=protocol.digest(),
        model_fingerprint=fingerprint(get_spec(run.model)),
        labels_digest=card.labels_digest,
        data_md5=explained.data_md5,
        weights_sha256=weights.digest(),
        predictions_sha256=weights.predictions_sha256,
        run_record_digest=recorded.record_digest if recorded else None,
        agrees_with_record=_same_scores(recorded, results, explained.logits) if recorded else None,
        maps_sha256=hashlib.sha256(explained.maps).hexdigest(),
        images_sha256=hashlib.sha256(explained.pixels).hexdigest() if explained.pixels is not None else None,
        **provenance.origin({"captum": _captum()}),
        device=provenance.device_name(request.device),
    ).sealed()
