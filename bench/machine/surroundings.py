"""What libraries take for granted of a process's environment, put there where it is missing."""

from __future__ import annotations

import getpass
import importlib.util
import os
import sys
import tempfile

MODULE = "module://"


def complete() -> None:
    """Call it before anything slow is imported.

    - A user id without a name, as containers have: torch asks for the name while it is imported.
    - No home: a folder named `~` would appear in the working directory; caches go to the temporary folder instead.
    - `MPLBACKEND` of a notebook's other environment: matplotlib refuses to be imported with a module it cannot find.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):  # which one depends on Python's version
        os.environ["USER"] = os.environ["LOGNAME"] = user_name()
    if not os.path.isabs(os.path.expanduser("~")):
        os.environ["HOME"] = os.path.join(tempfile.gettempdir(), f"medbench-home-{user_name()}")
    backend = os.environ.get("MPLBACKEND", "")
    if backend.startswith(MODULE) and "matplotlib" not in sys.modules and not _is_there(backend.removeprefix(MODULE)):
        os.environ["MPLBACKEND"] = "agg"


def user_name() -> str:
    """The user's name, `uid1000` for one without."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return f"uid{os.getuid()}"


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
