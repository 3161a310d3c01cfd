"""Verify finds a sweep that is not what it says: nothing is trained for it, the rule alone is asked again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import api
from bench.check.contribution import check_contribution
from bench.check.merge import merge
from bench.errors import RecordError
from bench.protocols.halving import halve
from bench.protocols.schema import Protocol
from bench.records.names import Run
from bench.records.run_record import STORE_FILE
from bench.records.sealed import pretty, read_json, write_atomic, write_sealed
from bench.records.tuning.record import TuningRecord, read_tunings, tuning_path, write_tuning
from tests.making import make_run
from tests.sweeps import VALUES, make_sweep, make_trials, smoke_grid

Content = dict[str, Any]


def _problems(results: Path) -> list[str]:
    return [line for line in api.verify(results).problems if "tuning" in line or "tuned" in line or "sweep" in line]


def test_a_whole_sweep_has_no_problem(tmp_path: Path) -> None:
    """By hand: of four trials two go on; the third value of none is seen, for the grid has two epochs."""
    grid = smoke_grid(tmp_path)
    record = make_sweep(tmp_path / "mine", grid)
    assert [trial.epochs for trial in record.trials] == [1, 2, 1, 2]
    assert record.choice == 1
    assert VALUES[1][1] == max(value for trial in record.trials for value in trial.curves["val_auc"])  # type: ignore[type-var]
    assert _problems(tmp_path / "mine") == []


@pytest.mark.parametrize(("dataset", "what"), [("synthetic-breastmnist", "synthetic"), ("own-cells", "own data")])
def test_a_store_of_real_records_takes_sweeps_on_real_data_alone(tmp_path: Path, dataset: str, what: str) -> None:
    """As it takes runs and cards."""
    record = make_sweep(tmp_path / "other", smoke_grid(tmp_path), dataset=dataset)
    store = tmp_path / "store"
    store.mkdir()
    (store / STORE_FILE).write_text('{"real_only": true}', encoding="utf-8")
    with pytest.raises(RecordError, match=f"{dataset}__lrs is {what} and .* holds real records only"):
        write_tuning(store, record)
    assert [path.name for path in store.iterdir()] == [STORE_FILE]


def _other_choice(content: Content) -> None:
    content["choice"] = 3


def _other_values(content: Content) -> None:
    content["trials"][0]["curves"]["val_auc"] = [0.99]


def _one_epoch_more(content: Content) -> None:
    for name, curve in content["trials"][0]["curves"].items():
        content["trials"][0]["curves"][name] = [*curve, curve[0]]
    content["epochs"] += 1


def _one_trial_less(content: Content) -> None:
    content["trials"].pop(2)


def _another_recipe(content: Content) -> None:
    content["trials"][1]["params"]["optim.lr"] = 0.5


def _another_digest(content: Content) -> None:
    content["trials"][1]["protocol_digest"] = "0" * 64


def _more_budget(content: Content) -> None:
    content["rules"]["budget"]["reduction"] = 4


def _no_rules(content: Content) -> None:
    content["rules"] = {}


def _another_protocol(content: Content) -> None:
    content["protocol_digest"] = "0" * 64


def _test_labels(content: Content) -> None:
    content["labels_digest"]["test"] = content["labels_digest"]["val"]


DAMAGE = {
    "choice": (_other_choice, "the choice is trial 3, val_auc on val gives 1"),
    "values": (_other_values, "trials 0 were not trained to 2 epochs"),
    "more epochs": (_one_epoch_more, "trial 0 has 2 epochs, the rule gives it 1"),
    "trials": (_one_trial_less, "its trials are not the 4 that the grid and its seed give"),
    "recipe": (_another_recipe, "its trials are not the 4 that the grid"),
    "digest": (_another_digest, "trial 1: protocol_digest is not that of its rules"),
    "budget": (_more_budget, "grid, grid_digest or seed are not those of its rules"),
    "rules": (_no_rules, "rules are no grid"),
    "protocol": (_another_protocol, "protocol and protocol_digest are not those of the trial"),
    "test": (_test_labels, "a sweep sees train and val"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_sealed_lie_is_found(case: str, tmp_path: Path) -> None:
    """Sealed anew, so that no digest gives it away."""
    damage, said = DAMAGE[case]
    record = make_sweep(tmp_path / "mine", smoke_grid(tmp_path))
    content = record.model_dump(mode="json")
    damage(content)
    path = tuning_path(tmp_path / "mine", record.grid, record.model, record.dataset)
    write_atomic(path, pretty(TuningRecord.model_validate(content).sealed().model_dump(mode="json")))
    assert any(said in line for line in _problems(tmp_path / "mine")), _problems(tmp_path / "mine")


@pytest.mark.parametrize("choice", [4, 99])
def test_a_choice_of_no_trial_is_no_record(choice: int, tmp_path: Path) -> None:
    """Sealed as it is: verify names the file, and a report leaves it out with the reason."""
    record = make_sweep(tmp_path / "mine", smoke_grid(tmp_path))
    path = tuning_path(tmp_path / "mine", record.grid, record.model, record.dataset)
    write_sealed(path, record.model_copy(update={"choice": choice}))
    said = f"choice is trial {choice} of 4, which are counted from 0"
    assert any(said in line for line in _problems(tmp_path / "mine")), _problems(tmp_path / "mine")
    records, notes = read_tunings(tmp_path / "mine")
    assert records == []
    assert [said in note for note in notes] == [True]


def test_a_changed_file_and_a_stray_one_are_found(tmp_path: Path) -> None:
    """The seal covers every value; a file that is no record has no place there."""
    record = make_sweep(tmp_path / "mine", smoke_grid(tmp_path))
    path = tuning_path(tmp_path / "mine", record.grid, record.model, record.dataset)
    write_atomic(path, pretty({**read_json(path), "epochs": 7}))
    path.with_name("notes.txt").write_text("mine", encoding="utf-8")
    problems = "\n".join(_problems(tmp_path / "mine"))
    assert "record_digest does not fit the content" in problems
    assert "notes.txt: left by a killed writer or put there by hand" in problems


def test_one_name_is_one_budget(tmp_path: Path) -> None:
    """Two models under one grid's name with another number of epochs had different chances."""
    grid = smoke_grid(tmp_path)
    make_sweep(tmp_path / "mine", grid)
    once = grid.model_copy(update={"budget": grid.budget.model_copy(update={"reduction": 4})})
    values = [trial.curves["val_auc"] for trial in make_trials(once)]
    choice = halve(once.budget, values).choice
    assert choice is not None
    chosen = once.tuned_protocol(once.trials()[choice], "timm/resnet26", "breastmnist")
    trials = [trial.model_dump(mode="json") for trial in make_trials(once)]
    changes = {"trials": trials, "choice": choice, "epochs": sum(len(v) for v in values), "protocol": chosen.name}
    make_sweep(tmp_path / "mine", once, "timm/resnet26", **changes, protocol_digest=chosen.digest())
    (line,) = _problems(tmp_path / "mine")
    assert "another grid or budget than the other sweeps of lrs" in line


