"""Equal and nearly equal images, on arrays small enough to do by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bench.data import twins
from bench.data.twins import compare, find_exact, find_twins, nearest


def gray(*images):
    """Images of one row of pixels each."""
    return np.array(images, dtype=np.uint8)[:, None, :]


def test_correlation_is_pearsons():
    """(0, 1, 2) and (0, 1, 5): covariance 5, variances 2 and 14, so 5 / sqrt(28) = 0.9449."""
    first, second = gray((0, 1, 2)), gray((0, 1, 5))
    assert find_twins(first, second, threshold=0.9449).num == 1
    assert find_twins(first, second, threshold=0.9450).num == 0


def test_the_threshold_itself_is_a_twin():
    """(0, 1, 0) and (0, 1, 1) correlate at exactly 1/2; an equal and a scaled image at exactly 1."""
    assert find_twins(gray((0, 1, 0)), gray((0, 1, 1)), threshold=0.5).num == 1
    assert find_twins(gray((3, 7, 250)), gray((3, 7, 250)), threshold=1.0).num == 1
    assert find_twins(gray((0, 1, 3)), gray((1, 11, 31)), threshold=1.0).num == 1


def test_a_negative_is_no_twin():
    """Only the sign of likeness counts: an inverted image correlates at -1."""
    assert find_twins(gray((0, 1, 2)), gray((2, 1, 0))).num == 0


def test_one_value_images_are_nobodys_twin():
    """Images of one value have no correlation and give no NaN, but equal ones are matched by their bytes."""
    first, second = gray((0, 0, 0), (255, 255, 255), (0, 1, 2)), gray((0, 0, 0), (7, 7, 7), (0, 2, 4))
    assert find_twins(first, second).pairs == [[2, 2]]
    assert find_exact(first, second).pairs == [[0, 0]]


def test_a_nearly_black_image_is_compared_exactly():
    """One gray step in a bright image is not lost to rounding."""
    first = np.full((1, 28, 28), 255, dtype=np.uint8)
    first[0, 3, 4] = 254
    other = first.copy()
    other[0, 3, 4], other[0, 3, 5] = 255, 254
    assert find_twins(first, first, threshold=1.0).num == 1
    assert find_twins(first, other, threshold=0.5).num == 0


def test_colours_are_compared_together():
    """Swapped channels are another image although each channel alone has one value."""
    red = np.zeros((1, 2, 2, 3), dtype=np.uint8)
    blue = red.copy()
    red[..., 0], blue[..., 2] = 200, 200
    assert find_twins(red, red).num == 1
    assert find_twins(red, blue).num == 0


def test_pairs_are_counted_past_the_limit():
    """The list is cut at the limit, sorted; the count and the marks of the second split are whole."""
    first, second = gray((0, 1, 2), (5, 5, 6), (0, 1, 2)), gray((9, 0, 0), (0, 1, 2), (0, 10, 20))
    twins = find_twins(first, second, limit=3)
    assert (twins.num, twins.pairs) == (4, [[0, 1], [0, 2], [2, 1]])
    assert twins.second_has.tolist() == [False, True, True]
    exact = find_exact(first, second, limit=1)
    assert (exact.num, exact.pairs, exact.second_has.tolist()) == (2, [[0, 1]], [False, True, False])


def test_test_indices_are_twins_and_equals_of_both_splits():
    """A test image counts if train or val has its twin, or, for an image of one value, its equal."""
    overlap = compare(
        {
            "train": gray((0, 1, 2), (4, 4, 4)),
            "val": gray((3, 0, 0), (0, 1, 2)),
            "test": gray((0, 2, 4), (4, 4, 4), (0, 9, 0), (6, 0, 0)),
        }
    )
    assert {key: pairs.pairs for key, pairs in overlap.twins.items()} == {
        "train/val": [[0, 1]],
        "train/test": [[0, 0]],
        "val/test": [[0, 3], [1, 0]],
    }
    assert {key: pairs.num for key, pairs in overlap.exact.items()} == {"train/val": 1, "train/test": 1, "val/test": 0}
    assert overlap.test_indices == [0, 1, 3]


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 7), st.just(2), st.just(3)), elements=st.integers(0, 3)),
    arrays(np.uint8, st.tuples(st.integers(1, 7), st.just(2), st.just(3)), elements=st.integers(0, 3)),
    st.sampled_from([0.3, 0.75, 0.99]),
)
def test_blocks_change_nothing(first, second, threshold):
    """The pairs are those of a plain double loop, whatever the block, and no other."""
    expected = []
    for row, a in enumerate(first.reshape(len(first), -1).astype(float)):
        for column, b in enumerate(second.reshape(len(second), -1).astype(float)):
            a_centred, b_centred = a - a.mean(), b - b.mean()
            scale = np.sqrt((a_centred**2).sum() * (b_centred**2).sum())
            correlation = (a_centred * b_centred).sum() / scale if scale else 0.0
            if abs(correlation - threshold) < 1e-9:
                return
            if correlation > threshold:
                expected.append([row, column])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(twins, "BLOCK", 2)
        patch.setattr(twins, "EXACT_BLOCK", 2)
        assert find_twins(first, second, threshold).pairs == expected


def test_whole_numbers_decide_where_float32_cannot(monkeypatch):
    """Pairs within the margin are decided by whole numbers, also when a block holds many of them."""
    monkeypatch.setattr(twins, "EXACT_BLOCK", 3)
    monkeypatch.setattr(twins, "MARGIN", 2.0)
    generator = np.random.default_rng(5)
    first = generator.integers(0, 256, (20, 4, 4), dtype=np.uint8)
    second = np.concatenate([first[7:9] // 2, generator.integers(0, 256, (9, 4, 4), dtype=np.uint8)])
    assert find_twins(first, second).pairs == [[7, 0], [8, 1]]


def test_the_nearest_image_is_the_one_that_numpy_finds(monkeypatch):
    """Each image's highest correlation with the first split, in blocks or at once; an image of one value has 0."""
    generator = np.random.default_rng(4)
    first, second = (generator.integers(0, 256, size=(n, 5, 5), dtype=np.uint8) for n in (40, 9))
    second[3], second[4] = first[17], 9
    second[5] = first[2] // 2
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = np.corrcoef(first.reshape(40, -1), second.reshape(9, -1))[:40, 40:].max(axis=0)
    expected[4] = 0.0
    found = nearest(first, second)
    assert found == pytest.approx(expected, abs=1e-12)
    assert found[3] == 1.0
    monkeypatch.setattr(twins, "BLOCK", 7)
    assert np.array_equal(nearest(first, second), found)
