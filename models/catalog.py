"""The model catalogue: name -> `ModelSpec`, readable without torch.

A model is one decorated function in one file. The catalogue reads the decorator's arguments from the
file's syntax tree, so listing, planning and reporting never import a model; the builder is imported when
`create_model` is called. Three sources: the families in this folder, timm entries in `timm_models.toml`
and `fitted.toml`, and plugins (a file by path, or an entry point of the group `medbench.models` that names a module).
"""

from __future__ import annotations

import ast
import difflib
import fnmatch
import hashlib
import importlib
import importlib.metadata
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from models.loading import ForeignNameError, explain_import, import_file
from models.sources import HERE, locate, read_any, sources

FITTED = HERE.parent / "bench" / "classical.py"  # by path: nothing in models/ imports bench
ENTRY_POINT_GROUP = "medbench.models"
TIMM_PREFIX = "timm/"
Builder = TypeVar("Builder", bound=Callable[..., Any])


class ModelError(Exception):
    """What a user can fix about a model's name, file, size or weights; one line."""


@dataclass(frozen=True)
class ModelSpec:
    """What is known of a model without building it.

    Attributes:
        name: The registered name, for instance `medvit_t` or `timm/resnet26`.
        file: The file that holds the builder (its syntax tree is what `fingerprint` hashes).
        function: The builder's name in that file.
        paper: Address of the paper.
        source: Where the code comes from.
        code_license: Licence of the code that builds the model.
        weights_license: Licence of the public weights, or why there are none.
        num_params: Parameters with 8 classes, 3 channels, 224 px; None where nobody claims a count.
        min_size: Smallest height and width in pixels.
        size_multiple: Height and width must be a multiple of this.
        img_sizes: The only heights and widths that it takes; () for all from `min_size` in steps of `size_multiple`.
        published: What the literature prints for the same name, where it differs.
        differs: Deviations from the paper, stated.
        target_layer: Module path for Grad-CAM.
        pretrained_tag: timm tag of the public weights, "" where there are none.
        timm_name: timm's architecture name for models that timm builds.
        kind: `network`; `floor` and `sklearn` models are fitted, not trained.
        options: Keyword arguments that the builder always gets.
        module: The installed module that holds the builder, of an entry point.
    """

    name: str
    file: Path
    function: str
    paper: str = ""
    source: str = ""
    code_license: str = ""
    weights_license: str = "no public weights"
    num_params: int | None = None
    min_size: int = 1
    size_multiple: int = 1
    img_sizes: tuple[int, ...] = ()
    published: str = ""
    differs: str = ""
    target_layer: str = ""
    pretrained_tag: str = ""
    timm_name: str = ""
    kind: str = "network"
    options: Mapping[str, Any] = field(default_factory=dict)
    module: str = ""

    def takes(self, img_size: int) -> bool:
        """Whether the model claims to take images of this height and width."""
        listed = not self.img_sizes or img_size in self.img_sizes
        return listed and img_size >= self.min_size and img_size % self.size_multiple == 0

    @property
    def sizes(self) -> str:
        """`32 px and more in steps of 32`, or `64 or 96 px alone`: for messages."""
        if self.img_sizes:
            return f"{' or '.join(map(str, self.img_sizes))} px alone"
        return f"{self.min_size} px and more" + (f" in steps of {self.size_multiple}" if self.size_multiple > 1 else "")


# What a decorator may say of a model, with the type of each as `ModelSpec` has it.
NOT_SAID = ("name", "file", "function", "timm_name", "module")
METADATA = {f.name: str(f.type) for f in fields(ModelSpec) if f.name not in NOT_SAID}
TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "int | None": (int, type(None)),
    "tuple[int, ...]": (tuple, list),
    "Mapping[str, Any]": (dict,),
}


def register_model(**metadata: Any) -> Callable[[Builder], Builder]:
    """Mark a function as the builder of the model of the same name; it is returned unchanged.

    Args:
        **metadata: Fields of `ModelSpec`, each a literal, since the catalogue reads the file's text.

    Raises:
        ModelError: If a key is not a field of `ModelSpec`.
    """
    unknown = sorted(set(metadata) - set(METADATA))
    if unknown:
        raise ModelError(f"register_model got {unknown[0]!r}; known keys: {', '.join(METADATA)}")
    return lambda builder: builder


def _decorator(node: ast.FunctionDef) -> ast.Call | None:
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call):
            called = decorator.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name == "register_model":
                return decorator
    return None


def _is_bare(node: ast.FunctionDef) -> bool:
    """Whether a function is decorated with `@register_model`, without brackets."""
    return any(
        not isinstance(decorator, ast.Call) and ast.unparse(decorator).split(".")[-1] == "register_model"
        for decorator in node.decorator_list
    )


