"""What a model's file says of itself without being executed: its code as a digest sees it, and what it imports."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


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


def _imported_siblings(tree: ast.Module) -> list[Path]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "models":
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("models."):
            names.add((node.module or "").split(".")[1])
        elif isinstance(node, ast.Import):
            names.update(alias.name.split(".")[1] for alias in node.names if alias.name.startswith("models."))
    return [HERE / f"{name}.py" for name in sorted(names - {"catalog"}) if (HERE / f"{name}.py").exists()]


@cache
def read_code(text: str) -> tuple[bytes, list[Path], bool]:
    """A file's canonical syntax tree, the model files that it imports, whether it uses timm; by text, parsed once."""
    tree = ast.parse(text)
    imports_timm = any(
        (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "timm")
        or (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "timm" for alias in node.names))
        for node in ast.walk(tree)
    )
    return repr(canonical(tree)).encode(), _imported_siblings(tree), imports_timm
