"""What may be concluded about a run and its re-run: four verdicts by one rule. No files, no torch.

*Bit-equal*: every stored class score is equal. *Equivalent*: on the same test images the 90 % intervals of the AUC
difference and of the accuracy difference both lie inside the analysis plan's margin. A 90 % interval is two one-sided
tests at 5 %, and a true difference outside the margin is so on one side only, so it is called equivalent at most once
in twenty times; a 95 % interval would make that once in forty. Both measures must pass, which needs no correction.
*Differs*: not equivalent, and told apart by one of two tests at 2.5 %, which together call at most one faithful re-run
in twenty different for what the images alone do. *Not told apart*: neither. It is no evidence of equality: a small
test set cannot tell most different networks apart.
"""

from __future__ import annotations

from typing import Literal

from bench.stats.comparisons import EQUIVALENCE_MARGIN, is_inside
from bench.stats.intervals import LEVEL

RerunVerdict = Literal["bit-equal", "equivalent", "not told apart", "differs"]
Ends = tuple[float, float]

AGREEING: tuple[RerunVerdict, ...] = ("bit-equal", "equivalent")
TEST_LEVEL = LEVEL / 2  # two tests a pair, so that both together hold 5 %


def judge(auc: Ends | None, acc: Ends, *p_values: float | None) -> RerunVerdict:
    """The verdict on two runs, or on the means over their seeds, that are not bit-equal.

    Args:
        auc: 90 % interval of the AUC difference, fractions; None where the AUC is undefined, of which nothing is shown.
        acc: The same of the accuracy difference.
        p_values: Of the tests of a difference; None where one was not made.
    """
    if auc is not None and all(is_inside(*ends, EQUIVALENCE_MARGIN) for ends in (auc, acc)):
        return "equivalent"
    return "differs" if any(p is not None and p < TEST_LEVEL for p in p_values) else "not told apart"
