"""Which models are the suite's own, and whether evidence of a model still stands. No torch.

Of anybody else's model a report knows what its records say. Whether its file is loaded as a plugin, or its package is
installed here, moves no byte: what a contributor sends must come out the same where nobody has the file.
"""

from __future__ import annotations

from collections.abc import Iterable

from models.catalog import FITTED, HERE, ModelError, ModelSpec, get_spec, list_models
from models.catalog import outdated as outdated_here


def own_spec(name: str) -> ModelSpec | None:
    """The spec of a model that comes with the suite or that timm builds, None for anybody else's or an unknown one."""
    try:
        spec = get_spec(name)
    except ModelError:
        return None
    return spec if spec.file.parent == HERE or spec.file == FITTED else None


def own_models() -> list[str]:
    """Names of the models that come with the suite, sorted; what timm has beside them is not listed."""
    return [name for name in list_models() if own_spec(name) is not None]


def is_fitted(name: str) -> bool:
    """Whether a model comes out the same for every seed: floors and scikit-learn, which the suite alone has."""
    spec = own_spec(name)
    return spec is not None and spec.kind != "network"


def outdated(name: str, recorded: str, recorded_timm: str) -> str:
    """Why evidence of a model no longer counts, "" if it does, or if the model is nobody's here to compare with.

    Args:
        name: A model.
        recorded: The fingerprint that the evidence holds.
        recorded_timm: timm's version by the evidence.
    """
    return outdated_here(name, recorded, recorded_timm) if own_spec(name) else ""


def mixed_code(evidence: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Other people's models whose evidence comes from several versions of their code, with how many.

    Which of them is today's, nobody can tell here; a mean over both would be of no model.

    Args:
        evidence: (model, fingerprint) of each piece.
    """
    codes: dict[str, set[str]] = {}
    for model, fingerprint in evidence:
        codes.setdefault(model, set()).add(fingerprint)
    return {model: len(found) for model, found in codes.items() if len(found) > 1 and own_spec(model) is None}


def mixed_text(number: int) -> str:
    """Why no run of such a model counts, as a reason of being stale."""
    return f"the model's runs come from {number} versions of its code; with its file, --overwrite stale makes them one"
