"""What libraries take for granted of a process's environment, put there where it is missing."""

from __future__ import annotations

import getpass
import importlib.util
import io
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


def open_streams() -> None:
    """Give a process the standard streams that it was started without (`medbench ... >&-`); call it first.

    The first file that is opened would else be what libraries print into. A file name that is not UTF-8 is printed with
    escapes.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


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
