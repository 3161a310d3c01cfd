"""bench.training.augment: flip, warp, colour and blur against torchvision, one image at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import functional as TF

import bench.training.augment as module
from bench.training.augment import prepare
from tests.training.augment_batches import augment_seeded, draws_of, make_images, make_protocol, make_smooth, to_unit


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_flip_is_an_exact_mirror(interpolation: str) -> None:
    """A flipped image is the mirror of the unflipped one, about half are, and the rest is untouched."""
    images = make_images(64)
    x, _ = augment_seeded(images, make_protocol(interpolation=interpolation, horizontal_flip=0.5))
    flipped = [torch.equal(row, mirror) for row, mirror in zip(x, to_unit(images).flip(-1), strict=True)]
    kept = [torch.equal(row, image) for row, image in zip(x, to_unit(images), strict=True)]
    assert [not mirrored for mirrored in flipped] == kept
    assert 20 <= sum(flipped) <= 44


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_flip_before_enlarging_is_flip_after(interpolation: str) -> None:
    """Flipping the source gives the mirror of the enlarged image: exactly by nearest, up to rounding by bilinear."""
    x, _ = augment_seeded(make_images(4, 1, 28), make_protocol(96, interpolation=interpolation, horizontal_flip=1.0))
    enlarged = prepare(make_images(4, 1, 28), make_protocol(96, interpolation=interpolation), dtype=torch.float32)
    torch.testing.assert_close(x, enlarged.flip(-1), rtol=0, atol=4e-6 if interpolation == "bilinear" else 0)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("size", [28, 96, 224])
def test_warp_by_nothing_is_enlarging(interpolation: str, size: int) -> None:
    """The identity warp is torch's interpolation, the outermost half pixel included."""
    protocol = make_protocol(size, interpolation=interpolation)
    x = to_unit(make_images(3, 1, 28)).double()
    draws = {name: values.double() for name, values in draws_of(3).items()}
    torch.testing.assert_close(module._warp(x, draws, protocol), module._enlarge(x, protocol.data), rtol=0, atol=1e-9)
    single = module._warp(x.float(), draws_of(3), protocol)
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
    images = make_smooth(8, 1, 24)
    protocol = make_protocol(24, **changes)
    x, _ = augment_seeded(images, protocol, seed=7)
    draws = draws_of(8, seed=7)
    for index in range(8):
        expected = oracle(to_unit(images[index]), draws, index, protocol.augment)
        cover = oracle(torch.ones_like(expected), draws, index, protocol.augment)
        inside, outside = cover > 1 - 1e-5, cover == 0
        assert inside.float().mean() > 0.25
        torch.testing.assert_close(x[index][inside], expected[inside], rtol=0, atol=1e-5)
        assert (x[index][outside] == 0).all()
    white = augment_seeded(torch.full_like(images, 255), protocol, seed=7)[0]
    assert (white == 0).any()  # no map of this seed is within the image throughout
    assert ((white == 0) | (white > 1 - 1e-5)).all()  # no soft edge


def test_one_warp_is_enlarging_then_warping() -> None:
    """Going straight from 16 source pixels to 64 is warping the enlarged image, but for a second smoothing."""
    changes = {"rotation_degrees": 15.0, "translation": 0.1, "shear_degrees": 5.0}
    x, _ = augment_seeded(make_smooth(4), make_protocol(64, **changes), seed=1)
    enlarged = prepare(make_smooth(4), make_protocol(64), dtype=torch.float32)
    for index in range(4):
        rules = make_protocol(64, **changes).augment
        expected = _affine_oracle(enlarged[index], draws_of(4, seed=1), index, rules)
        inside = _affine_oracle(torch.ones_like(expected), draws_of(4, seed=1), index, rules) > 1 - 1e-5
        assert (x[index] - expected)[inside].abs().max() < 0.01


