"""Rows for `medbench list`: what the catalogue, the protocols and the studies say. No torch."""

from __future__ import annotations

import fnmatch
from typing import Any

from bench.data.names import DATASETS, PAPER_DATASETS
from bench.plan.selection import expand_study
from bench.protocols.loading import families, list_protocols, list_studies, load_protocol, load_study
from bench.records.names import SYNTHETIC_PREFIX
from models.catalog import get_spec, list_models


def list_rows(what: str, pattern: str = "*") -> list[dict[str, Any]]:
    """One dict a row for `models`, `datasets`, `protocols` or `studies`, filtered by a shell pattern."""
    makers = {"models": _models, "datasets": _datasets, "protocols": _protocols, "studies": _studies}
    return [row for row in makers[what]() if fnmatch.fnmatchcase(str(row["name"]), pattern)]


def _models() -> list[dict[str, Any]]:
    rows = []
    for name in list_models():
        spec = get_spec(name)
        rows.append(
            {
                "name": name,
                "kind": spec.kind,
                "num_params": spec.num_params,
                "from_px": spec.min_size,
                "source": spec.source,
                "code_license": spec.code_license,
                "weights": spec.pretrained_tag or spec.weights_license,
                "paper": spec.paper,
            }
        )
    return rows


def _datasets() -> list[dict[str, Any]]:
    names = [*DATASETS, *(SYNTHETIC_PREFIX + flag for flag in PAPER_DATASETS)]
    note = dict.fromkeys(PAPER_DATASETS, "in the paper")
    return [
        {
            "name": name,
            "note": "synthetic, made by formula" if name.startswith(SYNTHETIC_PREFIX) else note.get(name, ""),
        }
        for name in names
    ]


def _protocols() -> list[dict[str, Any]]:
    rows = []
    # A family has one row, as its first member is.
    named = {name: name for name in list_protocols()} | {f"{family}-*": of[0] for family, of in families().items()}
    for name, of in named.items():
        protocol = load_protocol(of)
        rows.append(
            {
                "name": name,
                "img_size": protocol.data.img_size,
                "epochs": protocol.schedule.epochs,
                "optimizer": f"{protocol.optim.name} {protocol.optim.lr:g}",
                "init": protocol.init.kind,
                "digest": protocol.digest()[:12],
                "description": " ".join(protocol.description.split()),
            }
        )
    return rows


def _studies() -> list[dict[str, Any]]:
    return [
        {"name": name, "runs": len(expand_study(name)), "question": load_study(name).question}
        for name in list_studies()
    ]
