"""From records to statistics: the plan's families, marks, caches, and what is refused."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from bench.data.names import PAPER_DATASETS
from bench.errors import RecordError
from bench.records.names import Run, history_path, predictions_path
from bench.records.run_record import Record
from bench.report import analysis_plan
from bench.report.analysis import cache
from bench.report.analysis import cells as analysis_cells
from bench.report.analysis.analyse import Analysis, analyse
from bench.report.analysis.predictions import read_history
from bench.report.analysis.resolution import TEST_IMAGES, published_checks, resolutions
from bench.report.analysis.seeds import seed_variances
from bench.report.evidence import STATISTICS, Evidence, gather
from bench.report.published.numbers import PublishedScore, published_scores
from bench.report.tables.score_cells import exploratory_text
from bench.stats.comparisons import PairingError
from bench.stats.power import POWER
from bench.stats.proportions import paired_shares
from bench.stats.seed_variance import FITTED
from bench.stats.uncertainty import area_interval, of_mean
from tests.making import make_card, make_labels, make_run
from tests.making import make_skilled as train
from tests.report.rows import only, select

PLAN = Path(__file__).parents[2] / "results" / "ANALYSIS_PLAN.md"
LITE = ("lite-96", "breastmnist")
# Model -> seeds (no study plans 3) and skill: the mean of the right logit over the others, which have variance 1.
STUDY = {"medspectralnet": ((0, 1, 2), 2.0), "resnet18": ((1, 2, 3), 1.9), "floor/prior": ((0,), None)}


@pytest.fixture(autouse=True)
def published(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two published scores stand for the table of all."""
    rows = [published_score("ResNet-18", "28", metric, 0.863) for metric in ("acc", "auc")]
    monkeypatch.setattr("bench.report.analysis.analyse.published_scores", lambda: rows)


def published_score(model: str, variant: str, metric: str, value: float) -> PublishedScore:
    return PublishedScore(model, variant, 28, "breastmnist", metric, value, "a paper", "Table 1", "", "")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for model, (seeds, skill) in STUDY.items():
        for seed in seeds:
            train(tmp_path, Run("lite-96", model, "breastmnist", seed), skill)
    return tmp_path


def run(results: Path, *, synthetic: bool = False) -> Analysis:
    return analyse(gather(results), synthetic=synthetic)


def cells_of(evidence: Evidence) -> dict[str, analysis_cells.Cell]:
    """The cells of lite-96 on BreastMNIST by model."""
    records: dict[str, list[Record]] = {}
    for record in evidence.finished(synthetic=False):
        records.setdefault(record.model, []).append(record)
    jobs = [(found, evidence.cards["breastmnist"]) for found in records.values()]
    return dict(zip(records, analysis_cells.read_cells(evidence.results, jobs), strict=True))


def equal(one: Analysis, other: Analysis) -> bool:
    tables = other.tables()
    return all(table.equals(tables[name]) for name, table in one.tables().items())


def test_tables_have_their_columns_even_without_records(results: Path, tmp_path: Path) -> None:
    """An empty folder and a full one give the same columns, under the same names; published scores need no record."""
    empty, full = (a.tables() for a in (analyse(Evidence(tmp_path / "nothing"), synthetic=False), run(results)))
    assert tuple(empty) == STATISTICS
    for name, table in empty.items():
        assert list(table) == list(full[name])
        assert len(list(table)) >= 8
        assert table.empty == (name != "published_checks")
        # Not Table 2's protocols, of no family, without similarities, histories and corrupted test images.
        empties = ("contrasts", "draws", "draw_pairs", "twins", "epochs", "robustness", "robustness_pairs")
        assert full[name].empty == (name in empties)
    assert analyse(Evidence(tmp_path), synthetic=True).published_checks == ()


