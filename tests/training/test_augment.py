"""bench.training.augment: the evaluation path, seeds, what off means, ranges, errors and devices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as TF

from bench.errors import ProtocolError, ShapeError
from bench.training.augment import augment, prepare
from tests.training.augment_batches import EVERYTHING, augment_seeded, make_images, make_protocol, make_smooth, to_unit

ALONE = [
    {"horizontal_flip": 0.5},
    {"rotation_degrees": 20.0},
    {"translation": 0.2},
    {"scale": (0.8, 1.2)},
    {"shear_degrees": 10.0},
    {"perspective": 0.5, "perspective_p": 1.0},
    {"brightness": 0.5},
    {"contrast": 0.5},
    {"saturation": 0.5},
    {"hue": 0.3},
    {"blur_kernel": 3, "blur_p": 1.0},
    {"erasing_p": 1.0},
    {"cutmix_p": 1.0},
]
# A batch of 4 images from seed 11: means by image and channel, and pixels of 24 x 24 by label.
GOLDEN_MEANS = [
    [0.368982684094, -0.087344877271, -0.315508657953],
    [-0.221191889951, -0.480794593301, -0.610595944976],
    [-0.285464234217, -0.523642822812, -0.642732117109],
    [-0.04017807755, -0.301090940589, -0.431547372108],
]
GOLDEN_PIXELS = [[520, 0, 56], [56, 520, 0], [0, 56, 520], [576, 0, 0]]


def test_prepare_by_hand() -> None:
    """Pixels are divided by 255, repeated to three channels, and each channel gets its own statistics."""
    images = torch.tensor([[[[0, 255], [51, 102]]]], dtype=torch.uint8)
    protocol = make_protocol(2, channels="rgb", mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 2.0))
    pixels = torch.tensor([[0.0, 1.0], [0.2, 0.4]])
    expected = torch.stack((pixels, (pixels - 0.5) / 0.5, (pixels - 1.0) / 2.0))[None]
    torch.testing.assert_close(prepare(images, protocol, dtype=torch.float32), expected)


@pytest.mark.parametrize("size", [28, 96, 224])
def test_nearest_is_pillows(size: int) -> None:
    """Enlarging by nearest gives Pillow's pixels exactly, at whole and at broken ratios."""
    images = make_images(2, 1, 28)
    ours = prepare(images, make_protocol(size, interpolation="nearest"), dtype=torch.float64)
    for image, enlarged in zip(images, ours, strict=True):
        picture = Image.fromarray(image[0].numpy()).resize((size, size), Image.Resampling.NEAREST)
        np.testing.assert_array_equal((enlarged[0] * 255).round().numpy(), np.asarray(picture))


def test_nearest_is_torchvisions_at_a_whole_ratio() -> None:
    """From 28 to 224 pixels torchvision's nearest on tensors gives the same pixels, too."""
    images = make_images(2, 3, 28)
    expected = TF.resize(images, [224, 224], TF.InterpolationMode.NEAREST)
    ours = prepare(images, make_protocol(224, interpolation="nearest"), dtype=torch.float32)
    assert torch.equal(ours, to_unit(expected))


def test_bilinear_is_torchs() -> None:
    """Enlarging by bilinear is torch's, corners not aligned."""
    images = make_images(2, 3, 28)
    expected = F.interpolate(to_unit(images), (96, 96), mode="bilinear", align_corners=False)
    assert torch.equal(prepare(images, make_protocol(96), dtype=torch.float32), expected)


