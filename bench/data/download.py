"""One file from one address, whole and with the right MD5, or not at all; without a network, an error in seconds."""

from __future__ import annotations

import contextlib
import http.client
import os
import queue
import shutil
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.data.md5 import md5_of

OFFLINE_VARIABLE = "MEDBENCH_OFFLINE"
ANSWER_SECONDS = 8.0
CHUNK_BYTES = 1 << 20
_silent_hosts: dict[str, str] = {}  # host -> why it gave no answer


class DownloadError(Exception):
    """Why a file could not be had, in words; the caller knows which file and what would do."""


def offline(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether MEDBENCH_OFFLINE forbids the network."""
    return environment.get(OFFLINE_VARIABLE, "0") not in ("", "0")


def download_file(url: str, path: Path, md5: str) -> None:
    """Download to a temporary file beside the target, which gets its name when its MD5 is right.

    medmnist's own downloader is torchvision's: no timeout, and no check by default.

    Args:
        url: Where from.
        path: Where to; its folder is made.
        md5: What the file must have.

    Raises:
        DownloadError: If there is no answer, another file comes, or the folder cannot be written.
    """
    if offline():
        raise DownloadError(f"forbidden by {OFFLINE_VARIABLE}")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with _open(url) as answer:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("w+b") as stream:
                shutil.copyfileobj(answer, stream, CHUNK_BYTES)
                stream.seek(0)
                received = md5_of(stream)
        if received != md5:
            raise DownloadError(f"what came has the MD5 {received}, the official one is {md5}")
        temporary.replace(path)
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(f"{type(error).__name__}: {error}") from None
    finally:
        with contextlib.suppress(OSError):  # a folder that cannot be written holds no such file either
            temporary.unlink()


def _open(url: str) -> Any:
    """A server's answer, after its head has come.

    A thread waits for it, because urllib's timeout covers neither name resolution nor the sum over a host's addresses.
    A host that gave no answer is not tried again in this process: six sets wait once, not six times.
    """
    host = urllib.parse.urlsplit(url).netloc
    if host in _silent_hosts:
        raise DownloadError(_silent_hosts[host])
    outcome: queue.SimpleQueue[Any] = queue.SimpleQueue()
    request = urllib.request.Request(url, headers={"User-Agent": "medbench"})
    # A daemon: a name server that keeps silent must not keep the process from ending.
    threading.Thread(target=_ask, args=(request, outcome), daemon=True).start()
    try:
        answer = outcome.get(timeout=ANSWER_SECONDS)
    except queue.Empty:
        answer = TimeoutError()
    if isinstance(answer, urllib.error.HTTPError):
        answer.close()
        raise DownloadError(f"HTTP {answer.code} {answer.reason}")
    if isinstance(answer, Exception):
        reason = getattr(answer, "reason", answer)
        words = getattr(reason, "strerror", None) or str(reason)
        _silent_hosts[host] = f"no answer within {ANSWER_SECONDS:g} s" if isinstance(reason, TimeoutError) else words
        raise DownloadError(_silent_hosts[host])
    return answer


def _ask(request: urllib.request.Request, outcome: queue.SimpleQueue[Any]) -> None:
    try:
        outcome.put(urllib.request.urlopen(request, timeout=ANSWER_SECONDS))
    except Exception as error:  # carried to the thread that waits
        outcome.put(error)
