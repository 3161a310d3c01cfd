"""What corrupted test images cost each model: clean scores, corrupted ones, the drop between them, and comparisons."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from bench.machine.cpu_isa import DEFAULT
from bench.records.names import SYNTHETIC_PREFIX
from bench.records.tracks.record import TrackRecord
from bench.report.analysis.analyse import Analysis
from bench.report.analysis_plan import OURS
from bench.report.evidence import Evidence, first_line
from bench.report.formats import NOTHING, Block, Bullets, Heading, Row, Table, signed
from bench.report.published.names import dataset_name, model_name, model_names
from bench.report.robustness.compare import Drop, DropPair, planned_runs, without_score
from bench.report.robustness.drops import ALL
from bench.report.site.layout import written
from bench.report.tables.score_cells import difference_text, exploratory_text, p_text
from bench.report.tidy import STAMP, grouped, seed_list, seeds_text, table
from bench.tracks.loading import list_tracks, load_track
from bench.tracks.schema import CORRUPTIONS, SEVERITIES

NAMES = {"auc": "AUC", "balanced_acc": "balanced ACC", "balanced_acc_youden": "balanced ACC, val's threshold"}
READING = (
    f"Each model as it was trained, on its test images and on {len(CORRUPTIONS) * len(SEVERITIES)} corrupted copies "
    f"of them ({len(CORRUPTIONS)} corruptions at {len(SEVERITIES)} severities), the same pixels for all. Scores are "
    "fractions, means over n seeds; corrupted: the mean over all copies; drop: clean minus corrupted, with its paired "
    "95 % interval over test images and seeds (of what is fitted, or where no network has two seeds, over images). "
    "Balanced ACC is the mean of the classes' recalls, by the usual rule and by the threshold that clean val gives "
    "(Youden's), which its interval takes as given. A small drop is no "
    "merit of a model that has little to lose: the corrupted score stands beside it."
)
NO_RBE = (
    "MedMNIST-C's relative balanced error (rBE) is left blank: it divides by AlexNet's own rise of error at 224 px, no "
    "AlexNet is recorded, and these are 28 px files. A denominator below 0.05 would leave it blank, too."
)
CALIBRATION = (
    "NLL in nats and calibration error (ECE, 15 bins) under corruption, as they are and by the temperature that clean "
    "val gives: what a temperature that was found on clean images is still worth. Without intervals."
)


def render(evidence: Evidence, analysis: Analysis, *, synthetic: bool) -> dict[str, bytes]:
    """`robustness` as Markdown, LaTeX and CSV, and as a page; nothing where no run was scored on a track."""
    drops = [drop for drop in analysis.drops if drop.corruption == ALL]
    if not drops:
        return {}
    stamp = f" ({STAMP})" if synthetic else ""
    blocks: list[Block] = [Heading(f"Corrupted test images{stamp}", 1), READING, NO_RBE]
    for (track, protocol, dataset), own in grouped(drops, lambda d: (d.track, d.protocol, d.dataset)).items():
        where = f"{dataset_name(dataset)}, {protocol}, {track}{stamp}"
        pairs = [p for p in analysis.drop_pairs if (p.track, p.protocol, p.dataset) == (track, protocol, dataset)]
        blocks += [Heading(where), _scores_table(own, where), CALIBRATION, _calibration_table(own, where)]
        blocks += _comparisons(pairs, where)
        blocks += _missing(evidence, own, track, protocol, dataset)
    line = first_line(used(evidence, drops))
    frame = table(drops, list(Drop.__dataclass_fields__))
    return written("robustness", blocks, frame, line, synthetic=synthetic)


def used(evidence: Evidence, drops: Iterable[Drop]) -> list[TrackRecord]:
    """The track records that drops come from."""
    shown = {(drop.track, run_id) for drop in drops for run_id in drop.run_ids}
    return [record for record in evidence.tracks if (record.track, record.run_id) in shown]


def _by_model(drops: Sequence[Drop]) -> dict[str, dict[str, Drop]]:
    """Model -> measure -> drop, in the order of the tables."""
    return {model: {drop.metric: drop for drop in own} for model, own in grouped(drops, lambda d: d.model).items()}


def drop_text(drop: Drop | DropPair) -> str:
    """`+0.032 (+0.004 to +0.060)`."""
    value = drop.drop if isinstance(drop, Drop) else drop.difference
    if math.isnan(drop.ci_low):
        return signed(value)
    return difference_text(value, drop.ci_low, drop.ci_high)


def score_texts(measures: Mapping[str, Drop]) -> list[str]:
    """Clean, corrupted and drop of each measure."""
    texts: list[str] = []
    for metric in NAMES:
        drop = measures.get(metric)
        clean = [NOTHING] * 3 if drop is None else [f"{drop.clean:.3f}", f"{drop.corrupted:.3f}", drop_text(drop)]
        texts += clean
    return texts


def _scores_table(drops: Sequence[Drop], where: str) -> Table:
    rows = []
    for model, measures in _by_model(drops).items():
        first = next(iter(measures.values()))
        number = seeds_text(first.protocol, model, first.dataset, first.n_seeds)
        rows.append(Row([model, number, *score_texts(measures)], f"runs: {' '.join(first.run_ids)}"))
    header = ["model", "n"]
    header += [text for name in NAMES.values() for text in (f"{name}, clean", "corrupted", "drop, 95 %")]
    return Table(f"Scores, {where}", header, rows, right=frozenset({1}))


def _calibration_table(drops: Sequence[Drop], where: str) -> Table:
    rows = []
    for model, measures in _by_model(drops).items():
        texts = [model]
        for metric in ("nll", "nll_scaled", "ece", "ece_scaled"):
            drop = measures.get(metric)
            texts += [NOTHING, NOTHING] if drop is None else [f"{drop.clean:.3f}", f"{drop.corrupted:.3f}"]
        rows.append(Row(texts))
    words = ("NLL", "NLL by T", "ECE", "ECE by T")
    header = ["model", *(text for word in words for text in (f"{word}, clean", "corrupted"))]
    return Table(f"Calibration, {where}", header, rows, right=frozenset(range(1, len(header))))


def _comparisons(pairs: Sequence[DropPair], where: str) -> list[Block]:
    """MedSpectralNet's drop less that of every other model."""
    if not pairs:
        return []
    rows = []
    by_baseline = grouped(pairs, lambda pair: pair.baseline)
    for baseline, own in by_baseline.items():
        by_metric = {pair.metric: pair for pair in own}
        seeds = f"{own[0].n_seeds}, {own[0].n_seeds_baseline}"
        texts = [baseline, own[0].role or "exploratory", seeds]
        for metric in NAMES:
            pair = by_metric.get(metric)
            texts += [NOTHING, ""] if pair is None else [drop_text(pair), p_text(pair.p)]
        rows.append(Row(texts))
    header = [
        "minus that of",
        "by the plan",
        "n",
        *(text for name in NAMES.values() for text in (f"{name}, 95 %", "p")),
    ]
    reading = (
        f"Below: the drop of {model_name(OURS)} minus that of another model; above 0 it loses more. Of the two that "
        "the analysis plan names (its trunk, and the best baseline by clean AUC) each is tested at 5 %; the others are "
        "exploratory. n: seeds of both."
    )
    others = [pair.p for pair in pairs if not pair.role and pair.metric == "auc"]
    compared = Table(f"Differences of drops, {where}", header, rows)
    return [reading, compared, *([exploratory_text(others, "the other AUC drops")] if others else [])]


