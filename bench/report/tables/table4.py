"""Table 4: what each model costs, counted here by three counters, beside what was published and what was claimed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from bench.records.cost_record import COUNTERS, CostRecord
from bench.records.names import model_slug
from bench.records.own_models import is_fitted, own_models, own_spec
from bench.report.analysis.analyse import Analysis
from bench.report.evidence import Evidence, first_line
from bench.report.formats import NOTHING, Block, Bullets, Heading, Row, Table, Text, signed
from bench.report.links import Links
from bench.report.published.names import model_name, model_names
from bench.report.published.numbers import NAMESAKES, PublishedCost, published_costs, quoted_cost
from bench.report.site.layout import written
from bench.report.tables.timings import timing_blocks
from bench.report.tidy import model_order

SIZE, NUM_CLASSES = 224, 8  # what the tables show; the CSV holds every size and number of classes that was counted
CLAIMED, BESIDE = "medspectralnet", "medspectralnet_8m5"  # the text as written is judged, the other stands beside it
COLUMNS = [
    *("model", "img_size", "in_chans", "num_classes", "counter", "gmacs", "coverage", "num_params"),
    *("published_name", "published_kind", "published_img_size", "published_gmacs", "gmacs_difference_percent"),
    *("published_params_m", "params_difference_percent", "published_source", "explanation", "record_digest"),
]


def render(evidence: Evidence, analysis: Analysis, *, synthetic: bool) -> dict[str, bytes]:
    """`table4.md`, `table4.tex` and `table4.csv`; costs know no data set, so nothing synthetic is in them.

    Args:
        evidence: Names the results folder, whose cost and timing records are read.
        analysis: Not used; every table has the same signature.
        synthetic: Nothing for True.
    """
    del analysis
    if synthetic:
        return {}
    costs, timings = evidence.costs[0], evidence.timings[0]
    shown = {r.model: r for r in costs if (r.img_size, r.num_classes) == (SIZE, NUM_CLASSES)}
    blocks = [*_head(), *_claim_blocks(shown), *_count_blocks(shown, evidence.links), *timing_blocks(timings)]
    blocks += _published_blocks(set(shown))
    line = first_line([*costs, *timings])
    return written("table4", blocks, cost_frame(costs), line, synthetic=False)


def own_networks() -> list[str]:
    """The networks that come with the suite, no plugin among them, in the order of the tables."""
    return sorted((name for name in own_models() if not is_fitted(name)), key=model_order)


def percent_difference(measured: float, published: float) -> float:
    """(measured - published) / published in percent; NaN where nothing was published."""
    return math.nan if math.isnan(published) else 100 * (measured - published) / published


def cost_frame(costs: Sequence[CostRecord]) -> pd.DataFrame:
    """One row a model, size, K and counter, with the published row that stands beside it."""
    rows = []
    for record in sorted(costs, key=lambda r: (model_order(r.model), r.img_size, r.num_classes)):
        quoted = quoted_cost(record.model)
        same_size = quoted is not None and quoted.resolution == record.img_size
        gmacs = quoted.gmacs if quoted and same_size else math.nan
        params = quoted.num_params_m if quoted else math.nan
        about = (quoted.name, quoted.source_kind, quoted.resolution) if quoted else ("", "", None)
        for count in record.counts:
            key = (record.model, record.img_size, record.in_chans, record.num_classes, count.counter)
            counted = (count.macs / 1e9, count.coverage, record.num_params)
            published = (quoted.gmacs if quoted else math.nan, percent_difference(count.macs / 1e9, gmacs))
            sizes = (params, percent_difference(record.num_params / 1e6, params), quoted.source if quoted else "")
            rows.append((*key, *counted, *about, *published, *sizes, count.explanation, record.record_digest))
    return pd.DataFrame(rows, columns=COLUMNS).astype({"published_img_size": "Int64"})


def _head() -> list[Block]:
    units = (
        'MACs are multiply-accumulates, a MAC is 2 FLOPs; what the literature prints as "GFLOPs" for these models are '
        "GMACs. Parameters in millions, a tied tensor once. Differences are counted minus published, in percent of the "
        "published number."
    )
    counting = (
        f"Counted on one image of {SIZE} px with 3 channels and K = {NUM_CLASSES} classes; the CSV holds the other K. "
        "The counters: thop (the paper's tool), ptflops, and aten, which is torch's FlopCounterMode halved, with "
        "formulas for attention and the selective scan. Coverage is the share of executed operators, weighted by "
        "output elements, that aten has a formula for; the rest is element-wise."
    )
    published = (
        "Published numbers stand with their row in the list at the end. They were printed for other numbers of classes "
        "(1,000 where the list says so), which moves parameters by the classifier's; a count for another image size "
        "has no difference."
    )
    return [Heading("Table 4: parameters and multiply-accumulates", 1), units, counting, published]


def _claim_blocks(shown: Mapping[str, CostRecord]) -> list[Block]:
    """The paper's claims about its own model, beside what was counted."""
    quoted = quoted_cost(CLAIMED)
    assert quoted is not None
    rows = [_claim_row("parameters (M)", quoted.num_params_m, {m: r.num_params / 1e6 for m, r in shown.items()})]
    for counter in COUNTERS:
        counted = {m: r.count(counter).macs / 1e9 for m, r in shown.items()}
        rows.append(_claim_row(f"GMACs, {counter}", quoted.gmacs, counted))
    text = (
        f"The claim is judged on `{CLAIMED}`, the text as written; `{BESIDE}`, one block shorter, shows what the "
        f"claimed size would take. Claimed: {row_ids()[quoted.name]}."
    )
    header = ["MedSpectralNet", "claimed", CLAIMED, "difference, %", BESIDE, "difference, %"]
    caption = f"MedSpectralNet, claimed and counted ({SIZE} px, K = {NUM_CLASSES})"
    return [Heading("MedSpectralNet: claimed and counted"), text, Table(caption, header, rows, frozenset(range(1, 6)))]


