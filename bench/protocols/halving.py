"""Successive halving in rounds: which trials of a sweep go on, told by their scores on val alone.

Rounds end for all trials at once (Jamieson and Talwalkar 2016), so neither the order in which trials end nor how many
ran at a time moves a choice, and every model gets the same number of epochs to the last one. Asynchronous halving,
which libraries offer, spends and chooses by that order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import Field, field_validator, model_validator

from bench.protocols.schema import MAX_SEED, Frozen

Metric = Literal["val_auc", "val_acc", "val_loss"]
Curve = Sequence[float | None]  # a metric after each epoch of a trial; None where it is undefined


class Budget(Frozen):
    """What each model gets on each data set.

    Attributes:
        rungs: Epochs after which trials are compared, rising; the last are those of a whole training.
        reduction: Of the trials of a rung, one in so many goes on to the next.
        trials: Combinations of the grid that are tried, None for all.
        metric: Decides by its best value so far: the highest, of `val_loss` the lowest.
        seed: Of each trial's training, and of which combinations are tried.
    """

    rungs: tuple[int, ...] = Field(min_length=1)
    reduction: int = Field(default=2, ge=2)
    trials: int | None = Field(default=None, ge=2)
    metric: Metric = "val_auc"
    seed: int = Field(default=0, ge=0, le=MAX_SEED)

    @field_validator("metric", mode="before")
    @classmethod
    def _never_test(cls, value: object) -> object:
        if isinstance(value, str) and "test" in value:
            raise ValueError(f"test data chooses nothing; take {', '.join(get_args(Metric))}")
        return value

    @model_validator(mode="after")
    def _rising(self) -> Budget:
        if list(self.rungs) != sorted(set(self.rungs)) or self.rungs[0] < 1:
            raise ValueError("rungs are whole numbers of epochs, rising, from 1")
        return self

    def counts(self, trials: int) -> list[int]:
        """How many trials of so many train to each rung: 8 -> [8, 4, 2] with three rungs and a reduction of 2."""
        return [max(1, trials // self.reduction**rung) for rung in range(len(self.rungs))]

    def epochs(self, trials: int) -> int:
        """Epochs that a sweep over so many trials takes where none diverges: the same for every model."""
        more = [last - first for first, last in zip((0, *self.rungs), self.rungs, strict=False)]
        return sum(count * epochs for count, epochs in zip(self.counts(trials), more, strict=True))


@dataclass(frozen=True)
class Halving:
    """Where a sweep stands.

    Attributes:
        until: The rung that is under way, in epochs.
        todo: Trials that have not trained to it yet; empty where the sweep is over.
        epochs: What each trial takes, by what is known so far.
        choice: The best trial of the last rung; None where the sweep is not over, or none was left.
    """

    until: int
    todo: tuple[int, ...]
    epochs: tuple[int, ...]
    choice: int | None


def halve(budget: Budget, curves: Sequence[Curve], diverged: Collection[int] = ()) -> Halving:
    """What a sweep has to do next, or what it chose: a function of the trials' curves alone.

    Args:
        budget: Its rules.
        curves: The metric after each epoch, of each trial.
        diverged: Trials whose loss was not finite any more; they go no further.
    """
    alive = list(range(len(curves)))
    epochs = [0] * len(curves)
    for rung, count in zip(budget.rungs, budget.counts(len(curves)), strict=True):
        alive = alive if rung == budget.rungs[0] else sorted(_best(budget, curves, epochs, alive)[:count])
        for trial in alive:
            epochs[trial] = min(rung, len(curves[trial])) if trial in diverged else rung
        todo = tuple(trial for trial in alive if len(curves[trial]) < epochs[trial])
        if todo:
            return Halving(rung, todo, tuple(epochs), None)
        alive = [trial for trial in alive if trial not in diverged]
    best = _best(budget, curves, epochs, alive)
    return Halving(budget.rungs[-1], (), tuple(epochs), best[0] if best else None)


def best_value(metric: Metric, curve: Iterable[float | None]) -> float | None:
    """A curve's best value, None where it has none."""
    values = [value for value in curve if value is not None]
    if not values:
        return None
    return min(values) if metric == "val_loss" else max(values)


def _best(budget: Budget, curves: Sequence[Curve], epochs: Sequence[int], trials: Iterable[int]) -> list[int]:
    """Trials with a value, the best first; ties to the earlier one."""
    sign = 1.0 if budget.metric == "val_loss" else -1.0
    values = {trial: best_value(budget.metric, curves[trial][: epochs[trial]]) for trial in trials}
    return sorted((t for t, value in values.items() if value is not None), key=lambda t: (sign * (values[t] or 0.0), t))
