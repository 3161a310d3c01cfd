"""The first screen says what was run, set by set, and nothing that was not."""

from __future__ import annotations

import html
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from bench.records.names import Run
from bench.records.sealed import write_sealed
from bench.records.timing_record import timing_path
from bench.report import build, compare, findings
from bench.report.analysis.analyse import analyse
from bench.report.evidence import gather
from bench.report.published.names import name_in_sentence
from bench.report.site import readme_answer as answer
from bench.report.site.answer import the_answer
from bench.report.tables import readme_summary
from models import catalog, load_plugin
from models.catalog import fingerprint, get_spec
from tests.making import make_run, make_skilled, make_timing
from tests.measure.timings import cell

PARAMS = {"num_params": 1000}
OWN = Path(__file__).parents[2] / "results"
DEVICE = "cpu: one, 1 thread"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Three seeds and one seed on Breast, another model's one seed on Pneumonia, a floor on both."""
    folder = tmp_path / "results"
    for seed in (0, 1, 2):
        make_run(folder, Run("lite-96", "medspectralnet", "breastmnist", seed), **PARAMS)
    make_run(folder, Run("lite-96", "resnet18", "breastmnist", 0), **PARAMS)
    make_run(folder, Run("lite-96", "mobilenetv4_s", "pneumoniamnist", 0), **PARAMS)
    for dataset in ("breastmnist", "pneumoniamnist"):
        make_run(folder, Run("lite-96", "floor/prior", dataset, 0))
    make_run(folder, Run("medmnist-28", "floor/prior", "pneumoniamnist", 0))
    return folder


def summary(results: Path) -> str:
    evidence = gather(results)
    return readme_summary.render(evidence, analyse(evidence, synthetic=False), "")["summary.md"].decode()


