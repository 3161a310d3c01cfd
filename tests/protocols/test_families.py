"""Families: one frozen file, many protocols; what a subset keeps; parts of a study by draws."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.errors import ProtocolError
from bench.plan.selection import expand_study, refusal
from bench.protocols.families import members
from bench.protocols.loading import families, family_of, load_protocol, load_study
from bench.protocols.schedule import epoch_bounds
from bench.protocols.schema import DataRules, ScheduleRules
from bench.protocols.subset import class_sizes, num_train
from models import get_spec

FROZEN = json.loads((Path(__file__).parents[1] / "goldens" / "family_digests.json").read_text(encoding="utf-8"))
BREAST, PNEUMONIA = ([147, 399], 0), ([1214, 3494], 1)  # training images by class, and the clinical positive


def test_every_member_is_frozen() -> None:
    """A changed family is a new file: the digest of none of its members moves."""
    loaded = {name: load_protocol(name) for names in families().values() for name in names}
    assert {name: protocol.digest() for name, protocol in loaded.items()} == FROZEN
    assert all(protocol.name == name for name, protocol in loaded.items())


def test_a_family_is_its_axes_times_its_draws() -> None:
    """In the order of the axes, later values over earlier ones over the file's own."""
    content = {"draws": 2, "x": {"a": 1}, "axes": [{"p": {}, "q": {"x": {"a": 2}}}, {"r": {"x": {"b": 3}}}]}
    assert members("f", content) == {
        "f-p-r-d0": {"x": {"a": 1, "b": 3}, "data": {"draw": 0}},
        "f-p-r-d1": {"x": {"a": 1, "b": 3}, "data": {"draw": 1}},
        "f-q-r-d0": {"x": {"a": 2, "b": 3}, "data": {"draw": 0}},
        "f-q-r-d1": {"x": {"a": 2, "b": 3}, "data": {"draw": 1}},
    }


def test_a_member_is_lite_96_but_for_what_its_name_says() -> None:
    """Share, arm and draw, beside the same steps for all and the last step's scores."""
    plain = load_protocol("lite-96").digested()
    plain["schedule"]["steps_of"], plain["score_last"] = "split", True
    assert load_protocol("rare-96-natural-plain-d0").digested() == plain
    few = load_protocol("few-96-n20-d3").digested()
    assert few["data"] == {**plain["data"], "train_per_class": 20, "draw": 3}
    for name, table, key, value in (
        ("weighted", "loss", "class_weights", "balanced"),
        ("balanced", "data", "sampler", "balanced"),
        ("adjusted", "loss", "logit_adjustment", 1.0),
    ):
        armed = load_protocol(f"rare-96-p02-{name}-d0").digested()
        assert armed[table].pop(key) == value
        assert armed.pop("loss", {}) == {}
        assert armed["data"].pop("positive_share") == 0.02
        assert armed == plain


def test_a_member_is_known_by_its_name_alone(tmp_path: Path) -> None:
    """Its family is known; a slip gets a suggestion; nobody's file takes its name."""
    assert family_of("rare-96-p05-plain-d4") == "rare-96"
    assert family_of("lite-96") == ""
    with pytest.raises(ProtocolError, match="did you mean 'rare-96-p02-weighted-d1'"):
        load_protocol("rare-96-p02-weigthed-d1")
    path = tmp_path / "few-96-n5-d0.toml"
    path.write_text('extends = "lite-96"\ndescription = "x"\n', encoding="utf-8")
    with pytest.raises(ProtocolError, match="the name 'few-96-n5-d0' is taken"):
        load_protocol(str(path))
    load_protocol.cache_clear()
    assert load_protocol("few-96-n5-d0").digest() == FROZEN["few-96-n5-d0"], "the refused file took the name"


