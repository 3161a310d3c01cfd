"""The quantities that checks are made of: each reads one kind of evidence and says where it stands."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path

from bench.costs import CostCell, CostRecord
from bench.errors import RecordError
from bench.report.claims.sources import DataFacts, Sources
from bench.report.claims.values import Quantity, absent, combine, leaf
from bench.report.published import quoted_cost

Term = Callable[..., Quantity]
WORDS = {"three": 3, "four": 4, "five": 5, "six": 6, "eleven": 11}
SIZE = 224  # px: what the printed costs fit; the paper's own resolution was lost in extraction
# The paper's accuracies by data set, in percent: the claim whose quote prints each.
ACCURACIES = {
    "bloodmnist": ("98.0", "C114"),
    "breastmnist": ("86.5", "C115"),
    "dermamnist": ("78.4", "C116"),
    "pneumoniamnist": ("94.2", "C118"),
    "organcmnist": ("93.7", "C113"),
    "organsmnist": ("83.1", "C117"),
}
OURS = "MedSpectralNet (224 px)"
CLASSES = 8  # BloodMNIST's; no printed digit depends on it


def paper(sources: Sources, claim: str, text: str, other: str = "") -> Quantity:
    """A number that a quote prints; `other` names another claim's quote.

    Raises:
        RecordError: If the quote does not print it: no number enters a check by memory.
    """
    place = other or claim
    quote = sources.quotes[place]
    if not re.search(rf"(?<![\d.]){re.escape(text)}(?!\d|\.\d)", quote, re.IGNORECASE):
        raise RecordError(f"the check of {claim} takes {text!r} from {place}, whose quote does not print it")
    plain = text.replace(",", "")
    try:
        value = Decimal(WORDS.get(plain, plain))
    except InvalidOperation:
        raise RecordError(
            f"the check of {claim} takes {text!r} for a number; write one that the quote prints"
        ) from None
    decimals = max(0, -int(value.as_tuple().exponent))
    return Quantity(Fraction(value), text, decimals=decimals, sources=(f"{place} prints {text}",))


def stated(sources: Sources, claim: str, dataset: str) -> Quantity:
    """The paper's accuracy of MedSpectralNet on a data set, in percent."""
    return replace(paper(sources, claim, *ACCURACIES[dataset]), unit="%")


def given(sources: Sources, claim: str, value: int | float, unit: str = "") -> Quantity:
    """A bound that a reading sets; the claim's reading says why."""
    return Quantity(Fraction(repr(value)), repr(value), unit, sources=())


def params(sources: Sources, claim: str, model: str, num_classes: int = CLASSES) -> Quantity:
    """Counted parameters, in millions."""
    record = sources.costs.get((model, SIZE, num_classes))
    if record is None:
        return absent(_costs_command(model, SIZE, num_classes))
    where = f"{record.num_params:,} parameters counted of {model}, {num_classes} classes: {_place(record)}"
    return leaf(Fraction(record.num_params, 10**6), where, unit="M", decimals=6)


def head_width(sources: Sources, claim: str, model: str) -> Quantity:
    """Channels before a linear head: one class more costs a weight for each, and one bias."""
    counts = [params(sources, claim, model, classes) for classes in (CLASSES, CLASSES - 1)]
    if any(count.value is None for count in counts):
        return absent(*[need for count in counts for need in count.needs])
    more, less = (int(count.known() * 10**6) for count in counts)
    where = tuple(line for count in counts for line in count.sources)
    return Quantity(Fraction(more - less - 1), f"{more:,} − {less:,} − 1", "channels", None, 1, where)


def gmacs(
    sources: Sources, claim: str, model: str, counter: str = "thop", size: int = SIZE, num_classes: int = CLASSES
) -> Quantity:
    """Counted multiply-accumulates in G, by a counter; `thop` is the paper's."""
    record = sources.costs.get((model, size, num_classes))
    count = next((found for found in record.counts if found.counter == counter), None) if record else None
    if record is None or count is None:
        return absent(_costs_command(model, size, num_classes))
    where = f"{count.macs:,} MACs of {model} by {counter}, {size} px, {num_classes} classes: {_place(record)}"
    return leaf(Fraction(count.macs, 10**9), where, unit="GMACs", decimals=6)


def coverage(sources: Sources, claim: str, model: str, counter: str) -> Quantity:
    """Share of a model's operators (by output elements) that a counter counts, in percent."""
    record = sources.costs.get((model, SIZE, CLASSES))
    count = next((found for found in record.counts if found.counter == counter), None) if record else None
    if record is None or count is None:
        return absent(_costs_command(model, SIZE, CLASSES))
    where = f"coverage of {model} by {counter}: {_place(record)}"
    return leaf(Fraction(count.coverage) * 100, where, unit="%")


