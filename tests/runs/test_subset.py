"""The images that a run is trained on: named by a hash, nested, the same for every model."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bench.protocols.loading import load_protocol
from bench.protocols.schema import DataRules
from bench.runs.subset import kept_images
from bench.streams import stream_seed

LABELS = np.arange(300) % 3 // 2  # 200 of class 0, 100 of class 1


def kept(dataset: str = "breastmnist", positive: int = 1, **keys: object) -> list[int]:
    rules = DataRules.model_validate({**load_protocol("lite-96").data.model_dump(), **keys})
    return kept_images(LABELS, rules, dataset, positive, 2).tolist()


def test_a_larger_subset_holds_the_smaller_ones() -> None:
    """Of one draw, by either rule; what a rule does not thin stays whole."""
    few = [set(kept(train_per_class=n, draw=2)) for n in (5, 10, 20, 50)]
    rare = [set(kept(positive_share=share, draw=2)) for share in (0.01, 0.02, 0.05)]
    assert all(small < large for small, large in itertools.pairwise(few))
    assert all(small < large for small, large in itertools.pairwise(rare))
    assert [len(subset) for subset in few] == [10, 20, 40, 100]
    assert set(np.flatnonzero(LABELS == 0)) < rare[0]
    positives = {name: {i for i in subset if LABELS[i] == 1} for name, subset in (("few", few[0]), ("rare", rare[2]))}
    assert positives["few"] < positives["rare"]  # 5 and 11 of one order


def test_a_draw_is_a_hash_of_names() -> None:
    """The first images of a class by the hash of (data set, draw, image), in the file's order."""
    members = np.flatnonzero(LABELS == 1).tolist()
    by_hash = sorted(members, key=lambda index: stream_seed("subset", "breastmnist", 4, index))
    assert [i for i in kept(train_per_class=7, draw=4) if LABELS[i] == 1] == sorted(by_hash[:7])


def test_draws_and_data_sets_differ() -> None:
    """Other images of the same number."""
    subsets = {tuple(kept(train_per_class=5, draw=draw)) for draw in range(5)}
    assert len(subsets | {tuple(kept("pneumoniamnist", train_per_class=5))}) == 6


@pytest.mark.parametrize(("keys", "count"), [({}, 300), ({"draw": 3}, 300), ({"max_train": 40}, 40)])
def test_without_a_rule_the_file_stands_as_it_is(keys: dict[str, object], count: int) -> None:
    """All images in their order, or the first of them."""
    assert kept(**keys) == list(range(count))
