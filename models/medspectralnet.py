"""MedSpectralNet: a ResNet-18 trunk, SpectralFlow and ContextGate.

Paper:    Afrin et al. 2026, PLoS One 21(4): e0346128, https://doi.org/10.1371/journal.pone.0346128
Source:   written from the paper's text; no code of the authors is public. The trunk is timm's `resnet18`.
Differs:  the paper leaves much open (its formulas do not state it, or its sentences contradict each other).
          Decisions of this project, each marked *option* is a keyword argument:
          - trunk: the whole ResNet-18 (C = 512 at H/32), tuned with the rest;
          - filter: global average pool of x, 1x1 conv to groups * k^2 without bias, batch norm, softmax over
            the k^2 positions; `groups=8` *option*;
          - low part: `reduction=2`, `kernel_size=3` *options*; stride 1 with reflection padding, so that low
            and high keep the map's size; `patches="overlapping"` *option* ("non_overlapping" is the text's word);
          - attention: per stream pool, 1x1 conv to C / `attention_reduction=8` *option*, GELU, 1x1 conv to C;
            softmax over the pair (low, high) per channel, `attention="pairwise"` *option* ("joint" = over all 2C);
          - ContextGate: hidden = C/3 rounded to a multiple of groups * reduction (176 for 512), 7x7 depthwise,
            one pointwise conv makes g, i and c; `gate_width="concat"` *option* ("repeat" = a C/3 gate used twice);
          - fusion: SpectralFlow(f_b) + ContextGate(f_b); f_b enters once, inside ContextGate;
          - head: batch norm, global average pool, linear; no dropout; logits.
Sizes:    f_b is 1x1 up to 32 px (every filter is then inert: the output does not depend on it), 2x2 up to 64 px (the
          filters of the two outer SpectralFlows are inert too: on a 2x2 map with reflected borders a filter that sums
          to 1 keeps the mean, and only means are read after them; a 7x7 depthwise kernel uses 9 of its 49 taps at
          each place), 3x3 at 96 px, 7x7 at 224 px.
          The paper claims 8.5 M parameters; the trunk alone has 11,176,512.

Shape suffixes: B batch, C channels, H height, W width, K classes, G groups, P positions of a patch (k * k).
"""

from __future__ import annotations

from typing import Any, Literal

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.catalog import ModelError, register_model
from models.timm_models import load_pretrained

TRUNK_CHANS = 512  # C of the paper's section 3.1

Patches = Literal["overlapping", "non_overlapping"]
Attention = Literal["pairwise", "joint"]
GateWidth = Literal["concat", "repeat"]


class DynamicFilter(nn.Module):
    """Softmax-weighted sums over k x k patches, one filter per image and group (section 3.2).

    Args:
        in_chans: Channels of the map that the filter is made from.
        chans: Channels of the map that is filtered.
        groups: Channel groups that share a filter.
        kernel_size: k.
        patches: `overlapping` (stride 1) or `non_overlapping` (stride k, one sum spread over its patch).
    """

    def __init__(self, in_chans: int, chans: int, *, groups: int, kernel_size: int, patches: Patches) -> None:
        super().__init__()
        if chans % groups:
            raise ModelError(f"{chans} channels cannot be split into {groups} groups")
        self.groups, self.kernel_size, self.patches = groups, kernel_size, patches
        self.conv = nn.Conv2d(in_chans, groups * kernel_size**2, 1, bias=False)
        self.norm = nn.BatchNorm2d(groups * kernel_size**2)

    def weights(self, x_BCHW: Tensor) -> Tensor:
        """The filters of a batch: (B, in_chans, H, W) -> (B, G, P), positive, each filter sums to 1."""
        pooled_BC11 = F.adaptive_avg_pool2d(x_BCHW, 1)
        return self.norm(self.conv(pooled_BC11)).view(len(x_BCHW), self.groups, -1).softmax(dim=-1)

    def forward(self, x_BCHW: Tensor, low_BCHW: Tensor) -> Tensor:
        """Filter `low` (B, chans, H, W) with the filters that `x` (B, in_chans, H, W) makes; same shape as `low`."""
        weights_BGP = self.weights(x_BCHW)
        if self.patches == "overlapping":
            return self._overlapping(low_BCHW, weights_BGP)
        return self._non_overlapping(low_BCHW, weights_BGP)

    def _overlapping(self, low_BCHW: Tensor, weights_BGP: Tensor) -> Tensor:
        batch, chans, height, width = low_BCHW.shape
        margin = self.kernel_size // 2
        # Reflection needs a map larger than its margin; smaller ones repeat their border.
        mode = "reflect" if min(height, width) > margin else "replicate"
        padded = F.pad(low_BCHW, (margin,) * 4, mode=mode)
        patches = F.unfold(padded, self.kernel_size).view(batch, self.groups, -1, self.kernel_size**2, height * width)
        return torch.einsum("bgcpl,bgp->bgcl", patches, weights_BGP).reshape(batch, chans, height, width)

    def _non_overlapping(self, low_BCHW: Tensor, weights_BGP: Tensor) -> Tensor:
        batch, chans, height, width = low_BCHW.shape
        k = self.kernel_size
        padded = F.pad(low_BCHW, (0, -width % k, 0, -height % k), mode="replicate")
        rows, columns = padded.shape[2] // k, padded.shape[3] // k
        patches = F.unfold(padded, k, stride=k).view(batch, self.groups, -1, k * k, rows * columns)
        sums = torch.einsum("bgcpl,bgp->bgcl", patches, weights_BGP).reshape(batch, chans, rows, columns)
        return sums.repeat_interleave(k, dim=2).repeat_interleave(k, dim=3)[..., :height, :width]


