"""The calibration track from records to table, figure and page: numbers again from the logits, verdicts by floors."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax, softmax

from bench.records.names import Run, predictions_path
from bench.records.predictions import read_predictions
from bench.report.analysis.analyse import Analysis, analyse
from bench.report.analysis.calibration import COLUMNS, MISCALIBRATED
from bench.report.analysis_plan import best_baseline
from bench.report.evidence import Evidence, gather
from bench.report.figures import choice
from bench.report.site import pages
from bench.report.tables import calibration as table
from bench.stats.calibration import NUM_DRAWS, temperatures
from bench.stats.metrics import NUM_ECE_BINS
from tests.making import make_card, make_run, make_skilled
from tests.report.rows import only, select


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds of ours, one of a network that is sure and wrong, one of a floor; eight classes beside them."""
    folder = tmp_path_factory.mktemp("calibration") / "results"
    for seed in (0, 1, 2):
        make_skilled(folder, Run("lite-96", "medspectralnet", "breastmnist", seed), 2.0)
    make_skilled(folder, Run("lite-96", "resnet18", "breastmnist", 0), -4.0)
    make_skilled(folder, Run("lite-96", "floor/prior", "breastmnist", 0), None)
    make_run(folder, Run("lite-96", "resnet18", "bloodmnist", 0), num_classes=8)
    return folder


@pytest.fixture(scope="module")
def evidence(results: Path) -> Evidence:
    return gather(results)


@pytest.fixture(scope="module")
def analysis(evidence: Evidence) -> Analysis:
    return analyse(evidence, synthetic=False)


def logits_of(results: Path, run: Run, split: str) -> tuple[np.ndarray, np.ndarray]:
    part = read_predictions(predictions_path(run.path(results))).split(split)
    return part.labels, part.logits.astype(np.float64)


def test_a_row_is_what_the_logits_give(results: Path, analysis: Analysis) -> None:
    """Temperature by a grid on val, both parts of the likelihood on test, the classwise error by its formula."""
    row = only(analysis.calibration, model="resnet18", dataset="breastmnist", part="test")
    run = Run("lite-96", "resnet18", "breastmnist", 0)
    labels, logits = logits_of(results, run, "val")
    grid = np.exp(np.linspace(-7, 7, 40_001))
    losses = [-log_softmax(logits / t, axis=1)[np.arange(len(labels)), labels].mean() for t in grid[::20]]
    near = grid[::20][int(np.argmin(losses))]
    assert row.temperature == pytest.approx(min(near, 1000.0), rel=0.01)
    labels, logits = logits_of(results, run, "test")
    rows = np.arange(len(labels))
    refined = -log_softmax(logits / row.temperature, axis=1)[rows, labels].mean()
    assert row.nll_refinement == pytest.approx(refined, abs=1e-8)
    assert row.nll_refinement + row.nll_calibration == pytest.approx(row.nll, abs=1e-8)
    probs = softmax(logits, axis=1)
    errors = []
    for k in (0, 1):
        bins = np.ceil(probs[:, k] * NUM_ECE_BINS)
        gaps = [abs(((labels == k) - probs[:, k])[bins == b].sum()) for b in np.unique(bins)]
        errors.append(sum(gaps) / len(labels))
    assert row.classwise_ece == pytest.approx(np.mean(errors), abs=1e-9)
    assert math.isnan(row.ece_rare)
    assert math.isnan(row.ece_common)


def test_the_temperature_of_several_seeds_is_their_geometric_mean(results: Path, analysis: Analysis) -> None:
    """A temperature divides: one of 2 and one of 1/2 make 1."""
    runs = [Run("lite-96", "medspectralnet", "breastmnist", seed) for seed in (0, 1, 2)]
    own = [
        float(temperatures(labels, logits[None])[0]) for labels, logits in (logits_of(results, r, "val") for r in runs)
    ]
    assert max(own) > 1.05 * min(own)
    row = only(analysis.calibration, model="medspectralnet", part="test")
    assert row.temperature == pytest.approx(math.prod(own) ** (1 / 3), rel=1e-6)


def test_only_an_error_above_its_floor_is_called_miscalibrated(analysis: Analysis) -> None:
    """Sure and wrong lies above; what chance can give does not, and its interval then starts at 0."""
    wrong = only(analysis.calibration, model="resnet18", dataset="breastmnist", part="test")
    assert (wrong.verdict, wrong.seeds_above) == (MISCALIBRATED, 1)
    assert wrong.ece > wrong.ece_floor_95 > wrong.ece_floor > 0
    for row in analysis.calibration:
        assert bool(row.verdict) == (row.ece > row.ece_floor_95)
        assert row.ece_low <= row.ece <= row.ece_high
        assert row.verdict or row.ece_low == 0.0
    quiet = only(analysis.calibration, model="floor/prior", part="test")
    assert quiet.verdict == ""


def test_rare_classes_stand_apart_where_there_are_several(analysis: Analysis) -> None:
    """Eight classes: the two means weighted by their classes are the classwise error."""
    row = only(analysis.calibration, dataset="bloodmnist", part="test")
    counts = np.array(make_card("bloodmnist", 8).class_counts["train"])
    rare = counts < np.median(counts)
    assert 0 < rare.sum() < 8
    both = (row.ece_rare * rare.sum() + row.ece_common * (~rare).sum()) / 8
    assert both == pytest.approx(row.classwise_ece, abs=1e-9)


def test_areas_and_errors_have_intervals(analysis: Analysis) -> None:
    """`pr_auc` and `ece` of every cell, over images and seeds where networks have several."""
    for metric in ("pr_auc", "ece", "nll_refinement", "nll_calibration"):
        for score in select(analysis.scores, metric=metric, dataset="breastmnist"):
            assert score.low <= score.mean <= score.high
            assert score.interval == ("images" if score.model == "floor/prior" else "images and seeds")


