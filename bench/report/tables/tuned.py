"""The study `tuned`: models under the recipe that a sweep chose for each, beside the recipe that it started from.

These runs stand in this table alone; whoever reads Table 3 compares models under one recipe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bench.protocols.schema import Protocol, TunedFor
from bench.records.tuning.record import TuningRecord
from bench.report.analysis.analyse import Analysis, analyse
from bench.report.analysis.scores import Score
from bench.report.evidence import Evidence
from bench.report.formats import NOTHING, Block, Bullets, Heading, Row, Table, Text, quoted, signed
from bench.report.links import Links
from bench.report.tables.score_cells import (
    MARKS,
    METRICS,
    READING,
    TEST_PARTS,
    UNITS,
    interval_text,
    measured_text,
    table_files,
)
from bench.report.tidy import STAMP, grouped, model_order

NAME = "tuned"
ABOUT = (
    "Each model under the recipe that `medbench tune` chose for it on val, from one grid, with one budget; test data "
    "chose nothing. Intervals and marks pool and compare the models of a grid. The recipe that the grid starts from "
    "stands beside it. Differences are of means, and exploratory: none is tested, and no row enters Table 3, a claim "
    "or the leaderboard. A choice among near-equal recipes is partly chance."
)


@dataclass(frozen=True)
class _Row:
    """A model's scores on one part of the test under its recipe and under the base, and the sweep, if it is here."""

    tuned: TunedFor
    scores: Mapping[str, Score]
    base: Mapping[str, Score]
    sweep: TuningRecord | None


def render(evidence: Evidence, analysis: Analysis, *, synthetic: bool) -> dict[str, bytes]:
    """`tuned.md`, `.tex` and `.csv`; nothing where no recipe was tuned. On synthetic data stamped."""
    records = evidence.chosen(synthetic=synthetic)
    if not records:
        return {}
    stamp = f" ({STAMP})" if synthetic else ""
    own = analyse(evidence.alone(records), synthetic=synthetic)
    origins = {r.protocol: tuned for r in records if (tuned := Protocol.model_validate(r.resolved_protocol).tuned)}
    title = Heading(f"Study `tuned`: a recipe for each model{stamp}", 1)
    blocks: list[Block] = [title, ABOUT, f"{UNITS} Shown: {READING} {MARKS}"]
    ordered = sorted(origins.values(), key=lambda tuned: (tuned.grid, tuned.dataset, model_order(tuned.model)))
    for grid, members in grouped(ordered, lambda tuned: tuned.grid).items():
        blocks.append(Heading(f"Grid `{grid}`{stamp}"))
        rows = [_rows(tuned, own.table_scores, analysis, evidence.sweeps) for tuned in members]
        blocks.append(_choices(grid, [row["test"] for row in rows if "test" in row]))
        for dataset in dict.fromkeys(tuned.dataset for tuned in members):
            for part, words in TEST_PARTS.items():
                shown = [row[part] for row in rows if part in row and row[part].tuned.dataset == dataset]
                if shown:
                    blocks.append(_table(f"Grid {grid}, {dataset}, {words}{stamp}", shown, evidence.links))
    return table_files(NAME, blocks, own.table_scores, records, synthetic=synthetic)


def _rows(
    tuned: TunedFor, scores: Sequence[Score], analysis: Analysis, sweeps: Sequence[TuningRecord]
) -> dict[str, _Row]:
    """A model's rows by part of the test."""
    own = [s for s in scores if s.protocol == tuned.protocol]
    base = [
        s for s in analysis.table_scores if (s.protocol, s.model, s.dataset) == (tuned.base, tuned.model, tuned.dataset)
    ]
    sweep = next((s for s in sweeps if (s.protocol, s.grid_digest) == (tuned.protocol, tuned.grid_digest)), None)
    by_part = grouped(own, lambda score: score.part)
    return {
        part: _Row(tuned, _by_metric(group), _by_metric([s for s in base if s.part == part]), sweep)
        for part, group in by_part.items()
    }


def _by_metric(scores: Sequence[Score]) -> dict[str, Score]:
    return {score.metric: score for score in scores}


def _choices(grid: str, rows: Sequence[_Row]) -> Bullets:
    """What was chosen for each, from how many trials, with how many epochs."""
    lines = []
    for row in rows:
        where = f"{row.tuned.model}, {row.tuned.dataset}"
        if row.sweep is None:
            lines.append(f"{where}: the sweep over {grid} is not here")
            continue
        best = "n/a" if row.sweep.best is None else f"{row.sweep.best:.3f}"
        metric = row.sweep.grid_rules.budget.metric
        lines.append(f"{where}: {quoted(row.sweep.recipe)}; {metric} {best}; {row.sweep.spent}")
    return Bullets(lines)


def _table(caption: str, rows: Sequence[_Row], links: Links) -> Table:
    """Both measures under the chosen recipe with their intervals, under the base, and the difference."""
    header = ["model", "base", "n", "n base"]
    for name in METRICS.values():
        header += [f"{name} tuned", f"{name} 95 %", f"{name} base", "difference"]
    lines = []
    for row in rows:
        seeds = [str(max((s.n_seeds for s in scores.values()), default=0)) for scores in (row.scores, row.base)]
        texts: list[Text | str] = [row.tuned.model, row.tuned.base, *seeds]
        for metric in METRICS:
            score, base = row.scores.get(metric), row.base.get(metric)
            shown: list[Text | str] = [NOTHING, NOTHING]
            if score is not None:
                shown = [measured_text(score, links), interval_text(score.ci_low, score.ci_high)]
            beside = measured_text(replace(base, drawn=""), links) if base else NOTHING
            texts += [*shown, beside, signed(score.mean - base.mean) if score and base else NOTHING]
        lines.append(Row(texts, f"runs: {' '.join(next(iter(row.scores.values())).run_ids)}"))
    return Table(caption, header, lines, right=frozenset({2, 3}))
