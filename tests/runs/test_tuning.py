"""`medbench tune`: a recipe for each model with the same budget, chosen on val, whatever was killed or ran at once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from bench import api
from bench.cli.app import app
from bench.data import loading, own
from bench.data.card import measure
from bench.data.loading import Arrays, load
from bench.errors import BenchError
from bench.protocols.grid import load_grid
from bench.protocols.loading import load_study
from bench.records.names import Run, history_path
from bench.records.run_record import read_records
from bench.records.tuning.record import TuningRecord, read_tuning, tuning_path
from bench.runs.request import Event, Hooks
from bench.runs.tuning.sweep import Sweeps, Tuned, TuneWatcher
from bench.runs.tuning.trial import TrialRequest, train_and_val, train_trial
from models.catalog import ModelError
from tests.own_data import make_arrays, write_set
from tests.sweeps import GRID, write_grid

SET = "synthetic-breastmnist"
MODELS = ("tuned_net", "tuned_net_wide")
NETS = '''
"""Two small nets."""
from torch import nn
from models import register_model


@register_model(paper="none", source="a test", code_license="MIT")
def tuned_net(*, num_classes, in_chans=3, img_size=28, pretrained=False, width=4):
    return nn.Sequential(nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(49 * in_chans, width), nn.ReLU(),
                         nn.Dropout(0.1), nn.Linear(width, num_classes))


@register_model(paper="none", source="a test", code_license="MIT")
def tuned_net_wide(*, num_classes, in_chans=3, img_size=28, pretrained=False):
    return tuned_net(num_classes=num_classes, in_chans=in_chans, width=16)
'''
COMMAND = (sys.executable, "-m", "bench.cli")
LOW, HIGH = "[1e-4, 1e-3, 1e-2, 1e-1]", "[1e-3, 1e30]"


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plugin; a model's name is of one file."""
    path = tmp_path_factory.mktemp("plugin") / "nets.py"
    path.write_text(NETS, encoding="utf-8")
    return path


@pytest.fixture
def bench_of(tmp_path: Path, nets: Path) -> Path:
    """A folder with a grid, the protocol that it extends, and the plugin."""
    return _furnish(tmp_path, nets)


def _tune(folder: Path, models: Sequence[str] = MODELS[:1], dataset: str = SET, **options: Any) -> Tuned:
    """Tune in a folder as `bench_of` makes them, into `mine` below it; `events` takes what is reported."""
    noted: list[Event] = options.pop("events", [])
    sweeps = Sweeps(folder / "lrs.toml", tuple(models), (dataset,), plugins=(folder / "nets.py",))
    launch = api.Launch(results=folder / "mine", jobs=options.pop("jobs", 1))
    return api.tune(sweeps, launch, TuneWatcher(on_event=noted.append))


def _furnish(folder: Path, nets: Path) -> Path:
    write_grid(folder)
    (folder / "nets.py").symlink_to(nets)
    return folder


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, nets: Path) -> Path:
    """A folder with the sweeps of both models, three trials at once."""
    folder = _furnish(tmp_path_factory.mktemp("swept"), nets)
    _tune(folder, MODELS, jobs=3)
    return folder


@pytest.fixture
def copy_of(swept: Path, tmp_path: Path) -> Path:
    """The same, for a test to change."""
    return shutil.copytree(swept, tmp_path / "copy", symlinks=True)


def _words(folder: Path) -> list[str]:
    """The command line that tunes the first model in a folder."""
    words = ["tune", str(folder / "lrs.toml"), "--models", MODELS[0], "--datasets", SET, "--device", "cpu"]
    return [*words, "--plugin", str(folder / "nets.py"), "--results", str(folder / "mine")]


def _record(folder: Path, model: str = MODELS[0], dataset: str = SET) -> TuningRecord:
    return read_tuning(tuning_path(folder / "mine", "lrs", model, dataset))


def _measured(record: TuningRecord) -> dict[str, Any]:
    """What a sweep measured and chose; when and where is left out."""
    return record.model_dump(include={"grid_digest", "trials", "choice", "epochs", "protocol_digest", "model"})


def test_every_model_gets_the_same_budget_and_its_best_val_curve_is_chosen(swept: Path) -> None:
    """By hand: four trials train an epoch, the best two of them a second, the best of those all four."""
    budget = load_grid(swept / "lrs.toml").budget
    for model in MODELS:
        record = _record(swept, model)
        assert sorted(trial.epochs for trial in record.trials) == [1, 1, 2, 4]
        assert record.epochs == budget.epochs(4) == 8
        firsts = [trial.curves["val_auc"][0] or 0.0 for trial in record.trials]
        best_two = {n for n, trial in enumerate(record.trials) if trial.epochs > 1}
        assert min(firsts[n] for n in best_two) >= max(firsts[n] for n in range(4) if n not in best_two)
        seconds = {n: max(value or 0.0 for value in record.trials[n].curves["val_auc"][:2]) for n in best_two}
        assert seconds[record.choice] == max(seconds.values())
        assert record.trials[record.choice].epochs == 4
    assert not any((swept / "mine" / "checkpoints").iterdir())