def test_differences_are_ours_less_the_others(analysis: Analysis) -> None:
    """The likelihood's is the sum of its parts', the intervals hold them, and none joins the exploratory pairs."""
    found = {(pair.baseline, pair.metric): pair for pair in analysis.calibration_pairs}
    assert {baseline for baseline, _ in found} == {"resnet18", "floor/prior"}
    for baseline in ("resnet18", "floor/prior"):
        whole, *parts = (found[baseline, metric] for metric in ("nll", "nll_refinement", "nll_calibration"))
        assert whole.difference == pytest.approx(sum(part.difference for part in parts), abs=1e-9)
        assert whole.ci_low < whole.difference < whole.ci_high
    rows = {row.model: row for row in select(analysis.calibration, dataset="breastmnist", part="test")}
    assert found["resnet18", "nll"].difference == rows["medspectralnet"].nll - rows["resnet18"].nll
    assert {pair.metric for pair in analysis.pairs} == {"auc", "acc"}


def test_the_table_shows_each_error_beside_its_floor(evidence: Evidence, analysis: Analysis) -> None:
    """Markdown, LaTeX and CSV; how many are above, and how many would be."""
    files = table.render(evidence, analysis, synthetic=False)
    assert sorted(files) == [f"calibration.{end}" for end in ("csv", "html", "md", "tex")]
    text = files["calibration.md"].decode()
    row = only(analysis.calibration, model="resnet18", dataset="breastmnist", part="test")
    (line,) = (line for line in text.splitlines() if line.startswith("| ResNet-18") and "breastmnist/" in line)
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert f"[{row.ece:.3f}](" in cells[2]
    assert cells[4:8] == [f"{row.ece_floor:.3f}", f"{row.ece_floor_95:.3f}", "1 of 1", MISCALIBRATED]
    official = select(analysis.calibration, part="test")
    above = sum(bool(row.verdict) for row in official)
    assert f"{above} of {len(official)} cells on the official test are miscalibrated" in text
    assert f"at most {0.05 * len(official):.1f} would be expected" in text
    assert f"{NUM_DRAWS:,} times" in text
    frame = pd.read_csv(io.BytesIO(files["calibration.csv"]), comment="#")
    assert list(frame) == COLUMNS
    assert len(frame) == len(analysis.calibration)
    assert "No records yet." in table.render(Evidence(Path()), Analysis(), synthetic=False)["calibration.md"].decode()


def test_runs_on_synthetic_data_are_stamped(tmp_path: Path) -> None:
    """Files of their own, that say so."""
    make_run(tmp_path, Run("smoke", "resnet18_28", "synthetic-breastmnist", 0))
    evidence = gather(tmp_path)
    files = table.render(evidence, analyse(evidence, synthetic=True), synthetic=True)
    assert all(name.startswith("SYNTHETIC_") for name in files)
    assert files["SYNTHETIC_calibration.md"].decode().count("SYNTHETIC") >= 3


def test_the_figure_has_every_bin_with_its_count(evidence: Evidence, analysis: Analysis) -> None:
    """Panels of ours and the trunk; counts of all bins are the test images, frequencies weigh to the accuracy."""
    (plot,) = (
        plot
        for plot in choice.plots(evidence, analysis, synthetic=False, models=("medspectralnet",))
        if plot.name.startswith("reliability")
    )
    assert plot.name == "reliability__medspectralnet__breastmnist__lite-96"
    numbers = plot.numbers()
    assert list(dict.fromkeys(numbers["model"])) == ["medspectralnet", "resnet18"]
    for model, bins in numbers.groupby("model"):
        accuracy = only(analysis.scores, model=model, dataset="breastmnist", part="test", metric="acc")
        assert bins["mean_count"].sum() == pytest.approx(accuracy.num_images, abs=1e-4)
        share = (bins["mean_count"] * bins["frequency"]).sum() / accuracy.num_images
        assert share == pytest.approx(accuracy.mean, abs=1e-5)
        assert ((bins["confidence"] > bins["bin_low"] - 1e-6) & (bins["confidence"] <= bins["bin_high"] + 1e-6)).all()
        assert (bins["calibrated_low"] <= bins["calibrated_high"]).all()


def test_the_page_marks_what_is_miscalibrated(evidence: Evidence, analysis: Analysis) -> None:
    """A column of the data set's page, marked where the official test's error is above its floor, and a track."""
    files = pages.render(evidence, analysis, synthetic=False, figures={}, captions={}, names=["calibration.html"])
    html = files["datasets/breastmnist.html"].decode()
    scores = html.partition('<table class="scores')[2].partition("</table>")[0]
    rows = select(analysis.calibration, dataset="breastmnist", part="test")
    body = scores.partition("<tbody>")[2]
    assert body.count(f'<span class="mark off">{MISCALIBRATED}</span>') == sum(bool(row.verdict) for row in rows) == 1
    assert body.count("expected calibration error") == len(rows)
    assert '<a href="calibration.html">' in files["tracks.html"].decode()


def test_the_best_baseline_is_a_network_of_several_seeds() -> None:
    """By hand: neither ours nor what is fitted nor one seed leads, unless nothing else is there."""
    fitted, ours = ("sklearn/logistic", 0.99, 1), ("medspectralnet_8m5", 0.98, 3)
    lone, several = ("medvit_t", 0.97, 1), ("resnet50", 0.9, 3)
    assert best_baseline([fitted, ours, lone, several, ("resnet18", math.nan, 3)]) == "resnet50"
    assert best_baseline([fitted, ours, lone]) == "medvit_t"
    assert best_baseline([fitted, ours]) == ""
