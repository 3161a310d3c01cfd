"""One arithmetic on every x86-64 CPU: what numeric libraries read from the environment when they are loaded.

A library that picks its kernels by the processor it meets rounds differently on another one, and a training turns the
last bit into another model. So every run on a CPU is pinned to AVX2, which every x86-64 server of the last decade has:
ATen and oneDNN are held at it, NumPy and OpenBLAS too. MKL picks by vendor as well as by instruction set, and on
AMD only its branch COMPATIBLE can be reached that Intel has too. That branch is slow for large matrix products; the
README states the price. No numeric library may be loaded before `pin`. No torch at the top.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import sys
from enum import StrEnum
from pathlib import Path


class CpuIsa(StrEnum):
    """What a run on a CPU is held at."""

    avx2 = "avx2"
    avx512 = "avx512"
    native = "native"


DEFAULT = CpuIsa.avx2
FLAG = {CpuIsa.avx2: "avx2", CpuIsa.avx512: "avx512f"}  # as Linux names them
_SETTINGS = {
    CpuIsa.avx2: {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_CBWR": "COMPATIBLE",
        "OPENBLAS_CORETYPE": "Haswell",
    },
    # oneDNN's AVX-512 kernels follow the size of the L2 cache: equal bits on CPUs of one kind alone.
    CpuIsa.avx512: {
        "ATEN_CPU_CAPABILITY": "avx512",
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        "MKL_CBWR": "COMPATIBLE",
        "OPENBLAS_CORETYPE": "SkylakeX",
    },
}
# What NumPy calls its groups above AVX2, since which version, and a flag of the processors that have them: to name
# one that is unknown or absent is a warning on every import.
_NUMPY_GROUPS = {
    (2, 4): {"X86_V4": "avx512bw", "AVX512_ICL": "avx512_vbmi2", "AVX512_SPR": "avx512_fp16"},
    (0, 0): {
        "AVX512F": "avx512f",
        "AVX512CD": "avx512cd",
        "AVX512_SKX": "avx512bw",
        "AVX512_CLX": "avx512_vnni",
        "AVX512_CNL": "avx512ifma",
        "AVX512_ICL": "avx512_vbmi2",
    },
}
VARIABLES = (*_SETTINGS[CpuIsa.avx2], "NPY_DISABLE_CPU_FEATURES")
_given: dict[str, str | None] = {}  # the user's own values of the variables that `pin` has set


def settings(isa: CpuIsa) -> dict[str, str]:
    """The variables that hold the libraries at an instruction set; none for `native`."""
    if isa is CpuIsa.native:
        return {}
    values = dict(_SETTINGS[isa])
    if isa is CpuIsa.avx2 and (disabled := _numpy_above_avx2()):
        values["NPY_DISABLE_CPU_FEATURES"] = disabled
    return values


def available(isa: CpuIsa) -> bool:
    """Whether this machine can compute at an instruction set; `native` is what it has."""
    return isa is CpuIsa.native or FLAG[isa] in cpu_flags()


def cpu_flags() -> set[str]:
    """The processor's features as Linux lists them; empty elsewhere."""
    return set(cpu_info().get("flags", "").split())


def cpu_info() -> dict[str, str]:
    """What Linux says of the first processor, by its own keys; empty elsewhere."""
    info: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            info.setdefault(key.strip(), value.strip())
    return info


def pin(isa: CpuIsa = DEFAULT) -> CpuIsa:
    """Hold all numeric libraries that are loaded from now on, here and in processes started from here.

    Args:
        isa: The instruction set; `native` takes an earlier pin back and leaves what the user has set.

    Returns:
        `isa`, or `native` on a machine that lacks it.
    """
    if not available(isa):
        isa = CpuIsa.native
    for name, value in _given.items():
        _set(name, value)
    _given.clear()
    for name, value in settings(isa).items():
        _given[name] = os.environ.get(name)
        os.environ[name] = value
    return isa


def native_environment() -> dict[str, str]:
    """The environment without the pin, for a process whose speed is measured."""
    environment = dict(os.environ)
    for name, value in _given.items():
        environment.pop(name)
        if value is not None:
            environment[name] = value
    return environment


def in_force() -> str:
    """What this process computes at: `avx2`, `avx512`, or `native: <torch's choice>` where nothing is pinned."""
    chosen = "unknown"
    if torch := sys.modules.get("torch"):
        chosen = str(torch.backends.cpu.get_cpu_capability()).lower()
    for isa, values in _SETTINGS.items():
        if all(os.environ.get(name) == value for name, value in values.items()) and chosen in (isa, "unknown"):
            return isa
    return f"native: {chosen}"


def variables() -> dict[str, str]:
    """The variables in force, for a record."""
    return {name: os.environ[name] for name in VARIABLES if name in os.environ}


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _numpy_above_avx2() -> str:
    """NumPy's names for what this machine has above AVX2."""
    try:
        version = tuple(int(part) for part in importlib.metadata.version("numpy").split(".")[:2])
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return ""
    groups = next(groups for since, groups in _NUMPY_GROUPS.items() if version >= since)
    flags = cpu_flags()
    return " ".join(name for name, flag in groups.items() if flag in flags)
