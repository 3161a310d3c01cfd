"""What VMamba-T is: the counts that its release prints, shapes, the scan's paths, initial weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import models
from models.vmamba import SS2D, VMamba, VSSBlock


def on_meta(num_classes: int) -> VMamba:
    """The model without storage: shapes and counts need none."""
    with torch.device("meta"):
        return models.create_model("vmamba_t", num_classes=num_classes)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def scan_count(model: VMamba, size: int) -> int:
    """The release's formula, 9 L D N + L D with D = 4 widths and one state."""
    total = 0
    for stage, blocks in enumerate(model.stages):
        width = blocks[-1].norm.normalized_shape[0]
        depth = sum(isinstance(block, VSSBlock) for block in blocks)
        total += depth * 10 * (size // 4 // 2**stage) ** 2 * 4 * width
    return total


def test_the_counts_are_the_published_ones() -> None:
    """30 M parameters with 1,000 classes, of which each class has 769, and 4.9 G with the scan's share."""
    model = on_meta(1000)
    assert count(model) == 30_249_064
    assert round(count(model) / 1e6) == 30
    assert count(on_meta(8)) == models.get_spec("vmamba_t").num_params == 30_249_064 - 992 * 769
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, 224, 224, device="meta"))
    assert scan_count(model, 224) == 63_221_760
    assert round((counter.get_total_flops() / 2 + scan_count(model, 224)) / 1e9, 1) == 4.9


def test_the_parts_have_the_parameters_of_the_description() -> None:
    """A block of width C = 96 and rank 6, the stem and the halvings, by hand."""
    model = on_meta(8)
    # scan: 2 C² projections, 9 C convolution, 4 (6 + 2) C + 4 C 6 + 4 C for steps, B and C, 8 C of A and D, 2 C norm;
    # the rest: 4 C norms, 8 C² + 5 C perceptron
    by_hand = 10 * 96**2 + 9 * 96 + 4 * 8 * 96 + 4 * 6 * 96 + 4 * 96 + 8 * 96 + 2 * 96 + 4 * 96 + 5 * 96
    assert count(model.stages[0][0]) == by_hand == 100_608
    assert count(model.stem) == 3 * 48 * 9 + 48 + 2 * 48 + 48 * 96 * 9 + 96 + 2 * 96
    assert [count(stage[0]) for stage in model.stages][1:] == [c * 2 * c * 9 + 2 * c + 4 * c for c in (96, 192, 384)]
    assert [sum(isinstance(part, VSSBlock) for part in stage) for stage in model.stages] == [2, 2, 8, 2]


def test_a_map_of_every_size_has_a_thirty_second_of_it_rounded_up() -> None:
    """At 224, 96 and 64 px, and where a halving meets an odd size."""
    model = on_meta(8)
    for size, last in ((224, 7), (96, 3), (64, 2), (100, 4)):
        assert model.forward_features(torch.empty(1, 3, size, size, device="meta")).shape == (1, 768, last, last)


def scan_by_hand(block: SS2D, x_HWC: Tensor) -> Tensor:
    """The description, token by token, in float64."""
    height, width, channels = x_HWC.shape
    x_CHW = nn.functional.silu(block.conv2d(block.in_proj(x_HWC).permute(2, 0, 1)[None]))[0]
    rows = [(i, j) for i in range(height) for j in range(width)]
    columns = [(i, j) for j in range(width) for i in range(height)]
    total = torch.zeros(channels, height, width, dtype=x_CHW.dtype)
    for direction, path in enumerate((rows, columns, rows[::-1], columns[::-1])):
        state = torch.zeros(channels, dtype=x_CHW.dtype)
        own = slice(direction * channels, (direction + 1) * channels)
        for i, j in path:
            token = x_CHW[:, i, j]
            projected = block.x_proj_weight[direction] @ token
            low_rank, b, c = projected[: block.dt_rank], projected[block.dt_rank], projected[block.dt_rank + 1]
            raw = block.dt_projs_weight[direction] @ low_rank + block.dt_projs_bias[direction]
            step = nn.functional.softplus(raw)
            state = torch.exp(-step * block.A_logs[own, 0].exp()) * state + step * b * token
            total[:, i, j] += c * state + block.Ds[own] * token
    return block.out_proj(block.out_norm(total.permute(1, 2, 0)))


def test_the_scan_is_that_of_the_description() -> None:
    """Four paths over a 3 x 4 map, token by token."""
    torch.manual_seed(0)
    block = SS2D(32).double()
    nn.init.normal_(block.A_logs)
    x_HWC = torch.randn(3, 4, 32, dtype=torch.float64)
    torch.testing.assert_close(block(x_HWC[None])[0], scan_by_hand(block, x_HWC), rtol=1e-9, atol=1e-9)


def test_initial_values_are_mambas() -> None:
    """Steps between 0.001 and 0.1 behind the softplus, decay 1, skip 1, linear weights of deviation 0.02."""
    torch.manual_seed(0)
    block = VMamba(num_classes=2, in_chans=3, depths=(1, 1, 1, 1), embed_dim=32).stages[1][1]
    steps = nn.functional.softplus(block.op.dt_projs_bias)
    assert 0.00099 < steps.min() < steps.max() < 0.101
    assert (block.op.A_logs == 0).all()
    assert (block.op.Ds == 1).all()
    assert abs(block.mlp[0].weight.std().item() - 0.02) < 0.002
