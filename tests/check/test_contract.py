"""The contract suite: it holds for every registered network, and a broken model breaks it in one line."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from bench.check import contract
from bench.check.contract import CHECKS, check_model
from bench.check.contract_sizes import PROTOCOL_PX, usual_size
from bench.check.contract_subject import Subject
from bench.machine import foreign
from bench.protocols.loading import load_protocol
from models import catalog, get_spec, list_models, load_plugin

NETWORKS = [name for name in list_models() if get_spec(name).kind == "network"]
# One of each family runs at every test run; its larger siblings and variants under the marker `slow`.
SLOW_SIBLINGS = {
    "medmamba_b",
    "medmamba_b_paper",
    "medmamba_s",
    "medmamba_s_paper",
    "medspectralnet_no_flow1",
    "medspectralnet_no_flow2",
    "medspectralnet_no_gate",
    "medvit_l",
    "medvit_s",
    "resnet50",
    "resnet50_28",
}
DESIGN_CARD = ["medspectralnet", "resnet18", "resnet50", "medvit_t", "swin_t", "convnext_t", "medmamba_t"]
ONE_A_FAMILY = [*NETWORKS, "timm/resnet26"]
COMPILED = [name for name in ONE_A_FAMILY if name not in SLOW_SIBLINGS and name != "medspectralnet_8m5"]

PLUGIN = """
from torch import nn
from models import register_model

@register_model(source="a test", code_license="MIT", {claims})
def {name}(*, num_classes, in_chans=3, img_size=224, pretrained=False):
    return {network}
"""
GOOD = """nn.Sequential(
        nn.Conv2d(in_chans, 8, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes)
    )"""


def slow_if_sibling(name: str) -> object:
    return pytest.param(name, marks=pytest.mark.slow) if name in SLOW_SIBLINGS else name


def broken(rows: list[dict[str, str]]) -> dict[str, str]:
    return {row["check"]: row["detail"] for row in rows if row["holds"] == "no"}


def write_plugin(folder: Path, name: str, network: str, claims: str = "") -> str:
    """Register a model of one expression; it is gone again when the test ends (fixture `plugins`)."""
    path = folder / f"{name}.py"
    path.write_text(PLUGIN.format(name=name, network=network, claims=claims), encoding="utf-8")
    return load_plugin(path)[0]


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for plugins that are forgotten afterwards."""
    monkeypatch.setattr(catalog, "_plugins", {})
    return tmp_path


@pytest.mark.parametrize("name", [slow_if_sibling(name) for name in ONE_A_FAMILY])
def test_every_network_keeps_the_contract_at_64_px(name: str) -> None:
    """All checks hold; only an absent claim is skipped."""
    rows = check_model(name, img_size=64)
    assert not broken(rows)
    assert [row["check"] for row in rows] == list(CHECKS)
    unclaimed = {"num_params"} if get_spec(name).num_params is None else set()
    assert {row["check"] for row in rows if row["holds"] == "skipped"} == unclaimed


@pytest.mark.slow
@pytest.mark.parametrize("name", DESIGN_CARD)
def test_the_design_cards_models_keep_the_contract_at_224_px(name: str) -> None:
    """So also at the paper's size."""
    assert not broken(check_model(name, img_size=224))


