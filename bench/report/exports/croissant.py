"""A data set's card as Croissant 1.0 (JSON-LD): what the file is, its splits and classes, its twins. No images."""

from __future__ import annotations

import json
from typing import Any

from bench import __version__
from bench.data.loading import file_name
from bench.records.card import DataCard

# Where MedMNIST's official files are (a test holds it to medmnist): version 3.0 of the record, of 16 January 2024.
FILES = "https://zenodo.org/records/10519652/files/"
VERSION, PUBLISHED = "3.0.0", "2024-01-16"
LICENSES = {
    "CC BY 4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC BY-NC 4.0": "https://creativecommons.org/licenses/by-nc/4.0/",
}
# The context that the specification recommends, in its own order.
TERMS = (
    *("citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet", "format"),
    *("includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex"),
    *("repeated", "replace", "samplingRate", "separator", "source", "subField", "transform"),
)
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{term: f"cr:{term}" for term in TERMS},
}


def croissant(card: DataCard) -> bytes:
    """The card as a Croissant file: the official npz, and what was counted of it as records inside.

    Args:
        card: Of an official MedMNIST set.
    """
    name = file_name(card.dataset, card.source_size)
    near = ", ".join(f"{pair.replace('/', ' and ')} {number}" for pair, number in sorted(card.num_twin_pairs.items()))
    content = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": card.dataset,
        "description": (
            f"{card.dataset} of MedMNIST, {card.source_size} px, {card.num_channels} channel(s), {card.task}. "
            f"Measured by medspectral-bench {__version__}: pairs of near twins (pixel correlation of at least "
            f"{card.twin_threshold:g}) between splits: {near}; {len(card.twin_test_indices)} test images have one. "
            "Not for clinical use."
        ),
        "license": LICENSES.get(card.license, card.license),
        "url": "https://medmnist.com/",
        "version": VERSION,
        "datePublished": PUBLISHED,
        "citeAs": card.citation,
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": name,
                "name": name,
                "contentUrl": f"{FILES}{name}",
                "encodingFormat": "application/octet-stream",
                "md5": card.md5,
            }
        ],
        "recordSet": [_splits(card), _classes(card)],
    }
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def _splits(card: DataCard) -> dict[str, Any]:
    fields = {"name": "sc:Text", "images": "sc:Integer", "labels_sha256": "sc:Text"}
    rows = [
        {"name": split, "images": number, "labels_sha256": card.labels_digest[split]}
        for split, number in card.num_images.items()
    ]
    return _record_set("splits", "The splits: images, and the digest of their labels (int64).", fields, rows)


def _classes(card: DataCard) -> dict[str, Any]:
    fields = {"label": "sc:Integer", "name": "sc:Text", **dict.fromkeys(card.class_counts, "sc:Integer")}
    rows = [
        {"label": label, "name": name, **{split: counts[label] for split, counts in card.class_counts.items()}}
        for label, name in enumerate(card.class_names)
    ]
    return _record_set("classes", "The classes by label, with their images in each split.", fields, rows)


def _record_set(name: str, text: str, fields: dict[str, str], rows: list[dict[str, Any]]) -> dict[str, Any]:
    described = [
        {"@type": "cr:Field", "@id": f"{name}/{field}", "name": field, "dataType": kind}
        for field, kind in fields.items()
    ]
    data = [{f"{name}/{field}": value for field, value in row.items()} for row in rows]
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "description": text, "field": described, "data": data}