def _missing(evidence: Evidence, drops: Sequence[Drop], track: str, protocol: str, dataset: str) -> list[Block]:
    """Runs without a score of the track: those that a study plans for it here, and those of a model beside scored ones.

    A scored model's other finished runs are named, too: its mean is over fewer seeds than elsewhere.
    """
    if track not in list_tracks() or dataset not in load_track(track).datasets:
        return []
    studies = planned_runs(track, protocol, dataset)
    have = {run_id for drop in drops for run_id in drop.run_ids}
    shown = {drop.model for drop in drops}
    finished = {
        (record.model, record.seed): record
        for record in evidence.finished(synthetic=dataset.startswith(SYNTHETIC_PREFIX))
        if (record.protocol, record.dataset) == (protocol, dataset)
    }
    beside = [run for run in finished if run[0] in shown]
    wanted = without_score(dict.fromkeys([*studies, *beside]), protocol, dataset, have)
    seeds = {
        model: tuple(sorted(seed for _, seed in own)) for model, own in grouped(wanted, lambda run: run[0]).items()
    }
    items = [
        f"not scored on {track}: {model_names(models)}, {seed_list(missing)}"
        for missing, models in grouped(seeds, lambda model: seeds[model]).items()
    ]
    if not items:
        return []
    commands = []
    for name in dict.fromkeys(studies[run] for run in wanted if run in studies):
        commands.append(f"`medbench track {track} --study {name}` scores those that study `{name}` plans.")
        again = [run for run in wanted if studies.get(run) == name and run in finished]
        again = [run for run in again if finished[run].is_of_other_cpu(DEFAULT)]
        if again:
            commands.append(
                f"Not {model_names(dict.fromkeys(model for model, _ in again))}, whose records are not pinned (only "
                f"their own processor gives their bits again): `medbench run --study {name} --overwrite isa` makes new "
                "ones, with scores."
            )
    return ["Missing cells:", Bullets(items), *([" ".join(commands)] if commands else [])]
