"""Which runs a selection means: names and seeds in, runs out. No torch."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.data.names import flag_of
from bench.data.own import card_path_of, resolve
from bench.errors import BenchError
from bench.plan.shards import take_shard
from bench.protocols.loading import load_protocol, load_study
from bench.protocols.schema import MAX_SEED, Protocol
from bench.records.names import Run, is_own
from models.catalog import ModelSpec, get_spec, list_models, load_plugin

SEED_RANGE = re.compile(r"([0-9]{1,10})(?:-([0-9]{1,10}))?")
MAX_SEEDS = 10_000  # of one range: more is a slip


def parse_seeds(text: str) -> list[int]:
    """`0-2,5` -> [0, 1, 2, 5].

    Raises:
        BenchError: If it is no list of whole numbers and ranges.
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = SEED_RANGE.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last <= MAX_SEED or last - first >= MAX_SEEDS:
            raise BenchError(
                f"--seeds {text[:40]!r} is refused; write whole numbers up to {MAX_SEED:,} and ranges of at most "
                f"{MAX_SEEDS:,}, such as 0-2,5"
            )
        seeds.extend(range(first, last + 1))
    return list(dict.fromkeys(seeds))


def expand(protocols: Iterable[str], models: Iterable[str], datasets: Iterable[str], seeds: Iterable[int]) -> list[Run]:
    """Every combination, checked; what is fitted comes out the same for every seed and gets the first one alone.

    Raises:
        BenchError, ModelError: If a name is unknown.
    """
    seeds = list(seeds)
    runs: list[Run] = []
    for protocol, model, dataset in itertools.product(protocols, models, datasets):
        spec = get_spec(model)
        card_path_of(dataset) if is_own(dataset) else flag_of(dataset)
        chosen = seeds if spec.kind == "network" else seeds[:1]
        rules = load_protocol(protocol)
        if rules.tuned and (rules.tuned.model, rules.tuned.dataset) != (spec.name, dataset):
            tuned = f"{rules.name} was tuned for {rules.tuned.model} on {rules.tuned.dataset}"
            raise BenchError(f"{tuned}, not for {spec.name} on {dataset}; medbench tune writes a study of all its runs")
        runs.extend(Run(rules.name, spec.name, dataset, seed) for seed in chosen)
    return list(dict.fromkeys(runs))


def expand_study(name: str) -> list[Run]:
    """The runs of a study, each once, in its order.

    Raises:
        ProtocolError, BenchError, ModelError: If the study or a name in it is unknown.
    """
    parts = load_study(name).parts
    for dataset in (dataset for part in parts for dataset in part.datasets):
        flag_of(dataset)  # a study rests on data that everybody can get
    runs = [run for part in parts for run in expand(part.protocols, part.models, part.datasets, part.seeds)]
    return list(dict.fromkeys(runs))


def optional_runs(name: str) -> set[Run]:
    """The runs of a study that may lack their data without failing it."""
    parts = [part for part in load_study(name).parts if part.optional]
    return {run for part in parts for run in expand(part.protocols, part.models, part.datasets, part.seeds)}


def match_models(patterns: Iterable[str]) -> list[str]:
    """Model names of a list in which shell patterns stand for what they match, each once.

    Raises:
        BenchError: If a pattern matches nothing.
    """
    names: list[str] = []
    for pattern in patterns:
        matched = list_models(pattern) if any(sign in pattern for sign in "*?[") else [pattern]
        if not matched:
            raise BenchError(f"--models {pattern!r} matches no model; medbench list models names them")
        names.extend(matched)
    return list(dict.fromkeys(names))


def refuse_text(chosen: object, names: Iterable[str]) -> None:
    """Refuse a text where names are wanted, which would be taken for its letters.

    Raises:
        BenchError: Naming the attribute.
    """
    for name in names:
        if isinstance(given := getattr(chosen, name), str):
            kind = type(chosen).__name__
            raise BenchError(f"{kind}: {name} is the text {given!r}; give a tuple, ({given!r},) for one")


@dataclass(frozen=True)
class Selection:
    """Which runs are meant: a study, or protocols x models x data sets x seeds.

    Attributes:
        protocols: Names or TOML files.
        models: Names; shell patterns stand for what they match.
        datasets: MedMNIST flags, `synthetic-<flag>`, or TOML cards of one's own data sets.
        seeds: Of each combination; seed 0 if empty.
        study: A study's name or TOML file, instead of the four above.
        plugins: Python files with registered models, loaded before a name is looked up.
        shard: `i/n` for every n-th run from the i-th, "" for all.
    """

    protocols: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    study: str = ""
    plugins: tuple[Path, ...] = ()
    shard: str = ""

    def __post_init__(self) -> None:
        """Refuse from a notebook what no command line can hold.

        Raises:
            BenchError: If a text stands for a tuple, or a seed is none.
        """
        refuse_text(self, ("protocols", "models", "datasets", "seeds", "plugins"))
        for seed in self.seeds:
            if type(seed) is not int or not 0 <= seed <= MAX_SEED:
                raise BenchError(f"Selection: seed {seed!r} is refused; give whole numbers from 0 to {MAX_SEED:,}")
        object.__setattr__(self, "plugins", tuple(map(Path, self.plugins)))

    def tracks(self, more: Iterable[str] = ()) -> tuple[str, ...]:
        """The corruption tracks that are asked for, each once: these, and those that the study names."""
        return tuple(dict.fromkeys([*more, *(load_study(self.study).tracks if self.study else ())]))

    def runs(self) -> list[Run]:
        """The runs, each once, in a fixed order; plugins are loaded.

        Raises:
            BenchError, ModelError: If nothing is selected, a study is mixed with other selectors, or a name is unknown.
        """
        for plugin in self.plugins:
            load_plugin(plugin)
        named = {"--protocol": self.protocols, "--models": self.models, "--datasets": self.datasets}
        if self.study:
            if any(named.values()) or self.seeds:
                raise BenchError(
                    "--study names its own protocols, models, data sets and seeds; leave other selectors out"
                )
            return take_shard(expand_study(self.study), self.shard)
        missing = [option for option, names in named.items() if not names]
        if missing:
            raise BenchError(f"Nothing is selected: give --study, or {', '.join(missing)} too")
        datasets = [resolve(name) for name in self.datasets]
        runs = expand(self.protocols, match_models(self.models), datasets, self.seeds or (0,))
        return take_shard(runs, self.shard)


def refusal(spec: ModelSpec, protocol: Protocol) -> str:
    """Why a model can never run under a protocol, "" if it can."""
    if spec.kind != "network":
        arms = (protocol.data.sampler, protocol.loss.class_weights, protocol.loss.logit_adjustment)
        if arms != ("shuffled", "none", 0.0):
            return f"{spec.name} is fitted; class weights, balanced sampling and logit adjustment are a training's"
        return ""
    size = protocol.data.img_size
    if not spec.takes(size):
        return f"{spec.name} takes images of {spec.sizes}, the protocol has {size} px"
    if protocol.init.kind == "imagenet" and spec.name not in protocol.init.weights:
        return f"{protocol.name} pins no public ImageNet-1k weights for {spec.name} ({spec.weights_license})"
    return ""
