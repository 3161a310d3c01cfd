"""The fork server's own process: import, fork on request, report how each process ended, end them all at the end.

Run by `fork_server.ForkServer` with the arguments sys.path, descriptor of the socket pair, process id of the client,
modules to import. SIGINT, SIGTERM and SIGHUP are ignored: they mean the client, which then goes away.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import select
import signal
import socket
import sys
import time
import traceback
from multiprocessing.connection import Connection

from bench.machine.fork_server import END_SECONDS, ENDED, OUT_OF_MEMORY, READY, REFUSED, SAYING, STARTED
from bench.machine.memory import is_out_of_memory
from bench.machine.signals import end_with_parent, outlive_parent

IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOOK_SECONDS = 0.05


class Serving:
    """The server's state.

    Args:
        control: Its end of the socket pair; reads to the end when the client is gone.
    """

    def __init__(self, control: socket.socket) -> None:
        self.control, self.numbers = control, dict[int, int]()  # process id -> number of its request
        self.count = 0
        self.wakes, self.wake = os.pipe()
        os.set_blocking(self.wakes, False)
        os.set_blocking(self.wake, False)
        signal.set_wakeup_fd(self.wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> None:
        """Until the client is gone."""
        self.say(READY, 0, 0)
        while True:
            ready, _, _ = select.select([self.control.fileno(), self.wakes], [], [])
            if self.wakes in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self.wakes, 4096)
                self.reap()
            if self.control.fileno() in ready:
                content, descriptors, _, _ = socket.recv_fds(self.control, 1, 1)
                if not content:
                    return
                self.fork(descriptors[0] if descriptors else -1)  # no descriptor: too many are open here

    def say(self, kind: bytes, number: int, value: int) -> None:
        """Report to the client, if it is still there."""
        with contextlib.suppress(OSError):
            self.control.sendall(SAYING.pack(kind, number, value))

    def reap(self) -> None:
        """Note every process that has ended."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                number = self.numbers.pop(ended[0], None)
                if number is not None:
                    self.say(ENDED, number, os.waitstatus_to_exitcode(ended[1]))

    def fork(self, descriptor: int) -> None:
        """Fork a process that works on the other side of a pipe."""
        number, self.count = self.count, self.count + 1
        server = os.getpid()
        try:
            pid = os.fork() if descriptor >= 0 else -1
        except OSError:
            pid = -1
        if pid == 0:
            self.become_child(server, descriptor)
        if descriptor >= 0:
            os.close(descriptor)
        if pid < 0:
            self.say(REFUSED, number, REFUSED_CODE)
            return
        self.numbers[pid] = number
        self.say(STARTED, number, pid)

    def become_child(self, server: int, descriptor: int) -> None:
        """In the new process: nothing of the server's is left; never returns."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            end_with_parent(server, signal.SIGTERM)
            self.control.close()
            os.close(self.wakes)
            os.close(self.wake)
            code = _work(descriptor)
        finally:
            os._exit(code)

    def end_all(self, patience: float) -> None:
        """Ask what still runs to save and end, then insist."""
        for pid in self.numbers:
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + patience
        self.reap()
        while self.numbers and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
            self.reap()
        for pid in self.numbers:
            os.kill(pid, signal.SIGKILL)


REFUSED_CODE = 70  # of a process that could not be forked: EX_SOFTWARE


def _work(descriptor: int) -> int:
    """Do what the pipe says; the exit code."""
    try:
        pipe = Connection(descriptor)
        target, arguments = pickle.loads(pipe.recv_bytes())  # from the process that started the server, nobody else
        target(*arguments, pipe)
    except (EOFError, ConnectionError):  # the client is gone
        return 0
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException as error:
        if is_out_of_memory(error):
            return OUT_OF_MEMORY
        traceback.print_exc()
        return 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        if multiprocessing := sys.modules.get("multiprocessing"):
            for child in multiprocessing.active_children():  # a model's own, which nobody else would end
                child.kill()
    return 0


def main(patience: float = END_SECONDS) -> None:
    """The life of the server; what it forked has `patience` seconds to end when the client is gone."""
    for signum in IGNORED:
        signal.signal(signum, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED)
    _, _, descriptor, parent, *preload = sys.argv
    end_with_parent(int(parent), signal.SIGKILL)  # while it imports; later it has processes to end first
    for name in preload:
        with contextlib.suppress(Exception):  # whoever needs it will say so
            importlib.import_module(name)
    outlive_parent()
    serving = Serving(socket.socket(fileno=int(descriptor)))
    serving.serve()
    serving.end_all(patience)
