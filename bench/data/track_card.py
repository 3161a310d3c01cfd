"""Making a data set's card of a corruption track: all pixels once, their digest, and how like their source they are."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from bench import __version__
from bench.data import synthetic
from bench.data.card import CITATION
from bench.data.corruptions import Floats, Pixels, chosen_images, corrupt
from bench.data.loading import Arrays
from bench.records.cam_record import image_source, may_store_images
from bench.records.card import labels_digest
from bench.records.tracks.card import CLEAN, TrackCard, card_images_bytes
from bench.tracks.schema import CORRUPTIONS, Track, cells

SSIM_SIGMA, SSIM_REACH = 1.5, 3.5  # of the window (Wang et al. 2004), and where it ends in sigmas
SSIM_LIGHT, SSIM_CONTRAST = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def measure_track(track: Track, arrays: Arrays, origin: dict[str, object]) -> tuple[TrackCard, bytes | None]:
    """The card of a data set under a track, and the shown image's table where its licence lets anybody store it.

    Args:
        track: The track.
        arrays: The data set at the track's source size.
        origin: The record's fields `commit`, `dirty` and `packages`.
    """
    info, name = arrays.info, arrays.info.name
    indices = chosen_images(track, name, len(arrays.labels["test"]))
    images = arrays.images["test"][indices]
    similarity: dict[str, list[float]] = {corruption: [] for corruption in CORRUPTIONS}
    cut: dict[str, list[float]] = {corruption: [] for corruption in CORRUPTIONS}
    shown: dict[tuple[str, int], Pixels] = {(CLEAN, 0): images[0]}
    digest, num_constant = hashlib.sha256(), 0
    for cell in cells():
        found = corrupt(images, indices, track, name, cell)
        digest.update(found.tobytes())
        similarity[cell[0]].append(round(float(structural_similarity(images, found).mean()), 6))
        cut[cell[0]].append(round(float(((found == 0) | (found == 255)).mean()), 6))
        num_constant += int((np.ptp(found.reshape(len(found), -1), axis=1) == 0).sum())
        shown[cell] = found[0]
    table = card_images_bytes(shown) if may_store_images(info.license) else None
    card = TrackCard(
        suite_version=__version__,
        track=track.name,
        dataset=name,
        synthetic=info.synthetic,
        track_digest=track.digest(info.flag),
        labels_digest=labels_digest(arrays.labels["test"]),
        data_md5=arrays.md5,
        num_images=len(indices),
        pixels_sha256=digest.hexdigest(),
        similarity=similarity,
        cut=cut,
        num_constant=num_constant,
        shown_index=int(indices[0]),
        license=info.license,
        image_source=image_source(name, synthetic.CITATION if info.synthetic else CITATION),
        images_sha256=hashlib.sha256(table).hexdigest() if table is not None else None,
        **origin,  # type: ignore[arg-type]
    )
    return card.sealed(), table


def structural_similarity(first: Pixels, second: Pixels) -> NDArray[np.float64]:
    """SSIM of each image with its counterpart, a colour's mean over channels (Wang et al. 2004, Gaussian window).

    Args:
        first: (N, H, W) or (N, H, W, 3).
        second: As `first`.

    Returns:
        (N,) in [-1, 1]; 1 for equal images.
    """
    from scipy import ndimage

    a, b = first.astype(np.float64), second.astype(np.float64)
    spread = (0.0, SSIM_SIGMA, SSIM_SIGMA, *[0.0] * (first.ndim - 3))

    def smooth(values: Floats) -> Floats:
        found: Floats = ndimage.gaussian_filter(values, spread, truncate=SSIM_REACH)
        return found

    mean_a, mean_b = smooth(a), smooth(b)
    both = smooth(a * b) - mean_a * mean_b
    variances = smooth(a * a) - mean_a**2 + smooth(b * b) - mean_b**2
    light = (2 * mean_a * mean_b + SSIM_LIGHT) / (mean_a**2 + mean_b**2 + SSIM_LIGHT)
    local = light * (2 * both + SSIM_CONTRAST) / (variances + SSIM_CONTRAST)
    found: Floats = local.reshape(len(a), -1).mean(axis=1)
    return found
