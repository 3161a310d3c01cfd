"""Fixtures for tests of data files: a machine of its own, a small official file, a web server."""

from __future__ import annotations

import hashlib
import http.server
import threading
import types

import pytest

from bench.data import download, synthetic
from bench.data import loading as data
from tests.data.npz_files import STAND_IN
from tests.making import write_npz


@pytest.fixture
def apart(monkeypatch, tmp_path):
    """No test sees this machine's files, nor what another test learned."""
    for variable in (data.ROOT_VARIABLE, download.OFFLINE_VARIABLE, "http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "_silent_hosts", {})
    data._md5_of.cache_clear()


@pytest.fixture
def root(tmp_path):
    """An empty folder for files."""
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def official(monkeypatch, tmp_path):
    """A small file that INFO calls breastmnist: its bytes, and INFO's entry to change."""
    (tmp_path / "official").mkdir()
    content = write_npz(STAND_IN, tmp_path / "official").read_bytes()
    entry = {
        "task": "binary-class",
        "label": {"0": "malignant", "1": "normal, benign"},
        "n_channels": 1,
        "n_samples": dict(synthetic.SPLIT_SIZES),
        "license": "CC BY 4.0",
        "url": "http://127.0.0.1:9/breastmnist.npz?download=1",
        "MD5": hashlib.md5(content).hexdigest(),
        "url_64": "http://127.0.0.1:9/breastmnist_64.npz?download=1",
        "MD5_64": "0" * 32,
    }
    monkeypatch.setattr(data, "_medmnist_info", lambda: {"breastmnist": entry})
    return types.SimpleNamespace(content=content, entry=entry)


@pytest.fixture
def server():
    """A web server on this machine; `answers` maps a path to (status, body, announced length)."""
    answers: dict[str, tuple[int, bytes, int]] = {}
    requested: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requested.append(self.path)
            status, body, length = answers.get(self.path, (404, b"", 0))
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as service:
        thread = threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        address = f"http://127.0.0.1:{service.server_port}"
        yield types.SimpleNamespace(address=address, answers=answers, requested=requested)
        service.shutdown()
        thread.join()
