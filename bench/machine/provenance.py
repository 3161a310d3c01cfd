"""Where a number comes from: commit, packages, hardware, threads; looked up once a process."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bench.machine.cpu_isa import cpu_info

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "kornia",
    "medmnist",
    "mamba-ssm",
    "numpy",
    "pandas",
    "pyarrow",
    "scikit-learn",
)
CODE = ("bench", "models", "tools", "tests", "pyproject.toml", "requirements.lock", "run_all.sh")
# Vector instructions that decide which kernels a library takes, the widest first.
VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2", "asimd": "ASIMD"}
ROOT = Path(__file__).resolve().parents[2]


@cache
def packages() -> dict[str, str]:
    """Versions of Python and of the packages that can move a number, as far as they are installed."""
    import importlib.metadata  # slow, and no command's start needs it

    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@cache
def commit() -> tuple[str | None, bool | None]:
    """The last commit of code, tests or set-up, and whether these differ from it; (None, None) outside a checkout.

    A user's own files beside them (results, a baseline, whose fingerprint the record has) do not count, and a commit of
    results is none of code: a pull request may be squashed, and its records name a commit that main has.
    """
    head = _git("rev-list", "-1", "HEAD", "--", *CODE) or _git("rev-parse", "HEAD")
    if head is None or not (ROOT / ".git").exists():
        return None, None
    changed = _git("status", "--porcelain", "--", *CODE)
    return head, bool(changed)


@cache
def ancestors() -> frozenset[str] | None:
    """Every commit that the code's own stands on, itself included; None where this history is not whole or absent."""
    if commit()[0] is None or _git("rev-parse", "--is-shallow-repository") != "false":
        return None
    listed = _git("rev-list", "HEAD")
    return None if listed is None else frozenset(listed.split())


def origin(more: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    """The fields of every kind of record that say what made it: `commit`, `dirty`, `packages`.

    Args:
        more: Versions of packages that only this kind of record depends on.
    """
    head, dirty = commit()
    return {"commit": head, "dirty": dirty, "packages": {**packages(), **more}}


@cache
def cpu_name() -> str:
    """The processor's name as the system gives it, with its vector instructions: one name may stand for several."""
    info = cpu_info()
    name = info.get("model name") or platform.processor() or platform.machine()
    flags = (info.get("flags") or info.get("Features") or "").split()
    vectors = next((text for flag, text in VECTORS.items() if flag in flags), "")
    return f"{name}, {vectors}" if vectors else name


def device_name(device: str) -> str:
    """`cpu: <processor>` or `cuda: <card>`."""
    if device.startswith("cuda"):
        import torch

        return f"cuda: {torch.cuda.get_device_name(device)}"
    return f"cpu: {cpu_name()}"


def peak_memory_mib(device: str) -> float:
    """Highest resident memory of this process, or the highest allocation on a CUDA device, in MiB."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(device) / 2**20
    # Not getrusage on Linux: a program takes over the peak of the one that started it.
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 2**10
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib / (2**20 if sys.platform == "darwin" else 2**10)


def quiet_threads() -> None:
    """One thread a run and no busy waiting; must come before torch is imported."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
