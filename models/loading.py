"""A model's module, imported as Python imports modules: the only place where model code is executed.

Each has its name in `sys.modules` before it runs, as dataclasses and pickle expect; a file that belongs to a package is
imported as its module; files beside it can be imported by name, and a name that means another file here is refused.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType

from models.sources import HERE, PLUMBING, Sources, sources

RUN_PACKAGES = ("kornia", "medmnist", "safetensors", "timm", "torch", "torchvision")
_SCRIPT = HERE.parent / "run_all.sh"  # of a checkout
RUN_ADVICE = (
    "`./run_all.sh setup` installs what runs need"
    if _SCRIPT.is_file()
    else "install the suite with its extra [run]: pip install '.[run]' in its checkout"
)


class ForeignNameError(ImportError):
    """A file's own file cannot be imported under its name; one line."""


def import_file(path: Path) -> ModuleType:
    """The module of a plugin's file, imported once.

    Raises:
        ForeignNameError: If a name that the file imports means something else in this process.
        Exception: What the file raises.
    """
    made_of = sources(path)
    digest = hashlib.sha256(str(path).encode(errors="surrogatepass")).hexdigest()[:12]  # two may share a file name
    alias = f"_medbench_plugin_{digest}"
    if made_of.beside and str(made_of.root) not in sys.path:
        sys.path.append(str(made_of.root))  # last: nothing that stands there takes the place of an installed package
        importlib.invalidate_caches()
    for name, file in made_of.beside:
        _check_name(name, file, path)
    if made_of.root != path.parent:
        return _import_member(made_of, alias)
    return _import_alone(path, f"{alias}_{re.sub(r'[^0-9A-Za-z_]', '_', path.stem)}")


def in_own_code(error: BaseException, file: Path) -> str:
    """Where an exception came through a model's own code, "" where it did not.

    ` (my_net.py:14, in forward)`: the last line of the file or of its own files; of layers that only a library calls,
    as those of an `nn.Sequential`, the layer: ` (in Linear(in_features=71, out_features=7, bias=True))`.
    """
    own = _own_files(file)
    frames = [frame for one in _chain(error) for frame in traceback.walk_tb(one.__traceback__)]
    for frame, line in reversed(frames):
        path, name = Path(frame.f_code.co_filename), frame.f_code.co_name
        if path.resolve() in own:
            return f" ({path.name}:{line}{'' if name == '<module>' else f', in {name}'})"
    layers = [frame.f_locals.get("self") for frame, _ in frames]
    layer = next((layer for layer in reversed(layers) if hasattr(layer, "extra_repr")), None)
    if layer is None:
        return ""
    says = " ".join(str(layer.extra_repr()).split())[:80]
    return f" (in {type(layer).__name__}({says}))"


def explain_import(error: ImportError, model: str, file: Path) -> str:
    """What a model's file imports in vain, where, and what would do; one line."""
    top = (error.name or "").partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and (file.parent == HERE or top in RUN_PACKAGES):
        return f"Model {model!r} needs the package {top!r}: {RUN_ADVICE}"
    where = in_own_code(error, file)
    if isinstance(error, ModuleNotFoundError):
        advice = f"install the package in this environment (pip install {top}), or correct the name"
        return f"{file.name} imports {error.name!r}, which is not installed{where}: {advice}"
    return f"{file.name}: {str(error).splitlines()[0] if str(error) else type(error).__name__}{where}"


def _own_files(file: Path) -> set[Path]:
    if file.parent == HERE:
        return {path for path in HERE.glob("*.py") if path.stem not in (*PLUMBING, "__init__")}
    try:
        return {path.resolve() for path in sources(file).files}
    except Exception:  # the file may be what is wrong
        return {file.resolve()}


def _chain(error: BaseException) -> list[BaseException]:
    """An exception and what it was raised from, the last to be raised first."""
    return [error, *(_chain(error.__cause__) if error.__cause__ is not None else [])]


def _check_name(name: str, file: Path, path: Path) -> None:
    try:
        found = importlib.util.find_spec(name)
    except ValueError:  # a module without a spec
        found = None
    places = [] if found is None else [found.origin, *(found.submodule_search_locations or [])]
    if not any(place is not None and Path(place).resolve() == file.resolve() for place in places):
        elsewhere = next((place for place in places if place), "nowhere")
        raise ForeignNameError(f"{path} imports {name!r} from {file}, but here that name is {elsewhere}; rename it")


def _import_member(made_of: Sources, alias: str) -> ModuleType:
    """A module of a package: by the package's own name where its files use that, else under a name of ours."""
    top = made_of.module.partition(".")[0]
    if top in dict(made_of.beside):
        return importlib.import_module(made_of.module)
    if alias not in sys.modules:
        holder = sys.modules[alias] = ModuleType(alias)
        holder.__path__ = [str(made_of.root)]
    return importlib.import_module(f"{alias}.{made_of.module}")


def _import_alone(path: Path, name: str) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    found = importlib.util.spec_from_file_location(name, path)
    assert found is not None
    assert found.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(found)
    try:
        found.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
