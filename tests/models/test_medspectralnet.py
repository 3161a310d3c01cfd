"""MedSpectralNet: its size, each decision of the specification as a number, and golden outputs in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from models import ModelError, create_model
from models.medspectralnet import ContextGate, DynamicFilter, MedSpectralNet, SpectralFlow
from tests.models.formula_weights import fill, image, wave

NAMES = ("medspectralnet", "medspectralnet_8m5")


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def on_meta(name: str = "medspectralnet", num_classes: int = 8, **options: object) -> MedSpectralNet:
    """A model without numbers: counts and shapes need none."""
    with torch.device("meta"):
        return create_model(name, num_classes=num_classes, **options)


def filled(name: str = "medspectralnet", num_classes: int = 7, **options: object) -> nn.Module:
    return fill(create_model(name, num_classes=num_classes, **options))


@pytest.mark.parametrize("num_classes", [2, 7, 8, 11])
def test_parameters_are_the_specifications(num_classes: int) -> None:
    """13,213,020 with 8 classes and 513 for each one more; 8,492,380 without layer4's second block."""
    assert count(on_meta(num_classes=num_classes)) == 13_213_020 + 513 * (num_classes - 8)
    assert count(on_meta("medspectralnet_8m5", num_classes)) == 8_492_380 + 513 * (num_classes - 8)


def test_parameters_of_the_parts() -> None:
    """The trunk alone has 11,176,512; 8,489,302 is the small reading with two classes; hidden is 176 of 512."""
    model = on_meta()
    assert count(model.trunk) == 11_176_512
    assert count(on_meta("medspectralnet_8m5", 2)) == 8_489_302
    assert model.gate.hidden == 176
    assert model.gate.refine.project.in_channels == 176
    assert [name for name, _ in model.named_children()] == ["trunk", "flow1", "gate", "flow2", "norm", "head"]
    parts = sum(count(part) for part in (model.flow1, model.gate, model.flow2, model.norm, model.head))
    assert parts == 13_213_020 - 11_176_512
    assert not [module for module in model.modules() if isinstance(module, nn.Dropout)]


# Convolutions and the head; the three dynamic filters' own weighted sums, 9 taps on a 7x7 map.
FILTER_MACS = (256 + 256 + 88) * 9 * 49
MACS = {"medspectralnet": 1_895_260_848 + FILTER_MACS, "medspectralnet_8m5": 1_664_049_840 + FILTER_MACS}
SPECIFIED_GIGAMACS = {"medspectralnet": 1.895, "medspectralnet_8m5": 1.664}


@pytest.mark.parametrize("name", NAMES)
def test_macs_at_224_are_the_specifications(name: str) -> None:
    """Half of torch's FLOP count for one image is the prototype's, which gives three decimals."""
    model = on_meta(name).eval()
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, 224, 224, device="meta"))
    assert counter.get_total_flops() == 2 * MACS[name]
    assert abs(MACS[name] / 1e9 - SPECIFIED_GIGAMACS[name]) < 0.001


@pytest.mark.parametrize(("img_size", "side"), [(28, 1), (32, 1), (33, 2), (64, 2), (65, 3), (96, 3), (224, 7)])
def test_the_trunks_map_has_a_thirty_second_of_the_size(img_size: int, side: int) -> None:
    """f_b is 1x1 up to 32 px, 2x2 up to 64, 3x3 at 96, 7x7 at 224, with 512 channels in both readings."""
    for name in NAMES:
        model = on_meta(name)
        assert model.trunk(torch.empty(2, 3, img_size, img_size, device="meta")).shape == (2, 512, side, side)


OPTIONS: dict[str, tuple[dict[str, object], Callable[[MedSpectralNet], object], object]] = {
    "groups": ({"groups": 4}, lambda model: model.flow1.filter.conv.out_channels, 4 * 9),
    "reduction": ({"reduction": 4}, lambda model: model.flow1.reduce.out_channels, 128),
    "kernel_size": ({"kernel_size": 5}, lambda model: model.flow2.filter.conv.out_channels, 8 * 25),
    "attention_reduction": ({"attention_reduction": 16}, lambda model: model.flow1.attend_low[1].out_channels, 32),
    "gate_width": ({"gate_width": "repeat"}, lambda model: model.gate.split.out_channels, 3 * 176),
    "default gate": ({}, lambda model: model.gate.split.out_channels, 4 * 176),
    "hidden": ({"groups": 16, "reduction": 4}, lambda model: model.gate.hidden, 192),  # 512/3 in steps of 64
}


