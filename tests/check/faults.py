"""A few files of the real store, and what somebody could plant there, each with fitting digests."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.protocols.loading import load_protocol
from bench.records.card import DataCard, read_card, write_card
from bench.records.cost_record import CostRecord
from bench.records.names import Run, history_path, predictions_path
from bench.records.predictions import frame_bytes, read_predictions
from bench.records.run_record import Record, read_record
from bench.records.scoring import score_predictions
from bench.records.sealed import pretty

RESULTS = Path(__file__).parents[2] / "results"
SEEDS = [Run("lite-96", "resnet18", "breastmnist", seed) for seed in range(3)]
OTHER = Run("lite-96", "resnet50", "breastmnist", 0)
FLOOR = Run("lite-96", "floor/knn1", "breastmnist", 0)
COST = "costs/resnet18/224-2.json"
ALONE = ("store.json", "data/breastmnist.json", "bands.toml", COST)


def copy_store(target: Path) -> Path:
    """Four trainings and a floor of the real store, their card, costs and bands."""
    files = [RESULTS / name for name in ALONE]
    for run in (*SEEDS, OTHER, FLOOR):
        path = run.path(RESULTS)
        files += [file for file in (path, predictions_path(path), history_path(path)) if file.exists()]
    for file in files:
        copy = target / file.relative_to(RESULTS)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    return target


def edit_json(path: Path, **changes: Any) -> None:
    """Change a file without giving it another digest."""
    path.write_bytes(pretty({**json.loads(path.read_bytes()), **changes}))


def reseal(results: Path, run: Run, **changes: Any) -> Path:
    """Change a record and give it a fitting digest."""
    path = run.path(results)
    record = Record.model_validate({**json.loads(path.read_bytes()), **changes, "record_digest": ""})
    path.write_bytes(pretty(record.sealed().model_dump(mode="json")))
    return path


def read_table(results: Path, run: Run) -> pd.DataFrame:
    """The stored predictions of a run."""
    return pd.read_parquet(predictions_path(run.path(results)))


def rescore(results: Path, run: Run, table: pd.DataFrame, **changes: Any) -> Path:
    """Put other predictions under a run, with the scores that they give."""
    content = frame_bytes(table)
    path = run.path(results)
    predictions_path(path).write_bytes(content)
    card = read_card(results, run.dataset)
    assert card is not None
    scores = score_predictions(read_predictions(content), card)
    return reseal(results, run, **scores, predictions_sha256=hashlib.sha256(content).hexdigest(), **changes)


def rewrite_history(results: Path, run: Run, change: Callable[[pd.DataFrame], pd.DataFrame], **changes: Any) -> Path:
    """Change a run's history, and the record's digest of it."""
    path = run.path(results)
    content = frame_bytes(change(pd.read_parquet(history_path(path))))
    history_path(path).write_bytes(content)
    return reseal(results, run, history_sha256=hashlib.sha256(content).hexdigest(), **changes)


def logits_of(table: pd.DataFrame) -> list[str]:
    """Names of the columns with logits."""
    return [name for name in table if name.startswith("logit_")]


def swapped_logits(results: Path) -> Path:
    """The logits of two models are swapped."""
    first, second = read_table(results, SEEDS[0]), read_table(results, OTHER)
    rescore(results, OTHER, first)
    return rescore(results, SEEDS[0], second)


def invented_logits(results: Path) -> Path:
    """Logits that somebody made up, better than any network's."""
    table = read_table(results, SEEDS[0])
    names = logits_of(table)
    drawn = np.random.default_rng(0).normal(size=(len(table), len(names))) + 3 * np.eye(len(names))[table["label"]]
    return rescore(results, SEEDS[0], table.assign(**dict(zip(names, drawn.T.astype(np.float32), strict=True))))


def copied_seed(results: Path, compression: str = "zstd") -> Path:
    """Everything of seed 0 again under seed 1."""
    first = read_record(SEEDS[0].path(results))
    path = SEEDS[1].path(results)
    buffer = io.BytesIO()
    read_table(results, SEEDS[0]).to_parquet(buffer, index=False, compression=compression)
    predictions_path(path).write_bytes(buffer.getvalue())
    shutil.copyfile(history_path(SEEDS[0].path(results)), history_path(path))
    same = ("history_sha256", "val", "test", "test_twin_free", "best_epoch")
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    return reseal(results, SEEDS[1], predictions_sha256=digest, **{name: getattr(first, name) for name in same})


