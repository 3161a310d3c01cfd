"""Rare classes and few images: what was scored at each level, and MedSpectralNet's differences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.plan.selection import expand_study
from bench.protocols.loading import load_protocol
from bench.records.names import Run
from bench.records.own_models import is_fitted
from bench.report.analysis.analyse import DRAWS, Analysis
from bench.report.draws.pairs import DrawPair
from bench.report.draws.scores import (
    ARMS,
    CHOSEN,
    FAMILIES,
    LAST_STEP,
    PLAIN,
    REFERENCE,
    WHOLE_SPLIT,
    DrawScore,
    Track,
    level_order,
    setting,
)
from bench.report.evidence import REPEAT_FAILED, REPEAT_STALE, Evidence, first_line
from bench.report.formats import NOTHING, Block, Bullets, Heading, Row, Table, Text, quoted
from bench.report.published.names import dataset_name, model_name, name_in_sentence
from bench.report.site.layout import written
from bench.report.tables.score_cells import difference_text, exploratory_text, interval_text, value_text
from bench.report.tidy import STAMP, dirty_lines, grouped, model_order, table, unpinned_lines
from bench.stats.prevalence import COST_RATIOS, FEWEST_POSITIVES

TITLES: dict[Track, str] = {"imbalance": "Rare classes", "efficiency": "Few images"}
OF_SEEDS: dict[Track, str] = {
    track: (
        f"At {level} no image is drawn: n counts seeds, and deviation and interval are over them. The variance over "
        "draws or seeds is each cell's own here and pooled in Table 3, so the same runs of "
        f"`{REFERENCE}` have another interval there. With n 1 it is over images alone."
    )
    for track, level in WHOLE_SPLIT.items()
}
READING: dict[Track, str] = {
    "imbalance": (
        "The clinical positives of train are thinned to a share of it; val and test are whole. n: draws of the "
        "images. AUC: mean ± sample standard deviation over draws, with the 95 % interval over test images and "
        f"draws. {OF_SEEDS['imbalance']} AP: average precision at the level's share (chance: that share). "
        "Specificity: at the highest threshold that finds 95 % of val's positives, in brackets the sensitivity that it "
        "has on test. Cost: normalised expected cost at that share where a missed positive costs so many false alarms, "
        "at val's cheapest threshold: 0 is perfect, 1 is worth no more than calling all alike. Last: AUC by the last "
        "step's weights instead of those that val chose."
    ),
    "efficiency": (
        "Train has so many images of each class; val and test are whole, and every level takes the steps of the "
        "whole split. n: draws of the images. Mean ± sample standard deviation over draws, with the 95 % interval "
        f"over test images and draws. {OF_SEEDS['efficiency']} Last: by the last step's weights instead of those that "
        "val chose, for val has more labels than so small a train; the reference with all images has no such score. "
        f"What is fitted keeps its defaults: {name_in_sentence('sklearn/hist_gradient_boosting')} wants 20 images in a "
        "leaf, so with 5 or 10 of each of two classes it says the same of every image."
    ),
}
MEASURES = {"auc": "AUC", "acc": "ACC"}
Cells = dict[tuple[str, str], DrawScore]  # (weights, metric) -> of one row


def render(evidence: Evidence, analysis: Analysis, *, synthetic: bool) -> dict[str, bytes]:
    """`imbalance` and `efficiency` as Markdown, LaTeX and CSV, and as pages; only what was run."""
    files: dict[str, bytes] = {}
    for track, blocks in sections(evidence, analysis, synthetic=synthetic).items():
        scores = [score for score in analysis.draws if score.track == track]
        records = evidence.behind(scores, synthetic=synthetic)
        lines = [*dirty_lines(records), *unpinned_lines(records)]
        if lines:
            heading = Heading("Runs of changed code, or whose bits are those of one processor")
            blocks += [heading, Bullets(lines)]
        files |= written(track, blocks, table(scores, DRAWS), first_line(records), synthetic=synthetic)
    return files


def sections(evidence: Evidence, analysis: Analysis, *, synthetic: bool) -> dict[Track, list[Block]]:
    """What the tables show, by track."""
    found: dict[Track, list[Block]] = {}
    stamp = f" ({STAMP})" if synthetic else ""
    for track in FAMILIES:
        scores = [score for score in analysis.draws if score.track == track]
        if not scores:
            continue
        blocks: list[Block] = [Heading(f"{TITLES[track]}{stamp}", 1), READING[track]]
        pairs = [pair for pair in analysis.draw_pairs if pair.track == track]
        for dataset, own in grouped(scores, lambda score: score.dataset).items():
            blocks += _dataset(track, dataset, own, [pair for pair in pairs if pair.dataset == dataset], stamp)
            blocks += [] if synthetic else _missing(evidence, track, dataset)
        found[track] = blocks
    return found


def _dataset(
    track: Track, dataset: str, scores: Sequence[DrawScore], pairs: Sequence[DrawPair], stamp: str
) -> list[Block]:
    blocks: list[Block] = [Heading(f"{dataset_name(dataset)}{stamp}")]
    if track == "efficiency":
        blocks.append(_few_table(scores, f"{dataset_name(dataset)}, official test{stamp}"))
    else:
        for level, own in grouped(scores, lambda score: score.level).items():
            blocks.append(_rare_table(own, f"{dataset_name(dataset)}, {level}{stamp}"))
    if pairs:
        blocks += [
            exploratory_text([pair.p for pair in pairs if pair.verdict], "MedSpectralNet's differences below"),
            _pair_table(pairs, f"{dataset_name(dataset)}{stamp}"),
        ]
    return blocks


def _rows(scores: Iterable[DrawScore]) -> dict[tuple[str, str, str], Cells]:
    """(level, model, arm) -> the row's scores."""
    rows = grouped(scores, lambda score: (score.level, score.model, score.arm))
    return {key: {(score.weights, score.metric): score for score in own} for key, own in rows.items()}


