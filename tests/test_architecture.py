"""docs/architecture.md says what the code is: rooms, imports and the functions on the way of a number."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.test_layers import ALLOWED

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| \d \| `([a-z_.]+)/?`[^|]*\|[^|]*\| ([^|]*) \|$", PAGE, flags=re.MULTILINE)
STEPS = sorted(set(re.findall(r"`([a-z0-9_/]+\.py):(\w+)`", PAGE)))


def test_every_room_of_the_page_exists() -> None:
    """A folder or a module of `bench/`, or `models/` beside it; each in one row."""
    rooms = [room for room, _ in ROWS]
    assert len(rooms) == len(set(rooms))
    for room in rooms:
        assert (ROOT / "bench" / room).exists() or room == "models", room


def test_every_folder_of_bench_is_on_the_page() -> None:
    """Folders of rooms too, by their whole path."""
    folders = [path for path in (ROOT / "bench").rglob("*") if path.is_dir() and path.name != "__pycache__"]
    assert folders
    for folder in folders:
        name = folder.relative_to(ROOT / "bench").as_posix()
        assert f"`{name}/`" in PAGE, name


def test_the_page_allows_the_imports_that_the_layers_test_allows() -> None:
    """The last column, room by room."""
    stated = {room.removesuffix(".py"): set(re.findall(r"`([a-z]+)`", below)) for room, below in ROWS}
    assert {room: below for room, below in stated.items() if room in ALLOWED} == ALLOWED


@pytest.mark.parametrize(("file", "name"), STEPS, ids=[f"{file}:{name}" for file, name in STEPS])
def test_every_step_of_the_way_is_a_function_or_class(file: str, name: str) -> None:
    """`file.py:function`, at the top of that file."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def test_both_ways_are_described() -> None:
    """From a command to a record through `runs`, from a record to Table 3 through `report`."""
    files = {file for file, _ in STEPS}
    assert {"bench/cli/run.py", "bench/runs/runner.py", "bench/records/run_record.py"} <= files
    assert {"bench/report/evidence.py", "bench/report/analysis/analyse.py", "bench/report/tables/table3.py"} <= files
