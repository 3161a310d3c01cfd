"""Rare classes and few images: cells over draws, differences paired by draw, tables, figures and sentences."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from bench.errors import RecordError
from bench.protocols.loading import load_protocol
from bench.records.names import Run
from bench.records.run_record import Record
from bench.report.analysis.analyse import Analysis, analyse
from bench.report.analysis.predictions import Reader
from bench.report.contents import render
from bench.report.draws import table as draw_tables
from bench.report.draws.findings import sentences, undecidable
from bench.report.draws.pairs import DrawPair
from bench.report.draws.scores import CHOSEN, LAST_STEP, DrawScore, draw_cells, level_order, over_draws, setting
from bench.report.evidence import Evidence, gather
from bench.report.figures.choice import plots
from bench.report.figures.drawing import draw_all
from bench.report.published.names import name_in_sentence
from bench.stats.delong import Influence
from bench.stats.prevalence import average_precision, rates_at, screening_threshold
from tests.making import make_skilled
from tests.report.rows import only

OURS, TRUNK, FITTED = "medspectralnet", "resnet18", "sklearn/logistic"
SKILL = {OURS: 2.0, TRUNK: 0.8, FITTED: 1.2}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both tracks on made-up predictions: three draws of ours, two of the others; the reference of all."""
    folder = tmp_path_factory.mktemp("draws") / "results"
    for model, skill in SKILL.items():
        network = model != FITTED
        for seed in range(3 if network else 1):
            make_skilled(folder, Run("lite-96", model, "breastmnist", seed), skill)
        for draw in range(3 if model == OURS else 2):
            for member in ("few-96-n5", "rare-96-p05-plain", *(["rare-96-p05-adjusted"] if network else [])):
                make_skilled(folder, Run(f"{member}-d{draw}", model, "breastmnist", draw), skill, last=network)
    return folder


@pytest.fixture(scope="module")
def evidence(results: Path) -> Evidence:
    return gather(results)


@pytest.fixture(scope="module")
def analysis(evidence: Evidence) -> Analysis:
    return analyse(evidence, synthetic=False)


def score(analysis: Analysis, **keys: str) -> DrawScore:
    return only(analysis.draws, **{"weights": CHOSEN, "arm": "plain", **keys})


def pair(analysis: Analysis, **keys: str) -> DrawPair:
    return only(analysis.draw_pairs, **{"arm": "plain", **keys})


def records_of(evidence: Evidence, start: str, model: str) -> list[Record]:
    return [r for r in evidence.drawn if r.protocol.startswith(start) and r.model == model]


def test_the_rules_say_track_level_and_arm() -> None:
    """Not the name; levels go from the most images to the fewest."""
    named = ("few-96-n20-d1", "rare-96-p02-weighted-d0", "rare-96-p01-balanced-d4", "rare-96-natural-adjusted-d2")
    assert [setting(load_protocol(name)) for name in named] == [
        ("efficiency", "20", "plain"),
        ("imbalance", "2 %", "weighted"),
        ("imbalance", "1 %", "balanced"),
        ("imbalance", "natural", "adjusted"),
    ]
    assert sorted(["1 %", "natural", "5 %", "2 %"], key=level_order) == ["natural", "5 %", "2 %", "1 %"]
    assert sorted(["5", "all", "50", "10"], key=level_order) == ["all", "50", "10", "5"]


def test_a_cell_is_the_mean_over_its_draws(evidence: Evidence, analysis: Analysis) -> None:
    """Mean and deviation are those of the records' own numbers, of val's choice and of the last step."""
    runs = records_of(evidence, "few-96-n5", OURS)
    for weights, field in ((CHOSEN, "test"), (LAST_STEP, "test_last")):
        for metric in ("auc", "acc"):
            values = [getattr(record, field)[metric] for record in runs]
            own = score(analysis, track="efficiency", level="5", model=OURS, weights=weights, metric=metric)
            assert own.mean == pytest.approx(np.mean(values), rel=1e-9)
            assert own.sd == pytest.approx(np.std(values, ddof=1), rel=1e-9)
            assert (own.n_draws, own.num_train, own.interval) == (3, 10, "images and draws")
            assert own.ci_low < own.mean < own.ci_high
    assert own.run_ids == tuple(record.run_id for record in runs)
    assert not [s for s in analysis.draws if (s.model, s.weights) == (FITTED, LAST_STEP)]