def _rare_table(scores: Sequence[DrawScore], where: str) -> Table:
    first = scores[0]
    undecidable = (
        "" if first.decidable else f"; fewer than {FEWEST_POSITIVES} positives: undecidable, declared beforehand"
    )
    caption = f"{where}: {first.positives} of {first.num_train} training images are positive{undecidable}"
    rows = []
    for (_, model, arm), cells in _rows(scores).items():
        auc = cells[CHOSEN, "auc"]
        texts = [model, arm, str(auc.n_draws), value_text(auc.mean, auc.sd), interval_text(auc.ci_low, auc.ci_high)]
        texts.append(_value(cells, CHOSEN, "ap"))
        found = cells.get((CHOSEN, "sensitivity"))
        texts.append(NOTHING if found is None else f"{_value(cells, CHOSEN, 'specificity')} ({found.mean:.3f})")
        texts += [_value(cells, CHOSEN, f"nec{ratio}") for ratio in COST_RATIOS]
        rows.append(Row([*texts, _value(cells, LAST_STEP, "auc")], f"runs: {' '.join(auc.run_ids)}"))
    header = [
        "model",
        "arm",
        "n",
        "AUC",
        "AUC 95 %",
        f"AP at {100 * first.prevalence:.3g} %",
        "specificity (sensitivity)",
    ]
    header += [*(f"cost {ratio}:1" for ratio in COST_RATIOS), "AUC, last"]
    return Table(caption, header, rows, right=frozenset({2}))


def _few_table(scores: Sequence[DrawScore], caption: str) -> Table:
    rows = []
    for (level, model, _), cells in _rows(scores).items():
        auc = cells[CHOSEN, "auc"]
        texts = [level, model, str(auc.n_draws)]
        for metric in MEASURES:
            score = cells[CHOSEN, metric]
            texts += [
                value_text(score.mean, score.sd),
                interval_text(score.ci_low, score.ci_high),
                _value(cells, LAST_STEP, metric),
            ]
        rows.append(Row(texts, f"runs: {' '.join(auc.run_ids)}"))
    columns = [text for name in MEASURES.values() for text in (name, f"{name} 95 %", f"{name}, last")]
    return Table(caption, ["images a class", "model", "n", *columns], rows, right=frozenset({0, 2}))