def test_a_cell_is_the_mean_of_its_records(results: Path) -> None:
    """Mean and sample deviation are those of the records' own numbers; one seed has no deviation and says `images`."""
    scores = run(results).scores
    values = [record.test["acc"] for record in gather(results).records if record.model == "resnet18" and record.test]
    score = only(scores, model="resnet18", part="test", metric="acc")
    assert score.mean == pytest.approx(np.mean(values), abs=1e-15)
    assert score.sd == pytest.approx(np.std(values, ddof=1), abs=1e-15)
    assert (score.n_seeds, score.num_images, score.interval) == (2, 24, "images and seeds")
    assert score.ci_low < score.mean < score.ci_high
    assert score.run_ids == tuple(f"resnet18__breastmnist__lite-96__s{k}" for k in (1, 2))
    floor = only(scores, model="floor/prior", part="test_twin_free", metric="auc")
    assert (floor.n_seeds, floor.num_images, floor.interval, floor.mean) == (1, 22, "images", 0.5)
    assert math.isnan(floor.sd)


def test_seeds_widen_an_interval(results: Path, tmp_path: Path) -> None:
    """The interval of three seeds that differ is wider than that of their mean over the images alone."""
    evidence = gather(results)
    cells = cells_of(evidence)
    score = only(run(results).scores, model="medspectralnet", part="test", metric="auc")
    cell = cells["medspectralnet"]
    images = of_mean(cell.covariance("test", "auc"), FITTED, cell.image_degrees("test", "auc"))
    low, high = area_interval(score.mean, images, 6)
    assert score.sd > 0.0
    assert score.ci_low < low <= high < score.ci_high


def test_a_cell_of_one_seed_takes_the_pools_variance(results: Path) -> None:
    """Its interval is over images and seeds; where no network has two seeds it is over images and says so."""
    train(results, Run("lite-96", "swin_t", "breastmnist", 0), 1.9)
    lone = seed_variances(cells_of(gather(results)))["swin_t", "test", "auc"]
    assert lone is not None
    assert lone.variance > 0.0
    kinds = {score.model: score.interval for score in select(run(results).scores, part="test", metric="auc")}
    assert kinds["swin_t"] == "images and seeds"
    assert kinds["floor/prior"] == "images"
    for path in (results / "records" / "lite-96").rglob("seed[12].json"):
        path.unlink()
    (kind,) = {score.interval for score in select(run(results).scores, part="test", metric="auc")}
    assert kind == "images"


def test_a_cell_of_one_seed_never_leads(tmp_path: Path) -> None:
    """However high, it excludes nobody and is not bold; with three seeds the same scores would be."""
    for seed in (0, 1, 2):
        train(tmp_path, Run("lite-96", "resnet18", "breastmnist", seed), 0.2)
    train(tmp_path, Run("lite-96", "swin_t", "breastmnist", 0), 9.0)
    scores = select(run(tmp_path).scores, part="test", metric="auc")
    assert {(score.mark, score.drawn) for score in scores} == {("may be best", "tie")}
    for seed in (1, 2):
        train(tmp_path, Run("lite-96", "swin_t", "breastmnist", seed), 9.0)
    marks = {s.model: (s.mark, s.drawn) for s in select(run(tmp_path).scores, part="test", metric="auc")}
    assert marks == {"swin_t": ("best", "best"), "resnet18": ("", "")}


def test_two_fitted_models_are_compared_exactly(results: Path) -> None:
    """Accuracies by McNemar's exact p and Tango's interval, areas by DeLong's."""
    train(results, Run("lite-96", "floor/knn1", "breastmnist", 0), 1.0)
    pair = only(run(results).pairs, model="floor/knn1", baseline="floor/prior", part="test", metric="acc")
    cells = cells_of(gather(results))
    first, second = (cells[model].correct[0] for model in ("floor/knn1", "floor/prior"))
    exact = paired_shares(int((first & ~second).sum()), int((second & ~first).sum()), 24)
    assert (pair.exact.p, pair.exact.low, pair.exact.high) == (exact.p, exact.low, exact.high)
    assert pair.difference == pytest.approx(first.mean() - second.mean())
    area = only(run(results).pairs, model="floor/knn1", baseline="floor/prior", part="test", metric="auc")
    assert area.uncertainty.error == pytest.approx(math.sqrt(cells["floor/knn1"].covariance("test", "auc")[0, 0]))


