"""What corruption costs: drops with paired intervals, the plan's two comparisons, the table, the figures, the page."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.cli import app
from bench.records.names import Run
from bench.records.run_record import Record
from bench.report import findings
from bench.report.analysis.analyse import Analysis, analyse
from bench.report.evidence import gather
from bench.report.figures.style import style
from bench.report.robustness import figures
from bench.report.robustness import table as robustness
from bench.report.robustness.drops import METRICS
from bench.tracks.schema import CORRUPTIONS
from tests.making import make_skilled as train
from tests.making import make_track, make_track_card
from tests.report.rows import only, select

ROOT = Path(__file__).parents[2]
MODELS = {"medspectralnet": 1.0, "resnet18": 0.8, "resnet50": 1.2, "floor/knn1": 0.5}


def turned(only_for: str):
    """Corrupted logits that are the clean ones, but of one corruption: those say the opposite."""
    return lambda logits, cell: -logits if cell[0] == only_for else logits


def noisy(strength: float, seed: int):
    """Corrupted logits with noise by formula, more with every severity."""

    def change(logits: np.ndarray, cell: tuple[str, int]) -> np.ndarray:
        generator = np.random.default_rng(seed + 100 * CORRUPTIONS.index(cell[0]) + cell[1])
        return logits + strength * cell[1] * generator.normal(size=logits.shape)

    return change


def runs(results: Path) -> list[Record]:
    """Three seeds of each network, one of a floor."""
    made = []
    for model, skill in MODELS.items():
        for seed in (0, 1, 2) if not model.startswith("floor") else (0,):
            made.append(train(results, Run("lite-96", model, "breastmnist", seed), skill))
    make_track_card(results, "breastmnist")
    return made


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for record in runs(tmp_path):
        strength = 0.4 if record.model == "medspectralnet" else 0.1
        make_track(tmp_path, record, noisy(strength, record.seed))
    return tmp_path


def run(results: Path) -> Analysis:
    return analyse(gather(results), synthetic=False)


def test_a_corruption_that_turns_the_logits_turns_the_area(tmp_path: Path) -> None:
    """By hand: AUC A becomes 1 - A under it, so its drop is 2 A - 1, that over all corruptions a fourteenth of it; what
    leaves the logits alone costs nothing, with an interval of no width."""
    for record in runs(tmp_path):
        make_track(tmp_path, record, turned("jpeg"))
    drops = run(tmp_path).drops
    for model in MODELS:
        area = only(drops, model=model, metric="auc", corruption="jpeg").clean
        assert only(drops, model=model, metric="auc", corruption="jpeg").drop == pytest.approx(2 * area - 1, abs=1e-9)
        assert only(drops, model=model, metric="auc", corruption="all").drop == pytest.approx(
            (2 * area - 1) / 14, abs=1e-9
        )
        blur = only(drops, model=model, metric="auc", corruption="motion_blur")
        assert (blur.drop, blur.ci_low, blur.ci_high) == pytest.approx((0.0, 0.0, 0.0), abs=1e-12)


def test_drops_are_of_the_records_own_scores(results: Path) -> None:
    """Clean and corrupted means over seeds; every measure for every corruption, intervals around the drop."""
    evidence, analysis = gather(results), run(results)
    own = [track for track in evidence.tracks if track.model == "resnet18"]
    row = only(analysis.drops, model="resnet18", metric="balanced_acc", corruption="all")
    assert row.clean == pytest.approx(np.mean([track.clean["balanced_acc"] for track in own]))
    cells = [[s["balanced_acc"] for name in CORRUPTIONS for s in track.scores[name]] for track in own]
    assert row.corrupted == pytest.approx(np.mean(cells))
    assert row.ci_low < row.drop < row.ci_high
    assert (row.n_seeds, row.num_images, row.interval) == (3, 24, "images and seeds")
    assert only(analysis.drops, model="floor/knn1", metric="auc", corruption="all").interval == "images"
    assert len(select(analysis.drops, model="resnet18")) == len(METRICS) * 15
    loss = only(analysis.drops, model="resnet18", metric="nll_scaled", corruption="all")
    assert np.isnan([loss.ci_low, loss.ci_high]).all()
    assert loss.corrupted > loss.clean


def test_a_paired_interval_is_narrower_than_the_scores(results: Path) -> None:
    """The images are the same on both sides: the drop of 24 images is known better than either score."""
    analysis = run(results)
    drop = only(analysis.drops, model="floor/knn1", metric="auc", corruption="all")
    score = only(analysis.scores, model="floor/knn1", part="test", metric="auc")
    assert drop.ci_high - drop.ci_low < (score.ci_high - score.ci_low) / 2


def test_the_plan_names_the_trunk_and_the_best_baseline_by_clean_scores(results: Path) -> None:
    """resnet50 is best on clean images: no drop and no fitted model decides. The noisier loses more."""
    pairs = run(results).drop_pairs
    areas = {pair.baseline: pair for pair in pairs if pair.metric == "auc"}
    assert {name: pair.role for name, pair in areas.items()} == {
        "resnet18": "trunk",
        "resnet50": "best baseline",
        "floor/knn1": "",
    }
    drops = run(results).drops
    ours, theirs = (only(drops, model=m, metric="auc", corruption="all").drop for m in ("medspectralnet", "resnet18"))
    assert areas["resnet18"].difference == pytest.approx(ours - theirs, abs=1e-9)
    assert areas["resnet18"].difference > 0
    assert areas["resnet18"].ci_low < areas["resnet18"].difference < areas["resnet18"].ci_high


def test_other_pixels_are_never_compared(results: Path) -> None:
    """A record of other pixels than the card's is left out, and named."""
    make_track_card(results, "breastmnist")
    from bench.records.sealed import read_sealed
    from bench.records.tracks.record import TrackRecord, logits_path, track_path, write_track

    run_ = Run("lite-96", "resnet18", "breastmnist", 1)
    path = track_path(results, "c28", run_)
    changed = read_sealed(path, TrackRecord).model_copy(update={"pixels_sha256": "2" * 64}).sealed()
    write_track(results, changed, logits_path(path).read_bytes())
    evidence = gather(results)
    analysis = analyse(evidence, synthetic=False)
    assert only(analysis.drops, model="resnet18", metric="auc", corruption="all").n_seeds == 2
    assert any("scored on other pixels" in note and run_.run_id in note for note in evidence.notes)


