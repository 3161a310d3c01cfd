"""Batches on their device: enlarging, channels, normalisation, and the protocol's random changes.

Everything is batched with parameters per image; nothing waits for the host. Colour is changed at the source size and
one warp goes straight from the source pixels to `img_size`, which is the picture that warping the enlarged image
gives at a fraction of its cost. Gray images stay one channel until the normalisation.

Definitions are torchvision's, but for these: the four colour changes come in a fixed order (brightness, contrast,
saturation, hue), translations and corners are real numbers of pixels, not whole ones, and what a warp brings in from
outside the image is zero without a soft edge.
"""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from kornia.enhance import (
    adjust_brightness_accumulative,
    adjust_contrast_with_mean_subtraction,
    adjust_hue,
    adjust_saturation_with_gray_subtraction,
)
from kornia.filters import filter2d_separable, get_gaussian_kernel1d
from kornia.geometry.transform import get_affine_matrix2d, get_perspective_transform
from torch import Tensor

from bench.errors import ProtocolError, ShapeError
from bench.protocols.schema import AugmentRules, DataRules, Protocol

ERASING_ATTEMPTS = 10
# One row of uniform numbers a name and image, drawn as one block whatever the protocol uses: switching a change off
# moves no other one's numbers. A row added later belongs at the end of a draw of its own.
DRAWS = {
    "flip": 1,
    "angle": 1,
    "translation": 2,
    "scale": 1,
    "shear": 1,
    "perspective": 1,
    "corners": 8,
    "colour": 4,
    "blur": 1,
    "sigma": 1,
    "erasing": 1,
    "erasing_area": ERASING_ATTEMPTS,
    "erasing_ratio": ERASING_ATTEMPTS,
    "erasing_place": 2,
    "cutmix": 3,
    "partner": 1,
}


def prepare(images: Tensor, protocol: Protocol, *, dtype: torch.dtype) -> Tensor:
    """Images as the model sees them in evaluation: enlarged, in the protocol's channels, normalised.

    Args:
        images: (B, C, h, w) uint8, C 1 or 3.
        protocol: Its `data` rules.
        dtype: torch.float32 or torch.float64.

    Returns:
        (B, C', img_size, img_size) on the images' device.

    Raises:
        ShapeError: If the images are not such.
        ProtocolError: If the statistics do not fit the channels.
    """
    _check(images, protocol)
    return _normalize(_enlarge(_to_unit(images, dtype), protocol.data), protocol.data)


