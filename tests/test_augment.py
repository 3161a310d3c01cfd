"""bench.augment: each change against torchvision or a hand-made definition, on small batches."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision.transforms import RandomErasing
from torchvision.transforms import functional as TF

import bench.augment as module
from bench.augment import augment, prepare
from bench.errors import ProtocolError, ShapeError
from bench.protocol import Protocol

EVERYTHING: dict[str, Any] = {
    "horizontal_flip": 0.5,
    "rotation_degrees": 10.0,
    "translation": 0.1,
    "scale": (0.9, 1.1),
    "shear_degrees": 5.0,
    "perspective": 0.2,
    "perspective_p": 0.5,
    "brightness": 0.2,
    "contrast": 0.2,
    "saturation": 0.2,
    "hue": 0.1,
    "blur_kernel": 3,
    "blur_p": 0.5,
    "erasing_p": 0.5,
    "cutmix_p": 1.0,
}
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


def _protocol(
    img_size: int = 16,
    *,
    interpolation: str = "bilinear",
    channels: str = "native",
    mean: tuple[float, ...] = (0.0,),
    std: tuple[float, ...] = (1.0,),
    **changes: Any,
) -> Protocol:
    return Protocol.model_validate(
        {
            "name": "test",
            "description": "for a test",
            "data": {
                "source_size": 28,
                "img_size": img_size,
                "interpolation": interpolation,
                "channels": channels,
                "mean": mean,
                "std": std,
            },
            "augment": changes,
            "init": {"kind": "scratch"},
            "optim": {"name": "adam", "lr": 0.001},
            "schedule": {"name": "constant", "epochs": 1, "batch_size": 2},
            "numerics": {"precision": "fp32", "memory_format": "contiguous"},
            "select": "val_auc",
        }
    )


def _images(batch_size: int = 6, num_channels: int = 3, size: int = 16, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch_size, num_channels, size, size), dtype=torch.uint8, generator=generator)


def _smooth(batch_size: int = 6, num_channels: int = 1, size: int = 16) -> Tensor:
    """Images without jumps, so that sampling twice and once agree."""
    y, x = torch.meshgrid(torch.linspace(0, 2.0, size), torch.linspace(0, 3.0, size), indexing="ij")
    phase = torch.arange(batch_size * num_channels).reshape(batch_size, num_channels, 1, 1)
    return (127.5 * (1 + torch.sin(x + phase) * torch.cos(y))).to(torch.uint8)


def _augment(images: Tensor, protocol: Protocol, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    labels = torch.arange(len(images)) % 3
    torch.manual_seed(seed)
    return augment(images, labels, protocol, 3, dtype=dtype)


def _draws(batch_size: int, seed: int = 0) -> dict[str, Tensor]:
    """The numbers that `augment` draws from this seed."""
    torch.manual_seed(seed)
    return module._draw(batch_size, torch.device("cpu"), torch.float32)


def _unit(images: Tensor) -> Tensor:
    return images.float() / 255


# Evaluation path


def test_prepare_by_hand() -> None:
    """Pixels are divided by 255, repeated to three channels, and each channel gets its own statistics."""
    images = torch.tensor([[[[0, 255], [51, 102]]]], dtype=torch.uint8)
    protocol = _protocol(2, channels="rgb", mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 2.0))
    pixels = torch.tensor([[0.0, 1.0], [0.2, 0.4]])
    expected = torch.stack((pixels, (pixels - 0.5) / 0.5, (pixels - 1.0) / 2.0))[None]
    torch.testing.assert_close(prepare(images, protocol, dtype=torch.float32), expected)


@pytest.mark.parametrize("size", [28, 96, 224])
def test_nearest_is_pillows(size: int) -> None:
    """Enlarging by nearest gives Pillow's pixels exactly, at whole and at broken ratios."""
    images = _images(2, 1, 28)
    ours = prepare(images, _protocol(size, interpolation="nearest"), dtype=torch.float64)
    for image, enlarged in zip(images, ours, strict=True):
        picture = Image.fromarray(image[0].numpy()).resize((size, size), Image.Resampling.NEAREST)
        np.testing.assert_array_equal((enlarged[0] * 255).round().numpy(), np.asarray(picture))