def test_the_page_shows_scores_calibration_and_comparisons(results: Path) -> None:
    """Markdown, LaTeX and CSV; what the study plans and nobody scored is named with the command."""
    evidence, analysis = gather(results), run(results)
    files = robustness.render(evidence, analysis, synthetic=False)
    assert set(files) == {f"robustness.{end}" for end in ("md", "tex", "csv", "html")}
    text = files["robustness.md"].decode()
    assert "| MedSpectralNet" in text
    assert "rBE" in text
    assert "trunk" in text
    assert "best baseline" in text
    assert (
        "not scored on c28: MedSpectralNet-8.5M, EfficientFormerV2-S0, MobileNetV4-S, EdgeNeXt-S, seeds 0, 1, 2" in text
    )
    assert "medbench track c28 --study robustness" in text
    frame = pd.read_csv(io.BytesIO(files["robustness.csv"]), comment="#")
    assert set(frame["corruption"]) == {"all"}


def test_the_last_step_beside_changes_no_drop(tmp_path: Path) -> None:
    """A table that also holds the last step's predictions is whole, and the drops are those of the chosen epoch."""
    card = make_track_card(tmp_path, "breastmnist")
    for seed in (0, 1):
        record = train(tmp_path, Run("lite-96", "resnet18", "breastmnist", seed), 1.0, last=True)
        make_track(tmp_path, record, turned("jpeg"))
    row = only(run(tmp_path).drops, model="resnet18", metric="auc", corruption="jpeg")
    areas = [(record.test or {})["auc"] for record in gather(tmp_path).records]
    assert row.clean == pytest.approx(np.mean(areas), rel=1e-9)
    assert row.drop == pytest.approx(2 * row.clean - 1, abs=1e-9)
    assert row.num_images == card.num_images


