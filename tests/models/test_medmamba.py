"""What MedMamba is: parameters, their order and shapes, MACs, initial weights, sizes."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

import models
from models.catalog import ModelError
from models.medmamba import SS2D, MedMamba, PatchMerging

NAMES = ("medmamba_t", "medmamba_s", "medmamba_b", "medmamba_s_paper", "medmamba_b_paper")
every_medmamba = pytest.mark.parametrize("name", NAMES)
# Specification, section 1: parameters without the head. The depths of the paper's S and B follow from
# the counts with 1,000 classes, which the literature quotes.
BACKBONE = {"medmamba_t": 14_452_608, "medmamba_s": 18_620_544, "medmamba_b": 39_858_688}
QUOTED_WITH_1000_CLASSES = {
    "medmamba_t": 15_221_608,
    "medmamba_s_paper": 23_557_480,
    "medmamba_b_paper": 48_144_872,
}


@functools.cache
def on_meta(name: str, num_classes: int = 8, **options: object) -> MedMamba:
    """The model without storage: shapes and counts need none. Tests only read it."""
    with torch.device("meta"):
        return models.create_model(name, num_classes=num_classes, **options)


@functools.cache
def drawn_medmamba_t() -> MedMamba:
    """A MedMamba-T with initial weights, in eval mode; tests only read it."""
    torch.manual_seed(0)
    return models.create_model("medmamba_t", num_classes=8).eval()


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@every_medmamba
@pytest.mark.parametrize("num_classes", [2, 7, 8, 11, 1000])
def test_parameter_counts(name, num_classes):
    """The counts are the release's, the quoted ones and the catalogue's, for any number of classes."""
    spec = models.get_spec(name)
    width = 1024 if "_b" in name else 768
    parameters = count(on_meta(name, num_classes))
    assert parameters == spec.num_params + (num_classes - 8) * (width + 1)
    if name in BACKBONE:
        assert parameters == BACKBONE[name] + num_classes * (width + 1)
    if num_classes == 1000 and name in QUOTED_WITH_1000_CLASSES:
        assert parameters == QUOTED_WITH_1000_CLASSES[name]
        assert f"{parameters:,}" in spec.published


def test_parameters_by_place():
    """MedMamba-T with 9 classes holds section 9's parameters where section 9 has them."""
    model = on_meta("medmamba_t", 9)
    per_stage = (
        (2, 80_784, {"ln_1": 96, "self_attention": 36_480, "conv33conv33conv11": 44_208}),
        (2, 281_376, {"ln_1": 192, "self_attention": 105_216, "conv33conv33conv11": 175_968}),
        (4, 1_041_984, {"ln_1": 384, "self_attention": 339_456, "conv33conv33conv11": 702_144}),
        (2, 4_000_896, {"ln_1": 768, "self_attention": 1_195_008, "conv33conv33conv11": 2_805_120}),
    )
    expected = {"": 14_459_529, "patch_embed.proj": 4_704, "patch_embed.norm": 192, "head": 6_921}
    expected |= {"layers.0.downsample.reduction": 73_728, "layers.0.downsample.norm": 768}
    expected |= {f"layers.{i}.downsample": number for i, number in enumerate((74_496, 296_448, 1_182_720))}
    for stage, (depth, number, parts) in enumerate(per_stage):
        assert len(model.layers[stage].blocks) == depth
        for block in range(depth):
            expected[f"layers.{stage}.blocks.{block}"] = number
            expected |= {f"layers.{stage}.blocks.{block}.{part}": each for part, each in parts.items()}
    assert {path: count(model.get_submodule(path)) for path in expected} == expected
    assert model.layers[3].downsample is None


def test_parameters_of_b_by_stage():
    """A block of MedMamba-B's four stages holds what section 9 says, at depths 2, 2, 12 and 2."""
    stages = on_meta("medmamba_b").layers
    assert [len(stage.blocks) for stage in stages] == [2, 2, 12, 2]
    assert [count(stage.blocks[-1]) for stage in stages] == [134_336, 481_664, 1_815_296, 7_038_464]