def test_the_primary_family_is_the_plans(results: Path) -> None:
    """AUC on the official test against the plan's baselines; p times what is planned on the set, networks apart."""
    train(results, Run("lite-96", "medspectralnet_8m5", "breastmnist", 0), 1.0)
    pairs = run(results).pairs
    primary = select(pairs, family="primary")
    assert {(pair.model, pair.baseline) for pair in primary} == {
        ("medspectralnet", "resnet18"),
        ("medspectralnet", "floor/prior"),
    }
    assert {(pair.part, pair.metric) for pair in primary} == {("test", "auc")}
    assert [analysis_plan.family_size("lite-96", fitted=kind, synthetic=False) for kind in (True, False)] == [4, 13]
    tests = {pair.baseline: pair.tests for pair in primary}
    assert tests == {"resnet18": 13, "floor/prior": 4}
    for pair in primary:
        assert pair.p_corrected == pytest.approx(min(1.0, pair.tests * pair.p), rel=1e-9)
        assert 0.0 < pair.detectable < pair.detectable_corrected
    exploratory = select(pairs, family="exploratory")
    assert exploratory
    assert all(math.isnan(pair.p_corrected) and pair.tests == 1 for pair in exploratory)
    assert list(pairs[:2]) == primary


def test_the_choice_of_a_threshold_counts(results: Path) -> None:
    """A rate varies over test images, and over what another val would have chosen."""
    cell = cells_of(gather(results))["medspectralnet"]
    rates = np.array(cell.values("test", "sensitivity"))
    over_test = rates * (1 - rates) / (int((cell.labels == 0).sum()) - 1)
    assert (np.diag(cell.covariance("test", "sensitivity")) > over_test).all()
    assert 0.0 < cell.middles["test"][0] < 1.0


def test_the_last_epoch_stands_beside_the_chosen_one(tmp_path: Path) -> None:
    """Val after the last epoch is the histories' last row, test only where it was scored; none without a history."""
    runs = [Run("lite-96", "swin_t", "breastmnist", seed) for seed in (0, 1)]
    records = [make_run(tmp_path, own, best_epoch=3 * own.seed + 3) for own in runs]
    analysis = run(tmp_path)
    row = only(analysis.epochs, model="swin_t", metric="auc")
    assert (row.best_epoch, row.num_epochs) == ((3 + 6) / 2, 20)
    last = [read_history(tmp_path, record)["val_auc"].iloc[-1] for record in records]
    assert row.val_last == pytest.approx(np.mean(last))
    assert row.val == pytest.approx(np.mean([(record.val or {})["auc"] for record in records]))
    assert (row.n_seeds, math.isnan(row.test_last)) == (2, True)
    assert {row.model for row in analysis.epochs} == {"swin_t"}
    history_path(runs[1].path(tmp_path)).write_bytes(b"PAR1")
    shutil.rmtree(tmp_path / ".cache")
    assert run(tmp_path).epochs == ()


def test_posterior_probabilities_stand_beside_each_difference(results: Path) -> None:
    """The three of a region sum to 1, and a two-sided p is twice the smaller probability of the sign."""
    pairs = [pair for pair in run(results).pairs if pair.uncertainty.error > 0.0]
    assert pairs
    for pair in pairs:
        assert pair.rope_lower + pair.rope_inside + pair.rope_higher == pytest.approx(1.0)
        assert 2 * min(pair.p_higher, 1 - pair.p_higher) == pytest.approx(pair.p, abs=1e-9)
        assert (pair.p_higher > 0.5) == (pair.difference > 0)
        assert pair.rope_higher <= pair.p_higher <= 1 - pair.rope_lower


