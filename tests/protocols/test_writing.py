"""A recipe of one's own: written once, checked by the schema, used by its file's name."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.cli.app import app
from bench.errors import ProtocolError
from bench.protocols.loading import load_protocol
from bench.protocols.writing import new_protocol, setting_rules


def test_a_file_extends_a_protocol_and_sets_what_was_said(tmp_path: Path) -> None:
    """Numbers, words, truths, lists and tables; everything else is the other protocol's."""
    settings = ["schedule.epochs=40", "optim.name=sgd", "score_last=true", "data.mean=[0.4]", "data.std=[0.2]"]
    made = new_protocol(tmp_path / "longer.toml", "lite-96", [*settings, "optim.lr=1e-3"])
    loaded, base = load_protocol(str(made.path)), load_protocol("lite-96")
    assert loaded == made.protocol
    assert loaded.digest() == made.protocol.digest() != base.digest()
    assert (loaded.schedule.epochs, loaded.optim.name, loaded.score_last, loaded.data.mean) == (40, "sgd", True, (0.4,))
    assert loaded.augment == base.augment
    assert f"schedule.epochs: {base.schedule.epochs} -> 40" in made.changes
    assert tomllib.loads(made.path.read_text(encoding="utf-8"))["extends"] == "lite-96"


def test_a_file_extends_one_beside_it_and_one_elsewhere(tmp_path: Path) -> None:
    """By name, so that the folder can be moved, or by its path."""
    first = new_protocol(tmp_path / "first-own.toml", "smoke", ["schedule.epochs=3"])
    beside = new_protocol(tmp_path / "second-own.toml", str(first.path), ["optim.lr=0.5"])
    (tmp_path / "below").mkdir()
    elsewhere = new_protocol(tmp_path / "below" / "third-own.toml", str(first.path), ["optim.lr=0.25"])
    assert beside.protocol.schedule.epochs == elsewhere.protocol.schedule.epochs == 3
    assert tomllib.loads(beside.path.read_text(encoding="utf-8"))["extends"] == "first-own"
    assert load_protocol(str(elsewhere.path)).optim.lr == 0.25


REFUSED = {
    "taken": ("smoke.toml", "lite-96", ["schedule.epochs=3"], "the name 'smoke' is taken by a protocol of the suite"),
    "member": ("few-96-n5-d0.toml", "lite-96", ["schedule.epochs=3"], "is taken by a protocol of the suite"),
    "no toml": ("mine.txt", "lite-96", ["schedule.epochs=3"], "ends in .toml"),
    "name": ("My_Own.toml", "lite-96", ["schedule.epochs=3"], "small letters, digits"),
    "parent": ("own-a.toml", "lite-69", ["schedule.epochs=3"], "did you mean 'lite-96'"),
    "family": ("own-b.toml", "few-96-n5-d0", ["schedule.epochs=3"], "member of the family few-96"),
    "key": ("own-c.toml", "lite-96", ["schedule.epoch=3"], "unknown key 'schedule.epoch'; did you mean 'epochs'"),
    "value": ("own-d.toml", "lite-96", ["schedule.epochs=0"], "schedule.epochs = 0 is refused"),
    "type": ("own-e.toml", "lite-96", ["optim.name=sdg"], "optim.name = 'sdg' is refused"),
    "nothing": ("own-f.toml", "lite-96", [], "nothing differs from lite-96"),
    "prose": ("own-g.toml", "lite-96", ["description=mine"], "nothing differs from lite-96"),
    "no value": ("own-h.toml", "lite-96", ["schedule.epochs"], "write KEY=VALUE"),
    "no TOML": ("own-i.toml", "lite-96", ["schedule.epochs=4 0"], "write a number, true"),
    "extends": ("own-j.toml", "lite-96", ["extends=smoke"], "--extends names the other"),
    "folder": ("nowhere/own-k.toml", "lite-96", ["schedule.epochs=3"], "Cannot write"),
    "date": ("own-l.toml", "lite-96", ["schedule.epochs=2026-01-01"], "is refused"),
    "line": ("own-m.toml", "lite-96", ["schedule.epochs=3\nx=1"], "write a number, true"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_a_protocol_is_refused(case: str, tmp_path: Path) -> None:
    """One line that says what would do, and no file."""
    file, parent, settings, says = REFUSED[case]
    with pytest.raises(ProtocolError) as caught:
        new_protocol(tmp_path / file, parent, settings)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.toml"))


def test_nothing_is_written_over(tmp_path: Path) -> None:
    """A file that is there stays as it is: a protocol is frozen under its name."""
    path = tmp_path / "own-kept.toml"
    path.write_text("# mine", encoding="utf-8")
    with pytest.raises(ProtocolError, match="is there already"):
        new_protocol(path, "lite-96", ["schedule.epochs=3"])
    assert path.read_text(encoding="utf-8") == "# mine"


def test_settings_are_tables() -> None:
    """A dotted key is a table in a table."""
    assert setting_rules("a.b.c = [1, 2]") == {"a": {"b": {"c": [1, 2]}}}


def test_the_command_prints_the_digest_and_plan_takes_the_file(tmp_path: Path) -> None:
    """Written by the command, known by its file to plan."""
    path = tmp_path / "own-plan.toml"
    made = CliRunner().invoke(app, ["protocol", "new", str(path), "--extends", "smoke", "--set", "schedule.epochs=3"])
    assert made.exit_code == 0, made.output
    digest = load_protocol(str(path)).digest()
    assert digest in made.output
    arguments = ["--models", "resnet18_28", "--datasets", "synthetic-bloodmnist", "--results", str(tmp_path / "mine")]
    planned = CliRunner().invoke(app, ["plan", "--protocol", str(path), *arguments])
    assert planned.exit_code == 0, planned.output
    assert "1 missing" in planned.output
