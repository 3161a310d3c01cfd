"""Tables 2 and 3: measured beside published, ties as ties, empty cells with their reason, fractions alone."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.records.names import Run
from bench.report import formats
from bench.report.analysis.analyse import Analysis, analyse
from bench.report.analysis.marks import drawn_marks
from bench.report.analysis.scores import marked
from bench.report.analysis_plan import PARTS
from bench.report.evidence import Evidence, gather
from bench.report.links import Links
from bench.report.published.names import model_name
from bench.report.published.numbers import reference_score
from bench.report.site import pages as site
from bench.report.tables import ablation, model_cards, table2, table3
from bench.report.tables.missing import fill_command, planned
from tests.making import make_run, make_skilled
from tests.report.rows import only, select

SEEDS = [Run("smoke", "resnet18_28", "breastmnist", seed) for seed in (0, 1)]
FLOOR = Run("smoke", "floor/prior", "breastmnist", 0)
LITE = Run("lite-96", "resnet18", "breastmnist", 0)
MADE = Run("smoke", "resnet18_28", "synthetic-breastmnist", 0)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once; its statistics are worked out once and cached beside it."""
    folder = tmp_path_factory.mktemp("tables") / "results"
    for run in (*SEEDS, FLOOR, LITE, MADE):
        make_run(folder, run)
    for synthetic in (False, True):
        read(folder, synthetic=synthetic)
    return folder


@pytest.fixture
def results(store: Path, tmp_path: Path) -> Path:
    """A copy of its own for each test."""
    shutil.copytree(store, tmp_path / "results")
    return tmp_path / "results"


def read(results: Path, *, synthetic: bool = False) -> tuple[Evidence, Analysis]:
    evidence = gather(results)
    return evidence, analyse(evidence, synthetic=synthetic)


def render3(results: Path, *, synthetic: bool = False) -> dict[str, bytes]:
    return table3.render(*read(results, synthetic=synthetic), synthetic=synthetic)


def text3(results: Path) -> str:
    return render3(results)["table3.md"].decode()


def frame_of(content: bytes) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(content), comment="#", keep_default_na=False, na_values=[""])


