"""Measuring a data set's card: counts, digests, equal and nearly equal images across splits."""

from __future__ import annotations

import numpy as np

from bench.data import synthetic
from bench.data.loading import SPLITS, Root, load
from bench.data.twins import TWIN_THRESHOLD, compare
from bench.records.card import DataCard, labels_digest

MEASURED_SIZE = 28
# The class whose absence or presence a clinician asks for: malignant, pneumonia, melanoma.
CLINICAL_POSITIVE = {"breastmnist": 0, "pneumoniamnist": 1, "dermamnist": 4}
CITATION = (
    "Yang et al., MedMNIST v2: a large-scale lightweight benchmark for 2D and 3D biomedical image classification, "
    "Scientific Data 10:41, 2023, https://doi.org/10.1038/s41597-022-01721-8; and the source data named there"
)


def measure(name: str, root: Root = None, download: bool = True) -> DataCard:
    """What reports need of a data set: counts, digests, equal and nearly equal images across splits.

    Args:
        name: A MedMNIST flag, or `synthetic-<flag>`.
        root: As for `find_file`.
        download: As for `find_file`.

    Raises:
        DataMissingError: If the file is neither there nor downloadable.
        DataError: If it is damaged or no such set exists.
    """
    arrays = load(name, MEASURED_SIZE, root, download)
    info, duplicates = arrays.info, compare(arrays.images)
    return DataCard(
        dataset=name,
        synthetic=info.synthetic,
        task=info.task,
        source_size=MEASURED_SIZE,
        num_channels=info.num_channels,
        class_names=list(info.class_names),
        clinical_positive=CLINICAL_POSITIVE.get(info.flag),
        license=info.license,
        citation=synthetic.CITATION if info.synthetic else CITATION,
        md5=arrays.md5,
        num_images={split: len(arrays.labels[split]) for split in SPLITS},
        class_counts={
            split: np.bincount(arrays.labels[split], minlength=info.num_classes).tolist() for split in SPLITS
        },
        labels_digest={split: labels_digest(arrays.labels[split]) for split in SPLITS},
        twin_threshold=TWIN_THRESHOLD,
        num_exact_pairs={key: pairs.num for key, pairs in duplicates.exact.items()},
        num_twin_pairs={key: pairs.num for key, pairs in duplicates.twins.items()},
        twins={key: pairs.pairs for key, pairs in duplicates.twins.items()},
        exact={key: pairs.pairs for key, pairs in duplicates.exact.items()},
        twin_test_indices=duplicates.test_indices,
        similarity={key: values.tolist() for key, values in duplicates.similarity.items()},
    ).sealed()