def test_nearest_is_torchvisions_at_a_whole_ratio() -> None:
    """From 28 to 224 pixels torchvision's nearest on tensors gives the same pixels, too."""
    images = _images(2, 3, 28)
    expected = TF.resize(images, [224, 224], TF.InterpolationMode.NEAREST)
    ours = prepare(images, _protocol(224, interpolation="nearest"), dtype=torch.float32)
    assert torch.equal(ours, _unit(expected))


def test_bilinear_is_torchs() -> None:
    """Enlarging by bilinear is torch's, corners not aligned."""
    images = _images(2, 3, 28)
    expected = F.interpolate(_unit(images), (96, 96), mode="bilinear", align_corners=False)
    assert torch.equal(prepare(images, _protocol(96), dtype=torch.float32), expected)


@pytest.mark.parametrize(
    ("channels", "given", "out"), [("native", 1, 1), ("native", 3, 3), ("rgb", 1, 3), ("rgb", 3, 3)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_channels_and_types(channels: str, given: int, out: int, dtype: torch.dtype) -> None:
    """Gray stays one channel or becomes three, RGB stays three; the type asked for comes out of both paths."""
    protocol = _protocol(20, channels=channels, mean=(0.5,), std=(0.5,), **EVERYTHING)
    images = _images(4, given)
    x, targets = _augment(images, protocol, dtype=dtype)
    assert prepare(images, protocol, dtype=dtype).shape == x.shape == (4, out, 20, 20)
    assert prepare(images, protocol, dtype=dtype).dtype == x.dtype == targets.dtype == dtype
    assert x.is_contiguous()


# Off, seeds, ranges


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("size", [16, 40])
def test_off_is_off(interpolation: str, size: int) -> None:
    """With every change off a training batch is the evaluation path's, bit for bit, with one-hot targets."""
    protocol = _protocol(size, interpolation=interpolation, channels="rgb", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    for num_channels in (1, 3):
        images = _images(5, num_channels)
        x, targets = _augment(images, protocol)
        assert torch.equal(x, prepare(images, protocol, dtype=torch.float32))
        assert torch.equal(targets, torch.eye(3)[torch.arange(5) % 3])


@pytest.mark.parametrize("changes", ALONE, ids=lambda changes: next(iter(changes)))
def test_each_change_does_something(changes: dict[str, Any]) -> None:
    """Each change alone moves an RGB batch, and moves it otherwise for another seed."""
    images = _images(8)
    x, _ = _augment(images, _protocol(**changes))
    assert not torch.equal(x, _unit(images))
    assert not torch.equal(x, _augment(images, _protocol(**changes), seed=1)[0])


def test_probability_zero_is_off() -> None:
    """Changes with strength but with probability 0 leave the batch bitwise alone."""
    quiet = _protocol(perspective=0.5, perspective_p=0.0, blur_kernel=3, blur_p=0.0, erasing_p=0.0, cutmix_p=0.0)
    assert torch.equal(_augment(_images(), quiet)[0], _unit(_images()))


def test_same_seed_same_batch() -> None:
    """The global generator's seed alone decides the batch."""
    protocol = _protocol(20, **EVERYTHING)
    first, again, other = (_augment(_images(), protocol, seed) for seed in (3, 3, 4))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_pixels_and_labels_draw_nothing() -> None:
    """The stream after a batch is the same whatever its pixels, channels, labels and type."""
    protocol = _protocol(20, **EVERYTHING)
    after = []
    for images, dtype in ((_images(), torch.float32), (_images(6, 1, seed=9), torch.float64)):
        _augment(images, protocol, seed=5, dtype=dtype)
        after.append(torch.rand(4))
    assert torch.equal(after[0], after[1])


def test_switching_one_change_off_moves_no_other() -> None:
    """Erased boxes stay in place when all other changes are switched off."""
    white = torch.full((6, 1, 16, 16), 255, dtype=torch.uint8)
    alone = _augment(white, _protocol(erasing_p=0.7), seed=2)[0]
    beside = _augment(white, _protocol(erasing_p=0.7, horizontal_flip=0.5, blur_kernel=3, blur_p=1.0), seed=2)[0]
    torch.testing.assert_close(alone, beside)


def test_float64_is_the_same_picture() -> None:
    """Both precisions draw the same numbers and give the same batch."""
    protocol = _protocol(16, **EVERYTHING)
    single, double = (_augment(_smooth(6, 3), protocol, dtype=dtype) for dtype in (torch.float32, torch.float64))
    difference = (single[0] - double[0]).abs()
    assert (difference > 1e-4).float().mean() < 0.002  # a pixel on an edge of the warp may fall on either side
    torch.testing.assert_close(single[1].double(), double[1])


def test_gray_is_rgb_with_equal_channels() -> None:
    """A gray image and its three equal channels give the same batch under every change."""
    protocol = _protocol(24, channels="rgb", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), **EVERYTHING)
    gray = _images(6, 1)
    for seed in range(4):
        one, three = _augment(gray, protocol, seed), _augment(gray.repeat(1, 3, 1, 1), protocol, seed)
        torch.testing.assert_close(one[0], three[0], rtol=0, atol=2e-5)
        assert torch.equal(one[1], three[1])


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**31), batch_size=st.integers(1, 5), gray=st.booleans(), nearest=st.booleans())
def test_pixels_stay_in_range_and_targets_sum_to_one(seed: int, batch_size: int, gray: bool, nearest: bool) -> None:
    """Any seed, any batch from one image on: finite pixels in [0, 1], targets that are distributions."""
    protocol = _protocol(20, interpolation="nearest" if nearest else "bilinear", **EVERYTHING)
    x, targets = _augment(_images(batch_size, 1 if gray else 3, seed=seed), protocol, seed)
    assert 0.0 <= x.min() <= x.max() <= 1.0
    assert targets.min() >= 0.0
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(batch_size))