def test_parameter_order_and_shapes():
    """The parameter list, names included, is the release's: a block of the first stage, and what surrounds blocks."""
    shapes = {name: tuple(parameter.shape) for name, parameter in on_meta("medmamba_t").named_parameters()}
    block = "layers.0.blocks.0."
    expected = [
        ("patch_embed.proj.weight", (96, 3, 4, 4)),
        ("patch_embed.proj.bias", (96,)),
        ("patch_embed.norm.weight", (96,)),
        ("patch_embed.norm.bias", (96,)),
        (block + "ln_1.weight", (48,)),
        (block + "ln_1.bias", (48,)),
        (block + "self_attention.x_proj_weight", (4, 35, 96)),
        (block + "self_attention.dt_projs_weight", (4, 96, 3)),
        (block + "self_attention.dt_projs_bias", (4, 96)),
        (block + "self_attention.A_logs", (384, 16)),
        (block + "self_attention.Ds", (384,)),
        (block + "self_attention.in_proj.weight", (192, 48)),
        (block + "self_attention.conv2d.weight", (96, 1, 3, 3)),
        (block + "self_attention.conv2d.bias", (96,)),
        (block + "self_attention.out_norm.weight", (96,)),
        (block + "self_attention.out_norm.bias", (96,)),
        (block + "self_attention.out_proj.weight", (48, 96)),
        (block + "conv33conv33conv11.0.weight", (48,)),
        (block + "conv33conv33conv11.0.bias", (48,)),
        (block + "conv33conv33conv11.1.weight", (48, 48, 3, 3)),
        (block + "conv33conv33conv11.1.bias", (48,)),
        (block + "conv33conv33conv11.2.weight", (48,)),
        (block + "conv33conv33conv11.2.bias", (48,)),
        (block + "conv33conv33conv11.4.weight", (48, 48, 3, 3)),
        (block + "conv33conv33conv11.4.bias", (48,)),
        (block + "conv33conv33conv11.5.weight", (48,)),
        (block + "conv33conv33conv11.5.bias", (48,)),
        (block + "conv33conv33conv11.7.weight", (48, 48, 1, 1)),
        (block + "conv33conv33conv11.7.bias", (48,)),
    ]
    assert list(shapes.items())[: len(expected)] == expected
    in_block = [name.removeprefix(block) for name, _ in expected if name.startswith(block)]
    order = ["patch_embed.proj.weight", "patch_embed.proj.bias", "patch_embed.norm.weight", "patch_embed.norm.bias"]
    for stage, depth in enumerate((2, 2, 4, 2)):
        order += [f"layers.{stage}.blocks.{index}.{name}" for index in range(depth) for name in in_block]
        merging = ("reduction.weight", "norm.weight", "norm.bias")
        order += [f"layers.{stage}.downsample.{name}" for name in merging if stage < 3]
    assert list(shapes) == [*order, "head.weight", "head.bias"]
    assert shapes["layers.2.downsample.reduction.weight"] == (768, 1536)
    assert shapes["head.weight"] == (8, 768)


@pytest.mark.parametrize(("name", "ranks"), [("medmamba_t", [3, 6, 12, 24]), ("medmamba_b", [4, 8, 16, 32])])
def test_rank_of_the_step_size(name, ranks):
    """The step size's rank is a sixteenth of the scanned width, rounded up."""
    assert [stage.blocks[0].self_attention.dt_rank for stage in on_meta(name).layers] == ranks


