"""The pixels of a corruption track: test images in, the same images corrupted out, both uint8 at the source size.

What chance decides of an image follows from (data set, corruption, severity, its index in the split) alone, so any
image can be made by itself and every model, engine and batch gets the same pixels. Gray images are changed as gray: one
draw a pixel. Sums that could tie are taken over whole numbers; the rest is rounded from float64, so that the order of a
sum is not seen.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from bench.data.names import flag_of
from bench.errors import DataError
from bench.streams import stream_seed
from bench.tracks.schema import SEVERITIES, Corruption, Track

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]

WHITE = 255.0
MAX_ANGLE = 45.0  # of a motion blur's line to the horizontal, in degrees, either way
LINE_REACH = 3.0  # sigmas at which the line ends
LUMA = np.array([299, 587, 114])  # of 1,000: ITU-R BT.601, what Pillow's contrast takes for brightness


def chosen_images(track: Track, dataset: str, num_images: int) -> NDArray[np.int64]:
    """Indices of the test images that a track takes, rising: all, or a draw of `max_images` from the data set's name.

    Args:
        track: The track.
        dataset: MedMNIST flag, or `synthetic-<flag>`.
        num_images: Of the test split.
    """
    if num_images <= track.max_images:
        return np.arange(num_images)
    generator = np.random.default_rng(stream_seed("track-images", dataset))
    return np.sort(generator.permutation(num_images)[: track.max_images])


def severity_parameters(track: Track, dataset: str) -> dict[Corruption, tuple[float, ...]]:
    """The parameters of a data set by corruption, a value a severity.

    Raises:
        DataError: If the track has none for this set.
    """
    flag = flag_of(dataset)
    if flag not in track.datasets:
        raise DataError(f"{track.name} has no severities for {dataset}; it has for {', '.join(track.datasets)}")
    return dict(track.severities(flag))


def corrupt(
    images: Pixels, indices: Sequence[int] | NDArray[np.int64], track: Track, dataset: str, cell: tuple[Corruption, int]
) -> Pixels:
    """Corrupted copies of test images.

    Args:
        images: (N, H, W) gray or (N, H, W, 3) colour, of the track's source size.
        indices: (N,) of these images in the test split.
        track: The track.
        dataset: MedMNIST flag, or `synthetic-<flag>`.
        cell: Corruption, and severity from 1.

    Returns:
        As `images`; those are not changed.

    Raises:
        DataError: If the track has no such cell, or not for these images.
    """
    corruption, severity = cell
    parameters = severity_parameters(track, dataset)
    if corruption not in parameters or severity not in SEVERITIES:
        raise DataError(f"{track.name} has no {corruption} at severity {severity}; severities are 1 to 5")
    if len(images) != len(indices) or images.ndim not in (3, 4) or images.shape[1:3] != (track.source_size,) * 2:
        raise DataError(f"images {images.shape} for {len(indices)} indices; {track.name} takes {track.source_size} px")
    parameter = parameters[corruption][severity - 1]
    generators = (np.random.default_rng(stream_seed("corrupt", dataset, *cell, int(index))) for index in indices)
    if corruption in DRAWN:
        return DRAWN[corruption](images, parameter, list(generators))
    return FIXED[corruption](images, parameter)


def _rounded(values: Floats) -> Pixels:
    found: Pixels = np.clip(np.rint(values), 0, WHITE).astype(np.uint8)
    return found


def _each(images: Pixels, generators: Sequence[Generator], draw: Callable[[Generator, Pixels], Any]) -> Floats:
    """One array of an image's shape from each image's own generator."""
    drawn = np.empty(images.shape)
    for place, (generator, image) in enumerate(zip(generators, images, strict=True)):
        drawn[place] = draw(generator, image)
    return drawn


def _gaussian_noise(images: Pixels, sigma: float, generators: Sequence[Generator]) -> Pixels:
    noise = _each(images, generators, lambda generator, image: generator.standard_normal(image.shape))
    return _rounded(images + WHITE * sigma * noise)


def _speckle_noise(images: Pixels, sigma: float, generators: Sequence[Generator]) -> Pixels:
    noise = _each(images, generators, lambda generator, image: generator.standard_normal(image.shape))
    return _rounded(images * (1 + sigma * noise))


def _shot_noise(images: Pixels, photons: float, generators: Sequence[Generator]) -> Pixels:
    rate = photons / WHITE
    return _rounded(_each(images, generators, lambda generator, image: generator.poisson(image * rate)) / rate)


def _impulse_noise(images: Pixels, share: float, generators: Sequence[Generator]) -> Pixels:
    drawn = _each(images, generators, lambda generator, image: generator.random(image.shape))
    found = images.copy()
    found[drawn < share / 2] = 0
    found[drawn >= 1 - share / 2] = 255
    return found


def _motion_blur(images: Pixels, sigma: float, generators: Sequence[Generator]) -> Pixels:
    """Gaussian weights along a line through the pixel, at an angle of the image's own; edges are repeated.

    ImageMagick's line begins at the pixel and so also moves the image; this one is centred.
    """
    reach = math.ceil(LINE_REACH * sigma)
    angles = np.radians([generator.uniform(-MAX_ANGLE, MAX_ANGLE) for generator in generators])
    along = np.arange(-reach, reach + 1)
    weights = np.exp(-(along**2) / (2 * sigma**2))
    weights /= weights.sum()
    edges = ((0, 0), (reach + 1, reach + 1), (reach + 1, reach + 1), *[(0, 0)] * (images.ndim - 3))
    padded, blurred = np.pad(images, edges, mode="edge").astype(np.float64), np.zeros(images.shape)
    for place, angle in enumerate(angles):
        for step, weight in zip(along, weights, strict=True):
            blurred[place] += weight * _shifted(
                padded[place], step * math.sin(angle), step * math.cos(angle), reach + 1
            )
    return _rounded(blurred)


def _shifted(padded: Floats, down: float, right: float, margin: int) -> Floats:
    """The inside of a padded image, seen from a point moved by parts of a pixel (bilinear)."""
    height, width = padded.shape[0] - 2 * margin, padded.shape[1] - 2 * margin
    top, left = math.floor(down), math.floor(right)
    below, beside = down - top, right - left
    rows, columns = margin + top, margin + left
    upper, lower = padded[rows : rows + height], padded[rows + 1 : rows + 1 + height]
    mixed = (1 - below) * upper + below * lower
    found: Floats = (1 - beside) * mixed[:, columns : columns + width] + beside * mixed[
        :, columns + 1 : columns + 1 + width
    ]
    return found


def _gaussian_blur(images: Pixels, sigma: float) -> Pixels:
    from scipy import ndimage

    spread = (0.0, sigma, sigma, *[0.0] * (images.ndim - 3))
    return _rounded(ndimage.gaussian_filter(images.astype(np.float64), spread, mode="nearest"))


def _pixelate(images: Pixels, cells: float) -> Pixels:
    """Means over a grid of cells, each as large as it was: areas are whole numbers, so no sum depends on its order."""
    size, count = images.shape[1], int(cells)
    pixel, cell = np.arange(size), np.arange(count)[:, None]
    low, high = np.maximum(pixel * count, cell * size), np.minimum((pixel + 1) * count, (cell + 1) * size)
    shares = np.maximum(0, high - low)  # (cells, pixels) of 1 / count pixels, each row sums to `size`
    wide = np.einsum("ci,nij...->ncj...", shares, images.astype(np.int64))
    total = np.einsum("dj,ncj...->ncd...", shares, wide)
    means = (2 * total + size**2) // (2 * size**2)
    nearest = ((2 * pixel + 1) * count) // (2 * size)
    found: Pixels = means[:, nearest][:, :, nearest].astype(np.uint8)
    return found


def _jpeg(images: Pixels, quality: float) -> Pixels:
    from PIL import Image

    found = np.empty_like(images)
    for place, image in enumerate(images):
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG", quality=int(quality))
        found[place] = np.asarray(Image.open(stream))
    return found


def _by_value(images: Pixels, change: Callable[[float], float]) -> Pixels:
    """A change that depends on a value alone."""
    table = _rounded(np.array([change(value) for value in range(256)]))
    found: Pixels = table[images]
    return found


def _brightness(images: Pixels, factor: float) -> Pixels:
    return _by_value(images, lambda value: value * factor)


def _gamma(images: Pixels, exponent: float) -> Pixels:
    return _by_value(images, lambda value: WHITE * math.pow(value / WHITE, exponent))


def _contrast(images: Pixels, factor: float) -> Pixels:
    whole = images.astype(np.int64)
    light = whole if images.ndim == 3 else (whole * LUMA).sum(axis=3)
    scale = math.prod(light.shape[1:]) * (1 if images.ndim == 3 else int(LUMA.sum()))
    mean = (light.sum(axis=(1, 2)) / scale).reshape(-1, *[1] * (images.ndim - 1))
    return _rounded(mean + factor * (images - mean))


DRAWN: dict[Corruption, Callable[[Pixels, float, Sequence[Generator]], Pixels]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "speckle_noise": _speckle_noise,
    "motion_blur": _motion_blur,
}
FIXED: dict[Corruption, Callable[[Pixels, float], Pixels]] = {
    "gaussian_blur": _gaussian_blur,
    "pixelate": _pixelate,
    "jpeg": _jpeg,
    "brightness_up": _brightness,
    "brightness_down": _brightness,
    "contrast_up": _contrast,
    "contrast_down": _contrast,
    "gamma_up": _gamma,
    "gamma_down": _gamma,
}
