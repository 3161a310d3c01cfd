"""Which seeds the studies plan: what a mean may rest on, and what is missing from it."""

from __future__ import annotations

from functools import cache

from bench.protocols.loading import list_studies, load_study


@cache
def _seeds(protocol: str) -> dict[tuple[str, str], frozenset[int]]:
    """(model, data set) -> seeds of every study's part under a protocol."""
    by_cell: dict[tuple[str, str], frozenset[int]] = {}
    for part in (part for name in list_studies() for part in load_study(name).parts if protocol in part.protocols):
        for cell in ((model, dataset) for model in part.models for dataset in part.datasets):
            by_cell[cell] = by_cell.get(cell, frozenset()) | set(part.seeds)
    return by_cell


def planned_seeds(protocol: str, model: str, dataset: str) -> tuple[int, ...]:
    """The seeds of a cell that the studies plan, rising; those of its protocol where no study names the cell.

    Empty where no study uses the protocol: then nothing is missing, and every seed counts.
    """
    cells = _seeds(protocol)
    named = cells.get((model, dataset))
    return tuple(sorted(frozenset().union(*cells.values()) if named is None else named))


def is_planned(protocol: str, model: str, dataset: str, seed: int) -> bool:
    """Whether a run may enter the mean of its cell."""
    planned = planned_seeds(protocol, model, dataset)
    return not planned or seed in planned
