"""Grids and made-up sweeps over them: what tests of tuning share; never numbers of a study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.protocols.grid import Grid, load_grid
from bench.protocols.halving import halve
from bench.records.card import DataCard, write_card
from bench.records.tuning.record import CURVES, Trial, TuningRecord, write_tuning
from models.catalog import fingerprint, get_spec
from tests.making import make_card

BASE = """
extends = "smoke"
description = "Four short epochs."
[schedule]
epochs = 4
"""
GRID = """
extends = "short-own"
[grid]
optim.lr = [1e-4, 1e-3, 1e-2, 1e-1]
[budget]
rungs = [1, 2, 4]
"""
# Of val, four trials: after an epoch 3 and 1 are the best, after two 1 is, though 2 would have become the best of all.
VALUES = ((0.5, 0.6, 0.7, 0.8), (0.7, 0.9, 0.6, 0.8), (0.6, 0.99, 0.99, 0.99), (0.8, 0.75, 0.7, 0.65))


def write_grid(folder: Path, grid: str = GRID, name: str = "lrs") -> Path:
    """Write a grid file and, beside it, the protocol that it extends."""
    (folder / "short-own.toml").write_text(BASE, encoding="utf-8")
    path = folder / f"{name}.toml"
    path.write_text(grid, encoding="utf-8")
    return path


def smoke_grid(folder: Path, name: str = "lrs") -> Grid:
    """A grid over a protocol of the suite: two epochs, four learning rates."""
    text = GRID.replace("short-own", "smoke").replace("[1, 2, 4]", "[1, 2]")
    return load_grid(write_grid(folder, text, name))


def make_trials(grid: Grid, values: Sequence[Sequence[float]] = VALUES) -> list[Trial]:
    """Trials with these values of the metric, as far as the halving lets each go."""
    curves: list[list[float | None]] = [[] for _ in values]
    while (stand := halve(grid.budget, curves)).todo:
        for number in stand.todo:
            curves[number] = list(values[number][: stand.until])
    return [
        Trial(
            params=params,
            protocol_digest=grid.trial_protocol(params, number).digest(),
            curves={name: list(curves[number]) for name in CURVES},
        )
        for number, params in enumerate(grid.trials())
    ]


def make_sweep(
    results: Path, grid: Grid, model: str = "resnet18_28", dataset: str = "breastmnist", **changes: Any
) -> TuningRecord:
    """Write the record of a sweep whose choice is that of its curves; `changes` damage it."""
    card: DataCard = make_card(dataset)
    write_card(results, card)
    trials = make_trials(grid)
    choice = halve(grid.budget, [trial.curves[grid.budget.metric] for trial in trials]).choice
    assert choice is not None
    chosen = grid.tuned_protocol(trials[choice].params, model, dataset)
    content: dict[str, Any] = {
        "suite_version": "0.1.0",
        "grid": grid.name,
        "grid_digest": grid.digest(),
        "rules": grid.model_dump(mode="json"),
        "model": model,
        "dataset": dataset,
        "synthetic": dataset.startswith("synthetic-"),
        "seed": grid.budget.seed,
        "trials": [trial.model_dump(mode="json") for trial in trials],
        "choice": choice,
        "protocol": chosen.name,
        "protocol_digest": chosen.digest(),
        "epochs": sum(trial.epochs for trial in trials),
        "model_fingerprint": fingerprint(get_spec(model)),
        "labels_digest": {split: card.labels_digest[split] for split in ("train", "val")},
        "commit": None,
        "dirty": None,
        "packages": {},
        "device": "cpu",
        "cpu_isa": "avx2",
        "num_threads": 1,
    }
    record = TuningRecord.model_validate({**content, **changes}).sealed()
    write_tuning(results, record)
    return record
