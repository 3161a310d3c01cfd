"""Measuring a data set's card: counts, digests, equal and nearly equal images across splits."""

from __future__ import annotations

import numpy as np

from bench.data import own, synthetic
from bench.data.loading import SPLITS, Arrays, Root, load
from bench.data.twins import TWIN_THRESHOLD, compare, shrunk
from bench.errors import DataError
from bench.records.card import DataCard, labels_digest
from bench.records.names import is_own

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
        name: A MedMNIST flag, `synthetic-<flag>`, or `own-<name>` whose card this process knows; near twins of one's
            own images, which may be large, are looked for at 28 px as well.
        root: As for `find_file`.
        download: As for `find_file`.

    Raises:
        DataMissingError: If the file is neither there nor downloadable.
        DataError: If it is damaged, no such set exists, or no test image of one's own is new.
    """
    arrays = load(name, MEASURED_SIZE, root, download)
    info = arrays.info
    seen = {split: shrunk(images, MEASURED_SIZE) for split, images in arrays.images.items()}
    duplicates = compare(arrays.images, seen)
    citation, positive = _said(arrays)
    if is_own(name) and len(duplicates.test_indices) == len(arrays.labels["test"]):
        raise DataError(f"{name}: every test image is, or nearly is, one of train or val; divide the images otherwise")
    return DataCard(
        dataset=name,
        synthetic=info.synthetic,
        task=info.task,
        source_size=arrays.images["train"].shape[1],
        num_channels=info.num_channels,
        class_names=list(info.class_names),
        clinical_positive=positive,
        license=info.license,
        citation=citation,
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


def _said(arrays: Arrays) -> tuple[str, int | None]:
    """Whom to cite for a set, and the label of its clinical positive."""
    info = arrays.info
    if is_own(info.name):
        card = own.read_own_card(own.card_file(info.name))
        return card.citation, card.clinical_positive
    return synthetic.CITATION if info.synthetic else CITATION, CLINICAL_POSITIVE.get(info.flag)


def own_change(card: DataCard, arrays: Arrays) -> str:
    """What of one's own set is no longer what its measured card says, "" for nothing.

    Args:
        card: As it was measured.
        arrays: The set as it is now.
    """
    info, (citation, positive) = arrays.info, _said(arrays)
    now = {
        "task": info.task,
        "num_channels": info.num_channels,
        "class_names": list(info.class_names),
        "clinical_positive": positive,
        "license": info.license,
        "citation": citation,
        "md5": arrays.md5,
    }
    changed = [name for name, value in now.items() if getattr(card, name) != value]
    return "images, labels or splits" if changed == ["md5"] else ", ".join(changed)
