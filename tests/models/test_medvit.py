"""MedViT's structure against the specification of the release: parameters, stochastic depth, limits.

What they compute is in `test_medvit_values.py`, what that costs in `test_medvit_macs.py`. Shapes and counts
need no numbers: the models here are on the meta device.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

import models
from models.medvit import ECB, LTB, MedViT, SqueezeExcite, medvit_l, medvit_s, medvit_t

BUILDERS = {"medvit_t": medvit_t, "medvit_s": medvit_s, "medvit_l": medvit_l}
DEPTHS = {"medvit_t": 20, "medvit_s": 30, "medvit_l": 40}
# Specification, section 12: what K classes add to.
PARAMS_WITHOUT_CLASSES = {"medvit_t": 31_136_440, "medvit_s": 44_405_972, "medvit_l": 57_675_504}
# Section 12, MedViT-T with 9 classes: parameters by module path.
ECB_96 = {"patch_embed": 0, "mhca": 37_056, "conv": 61_251, "norm": 192}
ECB_192 = {"patch_embed": 0, "mhca": 92_544, "conv": 233_091, "norm": 384}
ECB_384 = {"patch_embed": 0, "mhca": 258_816, "conv": 908_547, "norm": 768}
ECB_768 = {"patch_embed": 0, "mhca": 812_544, "conv": 3_586_563, "norm": 1_536}
LTB_256 = {"norm1": 384, "e_mhsa": 148_608, "projection": 12_416, "mhca": 22_656, "norm2": 512, "conv": 271_874}
LTB_512 = {"norm1": 768, "e_mhsa": 592_128, "projection": 49_408, "mhca": 53_504, "norm2": 1_024, "conv": 1_068_034}
LTB_1024 = {
    "norm1": 1_536,
    "e_mhsa": 2_362_368,
    "projection": 197_120,
    "mhca": 139_776,
    "norm2": 2_048,
    "conv": 4_233_218,
}
FEATURES = [
    ECB_96 | {"patch_embed": 6_336},
    *[ECB_96] * 2,
    ECB_192 | {"patch_embed": 18_816},
    *[ECB_192] * 2,
    LTB_256,
    ECB_384 | {"patch_embed": 99_072},
    *[ECB_384] * 3,
    LTB_512,
    ECB_384 | {"patch_embed": 197_376},
    *[ECB_384] * 3,
    LTB_512,
    ECB_768 | {"patch_embed": 394_752},
    ECB_768,
    LTB_1024,
]
BLOCK_TOTALS = [104_835, 98_499, 98_499, 344_835, 326_019, 326_019, 456_450, 1_267_203, *[1_168_131] * 3, 1_764_866]
BLOCK_TOTALS += [1_365_507, *[1_168_131] * 3, 1_764_866, 4_795_395, 4_400_643, 6_936_066]

every_medvit = pytest.mark.parametrize("name", sorted(BUILDERS))
Shapes = list[tuple[str, tuple[int, ...]]]


@functools.cache
def on_meta(name: str, num_classes: int = 8) -> MedViT:
    """A model without numbers, in eval mode, shared by the tests."""
    with torch.device("meta"):
        return BUILDERS[name](num_classes=num_classes).eval()


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def norm(path: str, width: int) -> Shapes:
    return [(f"{path}.weight", (width,)), (f"{path}.bias", (width,))]


def linear(path: str, width: int, out: int) -> Shapes:
    return [(f"{path}.weight", (out, width)), (f"{path}.bias", (out,))]


def patch_embed(path: str, width: int, out: int) -> Shapes:
    return [(f"{path}.conv.weight", (out, width, 1, 1)), *norm(f"{path}.norm", out)]


def mhca(path: str, width: int) -> Shapes:
    grouped = (f"{path}.conv.weight", (width, 32, 3, 3))
    return [grouped, *norm(f"{path}.norm", width), (f"{path}.proj.weight", (width, width, 1, 1))]


def lffn(path: str, width: int, ratio: int) -> Shapes:
    """Section 12: Sequential with 0 conv, 1 BN, 3 depthwise, 4 BN, 6 SE (fc.0, fc.2), 7 conv, 8 BN."""
    hidden = width * ratio
    return [
        (f"{path}.0.weight", (hidden, width, 1, 1)),
        *norm(f"{path}.1", hidden),
        (f"{path}.3.weight", (hidden, 1, 3, 3)),
        *norm(f"{path}.4", hidden),
        *linear(f"{path}.6.fc.0", hidden, ratio),
        *linear(f"{path}.6.fc.2", ratio, hidden),
        (f"{path}.7.weight", (width, hidden, 1, 1)),
        *norm(f"{path}.8", width),
    ]


def specified_parameters(num_groups: int, num_classes: int) -> Shapes:
    """Sections 2 to 8 as one list: names, order and shapes of all parameters."""
    shapes: Shapes = []
    width = 3
    for number, out in enumerate((64, 32, 64, 64)):
        shapes += [(f"stem.{number}.0.weight", (out, width, 3, 3)), *norm(f"stem.{number}.1", out)]
        width = out
    plan = [96] * 3 + [192] * 3 + [256] + ([384] * 4 + [512]) * num_groups + [768] * 2 + [1024]
    downsampled = {3, 7, 7 + 5 * num_groups}
    for number, out in enumerate(plan):
        path = f"features.{number}"
        if out in (96, 192, 384, 768):
            shapes += patch_embed(f"{path}.patch_embed", width, out) if width != out or number in downsampled else []
            shapes += mhca(f"{path}.mhca", out) + lffn(f"{path}.conv.conv", out, 3) + norm(f"{path}.norm", out)
        else:
            inner = out * 3 // 4
            shapes += norm(f"{path}.norm1", inner)
            for layer in ("q", "k", "v", "proj"):
                shapes += linear(f"{path}.e_mhsa.{layer}", inner, inner)
            shapes += norm(f"{path}.e_mhsa.norm", inner) if out < 1024 else []
            shapes += patch_embed(f"{path}.projection", inner, out - inner) + mhca(f"{path}.mhca", out - inner)
            shapes += norm(f"{path}.norm2", out) + lffn(f"{path}.conv.conv", out, 2)
        width = out
    return shapes + norm("norm", 1024) + linear("proj_head.0", 1024, num_classes)


@every_medvit
@pytest.mark.parametrize("num_classes", [2, 7, 8, 11])
def test_parameter_counts_are_the_releases(name: str, num_classes: int) -> None:
    """Every class adds 1,025 parameters to the released model's count."""
    assert count(on_meta(name, num_classes)) == PARAMS_WITHOUT_CLASSES[name] + 1_025 * num_classes


