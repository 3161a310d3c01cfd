"""MedMNIST -> arrays and data cards; synthetic sets; twins; corrupted pixels; download."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.data.loading import Arrays

__all__ = ["Arrays"]


def __getattr__(name: str) -> Any:
    """`Arrays`, for `bench.classical`, whose text is fingerprinted; loaded on first use, so that names stay cheap."""
    if name == "Arrays":
        from bench.data.loading import Arrays

        return Arrays
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