@pytest.mark.slow
@pytest.mark.parametrize("img_size", [28, 96])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_keeps_the_contract_at_the_other_protocol_sizes(name: str, img_size: int) -> None:
    """28 and 96 px either hold or are refused by the spec."""
    spec = get_spec(name)
    rows = check_model(name, img_size=img_size)
    if img_size < spec.min_size or img_size % spec.size_multiple:
        assert list(broken(rows)) == ["build"]
        assert f"cannot take {img_size} px" in broken(rows)["build"]
    else:
        assert not broken(rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
def test_torch_compile_equals_eager(name: str) -> None:
    """Compiled logits are the eager ones, for one model of each family."""
    with foreign.restored():
        assert "of the norm" in contract.check_compile(Subject(name, 64))


def test_a_plugin_by_path_keeps_the_contract(plugins: Path) -> None:
    """A file that the catalogue loaded is checked like a registered family, one channel and all."""
    name = write_plugin(plugins, "tiny_net", GOOD, claims="num_params=296")
    rows = check_model(name, img_size=32)
    assert {row["holds"] for row in rows} == {"yes"}
    assert {row["model"] for row in rows} == {name}


def test_fitted_models_are_exempt() -> None:
    """Floors and scikit-learn models have no network: one skipped row."""
    for name in ("floor/prior", "sklearn/logistic"):
        assert [row["holds"] for row in check_model(name)] == ["skipped"]


def test_the_callers_generator_is_left_alone(plugins: Path) -> None:
    """Checking a model between two draws moves neither."""
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    first = torch.rand(1)
    check_model(write_plugin(plugins, "quiet_net", GOOD), img_size=8)
    assert torch.equal(torch.cat([first, torch.rand(1)]), expected)


NETWORK_CLASS = """
from torch import nn
import torch
from models import register_model

class Net(nn.Module):
    def __init__(self, num_classes, in_chans):
        super().__init__()
        self.conv = nn.Conv2d(in_chans, 8, 3, padding=1)
        self.head = nn.Linear(8, num_classes)
        {extra}

    def forward(self, x):
        logits = self.head(self.conv(x).relu().mean((2, 3)))
        return {returned}

@register_model(source="a test", code_license="MIT", {claims})
def {name}(*, num_classes, in_chans=3, img_size=224, pretrained=False):
    return Net(num_classes, in_chans)
"""
# What is wrong -> code in __init__, what forward returns, claims; the rows that must say no, words of the first.
DEFECTS: dict[str, tuple[str, str, str, dict[str, str]]] = {
    "tuple": ("", "(logits, logits)", "", {"forward": "a tuple of 2, not a tensor of logits; return the logits alone"}),
    "dict": (
        "",
        "{'aux': 1, 'logits': logits}",
        "",
        {"forward": "keys aux, logits, not a tensor of logits; return its"},
    ),
    "softmax": ("", "logits.softmax(1)", "", {"forward": "probabilities, each row sums to 1: leave the softmax"}),
    "shape": ("", "logits[:, :1]", "", {"forward": "shape (3, 1) instead of (3, 7); give the last layer num_classes"}),
    "map": ("", "logits[:, :, None, None]", "", {"forward": "average the map and flatten it"}),
    "nan": ("", "logits / 0 * 0", "", {"forward": "21 of 21 logits are not finite"}),
    "raises": ("", "logits.no_such_thing", "", {"forward": "AttributeError"}),
    "build": ("raise RuntimeError('first line\\nsecond line')", "logits", "", {"build": "RuntimeError: first line"}),
    "random": ("", "logits + torch.rand(())", "", {"eval determinism": "two calls"}),
    "mixing": ("", "logits - logits.mean(0)", "", {"batch independence": "beside other images"}),
    "unused": ("self.spare = nn.Linear(2, 2)", "logits", "", {"backward": "spare.weight takes no part"}),
    "dead": ("self.spare = nn.Parameter(torch.ones(1))", "logits + 0 * self.spare", "", {"gradients": "spare"}),
    "count": ("", "logits", "num_params=5", {"num_params": "claims 5, counted 296"}),
    "channels": ("", "logits if x.shape[1] == 3 else logits[:1, :2]", "", {"one channel": "shape (1, 2)"}),
    "order": ("", "logits + logits.numel() * (x.stride(1) == 1)", "", {"channels_last": "differ by"}),
    "autocast": ("", "logits if logits.dtype == torch.float32 else 3 * logits", "", {"autocast": "differ by"}),
    "size": ("", "logits.view(-1, x.shape[2] // 9 and logits.shape[1])", "", {"sizes": "set min_size"}),
    "claimed": ("", "logits[:, : x.shape[2] + 2]", "min_size=4", {"sizes": "4 px is accepted and fails"}),
    "state": ("self.scale = torch.rand(7)", "logits * self.scale[0]", "", {"state dict": "not in the state dict"}),
    "seed": ("import os; self.conv.weight.data += os.urandom(1)[0]", "logits", "", {"initialisation": "two builds"}),
}


@pytest.mark.parametrize("defect", sorted(DEFECTS))
def test_a_defect_is_a_row_with_one_line(defect: str, plugins: Path) -> None:
    """Each defect is named by the check that is there for it; nothing raises."""
    extra, returned, claims, expected = DEFECTS[defect]
    name = f"net_{defect}"
    path = plugins / f"{name}.py"
    path.write_text(NETWORK_CLASS.format(name=name, extra=extra, returned=returned, claims=claims), encoding="utf-8")
    load_plugin(path)
    failures = broken(check_model(name, img_size=16))
    assert expected.keys() <= failures.keys(), failures
    for check, words in expected.items():
        assert words in failures[check]
    assert next(iter(failures)) == next(iter(expected)), failures
    assert all("\n" not in detail and len(detail) < 400 for detail in failures.values())


FIXED = """nn.Sequential(
        nn.Conv2d(in_chans, 4, 3, stride=8), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 8 * 8, num_classes)
    )"""


@pytest.mark.parametrize(("claims", "holds"), [("min_size=64", "no"), ("img_sizes=(64,)", "yes")])
def test_a_model_of_one_size_is_found_unless_it_says_so(claims: str, holds: str, plugins: Path) -> None:
    """What would crash under lite-96 is one row that says what to change, and nothing once the size is claimed."""
    rows = check_model(write_plugin(plugins, f"fixed_{holds}", FIXED, claims))
    failures = broken(rows)
    if holds == "yes":
        assert not failures
        return
    assert list(failures) == ["sizes"]
    assert "fails at 96 px (lite-96): RuntimeError" in failures["sizes"]
    assert "img_sizes=(64,) in register_model" in failures["sizes"]


def test_sizes_of_the_protocols_are_tried() -> None:
    """The sizes that the contract names beside a protocol are that protocol's."""
    for size, name in PROTOCOL_PX.items():
        assert not name or load_protocol(name).data.img_size == size
    assert {size for size, name in PROTOCOL_PX.items() if name} == {96, 224}


def test_a_model_without_a_forward_pass_is_two_rows(plugins: Path) -> None:
    """Nothing else is tried: the error with the file's line, and how many checks wait for it."""
    path = plugins / "net_wrong.py"
    path.write_text(
        NETWORK_CLASS.format(name="net_wrong", extra="", returned="logits @ logits", claims=""), encoding="utf-8"
    )
    load_plugin(path)
    first, rest = check_model("net_wrong")
    line = path.read_text(encoding="utf-8").splitlines().index("        return logits @ logits") + 1
    assert (first["check"], first["holds"]) == ("forward", "no")
    assert first["detail"].endswith(f"(net_wrong.py:{line}, in forward)")
    assert (rest["holds"], rest["detail"].split()[0]) == ("skipped", str(len(CHECKS) - 1))


def test_an_error_is_told_once(plugins: Path) -> None:
    """What fails in training mode alone is one row that says no; the checks that meet it again name the first."""
    path = plugins / "net_train.py"
    returned = "logits.no_such_thing if self.training else logits"
    path.write_text(NETWORK_CLASS.format(name="net_train", extra="", returned=returned, claims=""), encoding="utf-8")
    load_plugin(path)
    rows = {row["check"]: row for row in check_model("net_train", img_size=16)}
    assert [check for check, row in rows.items() if row["holds"] == "no"] == ["sizes", "backward"]
    assert rows["training step"]["detail"] == "fails as backward does"


def test_the_usual_size_is_one_that_the_model_takes(plugins: Path) -> None:
    """64 px where it can, else the nearest above it, else the largest that it lists."""
    for claims, size in [("", 64), ("size_multiple=28", 84), ("min_size=100", 100), ("img_sizes=(28, 32)", 32)]:
        name = write_plugin(plugins, f"net_{size}", GOOD, claims)
        assert usual_size(get_spec(name)) == size


def test_a_draw_that_happens_once_a_process_is_found(plugins: Path) -> None:
    """A probe that draws at the first build only is caught by the build in a fresh process."""
    extra = "'probe' in globals() or globals().update(probe=torch.rand(1)); nn.init.normal_(self.head.weight)"
    path = plugins / "net_once.py"
    path.write_text(NETWORK_CLASS.format(name="net_once", extra=extra, returned="logits", claims=""), encoding="utf-8")
    load_plugin(path)
    with foreign.restored():
        foreign.create("net_once", seed=0, num_classes=2)  # the process of a longer session: the probe is over
    assert "first build of a process differs" in broken(check_model("net_once", img_size=8))["initialisation"]


def test_a_stale_exemption_is_found(plugins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A parameter that is listed as one without a gradient, but has one, breaks the contract."""
    name = write_plugin(plugins, "listed_net", GOOD)
    monkeypatch.setattr(contract, "EXEMPT", (("listed_*", "4.bias", 64, "no reason"),))
    assert "4.bias gets a gradient" in broken(check_model(name, img_size=16))["gradients"]


def test_a_model_that_exits_is_a_row_too(plugins: Path) -> None:
    """It ends its own check and not the command."""
    rows = check_model(write_plugin(plugins, "leaving_net", "__import__('sys').exit(3)"))
    assert broken(rows) == {
        "build": "leaving_net ends the process with sys.exit(3) (leaving_net.py:7, in leaving_net); remove that"
    }


def test_unknown_models_are_the_callers_error() -> None:
    """A mistyped name is a ModelError with the closest one, not a row."""
    with pytest.raises(catalog.ModelError, match="did you mean 'resnet18'"):
        check_model("resnet81")


def test_a_warning_of_a_model_is_no_defect_outside_the_tests(plugins: Path) -> None:
    """Warnings are the model's own business unless the caller makes errors of them."""
    path = plugins / "net_warns.py"
    extra = "import warnings; warnings.warn('old', stacklevel=2)"
    path.write_text(NETWORK_CLASS.format(name="net_warns", extra=extra, returned="logits", claims=""), encoding="utf-8")
    load_plugin(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert not broken(check_model("net_warns", img_size=8))
