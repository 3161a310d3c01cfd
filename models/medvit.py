"""MedViT: convolutional blocks with a transformer block at the end of each stage but the first.

Paper:    Manzari et al. 2023, https://arxiv.org/abs/2302.09462
Source:   written from a prose specification of the released models ("spec" below), no code taken.
Differs:  as released, not as printed: the paper's Patch Momentum Changer (PMC, it swaps feature means and
          variances within a training batch) is in no released file and is omitted here too; channel
          attention is squeeze-and-excitation; the parameter counts are not those that the literature
          quotes (`published` below). Weights start from a plain normal: the release truncates it, but
          at 100 standard deviations.

The paper's names are used; the release calls T, S and L small, base and large.

Shape suffixes: B batch, C channels, H height, W width, N tokens (row-major pixels), A heads, D channels
of a head, K classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from models.catalog import ModelError, register_model

HEAD_WIDTH = 32
ECB_RATIO, LTB_RATIO = 3, 2  # hidden channels of the LFFN per channel of its block
ATTENTION_SHARE = 0.75  # of an LTB's channels, and of its stochastic depth; convolution gets the rest
STEM_WIDTHS = ((64, 2), (32, 1), (64, 1), (64, 2))
STAGE_STRIDES = (1, 2, 2, 2)
STAGE_REDUCTIONS = (8, 4, 2, 1)  # s of the attention in each stage; the first stage has none (spec 2)
OUT_WIDTH = 1024
LTB_WIDTHS = (256, 512, OUT_WIDTH)  # blocks of these widths are LTBs, the others ECBs
# At 25 px stage 2 has a 4x4 map, the 16 tokens that make one key (spec 8); at 24 px it has 3x3.
MIN_SIZE = 25


def _round_to_heads(width: int) -> int:
    """The nearest multiple of the head width, not more than 10 % below `width` (spec 7)."""
    rounded = max(HEAD_WIDTH, (width + HEAD_WIDTH // 2) // HEAD_WIDTH * HEAD_WIDTH)
    return rounded + HEAD_WIDTH if rounded < 0.9 * width else rounded


class PatchEmbed(nn.Sequential):
    """Fit width and resolution: average pooling, 1x1 convolution, batch norm, each only where needed.

    (B, in_width, H, W) to (B, out_width, ceil(H / stride), ceil(W / stride)); empty, the identity, for
    equal widths at stride 1 (spec 3).
    """

    def __init__(self, in_width: int, out_width: int, stride: int = 1) -> None:
        super().__init__()
        if stride > 1:
            # Ceil mode keeps the last row of an odd map; such a window averages the pixels that exist.
            self.pool = nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
        if stride > 1 or in_width != out_width:
            self.conv = nn.Conv2d(in_width, out_width, 1, bias=False)
            self.norm = nn.BatchNorm2d(out_width)


class MHCA(nn.Sequential):
    """Multi-head convolutional attention: a 3x3 convolution within heads, then 1x1 across them.

    (B, C, H, W) to the same shape. Neither a softmax nor a norm after the projection (spec 4).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, groups=width // HEAD_WIDTH, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.act = nn.ReLU(inplace=True)
        self.proj = nn.Conv2d(width, width, 1, bias=False)


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate in [0, 1] computed from the channel means; shape kept.

    Args:
        width: C.
        bottleneck: Units between the two linear layers.
    """

    def __init__(self, width: int, bottleneck: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(width, bottleneck), nn.ReLU(inplace=True), nn.Linear(bottleneck, width), nn.Hardsigmoid()
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        gate_BC = self.fc(self.pool(x_BCHW).flatten(1))
        return x_BCHW * gate_BC[:, :, None, None]


class LFFN(nn.Module):
    """Locality feed-forward: an inverted bottleneck with squeeze-and-excitation, plus its input.

    (B, C, H, W) to the same shape. QUIRK (spec 5): squeeze-and-excitation gets C as its reduction ratio,
    so that its bottleneck has as many units as the ratio: 3 in an ECB, 2 in an LTB.

    Args:
        width: C.
        ratio: Hidden channels per channel.
    """

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        hidden = width * ratio
        self.conv = nn.Sequential(
            nn.Conv2d(width, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.Hardswish(),  # one kernel; composed of ReLU6 it costs 15 times as much on a CPU
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.Hardswish(),
            SqueezeExcite(hidden, hidden // width),
            nn.Conv2d(hidden, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW + self.conv(x_BCHW)


class EMHSA(nn.Module):
    """Efficient multi-head self-attention: queries from all tokens, keys and values from pooled ones.

    (B, C, H, W) to the same shape. QUIRK (spec 8): the pooling runs over `reduction`^2 consecutive
    row-major tokens, pieces of rows and not squares of the image; leftover tokens are dropped. The bias of
    `k` shifts all logits of a query alike: it has no effect and no gradient.

    Args:
        width: C, a multiple of 32.
        reduction: s; s^2 tokens make one key, 1 for no pooling.

    Raises:
        ModelError: If the map has fewer than s^2 tokens.
    """

    def __init__(self, width: int, reduction: int) -> None:
        super().__init__()
        self.window = reduction**2
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)
        if self.window > 1:
            self.pool = nn.AvgPool1d(self.window)
            self.norm = nn.BatchNorm1d(width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        height, width = x_BCHW.shape[2:]
        if height * width < self.window:
            raise ModelError(
                f"MedViT's attention got a {height}x{width} map and needs {self.window} tokens; "
                f"use images of {MIN_SIZE} px or more"
            )
        tokens_BCN = x_BCHW.flatten(2)
        source_BCN = self.norm(self.pool(tokens_BCN)) if self.window > 1 else tokens_BCN
        tokens_BNC, source_BNC = tokens_BCN.transpose(1, 2), source_BCN.transpose(1, 2)
        q_BAND = _split_heads(self.q(tokens_BNC))
        k_BAND = _split_heads(self.k(source_BNC))
        v_BAND = _split_heads(self.v(source_BNC))
        mixed_BAND = F.scaled_dot_product_attention(q_BAND, k_BAND, v_BAND)  # scale 32^-0.5
        mixed_BNC = self.proj(mixed_BAND.transpose(1, 2).flatten(2))
        return mixed_BNC.transpose(1, 2).reshape(x_BCHW.shape)


def _split_heads(x_BNC: Tensor) -> Tensor:
    """(B, N, C) to (B, A, N, D): channel c belongs to head c // 32."""
    return x_BNC.view(*x_BNC.shape[:2], -1, HEAD_WIDTH).transpose(1, 2)