def cells(text: str, start: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {start} ")]
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_the_status_names_seeds_and_networks_set_by_set(results: Path) -> None:
    """No cross product of sets, networks and seeds."""
    text = summary(results)
    assert cells(text, "`lite-96`, BreastMNIST")[1] == (
        "random weights; seeds 0, 1, 2 of MedSpectralNet; seed 0 of ResNet-18"
    )
    assert cells(text, "`lite-96`, PneumoniaMNIST")[1] == "random weights; seed 0 of MobileNetV4-S"
    assert cells(text, "`medmnist-28`, PneumoniaMNIST")[1] == "random weights; no network yet"


def test_a_model_of_somebody_else_is_not_called_random(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody checked that a plugin draws its weights: no row says so of it, beside the suite's networks or alone."""
    monkeypatch.setattr(catalog, "_plugins", {})
    (tmp_path / "their_net.py").write_text("@register_model()\ndef their_net(): ...\n", encoding="utf-8")
    load_plugin(tmp_path / "their_net.py")
    for dataset in ("breastmnist", "pneumoniamnist"):
        make_run(results, Run("lite-96", "their_net", dataset, 0), **PARAMS)
    make_run(results, Run("medmnist-28", "their_net", "pneumoniamnist", 0), **PARAMS)
    theirs = "weights as the model's own file leaves them; seed 0 of their_net"
    text = summary(results)
    assert cells(text, "`lite-96`, PneumoniaMNIST")[1] == f"random weights; seed 0 of MobileNetV4-S; {theirs}"
    assert cells(text, "`medmnist-28`, PneumoniaMNIST")[1] == theirs


def test_n_is_that_of_the_columns_beside_it(results: Path) -> None:
    """Breast's three seeds are not Pneumonia's one."""
    text = summary(results)
    assert [cells(text, "MedSpectralNet")[place] for place in (1, 6)] == ["3", "–"]
    assert [cells(text, "MobileNetV4-S")[place] for place in (1, 6)] == ["–", "1 of 3"]
    assert "confidence set that holds the best at 95 %; bold: alone in it" in text


def test_a_picture_is_shown_where_there_is_one(results: Path, tmp_path: Path) -> None:
    """Without a planned comparison there is no forest plot, and no set of the columns is no section."""
    assert "forest__lite-96.svg" in summary(results)
    shutil.rmtree(results / "records" / "lite-96" / "medspectralnet")
    assert "forest__lite-96.svg" not in summary(results)
    other = tmp_path / "other"
    make_run(other, Run("lite-96", "resnet18", "bloodmnist", 0), num_classes=8, **PARAMS)
    assert "Table 3, condensed" not in summary(other)


def test_records_of_a_protocol_that_is_not_at_hand_are_reported(tmp_path: Path) -> None:
    """A user's own recipe: its file is not loaded, its records are."""
    record = make_run(tmp_path / "results", Run("smoke", "resnet18", "breastmnist", 0), **PARAMS)
    path = record.run.path(tmp_path / "results")
    own = Run("my-recipe", "resnet18", "breastmnist", 0)
    target = own.path(tmp_path / "results")
    target.parent.mkdir(parents=True)
    shutil.copytree(path.parent, target.parent, dirs_exist_ok=True)
    changed = record.model_copy(update={"protocol": "my-recipe", "run_id": own.run_id})
    write_sealed(target, changed)
    build(tmp_path / "results", tmp_path / "reports")
    text = (tmp_path / "reports" / "summary.md").read_text(encoding="utf-8")
    assert cells(text, "`my-recipe`, BreastMNIST")[1] == "random weights; seed 0 of ResNet-18"


def test_links_of_the_readme_lead_somewhere_from_its_own_folder(results: Path, tmp_path: Path) -> None:
    """Whatever the reports folder is called: to its pages and to the results."""
    readme = tmp_path / "README.md"
    readme.write_text(f"{answer.BEGIN}{answer.END}", encoding="utf-8")
    build(results, tmp_path / "pages", documents=True)
    links = re.findall(r"\]\(([^)]*)\)", readme.read_text(encoding="utf-8"))
    assert {"pages/claims.md", "pages/table3.md", "pages/figures/forest__lite-96.svg"} <= set(links)
    assert [link for link in links if not (tmp_path / link).exists()] == []


def test_the_answer_is_one_on_every_page(tmp_path: Path) -> None:
    """Five lines in README.md and summary.md, with the sentences of the first page: separated, not, missing."""
    results = tmp_path / "results"
    for model, skill in (("medspectralnet", 3.0), ("swin_t", 3.0), ("resnet18", 0.3), ("floor/prior", None)):
        make_skilled(results, Run("lite-96", model, "breastmnist", 0), skill, **PARAMS)
    readme = tmp_path / "README.md"
    readme.write_text(f"# Mine\n{answer.BEGIN}{answer.END}\nrest\n", encoding="utf-8")
    build(results, tmp_path / "reports", documents=True)
    text = readme.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("- ")]
    assert len(lines) == 5
    evidence = gather(results)
    found = the_answer(evidence, analyse(evidence, synthetic=False), synthetic=False)
    page = html.unescape((tmp_path / "reports" / "index.html").read_text(encoding="utf-8"))
    for line, sentence in zip(lines, (found.separated, found.open, found.missing), strict=False):
        assert sentence
        assert sentence in line
        assert sentence in page
    assert found.resolution in lines[1]
    pairs = pd.read_csv(results / "tables" / "pairs.csv").query("family == 'primary'")
    separated = pairs[pairs["verdict"].isin(["higher", "lower"])]
    assert 0 < len(separated) < len(pairs)
    assert f"{len(separated)} of {len(pairs)} comparisons" in lines[0]
    assert all(name_in_sentence(name) in lines[0] for name in separated["baseline"])
    assert "4 finished runs of 4 models" in lines[4]
    assert text.startswith("# Mine\n")
    assert text.endswith("\nrest\n")
    assert lines[1] in (tmp_path / "reports" / "summary.md").read_text(encoding="utf-8")
    assert "0 of 300 runs" in cells(summary(results), "study `table3`")[1]


def test_documents_are_written_only_on_request(results: Path, tmp_path: Path) -> None:
    """A contributor's report leaves README.md and docs/findings.md alone, and --check does not miss them."""
    readme, page = tmp_path / "README.md", tmp_path / "docs" / "findings.md"
    page.parent.mkdir()
    readme.write_text(f"{answer.BEGIN}{answer.END}", encoding="utf-8")
    page.write_text(f"{findings.BEGIN}\n", encoding="utf-8")
    shutil.copytree(OWN / "costs" / "resnet18", results / "costs" / "resnet18")
    timing = make_timing("resnet18", DEVICE, [cell([[1.0]])], model_fingerprint=fingerprint(get_spec("resnet18")))
    write_sealed(timing_path(results, DEVICE, "resnet18"), timing)
    before = (readme.read_bytes(), page.read_bytes())
    build(results, tmp_path / "reports")
    assert (readme.read_bytes(), page.read_bytes()) == before
    assert compare(results, tmp_path / "reports") == []
    wrong = compare(results, tmp_path / "reports", documents=True)
    assert [line.split(":")[0] for line in wrong] == [str(readme), str(page)]
    assert not build(results, tmp_path / "reports", documents=True).was_current
    assert compare(results, tmp_path / "reports", documents=True) == []
    tables = {name: (results / "tables" / name).read_bytes() for name in findings.TABLES}
    assert page.read_bytes() == findings.render(tables, (tmp_path / "reports" / "claims.csv").read_bytes())
