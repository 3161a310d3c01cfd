"""MedMamba: convolution and state space branches side by side, mixed by a channel shuffle.

Paper:    Yue & Li 2024, https://arxiv.org/abs/2403.03849
Source:   written from a description of the released model's behaviour (release of 2024-06-12), no code taken: the
          release has no licence.
Differs:  nothing from the release in parameters, their order, or the function that they compute. "MedMamba-S" and
          "-B" have two readings: the released depths (`medmamba_s`, `medmamba_b`) and those that the paper's
          parameter counts imply (`medmamba_s_paper`, `medmamba_b_paper`).

Between blocks tensors are channel-last. The selective scan runs in float32, also under autocast.
Shape suffixes: B batch, H height, W width, C channels, E inner channels (C, half of a block, doubled), L = H*W
tokens, G = 4 scan directions, K classes.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn
from torch.nn import functional

from models.catalog import ModelError, register_model
from models.selective_scan import selective_scan

MIN_SIZE = 32  # patches of 4 pixels, then three halvings must leave one token
NUM_DIRECTIONS = 4
D_STATE = 16
EXPAND = 2
DROP_PATH_RATE = 0.1


class PatchEmbed(nn.Module):
    """Embed patches of 4 x 4 pixels and normalise them; pixels beyond the last whole patch are cropped."""

    def __init__(self, in_chans: int, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, embed_dim, kernel_size=4, stride=4)
        self.norm = nn.LayerNorm(embed_dim)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> (B, H // 4, W // 4, C)."""
        return self.norm(self.proj(x_BCHW).permute(0, 2, 3, 1))


class PatchMerging(nn.Module):
    """Halve the map and double the channels; an odd last row or column is cropped."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(4 * dim)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H // 2, W // 2, 2 C)."""
        height, width = x_BHWC.shape[1] // 2 * 2, x_BHWC.shape[2] // 2 * 2
        grids = [x_BHWC[:, row:height:2, column:width:2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(grids, dim=-1)))


