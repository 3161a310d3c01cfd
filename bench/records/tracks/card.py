"""What a corruption track does to a data set: `results/tracks/<track>/<dataset>.json`, sealed. No torch.

Which pixels every run was scored on, how much they differ from their source, and, where the set's licence lets anybody
copy them, one test image with all its corruptions (`<dataset>.images.parquet`), from which a report draws the contact
sheet.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, field_validator

from bench.errors import RecordError
from bench.records.cam_record import may_store_images
from bench.records.names import SYNTHETIC_PREFIX, SlugName, lock_file
from bench.records.predictions import frame_bytes, read_attached
from bench.records.run_record import check_apart
from bench.records.sealed import Line, Sealed, read_all, sealed_bytes
from bench.records.writing.locks import BusyError, held
from bench.records.writing.swap import replace_together
from bench.tracks.loading import list_tracks, load_track
from bench.tracks.schema import CORRUPTIONS, SEVERITIES

WAIT_SECONDS = 60.0
CLEAN = "clean"  # of an image without corruption, at severity 0

Rows = dict[str, list[float]]  # corruption -> a value of severities 1 to 5


class TrackCard(Sealed):
    """A data set under a track; shares in [0, 1]. `results/README.md` defines each field."""

    suite_version: str
    track: SlugName
    dataset: SlugName
    synthetic: bool
    track_digest: str
    labels_digest: str
    data_md5: str
    num_images: int = Field(ge=1)
    pixels_sha256: str
    similarity: Rows
    cut: Rows
    num_constant: int = Field(ge=0)
    shown_index: int = Field(ge=0)
    license: Line
    image_source: Line
    images_sha256: str | None
    commit: str | None
    dirty: bool | None
    packages: dict[str, str]

    @field_validator("similarity", "cut")
    @classmethod
    def _every_cell(cls, value: Rows) -> Rows:
        if set(value) != set(CORRUPTIONS) or any(len(values) != len(SEVERITIES) for values in value.values()):
            raise ValueError("every corruption at every severity, and no other")
        return value


def track_card_path(results: Path, track: str, dataset: str) -> Path:
    """Where a data set's card of a track stands."""
    return results / "tracks" / track / f"{dataset}.json"


def card_images_path(path: Path) -> Path:
    """`breastmnist.json` -> `breastmnist.images.parquet`."""
    return path.with_suffix(".images.parquet")


def card_images_bytes(images: dict[tuple[str, int], NDArray[np.uint8]]) -> bytes:
    """Pixels (H, W) or (H, W, 3) by corruption and severity, as parquet bytes."""
    rows = [
        {"corruption": name, "severity": severity, "height": p.shape[0], "width": p.shape[1], "pixels": p.ravel()}
        for (name, severity), p in images.items()
    ]
    return frame_bytes(pd.DataFrame(rows))


def read_card_images(results: Path, card: TrackCard) -> dict[tuple[str, int], NDArray[np.uint8]]:
    """As they were stored; empty where the licence lets nobody store them.

    Raises:
        RecordError: If the file is missing or damaged.
    """
    if card.images_sha256 is None:
        return {}
    path = card_images_path(track_card_path(results, card.track, card.dataset))
    content = read_attached(path, card.images_sha256)
    try:
        images = {}
        for row in pd.read_parquet(io.BytesIO(content)).to_dict("records"):
            pixels = np.asarray(row["pixels"], np.uint8)
            shape = (int(row["height"]), int(row["width"]))
            shape_of = shape if len(pixels) == shape[0] * shape[1] else (*shape, 3)
            images[str(row["corruption"]), int(row["severity"])] = pixels.reshape(shape_of)
    except (OSError, KeyError, ValueError) as error:
        raise RecordError(f"{path}: unreadable ({error})") from None
    return images


def write_track_card(results: Path, card: TrackCard, images: bytes | None) -> Path:
    """Write a data set's card of a track.

    Raises:
        RecordError: If the folder refuses, a synthetic card would enter a store of real evidence, or an image would be
            stored whose licence does not allow it.
    """
    check_apart(results, card.dataset, card.dataset)
    if images is not None and not may_store_images(card.license):
        raise RecordError(f"{card.dataset}: images under {card.license} are never stored")
    path = track_card_path(results, card.track, card.dataset)
    try:
        with held(lock_file(results, card_lock_name(card.track, card.dataset)), wait_seconds=WAIT_SECONDS):
            replace_together(path, sealed_bytes(card), {card_images_path(path): images})
    except BusyError:
        raise RecordError(f"{path} is being written by another process; wait for it, then try again") from None
    return path


def card_lock_name(track: str, dataset: str) -> str:
    """What the lock is called that a writer of a card holds."""
    return f"tracks__{track}__{dataset}"


def card_problem_of(card: TrackCard, path: Path) -> str:
    """Why a card does not count, "" if it does."""
    if track_card_path(path.parents[2], card.track, card.dataset) != path:
        return f"the card names {card.track} on {card.dataset}, which belongs elsewhere"
    if card.synthetic != card.dataset.startswith(SYNTHETIC_PREFIX):
        return "synthetic does not fit the data set's name"
    flag = card.dataset.removeprefix(SYNTHETIC_PREFIX)
    if card.track in list_tracks():
        track = load_track(card.track)
        if flag not in track.datasets or card.track_digest != track.digest(flag):
            return "stale, the track changed"
    if card.images_sha256 is None:
        return f"{card_images_path(path).name} belongs to no card; remove it" if card_images_path(path).exists() else ""
    if not may_store_images(card.license):
        return f"it stores images under {card.license}; remove them"
    try:
        read_attached(card_images_path(path), card.images_sha256)
    except RecordError:
        return f"{card_images_path(path).name} is missing or is not the file that the card was written with"
    return ""


def read_track_cards(results: Path) -> tuple[list[TrackCard], list[str]]:
    """Every card of a track that counts, and why the others were left out, one line each."""
    return read_all((results / "tracks").glob("*/*.json"), TrackCard, card_problem_of)
