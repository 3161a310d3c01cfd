"""Made-up records for tests of files, tables and statistics; never numbers of a study."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.data import synthetic
from bench.data.loading import file_name
from bench.protocols.loading import load_protocol
from bench.protocols.schedule import batch_bounds, learning_rate
from bench.records.card import DataCard, write_card
from bench.records.names import Run, predictions_path
from bench.records.predictions import frame_bytes, read_predictions
from bench.records.run_record import Record, write_run
from bench.records.scoring import SCORED, score_predictions
from bench.records.timing_record import TimingCell, TimingRecord
from bench.records.tracks.card import TrackCard, card_images_bytes, write_track_card
from bench.records.tracks.record import TrackLogits, TrackRecord, logits_bytes, score_cells, write_track
from bench.stats.metrics import clipped_loss, score, softmax
from bench.tracks.loading import load_track
from bench.tracks.schema import CORRUPTIONS, cells
from models.catalog import fingerprint, get_spec

RUN = Run("smoke", "timm/resnet26", "breastmnist", 3)


def make_record(run: Run = RUN, **changes: Any) -> Record:
    """A finished record with made-up scores."""
    protocol = load_protocol(run.protocol)
    content: dict[str, Any] = {
        "suite_version": "0.1.0",
        "run_id": run.run_id,
        "model": run.model,
        "dataset": run.dataset,
        "protocol": run.protocol,
        "seed": run.seed,
        "status": "done",
        "synthetic": run.synthetic,
        "val": {"auc": 0.5, "acc": 0.25},
        "test": {"auc": None, "acc": 0.125},
        "test_twin_free": {"auc": 0.1 + 0.2, "acc": 1 / 3},
        "protocol_digest": protocol.digest(),
        "resolved_protocol": protocol.model_dump(mode="json"),
        "model_fingerprint": fingerprint(get_spec(run.model)),
        "predictions_sha256": "0" * 64,
    }
    return Record.model_validate({**content, **changes}).sealed()


def write_npz(name: str, folder: Path, size: int = 28) -> Path:
    """Write a stand-in as an npz file, named and built like an official one."""
    path = folder / file_name(name, size)
    np.savez_compressed(path, **synthetic.make(name, size))
    return path


def make_labels(dataset: str, num_classes: int = 2) -> dict[str, np.ndarray]:
    """Labels of the three splits: 30, 12 and 24 images, every class in each."""
    shift = len(dataset)
    return {split: (np.arange(n) * 7 + shift) % num_classes for split, n in (("train", 30), ("val", 12), ("test", 24))}


def make_card(dataset: str, num_classes: int = 2) -> DataCard:
    """A data set's card; test images 1 and 5 have twins."""
    labels = make_labels(dataset, num_classes)
    return DataCard(
        dataset=dataset,
        synthetic=dataset.startswith("synthetic-"),
        task="binary-class" if num_classes == 2 else "multi-class",
        source_size=28,
        num_channels=1,
        class_names=[f"class {k}" for k in range(num_classes)],
        clinical_positive=0,
        license="CC BY 4.0",
        citation="nobody",
        md5="0" * 32,
        num_images={split: len(values) for split, values in labels.items()},
        class_counts={split: np.bincount(values, minlength=num_classes).tolist() for split, values in labels.items()},
        labels_digest={s: hashlib.sha256(v.astype("<i8").tobytes()).hexdigest() for s, v in labels.items()},
        twin_threshold=0.99,
        num_exact_pairs={"train/test": 0, "train/val": 0, "val/test": 0},
        num_twin_pairs={"train/test": 2, "train/val": 0, "val/test": 0},
        twins={"train/test": [[0, 1], [3, 5]], "train/val": [], "val/test": []},
        exact={"train/test": [], "train/val": [], "val/test": []},
        twin_test_indices=[1, 5],
    ).sealed()