def test_what_is_measured_at_a_prevalence_is_so(evidence: Evidence, analysis: Analysis) -> None:
    """At the level's own share of train: one positive of 16; thresholds from val alone."""
    own = score(analysis, track="imbalance", level="5 %", model=TRUNK, metric="ap")
    assert (own.positives, own.num_train, own.prevalence) == (1, 16, 1 / 16)
    precisions, specificities = [], []
    for record in records_of(evidence, "rare-96-p05-plain", TRUNK):
        run = Reader(evidence.results).read(record, evidence.cards["breastmnist"])
        val, test = ((run.labels[name] == 0, run.probs[name][:, 0].copy()) for name in ("val", "test"))
        precisions.append(average_precision(*test, 1 / 16))
        specificities.append(1 - rates_at(*test, screening_threshold(*val))[1])
    assert own.mean == pytest.approx(np.mean(precisions), rel=1e-9)
    assert math.isnan(own.ci_low)
    specificity = score(analysis, track="imbalance", level="5 %", model=TRUNK, metric="specificity")
    assert specificity.mean == pytest.approx(np.mean(specificities), rel=1e-9)


def test_as_many_images_of_each_class_are_no_prevalence(evidence: Evidence) -> None:
    """Precision and cost of few images are meant at the whole split's share: 6 of 30, not 5 of 10."""
    card = evidence.cards["breastmnist"]
    card = card.model_copy(update={"class_counts": {**card.class_counts, "train": [6, 24]}})
    drawn = records_of(evidence, "few-96-n5", OURS)
    (cell,) = draw_cells(evidence.results, drawn, [], {"breastmnist": card})
    assert (cell.sizes, cell.positives, cell.prevalence) == ([5, 5], 5, 0.2)


def test_the_variance_over_draws_is_students_by_hand() -> None:
    """Draws of 0.8, 0.9 and 1 that no image moves: 4.302653 x 0.1 / sqrt(3); of one draw the images alone."""
    still = np.full((3, 4), 1.0) * np.array([[0.2], [0.225], [0.25]])
    found = over_draws(Influence(np.array([0.8, 0.9, 1.0]), still, np.zeros(4, dtype=np.int64)))
    assert found.half_width() == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-6)
    # Three images a fifteenth below, below and two above their mean: squares of 6, of which 3 / 2; fourth powers of 18.
    moved = Influence(np.array([0.5]), np.array([[0.1, 0.1, 0.3]]), np.zeros(3, dtype=np.int64))
    alone = over_draws(moved)
    assert alone.error == pytest.approx(math.sqrt(9) / 15, rel=1e-9)
    assert alone.image_degrees == pytest.approx(2 * 6**2 / (18 - 6**2 / 3), rel=1e-9)


def test_a_perfect_cell_has_wilsons_interval(tmp_path: Path) -> None:
    """An AUC of 1 as seen on the 12 images of the smaller class, an accuracy of 1 on all 24."""
    analysis = made(tmp_path, {OURS: (0, 1)}, {OURS: 99.0})
    square = 1.959963984540054**2
    for metric, count in (("auc", 12), ("acc", 24)):
        own = score(analysis, track="efficiency", model=OURS, metric=metric)
        assert (own.mean, own.ci_low, own.ci_high) == pytest.approx((1.0, count / (count + square), 1.0), abs=1e-9)


def test_the_whole_split_is_the_reference_of_both_tracks(analysis: Analysis) -> None:
    """The runs of lite-96, at their natural share."""
    for track, level in (("imbalance", "natural"), ("efficiency", "all")):
        own = score(analysis, track=track, level=level, model=OURS, metric="auc")
        assert own.run_ids == tuple(f"{OURS}__breastmnist__lite-96__s{seed}" for seed in range(3))
        assert (own.positives, own.num_train, own.decidable) == (15, 30, True)


def test_too_few_positives_are_declared_undecidable(analysis: Analysis) -> None:
    """One positive: numbers, and no verdict; five of each class are no thinned share."""
    assert not score(analysis, track="imbalance", level="5 %", model=OURS, metric="auc").decidable
    assert score(analysis, track="efficiency", level="5", model=OURS, metric="auc").decidable
    assert pair(analysis, track="imbalance", level="5 %", baseline=TRUNK).verdict == ""