@every_medvit
def test_catalogue_claims_what_the_code_builds(name: str) -> None:
    """Count, size limit, Grad-CAM layer and the count set against the literature's are the model's own."""
    spec, model = models.get_spec(name), on_meta(name)
    assert spec.num_params == count(model)
    assert f"{spec.num_params / 1e6:.1f} M counted" in spec.published
    assert "Patch Momentum Changer" in spec.differs
    assert model.get_submodule(spec.target_layer) is model.features[-1]


def test_parameters_lie_where_the_specification_says() -> None:
    """MedViT-T with 9 classes has section 12's counts at each module path."""
    model = on_meta("medvit_t", 9)
    assert [name for name, _ in model.named_children() if count(getattr(model, name))] == [
        "stem",
        "features",
        "norm",
        "proj_head",
    ]
    assert count(model) == 31_145_665
    assert (count(model.stem), count(model.norm), count(model.proj_head)) == (75_904, 2_048, 9_225)
    for number, parts in enumerate(FEATURES):
        block = model.get_submodule(f"features.{number}")
        assert {part: count(block.get_submodule(part)) for part in parts} == parts, number
        assert count(block) == BLOCK_TOTALS[number] == sum(parts.values())
    layers = [parameter.numel() for parameter in model.get_submodule("features.0.conv").parameters()]
    assert layers == [27_648, 288, 288, 2_592, 288, 288, 864, 3, 864, 288, 27_648, 96, 96]


@every_medvit
def test_parameter_order_and_shapes_are_the_specifications(name: str) -> None:
    """All names, their order and shapes follow from sections 2 to 8: weights can be moved one by one."""
    expected = specified_parameters(num_groups=(DEPTHS[name] - 10) // 5, num_classes=11)
    assert [(key, tuple(value.shape)) for key, value in on_meta(name, 11).named_parameters()] == expected


@every_medvit
def test_squeeze_excite_bottleneck_has_three_or_two_units(name: str) -> None:
    """The reduction ratio is the block's width: 3 units in an ECB, 2 in an LTB, at any width."""
    for block in on_meta(name).features:
        gates = [module.fc[0].out_features for module in block.modules() if isinstance(module, SqueezeExcite)]
        assert gates == [3 if isinstance(block, ECB) else 2]


@pytest.mark.parametrize(("name", "last_rate"), [("medvit_t", 0.1), ("medvit_s", 0.2), ("medvit_l", 0.2)])
def test_stochastic_depth_grows_linearly_and_is_shared_in_an_ltb(name: str, last_rate: float) -> None:
    """Block i of n has p = max i / (n - 1); an LTB gives 0.75 p to the attention and 0.25 p to the MHCA."""
    blocks = list(on_meta(name).features)
    assert len(blocks) == DEPTHS[name]
    for number, block in enumerate(blocks):
        rate = last_rate * number / (DEPTHS[name] - 1)
        if isinstance(block, ECB):
            assert math.isclose(block.drop_path.drop_prob, rate, abs_tol=1e-15)
        else:
            assert isinstance(block, LTB)
            assert math.isclose(block.attention_drop_path.drop_prob, 0.75 * rate, abs_tol=1e-15)
            assert math.isclose(block.conv_drop_path.drop_prob, 0.25 * rate, abs_tol=1e-15)
    assert sum(isinstance(module, nn.Dropout) for block in blocks for module in block.modules()) == 0


def test_the_input_channels_are_the_builders() -> None:
    """Grey images need no copy to three channels."""
    with torch.device("meta"):
        assert medvit_t(num_classes=7, in_chans=1).eval()(torch.empty(1, 1, 25, 25)).shape == (1, 7)


BAD_REQUESTS: list[tuple[str, Callable[[], object]]] = [
    ("medvit_t cannot take 24 px", lambda: models.create_model("medvit_t", num_classes=8, img_size=24)),
    ("cannot take 24 px", lambda: medvit_t(num_classes=8, img_size=24)),
    ("25 px or more", lambda: on_meta("medvit_t")(torch.empty(1, 3, 24, 24, device="meta"))),
    ("pretrained=False", lambda: models.create_model("medvit_s", num_classes=8, pretrained=True)),
    ("pretrained=False", lambda: medvit_l(num_classes=8, pretrained=True)),
]


@pytest.mark.parametrize(("message", "request_model"), BAD_REQUESTS)
def test_what_it_cannot_do_is_one_clear_line(message: str, request_model: Callable[[], object]) -> None:
    """Too small an image and weights that do not exist are errors that name what would do."""
    with pytest.raises(models.ModelError, match=message) as caught:
        request_model()
    assert "\n" not in str(caught.value)
