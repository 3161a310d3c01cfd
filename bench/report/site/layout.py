"""What every page has: the address, the head, the way to the other pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pandas as pd

from bench.data.names import PAPER_DATASETS
from bench.records.names import SYNTHETIC_PREFIX
from bench.report.formats import Block, Heading, latex, markdown
from bench.report.published.names import dataset_name
from bench.report.rendering import template
from bench.report.site.tracks import TRACKS
from bench.report.tidy import STAMP, csv_bytes

__all__ = ["Page", "dataset_path", "document", "html", "stamped", "written"]


@dataclass(frozen=True)
class Page:
    """A page of the site.

    Attributes:
        path: Below the reports folder.
        title: Its heading.
        line: What it was made from.
        synthetic: Whether it is of synthetic data: it says so, and leads to pages of such data alone.
    """

    path: str
    title: str
    line: str
    synthetic: bool = False

    @property
    def root(self) -> str:
        """From its folder to the reports folder."""
        return "/".join([".."] * (len(PurePosixPath(self.path).parts) - 1)) or "."

    @property
    def section(self) -> str:
        """The page of the menu that leads to it: of a card the list, of a track's table the tracks; else ""."""
        if self.path.startswith("models/"):
            return "models/index.html"
        tables = {f"{track.table}.html" for track in TRACKS}
        return "tracks.html" if self.path in tables else ""


@dataclass(frozen=True)
class _Link:
    title: str
    path: str


def stamped(name: str, *, synthetic: bool) -> str:
    """A file's name; one of synthetic data has the stamp in front."""
    return f"{STAMP}_{name}" if synthetic else name


def dataset_path(dataset: str) -> str:
    """The page of a data set below the reports folder."""
    return f"datasets/{stamped(dataset, synthetic=dataset.startswith(SYNTHETIC_PREFIX))}.html"


def _navigation(*, synthetic: bool) -> list[_Link]:
    sets = [SYNTHETIC_PREFIX + flag if synthetic else flag for flag in PAPER_DATASETS]
    links = [_Link("Answer", stamped("index.html", synthetic=synthetic))]
    links += [_Link(dataset_name(name), dataset_path(name)) for name in sets]
    if synthetic:
        return links
    return [
        *links,
        _Link("Claims", "claims.html"),
        _Link("Table 2", "table2.html"),
        _Link("Ablation", "ablation.html"),
        _Link("Costs", "table4.html"),
        _Link("Models", "models/index.html"),
        _Link("Tracks", "tracks.html"),
        _Link("Trust", "trust.html"),
        _Link("Run a row", "run.html"),
    ]


def html(page: Page, name: str, **content: Any) -> dict[str, bytes]:
    """A page by its template, as the only file of a mapping.

    Args:
        page: Where it stands and what it is called.
        name: Of the template, which extends `base.html.jinja`.
        **content: What the template shows.
    """
    text = template(name).render(
        path=page.path,
        title=page.title,
        root=page.root,
        line=f"{STAMP + ' | ' if page.synthetic else ''}{page.line}",
        synthetic=page.synthetic,
        stamp=STAMP,
        nav=_navigation(synthetic=page.synthetic),
        section=page.section,
        **content,
    )
    return {page.path: text.encode()}


def document(
    path: str, blocks: Sequence[Block], line: str, files: Sequence[str] = (), *, synthetic: bool = False
) -> dict[str, bytes]:
    """A table's or a card's blocks as a page.

    Args:
        path: Below the reports folder.
        blocks: The first is the heading.
        line: What it was made from.
        files: That hold the same, below the reports folder.
        synthetic: Whether it is of synthetic data, as the heading says too.
    """
    title = blocks[0]
    assert isinstance(title, Heading)
    page = Page(path, title.text.removeprefix(f"{STAMP}: "), line, synthetic)
    return html(page, "document.html.jinja", blocks=blocks[1:], files=files)


def written(
    name: str, blocks: Sequence[Block], numbers: pd.DataFrame, line: str, *, synthetic: bool, has_page: bool = True
) -> dict[str, bytes]:
    """Blocks as Markdown, LaTeX and a page, and their numbers as CSV; on synthetic data stamped, without a page.

    Args:
        name: `calibration`.
        blocks: The first is the heading.
        numbers: What the CSV holds.
        line: What it was made from.
        synthetic: Whether it is of synthetic data: file names and CSV say so.
        has_page: Whether it gets a page.
    """
    mark = f"{STAMP} | " if synthetic else ""
    contents = {
        "md": markdown(blocks, line),
        "tex": latex(blocks, line),
        "csv": f"# {mark}{line}\n".encode() + csv_bytes(numbers),
    }
    files = {stamped(f"{name}.{end}", synthetic=synthetic): content for end, content in contents.items()}
    return files | document(f"{name}.html", blocks, line, tuple(files)) if has_page and not synthetic else files
