"""What a process's environment lacks is put there, and what is right is left alone."""

from __future__ import annotations

import os
import pwd
import sys

import pytest

from bench.machine import surroundings

NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME")


def no_name(uid: int) -> None:
    raise KeyError(f"getpwuid(): uid not found: {uid}")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())


def test_a_user_without_name_and_home_gets_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under a number; caches go to the temporary folder, not to a folder named `~`."""
    monkeypatch.setattr(pwd, "getpwuid", no_name)
    for name in NAMES:
        os.environ.pop(name, None)
    surroundings.complete()
    assert surroundings.user_name() == f"uid{os.getuid()}"
    assert os.path.isabs(os.path.expanduser("~"))


def test_who_has_name_and_home_keeps_them() -> None:
    os.environ.update(USER="someone", LOGNAME="someone", HOME="/home/someone", MPLBACKEND="svg")
    before = dict(os.environ)
    surroundings.complete()
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("backend", "loaded", "left"),
    [
        ("module://no_such_package.backend_inline", False, "agg"),
        ("module://no_such_package.backend_inline", True, "module://no_such_package.backend_inline"),
        ("module://json", False, "module://json"),
    ],
)
def test_a_backend_that_is_elsewhere_is_replaced(
    monkeypatch: pytest.MonkeyPatch, backend: str, loaded: bool, left: str
) -> None:
    """Unless matplotlib runs already: then the process is a notebook's and shows its own figures."""
    monkeypatch.setattr(sys, "modules", {**sys.modules, "matplotlib": sys} if loaded else {**sys.modules})
    if not loaded:
        sys.modules.pop("matplotlib", None)
    os.environ["MPLBACKEND"] = backend
    surroundings.complete()
    assert os.environ["MPLBACKEND"] == left