@pytest.mark.parametrize(
    ("channels", "given", "out"), [("native", 1, 1), ("native", 3, 3), ("rgb", 1, 3), ("rgb", 3, 3)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_channels_and_types(channels: str, given: int, out: int, dtype: torch.dtype) -> None:
    """Gray stays one channel or becomes three, RGB stays three; the requested type comes out of both paths."""
    protocol = make_protocol(20, channels=channels, mean=(0.5,), std=(0.5,), **EVERYTHING)
    images = make_images(4, given)
    x, targets = augment_seeded(images, protocol, dtype=dtype)
    assert prepare(images, protocol, dtype=dtype).shape == x.shape == (4, out, 20, 20)
    assert prepare(images, protocol, dtype=dtype).dtype == x.dtype == targets.dtype == dtype
    assert x.is_contiguous()


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("size", [16, 40])
def test_off_is_off(interpolation: str, size: int) -> None:
    """With every change off a training batch is the evaluation path's, bit for bit, with one-hot targets."""
    protocol = make_protocol(
        size, interpolation=interpolation, channels="rgb", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)
    )
    for num_channels in (1, 3):
        images = make_images(5, num_channels)
        x, targets = augment_seeded(images, protocol)
        assert torch.equal(x, prepare(images, protocol, dtype=torch.float32))
        assert torch.equal(targets, torch.eye(3)[torch.arange(5) % 3])


@pytest.mark.parametrize("changes", ALONE, ids=lambda changes: next(iter(changes)))
def test_each_change_does_something(changes: dict[str, Any]) -> None:
    """Each change alone moves an RGB batch, and moves it otherwise for another seed."""
    images = make_images(8)
    x, _ = augment_seeded(images, make_protocol(**changes))
    assert not torch.equal(x, to_unit(images))
    assert not torch.equal(x, augment_seeded(images, make_protocol(**changes), seed=1)[0])


def test_probability_zero_is_off() -> None:
    """Changes with strength but with probability 0 leave the batch bitwise alone."""
    quiet = make_protocol(perspective=0.5, perspective_p=0.0, blur_kernel=3, blur_p=0.0, erasing_p=0.0, cutmix_p=0.0)
    assert torch.equal(augment_seeded(make_images(), quiet)[0], to_unit(make_images()))


def test_golden_batch() -> None:
    """No later change of torch, kornia or this code moves the batch of a seed unseen."""
    protocol = make_protocol(24, channels="rgb", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), **EVERYTHING)
    images = (torch.arange(4 * 3 * 16 * 16) * 37 % 256).to(torch.uint8).reshape(4, 3, 16, 16)
    x, targets = augment_seeded(images, protocol, seed=11, dtype=torch.float64)
    expected_means = torch.tensor(GOLDEN_MEANS, dtype=torch.float64)
    torch.testing.assert_close(x.mean(dim=(2, 3)), expected_means, rtol=0, atol=1e-9)
    torch.testing.assert_close(targets, torch.tensor(GOLDEN_PIXELS, dtype=torch.float64) / 24**2, rtol=0, atol=1e-12)


def test_same_seed_same_batch() -> None:
    """The global generator's seed alone decides the batch."""
    protocol = make_protocol(20, **EVERYTHING)
    first, again, other = (augment_seeded(make_images(), protocol, seed) for seed in (3, 3, 4))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_pixels_and_labels_draw_nothing() -> None:
    """The stream after a batch is the same whatever its pixels, channels, labels and type."""
    protocol = make_protocol(20, **EVERYTHING)
    after = []
    for images, dtype in ((make_images(), torch.float32), (make_images(6, 1, seed=9), torch.float64)):
        augment_seeded(images, protocol, seed=5, dtype=dtype)
        after.append(torch.rand(4))
    assert torch.equal(after[0], after[1])


def test_switching_one_change_off_moves_no_other() -> None:
    """Erased boxes stay in place when all other changes are switched off."""
    white = torch.full((6, 1, 16, 16), 255, dtype=torch.uint8)
    alone = augment_seeded(white, make_protocol(erasing_p=0.7), seed=2)[0]
    beside = augment_seeded(
        white, make_protocol(erasing_p=0.7, horizontal_flip=0.5, blur_kernel=3, blur_p=1.0), seed=2
    )[0]
    torch.testing.assert_close(alone, beside)