@pytest.mark.parametrize(
    ("name", "macs", "scan_flops"),
    [
        ("medmamba_t", 2_241_744_384, 742_103_040),
        ("medmamba_s", 3_034_424_832, 916_715_520),
        ("medmamba_b", 6_682_748_928, 1_455_104_000),
    ],
)
def test_macs_at_224(name, macs, scan_flops):
    """torch's counter, halved, gives section 10's MACs without the scan; 9 LDN + LD per scan gives its last column."""
    scans = []

    def formula(u_shape, delta_shape, A_shape, *args, out_shape=None, **kwargs):
        batch, rows, length = u_shape
        scans.append(batch * length * rows * (9 * A_shape[1] + 1))
        return 0

    for num_classes in (8, 9) if name == "medmamba_t" else (8,):
        scans.clear()
        model = on_meta(name, num_classes).eval()
        mapping = {torch.ops.medbench.selective_scan: formula}
        with FlopCounterMode(display=False, custom_mapping=mapping) as counter, torch.no_grad():
            model(torch.empty(1, 3, 224, 224, device="meta"))
        assert counter.get_total_flops() == 2 * (macs + (num_classes - 8) * model.num_features)
        assert sum(scans) == scan_flops


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # thop imports distutils
@pytest.mark.parametrize(
    ("name", "macs"),
    [
        ("medmamba_t", 2_024_420_352),
        ("medmamba_s", 2_753_276_928),
        pytest.param("medmamba_b", 6_164_983_808, marks=pytest.mark.slow),
    ],
)
def test_thop_counts_the_release(name, macs):
    """thop sees the same modules on the same shapes as in the release."""
    thop = pytest.importorskip("thop")
    model = on_meta.__wrapped__(name).eval().to_empty(device="cpu")  # a fresh one: the counter leaves things behind
    for tensor in model.state_dict().values():
        tensor.zero_()
    assert thop.profile(model, (torch.zeros(1, 3, 224, 224),), verbose=False)[0] == macs


def assert_std(tensor: Tensor, std: float) -> None:
    """The sample's deviation is `std` within six standard errors of a normal sample of its size."""
    assert tensor.std().item() == pytest.approx(std, rel=6 / math.sqrt(2 * tensor.numel()))


def test_initial_layers():
    """Linear layers, norms and convolutions start as section 7 says."""
    for name, module in drawn_medmamba_t().named_modules():
        if isinstance(module, nn.Linear):
            assert_std(module.weight, 0.02)
            assert module.weight.abs().max() > 0.06, name  # not cut at two deviations
            assert module.bias is None or not module.bias.any()
        elif isinstance(module, nn.Conv2d):
            out, fan_in = module.out_channels, module.weight[0].numel()
            assert_std(module.weight, math.sqrt(2 / (out * module.kernel_size[0] ** 2)))  # depthwise too
            assert 0.9 < module.bias.abs().max() * math.sqrt(fan_in) <= 1, name
        elif isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
            assert module.eps == 1e-5
            assert (module.weight == 1).all()
            assert not module.bias.any()
    assert {module.momentum for module in drawn_medmamba_t().modules() if isinstance(module, nn.BatchNorm2d)} == {0.1}


def test_initial_scan_parameters():
    """The stacked parameters start as section 7 says: uniform, log-uniform, ln 1 to ln 16, and one."""
    for name, module in drawn_medmamba_t().named_modules():
        if not isinstance(module, SS2D):
            continue
        for weight, fan_in in ((module.x_proj_weight, module.d_inner), (module.dt_projs_weight, module.dt_rank)):
            bound = fan_in**-0.5
            assert 0.98 * bound < weight.abs().max() <= bound, name
            assert_std(weight, bound / math.sqrt(3))
        steps = functional.softplus(module.dt_projs_bias.double())
        assert steps.min() >= 0.001 * (1 - 1e-4)
        assert steps.max() <= 0.1 * (1 + 1e-4)
        logs = steps.log()
        assert logs.mean().item() == pytest.approx(math.log(0.01), abs=6 * math.log(100) / math.sqrt(12 * logs.numel()))
        assert_std(logs, math.log(100) / math.sqrt(12))
        torch.testing.assert_close(module.A_logs, torch.arange(1.0, 17.0).log().repeat(4 * module.d_inner, 1))
        assert (module.Ds == 1).all()


