"""A grid file: the recipes that a sweep tries on a model, in place of a protocol's own, and what it may spend."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from bench.errors import ProtocolError
from bench.protocols.families import Rules, merge
from bench.protocols.halving import Budget
from bench.protocols.loading import explain, load_beside, read_toml
from bench.protocols.schema import SLUG, Frozen, Protocol, TunedFor
from bench.protocols.writing import dotted_rules, flat

# How a model is trained; not on which images, nor how long, which is the budget.
VARIED = ("augment", "optim", "schedule", "loss")
KEPT = ("schedule.epochs", "schedule.steps_of")
SAMPLER = "data.sampler"
MAX_COMBINATIONS = 10_000


class _GridFile(Frozen):
    """What the file holds."""

    extends: str
    description: str = ""
    grid: dict[str, Any]
    budget: Budget


class Grid(Frozen):
    """A grid file's content, whole: a record that holds it stands without the file.

    Attributes:
        name: The file's.
        base: The protocol that it extends.
        values: What each dotted key is tried with.
        budget: Rungs, trials, metric and seed.
    """

    name: str = Field(pattern=SLUG)
    base: Protocol
    values: Mapping[str, tuple[Any, ...]] = Field(min_length=1)
    budget: Budget

    def digest(self) -> str:
        """SHA-256 over what decides a choice: the base's digest, values and budget."""
        content = {
            "base": self.base.digest(),
            "values": self.model_dump(mode="json")["values"],
            "budget": self.budget.model_dump(mode="json", exclude_defaults=True),
        }
        return hashlib.sha256(_canonical(content)).hexdigest()

    def trials(self) -> list[Rules]:
        """The combinations that are tried, each as dotted key -> value, in the grid's order.

        Which ones, where the budget takes fewer than there are, follows from the seed and each combination alone.
        """
        keys = sorted(self.values)
        every = [dict(zip(keys, values, strict=True)) for values in itertools.product(*(self.values[k] for k in keys))]
        ranked = sorted(range(len(every)), key=lambda index: _draw(self.budget.seed, every[index]))
        return [every[index] for index in sorted(ranked[: self.budget.trials])]

    def trial_protocol(self, params: Mapping[str, Any], number: int) -> Protocol:
        """The rules of a trial."""
        return self._with(params, {"name": f"{self.name}-t{number}", "tuned": None})

    def tuned_protocol(self, params: Mapping[str, Any], model: str, dataset: str) -> Protocol:
        """The rules that were chosen for a model on a data set."""
        return self._with(params, self.chosen_content(params, model, dataset))

    def chosen_content(self, params: Mapping[str, Any], model: str, dataset: str) -> Rules:
        """Name, prose and origin of a chosen recipe."""
        said = ", ".join(f"{key} = {json.dumps(value)}" for key, value in params.items())
        tuned = TunedFor(grid=self.name, grid_digest=self.digest(), base=self.base.name, model=model, dataset=dataset)
        text = f"{self.base.name} with {said}: chosen on val for {model} on {dataset} from the grid {self.name}"
        return {"name": tuned.protocol, "description": text, "tuned": tuned.model_dump()}

    def _with(self, params: Mapping[str, Any], content: Rules) -> Protocol:
        rules = merge(self.base.model_dump(mode="json"), content)
        for key, value in params.items():
            rules = merge(rules, dotted_rules(key, value))
        return Protocol.model_validate(rules)


def load_grid(path: Path) -> Grid:
    """Read a grid file and check every combination.

    Raises:
        ProtocolError: If the file cannot be read, a key or value is refused, or a combination is no protocol.
    """
    content = read_toml(path)
    try:
        file = _GridFile.model_validate(content)
    except ValidationError as error:
        raise explain(path, _GridFile, error) from None
    base = load_beside(path, file.extends)
    values = dict(_values(path, file.grid))
    combinations = math.prod(len(options) for options in values.values())
    if not 2 <= combinations <= MAX_COMBINATIONS:
        raise ProtocolError(
            f"{path}: the grid's combinations are {combinations:,} in number; 2 to {MAX_COMBINATIONS:,} are taken"
        )
    budget = file.budget
    if budget.trials is not None and budget.trials > combinations:
        raise ProtocolError(f"{path}: budget.trials = {budget.trials}, but the grid has {combinations} combinations")
    if budget.rungs[-1] != base.schedule.epochs:
        raise ProtocolError(
            f"{path}: budget.rungs end at {budget.rungs[-1]} epochs, {base.name} has {base.schedule.epochs}: the last "
            "rung is a whole training"
        )
    try:
        grid = Grid(name=path.stem, base=base, values=values, budget=budget)
    except ValidationError as error:
        raise explain(path, Grid, error) from None
    for number, params in enumerate(grid.trials()):
        try:
            grid.trial_protocol(params, number)
        except ValidationError as error:
            said = ", ".join(f"{key} = {value!r}" for key, value in params.items())
            refusal = str(explain(path, Protocol, error)).removeprefix(f"{path}: ")
            raise ProtocolError(f"{path}: the grid's {said} makes no protocol: {refusal}") from None
    return grid


def _values(path: Path, table: Rules) -> list[tuple[str, tuple[Any, ...]]]:
    """The grid's keys, dotted, and what each is tried with.

    Raises:
        ProtocolError: If a key may not vary, or has no list of different values.
    """
    found: dict[str, tuple[Any, ...]] = {}
    for key, options in flat(table):
        head = key.partition(".")[0]
        if key in KEPT or (head not in VARIED and key != SAMPLER):
            what = f"{', '.join(f'{name}.*' for name in VARIED)} and {SAMPLER}"
            raise ProtocolError(f"{path}: grid.{key} may not vary: a grid has {what}, without {' and '.join(KEPT)}")
        if not isinstance(options, list) or not options:
            raise ProtocolError(f"{path}: grid.{key} = {options!r} is refused: write a list of the values to try")
        try:
            texts = [_canonical(option) for option in options]
        except (TypeError, ValueError):
            raise ProtocolError(
                f"{path}: grid.{key} holds what no rule is: a date, or a number that is not finite"
            ) from None
        if len(set(texts)) < len(texts) or key in found:
            raise ProtocolError(f"{path}: grid.{key} names a value twice, or stands there twice")
        found[key] = tuple(options)
    return sorted(found.items())


def _canonical(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _draw(seed: int, params: Rules) -> bytes:
    return hashlib.sha256(b"grid\x1f%d\x1f" % seed + _canonical(params)).digest()
