"""A data set that is not on disk: download, and what becomes of one that fails."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from bench.data import download
from bench.data import loading as data
from bench.errors import DataMissingError

pytestmark = pytest.mark.usefixtures("apart")


def test_a_missing_set_says_what_to_do(monkeypatch, official, root):
    """The line names the set, where it was looked for, the address, why not, and what would do; no trace is left."""
    monkeypatch.setenv(download.OFFLINE_VARIABLE, "1")
    folder = root / "not" / "there"
    with pytest.raises(DataMissingError) as caught:
        data.load("breastmnist", 28, folder)
    message = str(caught.value)
    for part in ("breastmnist (28 px)", str(folder / "breastmnist.npz"), official.entry["url"], "MEDBENCH_OFFLINE"):
        assert part in message
    assert f"set {data.ROOT_VARIABLE}" in message
    assert "\n" not in message
    assert not (root / "not").exists()


def test_without_download_no_server_is_contacted(official, server, root):
    """`download=False` contacts no server."""
    official.entry["url"] = f"{server.address}/breastmnist.npz"
    with pytest.raises(DataMissingError, match="not tried"):
        data.find_file("breastmnist", 28, root, download=False)
    assert server.requested == []


def test_download_gets_the_file_once(official, server, root):
    """A missing file is fetched from INFO's address into a folder made for it, and nothing else is left there."""
    official.entry["url"] = f"{server.address}/breastmnist.npz?download=1"
    server.answers["/breastmnist.npz?download=1"] = (200, official.content, len(official.content))
    folder = root / "new"
    for _ in range(2):
        assert data.load("breastmnist", 28, folder).md5 == official.entry["MD5"]
    assert server.requested == ["/breastmnist.npz?download=1"]
    assert [file.name for file in folder.iterdir()] == ["breastmnist.npz"]
    assert (folder / "breastmnist.npz").read_bytes() == official.content


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda content: (404, b"", 0), "HTTP 404 Not Found"),
        (lambda content: (503, b"later", 5), "HTTP 503"),
        (lambda content: (200, b"<html>log in</html>", 19), hashlib.md5(b"<html>log in</html>").hexdigest()),
        (lambda content: (200, content[:-9], len(content)), "what came has the MD5|IncompleteRead"),
    ],
)
def test_a_download_that_brings_something_else_leaves_nothing(official, server, root, answer, words):
    """An error, another file or half a file is named in one line, and the folder stays as it was."""
    official.entry["url"] = f"{server.address}/breastmnist.npz"
    server.answers["/breastmnist.npz"] = answer(official.content)
    with pytest.raises(DataMissingError, match=words) as caught:
        data.load("breastmnist", 28, root)
    assert "\n" not in str(caught.value)
    assert list(root.iterdir()) == []


def test_a_download_gets_its_name_last(monkeypatch, official, server, root):
    """The file appears whole, by rename: where that fails, on a full disk say, nothing is left."""
    official.entry["url"] = f"{server.address}/breastmnist.npz"
    server.answers["/breastmnist.npz"] = (200, official.content, len(official.content))

    def full(self, target):
        assert self.read_bytes() == official.content
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(DataMissingError, match="No space left"):
        data.load("breastmnist", 28, root)
    assert list(root.iterdir()) == []


def test_a_server_that_is_not_there_is_contacted_once(monkeypatch, official, root):
    """Refused connections are an error at once; the other sets of that host do not try again."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as closed:
        port = closed.getsockname()[1]
    official.entry["url"] = f"http://127.0.0.1:{port}/breastmnist.npz"
    with pytest.raises(DataMissingError, match="Connection refused"):
        data.load("breastmnist", 28, root)
    monkeypatch.setattr(download.urllib.request, "urlopen", lambda *_, **__: pytest.fail("contacted again"))
    with pytest.raises(DataMissingError, match="Connection refused"):
        data.load("breastmnist", 28, root)


def test_a_silent_server_is_given_up(monkeypatch, official, root):
    """A server that takes the connection and says nothing costs the waiting time, under ten seconds, not more."""
    assert download.ANSWER_SECONDS < 10
    monkeypatch.setattr(download, "ANSWER_SECONDS", 0.2)
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
        official.entry["url"] = f"http://127.0.0.1:{silent.getsockname()[1]}/breastmnist.npz"
        start = time.monotonic()
        with pytest.raises(DataMissingError, match=r"no answer within 0\.2 s"):
            data.load("breastmnist", 28, root)
    assert time.monotonic() - start < 5


def test_a_silent_name_server_is_given_up(monkeypatch, official, root):
    """Name resolution, which no timeout of urllib covers, is given up too."""
    release = threading.Event()
    monkeypatch.setattr(download, "ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(download.urllib.request, "urlopen", lambda *_, **__: release.wait(30))
    start = time.monotonic()
    with pytest.raises(DataMissingError, match=r"no answer within 0\.1 s"):
        data.load("breastmnist", 28, root)
    release.set()
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("kind", ["read-only", "file in the way"])
def test_a_root_that_cannot_be_written_is_a_clear_error(official, server, root, kind):
    """Where the download cannot be stored the set counts as missing, with the reason."""
    if kind == "read-only" and os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    official.entry["url"] = f"{server.address}/breastmnist.npz"
    server.answers["/breastmnist.npz"] = (200, official.content, len(official.content))
    folder = root
    if kind == "read-only":
        root.chmod(0o555)
    else:
        (root / "file").touch()
        folder = root / "file" / "folder"
    try:
        with pytest.raises(DataMissingError, match=r"Permission denied|Not a directory|File exists"):
            data.load("breastmnist", 28, folder)
    finally:
        root.chmod(0o755)