def test_pairs_use_all_seeds_of_both_sides(results: Path) -> None:
    """The difference is that of the printed means, of three seeds and of two; the floor's one run lacks none."""
    pairs, records = run(results).pairs, {record.run_id: record for record in gather(results).records}

    def auc(model: str, seed: int) -> float:
        scores = records[f"{model}__breastmnist__lite-96__s{seed}"].test
        assert scores is not None
        assert scores["auc"] is not None
        return scores["auc"]

    pair = only(pairs, baseline="resnet18", model="medspectralnet", part="test", metric="auc")
    own = np.mean([auc("medspectralnet", seed) for seed in (0, 1, 2)])
    expected = own - np.mean([auc("resnet18", seed) for seed in (1, 2)])
    assert (pair.seeds, pair.fewest_seeds, pair.difference) == ("3 and 2", 2, pytest.approx(expected, abs=1e-15))
    pair = only(pairs, baseline="floor/prior", model="medspectralnet", part="test", metric="auc")
    assert (pair.seeds, pair.fewest_seeds, pair.difference) == ("3", 3, pytest.approx(own - 0.5, abs=1e-15))
    assert pair.ci_low < pair.difference < pair.ci_high


def test_mcnemar_counts_images_that_one_model_gets_right(results: Path) -> None:
    """Counted again from the predictions, seed by seed; the difference of counts is that of accuracies."""
    analysis, records = run(results), gather(results).records
    test = only(analysis.mcnemar, baseline="resnet18", seed=2)
    accuracy = {r.model: r.test["acc"] for r in records if r.seed == 2 and r.test}
    difference = (test.only_model_right - test.only_baseline_right) / 24
    assert difference == pytest.approx(accuracy["medspectralnet"] - accuracy["resnet18"])
    assert len(analysis.mcnemar) == 2 + 3


def test_classes_carry_their_names_and_values(results: Path) -> None:
    """Binary: both classes' areas are the AUC; precision of a class that is never predicted is undefined."""
    analysis = run(results)
    auc = only(analysis.scores, model="resnet18", part="test", metric="auc").mean
    one = only(analysis.classes, model="resnet18", part="test", class_index=1)
    assert (one.class_name, one.n_seeds) == ("class 1", 2)
    assert one.auc == pytest.approx(auc, abs=1e-9)
    assert math.isnan(only(analysis.classes, model="floor/prior", part="test", class_index=0).precision)


def test_a_part_taken_out_takes_no_part_in_the_marks(tmp_path: Path) -> None:
    """The best of a column is one of its models, and the confidence set is over these alone."""
    skills = {"medspectralnet": 1.0, "resnet18": 1.2, "swin_t": 0.9, "medspectralnet_no_gate": 9.0}
    for model, skill in skills.items():
        train(tmp_path / "all", Run("lite-96", model, "breastmnist", 0), skill)
        if model in list(skills)[:3]:
            train(tmp_path / "models", Run("lite-96", model, "breastmnist", 0), skill)
    every, models = (run(tmp_path / name).scores for name in ("all", "models"))
    assert {(score.mark, score.drawn) for score in select(every, model="medspectralnet_no_gate")} == {("", "")}
    marks = [(score.model, score.part, score.metric, score.mark, score.drawn) for score in models]
    assert marks == [
        (score.model, score.part, score.metric, score.mark, score.drawn)
        for score in every
        if score.model != "medspectralnet_no_gate"
    ]
    assert "may be best" in {score.mark for score in models}


def test_a_fitted_model_with_two_records_costs_no_seed(results: Path) -> None:
    """It comes out the same for every seed, whatever seeds it was run with."""
    train(results, Run("lite-96", "floor/prior", "breastmnist", 5), STUDY["floor/prior"][1])
    pair = only(run(results).pairs, baseline="floor/prior", model="medspectralnet", part="test", metric="auc")
    assert (pair.seeds, pair.fewest_seeds) == ("3", 3)


