"""Names of the data sets that can be scored: MedMNIST flags and their synthetic stand-ins. No medmnist."""

from __future__ import annotations

from bench.errors import DataError, suggestion
from bench.records.names import SYNTHETIC_PREFIX, is_own

# The paper's six sets, then medmnist's other 2D sets with one label an image; a test holds them equal to its INFO.
PAPER_DATASETS = ("bloodmnist", "breastmnist", "dermamnist", "pneumoniamnist", "organcmnist", "organsmnist")
DATASETS = (*PAPER_DATASETS, "octmnist", "organamnist", "pathmnist", "retinamnist", "tissuemnist")
MULTI_LABEL = ("chestmnist",)


def flag_of(name: str) -> str:
    """The MedMNIST flag of a data set's name: `synthetic-breastmnist` -> `breastmnist`.

    Raises:
        DataError: If no such set can be scored, with the closest name.
    """
    flag = name.removeprefix(SYNTHETIC_PREFIX)
    is_synthetic = flag != name
    known = PAPER_DATASETS if is_synthetic else DATASETS
    if flag in known:
        return flag
    if is_own(name):
        raise DataError(f"{name!r} is a data set of one's own; name its card: --datasets path/to/card.toml")
    names = [SYNTHETIC_PREFIX + known_flag if is_synthetic else known_flag for known_flag in known]
    if flag in MULTI_LABEL:
        raise DataError(f"{name!r} has several labels an image, the suite scores one: {', '.join(names)}")
    if flag.endswith("3d"):
        raise DataError(f"{name!r} holds volumes, the suite takes 2D sets: {', '.join(names)}")
    raise DataError(f"Unknown data set {name!r}; {suggestion(name.lower(), names)}")
