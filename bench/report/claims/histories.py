"""What the histories of the planned runs say of the paper's curves: training losses, and scores on train itself.

The paper's curves are of train and test. The suite scores no test image before the last epoch, and val would be other
images. Its training loss is of augmented and mixed images, so it says nothing of over-fitting; since 2026-11-28 a
history holds the loss and accuracy on train images as they are.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Literal

from bench.errors import RecordError
from bench.records.run_record import Record
from bench.report.analysis.predictions import read_history
from bench.report.analysis_plan import MARGIN, OURS
from bench.report.claims.planned import RECORDED, run_command, seeds
from bench.report.claims.runs import measured
from bench.report.claims.sources import STATED, Sources
from bench.report.claims.terms import images
from bench.report.claims.values import Doubt, Power, Quantity, absent, leaf, stated
from bench.stats.power import accuracy_error, power_at
from bench.stats.uncertainty import Uncertainty

LAST, CHOSEN = -1, -2  # for an epoch's number
ALWAYS = ("train_loss", "val_acc")  # columns that every history has


def training_loss(sources: Sources, dataset: str, epoch: int = 0) -> Quantity:
    """The histories' training loss after an epoch (counted from 1; 0 is the last), mean over seeds."""
    return _of_histories(sources, dataset, "train_loss", epoch - 1)


def training_lead(sources: Sources, dataset: str, split: Literal["val", "test"]) -> Quantity:
    """Accuracy on un-augmented train images less that on val or test, a fraction, mean over seeds.

    Of val after the last epoch. Of test, which is scored once, at the epoch that val chose; then of train too.
    """
    if split == "val":
        train = _of_histories(sources, dataset, "plain_train_acc", LAST)
        other = _of_histories(sources, dataset, "val_acc", LAST)
    else:
        train = _of_histories(sources, dataset, "plain_train_acc", CHOSEN)
        other = measured(sources, OURS, dataset, "acc", STATED)
    numbers = [int(images(sources, dataset, name).known()) for name in ("val", split)]  # train is scored on as many

    def found(first: Quantity, second: Quantity) -> Uncertainty:
        sides = zip((first, second), numbers, strict=True)
        return Uncertainty(math.fsum(accuracy_error(float(side.known()), number) ** 2 for side, number in sides))

    if train.value is None or other.value is None:
        likely = stated(dataset) / 100
        power = Power(dataset, power_at(MARGIN, found(likely, likely)), at_most=True)
        return absent(run_command(dataset), powers=(power,))
    return replace(train - other, doubts=(Doubt(found(train, other), RECORDED),))


def _of_histories(sources: Sources, dataset: str, column: str, epoch: int) -> Quantity:
    runs = [r for r in sources.records if (r.protocol, r.model, r.dataset) == (STATED, OURS, dataset)]
    if len(runs) < len(seeds(dataset)):
        return absent(run_command(dataset))
    values = [_history_value(sources, record, column, epoch) for record in runs]
    known = [value for value in values if value is not None]
    if len(known) < len(runs):
        return absent(run_command(dataset))
    mean = sum(known, Fraction(0)) / len(runs)
    when = {LAST: "the last epoch", CHOSEN: "the chosen epoch"}.get(epoch, f"epoch {epoch + 1}")
    return leaf(mean, f"{column} after {when} of {' '.join(record.run_id for record in runs)}")


def _history_value(sources: Sources, record: Record, column: str, epoch: int) -> Fraction | None:
    """Of one run; None where its history is from before the column was recorded.

    Raises:
        RecordError: If the history is missing, damaged or not the record's, or lacks what every history has.
    """
    history = read_history(sources.results, record)
    if column not in history and column not in ALWAYS:
        return None
    number = {LAST: len(history) - 1, CHOSEN: record.best_epoch}.get(epoch, epoch)
    try:
        return Fraction(float(history[history["epoch"] == number].iloc[0][column]))
    except (IndexError, KeyError, OverflowError, ValueError):
        raise RecordError(
            f"the history of {record.run_id}: no finite {column} after epoch {epoch + 1 or 'last'}"
        ) from None


def share_of_fall(sources: Sources, dataset: str, epoch: int) -> Quantity:
    """How much of the training loss's fall from the first epoch to the last is done after an epoch, in percent."""
    first, there, last = (training_loss(sources, dataset, number) for number in (1, epoch, 0))
    if first.value is None or there.value is None or last.value is None:
        return first
    if first.value == last.value:
        raise RecordError(f"the training loss of {dataset} does not move")
    share = 100 * (first.value - there.value) / (first.value - last.value)
    return Quantity(share, "", "%", sources=(*first.sources, *there.sources, *last.sources))
