"""What a protocol's schedule means: which images make a batch, and the learning rate of each step. No torch."""

from __future__ import annotations

import itertools

import numpy as np

from bench.protocols.schema import ScheduleRules


def batch_bounds(num_images: int, batch_size: int) -> list[tuple[int, int]]:
    """Start and end of each batch; a last batch of one image joins the batch before (batch norm needs two)."""
    starts = list(range(0, num_images, batch_size))
    if len(starts) > 1 and num_images - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], num_images], strict=True))


def epoch_bounds(schedule: ScheduleRules, num_train: int, num_split: int) -> list[tuple[int, int]]:
    """Start and end of each batch of an epoch, in an order of images that may pass over the images several times.

    Args:
        schedule: The rules; with `steps_of` `split` pass follows pass until the steps of the whole split are done.
        num_train: Images that are trained on.
        num_split: Images of the whole training split.
    """
    one_pass = batch_bounds(num_train, schedule.batch_size)
    if schedule.steps_of == "subset":
        return one_pass
    steps = len(batch_bounds(num_split, schedule.batch_size))
    endless = ((first + start, last + start) for start in itertools.count(0, num_train) for first, last in one_pass)
    return list(itertools.islice(endless, steps))


def learning_rate(schedule: ScheduleRules, base: float, epoch: int, step: int, steps: int) -> float:
    """The learning rate of a step: linear warm-up, then constant, cosine to zero, or steps by `gamma`."""
    position = epoch + (step + 1) / steps
    if position <= schedule.warmup_epochs:
        return base * position / schedule.warmup_epochs
    if schedule.name == "cosine":
        share = (epoch + step / steps - schedule.warmup_epochs) / (schedule.epochs - schedule.warmup_epochs)
        return float(base * 0.5 * (1 + np.cos(np.pi * max(0.0, share))))
    if schedule.name == "multistep":
        return float(base * schedule.gamma ** sum(epoch >= milestone for milestone in schedule.milestones))
    return base
