"""All pages of the site: HTML beside one style sheet and one script, from disk or hosted, without a network.

Text is escaped by the templates (`bench/report/templates/`). Each page forbids itself every request that leads
elsewhere by its content security policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.check.trust import MEANING, MEASURED, UNSEEN, SelfReported, read_reruns, read_self_reported
from bench.protocols.loading import PROTOCOL_DIR, list_protocols
from bench.records.names import SYNTHETIC_PREFIX, model_slug
from bench.records.own_models import is_fitted, own_models
from bench.report.ablations import FACTORS
from bench.report.analysis.analyse import Analysis
from bench.report.analysis_plan import MARGIN
from bench.report.claims.verdict import Judged
from bench.report.evidence import Evidence, first_line
from bench.report.figures.style import Caption
from bench.report.published.names import dataset_name
from bench.report.rendering import template
from bench.report.site.answer import HEADLINE, forest, headline, the_answer
from bench.report.site.claims import claims_page
from bench.report.site.datasets import dataset_part
from bench.report.site.figures import PageFigure, page_figures
from bench.report.site.layout import Page, dataset_path, html, stamped
from bench.report.site.matrix import matrix
from bench.report.site.rows import Entry, entries
from bench.report.site.scatter import Scatter, scatter
from bench.report.site.tracks import TRACKS, tracks
from bench.report.tables.missing import planned
from bench.report.tables.score_cells import METRICS, TEST_PARTS
from bench.report.tables.table3 import STUDIED
from bench.report.tidy import grouped, model_order, paper_datasets
from models.catalog import get_spec

__all__ = ["render"]

Files = dict[str, bytes]
TITLE = "Is MedSpectralNet better than the models it was compared with?"


@dataclass(frozen=True)
class _Site:
    """What every page is made from."""

    evidence: Evidence
    analysis: Analysis
    synthetic: bool
    cells: list[Entry]
    figures: list[PageFigure]

    @property
    def ranked(self) -> list[Entry]:
        """The cells whose scores are what their predictions give."""
        return [entry for entry in self.cells if entry.trust.level in MEASURED]

    @property
    def line(self) -> str:
        """What the pages were made from."""
        return first_line(self.evidence.finished(synthetic=self.synthetic))

    def page(self, path: str, title: str) -> Page:
        """A page of this kind of records."""
        return Page(path, title, self.line, self.synthetic)


def render(
    evidence: Evidence,
    analysis: Analysis,
    *,
    synthetic: bool,
    figures: Mapping[str, bytes],
    captions: Mapping[str, Caption],
    judged: Sequence[Judged] = (),
    names: Iterable[str] = (),
) -> Files:
    """The site; of runs on synthetic data a first page and those of the sets, named and stamped SYNTHETIC.

    Args:
        evidence: The results folder.
        analysis: Its statistics, of the same kind of records.
        synthetic: Which of the records.
        figures: Path below `reports/` -> content.
        captions: Figure's name -> title and text.
        judged: The paper's claims.
        names: Of the other files below `reports/`, which pages may lead to.
    """
    reruns, rerun_notes = read_reruns(evidence.results)
    reported, reported_notes = ([], []) if synthetic else read_self_reported(evidence.results)
    cells = entries(evidence, analysis, reruns, synthetic=synthetic)
    site = _Site(evidence, analysis, synthetic, cells, page_figures(figures, captions))
    files = _static() | _index(site) | _datasets(site)
    if synthetic:
        return files
    notes = [*evidence.notes, *rerun_notes, *reported_notes]
    files |= claims_page(judged, site.line) | _models(site) | _run(site) | _protocols()
    files |= _trust(site, reported, [note for note in notes if SYNTHETIC_PREFIX not in note])
    shown = tracks({*names, *figures}, site.figures)
    return files | html(
        site.page("tracks.html", "Tracks: evidence beside the official test"), "tracks.html.jinja", tracks=shown
    )


def _static() -> Files:
    """What all pages share."""
    return {name: template(f"{name}.jinja").render().encode() + b"\n" for name in ("site.css", "site.js")}


def _index(site: _Site) -> Files:
    """The answer, the forest plot, Table 3 as a matrix, cost against score."""
    pairs = headline(site.analysis.pairs)
    datasets = paper_datasets(synthetic=site.synthetic)
    return html(
        site.page(stamped("index.html", synthetic=site.synthetic), TITLE),
        "index.html.jinja",
        runs=site.evidence.counted(synthetic=site.synthetic),
        answer=the_answer(site.evidence, site.analysis, synthetic=site.synthetic),
        forest=forest(pairs),
        tables=matrix(site.ranked, datasets),
        datasets={name: dataset_path(name) for name in datasets},
        scatters=[] if site.synthetic else list(_scatters(site)),
        metrics=METRICS,
        own=bool(site.evidence.own or site.evidence.own_lost),
        plan=site.evidence.links.to_document("ANALYSIS_PLAN.md"),
    )


def _scatters(site: _Site) -> Iterable[Scatter]:
    """Cost against score of the headline's protocol: a plot a data set and measure."""
    official = [s for s in site.analysis.scores if (s.protocol, s.part) == (HEADLINE, "test") and s.metric in METRICS]
    for (dataset, _), scores in grouped(official, lambda score: (score.dataset, score.metric)).items():
        record = next(r for r in site.evidence.records if (r.protocol, r.dataset) == (HEADLINE, dataset))
        card = site.evidence.cards.get(dataset)
        size = int(record.resolved_protocol["data"]["img_size"])
        plot = scatter(scores, site.evidence.costs[0], size, len(card.class_names) if card else 0)
        if plot is not None:
            yield plot


