"""Reports: a pure function of the records; nothing false enters a table."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

from bench.errors import RecordError
from bench.records.names import Run
from bench.report import build, compare
from bench.report.build import _is_own
from bench.report.contents import render
from bench.report.manifest import listed
from bench.report.stamp import locked_versions
from tests.making import make_run

REAL = [Run("smoke", "resnet18_28", "breastmnist", seed) for seed in (0, 1)]
FLOOR = Run("smoke", "floor/prior", "breastmnist", 0)
DRAWN = ("resnet18_28",)
MADE = Run("smoke", "resnet18_28", "synthetic-breastmnist", 0)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    for run in (*REAL, FLOOR, MADE):
        make_run(folder, run)
    return folder


def test_the_same_records_give_the_same_bytes(results: Path, tmp_path: Path) -> None:
    """Building anew changes nothing and `--check` agrees; line one names command, version and digest."""
    built = build(results, tmp_path / "reports")
    before = {path: path.read_bytes() for path in built.files}
    shutil.rmtree(results / ".cache")
    build(results, tmp_path / "reports")
    assert before == {path: path.read_bytes() for path in built.files}
    assert compare(results, tmp_path / "reports") == []
    first = (tmp_path / "reports" / "table3.md").read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("<!-- medbench report | medspectral-bench ")
    assert "3 records" in first


def test_an_unchanged_folder_is_known_and_any_change_is_seen(results: Path, tmp_path: Path) -> None:
    """The second call finds nothing to do; a touched file, a new record or another model drawn is work again."""
    reports = tmp_path / "reports"
    built = build(results, reports)
    assert not built.was_current
    places = built.places()
    assert places == [
        f"3 finished runs on real images (floor/prior, resnet18_28): {reports / 'table3.md'}, {reports / 'index.html'}",
        f"1 finished run on synthetic images (resnet18_28): {reports / 'SYNTHETIC_table3.md'}, "
        f"{reports / 'SYNTHETIC_index.html'}",
    ]
    assert all(Path(name).is_file() for line in places for name in line.split(": ")[1].split(", "))
    assert "`SYNTHETIC_table3.md`" in (reports / "table3.md").read_text(encoding="utf-8")
    again = build(results, reports)
    assert again.was_current
    assert again.places() == places
    (reports / "table3.md").write_text("<!-- medbench report | touched -->", encoding="utf-8")
    assert not build(results, reports).was_current
    assert compare(results, reports) == []
    assert not build(results, reports, ("resnet18_28",)).was_current
    make_run(results, Run("smoke", "resnet18_28", "breastmnist", 2))
    assert not build(results, reports).was_current
    stamp = results / ".cache" / "report.json"
    content = json.loads(stamp.read_bytes())
    content[str(reports.resolve())]["outputs"] = {}
    stamp.write_text(json.dumps(content), encoding="utf-8")
    assert not build(results, reports).was_current
    stamp.write_text("[1]", encoding="utf-8")
    assert not build(results, reports).was_current


def test_pictures_are_compared_under_the_locked_versions_only(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another drawing library may place a line elsewhere; the numbers behind a picture may not differ."""
    reports = tmp_path / "reports"
    build(results, reports, DRAWN)
    picture = next((reports / "figures").glob("*.svg"))
    picture.write_bytes(picture.read_bytes().replace(b"</svg>", b"<g/></svg>"))
    monkeypatch.setattr(sys.modules["bench.report.build"], "draws_as_locked", lambda: True)
    assert {Path(line.split(":")[0]).name for line in compare(results, reports, DRAWN)} == {picture.name}
    monkeypatch.setattr(sys.modules["bench.report.build"], "draws_as_locked", lambda: False)
    assert compare(results, reports, DRAWN) == []
    numbers = next((reports / "figures" / "data").glob("*.csv"))
    numbers.write_text(numbers.read_text(encoding="utf-8") + "1\n", encoding="utf-8")
    assert [Path(line.split(":")[0]).name for line in compare(results, reports, DRAWN)] == [numbers.name]


def test_links_lead_to_the_results_wherever_they_are(tmp_path: Path) -> None:
    """From pages and cards in `mine/reports` to records in `mine`; a report inside is no evidence."""
    make_run(tmp_path / "mine", FLOOR)
    build(tmp_path / "mine", tmp_path / "mine" / "reports")
    assert build(tmp_path / "mine", tmp_path / "mine" / "reports").was_current
    for page in ("table3.md", "models/floor--prior.md", "datasets/breastmnist.html"):
        file = tmp_path / "mine" / "reports" / page
        links = re.findall(r"""[("]((?:\.\./)+[^)"]*records/[^)"]*)[)"]""", file.read_text(encoding="utf-8"))
        assert links, page
        assert all((file.parent / link).exists() for link in links), page


