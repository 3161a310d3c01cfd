"""Seeded damage to a results folder: bytes, values, whole files; what it moves in a report, and what notices it."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

MARK = "\n# A heading <script>"


def files_of(results: Path) -> list[Path]:
    """Every file of evidence, in a fixed order: no cache, and nothing that a report writes."""
    return sorted(
        path
        for path in results.rglob("*")
        if path.is_file() and path.relative_to(results).parts[0] not in (".cache", ".locks", "tables")
    )


def _flip(content: bytes, draw: random.Random) -> bytes:
    position = draw.randrange(len(content))
    return content[:position] + bytes([content[position] ^ (1 << draw.randrange(8))]) + content[position + 1 :]


def _cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content))]


def _insert(content: bytes, draw: random.Random) -> bytes:
    position = draw.randrange(len(content) + 1)
    return content[:position] + draw.randbytes(draw.randrange(1, 9)) + content[position:]


def _repeat(content: bytes, draw: random.Random) -> bytes:
    position = draw.randrange(len(content))
    return content[:position] + content[position : position + 64] * 2 + content[position + 64 :]


def _nested(content: bytes, draw: random.Random) -> bytes:
    depth = draw.choice((20, 255, 5000))
    return b"[" * depth + content + b"]" * depth


def _empty(content: bytes, draw: random.Random) -> bytes:
    return b""


BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (_flip, _flip, _cut, _insert, _repeat, _nested, _empty)
VALUES: tuple[Any, ...] = (None, True, -1, 0, 2**70, 1e308, "", "x", MARK, "../x", [], {}, [[]], "\ud800", "a" * 3000)


def _value(old: Any, draw: random.Random) -> Any:
    """Another value, often of the same kind."""
    if isinstance(old, bool) or draw.random() < 0.4:
        return draw.choice(VALUES)
    if isinstance(old, int):
        return old + draw.choice((-1, 1, 10**9))
    if isinstance(old, float):
        return old * draw.choice((0.999, -1.0, 1e9))
    if isinstance(old, str):
        return old[::-1] if draw.random() < 0.5 else old + draw.choice(("0", MARK))
    return draw.choice(VALUES)


def _entries(content: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of everything inside."""
    inside = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in list(inside):
        yield content, key
        yield from _entries(value)


def _edited(path: Path, draw: random.Random) -> bytes | None:
    """A JSON file with one value changed or gone, as an editor would write it; None where it holds none."""
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        return None
    entries = list(_entries(content))
    if not entries:
        return None
    container, key = draw.choice(entries)
    if isinstance(container, dict) and draw.random() < 0.2:
        del container[key]
    else:
        container[key] = _value(container[key], draw)
    return json.dumps(content).encode()


def damage(results: Path, draw: random.Random) -> tuple[Path, str]:
    """Do one thing to one file.

    Returns:
        The file, and what was done to it.
    """
    path = draw.choice(files_of(results))
    kind = draw.random()
    if kind < 0.05:
        path.unlink()
        return path, "removed"
    if kind < 0.12:
        other = draw.choice([file for file in files_of(results) if file.suffix == path.suffix])
        if other != path:
            shutil.copyfile(other, path)
            return path, f"replaced by {other.name}"
    if path.suffix == ".json" and kind < 0.65:
        content = _edited(path, draw)
        if content is not None:
            path.write_bytes(content)
            return path, "edited"
    change = draw.choice(BYTES)
    content = path.read_bytes()
    path.write_bytes(change(content, draw) if content else b"x")
    return path, change.__name__