def test_without_a_track_there_is_no_page(tmp_path: Path) -> None:
    """Records alone make none."""
    for record in runs(tmp_path)[:2]:
        assert record.status == "done"
    assert robustness.render(gather(tmp_path), run(tmp_path), synthetic=False) == {}


def test_the_figures_are_drawn_from_their_tables(results: Path) -> None:
    """A map of drops, models in the tables' order, and a contact sheet of every corruption with its licence."""
    evidence, analysis = gather(results), run(results)
    made = {plot.name: plot for plot in figures.plots(evidence, analysis.drops, synthetic=False)}
    assert set(made) == {"robustness__breastmnist__lite-96__c28", "robustness-images__breastmnist__c28"}
    plot, sheet = made["robustness__breastmnist__lite-96__c28"], made["robustness-images__breastmnist__c28"]
    with style():
        drawn, images = plot.draw(plot.numbers()), sheet.draw(sheet.numbers())
    labels = [text.get_text() for text in drawn.axes[0].get_yticklabels()]
    assert labels == [
        "Nearest neighbour, n = 1",
        *(f"{m}, n = 3" for m in ("MedSpectralNet", "ResNet-18", "ResNet-50")),
    ]
    assert len(drawn.axes[0].texts) == 4 * 15
    assert [axes.get_ylabel().replace("\n", "_") for axes in images.axes[::2]] == list(CORRUPTIONS[:7])
    first = images.axes[0].images[0].get_array()
    assert first is not None
    assert first[5, 0].tolist() == [0.0, 0.0, 0.0]  # the clean image is made of 0, severity 1 of Gaussian noise of 1
    assert first[5, 29].tolist() == pytest.approx([1 / 255] * 3)
    assert "licence CC BY 4.0" in sheet.caption.text


def test_findings_say_whichever_way_it_falls(results: Path) -> None:
    """More, less, or not told apart: by the pair's own p; without records nothing is said."""
    frames = {name: frame for name, frame in run(results).tables().items() if name.startswith("robustness")}
    said = findings.Facts(frames).lost_beside("lite-96", "auc")
    assert "Compared with its trunk, ResNet-18: " in said
    assert "Compared with its best baseline, ResNet-50: " in said
    cases = ((0.01, 0.02, "it loses more"), (0.01, -0.02, "it loses less"), (0.2, 0.02, "not separated"))
    for p, difference, words in cases:
        pairs = frames["robustness_pairs"].assign(p=p, difference=difference)
        said = findings.Facts({**frames, "robustness_pairs": pairs}).lost_beside("lite-96", "auc")
        assert said.count(f", {words}.") == 2
    missing = "MedSpectralNet-8.5M, EfficientFormerV2-S0, MobileNetV4-S, EdgeNeXt-S"
    assert (
        findings.Facts(frames).unscored("lite-96")
        == f"{missing}, Majority class, Logistic regression, Gradient boosting"
    )
    empty = {name: frame.iloc[:0] for name, frame in frames.items()}
    assert findings.Facts(empty).lost_beside("lite-96", "auc") == ""
    assert findings.Facts(empty).corrupted("lite-96", "resnet18") == {}


def test_without_two_seeds_of_a_network_nothing_is_told_apart(tmp_path: Path) -> None:
    """The interval is then over images alone, of these weights: a small p says nothing of the models."""
    for record in runs(tmp_path):
        if record.seed == 0:
            make_track(tmp_path, record, noisy(0.4 if record.model == "medspectralnet" else 0.1, 0))
    frames = {name: frame for name, frame in run(tmp_path).tables().items() if name.startswith("robustness")}
    assert set(frames["robustness_pairs"]["interval"]) == {"images"}
    said = findings.Facts(frames).lost_beside("lite-96", "auc")
    assert said.count(", these weights alone, no network has two seeds.") == 2


