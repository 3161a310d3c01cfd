"""Does a training's history agree with the rest of its record? No torch.

Whoever swaps, invents or rounds logits and scores them again leaves a history that gives other scores of val; whoever
edits the history leaves an epoch, a learning rate or a maximum that does not follow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from bench.protocols.schedule import epoch_bounds, learning_rate
from bench.protocols.schema import Protocol
from bench.protocols.subset import num_train
from bench.records.card import DataCard
from bench.records.predictions import PredictionTable, SplitPredictions
from bench.records.run_record import Record
from bench.records.scoring import LAST, parts_of
from bench.stats.metrics import clipped_loss, score, softmax

COLUMNS = ("epoch", "lr", "train_loss", "val_loss", "val_auc", "val_acc")
# Of un-augmented train images; histories from before 2026-11-28 lack them, resumed ones hold them from then on.
PLAIN = {"plain_train_loss": math.inf, "plain_train_acc": 1.0}
# A CPU gives the chosen epoch's logits again to the last bit; a GPU may add them up in another order.
CPU_TOLERANCE, OTHER_TOLERANCE = 1e-9, 5e-3
ROUNDED_FROM = 16  # different logits that make a test for rounding one


def history_problems(record: Record, history: pd.DataFrame, protocol: Protocol, card: DataCard) -> Iterator[str]:
    """What is wrong with a history by itself: its epochs, its learning rates, and the epoch that was chosen.

    Args:
        record: The run's record.
        history: Its epochs.
        protocol: The record's own.
        card: The data set's card.
    """
    missing = [name for name in COLUMNS if name not in history or history[name].dtype.kind not in "if"]
    if missing:
        yield f"the history has no numbers in {', '.join(missing)}"
        return
    epochs = protocol.schedule.epochs
    if history["epoch"].tolist() != list(range(epochs)):
        yield f"the history's epochs are not 0 .. {epochs - 1} in this order"
        return
    yield from _unlikely(history)
    expected = _learning_rates(protocol, card)
    if not np.allclose(history["lr"], expected, rtol=CPU_TOLERANCE, atol=0.0):
        epoch = int(np.argmax(~np.isclose(history["lr"], expected, rtol=CPU_TOLERANCE, atol=0.0)))
        yield f"the history's lr in epoch {epoch} is {history['lr'][epoch]:g}, the protocol's {expected[epoch]:g}"
    first = int(np.argmax(history["val_auc"].fillna(0.0)))
    if record.best_epoch != first:
        yield f"best_epoch is {record.best_epoch}, the history's first highest val_auc is in epoch {first}"


def _unlikely(history: pd.DataFrame) -> Iterator[str]:
    """Numbers that no training gives."""
    tops = {"train_loss": math.inf, "val_loss": math.inf, "val_auc": 1.0, "val_acc": 1.0}
    tops |= {name: top for name, top in PLAIN.items() if name in history}
    for name, top in tops.items():
        values = history[name] if name in COLUMNS and name != "val_auc" else history[name].dropna()
        if not ((values >= 0.0) & (values <= top) & np.isfinite(values)).all():
            yield f"the history's {name} leaves what it can be"


def _learning_rates(protocol: Protocol, card: DataCard) -> list[float]:
    """The last learning rate of each epoch, as the trainer notes it."""
    schedule, base = protocol.schedule, protocol.optim.lr
    kept = num_train(protocol.data, card.class_counts["train"], card.clinical_positive)
    steps = len(epoch_bounds(schedule, kept, card.num_images["train"]))
    return [learning_rate(schedule, base, epoch, steps - 1, steps) for epoch in range(schedule.epochs)]


def prediction_problems(
    record: Record, history: pd.DataFrame, protocol: Protocol, card: DataCard, table: PredictionTable
) -> Iterator[str]:
    """Whether the stored logits are those of the chosen epoch, at full precision.

    Args:
        record: The run's record, whose `best_epoch` is one of the history's.
        history: Its epochs, without a problem of their own.
        protocol: The record's own.
        card: The data set's card.
        table: Its predictions, with labels in the card's order.
    """
    tolerance = CPU_TOLERANCE if (record.device or "cpu").startswith("cpu") else OTHER_TOLERANCE
    parts = parts_of(table)
    yield from _other_epoch(history, record.best_epoch or 0, table.split("val"), card, tolerance)
    if LAST["val"] in parts:
        yield from _other_epoch(history, len(history) - 1, table.split(LAST["val"]), card, tolerance)
    if protocol.numerics.precision != "bf16":
        for name in parts:
            if is_rounded(table.split(name)):
                yield f"the {name} logits were rounded to float16, {protocol.numerics.precision} gives other ones"


def _other_epoch(
    history: pd.DataFrame, epoch: int, val: SplitPredictions, card: DataCard, tolerance: float
) -> Iterator[str]:
    """Where the history's scores of an epoch are not those of the logits on val."""
    probs = softmax(val.logits)
    scores = score(val.labels, probs, card.task)
    given = {"val_auc": scores["auc"], "val_acc": scores["acc"], "val_loss": clipped_loss(val.labels, probs)}
    for name, value in given.items():
        noted = float(history[name].iloc[epoch])
        if value is None and math.isnan(noted):
            continue
        if value is None or not math.isclose(noted, value, rel_tol=tolerance, abs_tol=tolerance):
            yield f"the history's {name} in epoch {epoch} is {noted:.9g}, the stored logits give {value}"


def is_rounded(part: SplitPredictions) -> bool:
    """Whether every logit of a split is a float16: what a network in fp32 gives by no chance."""
    if len(np.unique(part.logits)) < ROUNDED_FROM:
        return False
    with np.errstate(over="ignore"):
        return bool(np.array_equal(part.logits, part.logits.astype(np.float16).astype(np.float32)))
