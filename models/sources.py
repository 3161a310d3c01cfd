"""What a model's file says of itself without being executed: its code as a digest sees it, and the files it is made of.

A plugin may be a file, a file beside others that it imports, or a module of a package. Its own files are those that
stand beside it, or in its package, and are imported; everything else belongs to somebody else.
"""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
OURS = {"models", "bench"}  # what a file means that imports these names, whatever stands beside it
PLUMBING = {"catalog", "loading", "sources"}  # files here that hold no model


@dataclass(frozen=True)
class Import:
    """One import statement's target: `from ..a.b import c` has level 2, module `a.b`, names (`c`,)."""

    level: int
    module: str
    names: tuple[str, ...] = ()

    @property
    def top(self) -> str:
        """The package or module that is imported, of an absolute import."""
        return self.module.partition(".")[0]


@dataclass(frozen=True)
class Code:
    """What a file's text says.

    Attributes:
        canonical: Its syntax tree without comments, docstrings and positions, as bytes.
        imports: What it imports anywhere.
    """

    canonical: bytes
    imports: tuple[Import, ...]

    @property
    def uses_timm(self) -> bool:
        """Whether it imports timm."""
        return any(not found.level and found.top == "timm" for found in self.imports)

    @property
    def families(self) -> list[Path]:
        """The files of this folder that it imports."""
        names: set[str] = set()
        for found in self.imports:
            if not found.level and found.top == "models":
                names.update([found.module.split(".")[1]] if "." in found.module else found.names)
        return [HERE / f"{name}.py" for name in sorted(names - PLUMBING) if (HERE / f"{name}.py").exists()]


@dataclass(frozen=True)
class Sources:
    """A model's file and its own files, and how Python would import it.

    Attributes:
        root: The folder that imports of its own files start from.
        module: Its dotted name below the root: `net`, or `package.nets` of a file that belongs to a package.
        files: It and, at any depth, the files of its own that it imports, in the order they are met.
        beside: Names at the root that are imported absolutely, with the file or folder that each must be.
    """

    root: Path
    module: str
    files: tuple[Path, ...]
    beside: tuple[tuple[str, Path], ...]


def canonical(node: Any) -> Any:
    """A syntax tree as nested tuples: no positions, no docstrings, no empty fields (they vary by Python version)."""
    if isinstance(node, ast.AST):
        body = getattr(node, "body", None)
        pairs = []
        for key, value in ast.iter_fields(node):
            if key == "body" and isinstance(body, list) and body and isinstance(node, _DOCUMENTED):
                first = body[0]
                if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                    value = body[1:] if isinstance(first.value.value, str) else body
            if value is not None and value != [] and key not in ("type_comment", "kind", "ctx"):
                pairs.append((key, canonical(value)))
        return (type(node).__name__, *pairs)
    if isinstance(node, list):
        return tuple(canonical(item) for item in node)
    return repr(node)


_DOCUMENTED = (ast.Module, ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)


@cache
def read_code(content: bytes) -> Code:
    """A file's code, by content, parsed once; the encoding is the one that the file declares.

    Raises:
        SyntaxError, ValueError: If it is no Python.
    """
    tree = ast.parse(content)
    return Code(repr(canonical(tree)).encode(), tuple(_imports(tree)))


def _imports(tree: ast.Module) -> Iterator[Import]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield Import(node.level, node.module or "", tuple(alias.name for alias in node.names))
        elif isinstance(node, ast.Import):
            yield from (Import(0, alias.name) for alias in node.names)


def read_any(path: Path) -> Code:
    """As `read_code`; a file that is no Python is its bytes, and one that cannot be read is empty."""
    try:
        content = path.read_bytes()
    except OSError:
        return Code(b"", ())
    try:
        return read_code(content)
    except (SyntaxError, ValueError):
        return Code(content, ())


def sources(path: Path) -> Sources:
    """The files that a plugin is made of; nothing is executed."""
    depth = _depth(path)
    root = path.parents[depth]
    own_name = path.parents[depth - 1].name if depth else path.stem
    installed = next(root.glob("*.dist-info"), None) is not None  # where packages of others stand beside it
    files, beside = [path], dict[str, Path]()
    for folder in list(path.parents)[:depth][::-1]:  # a package is executed before its modules
        files += [folder / "__init__.py"] if (folder / "__init__.py").is_file() else []
    for file in files:
        for found in read_any(file).imports:
            if found.level:
                start = file.parents[min(found.level, len(file.parents)) - 1]
            elif found.top in OURS or found.top in sys.stdlib_module_names or (installed and found.top != own_name):
                continue
            else:
                start = root
            own = [
                item for item in _own_files(start, found) if item != file
            ]  # torch.py that imports torch means another
            if own and not found.level:
                beside[found.top] = next(item for item in (root / found.top, root / f"{found.top}.py") if item.exists())
            files += [item for item in dict.fromkeys(own) if item not in files]
    module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
    return Sources(root, module, tuple(files), tuple(sorted(beside.items())))


def _depth(path: Path) -> int:
    """How many folders above a file are packages that it takes part in; 0 for a file of its own."""
    packages = 0
    while (path.parents[packages] / "__init__.py").is_file() and packages + 1 < len(path.parents):
        packages += 1
    imports = read_any(path).imports
    names_itself = packages > 0 and any(
        not found.level and found.top == path.parents[packages - 1].name for found in imports
    )
    levels = max((found.level for found in imports), default=0)
    if not levels and not names_itself:
        return 0
    return min(max(packages, levels), len(path.parents) - 1)


def _own_files(start: Path, found: Import) -> Iterator[Path]:
    """The files that an import executes, if its target stands below a folder; none else."""
    place = start
    if found.level and (start / "__init__.py").is_file():
        yield start / "__init__.py"
    for part in filter(None, found.module.split(".")):
        place = place / part
        if (file := place.with_name(f"{part}.py")).is_file() and not (place / "__init__.py").is_file():
            yield file
            return
        if not place.is_dir():
            return
        if (place / "__init__.py").is_file():
            yield place / "__init__.py"
    for name in found.names:
        for item in (place / name / "__init__.py", place / f"{name}.py"):
            if item.is_file():
                yield item
                break


def locate(module: str) -> Path | None:
    """The file of an installed module, found without executing its packages; None where there is none."""
    top, *rest = module.split(".")
    try:
        found = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    name = top
    for part in rest:
        if found is None or found.submodule_search_locations is None:
            return None
        name = f"{name}.{part}"
        found = importlib.machinery.PathFinder.find_spec(name, list(found.submodule_search_locations))
    return Path(found.origin) if found is not None and found.has_location and found.origin else None