def test_the_study_runs_to_the_curves_that_were_chosen(copy_of: Path) -> None:
    """The runs of the chosen protocols repeat their trials bit for bit, hold the rules whole, and verify."""
    results, study = copy_of / "mine", copy_of / "tuned-lrs" / "tuned.toml"
    protocols = {name for part in load_study(str(study)).parts for name in part.protocols}
    assert protocols == {_record(copy_of, model).protocol for model in MODELS}
    selection = api.Selection(study=str(study), plugins=(copy_of / "nets.py",))
    assert api.run(selection, api.Launch(results=results, jobs=2)).ok
    for model in MODELS:
        record = _record(copy_of, model)
        run = Run(record.protocol, model, SET, record.seed)
        history = pd.read_parquet(history_path(run.path(results)))
        assert history["val_auc"].tolist() == record.trials[record.choice].curves["val_auc"]
    done = read_records(results)[0]
    assert [record.resolved_protocol["tuned"]["grid_digest"] for record in done] == [record.grid_digest] * len(MODELS)
    assert api.verify(results, scores=True).problems == []


def test_what_was_done_is_not_done_again(copy_of: Path) -> None:
    """The record stands, and the files of its choice are made again from it."""
    protocol = copy_of / "tuned-lrs" / f"{_record(copy_of).protocol}.toml"
    text = protocol.read_text(encoding="utf-8")
    protocol.unlink()
    events: list[Event] = []
    assert _tune(copy_of, events=events).records == [_record(copy_of)]
    assert events == []
    assert protocol.read_text(encoding="utf-8") == text


