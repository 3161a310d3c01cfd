"""Work on many things in as many processes as there are cores, forked: what they read need not be sent to them.

No threads and no queue: a process gets the next item's number when it has done one, and a machine without room for
another thread or process does the work here.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, TypeVar

from bench.machine.signals import end_with_parent

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class _Process:
    """A forked process, this end of its pipe, and the item that it is at."""

    pid: int
    pipe: Connection
    number: int


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
    done: dict[int, tuple[Any, Exception | None]] = {}
    if count >= 2:
        with _forked(work, items, count) as crew:
            _hand_out(crew, len(items), done)
    for number, item in enumerate(items):
        if number not in done:  # few items, or a process was killed: what it left undone is done here
            done[number] = work(item), None
        if (error := done[number][1]) is not None:
            raise error
    return [done[number][0] for number in range(len(items))]


def num_cores() -> int:
    """Cores that this process may use, one where forks are unsafe."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1


@contextlib.contextmanager
def _forked(work: Callable[[Item], Any], items: Sequence[Item], count: int) -> Iterator[list[_Process]]:
    """So many processes, or as many as the system gives; killed and reaped at the end, whatever happens."""
    crew: list[_Process] = []
    try:
        for number in range(count):
            with contextlib.suppress(OSError):  # no process or descriptor left: the others, or this one, do the work
                crew.append(_fork(work, items, number, [process.pipe for process in crew]))
        yield crew
    finally:
        for process in crew:
            process.pipe.close()
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(process.pid, 0)


def _fork(work: Callable[[Item], Any], items: Sequence[Item], number: int, others: Sequence[Connection]) -> _Process:
    parent = os.getpid()
    ours, theirs = Pipe()
    with theirs:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            try:
                end_with_parent(parent, signal.SIGKILL)
                for pipe in (ours, *others):
                    pipe.close()
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # its parent's to answer
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                _work(work, items, theirs)
            finally:
                os._exit(0)
    ours.send(number)
    return _Process(pid, ours, number)


def _work(work: Callable[[Item], Any], items: Sequence[Item], pipe: Connection) -> None:
    """A process's life: take a number, work on that item, hand over."""
    while (number := pipe.recv()) is not None:
        try:
            content = pickle.dumps((work(items[number]), None))
        except Exception as error:
            content = pickle.dumps((None, error))
        pipe.send_bytes(content)


def _hand_out(crew: list[_Process], count: int, done: dict[int, tuple[Any, Exception | None]]) -> None:
    """Give items to whoever is free until all are done or an item has failed; a killed process's item stays undone."""
    following = len(crew)
    busy = {process.pipe: process for process in crew}
    while busy:
        for pipe in wait(list(busy)):
            process = busy.pop(pipe)  # type: ignore[call-overload]  # wait gives back what it was given
            try:
                outcome = pickle.loads(process.pipe.recv_bytes())
            except Exception:  # killed, or its error cannot travel: the item is done again here
                continue
            done[process.number] = outcome
            if following < count and outcome[1] is None:
                process.number, following = following, following + 1
                with contextlib.suppress(OSError):
                    process.pipe.send(process.number)
                    busy[process.pipe] = process