@pytest.mark.parametrize("option", sorted(OPTIONS))
def test_an_option_changes_what_it_says(option: str) -> None:
    """Widths follow the options; the model still gives logits."""
    options, measure, expected = OPTIONS[option]
    model = on_meta(**options)
    assert measure(model) == expected
    assert model(torch.empty(2, 3, 96, 96, device="meta")).shape == (2, 8)


@pytest.mark.parametrize("option", [{"attention": "joint"}, {"patches": "non_overlapping"}])
def test_options_without_parameters_change_the_output(option: dict[str, str]) -> None:
    """Same weights, other sums."""
    plain, other = filled(), filled(**option)
    assert count(plain) == count(other)
    x_BCHW = image(2, 3, 96, 96)
    assert (plain(x_BCHW) - other(x_BCHW)).abs().max() > 1e-6


def test_groups_that_do_not_divide_the_channels_are_refused() -> None:
    """One clear line."""
    with pytest.raises(ModelError, match="256 channels cannot be split into 7 groups"):
        on_meta(groups=7)


def naive_overlapping(low: Tensor, weights: Tensor, k: int) -> Tensor:
    """The specification as loops: each output is the weighted sum of the k x k neighbours, borders reflected."""
    batch, chans, height, width = low.shape
    groups, margin = weights.shape[1], k // 2
    reflect = min(height, width) > margin

    def at(position: int, length: int) -> int:
        if not reflect:
            return min(max(position, 0), length - 1)
        position = abs(position)
        return position if position < length else 2 * (length - 1) - position

    out = torch.zeros_like(low)
    for b in range(batch):
        for c in range(chans):
            kernel = weights[b, c // (chans // groups)].view(k, k)
            for i in range(height):
                for j in range(width):
                    for di in range(k):
                        for dj in range(k):
                            value = low[b, c, at(i + di - margin, height), at(j + dj - margin, width)]
                            out[b, c, i, j] += kernel[di, dj] * value
    return out


def naive_non_overlapping(low: Tensor, weights: Tensor, k: int) -> Tensor:
    """One weighted sum a patch, spread over it; right and bottom borders are repeated, the rest is cut off."""
    batch, chans, height, width = low.shape
    groups = weights.shape[1]
    out = torch.zeros_like(low)
    for b in range(batch):
        for c in range(chans):
            kernel = weights[b, c // (chans // groups)].view(k, k)
            for i in range(height):
                for j in range(width):
                    top, left = i // k * k, j // k * k
                    out[b, c, i, j] = sum(
                        kernel[di, dj] * low[b, c, min(top + di, height - 1), min(left + dj, width - 1)]
                        for di in range(k)
                        for dj in range(k)
                    )
    return out


@given(height=st.integers(1, 6), width=st.integers(1, 6), k=st.sampled_from([3, 5]), overlapping=st.booleans())
@settings(max_examples=25, deadline=None)
def test_the_dynamic_filter_is_the_loop(height: int, width: int, k: int, overlapping: bool) -> None:
    """Both ways of cutting patches equal loops over pixels, small maps (borders repeated) included."""
    patches = "overlapping" if overlapping else "non_overlapping"
    layer = fill(DynamicFilter(6, 4, groups=2, kernel_size=k, patches=patches))
    x_BCHW, low_BCHW = 3 * wave((2, 6, height, width), 1.0), wave((2, 4, height, width), 2.0)
    weights_BGP = layer.weights(x_BCHW)
    naive = naive_overlapping if overlapping else naive_non_overlapping
    torch.testing.assert_close(layer(x_BCHW, low_BCHW), naive(low_BCHW, weights_BGP, k))


def test_the_dynamic_filter_by_hand() -> None:
    """With equal weights the filter is the mean of the reflected neighbourhood, here of a 3x3 map of 1 to 9."""
    layer = DynamicFilter(1, 1, groups=1, kernel_size=3, patches="overlapping").double().eval()
    nn.init.zeros_(layer.conv.weight)
    low_BCHW = torch.arange(1.0, 10.0, dtype=torch.float64).view(1, 1, 3, 3)
    corrected = layer(torch.ones(1, 1, 3, 3, dtype=torch.float64), low_BCHW)[0, 0]
    # The first pixel sees itself and its reflections: (5+4+5 + 2+1+2 + 5+4+5) / 9.
    torch.testing.assert_close(corrected[0, 0].item(), 33 / 9)
    torch.testing.assert_close(corrected[1, 1].item(), 5.0)
    single = layer(torch.ones(1, 1, 1, 1, dtype=torch.float64), low_BCHW[..., :1, :1])
    torch.testing.assert_close(single.item(), 1.0)


def test_filters_are_positive_sum_to_one_and_follow_the_image() -> None:
    """(B, G, k * k) weights, made of the pooled map: moving its pixels changes nothing, another image does."""
    layer = fill(DynamicFilter(16, 8, groups=4, kernel_size=3, patches="overlapping"))
    x_BCHW = 5 * wave((3, 16, 4, 4), 0.5)
    weights_BGP = layer.weights(x_BCHW)
    assert weights_BGP.shape == (3, 4, 9)
    assert (weights_BGP > 0).all()
    torch.testing.assert_close(weights_BGP.sum(-1), torch.ones(3, 4, dtype=torch.float64))
    torch.testing.assert_close(layer.weights(x_BCHW.flip(2)), weights_BGP)
    assert (weights_BGP[0] - weights_BGP[1]).abs().max() > 1e-3


class Recorder:
    """Keeps what went into and came out of modules."""

    def __init__(self, **modules: nn.Module) -> None:
        self.seen: dict[str, tuple[Tensor, Tensor]] = {}
        for name, module in modules.items():
            module.register_forward_hook(lambda _m, inputs, output, name=name: self.keep(name, inputs[0], output))

    def keep(self, name: str, given: Tensor, output: Tensor) -> None:
        self.seen[name] = (given, output)


def attention(scores: Tensor) -> Tensor:
    return torch.exp(scores) / torch.exp(scores).sum(0)


@pytest.mark.parametrize("mode", ["pairwise", "joint"])
def test_low_and_high_add_up_to_the_map(mode: str) -> None:
    """high = x - low; both are weighed by the softmax over the pair (or over all 2C) and projected."""
    flow = fill(SpectralFlow(16, groups=4, attention=mode))
    recorder = Recorder(low=flow.attend_low, high=flow.attend_high, expand=flow.expand)
    x_BCHW = wave((2, 16, 5, 4), 3.0)
    out_BCHW = flow(x_BCHW)
    (low, low_scores), (high, high_scores) = recorder.seen["low"], recorder.seen["high"]
    torch.testing.assert_close(low, recorder.seen["expand"][1])
    torch.testing.assert_close(low + high, x_BCHW)
    scores = torch.stack([low_scores, high_scores])
    if mode == "pairwise":
        weights = attention(scores)
        torch.testing.assert_close(weights.sum(0), torch.ones_like(low_scores))
    else:
        weights = torch.exp(scores) / torch.exp(scores).sum(dim=(0, 2), keepdim=True)
    torch.testing.assert_close(out_BCHW, flow.project(low * weights[0] + high * weights[1]))


@pytest.mark.parametrize("gate_width", ["concat", "repeat"])
def test_the_gate_is_the_specifications_formula(gate_width: str) -> None:
    """x + project(concat(refine(depthwise(c)), i) * gelu(g)), with g as wide as both or used twice."""
    gate = fill(ContextGate(24, 8, gate_width=gate_width, groups=2))
    x_BCHW = wave((2, 24, 4, 4), 1.5)
    split = nn.functional.conv2d(x_BCHW, gate.split.weight, gate.split.bias)
    g, identity, spatial = split.split([16 if gate_width == "concat" else 8, 8, 8], dim=1)
    g = g if gate_width == "concat" else torch.cat([g, g], dim=1)
    paths = torch.cat([gate.refine(gate.depthwise(spatial)), identity], dim=1)
    gelu = g * 0.5 * (1 + torch.erf(g / math.sqrt(2)))
    torch.testing.assert_close(gate(x_BCHW), x_BCHW + gate.project(paths * gelu))
    assert gate.depthwise.kernel_size == (7, 7)
    assert gate.depthwise.groups == 8


def test_the_map_enters_the_sum_once() -> None:
    """flow2 gets flow1(f_b) + gate(f_b), where the gate alone adds f_b; the head is norm, mean, linear."""
    model = filled()
    recorder = Recorder(trunk=model.trunk, flow1=model.flow1, gate=model.gate, flow2=model.flow2)
    logits_BK = model(image(2, 3, 96, 96))
    base = recorder.seen["trunk"][1]
    torch.testing.assert_close(recorder.seen["flow2"][0], recorder.seen["flow1"][1] + recorder.seen["gate"][1])
    assert torch.equal(recorder.seen["flow1"][0], base)
    assert torch.equal(recorder.seen["gate"][0], base)
    torch.testing.assert_close(logits_BK, model.head(model.norm(recorder.seen["flow2"][1]).mean(dim=(2, 3))))


def change_after_redrawing(model: nn.Module, layers: list[str], img_size: int) -> float:
    """Largest change of the logits, as a share of the largest, when the filters of these layers are redrawn."""
    x_BCHW = image(2, 3, img_size, img_size)
    with torch.no_grad():
        before = model(x_BCHW)
        for path in layers:
            weight = model.get_submodule(path).filter.conv.weight
            weight.copy_(20 * wave(tuple(weight.shape), 4.0))
        return float((model(x_BCHW) - before).abs().max() / before.abs().max())


OUTER, INNER = ["flow1", "flow2"], ["gate.refine"]


@pytest.mark.parametrize("img_size", [28, 32])
def test_up_to_32_px_no_filter_does_anything(img_size: int) -> None:
    """On a 1x1 map every neighbour is the pixel itself: the logits do not depend on the filters."""
    assert change_after_redrawing(filled(), OUTER + INNER, img_size) < 1e-12


def test_up_to_64_px_the_outer_filters_do_nothing() -> None:
    """On a 2x2 map a filter with sum 1 keeps the mean, and all that follows the outer SpectralFlows reads means."""
    assert change_after_redrawing(filled(), OUTER, 64) < 1e-12
    assert change_after_redrawing(filled(), INNER, 64) > 1e-6


def test_from_65_px_all_filters_count() -> None:
    """On a 3x3 map the reflected border weighs pixels unequally."""
    for path in OUTER + INNER:
        assert change_after_redrawing(filled(), [path], 96) > 1e-6, path


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_learns_once_norm_weights_are_redrawn(name: str) -> None:
    """At 96 px each has a gradient, but the bias before the last batch norm, which training subtracts again.

    timm starts the last norm of each block at zero, so that without redrawing whole branches have none.
    """
    model = filled(name).train()
    nn.functional.cross_entropy(model(image(4, 3, 96, 96)), torch.tensor([0, 3, 5, 6])).backward()
    sizes = {key: float(parameter.grad.abs().max()) for key, parameter in model.named_parameters()}
    assert [key for key, size in sizes.items() if size < 1e-12 * max(sizes.values())] == ["flow2.project.bias"]


def test_training_needs_two_images() -> None:
    """The filter's batch norm sees one value a channel and image: a batch of one has no variance."""
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        create_model("medspectralnet", num_classes=2).train()(torch.zeros(1, 3, 96, 96))


@pytest.mark.parametrize("size", [(28, 28), (64, 64), (64, 96), (96, 96), (97, 65)])
@pytest.mark.parametrize("name", NAMES)
def test_logits_are_the_stored_ones(name: str, size: tuple[int, int], golden: Callable[..., None]) -> None:
    """No change moves a logit of the formula-filled models unseen."""
    with torch.no_grad():
        logits_BK = filled(name)(image(2, 3, *size))
    assert (logits_BK[0] - logits_BK[1]).abs().max() > 1e-3  # the images are told apart
    golden("medspectralnet", f"{name} {size[0]}x{size[1]}", logits_BK)


@pytest.mark.parametrize(
    "options",
    [
        {"attention": "joint"},
        {"gate_width": "repeat"},
        {"groups": 4, "reduction": 4, "attention_reduction": 4},
        {"kernel_size": 5, "patches": "non_overlapping"},
    ],
    ids=lambda options: ",".join(f"{key}={value}" for key, value in options.items()),
)
def test_logits_with_options_are_the_stored_ones(options: dict[str, object], golden: Callable[..., None]) -> None:
    """So for each option."""
    with torch.no_grad():
        logits_BK = filled(**options)(image(2, 3, 96, 96))
    golden("medspectralnet", " ".join(f"{key}={value}" for key, value in options.items()), logits_BK)


def test_gradients_are_the_stored_ones(golden: Callable[..., None]) -> None:
    """The norms of the gradients of each part, in training mode at 96 px."""
    model = filled().train()
    nn.functional.cross_entropy(model(image(3, 3, 96, 96)), torch.tensor([0, 3, 6])).backward()
    parts = (model.trunk, model.flow1, model.gate, model.flow2, model.norm, model.head)
    norms = [torch.stack([p.grad.square().sum() for p in part.parameters()]).sum().sqrt() for part in parts]
    golden("medspectralnet", "gradient norms by part 96x96", torch.stack(norms))