def augment(
    images: Tensor, labels: Tensor, protocol: Protocol, num_classes: int, *, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """A training batch, changed at random; with every change off it is `prepare`'s, bit for bit.

    Draws from torch's global generator of the images' device, which the caller seeds before each call. How much is
    drawn depends on the batch size and the protocol; only the Beta number of CutMix, drawn last, may take more.

    Args:
        images: (B, C, h, w) uint8, C 1 or 3.
        labels: (B,) int64 in [0, num_classes).
        protocol: Its `data` and `augment` rules.
        num_classes: K.
        dtype: torch.float32 or torch.float64; the random numbers are the same for both.

    Returns:
        The batch (B, C', img_size, img_size) and its targets (B, K), whose rows sum to 1.

    Raises:
        ShapeError: If images or labels are not such.
        ProtocolError: If the statistics do not fit the channels.
    """
    _check(images, protocol)
    if labels.shape != images.shape[:1] or labels.dtype != torch.int64:
        raise ShapeError(f"labels are {labels.dtype} {tuple(labels.shape)}; expected int64 ({len(images)},)")
    rules = protocol.augment
    draws = _draw(len(images), images.device, dtype)
    if rules.horizontal_flip:
        images = torch.where(_hits(draws["flip"], rules.horizontal_flip), images.flip(-1), images)
    x_BCHW = _jitter(_to_unit(images, dtype), draws, rules)
    x_BCHW = _warp(x_BCHW, draws, protocol) if _moves(rules) else _enlarge(x_BCHW, protocol.data)
    x_BCHW = _blur(x_BCHW, draws, rules)
    kept = _erase(x_BCHW, draws, rules)
    targets = torch.zeros(len(labels), num_classes, dtype=dtype, device=labels.device)
    targets.scatter_(1, labels[:, None], 1.0)
    if rules.cutmix_p:
        box, share = _cutmix_box(x_BCHW, draws, rules)
        partner = draws["partner"][0].argsort(stable=True)
        x_BCHW = torch.where(box, x_BCHW[partner], x_BCHW)
        kept = None if kept is None else torch.where(box, kept[partner], kept)
        targets = targets * (1.0 - share) + targets[partner] * share
    x_BCHW = _normalize(x_BCHW, protocol.data)
    return (x_BCHW if kept is None else x_BCHW.mul_(kept)), targets


def _check(images: Tensor, protocol: Protocol) -> None:
    if images.ndim != 4 or images.shape[1] not in (1, 3) or images.dtype != torch.uint8 or len(images) == 0:
        raise ShapeError(f"images are {images.dtype} {tuple(images.shape)}; expected uint8 (B, 1 or 3, h, w)")
    num_channels = 3 if protocol.data.channels == "rgb" else images.shape[1]
    if len(protocol.data.mean) not in (1, num_channels):
        raise ProtocolError(
            f"{protocol.name}: data.mean has {len(protocol.data.mean)} values for images of {num_channels} channel(s); "
            'one value, or channels = "rgb", would do'
        )


@cache
def _constant(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """A tensor made once: copying it anew for each batch would make a GPU wait for the host."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device, dtype=dtype)


def _to_unit(images: Tensor, dtype: torch.dtype) -> Tensor:
    return images.to(dtype).div_(255.0)


def _enlarge(x_BCHW: Tensor, rules: DataRules) -> Tensor:
    """Resize without antialiasing; nearest is PIL's (pixel centres), which `nearest-exact` names."""
    size = (rules.img_size, rules.img_size)
    if x_BCHW.shape[-2:] == size:
        return x_BCHW
    if rules.interpolation == "nearest":
        return F.interpolate(x_BCHW, size, mode="nearest-exact")
    return F.interpolate(x_BCHW, size, mode="bilinear", align_corners=False)


def _normalize(x_BCHW: Tensor, rules: DataRules) -> Tensor:
    num_channels = 3 if rules.channels == "rgb" else x_BCHW.shape[1]
    repeats = num_channels // len(rules.mean)
    mean, std = (_constant(row * repeats, x_BCHW.device, x_BCHW.dtype) for row in (rules.mean, rules.std))
    # A gray image becomes three channels here, by broadcasting.
    return (x_BCHW - mean[:, None, None]).div_(std[:, None, None])


def _draw(batch_size: int, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """Name -> (rows, B) uniform numbers in [0, 1), drawn in float32."""
    block = torch.rand(sum(DRAWS.values()), batch_size, device=device, dtype=torch.float32).to(dtype)
    return dict(zip(DRAWS, torch.split(block, list(DRAWS.values())), strict=True))


def _between(uniform: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * uniform


def _hits(uniform: Tensor, probability: float) -> Tensor:
    """(B, 1, 1, 1) whether each image is changed."""
    return (uniform[0] < probability)[:, None, None, None]


def _jitter(x_BCHW: Tensor, draws: dict[str, Tensor], rules: AugmentRules) -> Tensor:
    brightness, contrast, saturation, hue = draws["colour"]
    if rules.brightness:
        factor = _between(brightness, max(0.0, 1.0 - rules.brightness), 1.0 + rules.brightness)
        x_BCHW = adjust_brightness_accumulative(x_BCHW, factor)
    if rules.contrast:
        factor = _between(contrast, max(0.0, 1.0 - rules.contrast), 1.0 + rules.contrast)
        x_BCHW = adjust_contrast_with_mean_subtraction(x_BCHW, factor)
    if x_BCHW.shape[1] == 1:  # gray has no saturation and no hue
        return x_BCHW
    if rules.saturation:
        factor = _between(saturation, max(0.0, 1.0 - rules.saturation), 1.0 + rules.saturation)
        x_BCHW = adjust_saturation_with_gray_subtraction(x_BCHW, factor)
    if rules.hue:  # a share of the colour circle; kornia takes radians
        x_BCHW = adjust_hue(x_BCHW, _between(hue, -rules.hue, rules.hue) * (2.0 * math.pi))
    return x_BCHW


def _moves(rules: AugmentRules) -> bool:
    """Whether any image is warped."""
    affine = rules.rotation_degrees or rules.translation or rules.shear_degrees or rules.scale != (1.0, 1.0)
    return bool(affine or (rules.perspective and rules.perspective_p))


def _homography(draws: dict[str, Tensor], rules: AugmentRules) -> Tensor:
    """(B, 3, 3) from positions in the batch to positions in the source, both in [-1, 1] from edge to edge.

    In float64, because a GPU may round 3 x 3 products in float32 to ten bits.
    """
    exact = {name: values.double() for name, values in draws.items()}
    batch_size, device = exact["angle"].shape[1], exact["angle"].device
    affine = get_affine_matrix2d(
        # The image is 2 wide here, so that a share of its side counts twice.
        translations=2.0 * _between(exact["translation"], -rules.translation, rules.translation).T,
        center=torch.zeros(batch_size, 2, dtype=torch.float64, device=device),
        scale=_between(exact["scale"], *rules.scale).T.expand(-1, 2),
        angle=_between(exact["angle"][0], -rules.rotation_degrees, rules.rotation_degrees),
        sx=torch.deg2rad(_between(exact["shear"][0], -rules.shear_degrees, rules.shear_degrees)),
    )
    corners = _constant((-1.0, -1.0, 1.0, -1.0, 1.0, 1.0, -1.0, 1.0), device, torch.float64)
    # Each corner moves inwards by up to the distortion times half the side, in x and in y.
    moved = corners * (1.0 - rules.perspective * exact["corners"].T)
    moved = torch.where(_hits(exact["perspective"], rules.perspective_p).flatten(1), moved, corners)
    start, end = corners.expand_as(moved).reshape(-1, 4, 2), moved.reshape(-1, 4, 2)
    inverse_affine: Tensor = torch.linalg.inv_ex(affine)[0]
    return inverse_affine @ get_perspective_transform(end, start)


def _warp(x_BCHW: Tensor, draws: dict[str, Tensor], protocol: Protocol) -> Tensor:
    """Affine map, then perspective, of the image enlarged to `img_size`; zero outside."""
    size, dtype, device = protocol.data.img_size, x_BCHW.dtype, x_BCHW.device
    matrix = _homography(draws, protocol.augment).to(dtype).transpose(0, 1)  # a row first: (3, B, 3)
    centres = (torch.arange(size, dtype=dtype, device=device) * 2.0 + 1.0) / size - 1.0
    along_x = matrix[..., 0, None] * centres
    along_y = torch.addcmul(matrix[..., 2, None], matrix[..., 1, None], centres)
    planes = along_y[..., :, None] + along_x[..., None, :]  # (3, B, S, S)
    x_BHW, y_BHW, depth_BHW = planes
    inside = (x_BHW.abs() <= depth_BHW) & (y_BHW.abs() <= depth_BHW)
    # Planes, not pairs: writing pairs costs more than sampling.
    grid = (planes[:2] / depth_BHW).permute(1, 2, 3, 0)
    mode = protocol.data.interpolation
    # "border" is how enlarging treats the outermost half pixel.
    warped = F.grid_sample(x_BCHW, grid, mode=mode, padding_mode="border", align_corners=False)
    return warped.mul_(inside[:, None])


def _blur(x_BCHW: Tensor, draws: dict[str, Tensor], rules: AugmentRules) -> Tensor:
    if not (rules.blur_kernel and rules.blur_p):
        return x_BCHW
    # Not `gaussian_blur2d`, which gives the same bits: it asks on the host whether every sigma is positive.
    kernels = get_gaussian_kernel1d(rules.blur_kernel, _between(draws["sigma"], *rules.blur_sigma).T)
    blurred = filter2d_separable(x_BCHW, kernels, kernels, border_type="reflect")
    return torch.where(_hits(draws["blur"], rules.blur_p), blurred.clamp_(0.0, 1.0), x_BCHW)


def _inside_box(top: Tensor, bottom: Tensor, left: Tensor, right: Tensor, size: int) -> Tensor:
    """(..., S, S) whether a pixel lies in the box, its end excluded."""
    position = torch.arange(size, dtype=top.dtype, device=top.device)
    rows = (position >= top[..., None]) & (position < bottom[..., None])
    columns = (position >= left[..., None]) & (position < right[..., None])
    return rows[..., :, None] & columns[..., None, :]


def _erase(x_BCHW: Tensor, draws: dict[str, Tensor], rules: AugmentRules) -> Tensor | None:
    """(B, 1, S, S) False in each image's erased box: the first of ten boxes drawn that fits, none if none does."""
    if not rules.erasing_p:
        return None
    size = x_BCHW.shape[-1]
    area = _between(draws["erasing_area"], *rules.erasing_area) * size**2
    low, high = (math.log(ratio) for ratio in rules.erasing_ratio)
    ratio = _between(draws["erasing_ratio"], low, high).exp()
    heights, widths = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (heights < size) & (widths < size)
    first = fits.to(torch.uint8).argmax(dim=0, keepdim=True)
    height, width = heights.gather(0, first)[0], widths.gather(0, first)[0]
    erased = fits.any(dim=0) & (draws["erasing"][0] < rules.erasing_p)
    top, left = (draws["erasing_place"] * (size + 1 - torch.stack((height, width)))).floor()
    box = _inside_box(top, top + height * erased, left, left + width, size)
    return ~box[:, None]


def _cutmix_box(x_BCHW: Tensor, draws: dict[str, Tensor], rules: AugmentRules) -> tuple[Tensor, Tensor]:
    """The batch's box (S, S), empty if the batch is not mixed, and the share of its pixels."""
    size = x_BCHW.shape[-1]
    alpha = torch.full((), rules.cutmix_alpha, dtype=torch.float32, device=x_BCHW.device)
    kept_share = torch.distributions.Beta(alpha, alpha, validate_args=False).sample().to(x_BCHW.dtype)
    mixed, centre_y, centre_x = draws["cutmix"][:, 0]
    half = ((1.0 - kept_share).sqrt() * (0.5 * size)).floor() * (mixed < rules.cutmix_p)
    top, left = ((centre * size).floor() - half for centre in (centre_y, centre_x))
    bottom, right = (top + 2 * half).clamp(max=size), (left + 2 * half).clamp(max=size)
    top, left = top.clamp(min=0), left.clamp(min=0)
    share = (bottom - top) * (right - left) / size**2
    return _inside_box(top, bottom, left, right, size), share