def test_affine_comes_before_perspective() -> None:
    """With both on, the picture is the perspective of the affine picture."""
    changes = {"rotation_degrees": 30.0, "scale": (0.5, 0.6), "perspective": 0.4, "perspective_p": 1.0}
    x, _ = augment_seeded(make_smooth(4, 1, 64), make_protocol(64, **changes), seed=3)
    rules, draws = make_protocol(64, **changes).augment, draws_of(4, seed=3)
    for index in range(4):
        image = to_unit(make_smooth(4, 1, 64)[index])
        stages = [image, torch.ones_like(image)]
        for oracle in (_affine_oracle, _perspective_oracle):
            stages = [oracle(stage, draws, index, rules) for stage in stages]
        inside = stages[1] > 1 - 1e-5
        assert (x[index] - stages[0])[inside].abs().max() < 0.02


def test_perspective_probability() -> None:
    """About the requested share of images is distorted; the others are untouched up to rounding."""
    x, _ = augment_seeded(make_smooth(200), make_protocol(perspective=0.5, perspective_p=0.3), seed=1)
    moved = (x - to_unit(make_smooth(200))).abs().amax(dim=(1, 2, 3)) > 1e-4
    assert 40 <= moved.sum() <= 80


def test_brightness_is_one_factor_an_image() -> None:
    """Dark images come out multiplied by a factor of their own in [0.6, 1.4]."""
    images = torch.full((200, 3, 4, 4), 100, dtype=torch.uint8)
    x, _ = augment_seeded(images, make_protocol(4, brightness=0.4))
    factors = (x / to_unit(images)).flatten(1)
    torch.testing.assert_close(factors.amax(dim=1), factors.amin(dim=1))
    assert 0.6 <= factors.min() < 0.65
    assert 1.35 < factors.max() <= 1.4


def test_colour_is_torchvisions() -> None:
    """The four colour changes are torchvision's in the order brightness, contrast, saturation, hue."""
    images = make_images(8)
    x, _ = augment_seeded(images, make_protocol(brightness=0.4, contrast=0.5, saturation=0.6, hue=0.2), seed=3)
    colour = draws_of(8, seed=3)["colour"]
    for index in range(8):
        brightness, contrast, saturation, hue = (float(u) for u in colour[:, index])
        expected = TF.adjust_brightness(to_unit(images[index]), 0.6 + 0.8 * brightness)
        expected = TF.adjust_contrast(expected, 0.5 + 1.0 * contrast)
        expected = TF.adjust_saturation(expected, 0.4 + 1.2 * saturation)
        expected = TF.adjust_hue(expected, -0.2 + 0.4 * hue)
        # torchvision's gray weights sum to 0.9999, ours to 1.
        torch.testing.assert_close(x[index], expected, rtol=0, atol=5e-4)


def test_strong_factors_stop_at_zero() -> None:
    """A strength above 1 draws from [0, 1 + strength], never a negative factor."""
    images = torch.full((300, 1, 4, 4), 64, dtype=torch.uint8)
    x, _ = augment_seeded(images, make_protocol(4, brightness=2.0))
    factors = (x / to_unit(images)).amax(dim=(1, 2, 3))
    assert 0.0 <= factors.min() < 0.05
    assert 2.9 < factors.max() <= 3.0


@pytest.mark.parametrize("kernel", [3, 5])
def test_blur_is_torchvisions(kernel: int) -> None:
    """Each blurred image is torchvision's at its own sigma, about half are; the others are bitwise untouched."""
    images = make_images(40, 1)
    x, _ = augment_seeded(images, make_protocol(blur_kernel=kernel, blur_sigma=(0.1, 2.0), blur_p=0.5), seed=2)
    draws = draws_of(40, seed=2)
    untouched = 0
    for index in range(40):
        if draws["blur"][0, index] < 0.5:
            sigma = 0.1 + 1.9 * float(draws["sigma"][0, index])
            torch.testing.assert_close(x[index], TF.gaussian_blur(to_unit(images[index]), [kernel] * 2, [sigma] * 2))
        else:
            assert torch.equal(x[index], to_unit(images[index]))
            untouched += 1
    assert 10 <= untouched <= 30
