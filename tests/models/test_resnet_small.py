"""The small-image ResNets: MedMNIST v2's parameter counts, their shape, and golden outputs in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from models import create_model, get_spec
from models.resnet_small import Residual, SmallResNet
from tests.models.formula_weights import fill, image, wave

# Channels, classes -> what MedMNIST v2's models have.
COUNTS = {
    ("resnet18_28", 1, 2): 11_168_706,
    ("resnet50_28", 1, 2): 23_503_298,
    ("resnet18_28", 3, 2): 11_169_858,
    ("resnet50_28", 3, 2): 23_504_450,
}
every_resnet = pytest.mark.parametrize("name", ["resnet18_28", "resnet50_28"])


def on_meta(name: str, in_chans: int = 3, num_classes: int = 8) -> SmallResNet:
    with torch.device("meta"):
        return create_model(name, num_classes=num_classes, in_chans=in_chans, img_size=28).eval()


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("name", "in_chans", "num_classes"), sorted(COUNTS))
def test_parameters_are_medmnists(name: str, in_chans: int, num_classes: int) -> None:
    """With one channel or three and two classes; a class adds one row of the head."""
    counted = count(on_meta(name, in_chans, num_classes))
    assert counted == COUNTS[name, in_chans, num_classes]
    width = 512 if name == "resnet18_28" else 2048
    assert count(on_meta(name, in_chans, num_classes + 1)) == counted + width + 1
    assert get_spec(name).num_params == count(on_meta(name))


@every_resnet
def test_the_stem_keeps_the_size_and_stages_halve_it_three_times(name: str) -> None:
    """28 px stay 28 in stem and first stage, then 14, 7, 4; widths are ResNet's; nothing else pools."""
    model = on_meta(name)
    factor = 1 if name == "resnet18_28" else 4
    x_BCHW = model.stem(torch.empty(2, 3, 28, 28, device="meta"))
    assert x_BCHW.shape == (2, 64, 28, 28)
    for stage, side, width in zip(model.stages, (28, 14, 7, 4), (64, 128, 256, 512), strict=True):
        x_BCHW = stage(x_BCHW)
        assert x_BCHW.shape == (2, width * factor, side, side)
    assert not [module for module in model.modules() if isinstance(module, nn.MaxPool2d)]
    assert model.stem[0].kernel_size == (3, 3)


def test_blocks_are_the_papers() -> None:
    """2, 2, 2, 2 basic blocks or 3, 4, 6, 3 bottlenecks, whose stride stands on the 3x3 convolution."""
    small, large = on_meta("resnet18_28"), on_meta("resnet50_28")
    assert [len(stage) for stage in small.stages] == [2, 2, 2, 2]
    assert [len(stage) for stage in large.stages] == [3, 4, 6, 3]
    block = large.stages[1][0]
    assert [(conv[0].kernel_size[0], conv[0].stride[0]) for conv in block.convs] == [(1, 1), (3, 2), (1, 1)]
    shortcuts = [isinstance(block.shortcut, nn.Identity) for stage in small.stages for block in stage]
    assert shortcuts == [True, True, False, True, False, True, False, True]


def test_a_residual_block_by_hand() -> None:
    """relu(conv(relu(conv(x))) + x): with kernels that pass the middle pixel on, the norms at 1 and 0, it is 2x."""
    block = Residual(1, 1, 1, bottleneck=False).eval()
    with torch.no_grad():
        for conv in block.convs:
            conv[0].weight.zero_()[0, 0, 1, 1] = 1.0
            conv[1].running_var.fill_(1.0 - conv[1].eps)
    x_BCHW = torch.tensor([[[[1.0, -2.0], [3.0, 0.5]]]])
    torch.testing.assert_close(block(x_BCHW), torch.tensor([[[[2.0, 0.0], [6.0, 1.0]]]]))


def test_macs_at_28_px() -> None:
    """The small stem costs 0.457 GMACs, 13 times the ImageNet stem's 0.034: the stem belongs to the protocol."""
    gmacs = {}
    for name in ("resnet18_28", "resnet18"):
        model = on_meta(name)
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, 3, 28, 28, device="meta"))
        gmacs[name] = round(counter.get_total_flops() / 2e9, 3)
    assert gmacs == {"resnet18_28": 0.457, "resnet18": 0.034}


@every_resnet
@pytest.mark.parametrize("size", [(28, 28), (9, 14)])
def test_logits_are_the_stored_ones(name: str, size: tuple[int, int], golden: Callable[..., None]) -> None:
    """No change moves a logit of the formula-filled models unseen, at odd sizes too."""
    model = fill(create_model(name, num_classes=7, img_size=28))
    with torch.no_grad():
        logits_BK = model(image(2, 3, *size))
    assert (logits_BK[0] - logits_BK[1]).abs().max() > 1e-3 * logits_BK.abs().max()
    golden("resnet_small", f"{name} {size[0]}x{size[1]}", logits_BK)


def test_gradients_are_the_stored_ones(golden: Callable[..., None]) -> None:
    """The norms of the gradients of stem, stages and head, in training mode."""
    model = fill(create_model("resnet18_28", num_classes=7, img_size=28)).train()
    (model(image(3, 3, 14, 14)) * wave((3, 7), 0.0)).sum().backward()
    parts = (model.stem, *model.stages, model.head)
    norms = [torch.stack([p.grad.square().sum() for p in part.parameters()]).sum().sqrt() for part in parts]
    golden("resnet_small", "gradient norms by part 14x14", torch.stack(norms))
