"""A data set of one's own goes the whole way: run, verified, reported, and never beside the official ones."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench import api
from bench.check.merge import merge
from bench.cli.app import app
from bench.data import own
from bench.errors import BenchError
from bench.records.card import read_card
from bench.records.names import Run
from bench.records.run_record import STORE_FILE, read_records
from bench.report.contents import render
from bench.report.published.names import model_name
from tests.making import make_run
from tests.own_data import CARD, make_arrays, write_set

MODELS = ("floor/knn1", "resnet18_28")


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins in a process that knows no set."""
    monkeypatch.setattr(own, "_cards", {})


def _selection(card: Path, models: tuple[str, ...] = MODELS, protocol: str = "smoke") -> api.Selection:
    return api.Selection(protocols=(protocol,), models=models, datasets=(str(card),))


def test_the_whole_way(tmp_path: Path) -> None:
    """A fitted model and a network: run once, done then, whole with their scores, in a table of their own."""
    card, results = write_set(tmp_path / "set"), tmp_path / "mine"
    chosen = _selection(card)
    outcome = api.run(chosen, api.Launch(results=results, jobs=1))
    assert outcome.ok, [record.failure for record in outcome.records]
    assert {record.dataset for record in outcome.records} == {"own-cells"}
    assert {item.state for item in api.plan(chosen, results)} == {"done"}
    findings = api.verify(results, scores=True)
    assert (findings.problems, findings.stale, findings.rescored) == ([], [], 2)
    measured = read_card(results, "own-cells")
    assert measured is not None
    assert {record.data_md5 for record in outcome.records} == {measured.md5}
    built = api.report(results, tmp_path / "reports")
    texts = {path.name: path.read_text(encoding="utf-8", errors="replace") for path in built.files}
    page = texts["own_data.md"]
    for record in outcome.records:
        assert record.test is not None
        (row,) = [
            line for line in page.splitlines() if line.startswith(f"| {model_name(record.model)} ") and "[" in line
        ][:1]
        assert f"[{record.test['auc']:.3f}" in row.replace("**", "")
    rows = list(csv.DictReader(texts["own_data.csv"].splitlines()[1:]))
    assert {row["model"] for row in rows} == set(MODELS)
    for name, text in texts.items():
        lines = [line for line in text.splitlines() if "own-cells" in line and not name.startswith("own_data")]
        assert all("own data, in own_data.md and nowhere else" in line for line in lines), name


def test_changed_data_is_noticed(tmp_path: Path) -> None:
    """A run on other pixels under the same name is refused in one line; a new card makes the old runs stale."""
    card, results = write_set(tmp_path / "set"), tmp_path / "mine"
    chosen = _selection(card, ("floor/prior",))
    assert api.run(chosen, api.Launch(results=results, jobs=1)).ok
    arrays = make_arrays()
    arrays["test_images"][0] ^= 1
    write_set(tmp_path / "set", arrays=arrays)
    more = _selection(card, ("floor/knn1",))
    with pytest.raises(BenchError, match="images, labels or splits; give the set another name") as caught:
        api.run(more, api.Launch(results=results, jobs=1))
    assert len(str(caught.value).splitlines()) == 1
    assert (
        CliRunner().invoke(app, ["measure", "data", "--datasets", str(card), "--results", str(results)]).exit_code == 0
    )
    (item,) = api.plan(chosen, results)
    assert (item.state, item.reason) == ("stale", "the data changed")
    assert b"stale: the data changed" in render(results).pages["own_data.md"]


def test_gray_images_of_another_size_run_under_native_channels(tmp_path: Path) -> None:
    """The network gets the set's own channel, at the protocol's size; a seeded split runs like any other."""
    arrays = make_arrays(channels=1, size=33)
    card = write_set(tmp_path / "set", CARD.replace("channels = 3", "channels = 1"), arrays)
    protocol = tmp_path / "native.toml"
    rules = (Path(api.__file__).parent / "protocols" / "smoke.toml").read_text(encoding="utf-8")
    protocol.write_text(rules.replace('channels = "rgb"', 'channels = "native"'), encoding="utf-8")
    outcome = api.run(_selection(card, ("resnet18_28",), str(protocol)), api.Launch(results=tmp_path / "mine", jobs=1))
    assert outcome.ok, [record.failure for record in outcome.records]
    assert api.verify(tmp_path / "mine", scores=True).problems == []


def _merged(results: Path, source: Path) -> None:
    merge([source], results)


def _run(results: Path, source: Path) -> None:
    api.run(_selection(source.parent / "set" / "card.toml"), api.Launch(results=results, jobs=1))


@pytest.mark.parametrize("enter", [_merged, _run])
def test_a_store_of_official_data_takes_none(tmp_path: Path, enter: Callable[[Path, Path], None]) -> None:
    """By a run or by a merge; one that stands there all the same is a problem for verify."""
    write_set(tmp_path / "set")
    source, results = tmp_path / "mine", tmp_path / "results"
    make_run(source, Run("smoke", "floor/prior", "own-cells", 0))
    results.mkdir()
    (results / STORE_FILE).write_text(json.dumps({"real_only": True}), encoding="utf-8")
    with pytest.raises(BenchError, match="own data"):
        enter(results, source)
    assert read_records(results)[0] == []
    (source / STORE_FILE).write_text(json.dumps({"real_only": True}), encoding="utf-8")
    problems = " ".join(api.verify(source).problems)
    assert "an own data record in a store of real ones" in problems
    assert "own data in a store of official sets" in problems


def test_own_rows_enter_no_mean_of_an_official_table(tmp_path: Path) -> None:
    """With and without them, every other file is the same but for the note and the first page's link to them."""
    make_run(tmp_path / "a", Run("smoke", "floor/prior", "breastmnist", 0))
    before = render(tmp_path / "a")
    make_run(tmp_path / "a", Run("smoke", "floor/prior", "own-cells", 0))
    after = render(tmp_path / "a")
    assert set(after.pages) - set(before.pages) == {f"own_data.{end}" for end in ("md", "tex", "csv", "html")}
    assert after.tables == before.tables
    changed = {name for name in before.pages if before.pages[name] != after.pages[name]}
    assert changed == {"index.html", "trust.html"}
    link = '<li><a href="own_data.html">Own data</a> runs on data sets that are not MedMNIST’s</li>'
    assert after.pages["index.html"].decode().replace(f"{link}\n", "") == before.pages["index.html"].decode()
    note = re.compile(r"<li>own data, in own_data.md and nowhere else: 1 run on own-cells</li>")
    assert note.search(after.pages["trust.html"].decode())


def test_the_commands_make_and_check_a_set(tmp_path: Path) -> None:
    """`data import` prints what `--datasets` takes; `data check` names a fault."""
    from PIL import Image

    arrays = make_arrays(size=12)
    for index, (image, label) in enumerate(zip(arrays["train_images"], arrays["train_labels"].ravel(), strict=True)):
        folder = tmp_path / "in" / f"class {label}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{index}.png")
    call = ["data", "import", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--size", "12", "--seed", "1"]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    assert f"--datasets {tmp_path / 'out' / 'card.toml'}" in done.output.replace("\n", "")
    checked = CliRunner().invoke(app, ["data", "check", str(tmp_path / "out")])
    assert re.match(
        r"own-in: train 18, val 6, test 6; 12 px, 3 channels; 0 test images .*; MD5 [0-9a-f]{32}\n", checked.output
    )
    refused = CliRunner().invoke(app, [*call[:3], "--out", str(tmp_path / "new"), "--val", "2"])
    assert isinstance(refused.exception, BenchError)
    assert "val: " in str(refused.exception)
