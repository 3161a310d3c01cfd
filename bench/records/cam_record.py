"""What `results/cams/` holds: which images and layers a Grad-CAM explained, and the maps. No torch.

`results/cams/<protocol>/<model>/<dataset>/seed<k>.json`, sealed, beside `seed<k>.maps.parquet` and, where the set's
licence lets anybody copy them, `seed<k>.images.parquet` with the source pixels of the images shown. Maps are stored as
they are before Grad-CAM's ReLU, so that any scaling can be made of them.
"""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from bench.errors import ProtocolError, RecordError
from bench.protocols.loading import load_protocol
from bench.records.names import SYNTHETIC_PREFIX, ModelName, Run, SlugName, lock_file, model_slug
from bench.records.own_models import outdated
from bench.records.predictions import frame_bytes, read_attached
from bench.records.run_record import check_apart
from bench.records.sealed import Line, Sealed, Strict, read_all, sealed_bytes
from bench.records.writing.locks import BusyError, held
from bench.records.writing.swap import replace_together

TRAINED = "trained"
RANDOM = "random"  # followed by a space and its number
# Licences under which a set's images may be stored and printed by anybody; MIT is that of the synthetic sets.
FREE_LICENSES = ("CC BY 4.0", "CC0 1.0", "MIT")
# Where MedMNIST has its images from; whoever prints one must name them.
IMAGE_SOURCES = {
    "bloodmnist": "Acevedo et al. 2020, Data in Brief 30:105474",
    "breastmnist": "Al-Dhabyani et al. 2020, Dataset of breast ultrasound images, Data in Brief 28:104863",
    "dermamnist": "Tschandl et al. 2018 (HAM10000), Scientific Data 5:180161",
    "organcmnist": "Bilic et al. 2019 (LiTS), arXiv 1901.04056",
    "organsmnist": "Bilic et al. 2019 (LiTS), arXiv 1901.04056",
    "pneumoniamnist": "Kermany et al. 2018, Cell 172(5):1122-1131",
}

WAIT_SECONDS = 60.0  # for another process that writes the same files

Map = NDArray[np.float64]


class CamLayer(Strict):
    """A layer whose maps are stored: module path, what it is, and the map's size."""

    path: Line
    words: Line
    height: int = Field(ge=1)
    width: int = Field(ge=1)


class CamImage(Strict):
    """A test image that was explained.

    Attributes:
        index: In the test split, from 0.
        label, prediction: medmnist's labels; the map explains the score of `prediction`.
        probability: Of the prediction.
    """

    index: int = Field(ge=0)
    label: int = Field(ge=0)
    prediction: int = Field(ge=0)
    probability: float = Field(ge=0.0, le=1.0)

    @property
    def correct(self) -> bool:
        """Whether the prediction is the label."""
        return self.label == self.prediction


class CamCell(Strict):
    """All test images of one label that are predicted right, or wrong: how many there are."""

    label: int
    correct: bool
    num_test: int


class CamRecord(Sealed):
    """One explained run; `results/README.md` defines each field."""

    suite_version: str
    run_id: str
    model: ModelName
    dataset: SlugName
    protocol: SlugName
    seed: int = Field(ge=0)
    synthetic: bool
    method: str
    layers: list[CamLayer]
    images: list[CamImage]
    cells: list[CamCell]
    num_random: int = Field(ge=1)
    class_names: list[Line]
    license: Line
    citation: Line
    image_source: Line
    protocol_digest: str
    model_fingerprint: str
    labels_digest: dict[str, str]
    data_md5: str
    weights_sha256: str
    predictions_sha256: str
    run_record_digest: str | None
    agrees_with_record: bool | None
    maps_sha256: str
    images_sha256: str | None
    commit: str | None
    dirty: bool | None
    packages: dict[str, str]
    device: str

    @property
    def predictions(self) -> dict[int, int]:
        """Predicted label by test index."""
        return {image.index: image.prediction for image in self.images}

    @property
    def run(self) -> Run:
        """The run whose weights were explained."""
        return Run(self.protocol, self.model, self.dataset, self.seed)


def cam_path(results: Path, run: Run) -> Path:
    """Where a run's record of maps stands."""
    return results / "cams" / run.protocol / model_slug(run.model) / run.dataset / f"seed{run.seed}.json"


def maps_path(record_path: Path) -> Path:
    """`seed0.json` -> `seed0.maps.parquet`."""
    return record_path.with_suffix(".maps.parquet")


def images_path(record_path: Path) -> Path:
    """`seed0.json` -> `seed0.images.parquet`."""
    return record_path.with_suffix(".images.parquet")


def may_store_images(license_name: str) -> bool:
    """Whether images under a licence may be stored beside the maps; one that is not known may not."""
    return license_name in FREE_LICENSES


def image_source(dataset: str, citation: str) -> str:
    """Who must be named beside an image: MedMNIST's own source, then MedMNIST."""
    first = IMAGE_SOURCES.get(dataset)
    return f"{first}; through {citation}" if first else citation