def scaling(sources: Sources, claim: str, model: str, without: str = "") -> Quantity:
    """MACs at twice the height and width over MACs at 224 px (aten); `without`: of the part that a variant lacks."""

    def amount(size: int) -> Quantity:
        whole = gmacs(sources, claim, model, "aten", size)
        return combine(whole, "-", gmacs(sources, claim, without, "aten", size)) if without else whole

    return combine(amount(2 * SIZE), "/", amount(SIZE))


def fewer(sources: Sources, claim: str, ours: Quantity, theirs: Quantity) -> Quantity:
    """By how many percent ours is below theirs."""
    return replace(_percent(combine(combine(theirs, "-", ours), "/", theirs)), unit="% fewer")


def gain(sources: Sources, claim: str, ours: Quantity, theirs: Quantity) -> Quantity:
    """Ours less theirs, both in percent: percentage points."""
    return replace(combine(ours, "-", theirs), unit="points")


def relative_gain(sources: Sources, claim: str, ours: Quantity, theirs: Quantity) -> Quantity:
    """By how many percent ours is above theirs."""
    return _percent(combine(combine(ours, "-", theirs), "/", theirs))


def _percent(ratio: Quantity) -> Quantity:
    return replace(ratio, value=None if ratio.value is None else ratio.value * 100, unit="%")


def attention_ratio(sources: Sources, claim: str, model: str, without: str, tokens: int, chans: int) -> Quantity:
    """MACs of self-attention with the parameters of a part, over the part's MACs (aten).

    The part is what `model` has and `without` lacks. Attention: query, key, value and output without biases, so its
    projections cost parameters x tokens, and scores and sums 2 x tokens^2 x width, width = parameters / (4 x chans).
    """
    inside = combine(params(sources, claim, model), "-", params(sources, claim, without))
    part = combine(gmacs(sources, claim, model, "aten"), "-", gmacs(sources, claim, without, "aten"))
    count, squares = (Quantity(Fraction(number), f"{number:,}") for number in (tokens, 2 * tokens**2))
    width = combine(inside, "/", Quantity(Fraction(4 * chans), f"(4 × {chans})"))
    attention = combine(combine(inside, "*", count), "+", combine(squares, "*", width))
    in_giga = combine(attention, "/", Quantity(Fraction(1000), "1000"))
    return replace(combine(in_giga, "/", part), unit="times")


def published(sources: Sources, claim: str, name: str, dataset: str, metric: str = "acc") -> Quantity:
    """A score that others printed, in percent (AUC as a fraction).

    Raises:
        RecordError: If the published file has no such row.
    """
    frame = sources.scores
    rows = frame[(frame["name"] == name) & (frame["dataset"] == dataset) & (frame["metric"] == metric)]
    if rows.empty:
        raise RecordError(f"the check of {claim} wants {name}, {dataset}, {metric}, which results.csv does not hold")
    value = Decimal(repr(float(rows["value"].iloc[0]))) * (100 if metric == "acc" else 1)
    decimals = max(1, -int(value.normalize().as_tuple().exponent))
    where = f"{name}, {dataset}, {metric} {value.normalize():f}: {rows['source'].iloc[0]}"
    return leaf(Fraction(value), where, unit="%" if metric == "acc" else "", decimals=decimals)


def sets_led(sources: Sources, claim: str) -> Quantity:
    """On how many of the six sets no published accuracy at hand is above the paper's."""
    frame = sources.scores[(sources.scores["metric"] == "acc") & (sources.scores["name"] != OURS)]
    led, where = [], []
    for dataset in ACCURACIES:
        best = frame[frame["dataset"] == dataset].sort_values("value", kind="stable").iloc[-1]
        ours, theirs = stated(sources, claim, dataset), published(sources, claim, str(best["name"]), dataset)
        led += [dataset] if ours.known() >= theirs.known() else []
        where += [f"{dataset}: {ours.text()} against {theirs.sources[0]}"]
    return replace(leaf(len(led), "", unit="of 6 data sets"), sources=tuple(where))


def published_params(sources: Sources, claim: str, name: str) -> Quantity:
    """Parameters in millions that others printed."""
    return _published_cost(sources, claim, name, "num_params_m", "M")


def published_gmacs(sources: Sources, claim: str, name: str) -> Quantity:
    """GMACs (printed as GFLOPs) that others printed."""
    return _published_cost(sources, claim, name, "gmacs", "GMACs")


