"""All generated files of a results folder, by the room that makes each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bench.records.run_record import existing_folder
from bench.report.analysis.analyse import Analysis, analyse
from bench.report.claims import pages as claims
from bench.report.claims.judge import headline, judge
from bench.report.claims.sources import collect
from bench.report.claims.verdict import Judged
from bench.report.draws import table as draws
from bench.report.evidence import MODELS, Evidence, gather
from bench.report.figures import choice, gradcam
from bench.report.figures.drawing import captions_of, draw_all
from bench.report.links import BESIDE, Links
from bench.report.own import table as own_table
from bench.report.robustness import figures as robustness_figures
from bench.report.robustness import table as robustness
from bench.report.site import pages as site
from bench.report.site.readme_answer import answer_text
from bench.report.tables import (
    ablation,
    calibration,
    initialisation,
    model_cards,
    readme_summary,
    table2,
    table3,
    table4,
    tuned,
    twins,
)
from bench.report.tidy import STAMP, csv_bytes, run_rows, score_rows, table
from bench.report.tidy_costs import TIMING_COLUMNS, cost_rows, timing_rows
from models.catalog import get_spec

Files = dict[str, bytes]
TABLES: tuple[Callable[..., Files], ...] = (
    ablation.render,
    initialisation.render,
    table2.render,
    table3.render,
    table4.render,
    calibration.render,
    model_cards.render,
    draws.render,
    twins.render,
    tuned.render,
    robustness.render,
)


@dataclass(frozen=True)
class Content:
    """All generated files.

    Attributes:
        tables: Those of `results/tables/`.
        pages: Those of the reports folder, by path below it.
        readme: The answer for a checkout's README.md, "" where none shows it.
        notes: For a person, one line each.
    """

    tables: Files
    pages: Files
    readme: str
    notes: list[str]


def render(
    results: Path, models: Sequence[str] = MODELS, *, links: Links = BESIDE, readme_links: Links | None = None
) -> Content:
    """All generated files.

    Args:
        results: The results folder.
        models: Whose curves, confusion matrices and areas are drawn.
        links: Of a page in the reports folder.
        readme_links: Of a README.md that shows the answer, None where there is none.

    Raises:
        RecordError: If the folder is not there, or predictions are missing or damaged.
    """
    existing_folder(results)
    evidence = gather(results, links)
    _check_models(evidence, models)
    tidy = _measured(evidence)
    pages: Files = {}
    readme = ""
    for synthetic in (False, True):
        if synthetic and not (evidence.finished(synthetic=True) or evidence.chosen(synthetic=True)):
            continue
        analysis = analyse(evidence, synthetic=synthetic)
        tidy |= _tidy(evidence, analysis, synthetic=synthetic)
        judged = [] if synthetic else judge(collect(evidence, analysis))
        pages |= _pages(evidence, analysis, judged, synthetic=synthetic, models=models)
        if not synthetic:
            pages |= claims.pages(judged, evidence)
            pages |= readme_summary.render(evidence, analysis, headline(judged))
            if readme_links is not None:
                readme = answer_text(evidence, analysis, headline(judged), readme_links)
    pages |= own_table.render(evidence)
    evidence.notes.extend(choice.absent(evidence, models=models))
    evidence.notes.extend(gradcam.notes(evidence, models=models))
    return Content(tidy, pages, readme, [*evidence.notes, *evidence.asides])


def _check_models(evidence: Evidence, models: Sequence[str]) -> None:
    """Refuse names whose figures cannot be drawn: neither the suite's nor in a record.

    Raises:
        ModelError: Naming the closest model.
    """
    recorded = {record.model for record in evidence.records}
    for model in models:
        if model not in recorded:
            get_spec(model)


def _pages(
    evidence: Evidence, analysis: Analysis, judged: Sequence[Judged], *, synthetic: bool, models: Sequence[str]
) -> Files:
    """Tables, cards and figures, and the site that shows them together."""
    files: Files = {}
    for part in TABLES:
        files |= part(evidence, analysis, synthetic=synthetic)
    plots = list(choice.plots(evidence, analysis, synthetic=synthetic, models=models))
    plots += robustness_figures.plots(evidence, analysis.drops, synthetic=synthetic)
    plots += gradcam.plots(evidence, synthetic=synthetic, models=models)
    drawn = draw_all(plots, synthetic=synthetic)
    captions = captions_of(plots, synthetic=synthetic)
    shown = site.render(
        evidence, analysis, synthetic=synthetic, figures=drawn, captions=captions, judged=judged, names=files
    )
    return files | drawn | shown


def _tidy(evidence: Evidence, analysis: Analysis, *, synthetic: bool) -> Files:
    """The tables of `results/tables/`: one measurement, run or statistic a row."""
    records = evidence.every(synthetic=synthetic)
    records += evidence.chosen(synthetic=synthetic)
    apart = (*evidence.unfinished, *evidence.unplanned)
    every = records + [record for record in apart if record.synthetic == synthetic]
    every.sort(key=lambda record: record.run)
    frames: dict[str, pd.DataFrame] = {"scores": score_rows(records), "runs": run_rows(every)}
    frames |= analysis.tables()
    prefix = f"{STAMP}_" if synthetic else ""
    return {f"{prefix}{name}.csv": csv_bytes(frame) for name, frame in frames.items()}


def _measured(evidence: Evidence) -> Files:
    """Costs and timings, where any were measured; damaged and stale ones are left out and noted."""
    (costs, cost_notes), (timings, timing_notes) = evidence.costs, evidence.timings
    evidence.notes.extend((*cost_notes, *timing_notes))
    files = {}
    if costs:
        files["costs.csv"] = csv_bytes(cost_rows(costs))
    if timings:
        files["timings.csv"] = csv_bytes(table(timing_rows(timings), TIMING_COLUMNS))
    return files
