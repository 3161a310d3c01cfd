"""What the kept weights of a run say of single images, which are prepared as the images of val are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from bench.data.loading import get_info
from bench.data.own_import import check_depth, in_channels, read_image, squared
from bench.errors import BenchError
from bench.machine.devices import choose_device
from bench.machine.foreign import cast, create
from bench.protocols.loading import load_protocol
from bench.protocols.schema import Protocol
from bench.records.card import read_card
from bench.records.names import Run, is_own
from bench.stats.metrics import softmax
from bench.streams import Streams
from bench.training.kept_weights import KeptWeights, read_weights
from bench.training.trainer import DTYPES, FORMATS, SplitData
from bench.training.trainer import predict as logits_of
from models import fingerprint, get_spec

NOT_FOR_DIAGNOSIS = (
    "Not for diagnosis: a model of a benchmark, trained on small public images; its probabilities say nothing about "
    "patients."
)


@dataclass(frozen=True)
class SingleImages:
    """What a model says.

    Attributes:
        run: Whose weights they are.
        probabilities: By image file, by class name in the order of the labels; each image's sum to 1.
        notes: What was done to an image before it was prepared, one line each.
    """

    run: Run
    probabilities: dict[str, dict[str, float]]
    notes: list[str]


def predict_images(
    weights: Path, images: Sequence[Path], *, results: Path, protocol: str = "", device: str = "cpu"
) -> SingleImages:
    """The probabilities of each image by a run's kept weights.

    Args:
        weights: A file of `medbench run --keep-weights`.
        images: Files that Pillow reads. One of another size is resized to that of the data set's files: as MedMNIST's
            were (bicubic, both sides alike), or for a data set of one's own as `data import` does.
        results: Where the data set's card may stand, with the names of its classes.
        protocol: The run's protocol by TOML file, "" for the suite's of the name.
        device: `cpu`, `cuda`, `cuda:1` or `auto`.

    Raises:
        BenchError, ModelError: If the file holds no such weights, model, protocol or classes are not those that it
            names, or an image cannot be read or has more than 8 bits a channel.
    """
    kept = read_weights(weights) if weights.is_file() else None
    if kept is None:
        state = "holds no kept weights, or is damaged" if weights.is_file() else "is no file"
        raise BenchError(f"{weights} {state}; medbench run --keep-weights DIR writes DIR/<run_id>.safetensors")
    run = _run_of(weights, kept)
    rules = _protocol_of(kept, run, protocol)
    if fingerprint(get_spec(run.model)) != kept.about.get("model_fingerprint"):
        raise BenchError(f"{weights} is of other code of {run.model} than what is here; train it again")
    names, num_channels, size = _data_of(run, rules, results)
    notes: list[str] = []
    read = _read_own if run.own else _read
    arrays = np.stack([read(path, num_channels, size, notes) for path in images])
    in_chans = 3 if rules.data.channels == "rgb" else num_channels
    for key, wanted in (("num_classes", len(names)), ("in_chans", in_chans)):
        if kept.about.get(key) != str(wanted):
            raise BenchError(f"{weights} is for {key} {kept.about.get(key)}; {run.dataset} has {wanted}")
    device = choose_device(device)
    seed = Streams(run.model, run.dataset, run.seed).init()
    model = create(run.model, seed=seed, num_classes=len(names), in_chans=in_chans, img_size=rules.data.img_size)
    placed = cast(model.to(device), DTYPES[rules.numerics.precision], FORMATS[rules.numerics.memory_format])
    placed.load_state_dict(kept.state)
    split = SplitData.from_arrays(arrays, np.zeros(len(arrays), dtype=np.int64), device)
    probs = softmax(logits_of(placed, split, rules))
    rows = {str(path): dict(zip(names, row, strict=True)) for path, row in zip(images, probs.tolist(), strict=True)}
    return SingleImages(run, rows, notes)


def _run_of(path: Path, kept: KeptWeights) -> Run:
    """The run that a file's metadata names."""
    parts = kept.about.get("run_id", "").rsplit("__", 3)
    if len(parts) != 4 or not parts[3][1:].isdigit():
        raise BenchError(f"{path} names no run; medbench run --keep-weights DIR writes files that do")
    model, dataset, protocol, seed = parts
    return Run(protocol, model.replace("--", "/"), dataset, int(seed[1:]))


def _protocol_of(kept: KeptWeights, run: Run, file: str) -> Protocol:
    """The rules that the weights were trained by."""
    try:
        rules = load_protocol(file or run.protocol)
    except BenchError:
        if file:
            raise
        line = f"The weights were trained by {run.protocol}, no protocol of the suite: name its file with --protocol"
        raise BenchError(line) from None
    if rules.digest() != kept.about.get("protocol_digest"):
        name = file or run.protocol
        raise BenchError(f"The weights were trained by other rules than those of {name}; name theirs with --protocol")
    return rules


def _data_of(run: Run, rules: Protocol, results: Path) -> tuple[list[str], int, int]:
    """Class names, channels and the size of the data set's files, by its card or by what is known of it."""
    if is_own(run.dataset):
        card = read_card(results, run.dataset)
        if card is None:
            raise BenchError(f"The classes of {run.dataset} stand in its results folder: name that with --results")
        return card.class_names, card.num_channels, card.source_size
    info = get_info(run.dataset)
    return list(info.class_names), info.num_channels, rules.data.source_size


def _read(path: Path, num_channels: int, size: int, notes: list[str]) -> NDArray[np.uint8]:
    """An image as (size, size) gray or (size, size, 3) colour."""
    try:
        with Image.open(path) as opened:
            check_depth(opened, path)
            image = opened.convert("RGB" if num_channels == 3 else "L")
    except (UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError):
        raise BenchError(f"{path} is no image that can be read; give PNG or JPEG files") from None
    except OSError as error:
        raise BenchError(f"Cannot read {path}: {error.strerror or error}") from None
    if image.size != (size, size):
        notes.append(f"{path}: resized from {image.width} x {image.height} to {size} x {size} px")
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.uint8)


def _read_own(path: Path, num_channels: int, size: int, notes: list[str]) -> NDArray[np.uint8]:
    """As `_read`, of a data set of one's own: what `data import` would make of the image."""
    image = read_image(path)
    if image.size != (size, size):
        cut = "" if image.width == image.height else "cut to the central square and "
        notes.append(f"{path}: {cut}resized from {image.width} x {image.height} to {size} x {size} px")
    return in_channels(squared(image, size), num_channels)
