"""The study `init`: what ImageNet weights do to one network, by hand, and its page."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest

from bench.protocols.loading import load_protocol, load_study
from bench.records.names import Run
from bench.records.run_record import Record
from bench.report import findings
from bench.report.ablations import STARTED, STARTS, is_compared
from bench.report.analysis.analyse import Analysis, analyse
from bench.report.analysis.contrasts import Contrast, gain_of_imagenet, start_effects, start_p, start_verdict
from bench.report.claims import pages as claim_pages
from bench.report.claims.judge import judge
from bench.report.claims.sources import collect
from bench.report.evidence import Evidence, gather
from bench.report.published.names import model_name
from bench.report.tables import initialisation, model_cards, table3
from tests.making import make_skilled
from tests.report.rows import only

SCRATCH, IMAGENET, OWN = STARTS
LIGHT, OURS, SET = "efficientnet_lite0", "medspectralnet", "breastmnist"
SKILLS = {(SCRATCH, LIGHT): 0.5, (IMAGENET, LIGHT): 3.0, (OWN, LIGHT): 3.0, (SCRATCH, OURS): 3.0}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("started")
    for (protocol, model), skill in SKILLS.items():
        for seed in (0, 1, 2):
            make_skilled(folder, Run(protocol, model, SET, seed), skill)
    return folder


def read(folder: Path) -> tuple[Evidence, Analysis]:
    evidence = gather(folder)
    return evidence, analyse(evidence, synthetic=False)


def effect(analysis: Analysis, name: str, metric: str = "auc", part: str = "test") -> Contrast:
    return only(analysis.contrasts, effect=name, metric=metric, part=part)


def mean(records: list[Record], protocol: str, model: str, metric: str) -> float:
    values = [float(r.test[metric] or 0) for r in records if r.test and (r.protocol, r.model) == (protocol, model)]
    return sum(values) / len(values)


def test_the_study_says_where_each_of_its_protocols_starts() -> None:
    """As the protocols themselves do; its cells are two primary tests, and Table 3 compares from scratch alone."""
    for protocol, start in STARTS.items():
        assert load_protocol(protocol).init.kind == start.partition(",")[0]
        assert is_compared(protocol) == (start == "scratch")
    assert STARTED == ((LIGHT, "breastmnist"), (LIGHT, "pneumoniamnist"))
    assert {seed for part in load_study("init").parts for seed in part.seeds} == {0, 1, 2}


@pytest.mark.parametrize("metric", ["auc", "acc"])
def test_effects_are_differences_of_the_records_means(results: Path, metric: str) -> None:
    """ImageNet less scratch, own normalisation less the other, and less MedSpectralNet from scratch."""
    evidence, analysis = read(results)
    by_cell = {cell: mean(evidence.records, *cell, metric) for cell in SKILLS}
    by_hand = [
        by_cell[IMAGENET, LIGHT] - by_cell[SCRATCH, LIGHT],
        by_cell[OWN, LIGHT] - by_cell[IMAGENET, LIGHT],
        by_cell[IMAGENET, LIGHT] - by_cell[SCRATCH, OURS],
    ]
    for name, value in zip(start_effects(LIGHT), by_hand, strict=True):
        row = effect(analysis, name, metric)
        assert row.difference == pytest.approx(value, abs=1e-9)
        assert row.ci_low < row.difference < row.ci_high
        assert (row.optimiser, row.dataset, row.n_seeds) == ("adamw", SET, 3)
    assert len(analysis.contrasts) == 3 * 2 * 2, "nothing of MedSpectralNet, which has one start"


def test_the_plans_test_is_corrected_for_both_data_sets() -> None:
    """By hand: p times two, one at most; 0.03 decides nothing, 0.02 does, by the sign of the difference."""
    assert (start_p(0.02), start_p(0.8)) == (0.04, 1.0)
    assert [start_verdict(*pair, 3) for pair in ((0.1, 0.02), (-0.1, 0.02), (0.1, 0.03))] == [
        "higher",
        "lower",
        "not separated",
    ]
    assert start_verdict(0.0, float("nan"), 3) == "identical"


def test_a_start_has_no_verdict_before_all_its_seeds() -> None:
    """Each subset of the seeds would have a verdict of its own, however small its p."""
    assert [start_verdict(0.2, 0.001, seeds) for seeds in (1, 2, 3)] == ["seeds missing", "seeds missing", "higher"]


def test_the_page_shows_scores_effects_and_what_is_missing(results: Path) -> None:
    """Three starts with their scores, the plan's test apart from the exploratory ones, the other data set's command."""
    evidence, analysis = read(results)
    files = initialisation.render(evidence, analysis, synthetic=False)
    assert set(files) == {f"initialisation.{kind}" for kind in ("md", "tex", "csv", "html")}
    page = files["initialisation.md"].decode()
    lines = [line for line in page.splitlines() if line.startswith(f"| {gain_of_imagenet(model_name(LIGHT))}")]
    official, twin_free = lines
    assert "| higher" in official
    assert "exploratory" in twin_free
    assert f"## {model_name(LIGHT)}, PneumoniaMNIST" in page
    assert "`medbench run --study init` runs them." in page
    assert "Exploratory, all but the AUC difference" in page
    frame = pd.read_csv(io.BytesIO(files["initialisation.csv"]), comment="#")
    assert set(frame["protocol"]) == set(STARTS)
    assert set(frame[frame["missing"].notna()]["dataset"]) == {"pneumoniamnist"}


def test_table_3_and_the_cards_keep_the_starts_apart(results: Path) -> None:
    """Table 3 has no section for one network from ImageNet; the model's card says where the intervals are."""
    evidence, analysis = read(results)
    page = table3.render(evidence, analysis, synthetic=False)["table3.md"].decode()
    assert LIGHT in page
    assert IMAGENET not in page
    card = model_cards.render(evidence, analysis, synthetic=False)[f"models/{LIGHT}.md"].decode()
    assert "`initialisation.md`" in card
    assert IMAGENET in card


def test_without_a_record_the_page_names_every_cell(tmp_path: Path) -> None:
    """Nothing was run: no numbers, no effects, and the command."""
    evidence, analysis = read(tmp_path)
    page = initialisation.render(evidence, analysis, synthetic=False)["initialisation.md"].decode()
    assert "not run" in page
    assert "Effects" not in page
    assert initialisation.render(evidence, analysis, synthetic=True) == {}


def test_findings_say_what_the_corrected_test_says(results: Path) -> None:
    """The sentence about the start stands while the verdict does."""
    root = Path(__file__).parents[2]
    evidence, analysis = read(results)
    claims = claim_pages.pages(judge(collect(evidence, analysis)), evidence)["claims.csv"]
    measured = {name: frame.to_csv(index=False).encode() for name, frame in analysis.tables().items()}
    tables = {
        name: measured.get(name.removesuffix(".csv")) or (root / "results" / "tables" / name).read_bytes()
        for name in findings.TABLES
    }
    page = findings.render(tables, claims).decode()
    assert "On BreastMNIST the start alone moves the AUC" in page
    contrasts = pd.read_csv(io.BytesIO(tables["contrasts.csv"]))
    contrasts["p"] = 0.03
    tables["contrasts.csv"] = contrasts.to_csv(index=False).encode()
    page = findings.render(tables, claims).decode()
    assert "the start alone moves" not in page
    assert "no gain by the start" in page
