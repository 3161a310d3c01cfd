"""The quantities that are read: counted costs, data sets and published numbers, each with where it stands."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from bench.errors import RecordError
from bench.records.cost_record import CostCell, CostRecord, Count
from bench.report.analysis_plan import OURS
from bench.report.claims.sources import Sources
from bench.report.claims.values import ACCURACIES, Quantity, Source, absent, fewer, leaf, printed
from bench.report.published.names import dataset_name, model_name
from bench.report.published.numbers import PublishedCost, quoted_cost
from bench.report.tables.missing import Command

SIZE = 224  # px: what the printed costs fit; the paper's own resolution was lost in extraction
CLASSES = 8  # BloodMNIST's; no printed digit depends on it


def params(sources: Sources, model: str, num_classes: int = CLASSES) -> Quantity:
    """Counted parameters, in millions."""
    record = sources.costs.get((model, SIZE, num_classes))
    if record is None:
        return absent(_costs_command(model, SIZE, num_classes))
    where = f"{record.num_params:,} parameters counted of {model_name(model)}, {num_classes} classes: {_where(record)}"
    return leaf(Fraction(record.num_params, 10**6), where, unit="M", decimals=6)


def head_width(sources: Sources, model: str) -> Quantity:
    """Channels before a linear head: one class more costs a weight for each, and one bias."""
    counts = [params(sources, model, classes) for classes in (CLASSES, CLASSES - 1)]
    if any(count.value is None for count in counts):
        return absent(*[need for count in counts for need in count.needs])
    more, less = (int(count.known() * 10**6) for count in counts)
    where = tuple(line for count in counts for line in count.sources)
    return Quantity(Fraction(more - less - 1), f"{more:,} − {less:,} − 1", "channels", None, 1, where)


def gmacs(sources: Sources, model: str, counter: str = "thop", size: int = SIZE) -> Quantity:
    """Counted multiply-accumulates in G, by a counter; `thop` is the paper's."""
    counted = _counted(sources, model, counter, size)
    if counted is None:
        return absent(_costs_command(model, size, CLASSES))
    record, count = counted
    where = f"{count.macs:,} MACs of {model_name(model)} by {counter}, {size} px, {CLASSES} classes: {_where(record)}"
    return leaf(Fraction(count.macs, 10**9), where, unit="GMACs", decimals=6)


def coverage(sources: Sources, model: str, counter: str) -> Quantity:
    """Share of a model's operators (by output elements) that a counter counts, in percent."""
    counted = _counted(sources, model, counter, SIZE)
    if counted is None:
        return absent(_costs_command(model, SIZE, CLASSES))
    record, count = counted
    return leaf(
        Fraction(count.coverage) * 100, f"coverage of {model_name(model)} by {counter}: {_where(record)}", unit="%"
    )


def _counted(sources: Sources, model: str, counter: str, size: int) -> tuple[CostRecord, Count] | None:
    record = sources.costs.get((model, size, CLASSES))
    counts = record.counts if record else []
    return next(((record, count) for count in counts if record and count.counter == counter), None)


def fewer_params(sources: Sources, theirs: str) -> Quantity:
    """By how many percent MedSpectralNet's counted parameters are below another model's."""
    return fewer(params(sources, OURS), params(sources, theirs))


def fewer_macs(sources: Sources, theirs: str, counter: str = "thop") -> Quantity:
    """By how many percent MedSpectralNet's counted MACs are below another model's."""
    return fewer(gmacs(sources, OURS, counter), gmacs(sources, theirs, counter))


def scaling(sources: Sources, model: str, without: str = "") -> Quantity:
    """MACs at twice the height and width over MACs at 224 px (aten); `without`: of the part that a variant lacks."""

    def amount(size: int) -> Quantity:
        whole = gmacs(sources, model, "aten", size)
        return whole - gmacs(sources, without, "aten", size) if without else whole

    return amount(2 * SIZE) / amount(SIZE)


def attention_ratio(sources: Sources, model: str, without: str, tokens: int, chans: int) -> Quantity:
    """MACs of self-attention with the parameters of a part, over the part's MACs (aten).

    The part is what `model` has and `without` lacks. Attention: query, key, value and output without biases, so its
    projections cost parameters x tokens, and scores and sums 2 x tokens^2 x width, width = parameters / (4 x chans).
    """
    inside = params(sources, model) - params(sources, without)
    part = gmacs(sources, model, "aten") - gmacs(sources, without, "aten")
    count, squares = (Quantity(Fraction(number), f"{number:,}") for number in (tokens, 2 * tokens**2))
    width = inside / Quantity(Fraction(4 * chans), f"(4 × {chans})")
    return replace((inside * count + squares * width) / 1000 / part, unit="times")


