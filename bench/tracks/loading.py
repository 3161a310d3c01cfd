"""Tracks by name: a TOML file of this folder in, a `Track` out."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

from pydantic import ValidationError

from bench.errors import ProtocolError, suggestion
from bench.tracks.schema import Track

TRACK_DIR = Path(__file__).parent


def list_tracks() -> list[str]:
    """Names of the tracks, sorted."""
    return sorted(file.stem for file in TRACK_DIR.glob("*.toml"))


@cache
def load_track(name: str) -> Track:
    """Load a track by name.

    Raises:
        ProtocolError: If it is unknown.
    """
    if name not in list_tracks():
        raise ProtocolError(f"Unknown track {name!r}; {suggestion(name, list_tracks())}")
    path = TRACK_DIR / f"{name}.toml"
    return read_track(path)


def read_track(path: Path) -> Track:
    """The track of a TOML file, named by it.

    Raises:
        ProtocolError: If the file cannot be read, is not valid TOML, or has an unknown, missing or refused key.
    """
    try:
        return Track.model_validate({**tomllib.loads(path.read_text(encoding="utf-8")), "name": path.stem})
    except OSError as error:
        raise ProtocolError(f"Cannot read {path}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or path.stem
        raise ProtocolError(f"{path}: {where}: {first['msg']}") from None
    except ValueError as error:
        raise ProtocolError(f"{path} is not valid TOML: {error}") from None
