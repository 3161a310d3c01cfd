"""Families: one TOML file that spans protocols which differ in named steps and in the draw of training images.

`rare-96.family.toml` has two axes and five draws; `rare-96-p02-weighted-d3` is its member with the axes' values `p02`
and `weighted` and draw 3. A member's rules are the file's, with those of its values over them: as frozen as a file.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

SUFFIX = ".family.toml"

Rules = dict[str, Any]  # a protocol's tables, as TOML has them


def merge(base: Rules, change: Mapping[str, Any]) -> Rules:
    """The tables of one with those of the other over them."""
    merged = dict(base)
    for key, value in change.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def with_draw(name: str, draw: int) -> str:
    """A member's name from what stands before its draw."""
    return f"{name}-d{draw}"


def members(name: str, content: Rules) -> dict[str, Rules]:
    """Every protocol of a family by name, in the order of its axes.

    Args:
        name: The family's.
        content: Its file's tables over those that it extends; `axes` lists tables (value -> rules), `draws` counts.
    """
    rules = {key: value for key, value in content.items() if key not in ("axes", "draws")}
    found: dict[str, Rules] = {}
    for steps in itertools.product(*(axis.items() for axis in content["axes"])):
        merged = rules
        for _, change in steps:
            merged = merge(merged, change)
        for draw in range(content["draws"]):
            member = with_draw("-".join([name, *(value for value, _ in steps)]), draw)
            found[member] = merge(merged, {"data": {"draw": draw}})
    return found
