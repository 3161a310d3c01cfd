"""Work on many things in as many processes as there are cores, forked: what they read need not be sent to them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_given: tuple[Callable[[Any], Any], Sequence[Any]]  # of a process: what it was forked with


def forked_map(
    work: Callable[[Item], Result], items: Sequence[Item], *, share: int, processes: int | None = None
) -> list[Result]:
    """`work` on every item, results in the order of the items.

    Args:
        work: Any function, a closure too; its results and errors must be able to travel.
        items: What to work on.
        share: Items that repay the start of a process; fewer than two shares are done here.
        processes: At most so many; by default one a core. Only Linux forks safely, elsewhere all is done here.

    Raises:
        Exception: What `work` raises, from the first item in order that raises.
    """
    count = min(processes or num_cores(), len(items) // share)
    if count < 2:
        return [work(item) for item in items]
    context = get_context("fork")
    try:
        with ProcessPoolExecutor(count, context, initializer=_take, initargs=(work, items)) as pool:
            return list(pool.map(_do, range(len(items))))
    except BrokenProcessPool:  # one was killed: what it left undone is done here
        return [work(item) for item in items]


def num_cores() -> int:
    """Cores that this process may use, one where forks are unsafe."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1


def _take(work: Callable[[Any], Any], items: Sequence[Any]) -> None:
    """In a process: an interrupt is its parent's to answer."""
    global _given
    _given = work, items
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _do(place: int) -> Any:
    work, items = _given
    return work(items[place])