def _published_cost(sources: Sources, claim: str, name: str, column: str, unit: str) -> Quantity:
    quoted = quoted_cost(name)
    rows = sources.published_costs[sources.published_costs["name"] == (quoted.name if quoted else name)]
    rows = rows[rows[column].notna()]
    if rows.empty:
        raise RecordError(f"the check of {claim} wants {column} of {name}, which costs.csv does not hold")
    value = float(rows[column].iloc[0])
    where = f"{rows['name'].iloc[0]}, {value:g} {unit}: {rows['source'].iloc[0]}"
    return leaf(Fraction(repr(value)), where, unit=unit, decimals=len(repr(value).split(".")[1]))


def images(sources: Sources, claim: str, dataset: str, split: str = "") -> Quantity:
    """Images of a split, or of all three."""
    facts = _facts(sources, claim, dataset)
    number = facts.num_images[split] if split else sum(facts.num_images.values())
    return leaf(number, facts.source, unit="images")


def num_classes(sources: Sources, claim: str, dataset: str) -> Quantity:
    """How many labels a data set has."""
    facts = _facts(sources, claim, dataset)
    return leaf(len(facts.class_names), facts.source, unit="classes")


def num_channels(sources: Sources, claim: str, dataset: str) -> Quantity:
    """Channels of a data set's images: 1 is gray, 3 is colour."""
    facts = _facts(sources, claim, dataset)
    return leaf(facts.num_channels, facts.source, unit="channels")


def class_images(sources: Sources, claim: str, dataset: str, index: int, split: str = "test") -> Quantity:
    """Images of one class in a split; only a measured card has them."""
    facts = _facts(sources, claim, dataset)
    if split not in facts.class_counts:
        return absent(data_command(dataset))
    return leaf(facts.class_counts[split][index], facts.source, unit="images")


def smallest_share(sources: Sources, claim: str, *datasets: str) -> Quantity:
    """Share of the rarest class over all images of the rarest's data set, in percent; needs every card."""
    shares, where = [], []
    for dataset in datasets:
        facts = _facts(sources, claim, dataset)
        if not facts.class_counts:
            missing = [name for name in datasets if not _facts(sources, claim, name).class_counts]
            return absent(data_command(*missing))
        totals = [sum(counts) for counts in zip(*facts.class_counts.values(), strict=True)]
        shares.append(Fraction(100 * min(totals), sum(totals)))
        where.append(facts.source)
    return Quantity(min(shares), "rarest class", "%", sources=tuple(where))


def sets_stated(sources: Sources, claim: str) -> Quantity:
    """For how many of MedMNIST's sets the text prints an accuracy of its own, with the set's name."""
    found = []
    for dataset, (text, place) in ACCURACIES.items():
        if dataset in sources.data and dataset in sources.quotes[place].lower():
            found += list(paper(sources, place, text).sources)
    return replace(leaf(len(found), "", unit="data sets"), sources=tuple(found))


def listed(sources: Sources, claim: str, *names: str) -> Quantity:
    """How many things a quote lists.

    Raises:
        RecordError: If the quote does not name one of them.
    """
    absent_names = [name for name in names if name not in sources.quotes[claim]]
    if absent_names:
        raise RecordError(f"the check of {claim} counts {absent_names[0]!r}, which its quote does not list")
    return leaf(len(names), f"listed by {claim}: {', '.join(names)}")


def _facts(sources: Sources, claim: str, dataset: str) -> DataFacts:
    if dataset not in sources.data:
        raise RecordError(f"the check of {claim} wants the data set {dataset}, which the paper does not use")
    return sources.data[dataset]


def data_command(*datasets: str) -> str:
    """The command that measures data sets' cards."""
    return f"medbench measure data --datasets {','.join(datasets)}"


def _costs_command(model: str, size: int, classes: int) -> str:
    return f"medbench measure costs --models {model} --size {size} --num-classes {classes}"


def _place(record: CostRecord) -> str:
    path = CostCell(record.model, record.img_size, record.num_classes).path(Path("results"))
    return f"{path.as_posix()} ({record.record_digest[:12]})"


TERMS: dict[str, Term] = {
    term.__name__: term
    for term in (
        *(
            paper,
            stated,
            given,
            params,
            head_width,
            gmacs,
            coverage,
            scaling,
            fewer,
            gain,
            attention_ratio,
        ),
        *(published, sets_led, published_params, published_gmacs, images, num_classes, num_channels),
        *(class_images, smallest_share, sets_stated, listed),
    )
}
