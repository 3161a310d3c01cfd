"""bench.classical: the floors by hand, scikit-learn's models as they are, the real numbers where the file is."""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

import bench.classical as module
from bench.classical import CLASSICAL, SMALLEST_PROBABILITY, fit_predict, nearest_index
from bench.data.loading import Arrays, DatasetInfo, load
from bench.errors import BenchError
from bench.stats.metrics import accuracy, auc, softmax
from models import get_spec, list_models

SIZES = {"train": 40, "val": 9, "test": 11}


def _info(num_classes: int, num_channels: int) -> DatasetInfo:
    return DatasetInfo(
        name="synthetic-made",
        flag="made",
        task="binary-class" if num_classes == 2 else "multi-class",
        num_classes=num_classes,
        num_channels=num_channels,
        class_names=tuple(str(label) for label in range(num_classes)),
        license="MIT",
        synthetic=True,
        num_images=SIZES,
        md5={},
        url={},
    )


def _arrays(num_classes: int = 3, num_channels: int = 1, seed: int = 0) -> Arrays:
    """Small images whose brightness shows the class, with noise."""
    rng = np.random.default_rng(seed)
    shape = (4, 4) if num_channels == 1 else (4, 4, 3)
    labels = {split: np.arange(size) % num_classes for split, size in SIZES.items()}
    images: dict[str, NDArray[np.uint8]] = {}
    for split, values in labels.items():
        base = 40 + 60 * values.reshape(-1, *(1,) * len(shape))
        images[split] = (base + rng.integers(-30, 30, (len(values), *shape))).clip(0, 255).astype(np.uint8)
    return Arrays(images=images, labels=labels, md5="", info=_info(num_classes, num_channels))


@pytest.mark.parametrize("name", list(CLASSICAL))
@pytest.mark.parametrize(("num_classes", "num_channels"), [(2, 1), (4, 3)])
def test_scores_are_finite_log_probabilities(name: str, num_classes: int, num_channels: int) -> None:
    """Every model gives float32 logarithms for val and test whose softmax is a distribution, the same each time."""
    arrays = _arrays(num_classes, num_channels)
    logits = fit_predict(name, arrays, seed=1)
    assert list(logits) == ["val", "test"]
    for split, values in logits.items():
        assert values.dtype == np.float32
        assert values.shape == (SIZES[split], num_classes)
        assert np.isfinite(values).all()
        np.testing.assert_allclose(np.exp(values.astype(np.float64)), softmax(values), atol=1e-6)
    again = fit_predict(name, arrays, seed=1)
    assert all(np.array_equal(logits[split], again[split]) for split in logits)


@pytest.mark.parametrize("name", list(CLASSICAL))
def test_only_train_is_learnt_from(name: str) -> None:
    """Labels of val and test change nothing, and an image's scores do not depend on its companions."""
    arrays = _arrays()
    logits = fit_predict(name, arrays, seed=0)
    changed = Arrays(
        images={**arrays.images, "test": arrays.images["test"][::-1]},
        labels={"train": arrays.labels["train"], "val": np.zeros(9, np.int64), "test": np.zeros(11, np.int64)},
        md5="",
        info=arrays.info,
    )
    other = fit_predict(name, changed, seed=0)
    np.testing.assert_allclose(other["val"], logits["val"], atol=1e-6)
    np.testing.assert_allclose(other["test"], logits["test"][::-1], atol=1e-6)


@pytest.mark.parametrize("name", ["floor/knn1", "sklearn/logistic", "sklearn/hist_gradient_boosting"])
def test_what_can_be_learnt_is(name: str) -> None:
    """Classes that brightness tells apart are told apart far better than by the prior."""
    arrays = _arrays(3)
    probs = softmax(fit_predict(name, arrays, seed=0)["test"])
    assert accuracy(arrays.labels["test"], probs, "multi-class") > 0.8


def test_prior_by_hand() -> None:
    """Three of four training images are label 1: every image gets a quarter and three quarters, AUC one half."""
    arrays = _arrays(2)
    arrays.labels["train"] = np.array([1, 1, 1, 0] * 10)
    probs = softmax(fit_predict("floor/prior", arrays, seed=0)["val"])
    np.testing.assert_allclose(probs, np.tile([0.25, 0.75], (9, 1)), atol=1e-7)
    assert auc(arrays.labels["val"], probs, "binary-class") == 0.5
    assert accuracy(arrays.labels["val"], probs, "binary-class") == 4 / 9


