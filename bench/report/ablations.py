"""What studies vary, as their TOML says it: protocols by their factors or their start, models by the part they lack."""

from __future__ import annotations

from bench.protocols.loading import load_study
from bench.protocols.schema import Factors, Removal, Start

__all__ = ["FACTORS", "MAPS", "REMOVAL", "STARTED", "STARTED_SEEDS", "STARTS", "factorial_protocol", "is_compared"]


def _removal() -> Removal:
    removal = load_study("ablation").removal
    assert removal is not None
    return removal


FACTORS: dict[str, Factors] = dict(load_study("table2").factors)  # protocol -> what it sets, in Table 2's order
REMOVAL = _removal()
STARTS: dict[str, Start] = dict(load_study("init").starts)  # protocol -> where training starts, in the table's order
# The cells (model, data set) whose start the study `init` varies: each is one primary test of its plan.
STARTED = tuple(dict.fromkeys((m, d) for part in load_study("init").parts for m in part.models for d in part.datasets))
STARTED_SEEDS = max(len(part.seeds) for part in load_study("init").parts)
MAPS = "gradcam-224"  # the protocol under which one model is trained for its maps: nothing is compared


def is_compared(protocol: str) -> bool:
    """Whether Table 3 compares the models of a protocol."""
    return protocol not in FACTORS and protocol != MAPS and STARTS.get(protocol, "scratch") == "scratch"


def factorial_protocol(optimiser: str, augmentation: str) -> str:
    """The protocol of Table 2 that sets both."""
    return next(name for name, own in FACTORS.items() if (own.optimiser, own.augmentation) == (optimiser, augmentation))
