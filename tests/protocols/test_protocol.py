"""Protocols and studies: strict, frozen, digested."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.errors import ProtocolError
from bench.protocols.loading import PROTOCOL_DIR, STUDY_DIR, list_protocols, list_studies, load_protocol, load_study
from bench.protocols.schema import AugmentRules, Protocol

SMOKE = (PROTOCOL_DIR / "smoke.toml").read_text(encoding="utf-8")

# A protocol's name is frozen: whoever moves one of these digests must make a new file instead. Records name them.
FROZEN = json.loads((Path(__file__).parents[1] / "goldens" / "protocol_digests.json").read_text(encoding="utf-8"))


def write(folder: Path, text: str, name: str = "mine") -> str:
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", list_protocols())
def test_every_protocol_loads(name: str) -> None:
    """The suite's own files obey their own rules."""
    protocol = load_protocol(name)
    assert protocol.name == name
    assert protocol.description


def test_a_name_is_frozen() -> None:
    """A changed protocol is a new file: the digests of the published ones do not move."""
    assert {name: load_protocol(name).digest() for name in list_protocols()} == FROZEN


@pytest.mark.parametrize("name", list_studies())
def test_every_study_names_known_protocols_and_models(name: str) -> None:
    """A study can be planned."""
    from bench.plan.selection import expand_study

    assert load_study(name).question
    assert len(expand_study(name)) == len(set(expand_study(name))) > 0


def test_the_official_recipe_is_medmnist_v2s() -> None:
    """Adam 1e-3, x0.1 at 50 and 75 of 100 epochs, batch 128, mean and std 0.5, no augmentation, scratch."""
    protocol = load_protocol("medmnist-28")
    assert (protocol.optim.name, protocol.optim.lr) == ("adam", 1e-3)
    assert (protocol.schedule.epochs, protocol.schedule.batch_size) == (100, 128)
    assert (protocol.schedule.milestones, protocol.schedule.gamma) == ((50, 75), 0.1)
    assert (protocol.data.mean, protocol.data.std, protocol.data.channels) == ((0.5,), (0.5,), "native")
    assert protocol.augment == AugmentRules()
    assert protocol.init.kind == "scratch"


def test_the_papers_statements_are_in_its_protocol() -> None:
    """ImageNet statistics, translation to 10 %, erasing and CutMix at probability 0.5, 200 epochs."""
    protocol = load_protocol("paper-224-scratch")
    assert protocol.data.mean == (0.485, 0.456, 0.406)
    assert protocol.data.std == (0.229, 0.224, 0.225)
    assert protocol.augment.translation == 0.1
    assert (protocol.augment.erasing_p, protocol.augment.cutmix_p) == (0.5, 0.5)
    assert protocol.schedule.epochs == 200


def test_extends_changes_only_what_it_names() -> None:
    """A variant is its parent but for its own keys."""
    parent, child = load_protocol("medmnist-28"), load_protocol("medmnist-224")
    changed = child.model_copy(update={"name": parent.name, "description": parent.description, "data": parent.data})
    assert changed == parent
    assert (child.data.img_size, child.data.interpolation) == (224, "nearest")


def test_a_mistyped_key_is_named_with_the_known_ones(tmp_path: Path) -> None:
    """The error says which key, which it may have been, and which there are."""
    path = write(tmp_path, SMOKE.replace("lr = 1e-3", "learning_rate = 1e-3"))
    with pytest.raises(ProtocolError, match=r"unknown key 'optim\.learning_rate'.*known keys here: .*\blr\b"):
        load_protocol(path)


def test_the_factors_of_table_2_are_what_its_protocols_set() -> None:
    """Every protocol of the study has its factors, and the protocols' rules agree with them."""
    study = load_study("table2")
    assert sorted(study.factors) == sorted(name for part in study.parts for name in part.protocols)
    for name, own in study.factors.items():
        rules = load_protocol(name)
        assert rules.optim.name == own.optimiser
        assert (rules.augment.cutmix_p > 0) == (own.augmentation == "cutmix")