def test_the_lock_file_is_read_for_this_python() -> None:
    """One version a package, markers evaluated; the suite's own machine drew under it."""
    pins = locked_versions()
    assert pins["numpy"].count(".") == 2
    assert pins["matplotlib"]


def test_a_strict_check_names_what_no_report_wrote(results: Path, tmp_path: Path) -> None:
    """A page with a script, a link, a hidden file and a table slipped in are named; without --strict they are not."""
    reports = tmp_path / "reports"
    build(results, reports)
    assert compare(results, reports, strict=True) == []
    slipped = [reports / "figures" / "page.html", reports / ".hidden", results / "tables" / "mine.csv"]
    for path in slipped:
        path.parent.mkdir(exist_ok=True)
        path.write_text("<script>alert(1)</script>", encoding="utf-8")
    (reports / "linked").symlink_to(tmp_path)
    with (reports / "large.svg").open("wb") as stream:
        stream.truncate(60 * 2**20)
    assert compare(results, reports) == []
    named = {Path(line.split(":")[0]) for line in compare(results, reports, strict=True)}
    assert named == {*slipped, reports / "linked", reports / "large.svg"}
    content = (reports / "table3.md").read_bytes()
    (reports / "table3.md").unlink()
    (tmp_path / "table3.md").write_bytes(content)
    (reports / "table3.md").symlink_to(tmp_path / "table3.md")
    assert any("table3.md: is a link" in line for line in compare(results, reports, strict=True))


def test_check_names_what_differs(results: Path, tmp_path: Path) -> None:
    """A touched table, a missing one and one that no record gives."""
    reports = tmp_path / "reports"
    build(results, reports)
    (results / "tables" / "scores.csv").write_text("changed", encoding="utf-8")
    (reports / "table3.md").unlink()
    (reports / "old.md").write_text("<!-- medbench report | old -->", encoding="utf-8")
    with (reports / "manifest.txt").open("a", encoding="utf-8") as stream:
        stream.write("old.md\n")
    (reports / "notes.txt").write_text("a person's file", encoding="utf-8")
    wrong = compare(results, reports)
    assert len(wrong) == 4
    assert {Path(line.split(":")[0]).name for line in wrong} == {"scores.csv", "table3.md", "old.md", "manifest.txt"}
    build(results, reports)
    assert compare(results, reports) == []
    assert (reports / "notes.txt").exists()


def test_other_people_s_files_stay(results: Path, tmp_path: Path) -> None:
    """What the manifest does not list stays, a copy of a page too; so does a text under a name that it lists."""
    reports = tmp_path / "reports"
    kept = {
        reports / "tables" / "thesis.csv": "mine",
        reports / "notes.md": "run medbench report tomorrow",
        reports / "old" / "table3.md": "<!-- medbench report | old -->",
        reports / "copy of table3.md": "<!-- medbench report | old -->",
        reports / "figures" / "mine.svg": "mine",
        tmp_path / "outside.md": "<!-- medbench report | old -->",
        results / "tables" / "thesis.csv": "mine",
        results / "tables" / "deep" / "scores.csv": "mine",
    }
    for path, text in kept.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    stray = reports / "figures" / "old.svg"
    listing = "# medbench report | \nfigures/old.svg\nfigures/mine.svg\n../outside.md\ngone.md\n"
    (reports / "manifest.txt").write_text(listing, encoding="utf-8")
    stray.write_text('<?xml version="1.0"?><!-- medbench report | old -->', encoding="utf-8")
    notes = build(results, reports).notes
    assert {path: path.read_text(encoding="utf-8") for path in kept} == kept
    assert [note for note in notes if note.startswith("removed")] == [f"removed, no record gives it: {stray}"]
    (reports / "table3.md").write_text("my own table", encoding="utf-8")
    with pytest.raises(RecordError, match=r"table3\.md was not written by medbench report"):
        build(results, reports)
    assert (reports / "table3.md").read_text(encoding="utf-8") == "my own table"


