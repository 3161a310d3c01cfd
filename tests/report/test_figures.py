"""Figures: same records, same bytes; what they show is what the records hold; nothing false enters one."""

from __future__ import annotations

import hashlib
import io
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from bench.errors import RecordError
from bench.records.card import labels_digest, write_card
from bench.records.names import Run, history_path, predictions_path
from bench.records.predictions import frame_bytes, read_predictions
from bench.records.run_record import write_run
from bench.records.scoring import split_scores
from bench.report.analysis.analyse import Analysis, analyse
from bench.report.analysis.pairs import Pair
from bench.report.evidence import MODELS, Evidence, gather
from bench.report.figures import choice
from bench.report.figures.curves import NUM_LINES, curve_numbers, draw_curves
from bench.report.figures.drawing import captions_of, draw_all
from bench.report.figures.forest import VERDICTS, forest_numbers, forest_plot
from bench.report.figures.scores import Cell, area_numbers, confusion_numbers, draw_confusion
from bench.report.figures.style import Caption, Plot, class_labels, file_name, files, num_columns, style
from bench.stats.metrics import confusion_matrix, per_class
from tests.making import make_card, make_predictions, make_record, make_run, read_frame
from tests.report.rows import make_pair, make_score, select

NAMES = ["malignant & <worse>", "normal, benign"]
OURS = [Run("smoke", "medspectralnet", "breastmnist", seed) for seed in (0, 1)]
OTHERS = [Run("smoke", "resnet18_28", "breastmnist", 0), Run("smoke", "floor/prior", "breastmnist", 0)]
MADE = [
    Run("smoke", "medspectralnet", "synthetic-breastmnist", 0),
    Run("smoke", "resnet18", "synthetic-breastmnist", 0),
]
RUN_FIGURES = ("fig04_curves", "fig05_confusion", "fig06_roc", "fig07_pr")