class SS2D(nn.Module):
    """Scan a map along four paths and add the results: rows, columns, and both backwards.

    Each direction has its own projections, state matrix and skip weights.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.d_inner = EXPAND * d_model
        self.dt_rank = math.ceil(d_model / 16)
        rows = self.dt_rank + 2 * D_STATE
        self.x_proj_weight = nn.Parameter(torch.empty(NUM_DIRECTIONS, rows, self.d_inner))
        self.dt_projs_weight = nn.Parameter(torch.empty(NUM_DIRECTIONS, self.d_inner, self.dt_rank))
        self.dt_projs_bias = nn.Parameter(torch.empty(NUM_DIRECTIONS, self.d_inner))
        self.A_logs = nn.Parameter(torch.empty(NUM_DIRECTIONS * self.d_inner, D_STATE))
        self.Ds = nn.Parameter(torch.empty(NUM_DIRECTIONS * self.d_inner))
        self.in_proj = nn.Linear(d_model, 2 * self.d_inner, bias=False)
        self.conv2d = nn.Conv2d(self.d_inner, self.d_inner, kernel_size=3, padding=1, groups=self.d_inner)
        self.out_norm = nn.LayerNorm(self.d_inner)
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)
        self.reset_scan_parameters()

    @torch.no_grad()
    def reset_scan_parameters(self) -> None:
        """Draw the stacked parameters: step sizes log-uniform in [0.001, 0.1], decay rates 1 to 16, skip weights 1."""
        bound = self.d_inner**-0.5
        self.x_proj_weight.uniform_(-bound, bound)
        bound = self.dt_rank**-0.5
        self.dt_projs_weight.uniform_(-bound, bound)
        steps = torch.empty_like(self.dt_projs_bias).uniform_(math.log(0.001), math.log(0.1)).exp_().clamp_(min=1e-4)
        self.dt_projs_bias.copy_(steps + torch.log(-torch.expm1(-steps)))  # the inverse of softplus
        self.A_logs.copy_(torch.arange(1, D_STATE + 1).log().expand_as(self.A_logs))
        self.Ds.fill_(1.0)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        x_BHWE, gate_BHWE = self.in_proj(x_BHWC).chunk(2, dim=-1)
        x_BHWE = functional.silu(self.conv2d(x_BHWE.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
        y_BHWE = self.out_norm(self.scan(x_BHWE))
        return self.out_proj(y_BHWE * functional.silu(gate_BHWE))

    def scan(self, x_BHWE: Tensor) -> Tensor:
        """Cut the map into four sequences, scan each, and add them where they came from."""
        height, width = x_BHWE.shape[1:3]
        rows_BLE = x_BHWE.flatten(1, 2)
        columns_BLE = x_BHWE.transpose(1, 2).flatten(1, 2)
        y_BLGE = self.scan_sequences(torch.stack((rows_BLE, columns_BLE, rows_BLE.flip(1), columns_BLE.flip(1)), dim=2))
        rows_BLE, columns_BLE = (y_BLGE[:, :, :2] + y_BLGE[:, :, 2:].flip(1)).unbind(2)
        columns_BHWE = columns_BLE.unflatten(1, (width, height)).transpose(1, 2)
        return rows_BLE.unflatten(1, (height, width)) + columns_BHWE

    def scan_sequences(self, x_BLGE: Tensor) -> Tensor:
        """Project each sequence to its step sizes, B and C, and run the selective scan; float32 (float64) results."""
        batch_length = x_BLGE.shape[:2]
        x_GME = x_BLGE.flatten(0, 1).transpose(0, 1)  # M = B * L positions
        projected_GMR = torch.bmm(x_GME, self.x_proj_weight.mT)
        low_rank, input_BC, output_BC = projected_GMR.split((self.dt_rank, D_STATE, D_STATE), dim=-1)
        delta_GME = torch.bmm(low_rank, self.dt_projs_weight.mT)
        delta_BLGE = delta_GME.transpose(0, 1).unflatten(0, batch_length)
        y_BRL = selective_scan(
            x_BLGE.flatten(2).transpose(1, 2),
            delta_BLGE.flatten(2).transpose(1, 2),
            -torch.exp(self.A_logs),
            input_BC.unflatten(1, batch_length).permute(1, 0, 3, 2),
            output_BC.unflatten(1, batch_length).permute(1, 0, 3, 2),
            self.Ds,
            self.dt_projs_bias.flatten(),
        )
        return y_BRL.transpose(1, 2).unflatten(2, (NUM_DIRECTIONS, -1))


class ConvSSMBlock(nn.Module):
    """Convolve the left half of the channels, scan the right half, shuffle the two, and add the input.

    Output channel 2j comes from the convolutions, 2j + 1 from the scan.
    """

    def __init__(self, dim: int, drop_path_rate: float) -> None:
        super().__init__()
        half = dim // 2
        self.ln_1 = nn.LayerNorm(half)
        self.self_attention = SS2D(half)
        self.conv33conv33conv11 = nn.Sequential(
            nn.BatchNorm2d(half),
            nn.Conv2d(half, half, kernel_size=3, padding=1),
            nn.BatchNorm2d(half),
            nn.ReLU(),
            nn.Conv2d(half, half, kernel_size=3, padding=1),
            nn.BatchNorm2d(half),
            nn.ReLU(),
            nn.Conv2d(half, half, kernel_size=1),
            nn.ReLU(),
        )
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        left, right = x_BHWC.chunk(2, dim=-1)
        scanned = self.drop_path(self.self_attention(self.ln_1(right)))
        convolved = self.conv33conv33conv11(left.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x_BHWC + torch.stack((convolved, scanned), dim=-1).flatten(-2)


class Stage(nn.Module):
    """Blocks of one width, then a patch merging unless it is the last stage."""

    def __init__(self, dim: int, drop_path_rates: list[float], *, merge: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ConvSSMBlock(dim, rate) for rate in drop_path_rates)
        self.downsample = PatchMerging(dim) if merge else None

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H // 2, W // 2, 2 C), or the same shape in the last stage."""
        for block in self.blocks:
            x_BHWC = block(x_BHWC)
        return x_BHWC if self.downsample is None else self.downsample(x_BHWC)