class SpectralFlow(nn.Module):
    """Split a map into low and high frequencies, weigh both per channel, add them (section 3.2; USM in Fig 1).

    Args:
        chans: C, kept.
        groups, reduction, kernel_size, attention_reduction, attention, patches: See the head of the file.
    """

    def __init__(
        self,
        chans: int,
        *,
        groups: int = 8,
        reduction: int = 2,
        kernel_size: int = 3,
        attention_reduction: int = 8,
        attention: Attention = "pairwise",
        patches: Patches = "overlapping",
    ) -> None:
        super().__init__()
        low_chans = chans // reduction
        self.attention = attention
        self.reduce = nn.Conv2d(chans, low_chans, 1)
        self.filter = DynamicFilter(chans, low_chans, groups=groups, kernel_size=kernel_size, patches=patches)
        self.expand = nn.Conv2d(low_chans, chans, 1)
        hidden = max(1, chans // attention_reduction)
        self.attend_low = self._attend(chans, hidden)
        self.attend_high = self._attend(chans, hidden)
        self.project = nn.Conv2d(chans, chans, 1)

    @staticmethod
    def _attend(chans: int, hidden: int) -> nn.Sequential:
        return nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(chans, hidden, 1), nn.GELU(), nn.Conv2d(hidden, chans, 1)
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        low_BCHW = self.expand(self.filter(x_BCHW, self.reduce(x_BCHW)))
        high_BCHW = x_BCHW - low_BCHW
        scores = torch.stack([self.attend_low(low_BCHW), self.attend_high(high_BCHW)], dim=1)
        if self.attention == "joint":
            weights = scores.flatten(1).softmax(dim=1).view_as(scores)
        else:
            weights = scores.softmax(dim=1)
        out_BCHW: Tensor = self.project(low_BCHW * weights[:, 0] + high_BCHW * weights[:, 1])
        return out_BCHW


class ContextGate(nn.Module):
    """Gate a spatial path and an identity path, then add the input (section 3.3; GM in Fig 1).

    Args:
        chans: C, kept.
        hidden: Channels of the spatial and of the identity path, about C/3.
        gate_width: `concat` = a gate value for each of the 2 * hidden channels; `repeat` = hidden values, used twice.
        **flow: Options of the SpectralFlow that refines the spatial path.
    """

    def __init__(self, chans: int, hidden: int, *, gate_width: GateWidth = "concat", **flow: Any) -> None:
        super().__init__()
        self.gate_chans = 2 * hidden if gate_width == "concat" else hidden
        self.hidden, self.gate_width = hidden, gate_width
        self.split = nn.Conv2d(chans, self.gate_chans + 2 * hidden, 1)
        self.depthwise = nn.Conv2d(hidden, hidden, 7, padding=3, groups=hidden)
        self.refine = SpectralFlow(hidden, **flow)
        self.project = nn.Conv2d(2 * hidden, chans, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        gate, identity, spatial = self.split(x_BCHW).split([self.gate_chans, self.hidden, self.hidden], dim=1)
        spatial = self.refine(self.depthwise(spatial))
        if self.gate_width == "repeat":
            gate = torch.cat([gate, gate], dim=1)
        out_BCHW: Tensor = self.project(torch.cat([spatial, identity], dim=1) * F.gelu(gate))
        return x_BCHW + out_BCHW


class MedSpectralNet(nn.Module):
    """Trunk, SpectralFlow beside ContextGate, their sum through a second SpectralFlow, norm, pool, head.

    Args:
        num_classes: K.
        in_chans: Input channels.
        last_stage_depth: Blocks kept in the trunk's last stage: 2, or 1 for the 8.5 M reading.
        with_flow1, with_gate, with_flow2: False leaves a part out (ablation). Without the gate f_b itself is added,
            so that the map f_b enters the sum once in every variant.
        pretrained: Start the trunk from ImageNet-1k weights.
        pretrained_tag: timm tag of those weights.
        groups, reduction, kernel_size, attention_reduction, attention, patches, gate_width: See the head.
    """

    def __init__(
        self,
        num_classes: int,
        in_chans: int = 3,
        *,
        last_stage_depth: int = 2,
        with_flow1: bool = True,
        with_gate: bool = True,
        with_flow2: bool = True,
        pretrained: bool = False,
        pretrained_tag: str = "",
        groups: int = 8,
        reduction: int = 2,
        kernel_size: int = 3,
        attention_reduction: int = 8,
        attention: Attention = "pairwise",
        patches: Patches = "overlapping",
        gate_width: GateWidth = "concat",
    ) -> None:
        super().__init__()
        trunk: Any = timm.create_model("resnet18", in_chans=in_chans, num_classes=0, global_pool="")
        if pretrained:
            load_pretrained(trunk, "resnet18", pretrained_tag, in_chans=in_chans)
        trunk.layer4 = nn.Sequential(*list(trunk.layer4.children())[:last_stage_depth])
        self.trunk = trunk
        chans = TRUNK_CHANS
        flow: dict[str, Any] = {
            "groups": groups,
            "reduction": reduction,
            "kernel_size": kernel_size,
            "attention_reduction": attention_reduction,
            "attention": attention,
            "patches": patches,
        }
        step = groups * reduction
        hidden = max(1, round(chans / 3 / step)) * step
        self.flow1 = SpectralFlow(chans, **flow) if with_flow1 else None
        self.gate = ContextGate(chans, hidden, gate_width=gate_width, **flow) if with_gate else nn.Identity()
        self.flow2 = SpectralFlow(chans, **flow) if with_flow2 else nn.Identity()
        self.norm = nn.BatchNorm2d(chans)
        self.head = nn.Linear(chans, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> logits (B, K)."""
        base_BCHW = self.trunk(x_BCHW)
        fused_BCHW = self.gate(base_BCHW)
        if self.flow1 is not None:
            fused_BCHW = self.flow1(base_BCHW) + fused_BCHW
        refined_BCHW = self.norm(self.flow2(fused_BCHW))
        logits_BK: Tensor = self.head(refined_BCHW.mean(dim=(2, 3)))
        return logits_BK


@register_model(
    paper="https://doi.org/10.1371/journal.pone.0346128",
    source="written from the paper's text; the trunk is timm's resnet18",
    code_license="own code (MIT); trunk Apache-2.0 (timm)",
    weights_license="trunk: timm resnet18.a1_in1k, Apache-2.0, trained on ImageNet-1k (non-commercial terms)",
    num_params=13_213_020,
    published="8.5 M parameters, 2.00 GFLOPs (the paper, section 4.7); the trunk alone has 11,176,512",
    differs="the paper leaves filter groups, stride, widths, gate shape and fusion open: see the file's head",
    target_layer="flow2",
    pretrained_tag="a1_in1k",
)
def medspectralnet(
    *, num_classes: int, in_chans: int = 3, img_size: int = 224, pretrained: bool = False, **options: Any
) -> MedSpectralNet:
    """The paper's text as written: the whole ResNet-18 trunk."""
    return MedSpectralNet(num_classes, in_chans, pretrained=pretrained, pretrained_tag="a1_in1k", **options)


@register_model(
    paper="https://doi.org/10.1371/journal.pone.0346128",
    source="written from the paper's text; the trunk is timm's resnet18 without layer4's second block",
    code_license="own code (MIT); trunk Apache-2.0 (timm)",
    weights_license="trunk: timm resnet18.a1_in1k, Apache-2.0, trained on ImageNet-1k (non-commercial terms)",
    num_params=8_492_380,
    published="8.5 M parameters (the paper); one basic block left out explains that count, not the 2.00 GFLOPs",
    differs="layer4 of the trunk has one block instead of two; the rest as medspectralnet",
    target_layer="flow2",
    pretrained_tag="a1_in1k",
)
def medspectralnet_8m5(
    *, num_classes: int, in_chans: int = 3, img_size: int = 224, pretrained: bool = False, **options: Any
) -> MedSpectralNet:
    """Would the claims hold at the claimed size? One basic block of the trunk left out."""
    return MedSpectralNet(
        num_classes, in_chans, last_stage_depth=1, pretrained=pretrained, pretrained_tag="a1_in1k", **options
    )


@register_model(
    paper="https://doi.org/10.1371/journal.pone.0346128",
    source="medspectralnet without SpectralFlow beside ContextGate: an ablation that the paper lacks",
    code_license="own code (MIT); trunk Apache-2.0 (timm)",
    weights_license="trunk: timm resnet18.a1_in1k, Apache-2.0, trained on ImageNet-1k (non-commercial terms)",
    num_params=12_518_220,
    differs="SpectralFlow beside ContextGate is left out; the rest as medspectralnet",
    target_layer="flow2",
    pretrained_tag="a1_in1k",
)
def medspectralnet_no_flow1(
    *, num_classes: int, in_chans: int = 3, img_size: int = 224, pretrained: bool = False, **options: Any
) -> MedSpectralNet:
    """Ablation: no SpectralFlow beside ContextGate."""
    return MedSpectralNet(
        num_classes, in_chans, with_flow1=False, pretrained=pretrained, pretrained_tag="a1_in1k", **options
    )


@register_model(
    paper="https://doi.org/10.1371/journal.pone.0346128",
    source="medspectralnet without ContextGate: an ablation that the paper lacks",
    code_license="own code (MIT); trunk Apache-2.0 (timm)",
    weights_license="trunk: timm resnet18.a1_in1k, Apache-2.0, trained on ImageNet-1k (non-commercial terms)",
    num_params=12_571_240,
    differs="ContextGate is left out (f_b itself is added); the rest as medspectralnet",
    target_layer="flow2",
    pretrained_tag="a1_in1k",
)
def medspectralnet_no_gate(
    *, num_classes: int, in_chans: int = 3, img_size: int = 224, pretrained: bool = False, **options: Any
) -> MedSpectralNet:
    """Ablation: no ContextGate."""
    return MedSpectralNet(
        num_classes, in_chans, with_gate=False, pretrained=pretrained, pretrained_tag="a1_in1k", **options
    )


@register_model(
    paper="https://doi.org/10.1371/journal.pone.0346128",
    source="medspectralnet without the second SpectralFlow: an ablation that the paper lacks",
    code_license="own code (MIT); trunk Apache-2.0 (timm)",
    weights_license="trunk: timm resnet18.a1_in1k, Apache-2.0, trained on ImageNet-1k (non-commercial terms)",
    num_params=12_518_220,
    differs="the second SpectralFlow is left out; the rest as medspectralnet",
    target_layer="gate",
    pretrained_tag="a1_in1k",
)
def medspectralnet_no_flow2(
    *, num_classes: int, in_chans: int = 3, img_size: int = 224, pretrained: bool = False, **options: Any
) -> MedSpectralNet:
    """Ablation: no second SpectralFlow."""
    return MedSpectralNet(
        num_classes, in_chans, with_flow2=False, pretrained=pretrained, pretrained_tag="a1_in1k", **options
    )