def put(results: Path, run: Run, num_classes: int = 2, **changes: Any) -> None:
    """A finished run with four epochs of history, the chosen one the third."""
    epochs = np.arange(4)
    history = pd.DataFrame(
        {"epoch": epochs, "lr": 0.1, "train_loss": 1 / (1 + epochs), "val_loss": 0.5, "val_auc": 0.7}
    )
    content = frame_bytes(history.assign(val_acc=0.6 + run.seed / 100))
    trained = not run.model.startswith("floor/")
    digest = hashlib.sha256(content).hexdigest() if trained else None
    params = {"num_params": 10_000_000 + len(run.model), "best_epoch": 2} if trained else {}
    record = make_run(results, run, num_classes, **{**params, "history_sha256": digest, **changes})
    write_run(results, record, make_predictions(run.dataset, run.seed, num_classes), content if trained else None)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real and synthetic runs; nobody changes them."""
    folder = tmp_path_factory.mktemp("figures") / "results"
    for run in (*OURS, *OTHERS, *MADE):
        put(folder, run)
    write_card(folder, make_card("breastmnist").model_copy(update={"class_names": NAMES}))
    return folder


@pytest.fixture(scope="module")
def drawn(results: Path) -> dict[str, bytes]:
    """The figures of the real runs, drawn once."""
    return rendered(results)


def statistics(evidence: Evidence, *, synthetic: bool = False) -> Analysis:
    """What figures read of an `Analysis`, by hand: means, plain intervals, differences."""
    groups: dict[tuple[str, str, str, str], list[tuple[int, float]]] = {}
    for record in evidence.finished(synthetic=synthetic):
        for metric, value in (record.test or {}).items():
            if value is not None:
                key = (record.protocol, record.model, record.dataset, metric)
                groups.setdefault(key, []).append((record.seed, value))
    scores = []
    for (protocol, model, dataset, metric), runs in groups.items():
        middle = float(np.mean([value for _, value in runs]))
        fields: dict[str, Any] = {"protocol": protocol, "dataset": dataset, "metric": metric}
        seeds = tuple(seed for seed, _ in runs)
        scores.append(make_score(model, middle, middle - 0.1, middle + 0.05, seeds=seeds, **fields))
    aucs = select(scores, metric="auc")
    pairs = []
    for ours in select(aucs, model="medspectralnet"):
        for other in select(aucs, protocol=ours.protocol, dataset=ours.dataset):
            gap = ours.mean - other.mean
            if other.model != "medspectralnet":
                pairs.append(make_pair(other.model, gap, gap - 0.1, gap + 0.2, 0.2, dataset=ours.dataset))
    return Analysis(scores=tuple(scores), pairs=tuple(pairs))


def plots_of(evidence: Evidence, analysis: Analysis, *, synthetic: bool) -> list[Plot]:
    return list(choice.plots(evidence, analysis, synthetic=synthetic, models=MODELS))


def rendered(results: Path, *, synthetic: bool = False) -> dict[str, bytes]:
    evidence = gather(results)
    return draw_all(
        plots_of(evidence, statistics(evidence, synthetic=synthetic), synthetic=synthetic), synthetic=synthetic
    )


def planned(results: Path, *models: str) -> dict[str, Plot]:
    """The figures that would be drawn, by name: drawing takes its time."""
    evidence = gather(results)
    return {plot.name: plot for plot in choice.plots(evidence, statistics(evidence), synthetic=False, models=models)}


def numbers_of(found: dict[str, bytes], name: str) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(found[f"figures/data/{name}.csv"]), comment="#")


def test_the_same_records_give_the_same_bytes(results: Path, drawn: dict[str, bytes]) -> None:
    """Whatever the user's matplotlib settings; they are as before afterwards, and no date is in a file."""
    with matplotlib.rc_context({"font.size": 20, "svg.fonttype": "path", "axes.facecolor": "red"}):
        before = dict(matplotlib.rcParams)
        assert rendered(results) == drawn
        assert dict(matplotlib.rcParams) == before
    for path, content in drawn.items():
        assert b"medbench report | medspectral-bench" in content, path
        assert not re.search(rb"20\d\d-\d\d-\d\d|CreationDate", content), path


def test_a_last_bit_changes_no_byte() -> None:
    """Another processor's last bit moves no printed coordinate, so it renames nothing either; references still hit."""

    def svg(left: float) -> bytes:
        def draw(numbers: pd.DataFrame) -> Figure:
            figure = Figure(figsize=(2, 2))
            axes = figure.add_axes((left, 0.125, 0.75, 0.75))
            axes.plot(numbers["x"], numbers["x"], marker="o")
            return figure

        frame = pd.DataFrame({"x": [0.0, 0.5, 2.0]})
        plot = Plot("a", Caption("a", "b"), [], lambda: frame, draw)
        with style():
            return files(plot, synthetic=False)["figures/a.svg"]

    found = svg(0.125)
    assert svg(math.nextafter(0.125, 1)) == found
    assert svg(0.25) != found
    used = set(re.findall(rb'(?:href="|url\()#([^")]+)', found))
    assert {name[:1] for name in used} == {b"p", b"m"}  # the clip box and the marker
    assert used <= set(re.findall(rb'id="([^"]+)"', found))


def test_each_figure_is_three_files_with_the_head_in_line_one(drawn: dict[str, bytes]) -> None:
    """SVG and CSV say in line one what made them, so that a stray one is known."""
    suffix = "__medspectralnet__breastmnist__smoke"
    names = [*(kind + suffix for kind in RUN_FIGURES), "pareto_params__breastmnist__smoke", "forest__smoke"]
    paths = [(f"figures/{name}.svg", f"figures/{name}.pdf", f"figures/data/{name}.csv") for name in names]
    assert list(drawn) == [path for three in paths for path in three]
    for path, content in drawn.items():
        if not path.endswith(".pdf"):
            assert b"medbench report | " in content.split(b"\n", 1)[0][:400], path


