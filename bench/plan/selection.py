"""Which runs a selection means, and how each stands: done, missing, stale or failed. No torch."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Literal

from bench.data.names import flag_of
from bench.errors import BenchError, ProtocolError, RecordError
from bench.machine.cpu_isa import DEFAULT, CpuIsa
from bench.plan.estimate import CostEstimate, Estimate
from bench.protocols.loading import MAX_SEED, Protocol, load_protocol, load_study
from bench.records.card import DataCard, read_card
from bench.records.names import Run
from bench.records.run_record import Record, read_record
from models.catalog import ModelError, ModelSpec, get_spec, is_current

State = Literal["done", "missing", "stale", "failed"]
Overwrite = Literal["never", "stale", "failed", "isa", "always"]
SEED_RANGE = re.compile(r"([0-9]{1,10})(?:-([0-9]{1,10}))?")
MAX_SEEDS = 10_000  # of one range: more is a slip


@dataclass(frozen=True)
class PlannedRun:
    """A run, how it stands, why, and what it should cost; of a finished one, what arithmetic its record names."""

    run: Run
    state: State
    reason: str = ""
    obstacle: str = ""
    estimate: Estimate | None = None
    record: Record | None = field(default=None, repr=False)


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
        flag_of(dataset)
        chosen = seeds if spec.kind == "network" else seeds[:1]
        name = load_protocol(protocol).name
        runs.extend(Run(name, spec.name, dataset, seed) for seed in chosen)
    return list(dict.fromkeys(runs))


def expand_study(name: str) -> list[Run]:
    """The runs of a study, each once, in its order.

    Raises:
        ProtocolError, BenchError, ModelError: If the study or a name in it is unknown.
    """
    parts = load_study(name).parts
    runs = [run for part in parts for run in expand(part.protocols, part.models, part.datasets, part.seeds)]
    return list(dict.fromkeys(runs))


def optional_runs(name: str) -> set[Run]:
    """The runs of a study that may lack their data without failing it."""
    parts = [part for part in load_study(name).parts if part.optional]
    return {run for part in parts for run in expand(part.protocols, part.models, part.datasets, part.seeds)}


def obstacle(spec: ModelSpec, protocol: Protocol) -> str:
    """Why a model can never run under a protocol, "" if it can."""
    if spec.kind != "network":
        return ""
    size = protocol.data.img_size
    if not spec.takes(size):
        return f"{spec.name} takes images from {spec.min_size} px{spec.steps}, the protocol has {size} px"
    if protocol.init.kind == "imagenet" and spec.name not in protocol.init.weights:
        return f"{protocol.name} pins no public ImageNet-1k weights for {spec.name} ({spec.weights_license})"
    return ""


def staleness(record: Record, card: DataCard | None) -> str:
    """Why a record no longer counts, "" if it does: its protocol, model or data changed since.

    A protocol file or plugin that is not loaded here cannot be compared with; see `unchecked`.

    Args:
        record: The record.
        card: Its data set's card, None where it was not measured.
    """
    hidden = unchecked(record)
    if "protocol" not in hidden and record.protocol_digest != load_protocol(record.protocol).digest():
        return "the protocol changed"
    timm_version = record.packages.get("timm", "")
    if "model" not in hidden and not is_current(record.model, record.model_fingerprint, timm_version):
        return "the model's code (or timm's version) changed"
    if record.status == "done" and card is not None and record.labels_digest != card.labels_digest:
        return "the data changed"
    return ""


def stand(run: Run, results: Path, card_of: Callable[[str], DataCard | None]) -> tuple[State, str, Record | None]:
    """How a run stands in a results folder, why, and the record that says so."""
    path = run.path(results)
    if not path.exists():
        return "missing", "", None
    try:
        record = read_record(path, results)
    except RecordError as error:
        return "failed", f"damaged record: {error}", None
    if record.status == "skipped":
        return "missing", record.failure.message if record.failure else "skipped", record
    if record.status == "failed":
        return "failed", f"{record.failure.kind}: {record.failure.message}" if record.failure else "failed", record
    reason = staleness(record, card_of(record.dataset))
    return ("stale" if reason else "done"), reason, record


def unchecked(record: Record) -> list[str]:
    """What of a record cannot be compared with today's: a `protocol` or `model` that is not known here."""
    hidden = []
    try:
        load_protocol(record.protocol)
    except ProtocolError:
        hidden.append("protocol")
    try:
        get_spec(record.model)
    except ModelError:
        hidden.append("model")
    return hidden


def make_plan(runs: Sequence[Run], results: Path) -> list[PlannedRun]:
    """How each run stands, with an estimate for those not done."""
    card_of = cache(partial(read_card, results))
    cost = CostEstimate(results, card_of)
    planned = []
    for run in runs:
        state, reason, record = stand(run, results, card_of)
        blocked = obstacle(get_spec(run.model), load_protocol(run.protocol))
        estimate = None if state == "done" or blocked else cost.of(run)
        planned.append(PlannedRun(run, state, reason or blocked, blocked, estimate, record))
    return planned


def _computed_otherwise(record: Record | None, isa: CpuIsa) -> bool:
    """Whether a finished record was made on a CPU without the arithmetic `isa`."""
    return record is not None and (record.device or "").startswith("cpu") and record.cpu_isa != isa


def choose(planned: Sequence[PlannedRun], overwrite: Overwrite, isa: CpuIsa = DEFAULT) -> list[PlannedRun]:
    """The runs to do: the missing ones, and what `overwrite` adds to them.

    Args:
        planned: From `make_plan`.
        overwrite: `isa` adds the finished runs of a CPU whose record does not name the arithmetic `isa`.
        isa: The arithmetic of this call.
    """
    if overwrite == "isa":
        return [item for item in planned if item.state == "missing" or _computed_otherwise(item.record, isa)]
    redo: dict[str, tuple[State, ...]] = {
        "never": ("missing",),
        "stale": ("missing", "stale"),
        "failed": ("missing", "failed"),
        "always": ("missing", "stale", "failed", "done"),
    }
    return [item for item in planned if item.state in redo[overwrite]]