def test_equal_models_and_near_ones_may_both_be_best(results: Path, tmp_path: Path) -> None:
    """A tie is never drawn as a win; what is clearly worse has no mark."""
    scores = run(results).scores
    aucs = {score.model: score for score in select(scores, part="test", metric="auc")}
    assert {aucs[model].mark for model in ("medspectralnet", "resnet18")} == {"may be best"}
    assert [aucs[model].drawn for model in ("medspectralnet", "resnet18", "floor/prior")] == ["tie", "tie", ""]
    assert aucs["floor/prior"].mark == ""
    assert {score.mark for score in scores if score.metric not in ("auc", "acc")} == {""}
    for model in ("resnet18", "swin_t"):
        train(tmp_path / "tie", Run("lite-96", model, "breastmnist", 0), None)
    tie = run(tmp_path / "tie")
    assert {(score.mark, score.drawn) for score in select(tie.scores, metric="auc")} == {("may be best", "tie")}
    assert {pair.p for pair in tie.pairs} == {1.0}


def test_sensitivity_and_specificity_use_the_threshold_of_val(results: Path) -> None:
    """A floor that cannot tell anything apart calls every image positive: the lower threshold on a tie."""
    scores = run(results).scores
    assert only(scores, model="floor/prior", part="test", metric="sensitivity").mean == 1.0
    assert only(scores, model="floor/prior", part="test", metric="specificity").mean == 0.0
    square = 1.959963984540054**2  # without twins 10 positives and 12 others: Wilson's interval of all, and of none
    ends = {"sensitivity": (10 / (10 + square), 1.0), "specificity": (0.0, square / (12 + square))}
    for metric, (low, high) in ends.items():
        floor = only(scores, model="floor/prior", part="test_twin_free", metric=metric)
        assert (floor.ci_low, floor.ci_high) == pytest.approx((low, high), abs=1e-9)
    score = only(scores, model="medspectralnet", part="test", metric="sensitivity")
    assert 0.5 < score.mean <= 1.0
    assert 0.0 <= score.ci_low <= score.mean <= score.ci_high <= 1.0


def test_a_val_split_of_one_class_gives_no_threshold() -> None:
    """Sensitivity is then undefined, not zero."""
    card = make_card("breastmnist")
    labels = {"val": np.ones(12, dtype=np.int64), "test": make_labels("breastmnist")["test"]}
    probs = {split: np.tile([0.4, 0.6], (len(values), 1)) for split, values in labels.items()}
    logits = {split: np.log(values).astype(np.float32) for split, values in probs.items()}
    arrays = analysis_cells._measure([analysis_cells.Predictions(labels, probs, logits)], card)
    unknown = np.isnan(arrays["covariances/test"]).all(axis=(1, 2))
    assert np.isnan(arrays["derived/test"][:, :2]).all()
    assert [metric for metric, lacks in zip(analysis_cells.VARIED, unknown, strict=True) if lacks] == [
        "sensitivity",
        "specificity",
    ]


def test_synthetic_and_real_never_mix(results: Path) -> None:
    """Each analysis sees its own records; the demo's family is over stand-ins."""
    for model, skill in (("medspectralnet", 2.0), ("resnet18", 0.5)):
        train(results, Run("demo", model, "synthetic-bloodmnist", 0), skill, num_classes=8)
    made, real = run(results, synthetic=True), run(results)
    assert {score.dataset for score in made.scores} == {"synthetic-bloodmnist"}
    assert {score.dataset for score in real.scores} == {"breastmnist"}
    assert made.published_checks == ()
    assert len(select(made.pairs, family="primary")) == 1
    assert analysis_plan.family_size("demo", fitted=False, synthetic=False) == 0