def test_class_names_stand_in_the_figures(drawn: dict[str, bytes]) -> None:
    """Those of the data set's card, escaped, and readable as text; never numbers."""
    for kind in RUN_FIGURES[1:]:
        text = drawn[f"figures/{kind}__medspectralnet__breastmnist__smoke.svg"].decode()
        assert "malignant &amp; &lt;worse&gt;" in text
        assert "normal, benign" in text
        assert ">class 0" not in text


def test_synthetic_never_meets_real(results: Path, drawn: dict[str, bytes]) -> None:
    """Figures of synthetic data have their prefix, a stamp in picture and numbers, and no real twin knows them."""
    made = rendered(results, synthetic=True)
    assert all(Path(path).name.startswith("SYNTHETIC_") for path in made)
    assert len(made) == 3 * 6
    for path, content in made.items():
        if path.endswith(".svg"):
            assert content.count(b">SYNTHETIC</text>") == 2, path
        if path.endswith(".csv"):
            assert content.startswith(b"# SYNTHETIC | medbench report"), path
    for path, content in drawn.items():
        assert b"synthetic" not in content.lower(), path
    assert b"synthetic-breastmnist" in made["figures/SYNTHETIC_forest__smoke.svg"]


def test_captions_fit_the_figures(results: Path, drawn: dict[str, bytes]) -> None:
    """One a figure, with licence, counts, seeds, records and what the paper does otherwise."""
    evidence = gather(results)
    found = captions_of(plots_of(evidence, statistics(evidence), synthetic=False), synthetic=False)
    assert list(found) == [Path(path).stem for path in drawn if path.endswith(".svg")]
    curves = found["fig04_curves__medspectralnet__breastmnist__smoke"].text
    for words in ("CC BY 4.0", "12 images", "2 seeds (0, 1)", OURS[1].run_id, "Fig 4 (OrganCMNIST) draws test curves"):
        assert words in curves
    assert "scored once" in curves
    assert "is not drawn: only histories since 2026-11-28 hold it (plain_train_acc," in curves
    assert "24 images" in found["fig05_confusion__medspectralnet__breastmnist__smoke"].text
    made = captions_of(plots_of(evidence, statistics(evidence, synthetic=True), synthetic=True), synthetic=True)
    assert len(made) == 6
    assert all(name.startswith("SYNTHETIC_") for name in made)


def test_absent_figures_of_the_paper_are_named(tmp_path: Path) -> None:
    """A data set of the paper's figures without a run is named; with one it is drawn under the paper's numbers."""
    put(tmp_path, MADE[0])
    assert [note[:12] for note in choice.absent(gather(tmp_path))] == ["Figs 4 to 7 ", "Figs 8 to 11"]
    put(tmp_path, Run("smoke", "medspectralnet", "organsmnist", 0), num_classes=11)
    assert [note[:12] for note in choice.absent(gather(tmp_path))] == ["Figs 4 to 7 "]
    kinds = ("fig08_curves", "fig09_confusion", "fig10_roc", "fig11_pr")
    assert list(planned(tmp_path, "medspectralnet")) == [f"{k}__medspectralnet__organsmnist__smoke" for k in kinds]


def test_models_choose_whose_figures_are_drawn(results: Path) -> None:
    """`--figures-for`; a model that is fitted has no curves over epochs."""
    names = list(planned(results, "floor/prior", "resnet18_28"))
    assert "fig04_curves__resnet18_28__breastmnist__smoke" in names
    assert "fig05_confusion__floor--prior__breastmnist__smoke" in names
    assert not [name for name in names if "medspectralnet" in name or name.startswith("fig04_curves__floor")]


def test_a_folder_without_records_gives_no_figure(tmp_path: Path) -> None:
    """And no error."""
    evidence = Evidence(tmp_path)
    assert draw_all(plots_of(evidence, Analysis(), synthetic=False), synthetic=False) == {}
    assert captions_of(plots_of(evidence, Analysis(), synthetic=True), synthetic=True) == {}


