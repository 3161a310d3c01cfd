"""The catalogue: read from text without torch, one decorated function a model, digests of what counts."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models import (
    ModelError,
    catalog,
    create_model,
    fingerprint,
    get_spec,
    list_models,
    load_plugin,
    register_model,
    sources,
)

ROOT = Path(__file__).parents[2]
PLUGIN = '''"""A plugin in a few lines."""

from torch import nn

from models import register_model


@register_model(
    paper="https://example.org/paper",
    source="a test",
    code_license="MIT",
    num_params=4_208,
    min_size=8,
    size_multiple=2,
)
def {name}(*, num_classes, in_chans=3, img_size=224, pretrained=False, width=16):
    """A pooled convolution."""
    conv = nn.Conv2d(in_chans, width, 8, stride=2)
    return nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))
'''


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plugins and entry points of a test are gone when it ends."""
    monkeypatch.setattr(catalog, "_plugins", {})
    monkeypatch.setattr(catalog, "_builtin", {})


def write(folder: Path, name: str, text: str = PLUGIN) -> Path:
    path = folder / f"{name}.py"
    path.write_text(text.replace("{name}", name), encoding="utf-8")
    return path


def test_listing_imports_neither_torch_nor_timm() -> None:
    """Names, specs and digests come from the files' text, in a process where the heavy packages are blocked."""
    code = """
import sys
for name in ("torch", "timm", "torchvision", "medmnist", "numpy"):
    sys.modules[name] = None
from models import fingerprint, get_spec, list_models
names = list_models()
assert {"medspectralnet", "resnet18", "floor/prior", "sklearn/logistic"} <= set(names), names
assert all(len(fingerprint(get_spec(name))) == 64 for name in names)
print(*names)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == list_models()


def test_names_are_filtered_by_a_shell_pattern() -> None:
    """`med*` gives MedSpectralNet, MedViT and MedMamba and nothing else; the order is alphabetical."""
    names = list_models("med*")
    assert {"medspectralnet", "medspectralnet_8m5", "medvit_t", "medmamba_t"} <= set(names)
    assert all(name.startswith(("medspectralnet", "medvit_", "medmamba_")) for name in names)
    assert names == sorted(names)
    assert list_models("nothing*") == []


def test_every_spec_says_where_it_comes_from() -> None:
    """Paper, source and licences are never empty; a network with public weights says under which licence they are."""
    for name in list_models():
        spec = get_spec(name)
        assert spec.paper.startswith("https://"), name
        assert spec.source, name
        assert spec.code_license, name
        assert spec.weights_license, name
        assert bool(spec.pretrained_tag) == ("ImageNet-1k" in spec.weights_license), name
        if spec.kind == "network":
            assert spec.num_params, name
            assert spec.target_layer, name


def test_light_models_of_the_papers_field_are_registered() -> None:
    """The seven names of the study `lightweight` exist, and the study compares them with MedSpectralNet."""
    light = {"mobilevitv2_100", "nest_t", "mobilenetv4_s", "fastvit_t8"}
    light |= {"edgenext_s", "efficientformerv2_s0", "mambaout_t"}
    study = tomllib.loads((ROOT / "bench" / "studies" / "lightweight.toml").read_text(encoding="utf-8"))
    (part,) = study["parts"]
    assert light | {"medspectralnet", "resnet18"} <= set(part["models"])
    assert part["protocols"] == ["lite-96"]
    assert set(part["models"]) <= set(list_models())
    assert len(part["datasets"]) == 6
    assert part["seeds"] == [0, 1, 2]


def test_a_plugin_of_fewer_than_25_lines_works_by_path(tmp_path: Path) -> None:
    """Load, list, build with an option, run: nothing else is needed."""
    path = write(tmp_path, "plug_net")
    assert len(path.read_text(encoding="utf-8").splitlines()) < 25
    assert load_plugin(path) == ["plug_net"]
    assert "plug_net" in list_models("plug*")
    assert get_spec("plug_net").paper == "https://example.org/paper"
    model = create_model("plug_net", num_classes=5, in_chans=1, img_size=8, width=4)
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 5)
    assert load_plugin(path) == ["plug_net"]  # the same file again is no clash


def test_an_entry_point_adds_the_models_of_its_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that names a module in the group `medbench.models` is registered; it cannot replace a built-in."""
    write(tmp_path, "entry_net", PLUGIN + PLUGIN[PLUGIN.index("@register") :].replace("{name}", "resnet18"))
    monkeypatch.syspath_prepend(tmp_path)
    entry = importlib.metadata.EntryPoint("entry", "entry_net", catalog.ENTRY_POINT_GROUP)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: [entry] if group == entry.group else [])
    assert "entry_net" in list_models()
    assert get_spec("resnet18").timm_name == "resnet18"
    assert create_model("entry_net", num_classes=3, img_size=16)(torch.zeros(1, 3, 16, 16)).shape == (1, 3)


