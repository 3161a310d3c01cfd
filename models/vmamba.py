"""VMamba: a visual state space model whose blocks scan the map along four paths.

Paper:    Liu et al. 2024, https://arxiv.org/abs/2401.10166
Source:   written from the description in docs/vmamba.md, no code taken.
Differs:  nothing that is described. `vmamba_t` is the current release's tiny, "s1l8" (30 M parameters, 4.9 GMACs by its
          README). The 22 M that the paper of MedSpectralNet prints is an early release of another design; it has a
          published row alone.

Tensors are channel-last between convolutions. The selective scan runs in float32, also under autocast.
Shape suffixes: B batch, H height, W width, C channels, L = H*W tokens, G = 4 scan directions, K classes.
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

NUM_DIRECTIONS = 4
D_STATE = 1
MLP_RATIO = 4
DROP_PATH_RATE = 0.2


class HalvingConv(nn.Sequential):
    """A 3 x 3 convolution of stride 2 and a layer norm: (B, H, W, C) -> (B, ceil(H / 2), ceil(W / 2), C')."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__(nn.Conv2d(in_dim, out_dim, kernel_size=3, stride=2, padding=1), nn.LayerNorm(out_dim))

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Convolve channel-first, normalise channel-last."""
        return self[1](self[0](x_BHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


class SS2D(nn.Module):
    """Scan a map along rows, columns and both backwards, and add the four results; one state a channel, no gate."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dt_rank = math.ceil(dim / 16)
        self.in_proj = nn.Linear(dim, dim, bias=False)
        self.conv2d = nn.Conv2d(dim, dim, kernel_size=3, padding=1, groups=dim, bias=False)
        self.x_proj_weight = nn.Parameter(torch.empty(NUM_DIRECTIONS, self.dt_rank + 2 * D_STATE, dim))
        self.dt_projs_weight = nn.Parameter(torch.empty(NUM_DIRECTIONS, dim, self.dt_rank))
        self.dt_projs_bias = nn.Parameter(torch.empty(NUM_DIRECTIONS, dim))
        self.A_logs = nn.Parameter(torch.empty(NUM_DIRECTIONS * dim, D_STATE))
        self.Ds = nn.Parameter(torch.empty(NUM_DIRECTIONS * dim))
        self.out_norm = nn.LayerNorm(dim)
        self.out_proj = nn.Linear(dim, dim, bias=False)
        self.reset_scan_parameters()

    @torch.no_grad()
    def reset_scan_parameters(self) -> None:
        """Draw the stacked parameters as Mamba does: step sizes log-uniform in [0.001, 0.1], the others 1."""
        self.x_proj_weight.uniform_(-(self.in_proj.in_features**-0.5), self.in_proj.in_features**-0.5)
        self.dt_projs_weight.uniform_(-(self.dt_rank**-0.5), self.dt_rank**-0.5)
        steps = torch.empty_like(self.dt_projs_bias).uniform_(math.log(0.001), math.log(0.1)).exp_().clamp_(min=1e-4)
        self.dt_projs_bias.copy_(steps + torch.log(-torch.expm1(-steps)))  # the inverse of softplus
        self.A_logs.zero_()
        self.Ds.fill_(1.0)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        x_BCHW = functional.silu(self.conv2d(self.in_proj(x_BHWC).permute(0, 3, 1, 2)))
        height, width = x_BCHW.shape[2:]
        rows_BCL, columns_BCL = x_BCHW.flatten(2), x_BCHW.transpose(2, 3).flatten(2)
        forth_BGCL = torch.stack((rows_BCL, columns_BCL), dim=1)
        y_BGCL = self.scan(torch.cat((forth_BGCL, forth_BGCL.flip(-1)), dim=1))
        rows_BCL, columns_BCL = (y_BGCL[:, :2] + y_BGCL[:, 2:].flip(-1)).unbind(1)
        y_BCHW = rows_BCL.unflatten(2, (height, width)) + columns_BCL.unflatten(2, (width, height)).transpose(2, 3)
        return self.out_proj(self.out_norm(y_BCHW.permute(0, 2, 3, 1)))

    def scan(self, x_BGCL: Tensor) -> Tensor:
        """Project each sequence to step sizes, B and C, and run the selective scan; float32 (float64) results."""
        projected_BGRL = self.x_proj_weight @ x_BGCL
        low_rank, input_BGNL, output_BGNL = projected_BGRL.split((self.dt_rank, D_STATE, D_STATE), dim=2)
        delta_BGCL = self.dt_projs_weight @ low_rank
        y_BRL = selective_scan(
            x_BGCL.flatten(1, 2),
            delta_BGCL.flatten(1, 2),
            -torch.exp(self.A_logs),
            input_BGNL,
            output_BGNL,
            self.Ds,
            self.dt_projs_bias.flatten(),
        )
        return y_BRL.unflatten(1, (NUM_DIRECTIONS, -1))


class VSSBlock(nn.Module):
    """A scan and a multilayer perceptron, each behind a layer norm, each added to its input."""

    def __init__(self, dim: int, drop_path_rate: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.op = SS2D(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, MLP_RATIO * dim), nn.GELU(), nn.Linear(MLP_RATIO * dim, dim))
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        x_BHWC = x_BHWC + self.drop_path(self.op(self.norm(x_BHWC)))
        return x_BHWC + self.drop_path(self.mlp(self.norm2(x_BHWC)))


class VMamba(nn.Module):
    """Two strided convolutions, four stages of blocks with halvings between, layer norm, average pool, linear head."""

    def __init__(
        self,
        *,
        num_classes: int,
        in_chans: int,
        depths: tuple[int, ...],
        embed_dim: int,
        drop_path_rate: float = DROP_PATH_RATE,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            HalvingConv(in_chans, embed_dim // 2), nn.GELU(), HalvingConv(embed_dim // 2, embed_dim)
        )
        rates = torch.linspace(0, drop_path_rate, sum(depths), device="cpu").tolist()
        widths = [embed_dim * 2**stage for stage in range(len(depths))]
        self.stages = nn.ModuleList()
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            first = sum(depths[:stage])
            halving = [HalvingConv(widths[stage - 1], width)] if stage else []
            self.stages.append(
                nn.Sequential(*halving, *(VSSBlock(width, rate) for rate in rates[first : first + depth]))
            )
        self.num_features = widths[-1]
        self.norm = nn.LayerNorm(self.num_features)
        self.features = nn.Identity()  # the last map, channel-first: what Grad-CAM looks at
        self.head = nn.Linear(self.num_features, num_classes)
        self.apply(_init_weights)

    def no_weight_decay(self) -> set[str]:
        """Parameters of the scan that take no weight decay."""
        return {name for name, _ in self.named_parameters() if name.endswith((".A_logs", ".Ds"))}

    def forward_features(self, x_BCHW: Tensor) -> Tensor:
        """The last map, (B, num_features, H / 32, W / 32), each halving rounded up."""
        x_BHWC = self.stem(x_BCHW.permute(0, 2, 3, 1))
        for stage in self.stages:
            x_BHWC = stage(x_BHWC)
        return self.features(self.norm(x_BHWC).permute(0, 3, 1, 2))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, K) of images (B, in_chans, H, W)."""
        return self.head(self.forward_features(x_BCHW).mean(dim=(2, 3)))


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


@register_model(
    paper="https://arxiv.org/abs/2401.10166",
    source="written from docs/vmamba.md",
    code_license="MIT (own code)",
    weights_license="no public weights are loaded",
    num_params=29_486_216,
    min_size=32,
    published="30M with 1000 classes: agrees (30,249,064)",
    target_layer="features",
)
def vmamba_t(
    *, num_classes: int, in_chans: int = 3, img_size: int = 224, pretrained: bool = False, **options: Any
) -> VMamba:
    """VMamba-T "s1l8", depths 2-2-8-2, width 96, one state a channel; `drop_path_rate` is an option."""
    if pretrained:
        raise ModelError("vmamba_t loads no public weights")
    return VMamba(num_classes=num_classes, in_chans=in_chans, depths=(2, 2, 8, 2), embed_dim=96, **options)