def test_factors_of_a_protocol_that_the_study_lacks_are_refused(tmp_path: Path) -> None:
    """One line that names the study's protocols."""
    text = (STUDY_DIR / "table2.toml").read_text(encoding="utf-8")
    path = tmp_path / "mine.toml"
    path.write_text(text + 'lite-96 = { optimiser = "adam", augmentation = "plain" }\n', encoding="utf-8")
    with pytest.raises(ProtocolError, match="factors must be those of the study's protocols: breast-ablation-adam"):
        load_study(str(path))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("img_size = 28", "", "data.img_size' is missing"),
        ("img_size = 28", "img_size = 'big'", "data.img_size = 'big'"),
        ("source_size = 28", "source_size = 30", "data.source_size = 30"),
        ("[optim]", "[optim", "not valid TOML"),
        ("mean = [0.5]", "mean = [0.5, 0.5]", "one value for all channels, or three"),
        ("epochs = 2", "epochs = 2\nwarmup_epochs = 2", "warmup_epochs must be smaller"),
        ("std = [0.5]", "std = [0.0]", "data.std.0 = 0.0"),
        ("std = [0.5]", "std = [nan]", "data.std.0 = nan"),
        ("mean = [0.5]", "mean = [inf]", "data.mean.0 = inf"),
        ("[optim]", "[augment]\nerasing_area = [-0.1, 0.3]\n[optim]", "augment.erasing_area must be two positive"),
        ("[optim]", "[optims]", "known keys here: extends, "),
        ("[optim]", "x = " + "[" * 5000 + "]" * 5000 + "\n[optim]", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_one_clear_error(tmp_path: Path, old: str, new: str, message: str) -> None:
    """Missing keys, wrong types, values out of range and broken TOML name themselves."""
    assert old in SMOKE
    with pytest.raises(ProtocolError, match=message.replace("(", r"\(")) as caught:
        load_protocol(write(tmp_path, SMOKE.replace(old, new)))
    assert "\n" not in str(caught.value)


def test_an_editor_s_byte_order_mark_and_line_ends_change_nothing(tmp_path: Path) -> None:
    """As Windows has them."""
    (tmp_path / "mine.toml").write_bytes(b"\xef\xbb\xbf" + SMOKE.replace("\n", "\r\n").encode())
    assert load_protocol(str(tmp_path / "mine.toml")).digest() == load_protocol("smoke").digest()


def test_an_unknown_name_gets_a_suggestion() -> None:
    """`lite-69` is probably `lite-96`."""
    with pytest.raises(ProtocolError, match="did you mean 'lite-96'"):
        load_protocol("lite-69")


def test_extends_in_a_circle_is_refused(tmp_path: Path) -> None:
    """A file that extends itself ends in an error, not in a recursion."""
    write(tmp_path, 'extends = "b"\n', "a")
    write(tmp_path, 'extends = "a"\n', "b")
    with pytest.raises(ProtocolError, match="back to itself"):
        load_protocol(str(tmp_path / "a.toml"))


def test_the_digest_covers_what_changes_numbers_and_nothing_else(tmp_path: Path) -> None:
    """Prose and keys at their default move no digest; any other value does."""
    plain = load_protocol(write(tmp_path, SMOKE, "plain"))
    prose = load_protocol(write(tmp_path, SMOKE.replace("proves nothing", "shows nothing"), "prose"))
    spelled = load_protocol(write(tmp_path, SMOKE + "\n[augment]\ncutmix_p = 0.0\n", "spelled"))
    changed = load_protocol(write(tmp_path, SMOKE.replace("1e-3", "2e-3"), "changed"))
    assert plain.digest() == prose.digest() == spelled.digest()
    assert changed.digest() != plain.digest()


def test_a_new_key_makes_no_old_record_stale() -> None:
    """A protocol that was resolved before a key existed has the digest of today's with the key at its default."""

    class Later(Protocol):
        brand_new: float = 0.0

    today = load_protocol("lite-96")
    later = Later.model_validate({**today.model_dump(), "brand_new": 0.0})
    assert later.digest() == today.digest()
    assert Later.model_validate({**today.model_dump(), "brand_new": 0.1}).digest() != today.digest()