class ECB(nn.Module):
    """Efficient convolution block (spec 6): MHCA with a residual, then batch norm and LFFN.

    (B, in_width, H, W) to (B, width, ceil(H / stride), ceil(W / stride)). QUIRK: the last residual is
    double, x + n + F(n), since the LFFN adds its own input n too; and it has no stochastic depth. Modules
    are declared in the release's order, the LFFN before the norm that precedes it.

    Args:
        in_width: Channels of the input.
        width: Channels of the output.
        stride: 1 or 2.
        drop_path: Probability of skipping the MHCA of a training sample.
    """

    def __init__(self, in_width: int, width: int, stride: int, drop_path: float) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(in_width, width, stride)
        self.mhca = MHCA(width)
        self.conv = LFFN(width, ECB_RATIO)
        self.norm = nn.BatchNorm2d(width)
        self.drop_path = DropPath(drop_path)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.patch_embed(x_BCHW)
        x_BCHW = x_BCHW + self.drop_path(self.mhca(x_BCHW))
        return x_BCHW + self.conv(self.norm(x_BCHW))


class LTB(nn.Module):
    """Local transformer block (spec 7): attention, then MHCA on a projection of it, both concatenated.

    Shapes and the double residual as in `ECB`; three quarters of the channels come from the attention.
    Modules are declared in the release's order, here the second norm before the LFFN.

    Args:
        in_width: Channels of the input.
        width: Channels of the output.
        stride: 1 or 2.
        reduction: s of the attention.
        drop_path: p; the attention is skipped with 0.75 p, the MHCA with 0.25 p.
    """

    def __init__(self, in_width: int, width: int, stride: int, reduction: int, drop_path: float) -> None:
        super().__init__()
        attention_width = _round_to_heads(int(ATTENTION_SHARE * width))
        conv_width = width - attention_width
        self.patch_embed = PatchEmbed(in_width, attention_width, stride)
        self.norm1 = nn.BatchNorm2d(attention_width)
        self.e_mhsa = EMHSA(attention_width, reduction)
        self.attention_drop_path = DropPath(drop_path * ATTENTION_SHARE)
        self.projection = PatchEmbed(attention_width, conv_width)
        self.mhca = MHCA(conv_width)
        self.conv_drop_path = DropPath(drop_path * (1 - ATTENTION_SHARE))
        self.norm2 = nn.BatchNorm2d(width)
        self.conv = LFFN(width, LTB_RATIO)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.patch_embed(x_BCHW)
        x_BCHW = x_BCHW + self.attention_drop_path(self.e_mhsa(self.norm1(x_BCHW)))
        y_BCHW = self.projection(x_BCHW)
        y_BCHW = y_BCHW + self.conv_drop_path(self.mhca(y_BCHW))
        x_BCHW = torch.cat((x_BCHW, y_BCHW), dim=1)
        return x_BCHW + self.conv(self.norm2(x_BCHW))


