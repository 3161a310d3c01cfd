"""What a claim's planned runs could find, and what stands behind a claim in closed form, by hand."""

from __future__ import annotations

import dataclasses
import math

import pytest
import timm
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench.protocols.planned import planned_seeds
from bench.report.claims.accuracies import ahead, not_behind
from bench.report.claims.pages import details
from bench.report.claims.planned import accuracy_power, class_error, class_power, refused, seeds
from bench.report.claims.sources import STATED
from bench.report.claims.terms import vit_macs, vit_scaling
from bench.stats.uncertainty import Uncertainty
from tests.report.claim_sources import EMPTY, judged, without_runs
from tests.report.rows import make_pair, make_score


def _normal(distance: float) -> float:
    return math.erfc(-distance / math.sqrt(2)) / 2


def test_the_power_of_planned_runs_is_the_textbooks() -> None:
    """Two-sided at 5 %, for a difference of the margin, 0.02, around the printed 86.5 % on 156 images."""
    error = math.sqrt(0.865 * 0.135 / 156)  # 0.02736
    alone = _normal(0.02 / error - 1.959964) + _normal(-0.02 / error - 1.959964)
    power = accuracy_power(without_runs(), "breastmnist", paired=False)
    assert (power.value, power.at_most) == (pytest.approx(alone, abs=1e-6), True)
    assert power.text == "at most 11 % on BreastMNIST"
    both = error * math.sqrt(2)
    paired = accuracy_power(without_runs(), "breastmnist", paired=True)
    assert paired.value == pytest.approx(_normal(0.02 / both - 1.959964) + _normal(-0.02 / both - 1.959964), abs=1e-6)


def test_what_was_recorded_sharpens_the_power() -> None:
    """The measured correlation narrows a pair; measured seeds widen it, and the power is then no upper bound."""
    pair = make_pair("resnet18", 0.0, -0.1, 0.1, 1.0, metric="acc", correlation=0.4, uncertainty=Uncertainty(1.0))
    unlike = dataclasses.replace(pair, baseline="floor/knn1", correlation=-0.9)  # no network
    analysis = dataclasses.replace(EMPTY, pairs=(pair, unlike))
    sources = dataclasses.replace(without_runs(), analysis=analysis)
    error = math.sqrt(2 * 0.6 * 0.865 * 0.135 / 156)
    by_hand = _normal(0.02 / error - 1.959964) + _normal(-0.02 / error - 1.959964)
    found = accuracy_power(sources, "breastmnist", paired=True)
    assert found.value == pytest.approx(by_hand, abs=1e-6)
    score = make_score("resnet18", 0.8, 0.7, 0.9, seeds=(0, 1, 2), sd=0.03)
    with_seeds = dataclasses.replace(sources, analysis=dataclasses.replace(analysis, scores=(score,)))
    seeded = accuracy_power(with_seeds, "breastmnist", paired=True)
    assert seeded.value < found.value
    assert not seeded.at_most


def test_two_runs_that_are_equal_leave_no_doubt() -> None:
    """Rounding puts their correlation above 1; the power is then 1, not the root of a negative number."""
    pair = make_pair("resnet18", 0.0, 0.0, 0.0, 1.0, metric="acc", correlation=1.0000000000000002)
    sources = dataclasses.replace(without_runs(), analysis=dataclasses.replace(EMPTY, pairs=(pair,)))
    assert accuracy_power(sources, "breastmnist", paired=True).value == 1.0


def test_a_command_promises_no_decision_without_the_power() -> None:
    """156 images find a difference of the margin seldom; 8,216 nearly always, once seeds are known to move little."""
    sources = without_runs()
    score = make_score("resnet18", 0.9, 0.8, 1.0, dataset="organcmnist", seeds=(0, 1, 2), sd=0.001)
    steady = dataclasses.replace(sources, analysis=dataclasses.replace(EMPTY, scores=(score,)))
    names = [
        dict(details(judged(chosen, claim), {}))
        for chosen, claim in ((sources, "C115"), (sources, "C113"), (steady, "C113"))
    ]
    assert [("would decide" in lines, "may decide" in lines) for lines in names] == [
        (False, True),
        (False, True),  # 99 %, but at most
        (True, False),
    ]
    assert names[0]["power"] == "to find a difference of 0.02 with the planned seeds: at most 11 % on BreastMNIST"