def test_the_cache_changes_nothing_and_hides_nothing(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second analysis is equal and measures nothing; a damaged cache is written anew; a lost file is missed."""
    first = run(results)
    files = sorted((results / ".cache" / "analysis").glob("*.npz"))
    assert files
    with monkeypatch.context() as patch:
        patch.setattr("bench.report.analysis.cells._measure", None)
        assert equal(run(results), first)
    path = predictions_path(gather(results).records[0].run.path(results))
    path.rename(path.with_suffix(".hidden"))
    with pytest.raises(RecordError, match="the statistics need the predictions of every run"):
        run(results)
    path.with_suffix(".hidden").rename(path)
    for name, content in (("truncated", b"abc"), ("of another cell", files[1].read_bytes())):
        files[0].write_bytes(content)
        assert equal(run(results), first), name


def test_a_folder_that_cannot_be_written_means_no_cache(results: Path) -> None:
    """A file stands where the folder would: the numbers are the same."""
    first = run(results)
    for path in (results / ".cache" / "analysis").glob("*"):
        path.unlink()
    (results / ".cache" / "analysis").rmdir()
    (results / ".cache" / "analysis").write_text("in the way", encoding="utf-8")
    assert equal(run(results), first)


def test_changed_code_reads_no_old_cache(
    results: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One comment more in the code that measures makes every cached array void; the code elsewhere does not."""
    run(results)
    package = tmp_path_factory.mktemp("code") / "bench"
    shutil.copytree(cache._BENCH, package, ignore=shutil.ignore_patterns("__pycache__"))
    assert cache.code_digest(package) == cache.code_digest(cache._BENCH)
    cache.code_digest.cache_clear()
    (package / "cli" / "__init__.py").write_text("# another\n", encoding="utf-8")
    assert cache.code_digest(package) == cache.code_digest(cache._BENCH)
    cache.code_digest.cache_clear()
    with (package / "stats" / "intervals.py").open("a", encoding="utf-8") as file:
        file.write("# another\n")
    before = set((results / ".cache" / "analysis").glob("*"))
    monkeypatch.setattr(cache, "_BENCH", package)
    run(results)
    assert len(set((results / ".cache" / "analysis").glob("*")) - before) == len(before)


def test_a_shuffled_test_order_is_refused(results: Path) -> None:
    """Predictions whose labels stand in another order than the card's: one line that names the run."""
    train(results, Run("lite-96", "swin_t", "breastmnist", 0), 1.0, swap=True)
    with pytest.raises(
        PairingError, match=r"^swin_t__breastmnist__lite-96__s0: its val labels are not those of .*order"
    ):
        run(results)


def test_runs_from_different_files_are_not_paired(results: Path) -> None:
    """Equal labels are not enough: the file's MD5 must agree."""
    train(results, Run("lite-96", "swin_t", "breastmnist", 0), 1.0, data_md5="f" * 32)
    with pytest.raises(PairingError, match="come from different files"):
        run(results)


def test_predictions_that_are_not_the_records_are_refused(results: Path) -> None:
    """Exchanged files do not fit the record's digest."""
    path = predictions_path(Run("lite-96", "resnet18", "breastmnist", 1).path(results))
    path.write_bytes(path.with_name("seed2.predictions.parquet").read_bytes())
    with pytest.raises(RecordError, match="not the file that resnet18__breastmnist__lite-96__s1 was sealed with"):
        run(results)


def test_organ_slices_get_a_design_effect_row() -> None:
    """The plain row is called a lower bound; the second is wider by the root of the design effect."""
    card = make_card("organcmnist", 11)
    labels = np.arange(8216) % 11
    plain, effect = select(resolutions(card, "lite-96", "test", labels, []), metric="acc")
    assert plain.note.startswith("lower bound: the images are slices of about 70 scans")
    assert effect.half_width == pytest.approx(plain.half_width * math.sqrt(1 + (8216 / 70 - 1) * 0.05))
    breast = resolutions(make_card("breastmnist"), "lite-96", "test", np.arange(156) % 2, [])
    assert [row.note for row in breast] == ["", ""]
    assert all(math.isnan(row.smallest_difference) and row.comparisons == 0 for row in breast)


def test_the_smallest_difference_is_that_of_the_measured_comparisons(results: Path) -> None:
    """The median over ours with the networks, by one test and by the one that decides; accuracy is not corrected."""
    train(results, Run("lite-96", "swin_t", "breastmnist", 0), 1.0)
    analysis = run(results)
    pairs = [
        only(analysis.pairs, model="medspectralnet", baseline=baseline, part="test", metric="auc")
        for baseline in ("resnet18", "swin_t")
    ]
    row = only(analysis.resolution, part="test", metric="auc")
    assert (row.protocol, row.comparisons, row.tests) == ("lite-96", 2, 13)
    assert row.smallest_difference == pytest.approx(np.mean([pair.detectable for pair in pairs]))
    assert row.smallest_corrected == pytest.approx(np.mean([pair.detectable_corrected for pair in pairs]))
    assert row.correlation == pytest.approx(np.mean([pair.correlation for pair in pairs]))
    assert math.isnan(only(analysis.resolution, part="test", metric="acc").smallest_corrected)


def test_exploratory_counts_say_what_chance_gives() -> None:
    """Three of forty below 5 % where two are expected; Benjamini and Hochberg keep the one that is small enough."""
    p_values = [0.0001, 0.03, 0.04, *[0.5] * 37, math.nan]
    text = exploratory_text(p_values, "here")
    assert "40 tests, 3 with p below 5 % where 2.0 would be expected" in text
    assert "correction keeps 1 (of independent tests 5 % would be false on average;" in text
    assert exploratory_text([0.03, *[0.5] * 9], "here").endswith("correction keeps none.")
    assert exploratory_text([math.nan], "here") == ""


def test_published_accuracies_are_checked(results: Path) -> None:
    """0.863 and 0.900 on 156 images take three or five runs; AUCs are not checked."""
    (check,) = run(results).published_checks
    assert check.reachable_with_runs == "3,5"
    assert check.ci_low == pytest.approx(0.8003, abs=1e-3)
    (check,) = published_checks([published_score("X", "", "acc", 0.9)] * 2)
    assert check.reachable_with_runs == "3,5"


def test_sizes_of_test_sets_are_medmnists() -> None:
    """What the checks of published scores assume is what medmnist distributes."""
    info = pytest.importorskip("medmnist").INFO
    assert {flag: info[flag]["n_samples"]["test"] for flag in PAPER_DATASETS} == TEST_IMAGES


def test_the_margin_is_wider_than_what_the_image_size_changes() -> None:
    """The plan's reason: official AUCs of ResNets at 28 and 224 px differ by less on every one of the six sets."""
    official: dict[tuple[str, str], list[float]] = {}
    for score in published_scores():
        if score.variant in ("28", "224") and score.metric == "auc":
            official.setdefault((score.model, score.dataset), []).append(score.value)
    spans = [max(values) - min(values) for values in official.values()]
    assert len(spans) >= len(PAPER_DATASETS)
    assert 0.0 < max(spans) < analysis_plan.MARGIN


def test_the_plan_says_what_the_code_does() -> None:
    """Families, margin, level, power and the size of each family stand in the plan as in the code."""
    text = PLAN.read_text(encoding="utf-8")
    for protocol, names in analysis_plan.FAMILIES.items():
        line = next(line for line in text.splitlines() if line.startswith(f"| `{protocol}` |"))
        assert set(re.findall(r"`([^`]+)`", line)) - {protocol} == set(names)
        assert line.endswith(f"| {len(names)} x 6 = {6 * len(names)} |")
        sizes = [analysis_plan.family_size(protocol, fitted=kind, synthetic=False) for kind in (True, False)]
        assert f"`{protocol}` {sizes[0]} and {sizes[1]}" in text
    assert f"**{analysis_plan.MARGIN:g}**" in text
    assert f"a power of {100 * POWER:g} %" in text
    assert f"around {analysis_plan.REFERENCE:g}" in text
    assert f"correlation of {analysis_plan.INTRACLASS:g}" in text
