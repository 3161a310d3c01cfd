"""Contributed results: new evidence passes, what stands stays."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from bench.check import contribution as checked
from bench.check.compare.folders import compare_folders
from bench.check.contribution import (
    MAX_FILE_BYTES,
    MAX_TOTAL_BYTES,
    NEW_FOLDERS,
    TABLES,
    check_contribution,
    outside,
)
from bench.check.trust import Rerun, SelfReported
from bench.errors import RecordError
from bench.protocols.planned import planned_seeds
from bench.records.names import Run, predictions_path
from bench.records.sealed import pretty, write_sealed
from bench.records.timing_record import timing_path
from bench.report.build import TIDY
from bench.stats.comparisons import EQUIVALENCE_MARGIN
from tests.check.test_trust import ROW
from tests.making import make_card, make_rerun, make_run, make_timing

RUN = Run("smoke", "resnet18_28", "breastmnist", 0)
NEW = Run("smoke", "resnet18_28", "breastmnist", 1)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A contributed folder, so far a copy, and the one that stands."""
    base, results = tmp_path / "base", tmp_path / "results"
    make_run(base, RUN)
    (base / "README.md").write_text("columns\n", encoding="utf-8")
    (base / "bands.toml").write_text("", encoding="utf-8")
    (base / "tables").mkdir()
    (base / "tables" / "scores.csv").write_text("old\n", encoding="utf-8")
    shutil.copytree(base, results)
    return results, base


def same(table: pd.DataFrame) -> pd.DataFrame:
    return table


def only(problems: list[str]) -> str:
    assert len(problems) == 1, problems
    return problems[0]


def test_new_records_and_new_tables_pass(folders: tuple[Path, Path]) -> None:
    """Another seed, its parquet files and rewritten tables are what a contribution is."""
    results, base = folders
    make_run(results, NEW)
    (results / "tables" / "scores.csv").write_text("new\n", encoding="utf-8")
    contribution = check_contribution(results, base)
    assert contribution.problems == []
    assert [name.name for name in contribution.new] == [
        "seed1.history.parquet",
        "seed1.json",
        "seed1.predictions.parquet",
    ]
    assert contribution.notices == []
    assert contribution.summary() == "contribution: 3 new files: nothing that stands changes"


def test_a_changed_number_fails(folders: tuple[Path, Path]) -> None:
    """A record that is sealed anew with a better score is whole by itself, and refused beside what stands."""
    results, base = folders
    make_run(results, RUN, test={"auc": 0.99, "acc": 0.99})
    assert "records/smoke/resnet18_28/breastmnist/seed0.json: changed" in only(
        check_contribution(results, base).problems
    )


@pytest.mark.parametrize("name", ["data/breastmnist.json", "README.md"])
def test_cards_and_definitions_stay_too(folders: tuple[Path, Path], name: str) -> None:
    """A changed data card would change what scores are checked against."""
    results, base = folders
    (results / name).write_text("{}", encoding="utf-8")
    assert f"{name}: changed" in only(check_contribution(results, base).problems)


def test_a_vanished_number_fails(folders: tuple[Path, Path]) -> None:
    """Each missing file is named."""
    results, base = folders
    predictions_path(RUN.path(results)).unlink()
    RUN.path(results).unlink()
    problems = check_contribution(results, base).problems
    assert len(problems) == 2
    assert all("vanished" in problem for problem in problems)


def test_a_run_without_scores_may_be_filled_in(folders: tuple[Path, Path]) -> None:
    """A failed run holds no number that could change."""
    results, base = folders
    failure = {"kind": "oom", "message": "out of memory"}
    make_run(base, NEW, status="failed", failure=failure, val=None, test=None, test_twin_free=None)
    make_run(results, NEW)
    assert check_contribution(results, base).problems == []


def test_what_fills_in_a_run_is_checked_as_new_files_are(folders: tuple[Path, Path]) -> None:
    """A seed that no study plans is refused, whether it had failed before or not."""
    results, base = folders
    run = Run("lite-96", "resnet18", "breastmnist", 7)
    failure = {"kind": "oom", "message": "out of memory"}
    make_run(base, run, status="failed", failure=failure, val=None, test=None, test_twin_free=None)
    make_run(results, run)
    assert "seed 7 is not planned" in only(check_contribution(results, base).problems)


