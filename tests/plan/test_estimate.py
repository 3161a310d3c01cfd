"""What a run should cost, before it is started."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench.plan import estimate
from bench.plan.estimate import CostEstimate, Estimate
from bench.records.card import read_card
from bench.records.names import Run
from bench.records.sealed import write_sealed
from bench.records.timing_record import Round, Setting, TimingCell, timing_path
from models import get_spec
from models.catalog import fingerprint
from tests.making import make_card, make_run, make_timing

DEVICE = "cpu: Some CPU, 1 thread"
STEP = {
    "mode": "training",
    "precision": "fp32",
    "memory_format": "contiguous",
    "compiled": False,
    "batch_size": 32,
    "img_size": 224,
}


def smoke(model: str, dataset: str = "breastmnist") -> Run:
    """A run of two epochs at 28 px."""
    return Run("smoke", model, dataset, 1)


def time_steps(results: Path, model: str, *rates: float | None, **changes: Any) -> None:
    """A timing record with a training step a round, None for a round that failed; images per second."""
    rounds = [
        Round(index=index, status="failed", reason="why")
        if rate is None
        else Round(index=index, status="done", iterations=1, block_seconds=[32 / rate])
        for index, rate in enumerate(rates)
    ]
    cell = TimingCell(setting=Setting.model_validate({**STEP, **changes}), rounds=rounds)
    print_ = fingerprint(get_spec(model))
    write_sealed(timing_path(results, DEVICE, model), make_timing(model, DEVICE, [cell], model_fingerprint=print_))


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The repository's own records, none unless a test makes them."""
    folder = tmp_path / "repository"
    monkeypatch.setattr(estimate, "REPOSITORY", folder)
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """One recorded run: resnet18_28 at 10 images/s."""
    make_run(tmp_path, Run("smoke", "resnet18_28", "breastmnist", 0), images_per_second=10.0)
    return tmp_path


def cost(results: Path, run: Run) -> Estimate | None:
    """Its estimate."""
    return CostEstimate(results, partial(read_card, results)).of(run)


def test_an_estimate_scales_recorded_runs(results: Path) -> None:
    """30 training images and a third of 12 val images, two epochs, at 10 images/s."""
    assert cost(results, smoke("resnet18_28")) == Estimate(2 * (30 + 4) / 10, "runs")


def test_a_subset_that_takes_the_steps_of_the_whole_split_costs_them(tmp_path: Path) -> None:
    """546 images in batches of 64 are 9 steps; of 10 images each, for 20 epochs, and a third of 12 val images each."""
    card = make_card("breastmnist")
    counts, images = card.class_counts | {"train": [147, 399]}, card.num_images | {"train": 546}
    card = card.model_copy(update={"class_counts": counts, "num_images": images})
    make_run(tmp_path, Run("lite-96", "resnet18", "breastmnist", 0), images_per_second=10.0)
    found = CostEstimate(tmp_path, lambda _: card).of(Run("few-96-n5-d0", "resnet18", "breastmnist", 0))
    assert found == Estimate(20 * (9 * 10 + 4) / 10, "runs")


def test_without_a_record_or_a_timing_there_is_no_estimate(results: Path) -> None:
    """Nothing is made up: neither for a model nor for a set that was never measured."""
    time_steps(results, "resnet18_28", 4.0)
    assert cost(results, smoke("medspectralnet")) is None
    assert cost(results, smoke("resnet18_28", "bloodmnist")) is None


def test_a_model_without_records_is_scaled_by_its_timed_step(results: Path) -> None:
    """Timed at half the recorded model's speed (the failed round left out): twice the seconds."""
    time_steps(results, "resnet18_28", 4.0, 4.0)
    time_steps(results, "medspectralnet", 2.0, None)
    assert cost(results, smoke("medspectralnet")) == Estimate(2 * 2 * (30 + 4) / 10, "timings")


def test_other_settings_and_other_sizes_scale_nothing(results: Path) -> None:
    """A step timed in another setting says nothing about the ratio, nor a record at another size."""
    time_steps(results, "resnet18_28", 4.0)
    time_steps(results, "medspectralnet", 2.0, batch_size=64)
    assert cost(results, smoke("medspectralnet")) is None
    time_steps(results, "medspectralnet", 2.0)
    assert cost(results, Run("lite-96", "medspectralnet", "breastmnist", 0)) is None


def test_an_empty_folder_takes_the_repositorys_records(tmp_path: Path, repository: Path, results: Path) -> None:
    """Of runs that a folder says nothing of; its own records come first, and the source is named."""
    make_run(repository, Run("smoke", "resnet18_28", "breastmnist", 0), images_per_second=5.0)
    assert cost(tmp_path / "mine", smoke("resnet18_28")) == Estimate(2 * (30 + 4) / 5, "repository")
    assert cost(results, smoke("resnet18_28")) == Estimate(2 * (30 + 4) / 10, "runs")
    assert cost(repository, smoke("medspectralnet")) is None


def test_what_is_fitted_takes_a_second(results: Path) -> None:
    """Floors and scikit-learn models are not trained by steps."""
    assert cost(results, smoke("floor/prior")) == Estimate(1.0, "fixed")
