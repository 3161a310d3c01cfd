"""The house plan holds: who may import whom, and what must work without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "torchvision", "timm", "medmnist", "kornia", "thop", "ptflops", "captum", "ray"}

# Room -> what it may import of the suite, at the top of the file or inside a function.
ALLOWED = {
    "errors": set(),
    "protocol": {"errors"},
    "datasets": {"errors", "records"},
    "records": {"errors", "sealed"},
    "metrics": {"errors"},
    "scoring": {"errors", "metrics", "records"},
    "streams": set(),
    "stats": {"errors"},
    "stats_bootstrap": {"errors", "streams"},
    "stats_power": {"stats"},
    "provenance": set(),
    "estimate": {"protocol", "records", "timing", "models"},
    "cpu_isa": set(),
    "exact_sqrt": set(),
    "plan": {"errors", "cpu_isa", "protocol", "records", "datasets", "estimate", "models"},
    "download": {"errors"},
    "synthetic": {"errors", "records", "datasets"},
    "twins": {"errors"},
    "data": {"errors", "protocol", "records", "datasets", "synthetic", "twins", "download"},
    "augment": {"errors", "protocol"},
    "checkpoint": {"sealed"},
    "foreign": {"errors", "exact_sqrt", "models"},
    "train": {"errors", "protocol", "augment", "metrics", "streams", "checkpoint", "foreign"},
    "classical": {"errors", "data", "metrics", "datasets"},
    "verdicts": {"stats"},
    "trust": {"errors", "records", "sealed", "scoring", "datasets", "verdicts"},
    "compare_reasons": {"records"},
    "compare_runs": {"errors", "metrics", "records", "scoring", "stats", "stats_bootstrap", "verdicts"},
    "compare_rows": {"records", "stats", "compare_runs", "verdicts"},
    "compare": {
        "errors",
        "records",
        "sealed",
        "plan",
        "stats",
        "trust",
        "compare_reasons",
        "compare_rows",
        "compare_runs",
    },
    "contribution": {"errors", "records", "sealed", "trust"},
    "bands": {"errors", "records", "sealed"},
    "verify": {"errors", "bands", "cams", "records", "metrics", "scoring", "plan", "trust", "models"},
    "forked": set(),
    "report": {
        "errors",
        "cpu_isa",
        "forked",
        "records",
        "sealed",
        "stats",
        "stats_bootstrap",
        "stats_power",
        "plan",
        "datasets",
        "protocol",
        "metrics",
        "scoring",
        "costs",
        "timing",
        "timing_blocks",
        "timing_summary",
        "cams",
        "trust",
        "models",
    },
    "contract": {"contract_seeds", "contract_subject", "foreign", "models"},
    "contract_seeds": {"contract_subject"},
    "contract_subject": {"errors", "foreign", "models"},
    "merge": {"errors", "records", "sealed"},
    "shards": {"errors"},
    "worker": {"errors", "records", "runner", "train", "checkpoint"},
    "cam_weights": {"errors", "plan", "records", "sealed", "checkpoint", "runner", "train", "worker", "models"},
    "cams": {"errors", "protocol", "records", "sealed", "models"},
    "cam_layers": {"errors", "foreign", "models"},
    "gradcam": {
        "errors",
        "records",
        "augment",
        "cam_layers",
        "cam_weights",
        "cams",
        "data",
        "foreign",
        "metrics",
        "protocol",
        "provenance",
        "runner",
        "streams",
        "train",
        "models",
    },
    "engines": {"errors", "records", "runner", "worker"},
    "engines_ray": {"errors", "cpu_isa", "records", "sealed", "data", "runner", "worker", "engines", "models"},
    "sealed": {"errors"},
    "costs": {"errors", "records", "sealed", "counters", "models"},
    "counters": {"errors", "foreign", "provenance", "costs", "ledger", "models"},
    "ledger": {"models"},
    "timing": {"errors", "records", "sealed", "models"},
    "timing_blocks": set(),
    "timing_summary": {"timing"},
    "timing_process": {"cpu_isa", "provenance", "timing", "timing_blocks"},
    "timing_launch": {"errors", "provenance", "sealed", "timing", "timing_blocks", "timing_process", "models"},
    "timing_steps": {"provenance", "timing"},
    "timing_worker": {"foreign", "gpu_meter", "timing", "timing_blocks", "timing_steps", "models"},
    "gpu_meter": {"timing"},
}
# May be imported without torch, timm or medmnist; the rest loads them when it works.
LIGHT = [
    "errors",
    "forked",
    "protocol",
    "datasets",
    "records",
    "metrics",
    "scoring",
    "stats",
    "stats_bootstrap",
    "stats_power",
    "estimate",
    "plan",
    "verify",
    "bands",
    "report",
    "cli",
    "listing",
    "measure",
    "options",
    "running",
    "merge",
    "shards",
    "costs",
    "timing",
    "timing_summary",
    "cams",
    "explaining",
    "trust",
    "verdicts",
    "compare_reasons",
    "compare_rows",
    "compare_runs",
    "compare",
    "contribution",
]


def _imports(path: Path) -> set[str]:
    """Modules that a file imports anywhere, first two parts: `bench.plan`, `models`, `torch`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "bench":
            names.update(f"bench.{alias.name}" for alias in node.names if alias.name != "__version__")
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names.add(node.module)
    return {".".join(name.split(".")[:2]) for name in names}


def _files(room: str) -> list[Path]:
    return [ROOT / "bench" / f"{room}.py"] if room != "report" else sorted((ROOT / "bench" / "report").rglob("*.py"))


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_a_room_imports_only_what_the_plan_allows(room: str) -> None:
    """One direction of imports."""
    for path in _files(room):
        rooms = {name.split(".")[1] for name in _imports(path) if name.startswith("bench.")} - {room}
        rooms |= {"models" for name in _imports(path) if name.split(".")[0] == "models"}
        assert rooms <= ALLOWED[room], f"{path.name} also imports {sorted(rooms - ALLOWED[room])}"


def test_models_know_nothing_of_bench() -> None:
    """A model file is readable alone."""
    for path in sorted((ROOT / "models").glob("*.py")):
        assert not [name for name in _imports(path) if name.split(".")[0] == "bench"], path.name


def test_only_the_runner_scores_test() -> None:
    """Training never names the test split; in a run, the runner is the only room that reads test images."""
    readers = []
    for path in sorted((ROOT / "bench").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if 'images["test"]' in text or "images['test']" in text:
            readers.append(path.name)
    assert "runner.py" in readers
    assert set(readers) <= {"runner.py", "classical.py", "gradcam.py"}  # gradcam: after the run, to explain its scores
    strings = [
        node.value
        for node in ast.walk(ast.parse((ROOT / "bench" / "train.py").read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert "test" not in strings


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
from bench.cli import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    expected = 1 if command == "report --check" else 0  # nothing was generated yet: named, not crashed
    assert done.returncode == expected, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("room", LIGHT)
def test_a_light_room_names_no_heavy_package_at_its_top(room: str) -> None:
    """Start-up stays fast: torch is imported where it is used."""
    for path in _files(room):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in top if isinstance(node, ast.ImportFrom)}
        assert not {name.split(".")[0] for name in names} & HEAVY, path.name