def test_a_difference_is_paired_over_the_draws_that_both_have(evidence: Evidence, analysis: Analysis) -> None:
    """Two of three draws; mean of the differences of the same draws."""
    ours, theirs = (records_of(evidence, "few-96-n5", model) for model in (OURS, TRUNK))
    values = [a.test["auc"] - b.test["auc"] for a, b in zip(ours, theirs, strict=False) if a.test and b.test]  # type: ignore[operator]
    own = pair(analysis, track="efficiency", level="5", baseline=TRUNK)
    assert own.n_draws == len(values) == 2
    assert own.difference == pytest.approx(np.mean(values), rel=1e-9)
    assert own.ci_low < own.difference < own.ci_high
    assert own.verdict in ("higher", "not separated")
    assert (own.p < 0.05) == (own.verdict != "not separated")


def test_the_best_other_model_is_marked(analysis: Analysis) -> None:
    """That with the highest mean AUC of the level, among those beside MedSpectralNet."""
    for level in ("5", "all"):
        others = [p for p in analysis.draw_pairs if (p.track, p.level) == ("efficiency", level)]
        means = {
            p.baseline: score(analysis, track="efficiency", level=level, model=p.baseline, metric="auc").mean
            for p in others
        }
        assert [p.baseline for p in others if p.is_best] == [max(means, key=lambda name: means[name])]


def test_one_fit_of_the_whole_split_stands_for_every_draw(analysis: Analysis) -> None:
    """It comes out the same for every seed; a network of the reference is paired seed by seed."""
    assert pair(analysis, track="efficiency", level="all", baseline=FITTED).n_draws == 3
    assert pair(analysis, track="efficiency", level="all", baseline=TRUNK).n_draws == 3


def test_an_arm_is_compared_in_itself_and_with_fitted_models_in_their_plain_one(analysis: Analysis) -> None:
    """A fitted model has no other."""
    arms = {p.baseline: p for p in analysis.draw_pairs if (p.track, p.level, p.arm) == ("imbalance", "5 %", "adjusted")}
    assert arms.keys() == {TRUNK, FITTED}


def test_no_other_statistic_knows_of_them(evidence: Evidence, analysis: Analysis) -> None:
    """Tables, pairs and the leaderboard are of whole protocols, whose runs these are not."""
    assert {score.protocol for score in analysis.scores} == {"lite-96"}
    assert {record.protocol for record in evidence.finished(synthetic=False)} == {"lite-96"}


def test_tables_show_levels_measures_and_what_is_missing(evidence: Evidence, analysis: Analysis) -> None:
    """Markdown, LaTeX and CSV of each track."""
    files = draw_tables.render(evidence, analysis, synthetic=False)
    kinds = ("md", "tex", "csv", "html")
    assert set(files) == {f"{track}.{kind}" for track in ("imbalance", "efficiency") for kind in kinds}
    page = files["imbalance.md"].decode()
    assert "BreastMNIST, 5 %: 1 of 16 training images are positive; fewer than 5 positives: undecidable" in page
    assert "- 2 %, plain: Logistic regression (5), Gradient boosting (5)," in page
    assert re.search(r"\| MedSpectralNet +\| plain +\| +3 \|", page)
    few = files["efficiency.md"].decode()
    own = score(analysis, track="efficiency", level="5", model=OURS, metric="auc")
    assert f"{own.mean:.3f} ± {own.sd:.3f}" in few
    assert f"{own.ci_low:.3f}–{own.ci_high:.3f}" in few
    assert files["efficiency.csv"].decode().count("\n") == 2 + sum(s.track == "efficiency" for s in analysis.draws)


def test_figures_are_drawn_from_the_scores(evidence: Evidence, analysis: Analysis) -> None:
    """One a track and data set, with the numbers behind it."""
    chosen = [
        plot for plot in plots(evidence, analysis, synthetic=False, models=()) if plot.name.endswith("__breastmnist")
    ]
    chosen = [plot for plot in chosen if plot.name.startswith(("imbalance", "efficiency"))]
    assert [plot.name for plot in chosen] == ["imbalance__breastmnist", "efficiency__breastmnist"]
    files = draw_all(chosen, synthetic=False, processes=1)
    assert files["figures/efficiency__breastmnist.svg"].startswith(b"<?xml")
    assert OURS.encode() in files["figures/data/imbalance__breastmnist.csv"]


