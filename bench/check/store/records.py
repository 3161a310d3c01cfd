"""Do the records of a store fit each other, and the code that is here? No torch; git where there is one."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.check.store.run import is_network
from bench.records.predictions import PredictionTable
from bench.records.run_record import Record


def logits_digest(table: PredictionTable) -> str:
    """SHA-256 over the logits alone, in index order: the same ones in another file have the same."""
    digest = hashlib.sha256()
    for name in ("val", "test"):
        digest.update(table.split(name).logits.astype("<f4").tobytes())
    return digest.hexdigest()


def copied_problems(records: Sequence[Record], tables: Mapping[str, PredictionTable], results: Path) -> Iterator[str]:
    """Trained runs of other seeds or models with the same predictions: one of them was not measured.

    What is fitted comes out the same for every seed, and one run may stand under two protocols with the same rules.

    Args:
        records: Finished runs.
        tables: Predictions that were read, by run id; the digests of the files are compared always.
        results: The results folder.
    """
    seen: dict[tuple[str, str], Record] = {}
    for record in records:
        if is_network(record) is False:
            continue
        digests = [record.predictions_sha256 or ""]
        digests += [logits_digest(tables[record.run_id])] if record.run_id in tables else []
        firsts = [seen.setdefault((record.dataset, digest), record) for digest in digests if digest]
        copied = next((r for r in firsts if (r.model, r.seed) != (record.model, record.seed)), None)
        if copied is not None:
            yield f"{record.run.path(results)}: has the predictions of {copied.run_id}; one of the two was not measured"


def outlier_problems(records: Iterable[Record], results: Path) -> Iterator[str]:
    """Runs whose data file or number of parameters is not that of the others like them."""
    files: dict[Hashable, list[tuple[Record, Any]]] = {}
    params: dict[Hashable, list[tuple[Record, Any]]] = {}
    for record in records:
        data = record.resolved_protocol.get("data")
        rules = data if isinstance(data, dict) else {}
        files.setdefault((record.dataset, rules.get("source_size")), []).append((record, record.data_md5))
        if record.num_params is not None:
            kind = (
                record.model,
                record.model_fingerprint,
                record.dataset,
                rules.get("img_size"),
                rules.get("channels"),
            )
            params.setdefault(kind, []).append((record, record.num_params))
    for groups, name in ((files, "data_md5"), (params, "num_params")):
        for group in groups.values():
            usual, count = Counter(value for _, value in group).most_common(1)[0]
            for record, value in group:
                if value != usual:
                    others = f"{count} other run{'s' if count > 1 else ''} of the same kind"
                    yield f"{record.run.path(results)}: {name} is {value}, {others} have {usual}"


def code_problems(
    evidence: Iterable[tuple[str, str | None, bool | None]], known: frozenset[str] | None
) -> Iterator[str]:
    """Evidence made by code that nobody can look at: changed since its commit, or of a commit that is not here.

    Args:
        evidence: What it is called, its commit, and whether the code had changed.
        known: The commits that today's code stands on, None where that cannot be seen.
    """
    for name, commit, dirty in evidence:
        if dirty:
            yield f"{name}: made by code that was changed after commit {commit}"
        if commit is not None and known is not None and commit not in known:
            yield f"{name}: made by commit {commit}, which today's code does not stand on"