def make_predictions(dataset: str, seed: int, num_classes: int = 2) -> bytes:
    """Logits by formula, better than chance, as the runner stores them."""
    parts = []
    generator = np.random.default_rng(seed)
    for split in ("val", "test"):
        labels = make_labels(dataset, num_classes)[split]
        logits = generator.normal(size=(len(labels), num_classes)) + 1.5 * np.eye(num_classes)[labels]
        columns: dict[str, Any] = {"split": split, "index": np.arange(len(labels), dtype=np.int32)}
        columns["label"] = labels.astype(np.int16)
        columns.update({f"logit_{k}": logits[:, k].astype(np.float32) for k in range(num_classes)})
        parts.append(pd.DataFrame(columns))
    return frame_bytes(pd.concat(parts, ignore_index=True))


def read_frame(predictions: bytes) -> pd.DataFrame:
    """Stored predictions as a table that a test can change."""
    return pd.read_parquet(io.BytesIO(predictions))


def make_history(run: Run, predictions: bytes, card: DataCard) -> bytes:
    """Epochs under the run's protocol, of which the first is the best and gives the predictions."""
    protocol = load_protocol(run.protocol)
    schedule, epochs = protocol.schedule, np.arange(protocol.schedule.epochs)
    steps = len(batch_bounds(card.num_images["train"], schedule.batch_size))
    val = read_predictions(predictions).split("val")
    probs = softmax(val.logits)
    val_scores = score(val.labels, probs, card.task)
    columns: dict[str, Any] = {
        "epoch": epochs,
        "lr": [learning_rate(schedule, protocol.optim.lr, epoch, steps - 1, steps) for epoch in range(len(epochs))],
        "train_loss": 1 / (1 + epochs),
        "val_loss": clipped_loss(val.labels, probs) + epochs,
        "val_auc": (math.nan if val_scores["auc"] is None else val_scores["auc"]) / (1 + epochs),
        "val_acc": (val_scores["acc"] or 0.0) / (1 + epochs),
    }
    return frame_bytes(pd.DataFrame(columns))


def make_run(results: Path, run: Run, num_classes: int = 2, **changes: Any) -> Record:
    """Write a finished run whose scores and history are really those of its predictions."""
    card = make_card(run.dataset, num_classes)
    write_card(results, card)
    predictions = make_predictions(run.dataset, run.seed, num_classes)
    spec = get_spec(run.model)
    trained: dict[str, Any] = {}
    history = make_history(run, predictions, card) if spec.kind == "network" else None
    if history is not None:
        digest = hashlib.sha256(history).hexdigest()
        trained = {"history_sha256": digest, "best_epoch": 0, "num_params": spec.num_params or 1_000_000}
    record = make_record(
        run,
        **{
            **score_predictions(read_predictions(predictions), card),
            "labels_digest": card.labels_digest,
            "data_md5": card.md5,
            "predictions_sha256": hashlib.sha256(predictions).hexdigest(),
            **trained,
            **changes,
        },
    )
    write_run(results, record, predictions, history)
    return record


def make_skilled(
    results: Path,
    run: Run,
    skill: float | None,
    num_classes: int = 2,
    swap: bool = False,
    last: bool = False,
    **changes: Any,
) -> Record:
    """A finished run whose model is as good as its skill; None predicts the same for every image.

    With `last` its last step is scored too.
    """
    card = make_card(run.dataset, num_classes)
    write_card(results, card)
    digest = hashlib.sha256(run.run_id.encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest[:4], "big"))
    parts = []
    for split in SCORED if last else ("val", "test"):
        labels = make_labels(run.dataset, num_classes)[split.removesuffix("_last")]
        logits = generator.normal(size=(len(labels), num_classes)) + (skill or 0.0) * np.eye(num_classes)[labels]
        logits = np.tile(np.arange(num_classes) / 9, (len(labels), 1)) if skill is None else logits
        shown = labels[::-1] if swap else labels
        columns = {"split": split, "index": np.arange(len(labels), dtype=np.int32), "label": shown.astype(np.int16)}
        columns |= {f"logit_{k}": logits[:, k].astype(np.float32) for k in range(num_classes)}
        parts.append(pd.DataFrame(columns))
    predictions = frame_bytes(pd.concat(parts, ignore_index=True))
    content = {
        **score_predictions(read_predictions(predictions), card),
        "labels_digest": card.labels_digest,
        "predictions_sha256": hashlib.sha256(predictions).hexdigest(),
    }
    record = make_record(run, **{**content, **changes})
    write_run(results, record, predictions, None)
    return record


