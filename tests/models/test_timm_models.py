"""Models that timm builds: sizes, names and weights end in a model or in one clear line."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import timm
import torch
from torch import nn

from models import ModelError, create_model, get_spec, list_models, timm_models

TIMM = [name for name in list_models() if get_spec(name).timm_name]
LIGHT = ("mobilevitv2_100", "nest_t", "mobilenetv4_s", "fastvit_t8", "edgenext_s", "efficientformerv2_s0", "mambaout_t")


@pytest.fixture
def forgotten() -> Iterator[None]:
    """As in a fresh process: no size has been tried, no architecture built."""
    timm_models._sizes_that_run.clear()
    timm_models._takes_img_size.cache_clear()
    yield
    timm_models._sizes_that_run.clear()


@pytest.mark.parametrize("name", TIMM)
def test_the_spec_names_an_architecture_and_weights_of_timm(name: str) -> None:
    """Name and tag exist, the weights have 1,000 classes, and the Grad-CAM layer is a map of the image."""
    spec = get_spec(name)
    assert f"{spec.timm_name}.{spec.pretrained_tag}" in timm.list_pretrained(spec.timm_name)
    assert timm.models.get_pretrained_cfg(f"{spec.timm_name}.{spec.pretrained_tag}").num_classes == 1000
    maps: list[torch.Tensor] = []
    with torch.device("meta"):
        model = create_model(name, num_classes=8).eval()
        model.get_submodule(spec.target_layer).register_forward_hook(lambda _m, _x, output: maps.append(output))
        model(torch.empty(1, 3, 224, 224))
    assert sum(parameter.numel() for parameter in model.parameters()) == spec.num_params
    assert len([side for side in maps[0].shape if 7 <= side <= 14]) == 2


def test_img_size_is_passed_where_it_is_taken() -> None:
    """Swin, NesT and EfficientFormerV2 are built for a size, ResNets for any."""
    with torch.device("meta"):
        swin = create_model("swin_t", num_classes=2, img_size=96)
        assert swin.patch_embed.img_size == (96, 96)
        assert swin(torch.empty(1, 3, 96, 96)).shape == (1, 2)
        nest = create_model("nest_t", num_classes=2, img_size=64)
        assert nest(torch.empty(1, 3, 64, 64)).shape == (1, 2)
        resnet = create_model("resnet18", num_classes=2, img_size=96)
        assert resnet(torch.empty(1, 3, 50, 70)).shape == (1, 2)
    taken = {name: timm_models._takes_img_size(get_spec(name).timm_name) for name in ("resnet18", "swin_t", "nest_t")}
    assert taken == {"resnet18": False, "swin_t": True, "nest_t": True}


@pytest.mark.parametrize("name", LIGHT)
def test_light_models_take_the_protocol_of_their_study(name: str) -> None:
    """Each runs at the 96 px of `lite-96`."""
    with torch.device("meta"):
        assert create_model(name, num_classes=8, img_size=96)(torch.empty(2, 3, 96, 96)).shape == (2, 8)


REFUSED = {
    "convnext_t 28": ("convnext_t", 28, "convnext_t cannot take 28 px images; it takes 32 px and more"),
    "edgenext_s 28": ("edgenext_s", 28, "it takes 32 px and more"),
    "nest_t 28": ("nest_t", 28, "it takes 16 px and more in steps of 16"),
    "efficientformerv2_s0 28": ("efficientformerv2_s0", 28, "it takes 32 px and more in steps of 32"),
    "by any name 28": ("timm/convnext_atto", 28, "of 28, 64, 96, 128, 224 px it takes 64, 96, 128, 224"),
    "built for one size": ("timm/efficientformer_l1", 64, "of 28, 64, 96, 128, 224 px it takes 224"),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_a_size_that_cannot_be_taken_names_those_that_can(case: str) -> None:
    """It is refused when the model is built, from the spec or because it was tried."""
    name, img_size, message = REFUSED[case]
    with pytest.raises(ModelError) as caught:
        create_model(name, num_classes=2, img_size=img_size)
    assert message in str(caught.value)
    assert f"{name} cannot take {img_size} px" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_size_is_tried_once(forgotten: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second build of the same size sends no image through the model; another size does."""
    tried = []
    original = timm_models._try_size
    monkeypatch.setattr(timm_models, "_try_size", lambda *given: (tried.append(given[1]), original(*given)))
    for size in (32, 32, 40, 32):
        create_model("timm/resnet10t", num_classes=2, img_size=size)
    assert tried == [(1, 3, 32, 32), (1, 3, 40, 40)]