def maps_bytes(rows: Iterable[tuple[int, str, str, Map]]) -> bytes:
    """Maps as parquet bytes.

    Args:
        rows: Test index, layer path, weights (`trained`, `random 0` ...), map (H, W).
    """
    return frame_bytes(
        pd.DataFrame(
            [
                {"index": index, "layer": layer, "weights": weights, "values": values.astype(np.float32).ravel()}
                for index, layer, weights, values in rows
            ]
        )
    )


def images_bytes(images: dict[int, NDArray[np.uint8]]) -> bytes:
    """Source pixels, (H, W) or (H, W, 3) by test index, as parquet bytes."""
    rows = [
        {"index": index, "height": pixels.shape[0], "width": pixels.shape[1], "pixels": pixels.ravel()}
        for index, pixels in sorted(images.items())
    ]
    return frame_bytes(pd.DataFrame(rows))


def write_cam(results: Path, record: CamRecord, maps: bytes, images: bytes | None) -> Path:
    """Write the files of an explained run; older ones stand until the new ones are whole.

    Raises:
        RecordError: If the folder refuses, a synthetic record would enter a store of real ones, or images would be
            stored whose licence does not allow it.
    """
    check_apart(results, record.dataset, record.run_id)
    if images is not None and not may_store_images(record.license):
        raise RecordError(f"{record.run_id}: images under {record.license} are never stored")
    path = cam_path(results, record.run)
    try:
        with held(lock_file(results, f"cams__{record.run_id}"), wait_seconds=WAIT_SECONDS):
            replace_together(path, sealed_bytes(record), {maps_path(path): maps, images_path(path): images})
    except BusyError:
        raise RecordError(
            f"{path} is being written by another process; wait for it, then run the command again"
        ) from None
    return path


def problem_of(record: CamRecord, path: Path) -> str:
    """Why a record does not count, "" if it does: it stands elsewhere, is stale, or its files are not its own."""
    if cam_path(path.parents[4], record.run) != path or record.run.run_id != record.run_id:
        return f"the record names {record.run_id}, which belongs elsewhere"
    if record.synthetic != record.dataset.startswith(SYNTHETIC_PREFIX):
        return "synthetic does not fit the data set's name"
    # A protocol in a file of somebody's own that is not loaded here: nothing to compare with.
    with contextlib.suppress(ProtocolError):
        if record.protocol_digest != load_protocol(record.protocol).digest():
            return "stale, the protocol changed"
    reason = outdated(record.model, record.model_fingerprint, record.packages.get("timm", ""))
    if reason:
        return reason
    if record.images_sha256 is not None and not may_store_images(record.license):
        return f"it stores images under {record.license}; remove them"
    for file, expected in ((maps_path(path), record.maps_sha256), (images_path(path), record.images_sha256)):
        if expected is None:
            if file.exists():
                return f"{file.name} belongs to no record; remove it"
            continue
        try:
            read_attached(file, expected)
        except RecordError:
            return f"{file.name} is missing or is not the file that the record was written with"
    return ""


def read_cams(results: Path) -> tuple[list[CamRecord], list[str]]:
    """Every record of maps that counts, and why the others were left out, one line each."""
    return read_all((results / "cams").glob("*/*/*/seed*.json"), CamRecord, problem_of)


def read_maps(results: Path, record: CamRecord) -> dict[tuple[int, str, str], Map]:
    """Maps (H, W) by (test index, layer path, weights), before the ReLU.

    Raises:
        RecordError: If the file is damaged or a map is missing.
    """
    table = _read_table(maps_path(cam_path(results, record.run)), record.maps_sha256)
    shapes = {layer.path: (layer.height, layer.width) for layer in record.layers}
    try:
        stored = {
            (row["index"], row["layer"], row["weights"]): np.asarray(row["values"], float).reshape(shapes[row["layer"]])
            for row in table.to_dict("records")
        }
    except (KeyError, ValueError) as error:
        raise RecordError(f"{record.run_id}: the maps do not fit their record ({error})") from None
    weights = (TRAINED, *(f"{RANDOM} {number}" for number in range(record.num_random)))
    for image, layer, which in itertools.product(record.images, record.layers, weights):
        if (image.index, layer.path, which) not in stored:
            raise RecordError(f"{record.run_id}: no map of {layer.path} for test image {image.index}, {which}")
    return stored


def read_images(results: Path, record: CamRecord) -> dict[int, NDArray[np.uint8]]:
    """Source pixels (H, W) or (H, W, 3) by test index; empty where the licence lets nobody store them.

    Raises:
        RecordError: If the file is damaged.
    """
    if record.images_sha256 is None:
        return {}
    table = _read_table(images_path(cam_path(results, record.run)), record.images_sha256)
    images = {}
    for row in table.to_dict("records"):
        pixels = np.asarray(row["pixels"], np.uint8)
        height, width = int(row["height"]), int(row["width"])
        shape = (height, width) if len(pixels) == height * width else (height, width, 3)
        images[int(row["index"])] = pixels.reshape(shape)
    return images


def _read_table(path: Path, sha256: str) -> pd.DataFrame:
    content = read_attached(path, sha256)
    try:
        return pd.read_parquet(io.BytesIO(content))
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: unreadable ({error})") from None
