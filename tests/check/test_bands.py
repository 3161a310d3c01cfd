"""Bands: made of published numbers alone, narrow enough to mean something, and reported by `verify`."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

from bench.check.bands import METRICS, Bands, read_bands, standings
from bench.check.verify import verify
from bench.errors import RecordError
from bench.records.card import read_card
from bench.records.names import Run
from bench.records.run_record import read_record
from bench.stats.power import accuracy_error, auc_error
from tests.making import make_run

RESULTS = Path(__file__).parents[2] / "results"
BANDS = read_bands(RESULTS) or Bands(rule="", seed_sd=1, band=[])


@pytest.mark.parametrize("band", BANDS.band, ids=lambda band: band.dataset)
def test_a_band_is_what_its_rule_gives(band) -> None:
    """Published value and size of the test split, to three digits; no record enters."""
    card = read_card(RESULTS, band.dataset)
    errors = {
        "auc": auc_error(band.published["auc"], card.class_counts["test"], card.task),
        "acc": accuracy_error(band.published["acc"], card.num_images["test"]),
    }
    for metric in METRICS:
        half = 1.96 * math.hypot(errors[metric], BANDS.seed_sd)
        low, high = getattr(band, metric)
        assert low == pytest.approx(band.published[metric] - half, abs=5.01e-4)
        assert high == pytest.approx(min(band.published[metric] + half, 1.0), abs=5.01e-4)


@pytest.mark.parametrize("floor", ["floor/knn1", "floor/prior"])
@pytest.mark.parametrize("band", BANDS.band, ids=lambda band: band.dataset)
def test_a_floor_passes_no_band(band, floor: str) -> None:
    """What the nearest neighbour on raw pixels reaches proves nothing."""
    record = read_record(Run(band.protocol, floor, band.dataset, 0).path(RESULTS), RESULTS)
    assert not band.contains(record.test)


def test_there_are_bands() -> None:
    """The tests above had something to test."""
    assert {band.dataset for band in BANDS.band} == {"breastmnist", "pneumoniamnist"}


def test_verify_tells_where_records_stand(tmp_path: Path) -> None:
    """Mean over seeds, inside or not, or no record yet."""
    shutil.copy(RESULTS / "bands.toml", tmp_path)
    for seed, auc in enumerate((0.89, 0.91)):
        make_run(tmp_path, Run("medmnist-28", "resnet18_28", "breastmnist", seed), test={"auc": auc, "acc": 0.86})
    make_run(tmp_path, Run("medmnist-28", "resnet18_28", "pneumoniamnist", 0), test={"auc": 0.944, "acc": 0.8})
    lines = verify(tmp_path).bands
    assert len(lines) == 2
    assert "AUC 0.900" in lines[0]
    assert "mean of 2 seeds: equivalent" in lines[0]
    assert "mean of 1 seed: NOT equivalent" in lines[1]
    make_run(tmp_path, Run("medmnist-28", "resnet18_28", "breastmnist", 2), test={"auc": None, "acc": 0.86})
    make_run(tmp_path, Run("medmnist-28", "resnet18_28", "pneumoniamnist", 1), test=None)
    assert all(line.endswith("a run has no AUC or no accuracy: no verdict") for line in verify(tmp_path).bands)
    (tmp_path / "bands.toml").write_text((tmp_path / "bands.toml").read_text().replace("seed_sd", "seed_sdd"))
    with pytest.raises(RecordError, match=r"bands\.toml: seed_sd"):
        standings(tmp_path, [])