def test_trying_a_size_leaves_no_trace(forgotten: None) -> None:
    """The first build and a later one have the same weights, statistics and mode, and draw the same numbers."""
    states, draws = [], []
    for _ in range(2):
        torch.manual_seed(3)
        model = create_model("timm/test_vit", num_classes=2, img_size=160)
        assert model.training
        assert all(module.training for module in model.modules())
        states.append(model.state_dict())
        draws.append(torch.rand(1))
    assert torch.equal(*draws)
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    torch.manual_seed(3)
    direct = timm.create_model("test_vit", num_classes=2, img_size=160)
    assert all(torch.equal(value, states[0][key]) for key, value in direct.state_dict().items())
    assert torch.equal(torch.rand(1), draws[0])


def test_an_output_that_is_no_logits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """An architecture that returns a map or a tuple is refused when it is built."""

    class Pair(nn.Linear):
        def forward(self, x_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x_BCHW, x_BCHW

    for network, message in ((nn.Conv2d(3, 2, 1), r"it gives \(1, 2, 30, 30\)"), (Pair(2, 2), "it gives tuple")):
        monkeypatch.setattr(timm_models, "_create", lambda *_, network=network, **__: network)
        with pytest.raises(ModelError, match=f"cannot take 30 px images .{message} instead of logits"):
            timm_models.build_timm(num_classes=2, img_size=30, timm_name="resnet10t")


def test_an_unknown_architecture_is_one_clear_line() -> None:
    """timm's version is named, since the list of architectures depends on it."""
    with pytest.raises(ModelError, match=rf"timm {timm.__version__} has no architecture 'resnet19x'"):
        create_model("timm/resnet19x", num_classes=2)


@pytest.mark.parametrize(
    "name", ["resnet18", "swin_t", "efficientformerv2_s0", "medspectralnet", "timm/resnet26.bt_in1k"]
)
def test_weights_that_cannot_be_fetched_are_told_within_seconds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network and without the file there is one line with what to do, never a silent scratch run."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(timm_models, "try_to_load_from_cache", lambda *_: None)
    started = time.monotonic()
    with pytest.raises(ModelError, match=r"not in the cache and HF_HUB_OFFLINE is set; put the file into the cache"):
        create_model(name, num_classes=2, pretrained=True)
    assert time.monotonic() - started < 10


def test_weights_that_do_not_exist_are_one_clear_line() -> None:
    """An unknown tag points to timm's list; a model without a tag says so."""
    with pytest.raises(ModelError, match=r"timm has no weights 'resnet18\.nope'; see timm\.list_pretrained"):
        create_model("timm/resnet18.nope", num_classes=2, pretrained=True)
    with pytest.raises(ModelError, match="no public ImageNet-1k weights"):
        create_model("timm/resnet18", num_classes=2, pretrained=True)


def test_public_weights_go_into_all_layers_but_the_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both heads of EfficientFormerV2 keep their initialisation, all else is the source's; timm's download is faked."""
    torch.manual_seed(0)
    source = timm.create_model("efficientformerv2_s0", num_classes=1000)
    model = create_model("efficientformerv2_s0", num_classes=2)
    heads = {key: value.clone() for key, value in model.state_dict().items() if key.startswith("head")}
    monkeypatch.setattr(timm_models, "_is_cached", lambda *_: True)
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: source)
    timm_models.load_pretrained(model, "efficientformerv2_s0", "snap_dist_in1k", in_chans=3)
    for key, value in model.state_dict().items():
        assert torch.equal(value, heads[key] if key in heads else source.state_dict()[key]), key
    assert {key.split(".")[0] for key in heads} == {"head", "head_dist"}
