"""The smallest difference that a comparison finds, by hand, and where images come in scans."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from bench.report.analysis.resolution import resolutions
from bench.stats.uncertainty import Uncertainty
from tests.making import make_card
from tests.report.rows import make_pair, select


def test_slices_widen_what_a_comparison_finds_too() -> None:
    """Quantiles of 97.5 and of 80 % times the error; with the correction of 0.025 / 13; by the design effect's root."""
    card, labels = make_card("organcmnist", 11), np.arange(8216) % 11
    found = Uncertainty(0.01**2)
    pairs = [make_pair("resnet18", 0.1, 0.08, 0.12, 1e-6, dataset="organcmnist", uncertainty=found, tests=13)]
    plain, effect = select(resolutions(card, "lite-96", "test", labels, pairs), metric="auc")
    assert (plain.comparisons, plain.tests) == (1, 13)
    assert plain.smallest_difference == pytest.approx((1.959964 + 0.841621) * 0.01, rel=1e-6)
    assert plain.smallest_corrected == pytest.approx((norm.isf(0.025 / 13) + 0.841621) * 0.01, rel=1e-6)
    for name in ("half_width", "smallest_difference", "smallest_corrected"):
        assert getattr(effect, name) == pytest.approx(getattr(plain, name) * math.sqrt(1 + (8216 / 70 - 1) * 0.05))
