"""Which models of a column may be the best: a confidence set that holds the best one at 95 %."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from bench.report.analysis.pairs import Pair
from bench.stats.families import may_be_best, one_sided

BEST, MAY_BE_BEST = "best", "may be best"


def marks(pairs: Sequence[Pair], values: Mapping[str, float], leaders: Collection[str]) -> dict[str, str]:
    """The set of the models that may be the best, as marks: `best` alone in it, `may be best`, or "" outside.

    Args:
        pairs: Those of one protocol, data set, part and metric. Two models without one cannot exclude each other.
        values: Model -> mean; one that is undefined has no mark.
        leaders: Models that may exclude others: of several seeds, or fitted. The rest may be in the set alone.
    """
    models = [model for model, value in values.items() if not math.isnan(value)]
    place = {model: index for index, model in enumerate(models)}
    lower = np.full((len(models), len(models)), np.nan)
    for pair in pairs:
        if pair.model in place and pair.baseline in place:
            i, j = place[pair.model], place[pair.baseline]
            lower[i, j] = one_sided(pair.exact.p, pair.exact.value)
            lower[j, i] = one_sided(pair.exact.p, -pair.exact.value)
    kept = may_be_best(lower, np.array([model in leaders for model in models], dtype=np.bool_))
    held = [model for model in models if kept[place[model]]]
    alone = len(held) == 1 < len(models) and held[0] in leaders
    return {model: (BEST if alone else MAY_BE_BEST) if model in held else "" for model in values}


def drawn_marks(marks: Sequence[str]) -> list[str]:
    """What a column of marks shows: `best` for one alone in the set, `tie` for all that share it, else "".

    Where only one model was measured there is nothing to win.
    """
    signs = {BEST: "best", MAY_BE_BEST: "tie" if len(marks) > 1 else ""}
    return [signs.get(mark, "") for mark in marks]
