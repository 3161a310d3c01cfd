"""The statistics of `medbench compare`: by hand, as the report's, and how often they are wrong."""

from __future__ import annotations

import itertools
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from scipy.special import ndtr, ndtri

from bench.check.compare.contrast import NO_DIFFERENCE, Contrast, contrast, mean_contrast, read_table
from bench.check.verdicts import AGREEING, judge
from bench.records.card import read_card
from bench.records.names import Run
from bench.records.own_models import is_fitted
from bench.records.predictions import PredictionTable, read_predictions
from bench.records.run_record import read_record, read_records
from bench.report.analysis.predictions import read_predictions as read_predictions_of
from bench.stats.comparisons import EQUIVALENCE_MARGIN
from bench.stats.delong import Influence, auc_influence
from bench.stats.proportions import paired_shares
from bench.stats.seed_variance import FITTED
from bench.stats.uncertainty import Uncertainty, around, difference, of_difference
from tests.making import make_card, make_predictions, read_frame

RESULTS = Path(__file__).parents[2] / "results"
Z_90 = 1.6448536269514722


def test_the_two_tests_by_hand() -> None:
    """McNemar is scipy's exact binomial test on the discordant images; differences are B minus A."""
    card = make_card("breastmnist")
    stored = make_predictions("breastmnist", 0), make_predictions("breastmnist", 1)
    first, second = (read_frame(content) for content in stored)
    pair = contrast(*(read_predictions(content) for content in stored), card, ("one", "two"))
    right = []
    for table in (first, second):
        test = table[table["split"] == "test"]
        right.append((test["logit_1"] > test["logit_0"]).to_numpy() == (test["label"] == 1).to_numpy())
    only = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    assert pair.mcnemar_p == pytest.approx(scipy_stats.binomtest(only[0], sum(only)).pvalue, abs=1e-12)
    assert pair.acc.value == pytest.approx(right[1].mean() - right[0].mean(), abs=1e-15)
    assert pair.auc_shift is not None
    assert pair.auc is not None
    assert pair.auc_shift.values.tolist() == [pair.auc.value]


def made_table(labels: np.ndarray, scores: np.ndarray) -> PredictionTable:
    """Predictions of two classes, the same of val and test, whose logit of label 1 is given."""
    logits = np.stack([np.zeros(len(labels)), scores]).astype(np.float32)
    return PredictionTable(
        splits=np.repeat(np.array(["val", "test"], dtype=object), len(labels)),
        indices=np.tile(np.arange(len(labels)), 2),
        labels=np.tile(labels.astype(np.int64), 2),
        logits=np.tile(logits, (1, 2)),
    )