def test_curves_are_the_histories_with_the_chosen_epoch(drawn: dict[str, bytes]) -> None:
    """One row an epoch and seed; the mark is the record's best epoch."""
    numbers = numbers_of(drawn, "fig04_curves__medspectralnet__breastmnist__smoke")
    assert numbers["seed"].tolist() == [0] * 4 + [1] * 4
    assert numbers.loc[numbers["chosen"], "epoch"].tolist() == [2, 2]
    assert numbers["train_loss"].tolist() == [1, 1 / 2, 1 / 3, 1 / 4] * 2
    assert numbers["val_acc"].tolist() == [0.6] * 4 + [0.61] * 4


def test_many_seeds_stay_readable(tmp_path: Path) -> None:
    """Twenty lines are drawn, and the caption says of how many."""
    for seed in range(NUM_LINES + 2):
        put(tmp_path, Run("smoke", "medspectralnet", "breastmnist", seed))
    plot = planned(tmp_path, "medspectralnet")["fig04_curves__medspectralnet__breastmnist__smoke"]
    assert f"The first {NUM_LINES} of {NUM_LINES + 2} seeds are drawn" in plot.caption.text
    assert f"... ({NUM_LINES} records) ..." in plot.caption.text
    assert sorted(set(plot.numbers()["seed"])) == list(range(NUM_LINES))


def test_a_history_without_losses_is_drawn_as_far_as_it_goes(tmp_path: Path) -> None:
    """Old or foreign records are no reason to fail; a file that is not the record's own is one."""
    content = frame_bytes(pd.DataFrame({"epoch": [0], "val_auc": [0.5]}))
    record = make_run(tmp_path, OURS[0], history_sha256=hashlib.sha256(content).hexdigest())
    path = history_path(OURS[0].path(tmp_path))
    path.write_bytes(content)
    numbers = curve_numbers([record], tmp_path)
    assert numbers["train_loss"].isna().all()
    with style():
        assert len(draw_curves(numbers, "made up").axes) == 2
    path.write_bytes(frame_bytes(pd.DataFrame({"epoch": [0], "val_auc": [0.9]})))
    with pytest.raises(RecordError, match="is not the file that"):
        curve_numbers([record], tmp_path)


def test_a_swapped_history_is_noted_and_not_drawn(tmp_path: Path) -> None:
    """The other seed is drawn, and the report says why this one is not."""
    for run in OURS:
        put(tmp_path, run)
    history_path(OURS[0].path(tmp_path)).write_bytes(b"PAR1")
    evidence = gather(tmp_path)
    plots = {
        plot.name: plot
        for plot in choice.plots(evidence, statistics(evidence), synthetic=False, models=["medspectralnet"])
    }
    numbers = plots["fig04_curves__medspectralnet__breastmnist__smoke"].numbers()
    assert sorted(set(numbers["seed"])) == [OURS[1].seed]
    (note,) = (note for note in evidence.notes if note.startswith("not drawn"))
    assert "seed0.history.parquet is not the file" in note


def scores_of(results: Path, run: Run) -> tuple[Any, Any]:
    return split_scores(read_predictions(predictions_path(run.path(results))), "test")


def test_confusion_is_the_mean_of_the_seeds(results: Path, drawn: dict[str, bytes]) -> None:
    """Counts by the metrics' rule, percent of the row, names beside the numbers."""
    numbers = numbers_of(drawn, "fig05_confusion__medspectralnet__breastmnist__smoke")
    tables = [confusion_matrix(*scores_of(results, run), "binary-class") for run in OURS]
    expected = np.mean(tables, axis=0)
    assert numbers["mean_count"].tolist() == expected.ravel().tolist()
    assert numbers["row_percent"].tolist() == pytest.approx((100 * expected / 12).ravel().tolist())
    assert numbers["label_name"].tolist() == [NAMES[0], NAMES[0], NAMES[1], NAMES[1]]