def test_everything_that_a_report_writes_is_known_as_its_own(results: Path, tmp_path: Path) -> None:
    """Else a later report would leave it behind, or refuse to write over it."""
    files = build(results, tmp_path / "reports", DRAWN).files
    assert {path.suffix for path in files} == {
        *(".csv", ".md", ".tex", ".html", ".css", ".js", ".toml", ".svg", ".pdf", ".txt")
    }
    assert [path for path in files if not _is_own(path, results)] == []
    pages = {path for path in files if path.parent != results / "tables"}
    assert pages - set(listed(tmp_path / "reports")) == {tmp_path / "reports" / "manifest.txt"}


def test_what_no_record_gives_any_longer_is_removed(results: Path, tmp_path: Path) -> None:
    """The pages of synthetic runs go with their last record, in a checkout without a cache too."""
    reports = tmp_path / "reports"
    build(results, reports)
    assert (reports / "SYNTHETIC_index.html").exists()
    shutil.rmtree(results / ".cache")
    shutil.rmtree(MADE.path(results).parent)
    assert str(reports / "SYNTHETIC_index.html") in {line.split(":")[0] for line in compare(results, reports)}
    build(results, reports)
    assert not list(reports.rglob("SYNTHETIC_*"))
    assert not list((results / "tables").glob("SYNTHETIC_*"))
    assert compare(results, reports) == []


@pytest.mark.parametrize("place", ["results", ".", "checkout", "file"])
def test_a_report_gets_a_folder_of_its_own(results: Path, tmp_path: Path, place: str) -> None:
    """Not the results, nor what holds them, nor a checkout, nor a file; nothing is written."""
    (tmp_path / "checkout").mkdir()
    (tmp_path / "checkout" / "pyproject.toml").touch()
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RecordError, match="name a folder"):
        build(results, tmp_path / place if place != "results" else results)
    assert sorted(tmp_path.rglob("*")) == before


def test_scores_are_one_measurement_a_row_with_all_digits(results: Path) -> None:
    """A reader of the CSV gets the record's number back."""
    tables = render(results).tables
    frame = pd.read_csv(io.BytesIO(tables["scores.csv"]))
    assert list(frame.columns) == ["protocol", "model", "dataset", "seed", "part", "metric", "value", "run_id"]
    record = json.loads(REAL[0].path(results).read_bytes())
    chosen = frame[(frame["run_id"] == record["run_id"]) & (frame["part"] == "test") & (frame["metric"] == "auc")]
    assert chosen["value"].tolist() == [record["test"]["auc"]]


def test_synthetic_never_meets_real(results: Path) -> None:
    """Synthetic records have stamped tables of their own; the real tables do not know them."""
    content = render(results, DRAWN)
    tables, pages = content.tables, content.pages
    stamped = 0
    for name, content in {**tables, **pages}.items():
        if Path(name).name.startswith("SYNTHETIC_"):
            assert b"SYNTHETIC" in content or name.endswith(".csv")
            stamped += b"synthetic-breastmnist" in content
            if name.endswith(".md"):
                assert content.decode().count("SYNTHETIC") >= 2
            if name == "SYNTHETIC_table3.csv":
                assert content.startswith(b"# SYNTHETIC")
        else:
            assert b"synthetic-breastmnist" not in content, name
    assert stamped > 12
    assert "claims.md" in pages
    assert not [name for name in pages if name.startswith("SYNTHETIC_claims")]
    assert {"SYNTHETIC_table3.md", "SYNTHETIC_table3.csv"} <= set(pages)
    assert {"SYNTHETIC_scores.csv", "SYNTHETIC_runs.csv"} <= set(tables)


def test_a_stale_record_enters_no_table_unnoticed(results: Path) -> None:
    """It is left out and named."""
    make_run(results, REAL[1], model_fingerprint="1" * 64)
    content = render(results)
    tables, pages, notes = content.tables, content.pages, content.notes
    assert REAL[1].run_id.encode() not in tables["scores.csv"]
    assert "(n=2)" not in pages["table3.md"].decode()
    assert [REAL[1].run_id in note and "stale" in note for note in notes if note.startswith("left out")] == [True]


def test_a_damaged_record_is_left_out_and_named(results: Path) -> None:
    """The others' tables go on without it."""
    REAL[0].path(results).write_bytes(b"{")
    content = render(results)
    tables, notes = content.tables, content.notes
    assert REAL[0].run_id.encode() not in tables["scores.csv"]
    assert REAL[1].run_id.encode() in tables["scores.csv"]
    assert ["seed0.json" in note for note in notes if note.startswith("left out")] == [True]
