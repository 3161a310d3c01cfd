"""Table 3: AUC and accuracy, models x six sets, a section a protocol, measured beside published in columns apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.data.names import PAPER_DATASETS
from bench.errors import BenchError
from bench.protocols.loading import load_protocol, load_study
from bench.report.ablations import MAPS, is_compared
from bench.report.analysis.analyse import Analysis
from bench.report.analysis.scores import Score
from bench.report.analysis_plan import PARTS
from bench.report.evidence import REPEAT_FAILED, REPEAT_STALE, Evidence
from bench.report.formats import Block, Bullets, Heading
from bench.report.published.names import dataset_name
from bench.report.published.rows import published_blocks
from bench.report.tables.missing import NOT_RUN, fill_command, lost_seeds, missing_groups, planned, why_missing
from bench.report.tables.score_cells import (
    MARKS,
    METRICS,
    READING,
    TEST_PARTS,
    UNITS,
    MissingCell,
    detail_table,
    matrix_table,
    missing_cell,
    resolution_text,
    table_files,
)
from bench.report.tidy import STAMP, grouped, model_order, paper_datasets
from bench.stats.power import POWER

STUDIED = ("lite-96", "medmnist-28", "medmnist-224", "paper-224-scratch", "paper-224-imagenet")
Missing = list[tuple[str, str]]


def render(evidence: Evidence, analysis: Analysis, *, synthetic: bool) -> dict[str, bytes]:
    """`table3.md`, `table3.tex` and `table3.csv`; runs on synthetic data get files of their own, stamped."""
    scores = [s for s in analysis.table_scores if is_compared(s.protocol) and s.model not in PARTS]
    records = evidence.behind(scores, synthetic=synthetic)
    stamp = f" ({STAMP})" if synthetic else ""
    blocks = _head(synthetic=synthetic)
    groups = grouped(scores, lambda score: score.protocol)
    known = [name for name in STUDIED if not synthetic and name not in groups]
    missing: list[MissingCell] = []
    for protocol, own in groups.items():
        absent = missing_cells(protocol, own, synthetic=synthetic)
        blocks += _section(evidence, analysis, own, absent, stamp)
        missing += [missing_cell(evidence, protocol, *cell) for cell in absent]
    if not scores:
        blocks.append("No records yet.")
    if not synthetic and evidence.finished(synthetic=True):
        blocks.append(f"Runs on synthetic images stand apart, in `{STAMP}_table3.md` and `{STAMP}_index.html`.")
    if known:
        items = [f"`{name}`: no record; `medbench run --study {_study_of(name)}`" for name in known]
        blocks += [Heading("Protocols without a record"), Bullets(items)]
    if not synthetic:
        blocks += published_blocks({score.model for score in scores})
    return table_files("table3", blocks, [*scores, *missing], records, synthetic=synthetic, has_page=False)


def _head(*, synthetic: bool) -> list[Block]:
    title = "Table 3: AUC and ACC on the test splits"
    if synthetic:
        title = f"{STAMP}: Table 3 on synthetic data; proves that the suite works, nothing else"
    twins = "Twin-free: without test images that have a near twin (pixel correlation ≥ 0.99) in train or val."
    published = (
        "Published: the number printed elsewhere for the same model, with its row among the published numbers below; "
        "the difference is measured minus published, and between two protocols."
    )
    floors = "Floors come first: the majority class, and the nearest neighbour on raw pixels."
    shows = (
        f"The smallest difference is what a two-sided test at 5 % finds with a power of {POWER:g}, by the measured "
        "errors over images and seeds and the measured correlations: the median over MedSpectralNet's comparisons with "
        "the networks of a protocol (of all pairs where it did not run). The corrected test is the one that decides a "
        "planned comparison."
    )
    signs = 2 ** len(PAPER_DATASETS)
    ranks = (
        f"No rank test over the {len(PAPER_DATASETS)} data sets: the smallest two-sided p of Wilcoxon's is 2/{signs} = "
        f"{2 / signs:.3f}, which a correction for two baselines already lifts above 5 %."
    )
    explain = "`medbench explain table3 --model M --dataset D --metric acc` shows where a cell comes from."
    reading = f"{UNITS} Shown: {READING} n stands in the table of each set. {MARKS}"
    parts = "MedSpectralNet without one of its parts: the ablation table; it takes no part in the marks."
    rest = [] if synthetic else [published, parts]
    return [Heading(title, 1), reading, shows, ranks, f"{twins} {floors}", *rest, explain]


def _section(
    evidence: Evidence, analysis: Analysis, scores: Sequence[Score], missing: Missing, stamp: str
) -> list[Block]:
    """One protocol: models x sets per part and measure, then each data set with intervals and published numbers."""
    protocol = scores[0].protocol
    blocks: list[Block] = [Heading(f"Protocol `{protocol}`{stamp}")]
    blocks += [text for text in (recipe(protocol),) if text]
    models = sorted({*(score.model for score in scores), *(model for model, _ in missing)}, key=model_order)
    measured = {score.dataset for score in scores}
    datasets = paper_datasets(synthetic=bool(stamp))
    datasets += sorted(measured - set(datasets))
    for part, name in TEST_PARTS.items():
        blocks.append(Heading(f"{name[0].upper()}{name[1:]}, `{protocol}`{stamp}", 3))
        for metric, title in METRICS.items():
            shown = [score for score in scores if (score.part, score.metric) == (part, metric)]
            line = resolution_text(analysis.resolution, protocol, part, metric, datasets, notes=False)
            blocks += [line] if line else []
            have = {score.model for score in shown}
            rows = models if part == "test" else [model for model in models if model in have]
            blocks.append(matrix_table(shown, rows, datasets, f"{title}, {name}, {protocol}{stamp}", evidence.links))
        for dataset in (name for name in datasets if name in measured):
            blocks += _detail(evidence, analysis, [s for s in scores if s.dataset == dataset], part, stamp)
    lost = lost_seeds(evidence, protocol, models)
    if missing:
        groups = missing_groups(evidence, protocol, missing)
        blocks += [Heading(f"Missing cells, `{protocol}`", 3), Bullets([group.line for group in groups])]
        blocks += [f"`{command}` runs them." for command in _commands(evidence, protocol, missing, stamp)]
    if lost:
        note = (
            "Cells are made of the planned seeds that finished; so are their differences to other models. A seed that "
            "no study plans is in no mean."
        )
        title = f"Planned seeds without scores, `{protocol}`"
        blocks += [Heading(title, 3), note, Bullets([seeds.line for seeds in lost])]
    return blocks


def _detail(evidence: Evidence, analysis: Analysis, scores: Sequence[Score], part: str, stamp: str) -> list[Block]:
    dataset, protocol = scores[0].dataset, scores[0].protocol
    images, every = (next(s.num_images for s in scores if s.part == name) for name in (part, "test"))
    heading = Heading(f"{dataset_name(dataset)}, {TEST_PARTS[part]}, `{protocol}`{stamp}", 4)
    if part != "test" and images == every:
        return [heading, f"None of the {every} test images has a twin: the official test's numbers."]
    lines = [resolution_text(analysis.resolution, protocol, part, m, [dataset], notes=True) for m in METRICS]
    caption = f"{dataset_name(dataset)}, {TEST_PARTS[part]}, {images} images, {protocol}{stamp}"
    entries = grouped((score for score in scores if score.part == part), lambda score: score.model)
    return [heading, " ".join(filter(None, lines)), detail_table(entries, part, caption, evidence.links)]


def recipe(protocol: str) -> str:
    """What a protocol does, in one line; "" for one that is not known here."""
    try:
        rules = load_protocol(protocol)
    except BenchError:
        return ""
    start = "from ImageNet-1k weights" if rules.init.kind == "imagenet" else "from scratch"
    size = f"{rules.data.source_size} px files at {rules.data.img_size} px"
    return (
        f"{size}, {rules.optim.name} {rules.optim.lr:g}, {rules.schedule.epochs} epochs, {start}; epoch chosen on val."
    )


def _study_of(protocol: str) -> str:
    in_table3 = any(protocol in part.protocols for part in load_study("table3").parts)
    return "table3" if in_table3 else "full"


def missing_cells(protocol: str, scores: Iterable[Score], *, synthetic: bool) -> Missing:
    """(model, data set) of a protocol that have no finished run: of the models in it and those that a study wants.

    A protocol that only trains for maps lacks none: no table waits for it; nor do MedSpectralNet without a part.
    """
    if protocol == MAPS:
        return []
    wanted = planned(protocol, synthetic=synthetic)
    have = {(score.model, score.dataset) for score in scores}
    models = sorted({*(m for m, _ in have), *(m for m, _, _ in wanted)} - PARTS.keys(), key=model_order)
    datasets = dict.fromkeys([*paper_datasets(synthetic=synthetic), *sorted({dataset for _, dataset in have})])
    return [(model, dataset) for dataset in datasets for model in models if (model, dataset) not in have]


def _commands(evidence: Evidence, protocol: str, missing: Missing, stamp: str) -> list[str]:
    """The commands for the cells that nobody ran, that failed, and that are stale."""
    seeds: Sequence[int] = sorted({s for _, _, own in planned(protocol, synthetic=bool(stamp)) for s in own})
    commands = []
    for option in (NOT_RUN.option, REPEAT_FAILED, REPEAT_STALE):
        cells = [cell for cell in missing if why_missing(evidence, protocol, *cell).option == option]
        if cells:
            names = [model for model, _ in cells], [dataset for _, dataset in cells]
            commands.append(str(fill_command(protocol, *names, seeds or [0], option or "")))
    return commands
