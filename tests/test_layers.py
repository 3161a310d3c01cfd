"""The house plan holds: who may import whom, and what must work without torch."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "torchvision", "timm", "medmnist", "kornia", "thop", "ptflops", "captum", "ray"}


BELOW_CHECK = {"errors", "streams", "models", "machine", "protocols", "tracks", "stats", "records", "data", "training"}
# Room -> what it may import of the suite, at the top of a file or inside a function: downwards only.
ALLOWED = {
    "errors": set[str](),
    "streams": set[str](),
    "machine": {"errors", "models"},
    "protocols": {"errors"},
    "tracks": {"errors"},
    "stats": {"errors", "streams"},
    "records": {"errors", "protocols", "tracks", "stats", "models"},
    "data": {"errors", "streams", "tracks", "records"},
    "training": {"errors", "machine", "protocols", "records", "stats", "streams"},
    "classical": {"data", "errors"},
    "plan": {"data", "errors", "machine", "protocols", "records", "models"},
    "check": {"data", "errors", "machine", "protocols", "tracks", "records", "stats", "models"},
    "runs": BELOW_CHECK | {"classical", "plan"},
    "report": BELOW_CHECK - {"training"} | {"plan", "check"},
    "measure": BELOW_CHECK | {"classical", "runs"},
}
# The public face stands on all rooms but the measuring ones.
ALLOWED["api"] = BELOW_CHECK - {"training"} | {"plan", "check", "runs", "report"}
UNBOUND = {"cli"}  # the top floor imports everything, inside its commands
# Rooms that load without torch, timm and medmnist; the files that do not are named.
LIGHT = {
    "errors",
    "streams",
    "machine",
    "protocols",
    "tracks",
    "stats",
    "records",
    "data",
    "classical",
    "plan",
    "check",
    "runs",
    "report",
    "cli",
    "api",
}
NOT_LIGHT = {
    "machine/preload.py",
    "machine/exact_sqrt.py",
    "machine/foreign.py",
    "runs/preparing.py",
    "runs/weights.py",
    "runs/proven.py",
    "check/contract.py",
    "check/contract_outputs.py",
    "check/contract_sizes.py",
    "check/contract_seeds.py",
    "check/contract_subject.py",
}


def _files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def _name(path: Path) -> str:
    """`bench/plan/state.py` as `plan/state.py`."""
    return path.relative_to(ROOT / "bench").as_posix()


def _room(path: Path) -> str:
    """The folder below `bench/`, or the module that stands beside them; "" for `bench/__init__.py`."""
    parts = path.relative_to(ROOT / "bench").with_suffix("").parts
    if len(parts) > 1:
        return parts[0]
    return "" if parts[0] == "__init__" else parts[0]


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def _paths() -> dict[str, Path]:
    return {_module(path): path for folder in ("bench", "models") for path in _files(folder)}


def _imported(nodes: Iterator[ast.AST]) -> set[str]:
    """Modules that are imported: those of this repository whole, of others the package."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                names.add(full if full in _paths() else node.module)
    return {name if name in _paths() else name.split(".")[0] for name in names} - {"bench"}  # its version is no layer


@cache
def _imports(path: Path) -> frozenset[str]:
    """What a file imports anywhere, for type checking too."""
    return frozenset(_imported(ast.walk(ast.parse(path.read_text(encoding="utf-8")))))


@cache
def _top_imports(path: Path) -> frozenset[str]:
    """What a file imports when it is loaded."""
    return frozenset(_imported(iter(ast.parse(path.read_text(encoding="utf-8")).body)))


def _rooms_imported(path: Path) -> set[str]:
    rooms = set()
    for name in _imports(path):
        if name in _paths():
            rooms.add("models" if name.split(".")[0] == "models" else _room(_paths()[name]))
    return rooms - {_room(path)}


def test_every_folder_is_a_room() -> None:
    """A new one needs a row in the plan."""
    assert {_room(path) for path in _files("bench")} - {""} <= ALLOWED.keys() | UNBOUND


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_a_room_imports_only_what_the_plan_allows(room: str) -> None:
    """One direction of imports."""
    for path in _files("bench"):
        if _room(path) == room:
            against = _rooms_imported(path) - ALLOWED[room]
            assert not against, f"{_name(path)} also imports {sorted(against)}"


def _no_circle(graph: dict[str, set[str]]) -> None:
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_no_rooms_import_each_other_in_a_circle() -> None:
    """The plan itself goes down only."""
    graph: dict[str, set[str]] = {room: set(below) for room, below in ALLOWED.items()}
    for path in _files("bench"):
        if _room(path):
            graph.setdefault(_room(path), set()).update(_rooms_imported(path))
    _no_circle(graph)


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Nor inside functions or for type checking: of two modules, one can be read first."""
    _no_circle({_module(path): {name for name in _imports(path) if name in _paths()} for path in _paths().values()})


def test_models_know_nothing_of_bench() -> None:
    """A model file is readable alone."""
    for path in _files("models"):
        assert not [name for name in _imports(path) if name.split(".")[0] == "bench"], path.name


def test_only_the_runner_scores_test() -> None:
    """Training never names the test split; in a run, the runner is the only module that reads test images."""
    readers = set()
    for path in _files("bench"):
        text = path.read_text(encoding="utf-8")
        if re.search(r"\bimages\[[\"']test[\"']\]", text):
            readers.add(_name(path))
    assert "runs/runner.py" in readers
    # the maps and the tracks: after the run, to explain its scores and to corrupt its images; a card has no model
    after = {"measure/gradcam/maps.py", "runs/tracks/scoring.py", "data/track_card.py"}
    assert readers <= {"runs/runner.py", "classical.py"} | after
    for path in _files("bench"):
        if _room(path) == "training":
            constants = [
                node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Constant)
            ]
            assert "test" not in [node.value for node in constants], _name(path)


@pytest.mark.parametrize("command", ["--help", "plan --study demo --json", "list models", "verify", "report --check"])
def test_planning_verifying_and_reporting_need_no_torch(command: str, tmp_path: Path) -> None:
    """A reviewer's laptop has none of the heavy packages; a blocked import stands for a missing one."""
    (tmp_path / "results" / "records").mkdir(parents=True)
    code = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Block())
sys.argv = ["medbench", *{command.split()!r}]
from bench.cli.app import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    expected = 1 if command == "report --check" else 0  # nothing was generated yet: named, not crashed
    assert done.returncode == expected, done.stderr
    assert "Traceback" not in done.stderr


def _loaded(module: str) -> Iterator[tuple[str, str]]:
    """(module, what it imports at its top), over everything that loading a module loads."""
    seen, waiting = set[str](), [module]
    while waiting:
        name = waiting.pop()
        if name in seen or name not in _paths():
            continue
        seen.add(name)
        parents = {name.rsplit(".", cut)[0] for cut in range(1, name.count(".") + 1)}
        for other in _top_imports(_paths()[name]) | parents:
            yield name, other
            waiting.append(other)


@pytest.mark.parametrize("room", sorted(LIGHT))
def test_a_light_room_loads_no_heavy_package(room: str) -> None:
    """Start-up stays fast: torch is imported where it is used, and nothing that needs it at the top of a file."""
    for path in _files("bench"):
        if _room(path) == room and _name(path) not in NOT_LIGHT:
            heavy = [f"{name} imports {other}" for name, other in _loaded(_module(path)) if other in HEAVY]
            assert not heavy, f"{_name(path)}: {heavy[0]}"
