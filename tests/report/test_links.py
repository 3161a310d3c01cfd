"""Every link of a report leads to a file, whatever the folders are called and whichever documents are there."""

from __future__ import annotations

import contextlib
import re
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin
from urllib.request import urlopen

import pytest

import bench.api as mb
from bench.data.loading import ROOT_VARIABLE, data_root
from bench.errors import BenchError, RecordError
from bench.records.names import Run
from bench.report.build import build, compare
from bench.report.links import DOCUMENTS, Links
from tests.making import make_run

NAMES = ("my results", "run#1", 'a"b', "a'b", "100%", "(a) [b]", "~", "a?b=c&d", "<b>", "ünï", "🙂", "a%20b")
RAW = re.compile(r"""[\s"'#?<>()\[\]&]""")
RUN = Run("smoke", "floor/prior", "breastmnist", 0)


REPOSITORY = "https://example.org/owner/name/blob/main"


class Hrefs(HTMLParser):
    """Collects where a page's links lead."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        wanted = {"a": "href", "link": "href", "img": "src", "script": "src"}.get(tag)
        self.found += [value or "" for key, value in attrs if key == wanted]


def dead_links(reports: Path) -> list[str]:
    """Relative links of all pages that lead nowhere."""
    dead = []
    for page in sorted(path for path in reports.rglob("*") if path.suffix in (".html", ".md")):
        text = page.read_text(encoding="utf-8")
        parser = Hrefs()
        parser.feed(text if page.suffix == ".html" else "")
        links = parser.found or re.findall(r"\]\(([^)\s]*)\)", text)
        for link in links:
            path = unquote(link.split("#")[0].split("?")[0])
            if path and not path.startswith(("http://", "https://", "data:")) and not (page.parent / path).exists():
                dead.append(f"{page.name}: {link}")
    return dead


class Silent(SimpleHTTPRequestHandler):
    """A file server that does not log."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a folder on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def crawled(start: str) -> tuple[set[str], set[str]]:
    """Every address of the same server that links lead to, each of them answered, and every other address."""
    seen, elsewhere, waiting = set[str](), set[str](), [start]
    while waiting:
        address = waiting.pop()
        if address in seen or not address.startswith(urljoin(start, ".")):
            (seen if address in seen else elsewhere).add(address)
            continue
        seen.add(address)
        with urlopen(address, timeout=20) as response:
            text = response.read().decode("utf-8", "replace")
        parser = Hrefs()
        parser.feed(text if ".html" in address else "")
        links = parser.found if ".html" in address else re.findall(r"\]\(([^)\s]*)\)", text if ".md" in address else "")
        waiting += [urldefrag(urljoin(address, link))[0] for link in links if not link.startswith("data:")]
    return seen, elsewhere


@pytest.mark.parametrize("name", NAMES)
def test_a_link_is_escaped_and_leads_back(tmp_path: Path, name: str) -> None:
    """Nothing that ends a link or begins markup stands in it, and a browser finds the folder."""
    links = Links.of(tmp_path / "reports", tmp_path / name, tmp_path / "reports")
    for link in (links.results, links.to_results("tables/"), links.below().to_results("tables/")):
        assert not RAW.search(link)
    assert Path(tmp_path / "reports" / unquote(links.results)).resolve() == (tmp_path / name).resolve()
    assert links.reports == "."


@pytest.mark.parametrize("name", ["my results", 'a"b #1 (100%)'])
def test_every_link_of_a_report_leads_to_a_file(tmp_path: Path, name: str) -> None:
    """A folder of one's own has no README and no analysis plan: they are named without a link."""
    make_run(tmp_path / name, RUN)
    build(tmp_path / name, tmp_path / "reports")
    assert dead_links(tmp_path / "reports") == []
    notes = (tmp_path / "reports" / "trust.html").read_text(encoding="utf-8")
    assert all(f"results/{document} of the suite" in notes for document in DOCUMENTS)


def test_reports_that_are_hosted_alone_lead_to_the_repository(tmp_path: Path) -> None:
    """Every link of every page, followed from the first one: a file beside it, or the results at the address given."""
    results = tmp_path / "my results"
    for run in (RUN, Run("lite-96", "medspectralnet", "breastmnist", 0), Run("lite-96", "resnet18", "breastmnist", 0)):
        make_run(results, run)
    (results / "README.md").write_text("columns", encoding="utf-8")
    build(results, tmp_path / "reports", repository=f"{REPOSITORY}/")
    shutil.copytree(tmp_path / "reports", tmp_path / "alone" / "www")
    with served(tmp_path / "alone" / "www") as address:
        seen, elsewhere = crawled(f"{address}index.html")
    pages = {path.relative_to(tmp_path / "reports").as_posix() for path in (tmp_path / "reports").rglob("*.html")}
    assert pages <= {page.removeprefix(address).partition("?")[0] for page in seen}
    own = {link for link in elsewhere if link.startswith(REPOSITORY)}
    for link in own:
        assert (tmp_path / unquote(link.removeprefix(f"{REPOSITORY}/"))).exists(), link
    kinds = ("/records/lite-96/resnet18/breastmnist/seed0.json", "/README.md", "/tables/")
    assert {f"{REPOSITORY}/my%20results{end}" for end in kinds} <= own
    assert [link for link in elsewhere - own if link.startswith(address) or "/results" in link] == []


@pytest.mark.parametrize("repository", ["owner/name", "javascript:alert(1)", 'https://a.b/"c', "https://a.b/(c)"])
def test_a_repository_is_an_address(tmp_path: Path, repository: str) -> None:
    """Anything else would be a dead link, or more than a link."""
    with pytest.raises(BenchError, match="is not an address"):
        Links.of(tmp_path, tmp_path / "results", tmp_path, repository)


def test_another_repository_is_another_report(tmp_path: Path) -> None:
    """The report is written again, and the check wants the same address."""
    make_run(tmp_path / "results", RUN)
    folders = (tmp_path / "results", tmp_path / "reports")
    build(*folders)
    assert not build(*folders, repository=REPOSITORY).was_current
    assert compare(*folders, repository=REPOSITORY) == []
    assert any("table3.md" in line for line in compare(*folders))


def test_documents_that_are_there_are_linked(tmp_path: Path) -> None:
    """A checkout's results folder has both."""
    (tmp_path / "README.md").write_text("columns", encoding="utf-8")
    links = Links.of(tmp_path / "reports", tmp_path, tmp_path / "reports")
    assert links.to_document("README.md") == "../README.md"
    assert links.below().to_document("README.md") == "../../README.md"
    assert links.to_document("ANALYSIS_PLAN.md") == ""


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a notebook, behind `=` in a shell and in $MEDMNIST_ROOT nobody else expands it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(ROOT_VARIABLE, "~/data")
    make_run(tmp_path / "mine", RUN)
    assert len(mb.load_results("~/mine")) == 1
    assert data_root() == tmp_path / "data"
    with pytest.raises(RecordError, match="There is no results folder"):
        mb.load_results("~/not there")
