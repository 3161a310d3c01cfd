"""Planned seeds: what the studies' files say, and nothing where they say nothing."""

from __future__ import annotations

import pytest

from bench.protocols.loading import load_study
from bench.protocols.planned import is_planned, planned_seeds


def test_a_cell_has_the_seeds_that_its_studies_name() -> None:
    """Those of `table3` for one of its models."""
    (seeds,) = {part.seeds for part in load_study("table3").parts}
    assert planned_seeds("paper-224-scratch", "medvit_t", "bloodmnist") == seeds
    assert is_planned("paper-224-scratch", "medvit_t", "bloodmnist", seeds[0])
    assert not is_planned("paper-224-scratch", "medvit_t", "bloodmnist", max(seeds) + 1)


def test_a_model_of_somebodys_own_is_held_to_its_protocols_seeds() -> None:
    """Nobody may choose the seeds of a protocol that others ran with fixed ones."""
    assert planned_seeds("lite-96", "my/model", "breastmnist") == planned_seeds("lite-96", "resnet18", "breastmnist")


@pytest.mark.parametrize("protocol", ["smoke", "of-my-own"])
def test_a_protocol_of_no_study_plans_nothing(protocol: str) -> None:
    """Every seed counts there."""
    assert planned_seeds(protocol, "resnet18", "breastmnist") == ()
    assert is_planned(protocol, "resnet18", "breastmnist", 12345)