def compared(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> Contrast:
    return contrast(made_table(labels, first), made_table(labels, second), make_card("breastmnist"), ("a", "b"))


def test_no_image_answered_differently_is_no_interval_without_width() -> None:
    """Tango's: z^2 / (N + z^2) to either side, though nothing moved."""
    labels = np.arange(156) % 2
    scores = np.random.default_rng(0).normal(size=156) + labels
    pair = compared(labels, scores, scores * 2)
    assert (pair.acc.value, pair.mcnemar_p) == (0.0, 1.0)
    assert pair.acc.high_90 == pytest.approx(Z_90**2 / (156 + Z_90**2))
    assert pair.acc.low_90 == pytest.approx(-pair.acc.high_90)


def test_two_perfect_areas_are_as_wide_as_the_smaller_class_allows() -> None:
    """As the analysis plan has it: Wilson's bound on 40 images is far outside the margin."""
    labels = (np.arange(2000) < 1960).astype(int)
    pair = compared(labels, labels * 2.0 - 1, labels * 3.0 - 1.5)
    assert pair.auc is not None
    assert pair.auc.value == 0.0
    assert pair.auc.high == pytest.approx(1 - 40 / (40 + 1.959964**2))
    assert pair.verdict == "not told apart"
    assert mean_contrast([pair, pair]).auc == pair.auc


def test_an_undefined_area_shows_no_equivalence() -> None:
    """One class alone has no AUC, whatever its accuracy shows."""
    labels = np.zeros(2000, dtype=int)
    scores = np.random.default_rng(0).normal(size=2000)
    pair = compared(labels, scores, scores * 2)
    assert pair.auc is None
    assert pair.acc.high_90 < EQUIVALENCE_MARGIN
    assert pair.verdict == "not told apart"
    assert mean_contrast([pair, pair]).verdict == "not told apart"


INSIDE, TOUCHING, OUTSIDE = (-0.019, 0.019), (-0.02, 0.01), (0.03, 0.05)


@pytest.mark.parametrize(
    ("auc", "acc", "p_values", "verdict"),
    [
        (INSIDE, INSIDE, (0.5, 0.5), "equivalent"),
        (INSIDE, INSIDE, (0.001, 0.5), "equivalent"),  # a difference that is there and small
        (INSIDE, OUTSIDE, (0.5, 0.5), "not told apart"),
        (TOUCHING, INSIDE, (0.5, 0.5), "not told apart"),
        (None, INSIDE, (None, 0.5), "not told apart"),
        (OUTSIDE, INSIDE, (0.024, 0.5), "differs"),
        (INSIDE, OUTSIDE, (0.5, 0.024), "differs"),
        (OUTSIDE, OUTSIDE, (0.025, 0.025), "not told apart"),
    ],
)
def test_the_rule_by_hand(
    auc: tuple[float, float] | None, acc: tuple[float, float], p_values: tuple[float | None, ...], verdict: str
) -> None:
    """Both intervals inside the margin, else one test of two at 2.5 %, else nothing."""
    assert judge(auc, acc, *p_values) == verdict


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(1e-4, 2.0), st.sampled_from([40, 300, 1000]))
def test_equivalent_is_what_lies_inside_on_both_measures(seed: int, scale: float, num_images: int) -> None:
    """Whatever two runs say: equivalent if and only if neither 90 % interval reaches the margin."""
    generator = np.random.default_rng(seed)
    labels = np.arange(num_images) % 2
    scores = generator.normal(size=num_images) + 2 * labels
    pair = compared(labels, scores, scores + scale * generator.normal(size=num_images))
    assert pair.auc is not None
    inside = all(d.low_90 > -EQUIVALENCE_MARGIN and d.high_90 < EQUIVALENCE_MARGIN for d in (pair.auc, pair.acc))
    assert (pair.verdict == "equivalent") == inside


def test_another_network_of_the_store_is_never_taken_for_a_re_run() -> None:
    """No network passes for another unless both intervals say so, although many pairs are not told apart."""
    records = [
        record
        for record in read_records(RESULTS)[0]
        if (record.protocol, record.dataset, record.seed, record.status) == ("lite-96", "breastmnist", 0, "done")
        and not is_fitted(record.model)  # a plugin's record, too: nobody has its file here
    ]
    card = read_card(RESULTS, "breastmnist")
    assert card is not None
    tables = {record.run_id: read_table(RESULTS, record) for record in records}
    pairs = [contrast(tables[a], tables[b], card, (a, b)) for a, b in itertools.combinations(tables, 2)]
    for pair in pairs:
        assert pair.auc is not None
        widest = max(-pair.auc.low_90, pair.auc.high_90, -pair.acc.low_90, pair.acc.high_90)
        assert pair.verdict not in AGREEING or widest < EQUIVALENCE_MARGIN
    assert any(pair.verdict == "not told apart" for pair in pairs)


def test_a_cell_is_judged_over_its_seeds() -> None:
    """A shift that no seed shows alone is shown by ten together; opposite shifts are not."""
    rng = np.random.default_rng(0)

    def drawn(value: float, spread: float) -> Contrast:
        parts = rng.normal(0, spread / 20, (1, 400))
        parts += value / 400 - parts.mean()
        shift = Influence(np.array([value]), parts, np.zeros(400, dtype=np.int64))
        nothing = Influence(np.zeros(1), np.zeros((1, 400)), shift.strata)
        exact = around(value, Uncertainty(float(shift.covariance()[0, 0])))
        return Contrast(False, exact, NO_DIFFERENCE, 0.3, shift, nothing)

    shift = [drawn(0.03, 0.02) for _ in range(10)]
    assert {seed.verdict for seed in shift} == {"not told apart"}
    assert mean_contrast(shift).verdict == "differs"
    assert "AUC p" in mean_contrast(shift).told_apart_by
    back = [drawn(-0.03, 0.02) for _ in range(2)]
    mixed = mean_contrast([*shift[:2], *back])
    assert (mixed.verdict, mixed.told_apart_by) == ("not told apart", "")
    close = [drawn(0.005 * (-1) ** seed, 0.01) for seed in range(10)]
    assert mean_contrast(close).verdict == "equivalent"
    equal = Contrast(True, NO_DIFFERENCE, NO_DIFFERENCE)
    assert mean_contrast([equal, equal]).verdict == "bit-equal"


