"""`medbench export`: a results folder's cards and scores as files of another format, real data alone."""

from __future__ import annotations

import hashlib
import math
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from bench.data.names import DATASETS
from bench.errors import RecordError
from bench.records.card import read_card
from bench.records.names import model_slug
from bench.records.run_record import results_folder
from bench.records.sealed import write_atomic
from bench.report.analysis.analyse import analyse
from bench.report.evidence import gather
from bench.report.exports.croissant import croissant
from bench.report.exports.every_eval import DEVELOPER, every_eval
from bench.report.exports.hub import Hub, eval_results
from bench.report.tidy import grouped

FORMATS = ("croissant", "every-eval-ever", "eval-results")
EPOCH_VARIABLE = "SOURCE_DATE_EPOCH"  # seconds since 1970, by which an export is the same at any time


def export(results: Path, target: Path, kind: str, hub: Hub | None = None) -> list[Path]:
    """Write the files of a format; those that stand there are replaced.

    Args:
        results: The results folder.
        target: A folder for the files.
        kind: One of `FORMATS`.
        hub: For `eval-results`.

    Raises:
        RecordError: If the format is unknown, or nothing in the folder has it.
    """
    if kind not in FORMATS:
        raise RecordError(f"Unknown format {kind!r}; there are {', '.join(FORMATS)}")
    if kind != "eval-results" and (hub or Hub()) != Hub():
        raise RecordError(f"--benchmark, --task, --protocol and --source are for eval-results; {kind} has all scores")
    results_folder(results)
    if kind == "croissant":
        files = _croissant(results)
    elif kind == "every-eval-ever":
        files = _every_eval(results)
    else:
        files = _eval_results(results, hub or Hub())
    if not files:
        raise RecordError(f"{results} holds nothing that {kind} describes: real data and finished runs alone")
    for name, content in files.items():
        write_atomic(target / name, content)
    return [target / name for name in files]


def _croissant(results: Path) -> Mapping[str, bytes]:
    """`<dataset>.json` for each card of an official set: of other data nobody knows here where the file is."""
    names = sorted(path.stem for path in (results / "data").glob("*.json") if path.stem in DATASETS)
    cards = [read_card(results, name) for name in names]
    return {f"{card.dataset}.json": croissant(card) for card in cards if card is not None}


def _every_eval(results: Path) -> Mapping[str, bytes]:
    """`data/medmnist/<developer>/<model>/<uuid>.json`, a name that the same model and protocol give again."""
    evidence = gather(results)
    scores = analyse(evidence, synthetic=False).table_scores
    records = grouped(evidence.finished(synthetic=False), lambda record: (record.protocol, record.model))
    when = _seconds()
    known = [score for score in scores if not math.isnan(score.mean)]
    return {
        f"data/medmnist/{DEVELOPER}/{model_slug(key[1])}/{_uuid(*key)}.json": every_eval(
            own, records[key], evidence.cards, when
        )
        for key, own in grouped(known, lambda score: (score.protocol, score.model)).items()
    }


def _seconds() -> int:
    """Now, or what the environment says."""
    given = os.environ.get(EPOCH_VARIABLE, "")
    if given and not (given.isascii() and given.isdigit()):
        raise RecordError(f"{EPOCH_VARIABLE} is {given!r}; give whole seconds since 1970, or unset it")
    return int(given or time.time())


def _uuid(protocol: str, model: str) -> uuid.UUID:
    """In the form of a random one, which the format wants, from names alone: more seeds replace a model's file."""
    return uuid.UUID(bytes=hashlib.sha256(f"{protocol}\n{model}".encode()).digest()[:16], version=4)


def _eval_results(results: Path, hub: Hub) -> Mapping[str, bytes]:
    """`<model>/.eval_results/<dataset>.yaml`."""
    owner, _, name = hub.benchmark.partition("/")
    if not owner or not name or "/" in name:
        raise RecordError("eval-results belong to a benchmark's data set on the Hub: give --benchmark owner/name")
    scores = analyse(gather(results), synthetic=False).table_scores
    known = [score for score in scores if score.part == "test" and not math.isnan(score.mean)]
    if hub.protocol:
        protocols = sorted({score.protocol for score in known})
        known = [score for score in known if score.protocol == hub.protocol]
        if not known:
            raise RecordError(
                f"No scores under {hub.protocol!r}; there are some under {', '.join(protocols) or 'none'}"
            )
    return {
        f"{model_slug(model)}/.eval_results/{dataset}.yaml": eval_results(own, hub)
        for (model, dataset), own in grouped(known, lambda score: (score.model, score.dataset)).items()
    }