@pytest.mark.parametrize(("name", "num_blocks"), [("medmamba_t", 10), ("medmamba_s", 14), ("medmamba_b_paper", 22)])
def test_stochastic_depth_rises_to_a_tenth(name, num_blocks):
    """The rate rises linearly over all blocks, from 0 to 0.1 or the given rate."""
    for options, last in (({}, 0.1), ({"drop_path_rate": 0.3}, 0.3), ({"drop_path_rate": 0.0}, 0.0)):
        blocks = [block for stage in on_meta(name, **options).layers for block in stage.blocks]
        rates = [block.drop_path.drop_prob for block in blocks]
        assert rates == pytest.approx([last * index / (num_blocks - 1) for index in range(num_blocks)])


def test_patch_merging_takes_its_grids_in_order():
    """Sub-grids follow each other as (row, column) parities 00, 10, 01, 11; an odd last row or column is left out."""
    merging = PatchMerging(1)
    merging.norm = nn.Identity()
    merging.reduction.weight.data = torch.tensor([[1.0, 10.0, 0.0, 0.0], [0.0, 0.0, 1.0, 10.0]])
    x_BHWC = torch.arange(15.0).view(1, 3, 5, 1)  # rows 0-4, 5-9, 10-14
    expected = torch.tensor([[[[0 + 50, 1 + 60], [2 + 70, 3 + 80]]]], dtype=torch.float32)
    assert torch.equal(merging(x_BHWC), expected)


@every_medmamba
def test_too_small_an_image_is_a_clear_error(name):
    """Below 32 px the catalogue, the builder and the forward pass say what came and what would do."""
    with pytest.raises(ModelError, match=f"{name} cannot take 28 px images; it takes 32 px and more"):
        models.create_model(name, num_classes=2, img_size=28)
    with pytest.raises(ModelError, match="got 28x28 px; it takes 32x32 px and more"):
        models.import_builder(models.get_spec(name))(num_classes=2, img_size=28)
    for shape in ((28, 28), (31, 64), (64, 31)):
        with pytest.raises(ModelError, match=f"got {shape[0]}x{shape[1]} px; it takes 32x32 px and more"):
            on_meta(name)(torch.empty(1, 3, *shape, device="meta"))


def test_there_are_no_public_weights():
    """Requesting pretrained weights is an error of the catalogue and of the builder."""
    with pytest.raises(ModelError, match="no public ImageNet-1k weights"):
        models.create_model("medmamba_t", num_classes=2, pretrained=True)
    with pytest.raises(ModelError, match="no public weights"):
        models.import_builder(models.get_spec("medmamba_t"))(num_classes=2, pretrained=True)


def test_one_instance_takes_any_size_from_32_px():
    """The size given at construction limits nothing; channels may be other than three."""
    model = on_meta("medmamba_t", in_chans=1, img_size=64).eval()
    for shape in ((32, 32), (64, 64), (64, 96), (65, 97), (224, 224)):
        maps = model.forward_features(torch.empty(2, 1, *shape, device="meta"))
        assert maps.shape == (2, 768, shape[0] // 32, shape[1] // 32)
        assert model(torch.empty(2, 1, *shape, device="meta")).shape == (2, 8)


def test_grad_cam_finds_a_channel_first_map():
    """The catalogue's target layer yields (B, channels, height, width), and the head sees its spatial mean."""
    model, seen = drawn_medmamba_t(), []
    layer = model.get_submodule(models.get_spec("medmamba_t").target_layer)
    handle = layer.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.no_grad():
        logits = model(torch.randn(2, 3, 64, 96))
    handle.remove()
    assert seen[0].shape == (2, 768, 2, 3)
    torch.testing.assert_close(model.head(seen[0].mean(dim=(2, 3))), logits)


def test_weight_decay_exemptions_are_the_releases():
    """A_logs and Ds of all ten blocks are marked, nothing else."""
    model = on_meta("medmamba_t")
    marked = model.no_weight_decay()
    assert len(marked) == 20
    assert marked < {name for name, _ in model.named_parameters()}
    assert {name.rpartition(".")[2] for name in marked} == {"A_logs", "Ds"}
