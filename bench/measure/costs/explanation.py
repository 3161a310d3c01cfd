"""Why two counters disagree about a model, in one line."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from bench.records.cost_record import Count, Counter

DISAGREEMENT = 0.02  # counts that differ by more get an explanation


def explained(counts: Sequence[Count]) -> list[Count]:
    """The counts with an explanation at each that is in a pair that differs by more than 2 %.

    `aten` is what the others are explained against, so it carries none itself.
    """
    apart = set[Counter]()
    for first, second in itertools.combinations(counts, 2):
        if abs(first.macs - second.macs) > DISAGREEMENT * max(first.macs, second.macs):
            apart |= {first.counter, second.counter}
    return [
        count.model_copy(update={"explanation": explain(count)})
        if count.counter in apart and count.counter != "aten"
        else count
        for count in counts
    ]


def explain(count: Count) -> str:
    """One line: what the counter leaves out of `aten`'s count, and what it adds to it."""
    parts = []
    missed = sum(count.missed_macs.values())
    if missed:
        largest = sorted(count.missed_macs.items(), key=lambda item: -item[1])[:3]
        names = ", ".join(f"{name} {_amount(macs)}" for name, macs in largest)
        parts.append(f"leaves out {_amount(missed, 'MACs')} ({names})")
    if count.added_macs > 0:
        names = ", ".join(count.added_for[:3]) or "biases"
        parts.append(f"adds {_amount(count.added_macs, 'MACs')} that aten counts as 0 (most in {names})")
    elif count.added_macs < 0:
        parts.append(f"counts {_amount(-count.added_macs, 'MACs')} less in operators that both count")
    return f"{count.counter} " + " and ".join(parts) if parts else ""


def _amount(macs: int, unit: str = "") -> str:
    """`0.371 GMACs`, or all digits of what would read as 0.000."""
    return f"{macs / 1e9:.3f} G{unit}" if macs >= 500_000 else f"{macs:,} {unit}".rstrip()
