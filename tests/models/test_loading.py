"""A plugin's module is imported as Python imports modules, and its digest covers all files of its own."""

from __future__ import annotations

import importlib.metadata
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from models import ModelError, catalog, create_model, fingerprint, get_spec, load_plugin
from models.loading import import_file
from models.sources import locate, sources

ROOT = Path(__file__).parents[2]
MODEL = """
from torch import nn
from models import register_model
{head}

@register_model(source="a test")
def {name}(*, num_classes, in_chans=3, img_size=28, pretrained=False):
    {before}
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_chans, num_classes))
"""
DATACLASS = """
from __future__ import annotations
from dataclasses import dataclass
from typing import ClassVar
@dataclass
class Config:
    width: int = 8
    kind: ClassVar[str] = "small"
"""


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Plugins, modules and paths of a test are gone when it ends."""
    monkeypatch.setattr(catalog, "_plugins", {})
    monkeypatch.setattr(catalog, "_builtin", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        if name.startswith("_medbench_plugin_") or "pytest-of" in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def write(path: Path, name: str, head: str = "", before: str = "pass", encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    first = "" if encoding == "utf-8" else f"# -*- coding: {encoding} -*-\n"
    path.write_bytes((first + MODEL.format(head=head, name=name, before=before)).encode(encoding))
    return path


def builds(path: Path) -> bool:
    """Whether the model of a plugin can be loaded, built and run."""
    (name,) = load_plugin(path)
    return create_model(name, num_classes=4, img_size=28)(torch.zeros(2, 3, 28, 28)).shape == (2, 4)


def test_a_module_is_known_before_it_runs(tmp_path: Path) -> None:
    """Dataclasses look their module up while they are made, pickle when an object travels."""
    path = tmp_path / "dc_net.py"
    path.write_text(DATACLASS + MODEL.format(head="", name="dc_net", before="Config()"), encoding="utf-8")
    assert builds(path)
    module = import_file(path)
    assert sys.modules[module.__name__] is module
    assert pickle.loads(pickle.dumps(module.Config(3))) == module.Config(3)


@pytest.mark.parametrize("name", ["my-net.py", "my net.v2.py", "naïve.py", "class.py", "torch.py", "models.py"])
def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    """It replaces no other module."""
    before = {key: sys.modules[key] for key in ("torch", "models")}
    assert builds(write(tmp_path / name, "named_net"))
    assert {key: sys.modules[key] for key in before} == before


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252"])
def test_the_encoding_is_the_one_that_the_file_declares(tmp_path: Path, encoding: str) -> None:
    assert builds(write(tmp_path / "text_net.py", "text_net", before="'für Übungen'", encoding=encoding))


@pytest.mark.parametrize(
    ("head", "with_init"),
    [
        ("from .blocks import stem", True),
        ("from .blocks import stem", False),
        ("from . import blocks", True),
        ("from .. import pkg\nfrom ..shared.more import stem", True),
        ("import pkg.blocks", True),
        ("from pkg.blocks import stem\nfrom .blocks import stem as other\nassert stem is other", True),
    ],
)
def test_a_file_of_a_package_is_imported_as_its_module(tmp_path: Path, head: str, with_init: bool) -> None:
    """Relative imports and the package's own name work, as they do where the package is installed."""
    for folder in (tmp_path / "lib" / "pkg", tmp_path / "lib" / "shared"):
        folder.mkdir(parents=True)
        if with_init:
            (folder / "__init__.py").write_text("")
    (tmp_path / "lib" / "pkg" / "blocks.py").write_text("def stem(): pass\n")
    (tmp_path / "lib" / "shared" / "more.py").write_text("def stem(): pass\n")
    assert builds(write(tmp_path / "lib" / "pkg" / "nets.py", "pkg_net", head=head))


