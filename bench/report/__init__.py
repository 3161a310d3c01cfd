"""`medbench report`: records -> files; trains nothing, imports no torch."""

from __future__ import annotations

from bench.report.build import Built, build, compare

__all__ = ["Built", "build", "compare"]