def _refusal(key: str, value: Any) -> str:
    """What a decorator's key takes, where it does not take this value; else ""."""
    kind = METADATA[key]
    fits = isinstance(value, TYPES[kind]) and not isinstance(value, bool)
    if not fits:
        return kind
    if key == "img_sizes" and not (value and all(type(size) is int and size > 0 for size in value)):
        return "whole numbers of at least 1, such as (64, 96)"
    return f"{kind} of at least 1" if key in ("min_size", "size_multiple") and value < 1 else ""


def read_file(path: Path, prefix: str = "") -> Iterator[ModelSpec]:
    """Read the registered models of one Python file from its syntax tree; nothing is executed.

    Raises:
        ModelError: If the file is missing, is no Python, or a decorator's argument is no literal.
    """
    try:
        tree = ast.parse(path.read_bytes())
    except OSError as error:
        raise ModelError(f"Cannot read the model file {path}: {error.strerror}") from None
    except (SyntaxError, ValueError) as error:
        raise ModelError(f"{path} is not Python: {error}") from None
    for node in tree.body:
        call = _decorator(node) if isinstance(node, ast.FunctionDef) else None
        if isinstance(node, ast.FunctionDef) and _is_bare(node):
            raise ModelError(f"{path}: register_model of {node.name} needs its brackets: @register_model(paper=...)")
        if call is None or not isinstance(node, ast.FunctionDef):
            continue
        if not node.name.isascii():
            raise ModelError(f"{path}: the name {node.name!r} is no usable model name; write it in ASCII letters")
        metadata: dict[str, Any] = {}
        for keyword in call.keywords:
            if keyword.arg not in METADATA:
                known = ", ".join(METADATA)
                raise ModelError(f"{path}: register_model got {keyword.arg!r} for {node.name}; known keys: {known}")
            try:
                metadata[keyword.arg] = ast.literal_eval(keyword.value)
            except (ValueError, TypeError):
                raise ModelError(f"{path}: {keyword.arg} of {node.name} must be a literal value") from None
            wanted = _refusal(keyword.arg, metadata[keyword.arg])
            if wanted:
                raise ModelError(f"{path}: {keyword.arg} of {node.name} is {metadata[keyword.arg]!r}; write {wanted}")
        metadata |= {"img_sizes": tuple(metadata["img_sizes"])} if "img_sizes" in metadata else {}
        yield ModelSpec(name=prefix + node.name, file=path, function=node.name, **metadata)


def _read_builtin() -> dict[str, ModelSpec]:
    specs: dict[str, ModelSpec] = {}
    for path in sorted(HERE.glob("*.py")):
        if path.name not in ("__init__.py", "catalog.py"):
            specs.update((spec.name, spec) for spec in read_file(path))
    table = tomllib.loads((HERE / "timm_models.toml").read_text(encoding="utf-8"))
    for name, entry in table.items():
        specs[name] = ModelSpec(name=name, file=HERE / "timm_models.py", function="build_timm", **entry)
    table = tomllib.loads((HERE / "fitted.toml").read_text(encoding="utf-8"))
    for name, entry in table.items():
        specs[name] = ModelSpec(name=name, file=FITTED, function="fit_predict", **entry)
    return specs


_builtin: dict[str, ModelSpec] = {}
_plugins: dict[str, ModelSpec] = {}


def _catalogue() -> dict[str, ModelSpec]:
    if not _builtin:
        _builtin.update(_read_builtin())
        for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
            file = locate(entry.module)
            if file is None:
                raise ModelError(f"Entry point {entry.name!r} names {entry.value!r}, which is no importable module")
            for spec in read_file(file):
                _builtin.setdefault(spec.name, replace(spec, module=entry.module))
    return {**_builtin, **_plugins}


def load_plugin(path: str | Path) -> list[str]:
    """Add the models of a file by path; returns their names.

    Raises:
        ModelError: If the file holds no registered model, or a name that is taken.
    """
    file = Path(path).resolve()
    specs = list(read_file(file))
    if not specs:
        raise ModelError(f"{path} holds no function decorated with @register_model")
    for spec in specs:
        taken = _catalogue().get(spec.name)
        if taken is not None and taken.file != file:
            raise ModelError(f"{path} registers {spec.name!r}, which is taken by {taken.file.name}; rename it")
        _plugins[spec.name] = spec
    return [spec.name for spec in specs]


