"""SIGINT and SIGTERM: given to a handler for a while, or turned into an exception that no import swallows."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from bench.errors import Interrupted

STOPPING = (signal.SIGINT, signal.SIGTERM)
LOOK_AGAIN_SECONDS = 0.05
PR_SET_PDEATHSIG = 1  # of Linux's prctl

_is_active = False  # whether `interruptible` is entered


@contextlib.contextmanager
def signals_noted(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Give SIGINT and SIGTERM to a handler, then back to whoever had them."""
    previous = {number: signal.signal(number, handler) for number in STOPPING}
    try:
        yield
    finally:
        for number, former in previous.items():
            signal.signal(number, former)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Inside, SIGINT and SIGTERM raise `Interrupted`, and one that comes during an import does so after it.

    A package may catch everything while it imports (medmnist does), and one that is half imported stays broken. A
    second signal during the same import ends the process at once. Does nothing inside another one, which has the
    signal that waits, nor outside the main thread, which is the only one that may have handlers.
    """
    global _is_active
    if _is_active or threading.current_thread() is not threading.main_thread():
        yield
        return
    delivery = _Delivery(_num_imports(sys._getframe()))
    with signals_noted(delivery.arrived):
        former = signal.signal(signal.SIGALRM, delivery.look_again)
        _is_active = True
        try:
            yield
        finally:
            _is_active = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, former)
            if delivery.waiting:  # it came during the last import inside, whatever else ends this
                raise Interrupted(delivery.waiting)


class _Delivery:
    """One signal on its way to the code that it interrupts.

    Args:
        imports: Imports under way already, as in a script that is imported.
    """

    def __init__(self, imports: int) -> None:
        self.imports, self.waiting = imports, 0

    def arrived(self, signum: int, frame: FrameType | None) -> None:
        """The handler of SIGINT and SIGTERM."""
        if self.waiting:
            os._exit(128 + signum)
        self.waiting = signum
        self.look_again(signum, frame)

    def look_again(self, _: int, frame: FrameType | None) -> None:
        """Raise unless something is being imported; then later, by a timer."""
        if not self.waiting:
            return
        if _num_imports(frame) > self.imports:
            signal.setitimer(signal.ITIMER_REAL, LOOK_AGAIN_SECONDS)
            return
        signum, self.waiting = self.waiting, 0
        raise Interrupted(signum)


def _num_imports(frame: FrameType | None) -> int:
    """Frames of the import machinery, from a frame outwards."""
    number = 0
    while frame is not None:
        number += frame.f_code.co_filename.startswith("<frozen importlib")
        frame = frame.f_back
    return number


def end_with_parent(parent: int, signum: signal.Signals) -> None:
    """Ask the system for a signal when the parent of this process dies; ends now if it is dead already.

    Args:
        parent: The parent's process id, taken before the fork.
        signum: What to be sent.
    """
    _ask_for(int(signum))
    if os.getppid() != parent:
        os._exit(128 + signum)


def outlive_parent() -> None:
    """Take `end_with_parent` back."""
    _ask_for(0)


def _ask_for(signum: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signum)
