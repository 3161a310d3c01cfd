"""What `results/tuning/` holds: a sweep's trials with their val curves, and what they chose. No torch.

`results/tuning/<grid>/<model>/<dataset>.json`, sealed. The grid and the protocol that it extends are in it whole, so
that it stands without their files. Nothing in it was measured on test data.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from bench.errors import ProtocolError, RecordError
from bench.protocols.grid import Grid
from bench.protocols.halving import best_value
from bench.protocols.loading import load_protocol
from bench.protocols.schema import Protocol
from bench.records.names import SYNTHETIC_PREFIX, ModelName, SlugName, model_slug
from bench.records.own_models import outdated
from bench.records.run_record import check_apart
from bench.records.sealed import Sealed, Strict, explain_validation, read_all, read_sealed, write_sealed

CURVES = ("train_loss", "val_loss", "val_auc", "val_acc")


class Trial(Strict):
    """One recipe of a grid: how far it was trained, and its scores after each epoch.

    Attributes:
        params: Dotted key -> value, over the base's rules.
        protocol_digest: Of the rules that this gives.
        diverged: Why it ended early, "" where its loss stayed finite.
        curves: By name (`CURVES`), a value an epoch; None where it is undefined.
    """

    params: dict[str, Any]
    protocol_digest: str
    diverged: str = ""
    curves: dict[str, list[float | None]]

    @model_validator(mode="after")
    def _whole(self) -> Trial:
        if set(self.curves) != set(CURVES) or len({len(curve) for curve in self.curves.values()}) != 1:
            raise ValueError(f"a trial has curves of one length: {', '.join(CURVES)}")
        return self

    @property
    def epochs(self) -> int:
        """Epochs that it was trained for."""
        return len(self.curves["val_auc"])


class TuningRecord(Sealed):
    """A sweep over a grid for one model on one data set; `results/README.md` defines each field."""

    suite_version: str
    grid: SlugName
    grid_digest: str
    rules: dict[str, Any]
    model: ModelName
    dataset: SlugName
    synthetic: bool
    seed: int = Field(ge=0)
    trials: list[Trial] = Field(min_length=2)
    choice: int = Field(ge=0)
    protocol: SlugName
    protocol_digest: str
    epochs: int = Field(ge=1)
    model_fingerprint: str
    labels_digest: dict[str, str]
    commit: str | None
    dirty: bool | None
    packages: dict[str, str]
    device: str
    cpu_isa: str | None
    num_threads: int

    @model_validator(mode="after")
    def _chooses_a_trial(self) -> TuningRecord:
        if self.choice >= len(self.trials):
            raise ValueError(f"choice is trial {self.choice} of {len(self.trials)}, which are counted from 0")
        return self

    @property
    def grid_rules(self) -> Grid:
        """The grid that was swept.

        Raises:
            RecordError: If the record holds none.
        """
        try:
            return Grid.model_validate(self.rules)
        except ValidationError as error:
            raise RecordError(f"rules are no grid: {explain_validation(error)}") from None

    @property
    def chosen_trial(self) -> Trial:
        """The trial that was chosen."""
        return self.trials[self.choice]

    @property
    def num_diverged(self) -> int:
        """Trials whose loss did not stay finite."""
        return sum(bool(trial.diverged) for trial in self.trials)

    @property
    def recipe(self) -> str:
        """What was chosen: `optim.lr = 0.001, optim.name = adamw`."""
        return ", ".join(f"{key} = {value}" for key, value in self.chosen_trial.params.items())

    @property
    def best(self) -> float | None:
        """The metric of the trial that was chosen, at its best epoch."""
        metric = self.grid_rules.budget.metric
        return best_value(metric, self.chosen_trial.curves[metric])

    @property
    def spent(self) -> str:
        """`8 trials, 1 diverged, 80 epochs`."""
        return f"{len(self.trials)} trials, {self.num_diverged} diverged, {self.epochs} epochs"

    @property
    def chosen(self) -> Protocol:
        """The rules that were chosen.

        Raises:
            RecordError: If the record holds none.
        """
        grid = self.grid_rules
        try:
            return grid.tuned_protocol(self.chosen_trial.params, self.model, self.dataset)
        except (ValidationError, IndexError, ValueError) as error:
            raise RecordError(f"the choice is no protocol: {explain_validation(error)}") from None


def tuning_path(results: Path, grid: str, model: str, dataset: str) -> Path:
    """Where a sweep's record stands."""
    return results / "tuning" / grid / model_slug(model) / f"{dataset}.json"


def sweep_id(grid: str, model: str, dataset: str) -> str:
    """What its checkpoints and its lock are called."""
    return f"tuning__{model_slug(model)}__{dataset}__{grid}"


def write_tuning(results: Path, record: TuningRecord) -> Path:
    """Write a sweep's record.

    Raises:
        RecordError: If the folder refuses, or the data are none of those that it takes.
    """
    check_apart(results, record.dataset, sweep_id(record.grid, record.model, record.dataset))
    path = tuning_path(results, record.grid, record.model, record.dataset)
    write_sealed(path, record)
    return path


def read_tuning(path: Path) -> TuningRecord:
    """Read a sweep's record.

    Raises:
        RecordError: If it is damaged or belongs elsewhere.
    """
    record = read_sealed(path, TuningRecord)
    reason = _misplaced(record, path)
    if reason:
        raise RecordError(f"{path}: {reason}")
    return record


def _misplaced(record: TuningRecord, path: Path) -> str:
    if tuning_path(path.parents[3], record.grid, record.model, record.dataset) != path:
        return f"the record names {record.grid} for {record.model} on {record.dataset}, which belongs elsewhere"
    if record.synthetic != record.dataset.startswith(SYNTHETIC_PREFIX):
        return "synthetic does not fit the data set's name"
    return ""


def staleness(record: TuningRecord, labels_digest: dict[str, str] | None = None) -> str:
    """Why a sweep no longer counts, "" if it does: the protocol that its grid extends, the code or the data changed.

    Args:
        record: The sweep's.
        labels_digest: By split, of the data as they are now; None where they were not measured.
    """
    base = record.grid_rules.base
    with contextlib.suppress(ProtocolError):
        if load_protocol(base.name).digest() != base.digest():
            return f"the protocol {base.name} changed"
    if labels_digest is not None and any(labels_digest.get(s) != digest for s, digest in record.labels_digest.items()):
        return "the data changed"
    reason = outdated(record.model, record.model_fingerprint, record.packages.get("timm", ""))
    return reason.removeprefix("stale, ")


def problem_of(record: TuningRecord, path: Path) -> str:
    """Why a record does not count, "" if it does: it stands elsewhere or is stale."""
    reason = staleness(record)
    return _misplaced(record, path) or (f"stale, {reason}" if reason else "")


def read_tunings(results: Path) -> tuple[list[TuningRecord], list[str]]:
    """Every sweep that counts, and why the others were left out, one line each."""
    return read_all((results / "tuning").glob("*/*/*.json"), TuningRecord, problem_of)