def test_a_confusion_matrix_by_hand() -> None:
    """Rows are labels; half is not above half, so a tie is no 1 in a binary task, and the lower label in others."""
    labels, probs = np.array([0, 1, 1, 1]), np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8], [0.3, 0.7]])
    assert confusion_matrix(labels, probs, "binary-class").tolist() == [[1, 0], [1, 2]]
    three = np.array([[0.4, 0.4, 0.2], [0.1, 0.8, 0.1]])
    assert confusion_matrix(np.array([1, 2]), three, "multi-class").tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize(("measure", "figure"), [("auc", "fig06_roc"), ("ap", "fig07_pr")])
def test_areas_are_those_of_the_metrics_and_of_the_analysis(
    results: Path, drawn: dict[str, bytes], measure: str, figure: str
) -> None:
    """In the numbers, in the legend, and under the drawn line: the mean over the seeds of `per_class`."""
    numbers = numbers_of(drawn, f"{figure}__medspectralnet__breastmnist__smoke")
    expected = np.mean([per_class(*scores_of(results, run), "binary-class")[measure] for run in OURS], axis=0)
    classes = analyse(gather(results), synthetic=False).classes
    chosen = select(classes, model="medspectralnet", part="test", dataset="breastmnist")
    assert [getattr(row, measure) for row in chosen] == pytest.approx(expected.tolist())
    text = drawn[f"figures/{figure}__medspectralnet__breastmnist__smoke.svg"].decode()
    for index, part in numbers.groupby("class_index"):
        value = expected[int(str(index))]
        assert part["area"].iloc[0] == pytest.approx(value, abs=1e-6)
        assert f"{value:.3f}</text>" in text
        x, y = part.iloc[:, -2].to_numpy(), part.iloc[:, -1].to_numpy()
        assert np.trapezoid(y, x) == pytest.approx(value, abs=2e-4)  # points are rounded to 4 digits


def test_a_class_without_test_images_has_no_curve_and_an_empty_row(tmp_path: Path) -> None:
    """Nothing is divided by nothing."""
    card = make_card("dermamnist", 3)
    run = Run("smoke", "medspectralnet", "dermamnist", 0)
    make_run(tmp_path, run, 3)
    table = read_frame(predictions_path(run.path(tmp_path)).read_bytes())
    table["label"] = table["label"].replace({2: 1})
    content = frame_bytes(table)
    predictions_path(run.path(tmp_path)).write_bytes(content)
    labels = {name: part["label"].to_numpy(np.int64) for name, part in table.groupby("split")}
    digests = {**card.labels_digest, **{name: labels_digest(values) for name, values in labels.items()}}
    record = make_record(run, predictions_sha256=hashlib.sha256(content).hexdigest())
    cell = Cell([record], card.model_copy(update={"labels_digest": digests}), tmp_path)
    assert set(area_numbers("roc", cell)["class_index"]) == {0, 1}
    numbers = confusion_numbers(cell)
    assert numbers.loc[numbers["label"] == 2, "row_percent"].isna().all()
    with style():
        draw_confusion(numbers, "made up", class_labels(card, 20))


def forest_pairs(suffix: str = "") -> list[Pair]:
    """Six differences on two data sets, one of each verdict and two more."""
    rows = [
        ("organsmnist", "swin_t", -0.2, 0.01, "lower"),
        ("organsmnist", "floor/prior", 0.2, 0.01, "higher"),
        ("organsmnist", "resnet18", 0.01, 0.5, "not separated"),
        ("bloodmnist", "swin_t", 0.0, 0.5, "comparable"),
        ("bloodmnist", "floor/prior", 0.1, 0.01, "higher"),
        ("bloodmnist", "resnet18", 0.0, 0.5, "not separated"),
    ]
    pairs = []
    for dataset, baseline, gap, p, verdict in rows:
        half = 0.01 if verdict == "comparable" else 0.05
        pairs.append(make_pair(baseline + suffix, gap, gap - half, gap + half, p, dataset=dataset))
        assert pairs[-1].verdict == verdict
    return pairs


