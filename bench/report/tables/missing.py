"""What the studies plan, why a cell is empty, and the command that fills it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from bench.errors import BenchError
from bench.plan.selection import refusal
from bench.protocols.loading import list_studies, load_protocol, load_study
from bench.protocols.planned import planned_seeds
from bench.records.names import SYNTHETIC_PREFIX
from bench.records.own_models import is_fitted, own_spec
from bench.records.run_record import Record
from bench.report.evidence import Evidence, Reason
from bench.report.formats import quoted
from bench.report.published.names import dataset_name, dataset_names, model_name, model_names
from bench.report.tidy import model_order, seed_list

NOT_RUN = Reason("not run", "")


@dataclass(frozen=True)
class MissingCells:
    """Empty cells of one protocol and one reason: each of the models on each of the data sets."""

    datasets: tuple[str, ...]
    models: tuple[str, ...]
    reason: str

    @property
    def text(self) -> str:
        """`not run (ResNet-18, Swin-T)`."""
        return f"{quoted(self.reason)} ({model_names(self.models)})"

    @property
    def line(self) -> str:
        """`BloodMNIST, DermaMNIST: not run (ResNet-18, Swin-T)`."""
        return f"{dataset_names(self.datasets)}: {self.text}"


@dataclass(frozen=True)
class LackingSeeds:
    """What a cell with a mean lacks of its plan, or has beside it."""

    dataset: str
    what: str  # `ResNet-18, seed 2: failed: the loss is NaN`, `seeds 1, 2 not run`
    models: tuple[str, ...] = ()  # that lack the same, where `what` names none

    @property
    def text(self) -> str:
        """`seeds 1, 2 not run (ConvNeXt-T, MedViT-T)`."""
        return f"{self.what} ({model_names(self.models)})" if self.models else self.what

    @property
    def line(self) -> str:
        """`BreastMNIST: ResNet-18, seed 2: failed: the loss is NaN`."""
        return f"{dataset_name(self.dataset)}: {self.text}"


@cache
def planned(protocol: str, *, synthetic: bool) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
    """What the studies want under a protocol: (model, data set, seeds); their optional parts are not missed."""
    cells: dict[tuple[str, str], set[int]] = {}
    for part in (part for name in list_studies() for part in load_study(name).parts if not part.optional):
        for dataset in (name for name in part.datasets if name.startswith(SYNTHETIC_PREFIX) == synthetic):
            for model in part.models if protocol in part.protocols else ():
                cells.setdefault((model, dataset), set()).update(part.seeds)
    return tuple((model, dataset, tuple(sorted(seeds))) for (model, dataset), seeds in cells.items())


def why_missing(evidence: Evidence, protocol: str, model: str, dataset: str) -> Reason:
    """Why a cell is empty: how its run ended, what keeps it from running, or that nobody ran it."""
    for record, reason in evidence.without_scores(protocol):
        if (record.model, record.dataset) == (model, dataset):
            return reason
    spec = own_spec(model)
    try:
        refused = refusal(spec, load_protocol(protocol)) if spec else ""
    except BenchError:
        return NOT_RUN
    return Reason(refused) if refused else NOT_RUN


def missing_groups(evidence: Evidence, protocol: str, missing: Iterable[tuple[str, str]]) -> list[MissingCells]:
    """Empty cells (model, data set) of a protocol by their reason."""
    reasons: dict[str, dict[str, list[str]]] = {}
    for model, dataset in missing:
        reason = why_missing(evidence, protocol, model, dataset)
        reasons.setdefault(reason.text, {}).setdefault(dataset, []).append(model)
    groups = []
    for text, by_dataset in reasons.items():
        same: dict[tuple[str, ...], list[str]] = {}
        for dataset, models in by_dataset.items():
            same.setdefault(tuple(models), []).append(dataset)
        groups += [MissingCells(tuple(datasets), models, text) for models, datasets in same.items()]
    return groups


def lost_seeds(evidence: Evidence, protocol: str, models: Iterable[str], dataset: str = "") -> list[LackingSeeds]:
    """Planned seeds without scores of cells that have other ones, and seeds that no study plans.

    `ResNet-18, seed 2: failed: the loss is NaN`; `seeds 1, 2 not run (ConvNeXt-T, MedViT-T)`; `ResNet-18, seed 97: no
    study plans it, in no mean: AUC 0.912, ACC 0.865`.

    Args:
        evidence: The records.
        protocol: The protocol.
        models: Those of the table.
        dataset: One set alone, "" for all.
    """
    shown = set(models)
    have = {(r.model, r.dataset) for r in evidence.records if r.protocol == protocol and r.model in shown}
    lacking = [
        LackingSeeds(record.dataset, f"{model_name(record.model)}, seed {record.seed}: {quoted(reason.text)}")
        for record, reason in evidence.without_scores(protocol)
        if (record.model, record.dataset) in have
    ]
    tried: dict[tuple[str, str], set[int]] = {}
    for record in (*evidence.records, *evidence.unfinished, *(record for record, _ in evidence.stale)):
        if record.protocol == protocol:
            tried.setdefault((record.model, record.dataset), set()).add(record.seed)
    open_seeds: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for model, name in sorted(have, key=lambda cell: (cell[1], model_order(cell[0]))):
        # What is fitted comes out the same for every seed.
        planned = () if is_fitted(model) else planned_seeds(protocol, model, name)
        seeds = tuple(seed for seed in planned if seed not in tried[model, name])
        if seeds:
            open_seeds.setdefault((name, seeds), []).append(model)
    for (name, seeds), group in open_seeds.items():
        lacking.append(LackingSeeds(name, f"{seed_list(seeds)} not run", tuple(group)))
    for record in evidence.unplanned:
        if record.protocol == protocol and record.model in shown:
            text = (
                f"{model_name(record.model)}, seed {record.seed}: no study plans it, in no mean: {_test_scores(record)}"
            )
            lacking.append(LackingSeeds(record.dataset, text))
    return [item for item in lacking if dataset in ("", item.dataset)]


def _test_scores(record: Record) -> str:
    scores = record.test or {}
    return ", ".join(f"{key.upper()} {value:.3f}" for key in ("auc", "acc") if (value := scores.get(key)) is not None)


@dataclass(frozen=True)
class Command:
    """A `medbench` command that gives missing evidence; as text it is what a reader types."""

    start: str  # the command, and the options that stand before the lists
    models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    end: str = ""  # the options behind the lists

    def __str__(self) -> str:
        models = f" --models {','.join(self.models)}" if self.models else ""
        datasets = f" --datasets {','.join(self.datasets)}" if self.datasets else ""
        return f"medbench {self.start}{models}{datasets}{self.end}"


def fill_command(
    protocol: str, models: Iterable[str], datasets: Iterable[str], seeds: Iterable[int] = (0,), option: str = ""
) -> Command:
    """The command that fills cells; runs that are done are not run again."""
    seeds = sorted(set(seeds))
    consecutive = len(seeds) > 1 and seeds == list(range(seeds[0], seeds[-1] + 1))
    chosen = f"{seeds[0]}-{seeds[-1]}" if consecutive else ",".join(map(str, seeds))
    names, sets = tuple(dict.fromkeys(models)), tuple(dict.fromkeys(datasets))
    return Command(f"run --protocol {protocol}", names, sets, f" --seeds {chosen}{option}")
