"""The paper's printed accuracies beside those that others printed: as a subtraction, and as a difference in doubt.

A subtraction of printed numbers is right or wrong. That one model is more accurate than another is a statement about
the test images that were drawn, judged as the analysis plan judges runs: by the 95 % interval of the difference, or by
the margin and two one-sided tests. The predictions behind printed numbers are not public, so the two are taken as
independent, which is the widest that models which err alike allow. Seeds are in none of it: the statement is about the
weights that were scored.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from bench.errors import RecordError
from bench.report.analysis_plan import OURS
from bench.report.claims.checks import above, at_least, within
from bench.report.claims.planned import refused
from bench.report.claims.runs import margin, pair_outcome
from bench.report.claims.sources import Sources
from bench.report.claims.terms import images, published
from bench.report.claims.values import ACCURACIES, Doubt, Quantity, bound, gain, percent, show, stated
from bench.report.claims.verdict import NOT_TESTABLE, UNDECIDED, Outcome, every, some
from bench.report.published.names import dataset_name
from bench.stats.power import accuracy_error
from bench.stats.uncertainty import Uncertainty


def subtraction(sources: Sources, name: str, dataset: str) -> Quantity:
    """The paper's accuracy less one that others printed, in percentage points, as printed numbers."""
    return gain(stated(dataset), published(sources, name, dataset))


def lead(sources: Sources, name: str, dataset: str) -> Quantity:
    """The same with its doubt over the test images."""
    return lead_over(sources, published(sources, name, dataset), dataset, registered(sources, name))


def lead_over(sources: Sources, theirs: Quantity, dataset: str, model: str = "") -> Quantity:
    """The paper's accuracy less another in percent, in points, with its doubt over the test images.

    Args:
        sources: All evidence.
        theirs: The other accuracy, in percent.
        dataset: A MedMNIST flag.
        model: The registered model that it is about, "" for none.
    """
    ours, number = stated(dataset), int(images(sources, dataset, "test").known())
    errors = [accuracy_error(float(value.known()) / 100, number) for value in (ours, theirs)]
    why = f"the test images do not tell, the predictions behind printed numbers are not public, and {refused(model)}"
    doubt = Doubt(Uncertainty((100 * math.hypot(*errors)) ** 2), why, testable=False)
    return replace(gain(ours, theirs), doubts=(doubt,))


def ahead(sources: Sources, name: str, dataset: str, tests: int = 1) -> Outcome:
    """More accurate than a published model on a data set, by the 95 % interval.

    Where that does not tell, and the model can be run, the verdict of our runs counts.

    Args:
        sources: All evidence.
        name: The published model.
        dataset: A MedMNIST flag.
        tests: How many such tests a claim may choose from.
    """
    printed = above(lead(sources, name, dataset), bound(0, "points"), tests)
    return _or_runs(sources, name, dataset, printed, ("higher",))


def not_behind(sources: Sources, name: str, dataset: str) -> Outcome:
    """Not less accurate than a published model by more than the plan's margin; else as `ahead`."""
    printed = at_least(lead(sources, name, dataset), slack())
    return _or_runs(sources, name, dataset, printed, ("higher", "comparable"))


def ahead_everywhere(sources: Sources, name: str) -> Outcome:
    """`ahead` wherever both accuracies are printed."""
    return _everywhere(sources, name, ahead, f"more accurate than {name} wherever both are printed")


def not_behind_anywhere(sources: Sources, name: str) -> Outcome:
    """`not_behind` wherever both accuracies are printed."""
    points = show(-slack().known())
    return _everywhere(sources, name, not_behind, f"not {points} points below {name} wherever both are printed")


def gains_between(sources: Sources, name: str, low: Quantity, high: Quantity, *, relative: bool) -> Outcome:
    """Every gain over a published accuracy, as printed, is in a printed range: relative ones in percent, or points."""
    parts = []
    for dataset in beside_each_other(sources, name):
        theirs = published(sources, name, dataset)
        difference = subtraction(sources, name, dataset)
        chosen = percent((stated(dataset) - theirs) / theirs) if relative else difference
        parts.append(_labelled(dataset, within(replace(chosen, unit=""), low, high)))
    joined = every(*parts)
    unit = "% (relative)" if relative else "points"
    expected = f"{low.text()} to {high.text()} {unit} over {name} on every set"
    return replace(joined, expected=expected, found=f"over {name}, {unit}: {joined.found}")


def state_of_the_art(sources: Sources) -> Outcome:
    """More accurate than every published model on at least one of the six sets, corrected for that choice."""
    parts = []
    for dataset in ACCURACIES:
        others = [s for s in sources.scores if (s.dataset, s.metric) == (dataset, "acc") and s.medbench_model != OURS]
        best = max(others, key=lambda score: score.value)
        parts.append(_labelled(dataset, ahead(sources, best.name, dataset, tests=len(ACCURACIES))))
    expected = "more accurate than the best published model on at least one of the six sets"
    return replace(some(*parts), expected=expected)


def slack() -> Quantity:
    """What a comparable accuracy may be lower by: the margin in percentage points, negative."""
    points = 100 * margin().known()
    return replace(margin(), value=-points, formula=show(-points), unit="points")


def registered(sources: Sources, name: str) -> str:
    """The suite's model that a published name is about, "" for none."""
    return next((score.medbench_model for score in sources.scores if score.name == name), "")


def beside_each_other(sources: Sources, name: str) -> list[str]:
    """The data sets where both accuracies are printed.

    Raises:
        RecordError: If no accuracy is published under the name.
    """
    printed = {score.dataset for score in sources.scores if (score.name, score.metric) == (name, "acc")}
    sets = [dataset for dataset in ACCURACIES if dataset in printed]
    if not sets:
        raise RecordError(f"no accuracy of {name} in results.csv")
    return sets


def _or_runs(sources: Sources, name: str, dataset: str, printed: Outcome, enough: tuple[str, ...]) -> Outcome:
    model = registered(sources, name)
    if printed.verdict != NOT_TESTABLE or refused(model):
        return printed
    runs = pair_outcome(sources, model, dataset, enough)
    found = f"{printed.found}; {runs.found}"
    if runs.verdict == UNDECIDED:
        return replace(printed, verdict=UNDECIDED, found=found, needs=runs.needs, powers=runs.powers, why=runs.why)
    return replace(printed, verdict=runs.verdict, found=found, sources=printed.sources + runs.sources, why="")


def _everywhere(sources: Sources, name: str, judge: Callable[[Sources, str, str], Outcome], expected: str) -> Outcome:
    joined = every(*(_labelled(dataset, judge(sources, name, dataset)) for dataset in beside_each_other(sources, name)))
    return replace(joined, expected=expected, found=f"to {name}: {joined.found}")


def _labelled(dataset: str, outcome: Outcome) -> Outcome:
    return replace(outcome, found=f"{dataset_name(dataset)} {outcome.found}")