def make_rerun(
    results: Path, run: Run, change: Callable[[pd.DataFrame], pd.DataFrame], num_classes: int = 2, **changes: Any
) -> Record:
    """As `make_run`, with predictions that a function changed: another training of the same run."""
    card = make_card(run.dataset, num_classes)
    write_card(results, card)
    predictions = frame_bytes(change(read_frame(make_predictions(run.dataset, run.seed, num_classes))))
    content = {
        **score_predictions(read_predictions(predictions), card),
        "labels_digest": card.labels_digest,
        "predictions_sha256": hashlib.sha256(predictions).hexdigest(),
        "train_seconds": 2.0,
        "device": "cpu: another",
    }
    record = make_record(run, **{**content, **changes})
    write_run(results, record, predictions, None)
    return record


def make_timing(model: str, device: str, cells: list[TimingCell], **changes: Any) -> TimingRecord:
    """A timing record that holds some cells; not sealed."""
    content: dict[str, Any] = {
        "suite_version": "0",
        "model": model,
        "model_fingerprint": "0",
        "device": device,
        "num_threads": 1,
        "driver": None,
        "scan_backend": None,
        "cells": cells,
        "packages": {},
        "commit": None,
        "dirty": None,
    }
    return TimingRecord(**{**content, **changes})


def make_track_card(results: Path, dataset: str) -> TrackCard:
    """A data set's card of `c28`, with an image of one value in every cell."""
    images = {cell: np.full((28, 28), place, dtype=np.uint8) for place, cell in enumerate([("clean", 0), *cells()])}
    table = card_images_bytes(images)
    rows = {name: [0.9, 0.8, 0.7, 0.6, 0.5] for name in CORRUPTIONS}
    card = TrackCard(
        suite_version="0.1.0",
        track="c28",
        dataset=dataset,
        synthetic=dataset.startswith("synthetic-"),
        track_digest=load_track("c28").digest(dataset.removeprefix("synthetic-")),
        labels_digest=make_card(dataset).labels_digest["test"],
        data_md5="0" * 32,
        num_images=24,
        pixels_sha256="1" * 64,
        similarity=rows,
        cut=rows,
        num_constant=0,
        shown_index=0,
        license="CC BY 4.0",
        image_source="nobody",
        images_sha256=hashlib.sha256(table).hexdigest(),
        commit=None,
        dirty=None,
        packages={},
    ).sealed()
    write_track_card(results, card, table)
    return card


def make_track(results: Path, record: Record, changed: Callable[[np.ndarray, tuple[str, int]], np.ndarray]) -> None:
    """A finished run's record of `c28`, whose logits a function makes of the clean ones, cell by cell."""
    test = read_predictions(predictions_path(record.run.path(results))).split("test")
    logits = np.stack([changed(test.logits.copy(), cell) for cell in cells()]).astype(np.float32)
    found = TrackLogits(test.indices, logits)
    content = logits_bytes(found)
    track = TrackRecord(
        **record.model_dump(include={"suite_version", "run_id", "model", "dataset", "protocol", "seed", "synthetic"}),
        track="c28",
        track_digest=load_track("c28").digest(record.dataset.removeprefix("synthetic-")),
        protocol_digest=record.protocol_digest,
        model_fingerprint=record.model_fingerprint,
        labels_digest=make_card(record.dataset).labels_digest["test"],
        data_md5="0" * 32,
        num_images=len(test.labels),
        pixels_sha256="1" * 64,
        run_predictions_sha256=str(record.predictions_sha256),
        logits_sha256=hashlib.sha256(content).hexdigest(),
        clean=score(test.labels, softmax(test.logits), "binary-class"),
        scores=score_cells(test.labels, found, "binary-class"),
        commit=None,
        dirty=None,
        packages=record.packages,
        device="cpu: one",
        cpu_isa=None,
        num_threads=1,
    ).sealed()
    write_track(results, track, content)