class MedMamba(nn.Module):
    """Patch embedding, four stages of convolution and scan blocks, average pool, linear head."""

    def __init__(
        self,
        *,
        num_classes: int,
        in_chans: int,
        embed_dim: int,
        depths: tuple[int, ...],
        drop_path_rate: float = DROP_PATH_RATE,
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(in_chans, embed_dim)
        last = max(1, sum(depths) - 1)
        rates = [drop_path_rate * index / last for index in range(sum(depths))]
        self.layers = nn.ModuleList()
        for stage, depth in enumerate(depths):
            first = sum(depths[:stage])
            merge = stage < len(depths) - 1
            self.layers.append(Stage(embed_dim * 2**stage, rates[first : first + depth], merge=merge))
        self.num_features = embed_dim * 2 ** (len(depths) - 1)
        self.features = nn.Identity()  # the last map, channel-first: what Grad-CAM looks at
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(self.num_features, num_classes)
        self.apply(_init_weights)

    def no_weight_decay(self) -> set[str]:
        """Parameters that the release marks as exempt from weight decay."""
        return {name for name, _ in self.named_parameters() if name.endswith((".A_logs", ".Ds"))}

    def forward_features(self, x_BCHW: Tensor) -> Tensor:
        """The last map, (B, num_features, H // 32, W // 32)."""
        height, width = x_BCHW.shape[-2:]
        _check_size(height, width)
        x_BHWC = self.patch_embed(x_BCHW)
        for stage in self.layers:
            x_BHWC = stage(x_BHWC)
        return self.features(x_BHWC.permute(0, 3, 1, 2))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, K) of images (B, in_chans, H, W), 32 px and more."""
        return self.head(self.avgpool(self.forward_features(x_BCHW)).flatten(1))


def _check_size(height: int, width: int) -> None:
    if min(height, width) < MIN_SIZE:
        raise ModelError(
            f"MedMamba got {height}x{width} px; it takes {MIN_SIZE}x{MIN_SIZE} px and more, so enlarge the images "
            "(a protocol of 224 px does)"
        )


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):  # depthwise too: its fan-out counts all channels; biases keep the default
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _build(depths: tuple[int, ...], embed_dim: int, img_size: int, pretrained: bool, **arguments: Any) -> MedMamba:
    if pretrained:
        raise ModelError("MedMamba has no public weights that may be used (the release has no licence)")
    _check_size(img_size, img_size)
    return MedMamba(depths=depths, embed_dim=embed_dim, **arguments)


@register_model(
    paper="https://arxiv.org/abs/2403.03849",
    source="written from a description of the released model's behaviour",
    code_license="MIT (own code; the release has no licence)",
    weights_license="no public weights",
    num_params=14_458_760,
    min_size=32,
    published="15.2M with 1000 classes: agrees (15,221,608)",
    target_layer="features",
)
def medmamba_t(
    *, num_classes: int, in_chans: int = 3, img_size: int = 224, pretrained: bool = False, **options: Any
) -> MedMamba:
    """MedMamba-T, depths 2-2-4-2, width 96; `drop_path_rate` is an option."""
    return _build((2, 2, 4, 2), 96, img_size, pretrained, num_classes=num_classes, in_chans=in_chans, **options)


@register_model(
    paper="https://arxiv.org/abs/2403.03849",
    source="written from a description of the released model's behaviour",
    code_license="MIT (own code; the release has no licence)",
    weights_license="no public weights",
    num_params=18_626_696,
    min_size=32,
    published="23.5M with 1000 classes: that is depths 2-2-12-2 (medmamba_s_paper), not the released 2-2-8-2",
    target_layer="features",
)
def medmamba_s(
    *, num_classes: int, in_chans: int = 3, img_size: int = 224, pretrained: bool = False, **options: Any
) -> MedMamba:
    """MedMamba-S, depths 2-2-8-2, width 96; `drop_path_rate` is an option."""
    return _build((2, 2, 8, 2), 96, img_size, pretrained, num_classes=num_classes, in_chans=in_chans, **options)


@register_model(
    paper="https://arxiv.org/abs/2403.03849",
    source="written from a description of the released model's behaviour",
    code_license="MIT (own code; the release has no licence)",
    weights_license="no public weights",
    num_params=39_866_888,
    min_size=32,
    published="48.1M with 1000 classes: that is depths 2-2-16-2 (medmamba_b_paper), not the released 2-2-12-2",
    target_layer="features",
)
def medmamba_b(
    *, num_classes: int, in_chans: int = 3, img_size: int = 224, pretrained: bool = False, **options: Any
) -> MedMamba:
    """MedMamba-B, depths 2-2-12-2, width 128; `drop_path_rate` is an option."""
    return _build((2, 2, 12, 2), 128, img_size, pretrained, num_classes=num_classes, in_chans=in_chans, **options)


@register_model(
    paper="https://arxiv.org/abs/2403.03849",
    source="written from a description of the released model's behaviour",
    code_license="MIT (own code; the release has no licence)",
    weights_license="no public weights",
    num_params=22_794_632,
    min_size=32,
    published="23.5M with 1000 classes: agrees (23,557,480)",
    differs="depths 2-2-12-2, which the quoted parameter count implies; the release has 2-2-8-2",
    target_layer="features",
)
def medmamba_s_paper(
    *, num_classes: int, in_chans: int = 3, img_size: int = 224, pretrained: bool = False, **options: Any
) -> MedMamba:
    """MedMamba-S, depths 2-2-12-2, width 96; `drop_path_rate` is an option."""
    return _build((2, 2, 12, 2), 96, img_size, pretrained, num_classes=num_classes, in_chans=in_chans, **options)


@register_model(
    paper="https://arxiv.org/abs/2403.03849",
    source="written from a description of the released model's behaviour",
    code_license="MIT (own code; the release has no licence)",
    weights_license="no public weights",
    num_params=47_128_072,
    min_size=32,
    published="48.1M with 1000 classes: agrees (48,144,872)",
    differs="depths 2-2-16-2, which the quoted parameter count implies; the release has 2-2-12-2",
    target_layer="features",
)
def medmamba_b_paper(
    *, num_classes: int, in_chans: int = 3, img_size: int = 224, pretrained: bool = False, **options: Any
) -> MedMamba:
    """MedMamba-B, depths 2-2-16-2, width 128; `drop_path_rate` is an option."""
    return _build((2, 2, 16, 2), 128, img_size, pretrained, num_classes=num_classes, in_chans=in_chans, **options)
