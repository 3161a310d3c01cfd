"""The house stays readable: how long a module, a function and a chain of rooms may be."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.test_layers import _files, _room, _rooms_imported

ROOT = Path(__file__).parent.parent
MODULE_LINES = {"bench": 400, "models": 400, "tools": 400, "tests": 500}
FUNCTION_LINES = 60
FOLDER_MODULES = 14  # beside `__init__.py`, which says the folder's job
FLOORS = 9


def test_the_limits_are_those_that_contributors_are_given() -> None:
    """CONTRIBUTING.md states each number once."""
    text = " ".join((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split())
    stated = re.findall(
        r"A file has at most (\d+) lines \((\d+) in `tests/`\), a function (\d+), a folder of `bench/` (\d+) modules, "
        r"and the rooms of `bench/` stand on at most (\d+) floors",
        text,
    )
    code = {MODULE_LINES[folder] for folder in ("bench", "models", "tools")}
    numbers = (*code, MODULE_LINES["tests"], FUNCTION_LINES, FOLDER_MODULES, FLOORS)
    assert [tuple(map(int, found)) for found in stated] == [numbers]


@pytest.mark.parametrize("folder", MODULE_LINES)
def test_no_module_is_too_long(folder: str) -> None:
    """One that grows past the limit holds two jobs."""
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in _files(folder)}
    assert lines
    assert not [f"{path.relative_to(ROOT)}: {count}" for path, count in lines.items() if count > MODULE_LINES[folder]]


@pytest.mark.parametrize("folder", MODULE_LINES)
def test_no_function_is_too_long(folder: str) -> None:
    """From `def` to its last line, docstring included."""
    long = []
    for path in _files(folder):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                count = (node.end_lineno or node.lineno) - node.lineno + 1
                if count > FUNCTION_LINES:
                    long.append(f"{path.relative_to(ROOT)}:{node.name}: {count}")
    assert not long


def test_no_folder_of_bench_holds_too_many_modules() -> None:
    """A reader takes a room in at one glance."""
    folders = {path.parent for path in _files("bench")}
    counts = {folder: sum(path.name != "__init__.py" for path in folder.glob("*.py")) for folder in folders}
    assert not [f"{path.relative_to(ROOT)}: {count}" for path, count in counts.items() if count > FOLDER_MODULES]


def test_the_house_has_few_floors() -> None:
    """A room stands one floor above the highest one that it imports; `tests/test_layers.py` holds that none circle."""
    below: dict[str, set[str]] = {}
    for path in _files("bench"):
        below.setdefault(_room(path), set()).update(_rooms_imported(path))

    @cache
    def floor(room: str) -> int:
        return 1 + max((floor(other) for other in below.get(room, ())), default=0)

    floors = {room: floor(room) for room in below}
    assert max(floors.values()) > floors["errors"] == 1
    assert max(floors.values()) <= FLOORS, floors