def _stage_widths(stage3_depth: int) -> list[list[int]]:
    """Output width of each block of each stage (spec 2); every five blocks of stage 3 are a group."""
    return [[96] * 3, [192] * 3 + [256], ([384] * 4 + [512]) * (stage3_depth // 5), [768] * 2 + [OUT_WIDTH]]


class MedViT(nn.Module):
    """(B, in_chans, H, W) to logits (B, K), for any H and W of at least 25.

    Args:
        stage3_depth: Blocks of the third stage, a multiple of 5.
        drop_path_rate: Stochastic depth of the last block; it grows linearly from 0 at the first (spec 9).
        num_classes: K.
        in_chans: Channels of the input.
    """

    def __init__(self, *, stage3_depth: int, drop_path_rate: float, num_classes: int, in_chans: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential()
        in_width = in_chans
        for width, stride in STEM_WIDTHS:
            conv = nn.Conv2d(in_width, width, 3, stride, padding=1, bias=False)
            self.stem.append(nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True)))
            in_width = width
        stages = _stage_widths(stage3_depth)
        last = sum(map(len, stages)) - 1
        self.features = nn.Sequential()
        for widths, first_stride, reduction in zip(stages, STAGE_STRIDES, STAGE_REDUCTIONS, strict=True):
            for place, width in enumerate(widths):
                stride = first_stride if place == 0 else 1
                drop_path = drop_path_rate * len(self.features) / last
                if width in LTB_WIDTHS:
                    self.features.append(LTB(in_width, width, stride, reduction, drop_path))
                else:
                    self.features.append(ECB(in_width, width, stride, drop_path))
                in_width = width
        self.norm = nn.BatchNorm2d(OUT_WIDTH)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.proj_head = nn.Sequential(nn.Linear(OUT_WIDTH, num_classes))
        self.apply(_init_weights)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.norm(self.features(self.stem(x_BCHW)))
        return self.proj_head(self.pool(x_BCHW).flatten(1))


def _init_weights(module: nn.Module) -> None:
    """Normal weights of standard deviation 0.02, biases 0 (spec 10); norms keep PyTorch's 1 and 0."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        # Not timm's trunc_normal_: in float32 it puts about one weight in 2^25 exactly on the cut, at -2.
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _build(
    stage3_depth: int, num_classes: int, in_chans: int, img_size: int, pretrained: bool, drop_path_rate: float
) -> MedViT:
    if pretrained:
        raise ModelError("MedViT has no pinned weights in this suite; use pretrained=False")
    if img_size < MIN_SIZE:
        raise ModelError(f"MedViT cannot take {img_size} px images; it takes {MIN_SIZE} px and more")
    return MedViT(stage3_depth=stage3_depth, drop_path_rate=drop_path_rate, num_classes=num_classes, in_chans=in_chans)


@register_model(
    paper="https://arxiv.org/abs/2302.09462",
    source="written from a specification of the release, where it is MedViT_small",
    code_license="own code; the release is MIT",
    weights_license="this suite pins none",
    num_params=31_144_640,
    min_size=25,
    published="10.8 M parameters quoted for MedViT-T (not verified), 31.1 M counted in the release",
    differs="as released: without the Patch Momentum Changer of the paper",
    target_layer="features.19",
)
def medvit_t(
    *, num_classes: int, in_chans: int = 3, img_size: int = 224, pretrained: bool = False, drop_path_rate: float = 0.1
) -> MedViT:
    """MedViT-T: 10 blocks in the third stage."""
    return _build(10, num_classes, in_chans, img_size, pretrained, drop_path_rate)


@register_model(
    paper="https://arxiv.org/abs/2302.09462",
    source="written from a specification of the release, where it is MedViT_base",
    code_license="own code; the release is MIT",
    weights_license="this suite pins none",
    num_params=44_414_172,
    min_size=25,
    published="23.6 M parameters quoted for MedViT-S (not verified), 44.4 M counted in the release",
    differs="as released: without the Patch Momentum Changer of the paper",
    target_layer="features.29",
)
def medvit_s(
    *, num_classes: int, in_chans: int = 3, img_size: int = 224, pretrained: bool = False, drop_path_rate: float = 0.2
) -> MedViT:
    """MedViT-S: 20 blocks in the third stage."""
    return _build(20, num_classes, in_chans, img_size, pretrained, drop_path_rate)


@register_model(
    paper="https://arxiv.org/abs/2302.09462",
    source="written from a specification of the release, where it is MedViT_large",
    code_license="own code; the release is MIT",
    weights_license="this suite pins none",
    num_params=57_683_704,
    min_size=25,
    published="45.8 M parameters quoted for MedViT-L (not verified), 57.7 M counted in the release",
    differs="as released: without the Patch Momentum Changer of the paper",
    target_layer="features.39",
)
def medvit_l(
    *, num_classes: int, in_chans: int = 3, img_size: int = 224, pretrained: bool = False, drop_path_rate: float = 0.2
) -> MedViT:
    """MedViT-L: 30 blocks in the third stage."""
    return _build(30, num_classes, in_chans, img_size, pretrained, drop_path_rate)