def test_sentences_name_levels_differences_and_verdicts(analysis: Analysis) -> None:
    """Of what can be decided, more than one draw of it; the rest is named as undecidable."""
    frames = analysis.tables()
    (few,) = sentences(frames["draws"], frames["draw_pairs"], "efficiency")
    own = pair(analysis, track="efficiency", level="5", baseline=TRUNK)
    assert few.startswith("BreastMNIST, 5 images of each class: AUC ")
    assert f"MedSpectralNet minus its trunk, ResNet-18: +{own.difference:.3f}" in few
    best = only(analysis.draw_pairs, track="efficiency", level="5", is_best=True)
    assert f"the best other, {name_in_sentence(best.baseline)}: {best.difference:+.3f}" in few
    assert sentences(frames["draws"], frames["draw_pairs"], "imbalance") == []
    assert undecidable(frames["draws"], "imbalance") == "BreastMNIST at 5 % (positives: 1)"


def made(folder: Path, draws: dict[str, tuple[int, ...]], skills: dict[str, float] = SKILL) -> Analysis:
    """Five images a class: these draws of these models, and nothing else."""
    for model, own in draws.items():
        for draw in own:
            make_skilled(folder, Run(f"few-96-n5-d{draw}", model, "breastmnist", draw), skills[model], last=True)
    return analyse(gather(folder), synthetic=False)


def test_one_lucky_draw_is_no_best_other(tmp_path: Path) -> None:
    """The best of one draw would be tested against by nobody, and no sentence would name any other."""
    lucky = "efficientformerv2_s0"
    analysis = made(tmp_path, {OURS: (0, 1, 2), TRUNK: (1, 2), lucky: (0,)}, {**SKILL, lucky: 9.0})
    assert {p.baseline: (p.is_best, p.n_draws) for p in analysis.draw_pairs} == {TRUNK: (True, 2), lucky: (False, 1)}
    assert only(analysis.draw_pairs, baseline=lucky).verdict == ""
    frames = analysis.tables()
    (few,) = sentences(frames["draws"], frames["draw_pairs"], "efficiency")
    assert "One draw, nothing said of it: EfficientFormerV2-S0." in few
    assert "minus its trunk and the best other, ResNet-18" in few


def test_sentences_say_how_many_draws_are_behind_a_mean(tmp_path: Path) -> None:
    """Means over other draws than a difference is over do not subtract to it: every count that lacks some is named."""
    analysis = made(tmp_path, {OURS: (0, 1, 2), TRUNK: (0, 1, 2, 3, 4)})
    frames = analysis.tables()
    (few,) = sentences(frames["draws"], frames["draw_pairs"], "efficiency")
    ours = score(analysis, track="efficiency", model=OURS, metric="auc")
    theirs = score(analysis, track="efficiency", model=TRUNK, metric="auc")
    assert f"MedSpectralNet {ours.mean:.3f} ({ours.ci_low:.3f}–{ours.ci_high:.3f}, 3 of 5 draws)" in few
    assert f"ResNet-18 {theirs.mean:.3f} ({theirs.ci_low:.3f}–{theirs.ci_high:.3f})" in few
    assert " over 3 common draws (" in few
    assert ours.mean > theirs.mean
    assert few.index("MedSpectralNet 0.") < few.index("ResNet-18 0.")  # the best first


def test_the_references_rules_under_another_name_count_once(tmp_path: Path) -> None:
    """`rare-96-natural-plain` is lite-96 again: its runs would double the seeds; they are named, and in no mean."""
    for seed in range(3):
        make_skilled(tmp_path, Run("lite-96", OURS, "breastmnist", seed), 1.0)
        make_skilled(tmp_path, Run(f"rare-96-natural-plain-d{seed}", OURS, "breastmnist", seed), 1.0, last=True)
        make_skilled(tmp_path, Run(f"rare-96-p05-plain-d{seed}", OURS, "breastmnist", seed), 1.0, last=True)
    evidence = gather(tmp_path)
    own = score(analyse(evidence, synthetic=False), track="imbalance", level="natural", model=OURS, metric="auc")
    assert own.n_draws == 3
    assert all("__lite-96__" in run_id for run_id in own.run_ids)
    assert sum("rare-96-natural-plain" in note for note in evidence.notes) == 3


