"""The calibration table: what each cell's probabilities are worth, beside what chance alone would give."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.report.ablations import is_compared
from bench.report.analysis.analyse import Analysis
from bench.report.analysis.calibration import COLUMNS, Calibration
from bench.report.analysis.pairs import Pair
from bench.report.analysis_plan import PARTS
from bench.report.evidence import Evidence, first_line
from bench.report.formats import NOTHING, Block, Heading, Row, Table, Text, signed
from bench.report.links import Links
from bench.report.published.names import dataset_name, model_name
from bench.report.site.layout import written
from bench.report.tables.score_cells import TEST_PARTS, difference_cells, interval_text, signed_interval
from bench.report.tidy import STAMP, grouped, seeds_text, table
from bench.stats.calibration import HIGHEST, LOWEST, NUM_DRAWS
from bench.stats.intervals import LEVEL
from bench.stats.metrics import NUM_ECE_BINS

READING = (
    f"ECE: expected calibration error of the predicted label's probability, {NUM_ECE_BINS} equal bins. It is above 0 "
    "by chance alone, so its floor stands beside it: what a model with these very probabilities would show if they "
    f"were true (labels drawn from them {NUM_DRAWS:,} times; mean, and the point that 95 % of the draws lie below). "
    "Only an error above that point is called miscalibrated, and then it is these trained weights that are, on these "
    "images. Its interval is over images and seeds (of what is fitted, or where no network has two seeds, over "
    "images), begins at 0 for an error that chance can give, and has what sampling adds taken off its lower end."
)
PARTS_OF_IT = (
    "NLL: mean negative log-likelihood, nats. T: the temperature that makes val likeliest (one divisor of all logits, "
    f"cut at {LOWEST:g} and {HIGHEST:g}; geometric mean over seeds). Refinement is the NLL on test that T leaves, "
    "calibration what T takes off: below 0 where val's T does not suit test. Their intervals take T as given."
)
CLASSES = (
    "Classwise: mean over classes of the error of each class's own probability. Rare: over classes with fewer training "
    "images than the median class, common: over the others; two classes share one error. L2²: debiased squared error "
    "of the predicted label's probability, below 0 where sampling noise alone would give more."
)
SCOPE = (
    "Exploratory by the analysis plan, from stored logits, without correction; floors and single seeds speak of "
    "trained weights. The twin-free test stands in the CSV."
)


def render(evidence: Evidence, analysis: Analysis, *, synthetic: bool) -> dict[str, bytes]:
    """`calibration.md`, `.tex`, `.csv` and `.html`; on synthetic data stamped ones of their own, without a page."""
    rows = [row for row in analysis.calibration if is_compared(row.protocol)]
    line = first_line(evidence.behind(rows, synthetic=synthetic))
    title = "Calibration: what the probabilities are worth"
    blocks: list[Block] = [Heading(f"{STAMP}: {title}, on synthetic data" if synthetic else title, 1)]
    blocks += [READING, PARTS_OF_IT, CLASSES, SCOPE, _count(rows)] if rows else ["No records yet."]
    stamp = f" ({STAMP})" if synthetic else ""
    groups = grouped((row for row in rows if row.part == "test"), lambda row: (row.protocol, row.dataset))
    for (protocol, dataset), own in groups.items():
        where = f"{dataset_name(dataset)}, {protocol}{stamp}"
        blocks.append(Heading(f"{dataset_name(dataset)}, {TEST_PARTS['test']}, `{protocol}`{stamp}"))
        blocks += [_errors(own, where, evidence.links), _likelihoods(own, where)]
        pairs = [pair for pair in analysis.calibration_pairs if (pair.protocol, pair.dataset) == (protocol, dataset)]
        blocks += [_differences(pairs, where)] if pairs else []
    return written("calibration", blocks, table(rows, COLUMNS), line, synthetic=synthetic)


def _count(rows: Sequence[Calibration]) -> str:
    """How many cells are called miscalibrated, beside what chance would give."""
    official = [row for row in rows if row.part == "test"]
    seen = sum(bool(row.verdict) for row in official)
    return (
        f"{seen} of {len(official)} cells on the official test are miscalibrated; were none, at most "
        f"{LEVEL * len(official):.1f} would be expected above their point."
    )


def _errors(rows: Sequence[Calibration], where: str, links: Links) -> Table:
    header = ["model", "n", "ECE", "95 %", "floor", "floor, 95 % point", "seeds above", "verdict"]
    header += ["classwise", "rare", "common", "L2²"]
    lines = []
    for row in rows:
        seeds = tuple(int(run_id.rpartition("__s")[2]) for run_id in row.run_ids)
        cells: list[Text | str] = [
            row.model,
            seeds_text(row.protocol, row.model, row.dataset, row.n_seeds),
            Text(number(row.ece), links.to_records(row.protocol, row.model, row.dataset, seeds)),
            interval_text(row.ece_low, row.ece_high),
            number(row.ece_floor),
            number(row.ece_floor_95),
            f"{row.seeds_above} of {row.n_seeds}",
            row.verdict,
            *(number(value) for value in (row.classwise_ece, row.ece_rare, row.ece_common)),
            signed(row.squared_error, 4) or NOTHING,
        ]
        lines.append(Row(cells, _comment(row)))
    return Table(f"Calibration errors, {where}", header, lines, frozenset({1}))


def _likelihoods(rows: Sequence[Calibration], where: str) -> Table:
    header = ["model", "NLL", "T", "refinement", "95 %", "calibration", "95 %"]
    lines = [
        Row(
            [
                row.model,
                number(row.nll),
                f"{row.temperature:.2f}",
                number(row.nll_refinement),
                interval_text(row.refinement_low, row.refinement_high),
                signed(row.nll_calibration),
                signed_interval(row.calibration_low, row.calibration_high),
            ],
            _comment(row),
        )
        for row in rows
    ]
    return Table(f"Likelihood and its parts, {where}", header, lines, frozenset({1, 2, 3, 5}))


def _differences(pairs: Sequence[Pair], where: str) -> Table:
    """MedSpectralNet less each other model."""
    header = ["minus", "seeds", "NLL", "95 %", "refinement", "95 %", "calibration", "95 %"]
    rows = []
    for baseline, own in grouped((pair for pair in pairs if pair.baseline not in PARTS), lambda p: p.baseline).items():
        texts = [text for pair in own for text in difference_cells(pair)]
        rows.append(Row([baseline, own[0].seeds, *texts]))
    return Table(
        f"{model_name(pairs[0].model)} minus the other model, nats, {where}", header, rows, frozenset({2, 4, 6})
    )


def number(value: float) -> str:
    """`0.104`; `–` where undefined."""
    return NOTHING if math.isnan(value) else f"{value:.3f}"


def _comment(row: Calibration) -> str:
    return f"runs: {' '.join(row.run_ids)}"