def test_the_forest_plot_has_every_difference_in_order() -> None:
    """Data sets as in the paper, floors first; each verdict has its mark and a word in the legend."""
    numbers = forest_numbers(forest_pairs())
    assert numbers["dataset"].tolist() == ["bloodmnist"] * 3 + ["organsmnist"] * 3
    assert numbers["baseline"].tolist() == ["floor/prior", "resnet18", "swin_t"] * 2
    assert numbers["difference"].tolist() == [0.1, 0.0, 0.0, 0.2, 0.01, -0.2]
    with style():
        found = files(forest_plot("forest", forest_pairs(), [make_record()], "Data."), synthetic=False)
    text = found["figures/forest.svg"].decode()
    for word in (
        *VERDICTS,
        "equivalence zone",
        "BloodMNIST",
        "Majority class, n = 1",
        "AUC, MedSpectralNet minus baseline",
    ):
        assert word in text


def test_the_forest_s_caption_says_what_its_sets_do_to_a_verdict() -> None:
    """Slices of few scans make an interval a lower bound: stated where such a set is drawn, and nowhere else."""
    pairs = forest_pairs()
    both = forest_plot("forest", pairs, [make_record()], "Data.").caption.text
    assert "6 differences on 2 data sets" in both
    assert "there an interval is a lower bound" in both
    blood = forest_plot("forest", select(pairs, dataset="bloodmnist"), [make_record()], "Data.").caption.text
    assert "3 differences on 1 data set." in blood
    assert "lower bound" not in blood


def test_the_forest_stands_on_the_runs_that_it_draws(results: Path) -> None:
    """Runs of other models and sets move neither its first line nor its count."""
    evidence = gather(results)
    pairs = analyse(evidence, synthetic=False).pairs
    primary = select(pairs, part="test", metric="auc", baseline="floor/prior")
    families = [replace(pair, family="primary" if pair in primary else "exploratory") for pair in pairs]
    (plot,) = choice._forest_plots(evidence, families, evidence.finished(synthetic=False))
    drawn = {*(pair.model for pair in primary), "floor/prior"}
    assert {record.model for record in plot.records} == drawn  # type: ignore[attr-defined]


def test_equal_pictures_have_ids_of_their_own() -> None:
    """An id stands once in a file, also where two images are the same."""

    def draw(numbers: pd.DataFrame) -> Figure:
        figure = Figure(figsize=(2, 2))
        for axes in figure.subplots(1, 2):
            axes.imshow(np.eye(3))
        return figure

    with style():
        made = files(Plot("a", Caption("a", "b"), [], lambda: pd.DataFrame({"x": [0]}), draw), synthetic=False)
    ids = re.findall(rb'id="([^"]+)"', made["figures/a.svg"])
    assert sum(name.startswith(b"image") for name in ids) == 2
    assert len(ids) == len(set(ids))


def test_a_long_forest_plot_has_two_columns() -> None:
    """More rows than a page takes."""
    many = [pair for number in range(8) for pair in forest_pairs(str(number))]
    plot = forest_plot("forest", many, [make_record()], "Data.")
    with style():
        figure = plot.draw(plot.numbers())
    assert [len(axes.get_yticks()) for axes in figure.axes] == [25, 25]


def test_names_and_columns_of_legends() -> None:
    """The prefix is in one place; long class names take a legend of one column."""
    assert file_name("forest", synthetic=True) == "SYNTHETIC_forest"
    assert file_name("forest", synthetic=False) == "forest"
    assert num_columns(["liver 0.998", "kidney-left 0.990"]) == 2
    assert num_columns(["liver 0.998", "benign keratosis-like lesions 0.990"]) == 1
