"""Scores without twins: from the card's similarities to the curve, its page and its figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.records.card import DataCard, read_card, write_card
from bench.records.names import Run, predictions_path
from bench.records.predictions import read_predictions
from bench.report.analysis.analyse import Analysis, analyse
from bench.report.analysis.twins import FEWEST_REMOVED
from bench.report.analysis_plan import TWIN_THRESHOLDS
from bench.report.evidence import gather
from bench.report.figures.style import style
from bench.report.figures.twins import draw_twins, twin_numbers
from bench.report.site.datasets import data_problems
from bench.report.tables import twins
from tests.making import make_card
from tests.making import make_skilled as train
from tests.report.rows import only, select

REPOSITORY = Path(__file__).parents[2]


def with_similarity(card: DataCard) -> DataCard:
    """The card, whose test images 1 and 5 reach 0.99 and eight more 0.97, just so; val's image 2 reaches 0.995."""
    val, test = (np.zeros(card.num_images[split]) for split in ("val", "test"))
    val[2], test[[1, 5]], test[6:14] = 0.996, 0.992, 0.97
    similarity = {"train/val": val.tolist(), "train/test": test.tolist(), "val/test": [0.0] * len(test)}
    pairs = {"num_twin_pairs": {**card.num_twin_pairs, "train/val": 1}, "twins": {**card.twins, "train/val": [[4, 2]]}}
    return DataCard(**{**card.model_dump(), "similarity": similarity, **pairs}).sealed()


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for model, skill in (("medspectralnet", 1.0), ("resnet18", 0.8)):
        for seed in (0, 1, 2):
            train(tmp_path, Run("lite-96", model, "breastmnist", seed), skill)
    write_card(tmp_path, with_similarity(make_card("breastmnist")))
    return tmp_path


def run(results: Path) -> Analysis:
    return analyse(gather(results), synthetic=False)


def test_at_the_cards_threshold_it_is_the_twin_free_test(results: Path) -> None:
    """The mean is that of the records' twin-free scores, and the random mean of the AUC is the official one's."""
    analysis = run(results)
    for metric in ("auc", "acc"):
        row = only(analysis.twins, model="resnet18", metric=metric, threshold=0.99)
        expected = only(analysis.scores, model="resnet18", part="test_twin_free", metric=metric).mean
        assert row.mean == pytest.approx(expected, abs=1e-9)
        assert (row.num_images, sum(map(int, row.removed)), row.n_seeds) == (22, 2, 3)
        assert row.drop == pytest.approx(row.random - row.mean, abs=1e-9)
        assert row.random_low < row.random < row.random_high
    area = only(analysis.twins, model="resnet18", metric="auc", threshold=0.99)
    official = only(analysis.scores, model="resnet18", part="test", metric="auc").mean
    assert area.random == pytest.approx(official, abs=1e-9)


def test_an_interval_needs_some_removed_images(results: Path) -> None:
    """Two images give no interval, ten do, those at the threshold among them; where none is removed nothing drops."""
    rows = select(run(results).twins, model="medspectralnet", metric="acc")
    assert [row.threshold for row in rows] == list(TWIN_THRESHOLDS)
    by = {row.threshold: row for row in rows}
    assert np.isnan([by[0.99].ci_low, by[0.99].p]).all()
    assert by[0.97].ci_low < by[0.97].drop < by[0.97].ci_high
    assert (by[0.97].num_images, by[0.97].interval) == (14, "images and seeds")
    assert 24 - by[0.97].num_images == FEWEST_REMOVED
    assert (by[0.999].drop, by[0.999].num_images) == (pytest.approx(0.0, abs=1e-12), 24)


def test_the_page_names_the_twins_of_val(results: Path) -> None:
    """How many val images have a twin in train, beside the table of thresholds and on the data set's part too."""
    evidence, analysis = gather(results), run(results)
    files = twins.render(evidence, analysis, synthetic=False)
    assert set(files) == {"twins.md", "twins.html"}
    text = files["twins.md"].decode()
    assert "1 of the 12 val images that choose the epoch and the threshold have a twin in train" in text
    assert "| 0.99 " in text
    assert "fewer than 10 images" in text
    assert any("1 of 12 val images" in line for line in data_problems(evidence.cards["breastmnist"]))


def test_the_figure_has_a_panel_for_each_model(results: Path) -> None:
    """Drawn from its table alone: a point a threshold, models in the order of the tables."""
    numbers = twin_numbers(run(results).twins)
    assert numbers["model"].drop_duplicates().tolist() == ["medspectralnet", "resnet18"]
    assert len(numbers) == 2 * len(TWIN_THRESHOLDS)
    with style():
        figure = draw_twins(numbers, "a title")
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in shown] == ["MedSpectralNet, n = 3", "ResNet-18, n = 3"]
    assert len(shown[0].lines[-1].get_xdata()) == len(TWIN_THRESHOLDS)


def test_without_similarities_there_is_no_curve(results: Path) -> None:
    """A card from before they were measured serves as before, and hides nothing once they are."""
    write_card(results, make_card("breastmnist"))
    analysis = run(results)
    assert analysis.twins == ()
    assert twins.render(gather(results), analysis, synthetic=False) == {}
    write_card(results, with_similarity(make_card("breastmnist")))
    assert len(run(results).twins) == 2 * 2 * len(TWIN_THRESHOLDS)  # models, measures


def test_breasts_twins_are_counted_from_the_card() -> None:
    """42 of the 156 test images at 0.99, 37 of them of the larger class, and 22 of the 78 that choose the epoch."""
    card = read_card(REPOSITORY / "results", "breastmnist")
    assert card is not None
    assert card.similarity is not None
    assert card.test_similarity is not None
    assert int((card.test_similarity >= 0.99).sum()) == 42
    assert int((np.array(card.similarity["train/val"]) >= 0.99).sum()) == 22
    run = Run("lite-96", "resnet18", "breastmnist", 0)
    labels = read_predictions(predictions_path(run.path(REPOSITORY / "results"))).split("test").labels
    assert np.bincount(labels[card.test_similarity >= 0.99]).tolist() == [5, 37]