def swapped_splits(results: Path) -> Path:
    """What was predicted for val is called test, and the other way round."""
    table = read_table(results, SEEDS[0])
    other = {"val": "test", "test": "val"}
    content = frame_bytes(table.assign(split=table["split"].map(other)))
    path = SEEDS[0].path(results)
    predictions_path(path).write_bytes(content)
    record = read_record(path)
    return reseal(
        results, SEEDS[0], val=record.test, test=record.val, predictions_sha256=hashlib.sha256(content).hexdigest()
    )


def swapped_splits_of_the_card(results: Path) -> Path:
    """The same, in the card and in the records' digests of labels too."""
    path = swapped_splits(results)
    content = json.loads((results / "data" / "breastmnist.json").read_bytes())
    for name in ("num_images", "class_counts", "labels_digest"):
        content[name] |= {"val": content[name]["test"], "test": content[name]["val"]}
    for name in ("twins", "exact"):
        content[name] = {key: [] for key in content[name]}
    changed_card(results, **{**content, "twin_test_indices": [], "similarity": None})
    rescore(results, SEEDS[0], read_table(results, SEEDS[0]), labels_digest=content["labels_digest"])
    return path


def rounded_logits(results: Path, splits: Sequence[str] = ("val", "test")) -> Path:
    """Logits at half precision, scored again."""
    table = read_table(results, SEEDS[0])
    chosen = table["split"].isin(splits)
    for name in logits_of(table):
        table.loc[chosen, name] = table.loc[chosen, name].astype(np.float16).astype(np.float32)
    return rescore(results, SEEDS[0], table)


def other_epoch(results: Path) -> Path:
    """The epoch after the chosen one."""
    record = read_record(SEEDS[0].path(results))
    assert record.best_epoch is not None
    return reseal(results, SEEDS[0], best_epoch=record.best_epoch + 1)


def reversed_history(results: Path, kept: Sequence[str] = ()) -> Path:
    """The epochs in the other order, some columns as they were, and the chosen one where it then stands."""

    def reverse(history: pd.DataFrame) -> pd.DataFrame:
        turned = history.iloc[::-1].reset_index(drop=True)
        return turned.assign(**{name: history[name] for name in kept})

    record = read_record(SEEDS[0].path(results))
    history = pd.read_parquet(history_path(SEEDS[0].path(results)))
    best = len(history) - 1 - (record.best_epoch or 0)
    return rewrite_history(results, SEEDS[0], reverse, best_epoch=best)


def raised_epoch(results: Path) -> Path:
    """A later epoch that was better, which nobody kept."""
    return rewrite_history(results, SEEDS[0], lambda history: history.assign(val_auc=[*history["val_auc"][:-1], 0.999]))


def edited_protocol(results: Path) -> Path:
    """Another learning rate in what the record says that it ran under."""
    rules = read_record(SEEDS[0].path(results)).resolved_protocol
    return reseal(results, SEEDS[0], resolved_protocol={**rules, "optim": {**rules["optim"], "lr": 0.5}})


def other_protocol(results: Path) -> Path:
    """The rules of another protocol, with their digest."""
    other = load_protocol("paper-224-scratch")
    rules = other.model_dump(mode="json")
    return reseal(results, SEEDS[0], resolved_protocol=rules, protocol_digest=other.digest())


def edited_cell(results: Path) -> Path:
    """One parameter more in every run of a model: the costs know how many there are."""
    record = read_record(OTHER.path(results))
    assert record.num_params is not None
    return reseal(results, OTHER, num_params=record.num_params * 11 // 10)


def edited_params(results: Path) -> Path:
    """One parameter more than the other seeds have."""
    record = read_record(SEEDS[0].path(results))
    assert record.num_params is not None
    return reseal(results, SEEDS[0], num_params=record.num_params + 1)


def not_trained(results: Path) -> Path:
    """A network without what a training leaves: nothing then contradicts its logits."""
    invented_logits(results)
    path = reseal(results, SEEDS[0], best_epoch=None, num_params=None, history_sha256=None)
    history_path(path).unlink()
    return path


def changed_cost(results: Path, **changes: Any) -> Path:
    """Other counts, with a fitting digest."""
    path = results / COST
    record = CostRecord.model_validate({**json.loads(path.read_bytes()), **changes, "record_digest": ""})
    path.write_bytes(pretty(record.sealed().model_dump(mode="json")))
    return path


def changed_card(results: Path, **changes: Any) -> Path:
    """Another card, with a fitting digest where cards have one."""
    path = results / "data" / "breastmnist.json"
    write_card(results, DataCard.model_validate({**json.loads(path.read_bytes()), **changes}))
    return path


def written(results: Path, name: str, content: str) -> Path:
    """A file by hand."""
    path = results / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def edited_bands(results: Path) -> Path:
    """A band that lets a worse mean through."""
    path = results / "bands.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("[0.875,", "[0.775,"), encoding="utf-8")
    return path