def test_an_entry_point_to_nowhere_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the entry point and the module."""
    entry = importlib.metadata.EntryPoint("entry", "no_such_module_here", catalog.ENTRY_POINT_GROUP)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: [entry])
    with pytest.raises(ModelError, match="'entry' names 'no_such_module_here', which is no importable module"):
        list_models()


def test_an_unknown_model_is_told_the_closest_name() -> None:
    """A typo gets a suggestion, gibberish the list."""
    with pytest.raises(ModelError, match="Unknown model 'medspectalnet'; did you mean 'medspectralnet'"):
        get_spec("medspectalnet")
    with pytest.raises(ModelError, match=r"known: .*resnet18"):
        get_spec("qqqqqqqq")
    with pytest.raises(ModelError, match="Unknown model 'timm/'"):
        get_spec("timm/")


def test_any_timm_architecture_has_a_spec() -> None:
    """`timm/<name>.<tag>` is architecture and tag, and claims nothing that nobody checked."""
    spec = get_spec("timm/resnet26.bt_in1k")
    assert (spec.timm_name, spec.pretrained_tag, spec.num_params) == ("resnet26", "bt_in1k", None)


def test_a_taken_name_is_refused(tmp_path: Path) -> None:
    """A plugin can neither replace a built-in nor another plugin; the other file is named."""
    with pytest.raises(ModelError, match=r"registers 'resnet18', which is taken by timm_models\.py; rename it"):
        load_plugin(write(tmp_path, "resnet18"))
    other = tmp_path / "other"
    other.mkdir()
    load_plugin(write(tmp_path, "twice_net"))
    with pytest.raises(ModelError, match=r"taken by twice_net\.py"):
        load_plugin(write(other, "twice_net"))


BAD_FILES = {
    "no literal": (PLUGIN.replace("4_208", "sum([1, 2])"), "num_params of {name} must be a literal value"),
    "unknown key": (PLUGIN.replace("code_license", "licence"), "register_model got 'licence' for {name}; known keys: "),
    "no key": (PLUGIN.replace("4_208", "{[]: 1}"), "num_params of {name} must be a literal value"),
    "another type": (PLUGIN.replace("4_208", "'many'"), "num_params of {name} is 'many'; write int | None"),
    "a truth": (PLUGIN.replace("4_208", "True"), "num_params of {name} is True; write int | None"),
    "no step": (PLUGIN.replace("size_multiple=2", "size_multiple=0"), "size_multiple of {name} is 0; write int of at"),
    "no brackets": (
        PLUGIN.split("@register_model")[0] + "@register_model\ndef {name}():\n    pass\n",
        "needs its brackets",
    ),
    "no model": ("x = 1\n", "holds no function decorated with @register_model"),
    "no python": ("def (:\n", "is not Python"),
}


@pytest.mark.parametrize("fault", sorted(BAD_FILES))
def test_a_bad_file_is_one_clear_line(fault: str, tmp_path: Path) -> None:
    """What is wrong, where, and nothing is registered."""
    text, message = BAD_FILES[fault]
    with pytest.raises(ModelError) as caught:
        load_plugin(write(tmp_path, "bad_net", text))
    assert message.format(name="bad_net") in str(caught.value)
    assert "bad_net.py" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "bad_net" not in list_models()


def test_a_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    """It is named."""
    with pytest.raises(ModelError, match=r"Cannot read the model file .*nowhere\.py"):
        load_plugin(tmp_path / "nowhere.py")


def test_the_decorator_itself_refuses_unknown_keys() -> None:
    """Also where a file is executed before the catalogue reads it."""
    with pytest.raises(ModelError, match="register_model got 'licence'"):
        register_model(licence="MIT")


def test_sizes_outside_the_spec_are_refused_before_anything_is_imported(tmp_path: Path) -> None:
    """Too small and between two steps: the error names what would do; fitted models have nothing to build."""
    load_plugin(write(tmp_path, "sized_net"))
    for size in (7, 9):
        with pytest.raises(ModelError, match=f"sized_net cannot take {size} px images; it takes 8 px .* in steps of 2"):
            create_model("sized_net", num_classes=2, img_size=size)
    with pytest.raises(ModelError, match="has no network"):
        create_model("floor/prior", num_classes=2)
    with pytest.raises(ModelError, match="no public ImageNet-1k weights"):
        create_model("sized_net", num_classes=2, img_size=8, pretrained=True)


def digest_of(tmp_path: Path, text: str, **changes: object) -> str:
    path = write(tmp_path, "digest_net", text)
    (spec,) = catalog.read_file(path)
    return fingerprint(replace(spec, **changes), "1.0")


SAME = {
    "comments": PLUGIN.replace("    conv =", "    # why\n    conv ="),
    "docstrings": PLUGIN.replace("A pooled convolution.", "Another sentence.").replace("A plugin in", "Some"),
    "no docstrings": PLUGIN.replace('    """A pooled convolution."""\n', ""),
    "white space": PLUGIN.replace("(conv, ", "(\n        conv,\n        ").replace("\n\n\n", "\n\n\n\n\n"),
    "quotes": PLUGIN.replace('"MIT"', "'MIT'"),
    "parentheses": PLUGIN.replace("stride=2", "stride=(2)"),
}
DIFFERENT = {
    "a number": PLUGIN.replace("stride=2", "stride=4"),
    "a name": PLUGIN.replace("nn.ReLU", "nn.GELU"),
    "an argument": PLUGIN.replace("width=16", "width=32"),
    "a statement": PLUGIN.replace("    conv =", "    width += 1\n    conv ="),
    "order": PLUGIN.replace("conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1)", "conv, nn.AdaptiveAvgPool2d(1), nn.ReLU()"),
}


@pytest.mark.parametrize("change", sorted(SAME))
def test_the_fingerprint_ignores_how_code_is_written(change: str, tmp_path: Path) -> None:
    """Comments, docstrings and layout make no record stale."""
    assert SAME[change] != PLUGIN
    assert digest_of(tmp_path, SAME[change]) == digest_of(tmp_path, PLUGIN)


@pytest.mark.parametrize("change", sorted(DIFFERENT))
def test_the_fingerprint_changes_with_the_code(change: str, tmp_path: Path) -> None:
    """Whatever can move a number makes records stale."""
    assert DIFFERENT[change] != PLUGIN
    assert digest_of(tmp_path, DIFFERENT[change]) != digest_of(tmp_path, PLUGIN)


def test_the_fingerprint_covers_builder_and_options(tmp_path: Path) -> None:
    """Two models of one file, or one builder with two options, are told apart."""
    plain = digest_of(tmp_path, PLUGIN)
    assert digest_of(tmp_path, PLUGIN, options={"width": 32}) != plain
    assert digest_of(tmp_path, PLUGIN, function="another") != plain
    assert fingerprint(get_spec("resnet18"), "1.0") != fingerprint(get_spec("resnet50"), "1.0")


def test_the_fingerprint_covers_timm_where_it_is_used() -> None:
    """timm's version counts for what timm builds, also through an imported family, and for nothing else."""
    for name, counts in (("resnet18", True), ("medspectralnet", True), ("resnet18_28", False)):
        spec = get_spec(name)
        assert (fingerprint(spec, "1.0.30") != fingerprint(spec, "1.0.31")) == counts, name


def test_the_fingerprint_covers_the_families_that_a_file_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change in an imported file of `models/`, at any depth, makes the importer's records stale."""
    monkeypatch.setattr(sources, "HERE", tmp_path)
    write(tmp_path, "deep", "x = 1\n")
    write(tmp_path, "middle", "from models import deep\n")
    text = "from models.middle import nothing\n" + PLUGIN
    before = digest_of(tmp_path, text)
    assert digest_of(tmp_path, text) == before
    write(tmp_path, "deep", "x = 2\n")
    assert digest_of(tmp_path, text) != before


@given(st.text(alphabet="abcxyz0123456789#", max_size=20), st.integers(0, 14))
def test_a_comment_anywhere_leaves_the_fingerprint(text: str, line: int) -> None:
    """A comment on a line of its own never counts."""
    lines = PLUGIN.replace("{name}", "net").splitlines()
    changed = [*lines[:line], f"# {text}", *lines[line:]]
    trees = [sources.canonical(ast.parse("\n".join(part))) for part in (lines, changed)]
    assert trees[0] == trees[1]
