"""Every link of a report leads to a file, whatever the folders are called and whichever documents are there."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

import bench.api as mb
from bench.data.loading import ROOT_VARIABLE, data_root
from bench.errors import RecordError
from bench.records.names import Run
from bench.report.build import build
from bench.report.links import DOCUMENTS, Links
from tests.making import make_run

NAMES = ("my results", "run#1", 'a"b', "a'b", "100%", "(a) [b]", "~", "a?b=c&d", "<b>", "ünï", "🙂", "a%20b")
RAW = re.compile(r"""[\s"'#?<>()\[\]&]""")
RUN = Run("smoke", "floor/prior", "breastmnist", 0)


class Hrefs(HTMLParser):
    """Collects where a page's links lead."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for key, value in attrs if tag == "a" and key == "href"]


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
            if path and "://" not in path and not (page.parent / path).exists():
                dead.append(f"{page.name}: {link}")
    return dead


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