def test_only_what_the_study_plans_can_be_the_best_baseline(results: Path) -> None:
    """The plan's words: among the networks that study `robustness` plans, however good another one is."""
    for seed in (0, 1):
        record = train(results, Run("lite-96", "medvit_t", "breastmnist", seed), 3.0)
        make_track(results, record, noisy(0.1, seed))
    areas = {pair.baseline: pair for pair in run(results).drop_pairs if pair.metric == "auc"}
    assert (areas["medvit_t"].role, areas["resnet50"].role) == ("", "best baseline")


def test_one_seed_never_is_the_best_baseline(tmp_path: Path) -> None:
    """As in every table: one lucky seed would choose what MedSpectralNet is tested against."""
    for record in runs(tmp_path):
        if record.model != "resnet50" or record.seed == 0:
            make_track(tmp_path, record, noisy(0.1, record.seed))
    areas = {pair.baseline: pair for pair in run(tmp_path).drop_pairs if pair.metric == "auc"}
    assert (areas["resnet18"].role, areas["resnet50"].role) == ("trunk, best baseline", "")


def test_missing_seeds_of_a_scored_model_are_named(tmp_path: Path) -> None:
    """Planned for the track or not: a mean over fewer seeds says which are missing."""
    for record in [
        *runs(tmp_path),
        *(train(tmp_path, Run("lite-96", "medvit_t", "breastmnist", s), 1.0) for s in (0, 1)),
    ]:
        if (record.model, record.seed) not in (("medspectralnet", 2), ("medvit_t", 0)):
            make_track(tmp_path, record, noisy(0.1, record.seed))
    text = robustness.render(gather(tmp_path), run(tmp_path), synthetic=False)["robustness.md"].decode()
    assert "not scored on c28: MedSpectralNet, seed 2\n" in text
    assert ", MedViT-T, seed 0\n" in text
    assert "MobileNetV4-S, EdgeNeXt-S" in text


def test_plan_says_how_many_finished_runs_lack_the_studys_track(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`run` leaves what is done, so `29 done` alone would pass for the whole study."""
    lacking = train(results, Run("lite-96", "edgenext_s", "breastmnist", 0), 1.0, device="cpu: A", cpu_isa="avx2")
    monkeypatch.setattr(sys, "argv", ["medbench", "plan", "--study", "robustness", "--results", str(results)])
    with pytest.raises(SystemExit):
        app.main()
    note = "1 run done without c28; medbench track c28 --study robustness scores what is done"
    said = capsys.readouterr().err
    assert note in said
    assert "not pinned" not in said
    make_track(results, lacking, noisy(0.1, 0))
    with pytest.raises(SystemExit):
        app.main()
    assert "without c28" not in capsys.readouterr().err


def test_records_whose_bits_no_training_gives_need_a_new_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`track` would train for hours and then refuse them, so the page and `plan` name the command that does it."""
    first, *others = runs(tmp_path)
    make_track(tmp_path, first, noisy(0.1, 0))
    assert first.model == "medspectralnet"
    for record in others:
        if record.model == "resnet50":
            train(tmp_path, record.run, 1.2, device="cpu: A", cpu_isa=None)
    text = robustness.render(gather(tmp_path), run(tmp_path), synthetic=False)["robustness.md"].decode()
    assert "Not ResNet-50, whose records are not pinned" in text
    assert "medbench run --study robustness --overwrite isa" in text
    monkeypatch.setattr(sys, "argv", ["medbench", "plan", "--study", "robustness", "--results", str(tmp_path)])
    with pytest.raises(SystemExit):
        app.main()
    said = capsys.readouterr().err
    assert "9 runs done without c28" in said
    assert "3 of them are not pinned" in said
    assert "medbench run --study robustness --overwrite isa makes new ones" in said
