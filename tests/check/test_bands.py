"""Bands: made of published numbers alone, narrow enough to mean something, and reported by `verify`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench.check.bands import METRICS, Bands, band_problems, read_bands, standings
from bench.check.verify import verify
from bench.errors import RecordError
from bench.records.names import Run
from bench.records.run_record import read_record
from bench.report.published.numbers import published_scores
from tests.making import make_run

RESULTS = Path(__file__).parents[2] / "results"
BANDS = read_bands(RESULTS) or Bands(rule="", published_runs=1, our_runs=1, band=[])


def test_the_half_widths_are_those_worked_out_by_hand() -> None:
    """Sample deviation of five seeds x Student's 2.776 on 4 degrees x the root of 1/3 + 1/3."""
    by_hand = {  # 0.0125 and 0.0419 are the deviations, 0.8165 the root
        ("breastmnist", "auc"): 2.7764 * 0.011498 * 0.81650,
        ("breastmnist", "acc"): 2.7764 * 0.012497 * 0.81650,
        ("pneumoniamnist", "auc"): 2.7764 * 0.011857 * 0.81650,
        ("pneumoniamnist", "acc"): 2.7764 * 0.041875 * 0.81650,
    }
    for band in BANDS.band:
        for metric in METRICS:
            half = BANDS.half_width(band, metric)
            assert half == pytest.approx(by_hand[band.dataset, metric], rel=1e-4)
            low, high = band.ends(metric)
            assert low == pytest.approx(band.published[metric] - half, abs=5.01e-4)
            assert high == pytest.approx(band.published[metric] + half, abs=5.01e-4)
    assert list(band_problems(RESULTS, BANDS)) == []


def test_the_seeds_are_those_of_the_published_rows() -> None:
    """What a band takes for the spread over seeds stands, as their mean and deviation, among the published numbers."""
    rows = {(row.dataset, row.metric): row for row in published_scores() if row.kind == "self-reported"}
    assert rows.keys() == {(band.dataset, metric) for band in BANDS.band for metric in METRICS}
    for band in BANDS.band:
        for metric in METRICS:
            row, scores = rows[band.dataset, metric], band.seed_scores[metric]
            mean = sum(scores) / len(scores)
            squares = sum((score - mean) ** 2 for score in scores)
            assert row.num_runs == len(scores)
            assert row.value == pytest.approx(mean, abs=5e-6)
            assert row.sd == pytest.approx((squares / (len(scores) - 1)) ** 0.5, abs=5e-6)


@pytest.mark.parametrize("floor", ["floor/knn1", "floor/prior"])
@pytest.mark.parametrize("band", BANDS.band, ids=lambda band: band.dataset)
def test_a_floor_passes_no_band(band, floor: str) -> None:
    """What the nearest neighbour on raw pixels reaches proves nothing."""
    record = read_record(Run(band.protocol, floor, band.dataset, 0).path(RESULTS), RESULTS)
    assert not all(band.contains(metric, record.test[metric]) for metric in METRICS)


def test_there_are_bands() -> None:
    """The tests above had something to test."""
    assert {band.dataset for band in BANDS.band} == {"breastmnist", "pneumoniamnist"}


def test_a_band_that_is_wider_for_more_noise_shows_no_equivalence() -> None:
    """The published mean itself is equivalent only where seeds spread so little that the margin holds the interval."""
    band = BANDS.band[0]
    assert band.contains("acc", band.published["acc"])
    assert not BANDS.is_equivalent(band, "acc", band.published["acc"])  # 2.132 x 0.0125 x 0.816 = 0.0218
    steady = [0.868, 0.868, 0.868, 0.868, 0.878]  # deviation 0.00447: 2.132 x 0.00447 x 0.816 = 0.0078
    calm = band.model_copy(update={"seed_scores": {**band.seed_scores, "acc": steady}})
    assert BANDS.is_equivalent(calm, "acc", band.published["acc"] + 0.012)
    assert not BANDS.is_equivalent(calm, "acc", band.published["acc"] + 0.0125)


def test_verify_says_where_records_stand(tmp_path: Path) -> None:
    """Mean over the planned seeds, contradicting or not; no verdict before all are there, or without a score."""
    shutil.copy(RESULTS / "bands.toml", tmp_path)
    for seed, auc in enumerate((0.89, 0.91, 0.9)):
        make_run(tmp_path, Run("medmnist-28", "resnet18_28", "breastmnist", seed), test={"auc": auc, "acc": 0.86})
    for seed in range(2):
        make_run(tmp_path, Run("medmnist-28", "resnet18_28", "pneumoniamnist", seed), test={"auc": 0.944, "acc": 0.7})
    lines = verify(tmp_path).bands
    assert len(lines) == 2
    assert "AUC 0.900" in lines[0]
    assert lines[0].endswith(
        "mean of 3 seeds: no contradiction with the published result; equivalence within 0.02 is not shown"
    )
    assert lines[1].endswith("2 of 3 seeds: no verdict before all are there")
    make_run(tmp_path, Run("medmnist-28", "resnet18_28", "pneumoniamnist", 2), test={"auc": 0.944, "acc": 0.7})
    assert verify(tmp_path).bands[1].endswith("mean of 3 seeds: contradicts the published result in ACC")
    make_run(tmp_path, Run("medmnist-28", "resnet18_28", "breastmnist", 2), test={"auc": None, "acc": 0.86})
    make_run(tmp_path, Run("medmnist-28", "resnet18_28", "pneumoniamnist", 1), test=None)
    assert all(line.endswith("a run has no AUC or no accuracy: no verdict") for line in verify(tmp_path).bands)
    (tmp_path / "bands.toml").write_text((tmp_path / "bands.toml").read_text().replace("our_runs", "our_run"))
    with pytest.raises(RecordError, match=r"bands\.toml: our_runs"):
        standings(tmp_path, [])
