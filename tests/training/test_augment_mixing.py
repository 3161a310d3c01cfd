"""bench.training.augment: erasing and CutMix against statistics and counted pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import RandomErasing

from bench.training.augment import augment, prepare
from tests.training.augment_batches import augment_seeded, make_protocol


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
    """Share of images, area, aspect and positions of the erased boxes are those of torchvision's RandomErasing."""
    num_images, size = 1500, 32
    white = torch.full((num_images, 1, size, size), 255, dtype=torch.uint8)
    x, _ = augment_seeded(white, make_protocol(size, erasing_p=0.5), seed=1)
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
    x, _ = augment_seeded(white, make_protocol(erasing_p=1.0, erasing_area=(0.25, 0.25), erasing_ratio=(1.0, 1.0)))
    assert _boxes(x[:, 0] == 0) == [(8, 8)] * 20


def test_erased_box_reaches_every_edge() -> None:
    """A box of 15 in 16 pixels stands in each of its two positions about half the time, in both directions."""
    white = torch.full((200, 1, 16, 16), 255, dtype=torch.uint8)
    area = (15 / 16) ** 2
    x, _ = augment_seeded(white, make_protocol(erasing_p=1.0, erasing_area=(area, area), erasing_ratio=(1.0, 1.0)))
    erased = x[:, 0] == 0
    assert _boxes(erased) == [(15, 15)] * 200
    assert 70 <= int(erased[:, 0].any(dim=1).sum()) <= 130
    assert 70 <= int(erased[:, :, 0].any(dim=1).sum()) <= 130


def test_box_that_never_fits_erases_nothing() -> None:
    """As in torchvision, an image stays whole where none of ten boxes is smaller than it."""
    white = torch.full((20, 1, 16, 16), 255, dtype=torch.uint8)
    x, _ = augment_seeded(white, make_protocol(erasing_p=1.0, erasing_area=(1.0, 1.0), erasing_ratio=(1.0, 1.0)))
    assert (x == 1).all()


def test_erased_pixels_are_zero_after_normalising() -> None:
    """Erasing sets zero after the normalisation, in all channels alike, and nothing else changes."""
    protocol = make_protocol(channels="rgb", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), erasing_p=1.0)
    images = torch.full((8, 1, 16, 16), 255, dtype=torch.uint8)
    x, _ = augment_seeded(images, protocol)
    whole = prepare(images, protocol, dtype=torch.float32)
    erased = (x == 0).all(dim=1, keepdim=True).expand_as(x)
    assert len(_boxes(erased[:, 0])) == 8
    assert torch.equal(x[~erased], whole[~erased])


def _shares(seed: int, batch_size: int = 5, size: int = 16, **changes: Any) -> tuple[Tensor, Tensor]:
    """Pixel shares (B, B) of each image in each mixed one, counted; and the targets."""
    images = (torch.arange(batch_size) * 10).to(torch.uint8)[:, None, None, None].expand(-1, 1, size, size).contiguous()
    torch.manual_seed(seed)
    x, targets = augment(
        images, torch.arange(batch_size), make_protocol(size, **changes), batch_size, dtype=torch.float32
    )
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
        mixed = augment_seeded(images, make_protocol(cutmix_p=1.0), seed)[0]
        source = ((mixed * 255 - 50) / 10).round().long()  # which image each pixel comes from
        erased = augment_seeded(images, make_protocol(erasing_p=0.5), seed)[0]
        both = augment_seeded(images, make_protocol(cutmix_p=1.0, erasing_p=0.5), seed)[0]
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
