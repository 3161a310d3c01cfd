"""Processes that are forked from one that has imported the slow libraries: this side starts and watches them.

The server (`fork_serving.py`) hangs on a socket pair: it has no name in a file system, and its end is seen at once.
Unlike multiprocessing's it says of each process how it ended, never takes its own death for theirs, lives through
signals to the whole process group, and ends what it forked when this process is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

from bench.errors import BenchError

# What the server says: a letter, the number of the request, a process id or an exit code.
SAYING = struct.Struct("<cqq")
READY, STARTED, ENDED, REFUSED = b"r", b"s", b"e", b"x"
OUT_OF_MEMORY = 71  # exit code of a process that got no memory for its libraries: EX_OSERR
END_SECONDS = 60.0  # that processes have to save and end after a request
NO_PROCESS = "No process can be started: free memory, or raise the limits that `ulimit -a` shows"
CODE = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from bench.machine.fork_serving import main; main()"


class ServerLostError(Exception):
    """The server was killed; what it forked was sent SIGTERM by the system."""


class Child:
    """A process of the server.

    Attributes:
        pipe: This end of its pipe; it reads to the end when the process and all that it started have ended.
        pid: Its process id, None until it runs.
        exitcode: As `subprocess` has it, None while it runs; never known of one that outlives the server.
        started: When it began, by `time.monotonic`.
        refused: Whether the system had no memory or no number for it.
    """

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe
        self.pid: int | None = None
        self.exitcode: int | None = None
        self.started: float | None = None
        self.refused = False

    def send_signal(self, signum: int) -> None:
        """A signal, if the process has begun and not ended."""
        if self.pid is not None and self.exitcode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signum)


class ForkServer:
    """Starts processes at once, each as clean as the server was after its imports.

    `control` is readable when `update` has something to learn.

    Args:
        preload: Modules that the server imports first; one that is not installed is left out.
    """

    def __init__(self, preload: Sequence[str]) -> None:
        self.children: dict[int, Child] = {}
        self.is_lost = self.is_ready = False
        self._count, self._unread = 0, b""
        self.control, theirs = socket.socketpair()
        arguments = [json.dumps(sys.path), str(theirs.fileno()), str(os.getpid()), *preload]
        flags = ["-B"] if sys.dont_write_bytecode else []
        try:
            with _held_back():  # until the server ignores them
                self.process = subprocess.Popen(
                    [sys.executable, *flags, "-c", CODE, *arguments],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                )
        except OSError as error:
            self.control.close()
            raise BenchError(f"{NO_PROCESS}: {error.strerror}") from None
        finally:
            theirs.close()

    def start(self, target: Callable[..., Any], *arguments: Any) -> Child:
        """Start a process that calls `target(*arguments, pipe)`; it begins when the server has imported.

        Args:
            target: A function of a module.
            *arguments: What can be pickled.

        Raises:
            ServerLostError: If the server is gone.
        """
        content = pickle.dumps((target, arguments))
        ours, theirs = socket.socketpair()
        with theirs:
            pipe = Connection(ours.detach())
            try:
                socket.send_fds(self.control, [b"f"], [theirs.fileno()])
            except OSError:
                pipe.close()
                raise ServerLostError from None
        child = self.children[self._count] = Child(pipe)
        self._count += 1
        with contextlib.suppress(OSError):  # it is gone already: `update` learns how it ended
            pipe.send_bytes(content)
        return child

    def update(self, patience: float = 0.0) -> None:
        """Take in what the server says, waiting up to `patience` seconds for the first of it."""
        while not self.is_lost and select.select([self.control], [], [], patience)[0]:
            patience = 0.0
            try:
                received = self.control.recv(4096)
            except OSError:
                received = b""
            self.is_lost = not received
            self._unread += received
            while len(self._unread) >= SAYING.size:
                self._take(*SAYING.unpack(self._unread[: SAYING.size]))
                self._unread = self._unread[SAYING.size :]

    def _take(self, kind: bytes, number: int, value: int) -> None:
        if kind == READY:
            self.is_ready = True
        elif kind == STARTED:
            self.children[number].pid, self.children[number].started = value, time.monotonic()
        else:
            child = self.children.pop(number)
            child.exitcode, child.refused = value, kind == REFUSED

    def wait(self, child: Child, seconds: float) -> bool:
        """Whether a process ends within some time; False too if the server is lost."""
        deadline = time.monotonic() + seconds
        while child.exitcode is None and not self.is_lost and (left := deadline - time.monotonic()) > 0:
            self.update(left)
        return child.exitcode is not None

    def call(self, target: Callable[..., Any], *arguments: Any) -> Any:
        """What `target(*arguments)` returns in a process of its own.

        Raises:
            BenchError: If it ends without a result.
            Exception: What it raises.
        """
        child = self.start(_answer, target, arguments)
        try:
            with child.pipe:
                result, error = child.pipe.recv()
        except (EOFError, OSError):
            self.wait(child, END_SECONDS)
            raise BenchError(NO_PROCESS if child.refused else f"the process {ended_how(child.exitcode)}") from None
        if error is not None:
            raise error
        return result

    def close(self) -> None:
        """Let the server go: it ends what still runs, and then itself."""
        self.update()
        self.control.close()
        if not self.is_ready:  # it imports, and has forked nothing yet
            self.process.kill()
        try:
            self.process.wait(END_SECONDS + 1)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _answer(target: Callable[..., Any], arguments: tuple[Any, ...], pipe: Connection) -> None:
    try:
        pipe.send((target(*arguments), None))
    except Exception as error:
        pipe.send((None, error))


def ended_how(exitcode: int | None) -> str:
    """`exited with code 7`, `was killed by SIGKILL`."""
    if exitcode is None:
        return "is gone with the process that started it"
    if exitcode < 0:
        return f"was killed by {signal.Signals(-exitcode).name}"
    return f"exited with code {exitcode}"


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """Signals wait, here and in what is started inside, until it lets them come."""
    former = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
