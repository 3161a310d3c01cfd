"""What a corruption track says: which corruptions, how severe for which data set, on how many images."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Corruption = Literal[
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "speckle_noise",
    "gaussian_blur",
    "motion_blur",
    "pixelate",
    "jpeg",
    "brightness_up",
    "brightness_down",
    "contrast_up",
    "contrast_down",
    "gamma_up",
    "gamma_down",
]
CORRUPTIONS: tuple[Corruption, ...] = get_args(Corruption)
SEVERITIES = (1, 2, 3, 4, 5)
# Whose parameter is the smaller the more severe: photons, cells, quality, factors below 1.
FALLING = ("shot_noise", "pixelate", "jpeg", "brightness_down", "contrast_down", "gamma_down")

Severities = tuple[float, float, float, float, float]
Parameters = Mapping[Corruption, Severities]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Group(_Frozen):
    """Data sets of one modality, and where their severities are not those of all."""

    datasets: tuple[str, ...] = Field(min_length=1)
    parameters: Parameters = Field(default_factory=dict)


class Track(_Frozen):
    """A corruption track, under a frozen name: a changed one is a new file."""

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    description: str
    sources: tuple[str, ...] = ()
    source_size: Literal[28, 64, 128, 224]
    max_images: int = Field(ge=2)
    parameters: Parameters
    groups: Mapping[str, Group] = Field(min_length=1)

    @model_validator(mode="after")
    def _severities_rise(self) -> Track:
        missing = [name for name in CORRUPTIONS if name not in self.parameters]
        if missing:
            raise ValueError(f"parameters of {', '.join(missing)} are missing")
        for parameters in (self.parameters, *(group.parameters for group in self.groups.values())):
            for name, values in parameters.items():
                steps = [b - a if name not in FALLING else a - b for a, b in itertools.pairwise(values)]
                if min(steps) <= 0 or min(values) <= 0:
                    raise ValueError(f"{name} = {list(values)} is not more severe from value to value, all above 0")
        datasets = [dataset for group in self.groups.values() for dataset in group.datasets]
        if len(datasets) != len(set(datasets)):
            raise ValueError("a data set stands in two groups")
        return self

    @property
    def datasets(self) -> tuple[str, ...]:
        """The data sets that it has severities for, by MedMNIST flag."""
        return tuple(dataset for group in self.groups.values() for dataset in group.datasets)

    def severities(self, flag: str) -> dict[Corruption, Severities]:
        """The parameters of a data set, by corruption.

        Args:
            flag: One of `datasets`.
        """
        own = next(group for group in self.groups.values() if flag in group.datasets).parameters
        return {name: own.get(name, self.parameters[name]) for name in CORRUPTIONS}

    def digested(self, flag: str) -> dict[str, Any]:
        """What the digest covers: what decides the pixels of this data set, and nothing of another's."""
        severities = {name: list(values) for name, values in self.severities(flag).items()}
        return {"source_size": self.source_size, "max_images": self.max_images, "parameters": severities}

    def digest(self, flag: str) -> str:
        """SHA-256 over the canonical JSON of `digested()`."""
        text = json.dumps(self.digested(flag), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def cells() -> Iterator[tuple[Corruption, int]]:
    """Every corruption with every severity, in the order of the stored tables."""
    return itertools.product(CORRUPTIONS, SEVERITIES)