def _datasets(site: _Site) -> Files:
    """A page for each of the six sets, and for every other one with records."""
    six = paper_datasets(synthetic=site.synthetic)
    files: Files = {}
    elsewhere = tuple(beginning for track in TRACKS for beginning in track.figures)
    for name in [*six, *sorted({entry.dataset for entry in site.ranked} - set(six))]:
        page = site.page(dataset_path(name), dataset_name(name))
        own = [f for f in site.figures if f.caption.dataset == name and not f.name.startswith(elsewhere)]
        files |= html(
            page,
            "dataset.html.jinja",
            dataset=dataset_part(site.evidence, site.analysis, name, site.ranked, synthetic=site.synthetic),
            figures=[figure for figure in own if not figure.name.endswith(tuple(FACTORS))],
            folded=[figure for figure in own if figure.name.endswith(tuple(FACTORS))],
            parts=TEST_PARTS,
            margin=MARGIN,
            links=site.evidence.links.below(),
        )
    return files


def _models(site: _Site) -> Files:
    """The list of the model cards; a model that is not the suite's, but has a finished run, is named by its records."""
    runs = grouped(site.evidence.every(synthetic=False), lambda record: record.model)
    specs = [get_spec(name) for name in sorted(own_models(), key=model_order)]
    counts = {spec.name: len(runs.get(spec.name, [])) for spec in specs}
    others = [(name, model_slug(name), len(runs[name])) for name in sorted(runs.keys() - counts.keys())]
    page = site.page("models/index.html", "Models")
    return html(page, "models.html.jinja", specs=specs, counts=counts, others=others)


def _run(site: _Site) -> Files:
    """The command for any row of the tables, put together in the browser."""
    seeds = {name: sorted({s for *_, own in planned(name, synthetic=False) for s in own}) for name in STUDIED}
    return html(
        site.page("run.html", "Run a row yourself"),
        "run.html.jinja",
        seeds={name: f"{own[0]}-{own[-1]}" if len(own) > 1 else str(own[0]) for name, own in seeds.items() if own},
        protocols=list_protocols(),
        models=[(name, is_fitted(name)) for name in sorted(own_models(), key=model_order)],
        datasets=paper_datasets(synthetic=False),
    )


def _protocols() -> Files:
    """The protocols' own files, for a reader who has no more than the reports."""
    return {
        f"protocols/{name}.toml": b"# medbench report | a protocol of the suite, as it is\n"
        + (PROTOCOL_DIR / f"{name}.toml").read_bytes()
        for name in list_protocols()
    }


def _trust(site: _Site, reported: Sequence[SelfReported], notes: Sequence[str]) -> Files:
    """How far numbers can be trusted, what was only reported, what was left out."""
    return html(
        site.page("trust.html", "Trust and notes"),
        "trust.html.jinja",
        meaning=MEANING,
        unseen=UNSEEN,
        reported=reported,
        unsound=[entry for entry in site.cells if entry.trust.level not in MEASURED],
        notes=notes,
        links=site.evidence.links,
    )
