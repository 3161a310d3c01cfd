"""What the ablation studies vary, as their TOML says it: protocols by their factors, models by the part they lack."""

from __future__ import annotations

from bench.errors import BenchError
from bench.protocols.loading import load_protocol, load_study
from bench.protocols.schema import Factors, Removal

__all__ = ["FACTORS", "MAPS", "REMOVAL", "factorial_protocol", "is_compared"]


def _removal() -> Removal:
    removal = load_study("ablation").removal
    assert removal is not None
    return removal


FACTORS: dict[str, Factors] = dict(load_study("table2").factors)  # protocol -> what it sets, in Table 2's order
REMOVAL = _removal()
MAPS = "gradcam-224"  # the protocol under which one model is trained for its maps: nothing is compared


def is_compared(protocol: str) -> bool:
    """Whether Table 3 compares the models of a protocol: not where a study varies it, or draws its training images."""
    if _draws_images(protocol):
        return False
    return protocol not in FACTORS and protocol != MAPS


def _draws_images(protocol: str) -> bool:
    """Whether it is one of many draws of few, or of rare, training images; one that is not known here is none."""
    try:
        rules = load_protocol(protocol).data
    except BenchError:
        return False
    return rules.positive_share is not None or rules.train_per_class is not None


def factorial_protocol(optimiser: str, augmentation: str) -> str:
    """The protocol of Table 2 that sets both."""
    return next(name for name, own in FACTORS.items() if (own.optimiser, own.augmentation) == (optimiser, augmentation))
