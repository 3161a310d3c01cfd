"""What a user can fix. The command line prints one line and ends with exit code 2; never a traceback."""

from __future__ import annotations

import difflib
import signal
from collections.abc import Sequence


class BenchError(Exception):
    """Base of all errors that a user can fix; the message says what came and what would do."""


class ProtocolError(BenchError):
    """A protocol or study file that cannot be used."""


class DataError(BenchError):
    """A data set that cannot be used: unknown, multi-label, or damaged."""


class DataMissingError(DataError):
    """A data set that is neither on disk nor downloadable; its runs are skipped, the others go on."""


class RecordError(BenchError):
    """A record, prediction or results folder that cannot be trusted or written."""


class ShapeError(BenchError):
    """Arrays whose shapes disagree."""


class Interrupted(BaseException):
    """The work was interrupted and can be taken up again; no `Exception`, so that no library catches it as an error.

    Args:
        signum: The signal, which the exit code follows.
        reason: What interrupted it, where that was no signal to this process.
    """

    def __init__(self, signum: int, reason: str = "") -> None:
        super().__init__(reason or signal.Signals(signum).name)
        self.signum, self.reason = signum, reason

    @property
    def line(self) -> str:
        """What a command says of it."""
        because = f" ({self.reason})" if self.reason else ""
        return f"interrupted{because}; the same command goes on from the last checkpoint"


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """The closest known name as a question, "" if none is close."""
    closest = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {closest[0]!r}?" if closest else ""


def suggestion(name: str, known: Sequence[str]) -> str:
    """The closest known name as a question; all known names if none is close."""
    return did_you_mean(name, known) or f"known: {', '.join(known)}"
