"""A run's names: its id, and where the files that it leaves stand. No torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from bench.errors import RecordError

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)?")
SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
SYNTHETIC_PREFIX = "synthetic-"
OWN_PREFIX = "own-"  # somebody's own data set


def is_own(dataset: str) -> bool:
    """Whether a data set is somebody's own, by its name."""
    return dataset.startswith(OWN_PREFIX)


def apart(dataset: str) -> str:
    """What keeps a data set out of a store of official data: `synthetic`, `own data`, or "" for nothing."""
    return "own data" if is_own(dataset) else "synthetic" if dataset.startswith(SYNTHETIC_PREFIX) else ""


@dataclass(frozen=True, order=True)
class Run:
    """One execution: model x dataset x protocol x seed."""

    protocol: str
    model: str
    dataset: str
    seed: int

    @property
    def run_id(self) -> str:
        """The id that names the run everywhere: `resnet18__breastmnist__paper-224__s0`."""
        return f"{model_slug(self.model)}__{self.dataset}__{self.protocol}__s{self.seed}"

    @property
    def synthetic(self) -> bool:
        """Whether the data is synthetic."""
        return self.dataset.startswith(SYNTHETIC_PREFIX)

    @property
    def own(self) -> bool:
        """Whether the data is somebody's own."""
        return is_own(self.dataset)

    def path(self, results: Path) -> Path:
        """Where the record stands in a results folder."""
        return results / f"records/{self.protocol}/{model_slug(self.model)}/{self.dataset}/seed{self.seed}.json"


def model_slug(name: str) -> str:
    """A model's name as a path part: `/` becomes `--`.

    Raises:
        RecordError: If the name could leave its folder or break a page.
    """
    if not NAME.fullmatch(name) or ".." in name or "--" in name:
        raise RecordError(f"{name!r} is no usable model name: letters, digits, '_.+-' and one '/'")
    return name.replace("/", "--")


def _checked_model(name: str) -> str:
    model_slug(name)
    return name


def _checked_slug(name: str) -> str:
    if not SLUG.fullmatch(name):
        raise ValueError("lower-case letters, digits and single hyphens only")
    return name


ModelName = Annotated[str, AfterValidator(_checked_model)]  # of evidence, whose path is made of it
SlugName = Annotated[str, AfterValidator(_checked_slug)]  # a data set or a protocol


def predictions_path(record_path: Path) -> Path:
    """`seed0.json` -> `seed0.predictions.parquet`."""
    return record_path.with_suffix(".predictions.parquet")


def history_path(record_path: Path) -> Path:
    """`seed0.json` -> `seed0.history.parquet`."""
    return record_path.with_suffix(".history.parquet")


def weights_path(folder: Path, run: Run) -> Path:
    """The file of a run's chosen weights in a folder of such files."""
    return folder / f"{run.run_id}.safetensors"


def log_path(results: Path, run: Run) -> Path:
    """Where the whole traceback of a failed run stands, in a folder that git ignores."""
    return results / "logs" / f"{run.run_id}.log"


def lock_path(results: Path, run: Run) -> Path:
    """The lock file of a run: who writes it, or does it, holds it."""
    return lock_file(results, run.run_id)


def lock_file(results: Path, name: str) -> Path:
    """The lock file of a run's id, or of another thing that one process at a time may write."""
    return results / ".locks" / f"{name}.lock"