# Flip and warp


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_flip_is_an_exact_mirror(interpolation: str) -> None:
    """A flipped image is the mirror of the unflipped one, about half are, and the rest is untouched."""
    images = _images(64)
    x, _ = _augment(images, _protocol(interpolation=interpolation, horizontal_flip=0.5))
    flipped = [torch.equal(row, mirror) for row, mirror in zip(x, _unit(images).flip(-1), strict=True)]
    kept = [torch.equal(row, image) for row, image in zip(x, _unit(images), strict=True)]
    assert [not mirrored for mirrored in flipped] == kept
    assert 20 <= sum(flipped) <= 44


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_flip_before_enlarging_is_flip_after(interpolation: str) -> None:
    """Flipping the source gives the mirror of the enlarged image: exactly by nearest, up to rounding by bilinear."""
    x, _ = _augment(_images(4, 1, 28), _protocol(96, interpolation=interpolation, horizontal_flip=1.0))
    enlarged = prepare(_images(4, 1, 28), _protocol(96, interpolation=interpolation), dtype=torch.float32)
    torch.testing.assert_close(x, enlarged.flip(-1), rtol=0, atol=4e-6 if interpolation == "bilinear" else 0)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("size", [28, 96, 224])
def test_warp_by_nothing_is_enlarging(interpolation: str, size: int) -> None:
    """The identity warp is torch's interpolation, the outermost half pixel included."""
    protocol = _protocol(size, interpolation=interpolation)
    x = _unit(_images(3, 1, 28)).double()
    draws = {name: values.double() for name, values in _draws(3).items()}
    torch.testing.assert_close(module._warp(x, draws, protocol), module._enlarge(x, protocol.data), rtol=0, atol=1e-9)
    single = module._warp(x.float(), _draws(3), protocol)
    torch.testing.assert_close(single, module._enlarge(x.float(), protocol.data), rtol=0, atol=5e-6)


def _affine_oracle(image: Tensor, draws: dict[str, Tensor], index: int, rules: Any) -> Tensor:
    """torchvision's affine of one image, from the same uniform numbers."""
    size = image.shape[-1]
    angle, shear, scale = (float(draws[name][0, index]) for name in ("angle", "shear", "scale"))
    moves = [rules.translation * size * (2 * float(u) - 1) for u in draws["translation"][:, index]]
    return TF.affine(
        image,
        angle=rules.rotation_degrees * (2 * angle - 1),
        translate=moves,
        scale=rules.scale[0] + (rules.scale[1] - rules.scale[0]) * scale,
        shear=[rules.shear_degrees * (2 * shear - 1), 0.0],
        interpolation=TF.InterpolationMode.BILINEAR,
    )