def _claim_row(name: str, claimed: float, counted: Mapping[str, float]) -> Row:
    cells = [name, f"{claimed:.2f}"]
    for model in (CLAIMED, BESIDE):
        value = counted.get(model, math.nan)
        cells += [NOTHING, ""] if math.isnan(value) else [f"{value:.3f}", signed(percent_difference(value, claimed), 1)]
    return Row(cells)


def _count_blocks(shown: Mapping[str, CostRecord], links: Links) -> list[Block]:
    models = sorted({*own_networks(), *shown}, key=model_order)
    header = ["model", "M published", "M counted", "difference, %", "GMACs published"]
    for counter in COUNTERS:
        header += [counter, "difference, %"]
    header.append("aten coverage, %")
    rows = [_count_row(model, shown.get(model), links) for model in models]
    table = Table(
        f"Parameters (M) and GMACs, {SIZE} px, K = {NUM_CLASSES}", header, rows, frozenset(range(1, len(header)))
    )
    blocks: list[Block] = [Heading("Counted and published"), table]
    missing = [model for model in models if model not in shown]
    if missing:
        command = f"medbench measure costs --size {SIZE} --num-classes {NUM_CLASSES} --models {','.join(missing)}"
        blocks += [f"Not counted: {model_names(missing)}; `{command}` counts them."]
    notes = [f"{model_name(model)}: {'; '.join(parts)}." for model in models if (parts := notes_of(model))]
    whys = [
        f"{model_name(r.model)}: {c.explanation}."
        for r in map(shown.get, models)
        if r
        for c in r.counts
        if c.explanation
    ]
    blocks += [Heading("Readings of the models", 3), Bullets(notes)] if notes else []
    blocks += [Heading("Where counters differ by more than 2 %", 3), Bullets(whys)] if whys else []
    return blocks


def notes_of(model: str) -> list[str]:
    """What the registry says of the literature's numbers, of deviations, and whose number stands beside ours."""
    spec = own_spec(model)
    if spec is None:
        return []
    namesake = NAMESAKES.get(model)
    beside = f"beside it stands what was printed for {model_name(namesake)}" if namesake else ""
    return [part for part in (spec.published, spec.differs, beside) if part]


def _count_row(model: str, record: CostRecord | None, links: Links) -> Row:
    quoted = quoted_cost(model)
    at_other_size = f" at {quoted.resolution} px" if quoted and quoted.resolution != SIZE else ""
    published = [
        _published_cell(quoted, quoted.num_params_m) if quoted else NOTHING,
        _published_cell(quoted, quoted.gmacs, at_other_size) if quoted else NOTHING,
    ]
    if record is None:
        return Row([model, published[0], NOTHING, "", published[1], *[NOTHING, ""] * len(COUNTERS), NOTHING])
    link = links.to_costs(model, SIZE, NUM_CLASSES)
    params = record.num_params / 1e6
    cells: list[Text | str] = [model, published[0], Text(f"{params:.3f}", link)]
    cells += [signed(percent_difference(params, quoted.num_params_m), 1) if quoted else "", published[1]]
    gmacs = quoted.gmacs if quoted and quoted.resolution == SIZE else math.nan
    for counter in COUNTERS:
        value = record.count(counter).macs / 1e9
        cells += [f"{value:.3f}", signed(percent_difference(value, gmacs), 1)]
    cells.append(f"{100 * record.count('aten').coverage:.0f}")
    return Row(cells, f"record: {model_slug(model)}/{SIZE}-{NUM_CLASSES} {record.record_digest}")


def _published_cell(quoted: PublishedCost, value: float, size: str = "") -> str:
    if math.isnan(value):
        return NOTHING
    doubt = f", {quoted.doubt}" if quoted.doubt else ""
    return f"{value:g}{size} ({row_ids()[quoted.name]}{doubt})"


def row_ids() -> dict[str, str]:
    """Published name -> the number of its row in the list, `PC1`; several sources of one name share its first row."""
    ids: dict[str, str] = {}
    for number, cost in enumerate(published_costs(), start=1):
        ids.setdefault(cost.name, f"PC{number}")
    return ids


def _published_blocks(counted: set[str]) -> list[Block]:
    costs = published_costs()
    sources = {source: number for number, source in enumerate(dict.fromkeys(cost.source for cost in costs), start=1)}
    rows = []
    for number, cost in enumerate(costs, start=1):
        values = [NOTHING if math.isnan(value) else f"{value:g}" for value in (cost.num_params_m, cost.gmacs)]
        ours = cost.medbench_model if cost.medbench_model in counted else NOTHING
        rest = [str(cost.resolution), cost.source_kind, ours, f"({sources[cost.source]})"]
        rows.append(Row([f"PC{number}", cost.name, *values, *rest]))
    header = ["row", "published name", "M", "GMACs", "px", "kind", "counted as", "source"]
    caption = "Published and claimed costs; nothing here was counted by this suite"
    table = Table(caption, header, rows, right=frozenset({2, 3, 4}))
    items = [f"({number}) {source}" for source, number in sources.items()]
    text = "None of these numbers was counted here; `kind` says how each came about."
    return [Heading("Published numbers"), text, table, "Sources:", Bullets(items)]
