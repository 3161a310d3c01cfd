"""Where the paper's claims register: one function a claim, its docstring the quote that it judges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.report.claims.sources import Sources
from bench.report.claims.verdict import Parts

PartsOf = Callable[[Sources], Parts]


@dataclass(frozen=True)
class ClaimCheck:
    """How a claim is judged.

    Attributes:
        parts: From the evidence to the claim's checks, all of which must hold, and what is printed beside them.
        reading: Which reading of an ambiguous claim is judged, "" where there is only one.
    """

    parts: PartsOf
    reading: str


CHECKS: dict[str, ClaimCheck] = {}


def claim(name: str, reading: str = "") -> Callable[[PartsOf], PartsOf]:
    """Register a function as the check of the claim with this id."""

    def register(parts: PartsOf) -> PartsOf:
        assert name not in CHECKS, f"{name} has two checks"
        CHECKS[name] = ClaimCheck(parts, reading)
        return parts

    return register
