"""ResNet-18 and ResNet-50 for small images, as MedMNIST v2's baselines use them at 28 px.

Paper:    He et al. 2016, https://arxiv.org/abs/1512.03385; Yang et al. 2023 (MedMNIST v2), section "Baselines".
Source:   written from the papers, no code taken.
Differs:  nothing known. The stem is one 3x3 convolution of stride 1 and there is no max-pool; PyTorch's default
          initialisation; the stride of a bottleneck stands on its 3x3 convolution.

Shape suffixes: B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from models.catalog import register_model


def _norm_conv(in_chans: int, width: int, kernel_size: int, stride: int = 1) -> nn.Sequential:
    """A convolution that keeps H and W (divided by the stride), then batch normalisation."""
    conv = nn.Conv2d(in_chans, width, kernel_size, stride=stride, padding=kernel_size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width))


class Residual(nn.Module):
    """A residual block: two 3x3 convolutions, or a 1x1, 3x3, 1x1 bottleneck four times as wide at its end."""

    def __init__(self, in_chans: int, width: int, stride: int, *, bottleneck: bool) -> None:
        super().__init__()
        self.num_features = width * 4 if bottleneck else width
        if bottleneck:
            steps = [(in_chans, width, 1, 1), (width, width, 3, stride), (width, self.num_features, 1, 1)]
        else:
            steps = [(in_chans, width, 3, stride), (width, width, 3, 1)]
        self.convs = nn.ModuleList(_norm_conv(*step) for step in steps)
        changes = stride != 1 or in_chans != self.num_features
        self.shortcut = _norm_conv(in_chans, self.num_features, 1, stride) if changes else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, num_features, H/stride, W/stride)."""
        y_BCHW = x_BCHW
        for index, conv in enumerate(self.convs):
            y_BCHW = conv(y_BCHW)
            if index < len(self.convs) - 1:
                y_BCHW = F.relu(y_BCHW)
        return F.relu(y_BCHW + self.shortcut(x_BCHW))


class SmallResNet(nn.Module):
    """Stem, four stages of residual blocks with strides 1, 2, 2, 2, global average pool, linear head.

    Args:
        depths: Blocks per stage.
        bottleneck: Bottleneck blocks (ResNet-50) instead of basic ones (ResNet-18).
        num_classes: K.
        in_chans: Input channels.
    """

    def __init__(self, depths: tuple[int, ...], *, bottleneck: bool, num_classes: int, in_chans: int) -> None:
        super().__init__()
        self.stem = _norm_conv(in_chans, 64, 3)
        stages, chans = [], 64
        for stage, depth in enumerate(depths):
            blocks = []
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                block = Residual(chans, 64 * 2**stage, stride, bottleneck=bottleneck)
                blocks.append(block)
                chans = block.num_features
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(chans, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> logits (B, K)."""
        x_BCHW = self.stages(F.relu(self.stem(x_BCHW)))
        logits_BK: Tensor = self.head(x_BCHW.mean(dim=(2, 3)))
        return logits_BK


@register_model(
    paper="https://arxiv.org/abs/1512.03385",
    source="written from the paper and MedMNIST v2's description",
    code_license="own code (MIT)",
    num_params=11_172_936,  # with 1 channel and 2 classes 11,168,706: the count of MedMNIST v2's model
    published="MedMNIST v2's ResNet-18 (28)",
    target_layer="stages.3",
)
def resnet18_28(
    *, num_classes: int, in_chans: int = 3, img_size: int = 28, pretrained: bool = False, **_: Any
) -> SmallResNet:
    """ResNet-18 with the small-image stem."""
    return SmallResNet((2, 2, 2, 2), bottleneck=False, num_classes=num_classes, in_chans=in_chans)


@register_model(
    paper="https://arxiv.org/abs/1512.03385",
    source="written from the paper and MedMNIST v2's description",
    code_license="own code (MIT)",
    num_params=23_516_744,  # with 1 channel and 2 classes 23,503,298: the count of MedMNIST v2's model
    published="MedMNIST v2's ResNet-50 (28)",
    target_layer="stages.3",
)
def resnet50_28(
    *, num_classes: int, in_chans: int = 3, img_size: int = 28, pretrained: bool = False, **_: Any
) -> SmallResNet:
    """ResNet-50 with the small-image stem."""
    return SmallResNet((3, 4, 6, 3), bottleneck=True, num_classes=num_classes, in_chans=in_chans)