def test_seeds_that_agree_by_chance_are_no_certainty() -> None:
    """Two seeds that each gain and lose other images have no variance between them, and an interval all the same."""
    labels = np.arange(200) % 2
    right = np.where(labels == 1, 1.0, -1.0)
    pairs = []
    for start in (0, 20):
        first, second = right.copy(), right.copy()
        first[start : start + 10] *= -1
        second[start + 10 : start + 20] *= -1
        pairs.append(compared(labels, first, second))
    assert [pair.acc.value for pair in pairs] == [0.0, 0.0]
    mean = mean_contrast(pairs).acc
    assert mean.low < -0.02 < 0.02 < mean.high
    single = mean_contrast([pairs[0], Contrast(True, NO_DIFFERENCE, NO_DIFFERENCE)]).acc
    assert single.low < 0.0 < single.high


def test_compare_has_the_statistics_of_a_report() -> None:
    """Two networks of the store, one seed each: McNemar's p, Tango's interval, DeLong's, as of two sets of weights."""
    runs = [Run("lite-96", model, "breastmnist", 0) for model in ("resnet50", "swin_t")]
    records = [read_record(run.path(RESULTS)) for run in runs]
    card = read_card(RESULTS, "breastmnist")
    assert card is not None
    pair = contrast(*(read_table(RESULTS, record) for record in records), card, ("a", "b"))
    read = [read_predictions_of(RESULTS, record, card) for record in records]
    labels, probs = read[0].labels["test"], np.stack([predictions.probs["test"] for predictions in read])
    right = (probs[:, :, 1] > 0.5) == labels
    only = int((right[1] & ~right[0]).sum()), int((right[0] & ~right[1]).sum())
    assert pair.acc == paired_shares(*only, len(labels))
    areas = auc_influence(labels, probs, card.task)
    expected = difference([areas.values[1]], [areas.values[0]], of_difference(areas.covariance(), 1, (FITTED, FITTED)))
    assert pair.auc is not None
    assert (pair.auc.value, pair.auc.p) == pytest.approx((expected.value, expected.p))
    assert (pair.auc.low_90, pair.auc.high_90) == pytest.approx((expected.low_90, expected.high_90))


@lru_cache(maxsize=2)
def called_different(count: int, num_studies: int) -> tuple[float, float]:
    """Share of faithful re-runs that differ, and of those whose true AUC shift is the margin that are equivalent.

    A re-run draws another noise around the same scores, as another machine's arithmetic grows to by the last epoch.
    """
    generator = np.random.default_rng([count, num_studies])
    differ, equivalent, card = 0, 0, make_card("breastmnist")
    lower = ndtri(ndtr(1.6) - EQUIVALENCE_MARGIN) / 1.6  # of the separation, sqrt(2) times 1.6: the AUC less the margin
    for _ in range(num_studies):
        labels = (generator.random(600) < 0.7).astype(np.int64)
        shared = generator.normal(size=600)
        faithful, shifted = [], []
        for _ in range(count):
            one, other = generator.normal(size=(2, 600))
            noise = np.sqrt(0.9) * shared
            first, second = (noise + np.sqrt(0.1) * own for own in (one, other))
            signal = labels * 1.6 * np.sqrt(2)
            tables = made_table(labels, first + signal), made_table(labels, second + signal)
            faithful.append(contrast(*tables, card, ("a", "b")))
            worse = made_table(labels, second + lower * signal)
            shifted.append(contrast(tables[0], worse, card, ("a", "b")))
        judged = [pairs[0] if count == 1 else mean_contrast(pairs) for pairs in (faithful, shifted)]
        differ += judged[0].verdict == "differs"
        equivalent += judged[1].verdict == "equivalent"
    return differ / num_studies, equivalent / num_studies


@pytest.mark.parametrize(
    ("count", "num_studies"),
    [(1, 150), (3, 60), *(pytest.param(n, k, marks=pytest.mark.slow) for n, k in ((1, 1000), (3, 1000), (10, 300)))],
)
def test_a_faithful_re_run_seldom_differs_and_a_shifted_one_is_seldom_equivalent(count: int, num_studies: int) -> None:
    """Both at most 5 % of simulated re-runs, to two standard errors, of one seed and of means over several."""
    bar = 0.05 + 2 * (0.05 * 0.95 / num_studies) ** 0.5
    differ, equivalent = called_different(count, num_studies)
    assert differ <= bar
    assert equivalent <= bar