def vit_macs(
    img_size: int, *, patch: int = 16, width: int = 768, depth: int = 12, num_classes: int = CLASSES
) -> tuple[int, int]:
    """MACs of a ViT (Dosovitskiy et al. 2021) without class token, in closed form; by default of ViT-B/16.

    Args:
        img_size: Height and width, a multiple of the patch.
        patch: Its side.
        width: Channels of a token.
        depth: Blocks, each with an MLP four times as wide.
        num_classes: Of the head.

    Returns:
        Of patches, projections, MLPs and head; of self-attention's scores and weighted sums alone.
    """
    tokens = (img_size // patch) ** 2
    embedding = tokens * 3 * patch**2 * width
    blocks = depth * tokens * 12 * width**2  # query, key, value and output 4, the MLP 8
    return embedding + blocks + width * num_classes, depth * 2 * tokens**2 * width


def vit_scaling(*, attention: bool) -> Quantity:
    """A ViT's MACs at twice the height and width over those at 224 px: of self-attention alone, or of all."""
    sizes = [vit_macs(size) for size in (2 * SIZE, SIZE)]
    counts = [parts[1] if attention else sum(parts) for parts in sizes]
    what = "scores and sums of ViT-B/16" if attention else "ViT-B/16"
    names = [f"MACs of {what}, {size} px, closed form (terms.vit_macs)" for size in (2 * SIZE, SIZE)]
    large, small = (leaf(Fraction(count, 10**9), name, unit="GMACs") for count, name in zip(counts, names, strict=True))
    return large / small


def imbalance(sources: Sources, dataset: str) -> Quantity:
    """Images of the largest class over those of the smallest; only a measured card has them."""
    facts = sources.data[dataset]
    if not facts.class_counts:
        return absent(_data_command(dataset))
    totals = [sum(counts) for counts in zip(*facts.class_counts.values(), strict=True)]
    return Quantity(Fraction(max(totals), min(totals)), "", sources=(facts.source,))


def least_imbalance(sources: Sources, dataset: str, constant: str) -> Quantity:
    """What it is at least in the test split: the other classes share what a constant predictor's accuracy leaves.

    Args:
        sources: All evidence.
        dataset: A MedMNIST flag.
        constant: The published constant predictor.
    """
    largest = published(sources, constant, dataset)
    return replace(largest / ((100 - largest) / (num_classes(sources, dataset) - 1)), unit="")


def published(sources: Sources, name: str, dataset: str, metric: str = "acc") -> Quantity:
    """A score that others printed, in percent (AUC as a fraction).

    Raises:
        RecordError: If the published file has no such row.
    """
    key = (name, dataset, metric)
    score = next((score for score in sources.scores if (score.name, score.dataset, score.metric) == key), None)
    if score is None:
        raise RecordError(f"no {metric} of {name} on {dataset} in results.csv")
    value = Decimal(repr(score.value)) * (100 if metric == "acc" else 1)
    decimals = max(1, -int(value.normalize().as_tuple().exponent))
    where = f"{name}, {dataset_name(dataset)}, {metric} {value.normalize():f}: {score.source}"
    return leaf(Fraction(value), where, unit="%" if metric == "acc" else "", decimals=decimals)


def published_params(sources: Sources, name: str) -> Quantity:
    """Parameters in millions that others printed."""
    return _published_cost(sources, name, lambda cost: cost.num_params_m, "M")


def published_gmacs(sources: Sources, name: str) -> Quantity:
    """GMACs (printed as GFLOPs) that others printed."""
    return _published_cost(sources, name, lambda cost: cost.gmacs, "GMACs")


def _published_cost(sources: Sources, name: str, count: Callable[[PublishedCost], float], unit: str) -> Quantity:
    quoted = quoted_cost(name)
    rows = [cost for cost in sources.published_costs if cost.name == (quoted.name if quoted else name)]
    cost = next((cost for cost in rows if not math.isnan(count(cost))), None)
    if cost is None:
        raise RecordError(f"no {unit} of {name} in costs.csv")
    value = count(cost)
    where = f"{cost.name}, {value:g} {unit}: {cost.source}"
    return leaf(Fraction(repr(value)), where, unit=unit, decimals=len(f"{value:.10g}".partition(".")[2]))


def images(sources: Sources, dataset: str, split: str = "") -> Quantity:
    """Images of a split, or of all three."""
    facts = sources.data[dataset]
    number = facts.num_images[split] if split else sum(facts.num_images.values())
    return leaf(number, facts.source, unit="images")


def num_classes(sources: Sources, dataset: str) -> Quantity:
    """How many labels a data set has."""
    facts = sources.data[dataset]
    return leaf(len(facts.class_names), facts.source, unit="classes")


def num_channels(sources: Sources, dataset: str) -> Quantity:
    """Channels of a data set's images: 1 is gray, 3 is colour."""
    facts = sources.data[dataset]
    return leaf(facts.num_channels, facts.source, unit="channels")


def class_images(sources: Sources, dataset: str, index: int, split: str = "test") -> Quantity:
    """Images of one class in a split; only a measured card has them."""
    facts = sources.data[dataset]
    if split not in facts.class_counts:
        return absent(_data_command(dataset))
    return leaf(facts.class_counts[split][index], facts.source, unit="images")


def smallest_share(sources: Sources, dataset: str) -> Quantity:
    """Share of the rarest class over all images of a data set, in percent; only a measured card has it."""
    facts = sources.data[dataset]
    if not facts.class_counts:
        return absent(_data_command(dataset))
    totals = [sum(counts) for counts in zip(*facts.class_counts.values(), strict=True)]
    return Quantity(Fraction(100 * min(totals), sum(totals)), "rarest class", "%", sources=(facts.source,))


def sets_stated(sources: Sources) -> Quantity:
    """For how many of MedMNIST's sets the text prints an accuracy of its own, with the set's name."""
    prints: list[Source] = []
    for dataset, (text, claim) in ACCURACIES.items():
        if dataset in sources.data and dataset in sources.quotes[claim].lower():
            prints += printed(text, claim).sources
    return replace(leaf(len(prints), "", unit="data sets"), sources=tuple(prints))


def _data_command(*datasets: str) -> Command:
    return Command("measure data", datasets=datasets)


def _costs_command(model: str, size: int, classes: int) -> Command:
    return Command("measure costs", (model,), end=f" --size {size} --num-classes {classes}")


def _where(record: CostRecord) -> str:
    path = CostCell(record.model, record.img_size, record.num_classes).path(Path("results"))
    return f"{path.as_posix()} ({record.record_digest[:12]})"