def test_float64_is_the_same_picture() -> None:
    """Both precisions draw the same numbers and give the same batch."""
    protocol = make_protocol(16, **EVERYTHING)
    single, double = (
        augment_seeded(make_smooth(6, 3), protocol, dtype=dtype) for dtype in (torch.float32, torch.float64)
    )
    difference = (single[0] - double[0]).abs()
    assert (difference > 1e-4).float().mean() < 0.002  # a pixel on an edge of the warp may fall on either side
    torch.testing.assert_close(single[1].double(), double[1])


def test_gray_is_rgb_with_equal_channels() -> None:
    """A gray image and its three equal channels give the same batch under every change."""
    protocol = make_protocol(24, channels="rgb", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), **EVERYTHING)
    gray = make_images(6, 1)
    for seed in range(4):
        one, three = augment_seeded(gray, protocol, seed), augment_seeded(gray.repeat(1, 3, 1, 1), protocol, seed)
        torch.testing.assert_close(one[0], three[0], rtol=0, atol=2e-5)
        assert torch.equal(one[1], three[1])


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**31), batch_size=st.integers(1, 5), gray=st.booleans(), nearest=st.booleans())
def test_pixels_stay_in_range_and_targets_sum_to_one(seed: int, batch_size: int, gray: bool, nearest: bool) -> None:
    """Any seed, any batch from one image on: finite pixels in [0, 1], targets that are distributions."""
    protocol = make_protocol(20, interpolation="nearest" if nearest else "bilinear", **EVERYTHING)
    x, targets = augment_seeded(make_images(batch_size, 1 if gray else 3, seed=seed), protocol, seed)
    assert 0.0 <= x.min() <= x.max() <= 1.0
    assert targets.min() >= 0.0
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(batch_size))


def test_batch_of_one() -> None:
    """A single image is augmented; mixed with itself it keeps its label."""
    _, targets = augment_seeded(make_images(1), make_protocol(20, **EVERYTHING))
    torch.testing.assert_close(targets, torch.tensor([[1.0, 0.0, 0.0]]))


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(2, 1, 8, 8),
        torch.zeros(2, 8, 8, dtype=torch.uint8),
        torch.zeros(2, 2, 8, 8, dtype=torch.uint8),
        torch.zeros(0, 1, 8, 8, dtype=torch.uint8),
    ],
)
def test_wrong_images_are_refused(images: Tensor) -> None:
    """Anything but uint8 (B, 1 or 3, h, w) is a ShapeError on both paths."""
    with pytest.raises(ShapeError, match="expected uint8"):
        prepare(images, make_protocol(), dtype=torch.float32)
    with pytest.raises(ShapeError, match="expected uint8"):
        augment(images, torch.zeros(len(images), dtype=torch.int64), make_protocol(), 3, dtype=torch.float32)


@pytest.mark.parametrize(
    "labels", [torch.zeros(3, dtype=torch.int64), torch.zeros(6), torch.zeros(6, 1, dtype=torch.int64)]
)
def test_wrong_labels_are_refused(labels: Tensor) -> None:
    """Labels must be one int64 an image."""
    with pytest.raises(ShapeError, match="labels"):
        augment(make_images(6), labels, make_protocol(), 3, dtype=torch.float32)


def test_statistics_must_fit_the_channels() -> None:
    """Three means for gray images kept gray are an error that says what would do."""
    protocol = make_protocol(mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))
    with pytest.raises(ProtocolError, match='channels = "rgb"'):
        prepare(make_images(2, 1), protocol, dtype=torch.float32)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_nothing_waits_for_the_host() -> None:
    """On a GPU neither path synchronises once its constants are there, and the batch stays on the device."""
    protocol = make_protocol(40, channels="rgb", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), **EVERYTHING)
    images, labels = make_images().cuda(), (torch.arange(6) % 3).cuda()
    augment(images, labels, protocol, 3, dtype=torch.float32)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        x, targets = augment(images, labels, protocol, 3, dtype=torch.float32)
        evaluated = prepare(images, protocol, dtype=torch.float32)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(part.is_cuda for part in (x, targets, evaluated))
    torch.testing.assert_close(targets.sum(dim=1).cpu(), torch.ones(6))