def list_models(pattern: str = "*") -> list[str]:
    """Names of the registered models, sorted, filtered by a shell pattern (`med*`)."""
    return sorted(name for name in _catalogue() if fnmatch.fnmatchcase(name, pattern))


def get_spec(name: str) -> ModelSpec:
    """The spec of a model; any timm architecture is known as `timm/<name>`.

    Raises:
        ModelError: If no such model is registered, with the closest name.
    """
    catalogue = _catalogue()
    if name in catalogue:
        return catalogue[name]
    if name.startswith(TIMM_PREFIX) and len(name) > len(TIMM_PREFIX):
        architecture, _, tag = name[len(TIMM_PREFIX) :].partition(".")
        return ModelSpec(
            name=name,
            file=HERE / "timm_models.py",
            function="build_timm",
            paper="https://github.com/huggingface/pytorch-image-models",
            source="timm",
            code_license="Apache-2.0",
            weights_license="see timm's model card",
            timm_name=architecture,
            pretrained_tag=tag,
        )
    close = difflib.get_close_matches(name, catalogue, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(catalogue))}"
    raise ModelError(f"Unknown model {name!r}; {hint} (any timm model: timm/<name>)")


def check_timm_names(names: Iterable[str]) -> None:
    """Refuse `timm/<name>` that timm does not have; imports timm where one is asked for.

    Raises:
        ModelError: Naming the closest architecture.
    """
    wanted = [name for name in names if name.startswith(TIMM_PREFIX) and name not in _catalogue()]
    if not wanted:
        return
    import timm

    for name in wanted:
        architecture = get_spec(name).timm_name
        if not timm.is_model(architecture):
            close = difflib.get_close_matches(architecture, timm.list_models(), n=1)
            hint = f"; did you mean 'timm/{close[0]}'?" if close else ""
            raise ModelError(f"timm {installed_timm()} has no model {architecture!r}{hint}")


def import_builder(spec: ModelSpec) -> Callable[..., Any]:
    """Import the file of a spec and return its builder; the only place where model code is executed.

    Raises:
        ModelError: If the file cannot be imported.
    """
    own = spec.file.parent == HERE
    try:
        if own or spec.module:
            module = importlib.import_module(f"models.{spec.file.stem}" if own else spec.module)
        else:
            module = import_file(spec.file)
    except ForeignNameError as error:
        raise ModelError(str(error)) from None
    except ImportError as error:
        raise ModelError(explain_import(error, spec)) from error
    builder: Callable[..., Any] = getattr(module, spec.function)
    return builder


def fingerprint(spec: ModelSpec, timm_version: str | None = None) -> str:
    """Hexadecimal SHA-256 digest of the code that decides a model's numbers; no torch needed.

    Over the syntax tree (comments and docstrings stripped) of the family's file, of the `models/` files that it
    imports and, of a plugin, of its own files that it imports; the builder's name and options, and timm's version
    where timm is used.

    Args:
        spec: The model.
        timm_version: timm's version; the installed one by default, "" where timm is not installed.
    """
    own = spec.file.parent == HERE or spec.file == FITTED
    pending, seen = [spec.file] if own else list(sources(spec.file).files), set[Path]()
    digest = hashlib.sha256()
    uses_timm = False
    while pending:
        path = pending.pop(0)
        if path in seen:
            continue
        seen.add(path)
        code = read_any(path)
        uses_timm = uses_timm or code.uses_timm
        digest.update(code.canonical)
        pending.extend(code.families)
    chosen = (spec.function, spec.timm_name, sorted(spec.options.items()))
    digest.update(repr(chosen).encode())
    if uses_timm:
        digest.update(f"timm {installed_timm() if timm_version is None else timm_version}".encode())
    return digest.hexdigest()


def is_current(name: str, recorded: str, recorded_timm: str) -> bool:
    """Whether a recorded fingerprint is that of the model's code today.

    Args:
        name: A registered model.
        recorded: The fingerprint that a record holds.
        recorded_timm: timm's version by the record: what can be compared with where timm is not installed.

    Raises:
        ModelError: If no such model is registered.
    """
    return recorded == fingerprint(get_spec(name), installed_timm() or recorded_timm)


def outdated(name: str, recorded: str, recorded_timm: str) -> str:
    """Why evidence of a model no longer counts, "" if it does; the model may be unknown. Args as `is_current`."""
    try:
        current = is_current(name, recorded, recorded_timm)
    except ModelError as error:
        return str(error)
    return "" if current else f"stale, the code of {name} (or timm's version) changed"


@cache
def installed_timm() -> str:
    """The version of timm, "" where it is not installed."""
    try:
        return importlib.metadata.version("timm")
    except importlib.metadata.PackageNotFoundError:
        return ""