def scores(run: Run, results: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads(run.path(results).read_bytes())["test"]
    return found


def section(text: str, title: str) -> list[str]:
    """The rows of the table below a caption."""
    lines = text.splitlines()
    start = lines.index(title) + 2
    end = next((i for i in range(start, len(lines)) if not lines[i].startswith("|")), len(lines))
    return lines[start:end]


def test_table_3_by_hand(results: Path) -> None:
    """Mean and sample standard deviation over seeds, n stated, floors first."""
    text = text3(results)
    aucs = [scores(run, results)["auc"] for run in SEEDS]
    expected = f"{sum(aucs) / 2:.3f} ± {abs(aucs[0] - aucs[1]) / 2**0.5:.3f}"
    rows = section(text, "BreastMNIST, official test, 24 images, smoke")
    assert [row.split("|")[1].strip() for row in rows[2:]] == ["Majority class", "ResNet-18 (28 px)"]
    cells = [cell.strip() for cell in rows[3].split("|")]
    assert cells[2] == "2"
    assert expected in cells[3]
    assert expected in "".join(section(text, "AUC, official test, smoke"))


def test_a_cell_links_to_its_records(results: Path) -> None:
    """One seed: the file. Several: the folder. Every link leads somewhere from beside the results folder."""
    text = text3(results)
    targets = set(re.findall(r"\]\((\.\./results/[^)]*)\)", text))
    assert "../results/records/smoke/floor--prior/breastmnist/seed0.json" in targets
    assert "../results/records/smoke/resnet18_28/breastmnist/" in targets
    assert all((results.parent / target.removeprefix("../")).exists() for target in targets)
    assert Links().below().to_records("p", "timm/resnet26", "d", (3,)) == (
        "../../results/records/p/timm--resnet26/d/seed3.json"
    )


def test_published_stands_beside_and_never_inside(results: Path) -> None:
    """ResNet-18's published accuracy has a column of its own, with the difference; measured columns hold records."""
    reference = reference_score("resnet18", "breastmnist", "acc", "lite-96")
    assert reference is not None
    acc = scores(LITE, results)["acc"]
    row = section(text3(results), "BreastMNIST, official test, 24 images, lite-96")[-1]
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert f"{acc:.3f}" in cells[6]
    assert cells[8] == f"{reference.value:.3f} (P2)"
    assert cells[9] == f"{acc - reference.value:+.3f}".replace("-", "−")
    frame = frame_of(render3(results)["table3.csv"])
    measured = frame[frame["run_ids"].notna()]
    assert measured["missing"].isna().all()
    values = {run.run_id: scores(run, results)["acc"] for run in (FLOOR, LITE)}
    one_seed = measured[(measured["metric"] == "acc") & (measured["part"] == "test") & (measured["n_seeds"] == 1)]
    assert dict(zip(one_seed["run_ids"], one_seed["mean"], strict=True)) == values
    assert measured["published_source"].notna().equals(measured["published"].notna())


def test_published_numbers_have_a_block_of_their_own(results: Path) -> None:
    """Models that nobody measured here stand there alone, with numbered sources, and in no table of measured ones."""
    text = text3(results)
    measured, published = text.split("## Published numbers")
    for name in ("auto-sklearn", "Google AutoML Vision", "MedViTV2"):
        assert name not in measured
        assert name in published
    rows = section(published, "Published ACC, fractions; nothing here was measured by this suite")
    by_name = {row.split("|")[2].strip(): [cell.strip() for cell in row.split("|")] for row in rows[2:]}
    assert by_name["ResNet-18 (224 px)"][9] == "ResNet-18"
    assert by_name["auto-sklearn (28 px)"][9] == "–"
    numbers = {number for row in rows[2:] for number in re.findall(r"\((\d+)\)", row.split("|")[-2])}
    assert numbers <= set(re.findall(r"^- \((\d+)\) ", published, flags=re.MULTILINE))


def test_fractions_stay_fractions(results: Path) -> None:
    """No percentage meets a fraction: every score, interval and published value lies in [0, 1], no cell has a %."""
    files = render3(results)
    frame = frame_of(files["table3.csv"])
    for column in ("mean", "ci_low", "ci_high", "published"):
        assert frame[column].dropna().between(0, 1).all()
    assert frame["difference"].dropna().between(-1, 1).all()
    text = files["table3.md"].decode()
    assert "fractions between 0 and 1, never percentages" in text
    rows = [row for row in text.splitlines() if row.startswith("|")]
    assert not [row for row in rows if "%" in re.sub(r" 95 %", "", row)]
    cells = [re.sub(r"[*\[]|\]\(.*|\(P\d+\)", "", cell) for row in rows for cell in row.split("|")[1:-1]]
    scores_ = [cell for cell in cells if re.match(r"\s*\d+\.\d", cell)]
    numbers = [float(number) for cell in scores_ for number in re.findall(r"\d+\.\d+", cell)]
    assert len(numbers) > 200
    assert max(numbers) <= 1


def test_a_failed_run_is_a_missing_cell_with_its_reason(results: Path) -> None:
    """The reason stands below the table and in the CSV; the message cannot break the page."""
    failure = {"kind": "oom", "message": "out of `memory`\n| on <b>the</b> host_"}
    run = Run("smoke", "medspectralnet", "breastmnist", 0)
    make_run(results, run, status="failed", failure=failure, val=None, test=None, test_twin_free=None)
    make_run(results, Run("smoke", "medspectralnet", "dermamnist", 0), num_classes=7)
    files = render3(results)
    line = r"- BreastMNIST: failed: out of 'memory' \| on \<b\>the\</b\> host\_ (MedSpectralNet)"
    assert line in files["table3.md"].decode().splitlines()
    frame = frame_of(files["table3.csv"])
    empty = frame[(frame["protocol"] == "smoke") & (frame["model"] == "medspectralnet") & frame["missing"].notna()]
    empty = empty[empty["dataset"] == "breastmnist"]
    assert empty["mean"].isna().all()
    assert empty["missing"].tolist() == ["failed: " + failure["message"]]


def test_a_lost_seed_is_named_beside_its_cell(results: Path) -> None:
    """Never does a cell of the seeds that finished look like all that was planned."""
    for seed in (0, 1):
        make_run(results, Run("lite-96", "resnet18", "breastmnist", seed))
    failure = {"kind": "diverged", "message": "the loss is NaN"}
    lost = {"status": "failed", "failure": failure, "val": None, "test": None, "test_twin_free": None}
    make_run(results, Run("lite-96", "resnet18", "breastmnist", 2), **lost)
    make_run(results, Run("lite-96", "resnet18", "breastmnist", 3), model_fingerprint="1" * 64)
    evidence, analysis = read(results)
    line = "BreastMNIST: ResNet-18, seed 2: failed: the loss is NaN"
    stale = "BreastMNIST: ResNet-18, seed 3: stale: the model's code (or timm's version) changed"
    text = text3(results).splitlines()
    assert {f"- {line}", f"- {stale}"} <= set(text)
    card = model_cards.render(evidence, analysis, synthetic=False)["models/resnet18.md"].decode()
    assert f"- `lite-96`: {line}" in card.splitlines()
    pages = site.render(evidence, analysis, synthetic=False, figures={}, captions={})
    assert b"ResNet-18, seed 2: failed: the loss is NaN" in pages["datasets/breastmnist.html"]
    parts = ablation.render(evidence, analysis, synthetic=False)["ablation.md"].decode()
    assert f"- lite-96: {line}" in parts.splitlines()


def test_a_stale_cell_is_told_as_one_with_what_runs_it_again(results: Path) -> None:
    """It is not "not run": the plain command would leave it as it is."""
    make_run(results, Run("lite-96", "swin_t", "breastmnist", 0), model_fingerprint="1" * 64)
    text = text3(results)
    assert re.search(r"^- BreastMNIST: stale: the model's code .* \(Swin-T\)$", text, flags=re.MULTILINE)
    (command,) = [line for line in text.splitlines() if "--overwrite stale` runs them." in line]
    assert "--models swin_t --datasets breastmnist" in command


def test_planned_cells_are_missing_with_the_command_that_fills_them(results: Path) -> None:
    """Under lite-96 the studies want more models and sets than were run; what cannot run says why."""
    text = text3(results)
    rows = section(text, "AUC, official test, lite-96")
    wanted = {model for model, _, _ in planned("lite-96", synthetic=False)} - PARTS.keys()
    assert set(map(model_name, wanted)) <= {row.split("|")[1].strip() for row in rows}
    assert re.search(r"^- BloodMNIST, .*: not run \(.*MedMamba-T.*\)$", text, flags=re.MULTILINE)
    assert "`medbench run --protocol lite-96 --models floor/knn1," in text
    assert "--seeds 0-2` runs them." in text
    assert str(fill_command("p", ["a", "a", "b"], ["d"], [2, 0])) == (
        "medbench run --protocol p --models a,b --datasets d --seeds 0,2"
    )
    make_run(results, Run("paper-224-imagenet", "resnet18", "breastmnist", 0))
    assert re.search(r"pins no public ImageNet-1k weights for medvit\\?_t .*\(MedViT-T\)", text3(results))


def test_a_tie_is_never_drawn_as_a_win() -> None:
    """Bold is who is alone in the confidence set for the best; alone in a column it has won nothing."""
    assert drawn_marks(["best", "", ""]) == ["best", "", ""]
    assert drawn_marks(["may be best", "may be best", ""]) == ["tie", "tie", ""]
    assert drawn_marks(["may be best", "may be best"]) == ["tie", "tie"]
    assert drawn_marks(["may be best"]) == [""]
    assert drawn_marks([]) == []


@given(st.integers(0, 6), st.integers(0, 6))
def test_at_most_one_wins_and_never_among_ties(held: int, others: int) -> None:
    """A win and a tie never meet in a column, and unmarked models stay unmarked."""
    marks = ["best"] if held == 1 and others else ["may be best"] * held
    marks += [""] * others
    drawn = drawn_marks(marks)
    assert drawn.count("best") <= 1
    assert not {"best", "tie"} <= set(drawn)
    assert all(not sign for mark, sign in zip(marks, drawn, strict=True) if not mark)


def test_ties_reach_the_page_as_ties(results: Path) -> None:
    """Two models whose accuracies no test separates share the sign, and none of them is bold."""
    make_run(results, Run("lite-96", "swin_t", "breastmnist", 0))
    evidence, analysis = read(results)
    pairs = [replace(pair, exact=replace(pair.exact, p=0.5)) for pair in analysis.pairs if pair.protocol == "lite-96"]
    lite = {(s.model, s.part, s.metric): s for s in analysis.scores if s.protocol == "lite-96"}
    analysis = replace(analysis, scores=tuple(marked(lite, pairs)))
    text = table3.render(evidence, analysis, synthetic=False)["table3.md"].decode()
    rows = [row for row in section(text, "ACC, official test, lite-96") if "results/records" in row]
    assert len(rows) == 2
    assert all(" ≈](" in row and "**" not in row for row in rows)


def test_each_table_tells_what_its_test_set_could_show(results: Path) -> None:
    """The smallest difference of Analysis.resolution stands above it."""
    evidence, analysis = read(results)
    row = only(analysis.resolution, protocol="smoke", part="test", metric="acc")
    line = f"power of 0.8: BreastMNIST {row.smallest_difference:.3f} (24 images)."
    lines = table3.render(evidence, analysis, synthetic=False)["table3.md"].decode().splitlines()
    above = lines[lines.index("ACC, official test, smoke") - 2]
    assert above == f"Smallest ACC difference found with a {line}"


def test_twin_free_is_told_apart(results: Path) -> None:
    """Its images are fewer and nothing published stands beside it."""
    rows = section(text3(results), "BreastMNIST, twin-free test, 22 images, smoke")
    assert "published" not in rows[0]
    assert scores(FLOOR, results) != json.loads(FLOOR.path(results).read_bytes())["test_twin_free"]
    frame = frame_of(render3(results)["table3.csv"])
    assert frame[frame["part"] == "test_twin_free"]["published"].isna().all()


def test_what_was_made_here_is_stamped_on_every_table(results: Path) -> None:
    """Files, title and each caption say SYNTHETIC; no published number and no real record is among them."""
    files = render3(results, synthetic=True)
    assert set(files) == {"SYNTHETIC_table3.md", "SYNTHETIC_table3.csv", "SYNTHETIC_table3.tex"}
    text = files["SYNTHETIC_table3.md"].decode()
    lines = text.splitlines()
    captions = [lines[i - 2] for i, line in enumerate(lines) if line.startswith("| model")]
    assert len(captions) > 3
    assert all("SYNTHETIC" in caption for caption in captions)
    assert "Published numbers" not in text
    frame = frame_of(files["SYNTHETIC_table3.csv"])
    assert frame["dataset"].str.startswith("synthetic-").all()
    assert frame["published"].isna().all()
    assert not any(name.startswith("SYNTHETIC") for name in render3(results))


def test_the_latex_rows_carry_their_runs(results: Path) -> None:
    """A comment below each measured row names the runs behind it."""
    tex = render3(results)["table3.tex"].decode()
    assert f"% runs: {SEEDS[0].run_id} {SEEDS[1].run_id}" in tex.splitlines()
    assert tex.startswith("% medbench report | ")


def test_no_records_is_no_table(tmp_path: Path) -> None:
    """An empty folder says so, and still names what is planned and what was published."""
    (tmp_path / "results").mkdir()
    files = render3(tmp_path / "results")
    assert "No records yet." in files["table3.md"].decode()
    assert "`lite-96`: no record" in files["table3.md"].decode()
    assert len(frame_of(files["table3.csv"])) == 0


def test_table_2_by_hand(results: Path) -> None:
    """Six settings, the gain of CutMix as a difference of means, the rest missing; the paper's columns are empty."""
    protocols = ("breast-ablation-adam-plain", "breast-ablation-adam-cutmix")
    runs = [Run(protocol, "medspectralnet", "breastmnist", 0) for protocol in protocols]
    for run, skill in zip(runs, (0.5, 2.0), strict=True):
        make_skilled(results, run, skill)
    files = table2.render(*read(results), synthetic=False)
    text = files["table2.md"].decode()
    rows = section(text, "MedSpectralNet, BreastMNIST, official test")
    assert [row.split("|")[1].strip() for row in rows[2:]] == list(table2.SETTINGS.values())
    plain, cutmix = (scores(run, results)["acc"] for run in runs)
    assert f"[{cutmix:.3f}" in rows[-1]
    assert [cell.strip() for cell in rows[-1].split("|")][5] == "–"
    caption = next(line for line in text.splitlines() if line.startswith("CutMix minus plain"))
    gain = section(text, caption)
    assert [cell.strip() for cell in gain[-1].split("|")][4] == formats.signed(cutmix - plain)
    assert "SGD, plain; SGD, CutMix; RMSprop, plain; RMSprop, CutMix: not run" in text
    assert "`medbench run --study table2` runs them." in text
    frame = frame_of(files["table2.csv"])
    assert frame["published"].isna().all()
    assert frame["missing"].notna().sum() == 4
    assert frame["drawn"].isna().all()  # a mark tells models apart, the rows here are settings
    assert "≈" not in text
    assert "breast-ablation" not in text3(results)


def test_a_model_trained_for_its_maps_is_no_row_of_table_3(results: Path) -> None:
    """No section, no missing cell: the protocol compares nothing."""
    make_run(results, Run("gradcam-224", "medspectralnet", "breastmnist", 0))
    assert "gradcam-224" not in text3(results)
    scores = select(read(results)[1].scores, protocol="gradcam-224")
    assert scores
    assert table3.missing_cells("gradcam-224", scores, synthetic=False) == []


def test_table_2_of_data_made_here_exists_only_where_it_was_run(results: Path) -> None:
    """No file without a record, and a stamp on the one with."""
    assert table2.render(*read(results, synthetic=True), synthetic=True) == {}
    make_run(results, Run("breast-ablation-sgd-plain", "medspectralnet", "synthetic-breastmnist", 0))
    files = table2.render(*read(results, synthetic=True), synthetic=True)
    assert set(files) == {f"SYNTHETIC_table2.{kind}" for kind in ("md", "tex", "csv")}
    assert files["SYNTHETIC_table2.md"].decode().count("SYNTHETIC") >= 3


def test_an_undefined_measure_is_told_as_one(results: Path) -> None:
    """`n/a`, not zero and not a gap."""
    evidence, analysis = read(results)
    undefined = dict.fromkeys(("mean", "sd", "low", "high"), math.nan)
    changed = [replace(score, **undefined) if score.metric == "auc" else score for score in analysis.scores]
    analysis = replace(analysis, scores=tuple(changed))
    rows = section(
        table3.render(evidence, analysis, synthetic=False)["table3.md"].decode(), "AUC, official test, smoke"
    )
    assert "[n/a](" in rows[2]


FOREIGN = st.text(st.characters(codec="utf-8"), max_size=30)


@given(FOREIGN)
def test_foreign_text_never_breaks_a_markdown_row(text: str) -> None:
    """One line, as many cells as the header has, whatever a message holds."""
    table = formats.Table("", ["a", "b"], [formats.Row([formats.quoted(text), "x"])])
    lines = formats.markdown([table], "line").decode().splitlines()
    assert len(lines) == 4
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", lines[3])) == 3
    assert "<" not in lines[3].replace(r"\<", "")


@given(FOREIGN)
def test_foreign_text_never_breaks_a_latex_row(text: str) -> None:
    """Plain letters and escaped signs alone: no comment, no new column, no command of its own."""
    row = formats.latex([formats.Table("", ["a", "b"], [formats.Row([text.replace("`", ""), "x"])])], "line").decode()
    body = row[row.index(r"\endhead") : row.index(r"\bottomrule")]
    assert body.isascii()
    assert len(re.findall(r"(?<!\\)&", body)) == 1
    assert not re.search(r"(?<!\\)[%#_~^]", re.sub(r"\\text[a-z]+\{\}", "", body))
    assert body.count("\n") == 2