@pytest.mark.parametrize("name", list(CLASSICAL))
def test_class_that_train_lacks(name: str) -> None:
    """A class without a training image gets the smallest probability in its own column, not its neighbour's."""
    arrays = _arrays(3)
    arrays.labels["train"] = np.where(arrays.labels["train"] == 1, 0, arrays.labels["train"])
    logits = fit_predict(name, arrays, seed=0)["test"]
    assert (logits[:, 1] == np.float32(np.log(SMALLEST_PROBABILITY))).all()
    assert (logits[:, [0, 2]].max(axis=1) > np.log(0.49)).all()


def test_nearest_by_hand() -> None:
    """The nearest of three points, and of two equally near ones the first."""
    train = np.array([[0, 0], [10, 0], [0, 10]], dtype=np.uint8)
    images = np.array([[1, 0], [9, 1], [5, 5], [0, 255], [6, 5]], dtype=np.uint8)
    assert nearest_index(train, images).tolist() == [0, 1, 0, 2, 1]


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**31), num_train=st.integers(1, 90), num_images=st.integers(1, 80), levels=st.integers(2, 256)
)
def test_nearest_is_the_first_of_the_smallest_distances(
    seed: int, num_train: int, num_images: int, levels: int
) -> None:
    """In blocks or whole, with many ties or few: the first index of the smallest exact distance."""
    rng = np.random.default_rng(seed)
    train = rng.integers(0, levels, (num_train, 3)).astype(np.uint8)
    images = rng.integers(0, levels, (num_images, 3)).astype(np.uint8)
    expected = cdist(images.astype(float), train.astype(float), "sqeuclidean").argmin(axis=1)
    with pytest.MonkeyPatch.context() as patch:
        for values in (module.BLOCK_VALUES, 1):  # whole, and in blocks of 64 rows
            patch.setattr(module, "BLOCK_VALUES", values)
            np.testing.assert_array_equal(nearest_index(train, images), expected)


def test_names_are_the_catalogues() -> None:
    """What can be fitted here is what the catalogue lists as fitted, floors first, each with its provenance."""
    fitted = [name for name in list_models() if get_spec(name).kind in ("floor", "sklearn")]
    assert sorted(CLASSICAL) == sorted(fitted)
    assert [get_spec(name).kind for name in CLASSICAL] == ["floor", "floor", "sklearn", "sklearn"]
    assert all(get_spec(name).paper and get_spec(name).source and get_spec(name).code_license for name in CLASSICAL)


def test_scikit_learn_is_imported_when_it_is_needed() -> None:
    """No module-level import of scikit-learn: names can be read without it."""
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not [node for node in top if "sklearn" in ast.dump(node)]


def test_unknown_name() -> None:
    """A mistyped name is an error that lists the known ones."""
    with pytest.raises(BenchError, match="floor/prior, floor/knn1"):
        fit_predict("floor/knn", _arrays(), seed=0)


def test_no_convergence_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A logistic regression that stops early is refused, not warned about."""
    import sklearn.linear_model

    original: Any = sklearn.linear_model.LogisticRegression
    monkeypatch.setattr(sklearn.linear_model, "LogisticRegression", lambda **options: original(max_iter=1))
    with pytest.raises(BenchError, match="did not converge"):
        fit_predict("sklearn/logistic", _arrays(), seed=0)


@pytest.mark.data
def test_knn1_on_real_breast() -> None:
    """On BreastMNIST the prior is right for 114 of the 156 test images, 1-nearest neighbour for 121."""
    root = Path(os.environ.get("MEDMNIST_ROOT") or Path.home() / ".medmnist")
    if not (root / "breastmnist.npz").is_file():
        pytest.skip(f"no breastmnist.npz in {root}")
    arrays = load("breastmnist", 28, download=False)
    measured = [
        accuracy(arrays.labels["test"], softmax(fit_predict(name, arrays, seed=0)["test"]), "binary-class")
        for name in ("floor/prior", "floor/knn1")
    ]
    assert measured == [114 / 156, 121 / 156]