def _value(cells: Cells, weights: str, metric: str) -> str:
    score = cells.get((weights, metric))
    return NOTHING if score is None else value_text(score.mean, score.sd)


def _pair_table(pairs: Sequence[DrawPair], where: str) -> Table:
    """A row a level and arm, a column a baseline."""
    names = sorted({pair.baseline for pair in pairs}, key=model_order)
    rows = []
    for (level, arm), own in grouped(pairs, lambda pair: (pair.level, pair.arm)).items():
        by_name = {pair.baseline: pair for pair in own}
        rows.append(Row([level, arm, *(_difference(by_name.get(name)) for name in names)]))
    caption = (
        f"{where}: AUC of MedSpectralNet minus that of the model, on the same images and draws, 95 % interval; bold "
        "where it excludes zero; *: the other model with the highest mean AUC. What is fitted has its plain arm"
    )
    return Table(caption, ["level", "arm", *names], rows)


def _difference(pair: DrawPair | None) -> Text | str:
    if pair is None or not pair.n_draws:
        return NOTHING
    text = difference_text(pair.difference, pair.ci_low, pair.ci_high)
    text += f", n {pair.n_draws}{' *' if pair.is_best else ''}"
    return Text(text, strong=pair.verdict in ("higher", "lower"))


def _missing(evidence: Evidence, track: Track, dataset: str) -> list[Block]:
    """Runs that the study plans and that gave no scores: those that nobody ran, and why the others have none."""
    wanted = _unfinished(evidence, track, dataset)
    lost = {
        record.run_id: reason
        for protocol in dict.fromkeys(run.protocol for run in wanted)
        for record, reason in evidence.without_scores(protocol)
    }
    not_run = _not_run((run for run in wanted if run.run_id not in lost), track)
    command = f"medbench run --study {track}"
    blocks: list[Block] = []
    if not_run:
        intro = f"Planned and not run, with the number of draws ({WHOLE_SPLIT[track]}, plain: of seeds); "
        blocks += [f"{intro}`{command}` runs them:", Bullets(not_run)]
    known = [(run.run_id, lost[run.run_id]) for run in wanted if run.run_id in lost]
    for option in (REPEAT_FAILED, REPEAT_STALE, None):
        lines = [f"{run_id}: {quoted(reason.text)}" for run_id, reason in known if reason.option == option]
        if lines:
            again = "" if option is None else f"; `{command}{option}` runs them again"
            blocks += [f"Planned and without scores{again}:", Bullets(lines)]
    return blocks


def _unfinished(evidence: Evidence, track: Track, dataset: str) -> list[Run]:
    """Runs of the study on a data set that no finished one stands for; one fit on the whole split is all its seeds."""
    done = {record.run_id for record in (*evidence.drawn, *evidence.records)}
    wanted = [run for run in expand_study(track) if run.dataset == dataset and run.run_id not in done]
    return [run for run in wanted if not (run.protocol == REFERENCE and is_fitted(run.model) and run.seed)]


def _not_run(runs: Iterable[Run], track: Track) -> list[str]:
    """How many of each model, one line a level and arm."""
    lines: dict[tuple[str, str], dict[str, int]] = {}
    for run in runs:
        is_whole = run.protocol == REFERENCE
        level, arm = (WHOLE_SPLIT[track], PLAIN) if is_whole else setting(load_protocol(run.protocol))[1:]
        models = lines.setdefault((level, arm), {})
        models[run.model] = models.get(run.model, 0) + 1
    ordered = sorted(lines.items(), key=lambda item: (level_order(item[0][0]), ARMS.index(item[0][1])))
    return [
        f"{level}, {arm}: {', '.join(f'{model_name(model)} ({count})' for model, count in models.items())}"
        for (level, arm), models in ordered
    ]