def test_links_and_other_files_fail(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Nothing is followed out of the folder, and nothing but evidence comes in."""
    results, base = folders
    (tmp_path / "secret.json").write_text("{}", encoding="utf-8")
    (results / "data" / "linked.json").symlink_to(tmp_path / "secret.json")
    (results / "records" / "linked").symlink_to(tmp_path)
    (results / "records" / "run.py").write_text("print()", encoding="utf-8")
    (results / "data" / ".hidden.json").write_text("{}", encoding="utf-8")
    (results / "elsewhere.json").write_text("{}", encoding="utf-8")
    (results / "tables" / "page.html").write_text("<script>", encoding="utf-8")
    problems = check_contribution(results, base).problems
    for name in ("data/linked.json", "records/linked"):
        assert f"{name}: symbolic links are refused" in problems
    assert "records/run.py: is no evidence; remove it" in problems
    assert "data/.hidden.json: hidden files are no evidence; remove it" in problems
    for name in ("elsewhere.json", "tables/page.html"):
        assert any(problem.startswith(f"{name}: new evidence stands below") for problem in problems), name
    assert len(problems) == 6


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("costs/resnet18/224-8.parquet", b"garbage"),
        ("costs/resnet18/224-8.json", b'{"torn": '),
        ("timings/cpu/resnet18.json", b"{}"),
        ("cams/smoke/resnet18/breastmnist/seed0.json", b"[]"),
        ("records/smoke/resnet18_28/breastmnist/seed0.notes.parquet", b"garbage"),
        ("records/smoke/resnet18_28/breastmnist/.tmp-1-seed1.json", b"half"),
        ("records/notes.md", b"# notes"),
        ("tables/mine.csv", b"a,b"),
        ("tables/below/scores.csv", b"a,b"),
        ("reruns/other.json", b"{}"),
    ],
)
def test_what_no_schema_knows_fails(folders: tuple[Path, Path], name: str, content: bytes) -> None:
    """Whatever nothing else looks at is refused by its name, alone."""
    results, base = folders
    (results / name).parent.mkdir(parents=True, exist_ok=True)
    (results / name).write_bytes(content)
    assert only(check_contribution(results, base).problems).startswith(f"{name}: ")


def test_a_pipe_is_refused_unread(folders: tuple[Path, Path]) -> None:
    """It would never end, in a standing file's stead as in a new one's."""
    results, base = folders
    os.mkfifo(results / "data" / "bloodmnist.json")
    (results / "data" / "breastmnist.json").unlink()
    os.mkfifo(results / "data" / "breastmnist.json")
    problems = check_contribution(results, base).problems
    assert [problem.split(":")[0] for problem in problems] == ["data/breastmnist.json", "data/bloodmnist.json"]


def test_tables_may_change_and_no_others_come(folders: tuple[Path, Path]) -> None:
    """The names are those that a report writes, and a table too large to be one is refused."""
    assert {*TABLES, *(f"SYNTHETIC_{name}" for name in TABLES)} == TIDY
    results, base = folders
    with (results / "tables" / "cells.csv").open("wb") as stream:
        stream.truncate(MAX_FILE_BYTES + 1)
    assert only(check_contribution(results, base).problems).startswith("tables/cells.csv: ")


def test_seeds_that_nobody_planned_fail(folders: tuple[Path, Path]) -> None:
    """Whoever may choose a seed may choose the best; a planned one passes."""
    results, base = folders
    for seed in (0, 97):
        make_run(results, Run("lite-96", "resnet18", "breastmnist", seed))
    problem = only(check_contribution(results, base).problems)
    assert problem.startswith("records/lite-96/resnet18/breastmnist/seed97.json: seed 97 is not planned")
    assert "0, 1, 2" in problem


def test_seeds_of_a_recipe_that_no_study_has_count_from_zero(folders: tuple[Path, Path]) -> None:
    """The best of many cannot come alone."""
    results, base = folders
    assert planned_seeds(RUN.protocol, RUN.model, RUN.dataset) == ()
    make_run(results, replace(RUN, seed=2))
    problem = only(check_contribution(results, base).problems)
    assert "seed2.json: no study plans smoke, so seed 2 comes with all of seeds 0 to 1" in problem
    make_run(results, NEW)
    assert check_contribution(results, base).problems == []
    make_run(results, replace(RUN, dataset="pneumoniamnist", seed=1))
    assert "seed 1 comes with all of seed 0" in only(check_contribution(results, base).problems)


def test_measured_costs_and_timings_are_marked(folders: tuple[Path, Path]) -> None:
    """Nobody counted or timed them again, which a maintainer reads before merging."""
    results, base = folders
    shutil.copytree(Path(__file__).parents[2] / "results" / "costs" / "resnet18", results / "costs" / "resnet18")
    device = "cpu: one, 1 thread"
    write_sealed(timing_path(results, device, "resnet18"), make_timing("resnet18", device, []))
    contribution = check_contribution(results, base)
    assert contribution.problems == []
    assert {notice.split("/")[0] for notice in contribution.notices} == {"costs", "timings"}
    assert len(contribution.notices) == len(contribution.new)


def test_a_card_for_another_place_fails(folders: tuple[Path, Path]) -> None:
    """A card whose data set is a path, sealed anew, is refused."""
    results, base = folders
    card = make_card("bloodmnist").model_copy(update={"dataset": "../../x"}).sealed()
    (results / "data" / "bloodmnist.json").write_bytes(pretty(card.model_dump(mode="json")))
    assert only(check_contribution(results, base).problems).startswith("data/bloodmnist.json: dataset: ")


def test_a_standing_file_that_becomes_a_link_fails(folders: tuple[Path, Path]) -> None:
    """Even one to the same bytes."""
    results, base = folders
    RUN.path(results).unlink()
    RUN.path(results).symlink_to(RUN.path(base))
    assert any("symbolic links are refused" in problem for problem in check_contribution(results, base).problems)


def test_large_files_fail(folders: tuple[Path, Path]) -> None:
    """The message names the limit and the size."""
    results, base = folders
    path = results / "records" / "smoke" / "large.parquet"
    with path.open("wb") as stream:
        stream.truncate(MAX_FILE_BYTES + 1)
    assert "8,388,609 bytes" in only(check_contribution(results, base).problems)


def test_too_much_at_once_fails(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that are each small enough, together over the limit."""
    results, base = folders
    make_run(results, NEW)
    size = sum(path.stat().st_size for path in NEW.path(results).parent.glob(f"seed{NEW.seed}.*"))
    for limit, number in ((size, 0), (size - 1, 1)):
        monkeypatch.setattr(checked, "MAX_TOTAL_BYTES", limit)
        problems = check_contribution(results, base).problems
        assert problems == [f"the new files have {size:,} bytes; at most {limit:,} are taken at once"] * number


def test_the_limit_takes_predictions_of_every_2d_set() -> None:
    """Twice what split, index, label and float32 logits of val and test could take uncompressed."""
    info = pytest.importorskip("medmnist", reason="medmnist is not installed").INFO
    sizes = [
        (sample["val"] + sample["test"]) * (4 * len(entry["label"]) + 4 + 2 + 4)
        for name, entry in info.items()
        if not name.endswith("3d") and name != "chestmnist"
        for sample in [entry["n_samples"]]
    ]
    assert 2 * max(sizes) < MAX_FILE_BYTES


def test_what_stands_on_somebody_s_word_is_noticed(folders: tuple[Path, Path]) -> None:
    """New label digests and rows without predictions are for a maintainer to look at; wrong rows fail."""
    results, base = folders
    make_run(results, Run("smoke", "resnet18_28", "pneumoniamnist", 0))
    (results / "self_reported").mkdir()
    (results / "self_reported" / "some.json").write_text(json.dumps(ROW), encoding="utf-8")
    contribution = check_contribution(results, base)
    assert contribution.problems == []
    assert [notice.split(":")[0] for notice in contribution.notices] == [
        "data/pneumoniamnist.json",
        "self_reported/some.json",
    ]
    (results / "self_reported" / "some.json").write_text(json.dumps({**ROW, "acc": 91}), encoding="utf-8")
    assert "self_reported/some.json: acc" in only(check_contribution(results, base).problems)


def test_a_re_run_comes_apart_from_its_record(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Evidence about a standing record passes with a notice; about one's own new record it proves nothing."""
    results, base = folders
    make_rerun(tmp_path / "mine", RUN, same)
    compare_folders(results, tmp_path / "mine", record=True)
    contribution = check_contribution(results, base)
    assert contribution.problems == []
    assert "a re-run is the sender's word" in only(contribution.notices)
    make_run(results, NEW)
    make_rerun(tmp_path / "mine", NEW, same)
    compare_folders(results, tmp_path / "mine", record=True)
    assert "a record and its re-run come apart" in only(check_contribution(results, base).problems)


def test_paths_outside_the_results_fail() -> None:
    """Code, workflows and files at the root are not results."""
    changed = ["results/records/a.json", "reports/index.html", "", "bench/x.py", ".github/workflows/ci.yml", "results"]
    assert [line.split(":")[0] for line in outside(changed)] == ["bench/x.py", ".github/workflows/ci.yml", "results"]
    assert len(outside(["results/../bench/x.py\n", '"results/a\\nb.json"\n', "\n"])) == 2
    for name in ("results/.cache/analysis/a.npz", "results/checkpoints/a.pt", "results/.gitattributes"):
        assert "no evidence" in only(outside([name]))


def test_the_documents_say_what_the_code_does() -> None:
    """CONTRIBUTING states the limits, the folders and the margin, results/README every field."""
    root = Path(__file__).parents[2]
    text = (root / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert f"at most {MAX_FILE_BYTES // 2**20} MiB each and {MAX_TOTAL_BYTES // 2**20} MiB together" in text
    assert f"inside the analysis plan's margin, {EQUIVALENCE_MARGIN:g} |" in text
    assert [folder for folder in NEW_FOLDERS if f"`{folder}/`" not in text] == []
    columns = (root / "results" / "README.md").read_text(encoding="utf-8").partition("## Trust")[2]
    fields = {*SelfReported.model_fields, *Rerun.model_fields} - {"suite_version", "run_id", "record_digest"}
    assert [name for name in fields if f"`{name}`" not in columns and not name.startswith("rerun_")] == []


def test_missing_folders_are_told(tmp_path: Path) -> None:
    """One line, not a traceback."""
    with pytest.raises(RecordError, match="There is no results folder"):
        check_contribution(tmp_path / "a", tmp_path / "b")


def test_only_the_suite_s_own_locks_are_passed_over(folders: tuple[Path, Path]) -> None:
    """A file is not let in for its ending."""
    results, base = folders
    (results / ".locks").mkdir()
    (results / ".locks" / "run.lock").write_bytes(b"")
    assert check_contribution(results, base).problems == []
    (results / "records" / "notes.lock").write_bytes(b"x")
    assert "notes.lock" in only(check_contribution(results, base).problems)