def test_a_part_with_draws_runs_draw_k_with_seed_k(tmp_path: Path) -> None:
    """Each member once a draw, what is fitted too."""
    path = tmp_path / "mine.toml"
    text = 'question = "?"\n[[parts]]\nprotocols = ["few-96-n5", "few-96-n10"]\nmodels = ["resnet18", "floor/prior"]\n'
    path.write_text(text + 'datasets = ["breastmnist"]\ndraws = [0, 3]\n', encoding="utf-8")
    assert [(run.protocol, run.model, run.seed) for run in expand_study(str(path))] == [
        (f"few-96-{size}-d{draw}", model, draw)
        for draw in (0, 3)
        for size in ("n5", "n10")
        for model in ("resnet18", "floor/prior")
    ]
    path.with_name("both.toml").write_text(path.read_text(encoding="utf-8") + "seeds = [0]\n", encoding="utf-8")
    with pytest.raises(ProtocolError, match="seeds, or the draws"):
        load_study(str(path.with_name("both.toml")))


def _rules(**keys: object) -> DataRules:
    return DataRules.model_validate({**load_protocol("lite-96").data.model_dump(), **keys})


@pytest.mark.parametrize(
    ("keys", "breast", "pneumonia"),
    [
        ({}, [147, 399], [1214, 3494]),
        ({"positive_share": 0.05}, [21, 399], [1214, 64]),
        ({"positive_share": 0.02}, [8, 399], [1214, 25]),
        ({"positive_share": 0.01}, [4, 399], [1214, 12]),
        ({"train_per_class": 5}, [5, 5], [5, 5]),
    ],
)
def test_how_many_images_are_left_by_hand(keys: dict[str, object], breast: list[int], pneumonia: list[int]) -> None:
    """399 others: 399 x 0.05 / 0.95 = 21, 399 / 49 = 8.1, 399 / 99 = 4.03; 1,214 others: 63.9, 24.8, 12.3."""
    assert class_sizes(_rules(**keys), *BREAST) == breast
    assert class_sizes(_rules(**keys), *PNEUMONIA) == pneumonia
    assert num_train(_rules(**keys), *BREAST) == sum(breast)
    assert num_train(_rules(max_train=100), *BREAST) == 100


@pytest.mark.parametrize(
    ("keys", "counts", "positive", "message"),
    [
        ({"positive_share": 0.5}, [147, 399], 0, "keeps 399 training images of class 0, which has 147"),
        ({"positive_share": 0.001}, [147, 399], 0, "keeps 0 training images of class 0"),
        ({"train_per_class": 50}, [40, 60], None, "keeps 50 training images of class 0, which has 40"),
        ({"positive_share": 0.05}, [40, 60], None, "needs a data set with a clinical positive"),
    ],
)
def test_what_a_data_set_cannot_give_is_refused(
    keys: dict[str, object], counts: list[int], positive: int | None, message: str
) -> None:
    """Never silently fewer images than the name says."""
    with pytest.raises(ProtocolError, match=message):
        class_sizes(_rules(**keys), counts, positive)


def test_two_rules_for_one_subset_are_refused() -> None:
    """A protocol chooses its images in one way."""
    with pytest.raises(ValueError, match="give one"):
        _rules(train_per_class=5, positive_share=0.05)


def test_an_epoch_of_the_split_has_its_steps_by_hand() -> None:
    """10 images in batches of 4 are 3 steps; 5 of them are passed over until 3 steps are done."""
    own = ScheduleRules(name="constant", epochs=1, batch_size=4)
    split = own.model_copy(update={"steps_of": "split"})
    assert epoch_bounds(own, 5, 10) == [(0, 5)]  # a last batch of one joins the batch before
    assert epoch_bounds(split, 5, 10) == [(0, 5), (5, 10), (10, 15)]
    assert epoch_bounds(split, 6, 10) == [(0, 4), (4, 6), (6, 10)]
    assert epoch_bounds(split, 10, 10) == epoch_bounds(own, 10, 10)


def test_arms_are_a_trainings() -> None:
    """What is fitted has the plain arm alone, and a plan says why."""
    for model, refused in (("sklearn/logistic", True), ("floor/knn1", True), ("resnet18", False)):
        for arm in ("weighted", "balanced", "adjusted"):
            assert bool(refusal(get_spec(model), load_protocol(f"rare-96-p05-{arm}-d0"))) == refused
        assert refusal(get_spec(model), load_protocol("rare-96-p05-plain-d0")) == ""