@pytest.mark.parametrize(
    ("low", "high", "p", "higher", "close"),
    [
        (0.01, 0.05, 0.001, "holds", "holds"),
        (-0.05, -0.03, 0.001, "fails", "fails"),  # 90 % below -0.02
        (-0.015, 0.03, 0.4, "undecided", "holds"),
        (-0.03, 0.01, 0.3, "undecided", "undecided"),
    ],
)
def test_our_runs_decide_what_printed_numbers_leave_open(
    low: float, high: float, p: float, higher: str, close: str
) -> None:
    """86.5 against 83.3 % on 156 images tells nothing; under one protocol the plan's verdict counts, with all seeds."""
    sources, name, dataset = without_runs(), "ResNet-18 (224 px)", "breastmnist"
    alone = ahead(sources, name, dataset)
    assert (alone.verdict, [str(need) for need in alone.needs]) == (
        "undecided",
        [f"medbench run --protocol {STATED} --models medspectralnet,resnet18 --datasets breastmnist --seeds 0-2"],
    )
    fields = {"protocol": STATED, "metric": "acc", "n_seeds": 3, "n_seeds_baseline": 3, "family": "exploratory"}
    pair = make_pair("resnet18", (low + high) / 2, low, high, p, **fields)
    planted = dataclasses.replace(sources, analysis=dataclasses.replace(EMPTY, pairs=(pair,)))
    assert (ahead(planted, name, dataset).verdict, not_behind(planted, name, dataset).verdict) == (higher, close)
    assert not ahead(planted, name, dataset).needs
    assert ahead(planted, name, "bloodmnist").verdict == "holds"  # 1.7 points with an error of 0.40: print decides


def test_class_errors_by_hand() -> None:
    """A share of 400 images with two more of either kind; an AUC by Hanley and McNeil; unknown without a card."""
    assert class_error(0.9, 400, 4000, "recall") == pytest.approx(math.sqrt(362 / 404 * 42 / 404 / 404))
    assert class_error(1.0, 400, 4000, "ap") > 0
    once, twice = 0.9 / 1.1 - 0.81, 2 * 0.81 / 1.9 - 0.81
    by_hand = (0.09 + 399 * once + 3599 * twice) / (400 * 3600)
    assert class_error(0.9, 400, 4000, "auc") == pytest.approx(math.sqrt(by_hand))
    unknown = class_power(without_runs(), "organcmnist", "ap")
    assert unknown.value is None
    assert unknown == class_power(without_runs(), "organcmnist", "ap")  # listed once, on every Python


def test_the_plan_s_seeds_are_the_studies() -> None:
    """No list of seeds of the audit's own; a model without weights for the protocol cannot be run under it."""
    assert seeds("breastmnist") == planned_seeds(STATED, "medspectralnet", "breastmnist") == (0, 1, 2)
    assert refused("resnet18") == ""
    assert "no public ImageNet-1k weights for medmamba_t" in refused("medmamba_t")
    assert refused("") == "the suite has no such model"


@pytest.mark.parametrize("size", [224, 448])
def test_the_closed_form_is_what_a_vit_costs(size: int) -> None:
    """Every product of a ViT of timm's without class token, counted by torch, at 224 and at 448 px."""
    model: nn.Module = timm.create_model(
        "vit_tiny_patch16_224", img_size=size, class_token=False, global_pool="avg", num_classes=8, fc_norm=False
    ).eval()
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), counter:
        model(torch.zeros(1, 3, size, size))
    assert counter.get_total_flops() // 2 == sum(vit_macs(size, width=192))


def test_attention_is_quadratic_and_a_vit_is_not_far_from_linear_at_224_px() -> None:
    """784 tokens against 196: 16 times the scores and sums; of all of ViT-B/16 4.5 times, by hand."""
    linear, quadratic = 12 * 12 * 768**2 * 196 + 196 * 768 * 768, 12 * 2 * 196**2 * 768
    assert vit_macs(224) == (linear + 768 * 8, quadratic)
    assert vit_scaling(attention=True).known() == 16
    whole = (4 * linear + 768 * 8 + 16 * quadratic) / (linear + 768 * 8 + quadratic)
    assert float(vit_scaling(attention=False).known()) == pytest.approx(whole)