def test_a_missing_card_is_one_line_that_names_its_command(tmp_path: Path) -> None:
    """As of any other run: of a data set that only thinned training sets are of."""
    made(tmp_path, {OURS: (0,)})
    (tmp_path / "data" / "breastmnist.json").unlink()
    with pytest.raises(RecordError, match=r"breastmnist\.json is missing: medbench measure data --data"):
        analyse(gather(tmp_path), synthetic=False)


def test_the_references_interval_is_over_seeds(analysis: Analysis) -> None:
    """No image is drawn from the whole split; one fit varies over nothing but the test images."""
    kinds = {
        (level, model): score(analysis, track="efficiency", level=level, model=model, metric="auc").interval
        for level in ("all", "5")
        for model in (OURS, FITTED)
    }
    assert kinds == {
        ("all", OURS): "images and seeds",
        ("all", FITTED): "images",
        ("5", OURS): "images and draws",
        ("5", FITTED): "images and draws",
    }


def test_missing_runs_of_the_reference_are_named(evidence: Evidence, analysis: Analysis) -> None:
    """A planned model without lite-96 here is missing, by seeds; one without a thinned level shows its reference."""
    files = draw_tables.render(evidence, analysis, synthetic=False)
    assert "- all, plain: Gradient boosting (1), EfficientFormerV2-S0 (3)" in files["efficiency.md"].decode()
    assert "- natural, plain: Gradient boosting (1), EfficientFormerV2-S0 (3)" in files["imbalance.md"].decode()


def test_what_failed_or_is_stale_has_a_command_of_its_own(tmp_path: Path) -> None:
    """The plain one would leave it as it is; each says why it has no scores, and is not counted as not run."""
    member = "rare-96-p05-plain"
    lost = {"val": None, "test": None, "test_twin_free": None}
    for draw, status, kind in ((1, "failed", "diverged"), (2, "skipped", "unavailable")):
        failure = {"kind": kind, "message": f"{status} by `hand`"}
        make_skilled(
            tmp_path, Run(f"{member}-d{draw}", OURS, "breastmnist", draw), 1.0, status=status, failure=failure, **lost
        )
    make_skilled(tmp_path, Run(f"{member}-d3", OURS, "breastmnist", 3), 1.0, model_fingerprint="1" * 64)
    make_skilled(tmp_path, Run(f"{member}-d0", OURS, "breastmnist", 0), 1.0, last=True)
    evidence = gather(tmp_path)
    page = draw_tables.render(evidence, analyse(evidence, synthetic=False), synthetic=False)["imbalance.md"].decode()
    shown = rf"{OURS}\_\_breastmnist\_\_{member}-d{{0}}\_\_s{{0}}".format
    again = "Planned and without scores; `medbench run --study imbalance --overwrite"
    assert f"{again} failed` runs them again:\n\n- {shown(1)}: failed: failed by 'hand'\n" in page
    assert f"{again} stale` runs them again:\n\n- {shown(3)}: stale: the model's code" in page
    assert f"Planned and without scores:\n\n- {shown(2)}: skipped: skipped by 'hand'\n" in page
    (line,) = [line for line in page.splitlines() if line.startswith("- 5 %, plain: ")]
    assert "MedSpectralNet (1)" in line


def test_a_reference_alone_is_shown(tmp_path: Path) -> None:
    """Of a model that the study plans, beside others with a thinned level."""
    make_skilled(tmp_path, Run("lite-96", OURS, "breastmnist", 0), 1.0)
    analysis = made(tmp_path, {TRUNK: (0, 1)})
    assert score(analysis, track="efficiency", level="all", model=OURS, metric="auc").n_draws == 1


@pytest.mark.slow
def test_the_page_has_a_section_a_track(results: Path) -> None:
    """With its tables; every run stands in `runs.csv` and its scores in `scores.csv`."""
    content = render(results)
    page = content.pages["tracks.html"].decode()
    assert '<h2 id="rare-classes">Rare classes</h2>' in page
    assert '<h2 id="few-images">Few images</h2>' in page
    assert all(f'href="{name}.html"' in page for name in ("imbalance", "efficiency"))
    for name in ("runs.csv", "scores.csv"):
        assert b"rare-96-p05-adjusted-d1" in content.tables[name]
    assert b"test_last" in content.tables["scores.csv"]