def test_killed_and_resumed_equals_uninterrupted(bench_of: Path, swept: Path) -> None:
    """After SIGKILL the same command trains what is left, and chooses what it would have, however many ran at once."""
    results = bench_of / "mine"
    driver = subprocess.Popen([*COMMAND, *_words(bench_of)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal = results / "checkpoints" / f"tuning__{MODELS[0]}__{SET}__lrs" / "trials.json"
    deadline = time.monotonic() + 240
    while not (journal.exists() and len(json.loads(journal.read_text())["curves"]) >= 2):
        assert driver.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    done = sum(map(bool, json.loads(journal.read_text())["curves"].values()))
    assert not (results / "tuning").exists()
    events: list[Event] = []
    (resumed,) = _tune(bench_of, events=events).records
    assert _measured(resumed) == _measured(_record(swept))
    assert sum(event.kind == "started" for event in events) <= (4 - done) + 2 + 1


def test_a_recipe_that_diverges_is_not_chosen(bench_of: Path) -> None:
    """It is noted with the reason, and takes no more of the budget; where none is left, one line says so."""
    write_grid(bench_of, GRID.replace(LOW, HIGH))
    record = _tune(bench_of).records[0]
    assert "not finite" in record.trials[1].diverged
    assert (record.choice, record.trials[1].epochs) == (0, 0)
    assert api.verify(bench_of / "mine").problems == []
    write_grid(bench_of, GRID.replace(LOW, "[1e30, 1e31]"))
    shutil.rmtree(bench_of / "mine")
    with pytest.raises(BenchError, match="no trial was left to choose from: the loss is not finite"):
        _tune(bench_of)


def test_a_trial_that_fails_otherwise_ends_the_sweep(bench_of: Path) -> None:
    """A broken model says nothing of its recipe: the error names the line, and nothing is chosen."""
    (bench_of / "nets.py").unlink()
    broken = NETS.replace("nn.Dropout(0.1)", "nn.Linear(3, 3)").replace("tuned_net", "broken_net")
    (bench_of / "nets.py").write_text(broken, encoding="utf-8")
    with pytest.raises(BenchError, match="a trial, failed: error: RuntimeError"):
        _tune(bench_of, models=("broken_net",))
    assert not (bench_of / "mine" / "tuning").exists()


def _trial(folder: Path) -> TrialRequest:
    grid = load_grid(folder / "lrs.toml")
    protocol = grid.trial_protocol(grid.trials()[2], 2)
    run = Run(protocol.name, MODELS[0], SET, 0)
    return TrialRequest(run, protocol, measure(SET), plugins=(str(folder / "nets.py"),), until=2)


def test_a_trial_never_reads_test(bench_of: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a test split in the data it trains and scores all the same; with one it is dropped at once."""
    request = _trial(bench_of)
    assert set(train_and_val(request).images) == set(train_and_val(request).labels) == {"train", "val"}
    whole = train_trial(request, Hooks())
    original = load

    def without_test(*arguments: Any, **options: Any) -> Arrays:
        arrays = original(*arguments, **options)
        kept = {"images": dict(arrays.images), "labels": dict(arrays.labels)}
        return replace(
            arrays, **{kind: {s: a for s, a in parts.items() if s != "test"} for kind, parts in kept.items()}
        )

    monkeypatch.setattr(loading, "load", without_test)
    blind = train_trial(request, Hooks())
    assert whole.record.status == blind.record.status == "done"
    assert whole.history == blind.history
    assert blind.predictions is None
    assert blind.record.test is None


def test_other_test_images_change_nothing(bench_of: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two data sets with one train and val, and other pixels and labels of test: the same curves, the same choice."""
    arrays = make_arrays()
    swapped = {**arrays, "test_images": 255 - arrays["test_images"], "test_labels": arrays["test_labels"][::-1].copy()}
    records = []
    for name, content in (("one", arrays), ("other", swapped)):
        monkeypatch.setattr(own, "_cards", {})
        card = write_set(bench_of / name, arrays=content)
        tuned = _tune(bench_of, dataset=str(card))
        assert tuned.files.study is None  # a study rests on data that everybody can get
        records += tuned.records
        shutil.rmtree(bench_of / "mine")
    assert _measured(records[0]) == _measured(records[1])
    assert records[0].labels_digest == records[1].labels_digest


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ("floor/knn1", "floor/knn1 is fitted, not trained"),
        ("tuned_nett", "Did you mean 'tuned_net'"),
        ("tuned*nothing", "matches no model"),
    ],
)
def test_a_model_that_cannot_be_tuned_is_refused_in_one_line(bench_of: Path, models: str, said: str) -> None:
    """Before anything is trained."""
    with pytest.raises((BenchError, ModelError)) as caught:
        _tune(bench_of, models=(models,))
    assert said.lower() in str(caught.value).lower()
    assert len(str(caught.value).splitlines()) == 1


def test_a_grid_is_frozen_under_its_name(copy_of: Path) -> None:
    """Other values under the name of a recorded grid are refused, as is a changed file of what was chosen."""
    path = copy_of / "tuned-lrs" / f"{_record(copy_of).protocol}.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("[tuned]", "score_last = true\n[tuned]"), encoding="utf-8")
    with pytest.raises(BenchError, match="is not what the sweep chose; remove it"):
        _tune(copy_of)
    path.write_text(text, encoding="utf-8")
    write_grid(copy_of, GRID.replace("1e-4", "2e-4"))
    with pytest.raises(BenchError, match="another grid of the name lrs; rename the grid file"):
        _tune(copy_of)


def test_a_tuned_protocol_is_for_its_model_alone(swept: Path) -> None:
    """On another model it would be nobody's choice."""
    path = swept / "tuned-lrs" / f"{_record(swept).protocol}.toml"
    selection = api.Selection(protocols=(str(path),), models=MODELS, datasets=(SET,), plugins=(swept / "nets.py",))
    with pytest.raises(BenchError, match=f"was tuned for {MODELS[0]} on {SET}, not for {MODELS[1]}"):
        api.plan(selection, swept / "mine")


def test_the_command_prints_the_choice_and_what_comes_next(swept: Path) -> None:
    """With what it cost, and the command that runs it; as JSON too."""
    record = _record(swept)
    shown = CliRunner().invoke(app, _words(swept))
    assert shown.exit_code == 0, shown.output
    assert f"{MODELS[0]} on {SET}: optim.lr = {record.trials[record.choice].params['optim.lr']}" in shown.output
    assert "4 trials, 0 diverged, 8 epochs" in shown.output
    assert f"medbench run --protocol {swept / 'tuned-lrs' / record.protocol}.toml" in shown.output
    (row,) = json.loads(CliRunner().invoke(app, [*_words(swept), "--json"]).stdout)["sweeps"]
    assert (row["model"], row["epochs"], row["protocol"]) == (MODELS[0], 8, record.protocol)


def test_a_bad_grid_is_one_line_and_exit_code_2(bench_of: Path) -> None:
    """As every mistake that a user can mend."""
    write_grid(bench_of, GRID.replace("rungs", 'metric = "test_acc"\nrungs'))
    ended = subprocess.run([*COMMAND, *_words(bench_of)], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert len(ended.stderr.strip().splitlines()) == 1
    assert "test data chooses nothing" in ended.stderr