def _tuned_run(results: Path, chosen: Protocol, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A finished run under a chosen protocol."""
    from bench.protocols import loading

    monkeypatch.setitem(loading._by_path, chosen.name, chosen)
    run = Run(chosen.name, "resnet18_28", "breastmnist", 0)
    make_run(results, run)
    return run


def _leave(results: Path, record: TuningRecord) -> str:
    return ""


def _remove(results: Path, record: TuningRecord) -> str:
    tuning_path(results, record.grid, record.model, record.dataset).unlink()
    return "tuned, but there is no sweep over lrs for it"


def _choose_another(results: Path, record: TuningRecord) -> str:
    values = [list(reversed(value)) for value in VALUES]
    grid = record.grid_rules
    trials = make_trials(grid, values)
    choice = halve(grid.budget, [trial.curves["val_auc"] for trial in trials]).choice
    assert choice not in (None, record.choice)
    chosen = grid.tuned_protocol(trials[choice or 0].params, record.model, record.dataset)
    changes = {"trials": [trial.model_dump(mode="json") for trial in trials], "choice": choice}
    make_sweep(results, grid, protocol=chosen.name, protocol_digest=chosen.digest(), **changes)
    return "its recipe is not what the sweep over lrs chose"


@pytest.mark.parametrize("change", [_leave, _remove, _choose_another])
def test_a_tuned_run_has_its_sweep(
    change: Callable[[Path, TuningRecord], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recipe that no sweep of the folder chose is no tuned one."""
    results = tmp_path / "mine"
    record = make_sweep(results, smoke_grid(tmp_path))
    _tuned_run(results, record.chosen, monkeypatch)
    said = change(results, record)
    problems = _problems(results)
    assert (said == "" and not problems) or any(said in line for line in problems), problems


def test_a_sweep_over_other_rules_or_labels_is_stale(tmp_path: Path) -> None:
    """It is named as stale, and no problem, when the protocol beneath or the data changed since."""
    grid = smoke_grid(tmp_path)
    base = grid.base.model_copy(update={"optim": grid.base.optim.model_copy(update={"lr": 0.5})})
    make_sweep(tmp_path / "mine", grid.model_copy(update={"base": base}))
    findings = api.verify(tmp_path / "mine")
    assert findings.problems == []
    assert any("the protocol smoke changed" in line for line in findings.stale)


def test_sweeps_are_merged_and_contributed_like_other_evidence(tmp_path: Path) -> None:
    """Whole, once, and with a word to the maintainer; a contradicting one is refused."""
    grid = smoke_grid(tmp_path)
    shard, target, base = tmp_path / "shard", tmp_path / "target", tmp_path / "base"
    record = make_sweep(shard, grid)
    make_run(shard, Run("smoke", "resnet18_28", "breastmnist", 0))
    merge([shard], target)
    assert _problems(target) == []
    (base / "records").mkdir(parents=True)
    contribution = check_contribution(target, base)
    name = tuning_path(Path(), record.grid, record.model, record.dataset)
    assert any(f"{name}: a choice by curves on val" in line for line in contribution.notices)
    assert not any("tuning" in line for line in contribution.problems)
    make_sweep(shard, grid, suite_version="0.0.9")
    with pytest.raises(Exception, match="differ; keep the one that you trust"):
        merge([shard], target)
