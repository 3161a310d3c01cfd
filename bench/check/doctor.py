"""What this machine has, and what to do about what it lacks: `medbench doctor`. Imports torch at most."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from bench.data.loading import data_root, file_name
from bench.data.names import PAPER_DATASETS
from bench.machine import cpu_isa, provenance

if TYPE_CHECKING:
    from types import ModuleType

DISTRIBUTION = "medspectral-bench"
OLDEST_PYTHON = (3, 11)
SOURCE_SIZE = 28
FREE_GIB = 5.0  # the [run] set with CUDA libraries takes about as much
Row = dict[str, str]


def examine() -> list[Row]:
    """One row a finding, with the keys `what`, `state` and `detail`.

    The state is `ok`, `missing` (the suite cannot work without it) or `note` (worth knowing, with what to do).
    """
    torch = _torch()
    return [
        _python(),
        *_packages(),
        _torch_pair(),
        _threads(),
        _instruction_set(),
        *_devices(torch),
        _scan_kernel(torch),
        *_data(),
        _disk(),
        _code(),
    ]


def _row(what: str, state: str, detail: str) -> Row:
    return {"what": what, "state": state, "detail": detail}


def _python() -> Row:
    oldest = ".".join(map(str, OLDEST_PYTHON))
    if sys.version_info[:2] < OLDEST_PYTHON:
        return _row("python", "missing", f"{platform.python_version()}; install {oldest} or newer")
    return _row("python", "ok", f"{platform.python_version()}, {platform.system()} {platform.machine()}")


def requirements() -> dict[str, list[Requirement]]:
    """What the suite needs on this machine, by extra; the key "" holds the packages that it cannot work without."""
    try:
        lines = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
        project = tomllib.loads((provenance.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        groups = {"": project["dependencies"], **project["optional-dependencies"]}
        return {extra: [item for item in map(Requirement, group) if _applies(item)] for extra, group in groups.items()}
    listed = [Requirement(line) for line in lines]
    extras = importlib.metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or []
    own = {extra: [item for item in listed if _applies(item, extra) and not _applies(item)] for extra in extras}
    return {"": [item for item in listed if _applies(item)], **own}


def _applies(requirement: Requirement, extra: str = "") -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _packages() -> Iterator[Row]:
    for extra, group in requirements().items():
        for requirement in group:
            yield _package(requirement, extra)


def _package(requirement: Requirement, extra: str) -> Row:
    what = f"{requirement.name} ({extra})" if extra else requirement.name
    absent = "note" if extra else "missing"
    remedy = f"the extra {extra!r} brings it" if extra else "install the suite again, ./run_all.sh does"
    version = _version(requirement.name)
    if version is None:
        return _row(what, absent, f"not installed; {remedy}")
    if not requirement.specifier.contains(version, prereleases=True):
        return _row(what, absent, f"{version} is installed, {requirement.specifier} is needed; {remedy}")
    return _row(what, "ok", version)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _torch_pair() -> Row:
    """Whether torchvision was built for this torch: another one fails at import, and timm with it."""
    torch, vision = _version("torch"), _version("torchvision")
    if torch is None or vision is None:
        return _row("torch and torchvision", "note", "not both installed; plan, verify and report work without them")
    pinned = [Requirement(line) for line in importlib.metadata.requires("torchvision") or []]
    wanted = next((item.specifier for item in pinned if item.name == "torch"), None)
    if wanted is not None and not wanted.contains(torch.split("+")[0], prereleases=True):
        return _row("torch and torchvision", "note", f"torchvision {vision} needs torch{wanted}; install that pair")
    return _row("torch and torchvision", "ok", f"{torch} and {vision} belong together")


def _threads() -> Row:
    policy, threads = os.environ.get("OMP_WAIT_POLICY"), os.environ.get("OMP_NUM_THREADS")
    detail = f"OMP_WAIT_POLICY={policy or 'unset'}, OMP_NUM_THREADS={threads or 'unset'}"
    if policy == "passive" or threads == "1":
        return _row("threads", "ok", detail)
    return _row("threads", "note", f"{detail}; OMP_WAIT_POLICY=passive keeps idle threads from slowing the others down")


def _instruction_set() -> Row:
    """Whether runs here can give the bits that the records have."""
    what = "instruction set"
    if not cpu_isa.available(cpu_isa.DEFAULT):
        return _row(what, "note", "no AVX2: runs are native here, and give other last bits than the records")
    more = ", AVX-512 with --cpu-isa native" if cpu_isa.available(cpu_isa.CpuIsa.avx512) else ""
    return _row(what, "ok", f"AVX2, which runs are pinned to{more}")


def _torch() -> ModuleType | None:
    """The module torch; None where it is not installed or cannot be loaded."""
    try:
        import torch
    except (ImportError, OSError):
        return None
    return torch


def _devices(torch: ModuleType | None) -> Iterator[Row]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield _row("cpu", "ok", f"{provenance.cpu_name()}, {cores} cores")
    if torch is None:
        yield _row("cuda", "note", "torch cannot be imported here")
    elif not torch.cuda.is_available():
        yield _row("cuda", "note", "no CUDA device; runs go to the CPU")
    else:
        for index in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(index)
            yield _row(f"cuda:{index}", "ok", f"{card.name}, {card.total_memory / 2**30:.0f} GiB")


def _scan_kernel(torch: ModuleType | None) -> Row:
    """Which scan MedMamba would use on the best device of this machine."""
    what = "mamba-ssm kernel"
    if torch is None:
        return _row(what, "note", "torch cannot be imported here")
    from models.selective_scan import selected_backend

    if selected_backend("cuda" if torch.cuda.is_available() else "cpu") == "mamba_ssm":
        return _row(what, "ok", "usable; MedMamba runs on it")
    why = "no CUDA device" if not torch.cuda.is_available() else "the extra 'gpu' builds it"
    return _row(what, "note", f"not usable ({why}); MedMamba's scan runs in torch")


def _data() -> Iterator[Row]:
    root = data_root()
    named = "MEDMNIST_ROOT" if os.environ.get("MEDMNIST_ROOT") else "MEDMNIST_ROOT is unset, so this is"
    if not os.path.isdir(root):  # which, unlike Path's, is an answer too where a folder above refuses
        yield _row("data folder", "note", f"{named} {root}, which does not exist, or cannot be read")
    else:
        yield _row("data folder", "ok", f"{named} {root}")
    for flag in PAPER_DATASETS:
        path = root / file_name(flag, SOURCE_SIZE)
        if os.path.isfile(path):
            yield _row(flag, "ok", f"{path.stat().st_size / 2**20:.1f} MiB; its MD5 is checked before the first use")
        else:
            yield _row(flag, "note", f"no {path.name} there; a run downloads it, or put the official file there")


def _disk() -> Row:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    if free < FREE_GIB:
        return _row("free disk", "note", f"{free:.1f} GiB here; make room for {FREE_GIB:g} GiB")
    return _row("free disk", "ok", f"{free:.1f} GiB here")


def _code() -> Row:
    commit, dirty = provenance.commit()
    if commit is None:
        return _row("code", "note", "no git checkout; records will name no commit")
    if dirty:
        return _row("code", "note", f"commit {commit[:12]}, changed since; commit before runs that are to be kept")
    return _row("code", "ok", f"commit {commit[:12]}")