def test_a_package_named_models_is_a_plugin_like_any_other(tmp_path: Path) -> None:
    """`from models import register_model` is the suite's, `from .blocks` is theirs."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("")
    (tmp_path / "models" / "blocks.py").write_text("stem = 1\n")
    assert builds(write(tmp_path / "models" / "nets.py", "theirs_net", head="from .blocks import stem"))


def test_a_file_beside_the_plugin_can_be_imported(tmp_path: Path) -> None:
    (tmp_path / "helpers_of_beside.py").write_text("width = 3\n")
    assert builds(write(tmp_path / "net.py", "beside_net", head="from helpers_of_beside import width"))


def test_a_name_that_means_another_file_is_refused(tmp_path: Path) -> None:
    """Two plugins with helpers of one name: the second would silently get the first one's."""
    for folder in ("a", "b"):
        write(tmp_path / folder / "net.py", f"{folder}_net", head="import helpers_of_two")
        (tmp_path / folder / "helpers_of_two.py").write_text(f"name = {folder!r}\n")
    assert builds(tmp_path / "a" / "net.py")
    with pytest.raises(ModelError, match=r"net\.py imports 'helpers_of_two' from .*b/helpers_of_two\.py, .* rename it"):
        builds(tmp_path / "b" / "net.py")


def test_a_file_that_fails_is_tried_again(tmp_path: Path) -> None:
    """Half a module is never left behind."""
    path = write(tmp_path / "broken_net.py", "broken_net", head="raise RuntimeError('no kernel')")
    load_plugin(path)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no kernel"):
            create_model("broken_net", num_classes=2, img_size=28)


@pytest.mark.parametrize("head", ["from .blocks import stem", "from pkg.blocks import stem", "from . import blocks"])
def test_the_fingerprint_covers_a_plugins_own_files(tmp_path: Path, head: str) -> None:
    """A change in what it imports, at any depth and in its package, is another model; comments are not."""
    folder = tmp_path / "pkg"
    path = write(folder / "nets.py", "own_net", head=head)
    for name, text in {"__init__": "", "blocks": "from . import deep\nstem = 1\n", "deep": "x = 1\n"}.items():
        (folder / f"{name}.py").write_text(text)
    (folder / "unused.py").write_text("x = 1\n")
    load_plugin(path)
    digests = [fingerprint(get_spec("own_net"))]
    (folder / "unused.py").write_text("x = 2\n")
    (folder / "deep.py").write_text("x = 1  # a comment\n")
    assert fingerprint(get_spec("own_net")) == digests[0]
    for name in ("deep", "blocks", "__init__"):
        (folder / f"{name}.py").write_text((folder / f"{name}.py").read_text() + "y = 2\n")
        digests.append(fingerprint(get_spec("own_net")))
    assert len(set(digests)) == 4


def test_packages_that_are_installed_beside_it_are_not_its_own(tmp_path: Path) -> None:
    """A plugin in site-packages is not made of torch."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise RuntimeError\n")
    (tmp_path / "torch-2.0.dist-info").mkdir()
    path = write(tmp_path / "site_net.py", "site_net")
    assert sources(path).files == (path,)
    assert builds(path)


def test_an_entry_point_is_imported_under_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its package, which is not executed by listing."""
    (tmp_path / "entrypkg").mkdir()
    (tmp_path / "entrypkg" / "__init__.py").write_text("import builtins\nbuiltins.entrypkg_ran = True\n")
    (tmp_path / "entrypkg" / "blocks.py").write_text("stem = 1\n")
    write(tmp_path / "entrypkg" / "nets.py", "entry_net", head="from .blocks import stem")
    monkeypatch.syspath_prepend(tmp_path)
    entry = importlib.metadata.EntryPoint("nets", "entrypkg.nets", catalog.ENTRY_POINT_GROUP)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: [entry] if group == entry.group else [])
    assert get_spec("entry_net").module == "entrypkg.nets"
    assert not hasattr(__import__("builtins"), "entrypkg_ran")
    assert create_model("entry_net", num_classes=4, img_size=28)(torch.zeros(2, 3, 28, 28)).shape == (2, 4)
    assert sys.modules["entrypkg.nets"].entry_net
    del __import__("builtins").entrypkg_ran


def test_a_module_is_located_without_being_executed() -> None:
    assert locate("models.medvit") == ROOT / "models" / "medvit.py"
    assert locate("models.no_such_file") is None
    assert locate("no_such_package.nets") is None


def test_another_package_named_models_does_not_hide_the_suites(tmp_path: Path) -> None:
    """First on the path it is passed over; imported already, it is named in one line."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("")
    code = "import bench; from models import list_models; assert 'resnet18' in list_models()"
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    command = [sys.executable, "-c", f"import models; {code}"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "ImportError: another package named 'models' is imported already" in done.stderr.splitlines()[-1]