def _perspective_oracle(image: Tensor, draws: dict[str, Tensor], index: int, rules: Any) -> Tensor:
    """torchvision's perspective of one image, each corner moved inwards by the same uniform numbers."""
    size = float(image.shape[-1])
    inwards = (rules.perspective * size / 2 * draws["corners"][:, index].double()).reshape(4, 2)
    start = torch.tensor([[0.0, 0.0], [size, 0.0], [size, size], [0.0, size]])
    end = start + inwards * torch.tensor([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    return TF.perspective(image, start.tolist(), end.tolist(), TF.InterpolationMode.BILINEAR)


@pytest.mark.parametrize(
    ("oracle", "changes"),
    [
        (_affine_oracle, {"rotation_degrees": 30.0}),
        (_affine_oracle, {"translation": 0.3}),
        (_affine_oracle, {"scale": (0.6, 1.5)}),
        (_affine_oracle, {"shear_degrees": 25.0}),
        (_affine_oracle, {"rotation_degrees": 30.0, "translation": 0.2, "scale": (0.7, 1.3), "shear_degrees": 20.0}),
        (_perspective_oracle, {"perspective": 0.6, "perspective_p": 1.0}),
    ],
    ids=["rotation", "translation", "scale", "shear", "affine", "perspective"],
)
def test_warp_is_torchvisions(oracle: Any, changes: dict[str, Any]) -> None:
    """Each map is torchvision's wherever the whole footprint lies inside the image, and zero outside it."""
    images = _smooth(8, 1, 24)
    protocol = _protocol(24, **changes)
    x, _ = _augment(images, protocol, seed=7)
    draws = _draws(8, seed=7)
    for index in range(8):
        expected = oracle(_unit(images[index]), draws, index, protocol.augment)
        cover = oracle(torch.ones_like(expected), draws, index, protocol.augment)
        inside, outside = cover > 1 - 1e-5, cover == 0
        assert inside.float().mean() > 0.25
        torch.testing.assert_close(x[index][inside], expected[inside], rtol=0, atol=1e-5)
        assert (x[index][outside] == 0).all()
    white = _augment(torch.full_like(images, 255), protocol, seed=7)[0]
    assert (white == 0).any()  # no map of this seed is within the image throughout
    assert ((white == 0) | (white > 1 - 1e-5)).all()  # no soft edge


def test_one_warp_is_enlarging_then_warping() -> None:
    """Going straight from 16 source pixels to 64 is warping the enlarged image, but for a second smoothing."""
    changes = {"rotation_degrees": 15.0, "translation": 0.1, "shear_degrees": 5.0}
    x, _ = _augment(_smooth(4), _protocol(64, **changes), seed=1)
    enlarged = prepare(_smooth(4), _protocol(64), dtype=torch.float32)
    for index in range(4):
        rules = _protocol(64, **changes).augment
        expected = _affine_oracle(enlarged[index], _draws(4, seed=1), index, rules)
        inside = _affine_oracle(torch.ones_like(expected), _draws(4, seed=1), index, rules) > 1 - 1e-5
        assert (x[index] - expected)[inside].abs().max() < 0.01


def test_affine_comes_before_perspective() -> None:
    """With both on, the picture is the perspective of the affine picture."""
    changes = {"rotation_degrees": 30.0, "scale": (0.5, 0.6), "perspective": 0.4, "perspective_p": 1.0}
    x, _ = _augment(_smooth(4, 1, 64), _protocol(64, **changes), seed=3)
    rules, draws = _protocol(64, **changes).augment, _draws(4, seed=3)
    for index in range(4):
        image = _unit(_smooth(4, 1, 64)[index])
        stages = [image, torch.ones_like(image)]
        for oracle in (_affine_oracle, _perspective_oracle):
            stages = [oracle(stage, draws, index, rules) for stage in stages]
        inside = stages[1] > 1 - 1e-5
        assert (x[index] - stages[0])[inside].abs().max() < 0.02


def test_perspective_probability() -> None:
    """About the asked share of images is distorted; the others are untouched up to rounding."""
    x, _ = _augment(_smooth(200), _protocol(perspective=0.5, perspective_p=0.3), seed=1)
    moved = (x - _unit(_smooth(200))).abs().amax(dim=(1, 2, 3)) > 1e-4
    assert 40 <= moved.sum() <= 80


# Colour and blur


def test_brightness_is_one_factor_an_image() -> None:
    """Dark images come out multiplied by a factor of their own in [0.6, 1.4]."""
    images = torch.full((200, 3, 4, 4), 100, dtype=torch.uint8)
    x, _ = _augment(images, _protocol(4, brightness=0.4))
    factors = (x / _unit(images)).flatten(1)
    torch.testing.assert_close(factors.amax(dim=1), factors.amin(dim=1))
    assert 0.6 <= factors.min() < 0.65
    assert 1.35 < factors.max() <= 1.4


def test_colour_is_torchvisions() -> None:
    """The four colour changes are torchvision's in the order brightness, contrast, saturation, hue."""
    images = _images(8)
    x, _ = _augment(images, _protocol(brightness=0.4, contrast=0.5, saturation=0.6, hue=0.2), seed=3)
    colour = _draws(8, seed=3)["colour"]
    for index in range(8):
        brightness, contrast, saturation, hue = (float(u) for u in colour[:, index])
        expected = TF.adjust_brightness(_unit(images[index]), 0.6 + 0.8 * brightness)
        expected = TF.adjust_contrast(expected, 0.5 + 1.0 * contrast)
        expected = TF.adjust_saturation(expected, 0.4 + 1.2 * saturation)
        expected = TF.adjust_hue(expected, -0.2 + 0.4 * hue)
        # torchvision's gray weights sum to 0.9999, ours to 1.
        torch.testing.assert_close(x[index], expected, rtol=0, atol=5e-4)


def test_strong_factors_stop_at_zero() -> None:
    """A strength above 1 draws from [0, 1 + strength], never a negative factor."""
    images = torch.full((300, 1, 4, 4), 64, dtype=torch.uint8)
    x, _ = _augment(images, _protocol(4, brightness=2.0))
    factors = (x / _unit(images)).amax(dim=(1, 2, 3))
    assert 0.0 <= factors.min() < 0.05
    assert 2.9 < factors.max() <= 3.0


@pytest.mark.parametrize("kernel", [3, 5])
def test_blur_is_torchvisions(kernel: int) -> None:
    """Each blurred image is torchvision's at its own sigma, about half are; the others are bitwise untouched."""
    images = _images(40, 1)
    x, _ = _augment(images, _protocol(blur_kernel=kernel, blur_sigma=(0.1, 2.0), blur_p=0.5), seed=2)
    draws = _draws(40, seed=2)
    untouched = 0
    for index in range(40):
        if draws["blur"][0, index] < 0.5:
            sigma = 0.1 + 1.9 * float(draws["sigma"][0, index])
            torch.testing.assert_close(x[index], TF.gaussian_blur(_unit(images[index]), [kernel] * 2, [sigma] * 2))
        else:
            assert torch.equal(x[index], _unit(images[index]))
            untouched += 1
    assert 10 <= untouched <= 30


# Erasing and CutMix


def _boxes(changed: Tensor) -> list[tuple[int, int]]:
    """Height and width of the box of True in each image that has one; fails if it is not a full box."""
    sizes = []
    for mask in changed:
        if mask.any():
            height, width = int(mask.any(dim=1).sum()), int(mask.any(dim=0).sum())
            assert int(mask.sum()) == height * width
            sizes.append((height, width))
    return sizes


def test_erased_boxes_have_torchvisions_statistics() -> None:
    """Share of images, area, aspect and places of the erased boxes are those of torchvision's RandomErasing."""
    num_images, size = 1500, 32
    white = torch.full((num_images, 1, size, size), 255, dtype=torch.uint8)
    x, _ = _augment(white, _protocol(size, erasing_p=0.5), seed=1)
    erased = x[:, 0] == 0
    boxes = torch.tensor(_boxes(erased), dtype=torch.float64)
    assert abs(len(boxes) / num_images - 0.5) < 4 * math.sqrt(0.25 / num_images)
    torch.manual_seed(0)
    theirs = torch.tensor(
        [RandomErasing.get_params(x[0], (0.02, 0.33), (0.3, 3.3), [0.0])[2:4] for _ in range(num_images)],
        dtype=torch.float64,
    )
    for measure in (lambda b: b.prod(dim=1), lambda b: (b[:, 0] / b[:, 1]).log(), lambda b: b[:, 0]):
        ours, other = measure(boxes), measure(theirs)
        error = math.sqrt(float(ours.var() / len(ours) + other.var() / len(other)))
        assert abs(float(ours.mean() - other.mean())) < 4 * error
        assert float(ours.std() / other.std()) == pytest.approx(1.0, abs=0.1)
    where = erased.double().mean(dim=0)
    torch.testing.assert_close(where, where.flip(0), rtol=0, atol=0.06)
    torch.testing.assert_close(where, where.T, rtol=0, atol=0.06)


def test_erased_area_is_the_range_asked() -> None:
    """A fixed area and aspect of 1 give the one square that they mean: 25 % of 16 x 16 is 8 x 8."""
    white = torch.full((20, 1, 16, 16), 255, dtype=torch.uint8)
    x, _ = _augment(white, _protocol(erasing_p=1.0, erasing_area=(0.25, 0.25), erasing_ratio=(1.0, 1.0)))
    assert _boxes(x[:, 0] == 0) == [(8, 8)] * 20


def test_erased_box_reaches_every_edge() -> None:
    """A box of 15 in 16 pixels stands in each of its two places about half the time, in both directions."""
    white = torch.full((200, 1, 16, 16), 255, dtype=torch.uint8)
    area = (15 / 16) ** 2
    x, _ = _augment(white, _protocol(erasing_p=1.0, erasing_area=(area, area), erasing_ratio=(1.0, 1.0)))
    erased = x[:, 0] == 0
    assert _boxes(erased) == [(15, 15)] * 200
    assert 70 <= int(erased[:, 0].any(dim=1).sum()) <= 130
    assert 70 <= int(erased[:, :, 0].any(dim=1).sum()) <= 130


def test_box_that_never_fits_erases_nothing() -> None:
    """As in torchvision, an image stays whole where none of ten boxes is smaller than it."""
    white = torch.full((20, 1, 16, 16), 255, dtype=torch.uint8)
    x, _ = _augment(white, _protocol(erasing_p=1.0, erasing_area=(1.0, 1.0), erasing_ratio=(1.0, 1.0)))
    assert (x == 1).all()


def test_erased_pixels_are_zero_after_normalising() -> None:
    """Erasing sets zero after the normalisation, in all channels alike, and nothing else changes."""
    protocol = _protocol(channels="rgb", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), erasing_p=1.0)
    images = torch.full((8, 1, 16, 16), 255, dtype=torch.uint8)
    x, _ = _augment(images, protocol)
    whole = prepare(images, protocol, dtype=torch.float32)
    erased = (x == 0).all(dim=1, keepdim=True).expand_as(x)
    assert len(_boxes(erased[:, 0])) == 8
    assert torch.equal(x[~erased], whole[~erased])


def _shares(seed: int, batch_size: int = 5, size: int = 16, **changes: Any) -> tuple[Tensor, Tensor]:
    """Pixel shares (B, B) of each image in each mixed one, counted; and the targets."""
    images = (torch.arange(batch_size) * 10).to(torch.uint8)[:, None, None, None].expand(-1, 1, size, size).contiguous()
    torch.manual_seed(seed)
    x, targets = augment(images, torch.arange(batch_size), _protocol(size, **changes), batch_size, dtype=torch.float32)
    source = (x[:, 0] * 25.5).round().long()
    return F.one_hot(source, batch_size).float().mean(dim=(1, 2)), targets


def test_cutmix_targets_are_the_pixel_shares() -> None:
    """Counting pixels gives the targets, whatever the seed; the box and the pairing are one a batch."""
    mixed = 0
    for seed in range(40):
        counted, targets = _shares(seed, cutmix_p=1.0)
        torch.testing.assert_close(targets, counted, rtol=0, atol=1e-6)
        taken = counted[~torch.eye(5, dtype=torch.bool)]
        assert len(set(taken[taken > 0].tolist())) <= 1
        assert (counted.sum(dim=0) - 1).abs().max() < 1e-6  # a permutation: each image is used once over
        mixed += bool((taken > 0).any())
    assert mixed >= 25


def test_cutmix_brings_the_partners_erased_pixels() -> None:
    """Erasing comes first: inside the mixed box stand the partner's pixels with the partner's erased box."""
    images = (torch.arange(6) * 10 + 50).to(torch.uint8)[:, None, None, None].expand(-1, 1, 16, 16).contiguous()
    seen = 0
    for seed in range(10):
        mixed = _augment(images, _protocol(cutmix_p=1.0), seed)[0]
        source = ((mixed * 255 - 50) / 10).round().long()  # which image each pixel comes from
        erased = _augment(images, _protocol(erasing_p=0.5), seed)[0]
        both = _augment(images, _protocol(cutmix_p=1.0, erasing_p=0.5), seed)[0]
        assert torch.equal(both, erased.gather(0, source))
        seen += int(((both == 0) != (erased == 0)).sum())
    assert seen > 0


def test_cutmix_probability() -> None:
    """About half of the batches are mixed at probability one half, and the mix is all or nothing."""
    unmixed = sum(torch.equal(_shares(seed, 40, 8, cutmix_p=0.5)[1], torch.eye(40)) for seed in range(200))
    # A batch also stays unmixed if its box has no pixel: for half the side below 1 of 8, one in 16 of those drawn.
    assert 0.5 + 0.5 / 16 - 0.14 < unmixed / 200 < 0.5 + 0.5 / 16 + 0.14


def test_cutmix_box_follows_lambda() -> None:
    """With lambda pinned near 1/2 an unclipped box is 2 x floor(0.5 x sqrt(0.5) x side) pixels wide."""
    shares = [
        float(1 - targets.max())
        for seed in range(60)
        for targets in [_shares(seed, 2, 32, cutmix_p=1.0, cutmix_alpha=1e6)[1][0]]
    ]
    assert max(shares) == pytest.approx((2 * math.floor(0.5 * math.sqrt(0.5) * 32) / 32) ** 2)


def test_cutmix_share_has_the_papers_mean() -> None:
    """For alpha 1 the mixed share of a batch averages that of boxes drawn by the paper's formula in numpy."""
    rng = np.random.default_rng(0)
    half = np.floor(0.5 * np.sqrt(1 - rng.uniform(size=20000)) * 16)
    sides = [np.minimum(c + half, 16) - np.maximum(c - half, 0) for c in rng.integers(0, 16, (2, 20000))]
    expected = sides[0] * sides[1] / 256
    draws = []
    for seed in range(300):
        counted, targets = _shares(seed, 2, 16, cutmix_p=1.0)
        draws.append(1 - float(counted.diagonal().min()))
        assert float(targets.diagonal().min()) == pytest.approx(1 - draws[-1], abs=1e-6)
    # With two images the pairing is the identity half of the time.
    assert np.mean(draws) == pytest.approx(expected.mean() / 2, abs=4 * np.std(draws) / math.sqrt(300))


def test_batch_of_one() -> None:
    """A single image is augmented; mixed with itself it keeps its label."""
    _, targets = _augment(_images(1), _protocol(20, **EVERYTHING))
    torch.testing.assert_close(targets, torch.tensor([[1.0, 0.0, 0.0]]))


# Errors and devices


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
        prepare(images, _protocol(), dtype=torch.float32)
    with pytest.raises(ShapeError, match="expected uint8"):
        augment(images, torch.zeros(len(images), dtype=torch.int64), _protocol(), 3, dtype=torch.float32)


@pytest.mark.parametrize(
    "labels", [torch.zeros(3, dtype=torch.int64), torch.zeros(6), torch.zeros(6, 1, dtype=torch.int64)]
)
def test_wrong_labels_are_refused(labels: Tensor) -> None:
    """Labels must be one int64 an image."""
    with pytest.raises(ShapeError, match="labels"):
        augment(_images(6), labels, _protocol(), 3, dtype=torch.float32)


def test_statistics_must_fit_the_channels() -> None:
    """Three means for gray images kept gray are an error that says what would do."""
    protocol = _protocol(mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))
    with pytest.raises(ProtocolError, match='channels = "rgb"'):
        prepare(_images(2, 1), protocol, dtype=torch.float32)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_nothing_waits_for_the_host() -> None:
    """On a GPU neither path synchronises once its constants are there, and the batch stays on the device."""
    protocol = _protocol(40, channels="rgb", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), **EVERYTHING)
    images, labels = _images().cuda(), (torch.arange(6) % 3).cuda()
    augment(images, labels, protocol, 3, dtype=torch.float32)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        x, targets = augment(images, labels, protocol, 3, dtype=torch.float32)
        evaluated = prepare(images, protocol, dtype=torch.float32)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert x.is_cuda and targets.is_cuda and evaluated.is_cuda
    torch.testing.assert_close(targets.sum(dim=1).cpu(), torch.ones(6))
