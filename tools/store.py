"""A large results folder of synthetic records, for measuring plan, verify and report; never a study's numbers.

    python -m tools.store FOLDER [--seeds 119]

The seven models of the comparison on the six synthetic stand-ins: 42 records a seed, 4,998 by default. Logits are drawn
from names, with a skill of each model; scores are computed from them as a run's are.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from bench import __version__
from bench.data.card import measure
from bench.data.loading import load
from bench.data.names import PAPER_DATASETS
from bench.protocols.loading import load_protocol
from bench.records.card import DataCard, write_card
from bench.records.names import SYNTHETIC_PREFIX, Run
from bench.records.predictions import frame_bytes, read_predictions
from bench.records.run_record import Record, write_run
from bench.records.scoring import score_predictions
from models.catalog import fingerprint, get_spec

PROTOCOL = "smoke"  # no study plans its seeds, so that every record enters the statistics
MODELS = ("medspectralnet", "resnet18", "resnet50", "medvit_t", "swin_t", "convnext_t", "medmamba_t")


def make_store(results: Path, seeds: int) -> int:
    """Fill a folder; returns the number of records."""
    protocol = load_protocol(PROTOCOL)
    common = {
        "suite_version": __version__,
        "protocol": PROTOCOL,
        "status": "done",
        "synthetic": True,
        "protocol_digest": protocol.digest(),
        "resolved_protocol": protocol.model_dump(mode="json"),
    }
    prints = {model: fingerprint(get_spec(model)) for model in MODELS}
    number = 0
    for flag in PAPER_DATASETS:
        dataset = SYNTHETIC_PREFIX + flag
        labels, card = load(dataset, 28).labels, measure(dataset)
        write_card(results, card)
        for model in MODELS:
            for seed in range(seeds):
                run = Run(PROTOCOL, model, dataset, seed)
                write(results, run, labels, card, {**common, "model_fingerprint": prints[model]})
                number += 1
    return number


def write(results: Path, run: Run, labels: dict[str, np.ndarray], card: DataCard, common: dict[str, object]) -> None:
    """One record with its two tables."""
    draw = np.random.default_rng(int.from_bytes(hashlib.sha256(run.run_id.encode()).digest()[:8], "big"))
    num_classes = len(card.class_names)
    parts = []
    for split in ("val", "test"):
        truth = labels[split]
        logits = (
            draw.normal(size=(len(truth), num_classes))
            + (1 + MODELS.index(run.model) / 10) * np.eye(num_classes)[truth]
        )
        columns = {"split": split, "index": np.arange(len(truth), dtype=np.int32), "label": truth.astype(np.int16)}
        columns |= {f"logit_{k}": logits[:, k].astype(np.float32) for k in range(num_classes)}
        parts.append(pd.DataFrame(columns))
    predictions = frame_bytes(pd.concat(parts, ignore_index=True))
    epochs = np.arange(2)
    curve = {
        "epoch": epochs,
        "lr": 1e-3,
        "train_loss": 1.0 - epochs / 4,
        "val_loss": 1.0,
        "val_auc": 0.6,
        "val_acc": 0.5,
    }
    history = frame_bytes(pd.DataFrame(curve))
    record = Record.model_validate(
        {
            **common,
            **score_predictions(read_predictions(predictions), card),
            "run_id": run.run_id,
            "model": run.model,
            "dataset": run.dataset,
            "seed": run.seed,
            "best_epoch": 1,
            "labels_digest": card.labels_digest,
            "predictions_sha256": hashlib.sha256(predictions).hexdigest(),
            "history_sha256": hashlib.sha256(history).hexdigest(),
            "images_per_second": 100.0,
            "train_seconds": 2.56,
        }
    )
    write_run(results, record.sealed(), predictions, history)


def main() -> None:
    """Make the folder and say how many records it holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=119)
    arguments = parser.parse_args()
    print(f"{make_store(arguments.folder, arguments.seeds)} records in {arguments.folder}")


if __name__ == "__main__":
    main()
