"""What a user installs."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_a_wheel_holds_bench_and_models_whole_and_nothing_else(tmp_path: Path) -> None:
    """Every module and data file of the two packages is in it; tools and tests stay in the repository."""
    tree = tmp_path / "tree"
    no_caches = shutil.ignore_patterns("__pycache__")
    for folder in ("bench", "models", "tools", "tests"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=no_caches)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=tree, capture_output=True, check=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}
    assert names == {name for name in files if name.split("/")[0] in ("bench", "models")}
