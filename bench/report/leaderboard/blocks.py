"""Blocks of the generated tables as the page shows them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from bench.report.formats import Block, Bullets, Heading, Text

Coded = list[tuple[bool, str]]  # (is code, text)


@dataclass(frozen=True)
class PageBlock:
    """A heading, a paragraph, a list or a table, ready for a template.

    Attributes:
        kind: Which.
        text: Of a heading, or a table's caption.
        parts: Of a paragraph.
        entries: Of a list.
        header, rows: Of a table.
    """

    kind: Literal["heading", "text", "list", "table"]
    text: str = ""
    parts: Coded = field(default_factory=list)
    entries: list[Coded] = field(default_factory=list)
    header: Sequence[str] = ()
    rows: list[list[Text]] = field(default_factory=list)


@dataclass(frozen=True)
class PageSection:
    """A part of the page: its id, its heading, and what stands below it."""

    name: str
    title: str
    blocks: list[PageBlock]


def page_section(name: str, blocks: Sequence[Block]) -> PageSection:
    """Blocks whose first is the title."""
    title = blocks[0]
    assert isinstance(title, Heading)
    return PageSection(name, title.text, [_page_block(block) for block in blocks[1:] if block])


def coded(text: str) -> Coded:
    """What stands between backticks is code."""
    return [(is_code, part) for is_code, part in zip(itertools.cycle((False, True)), text.split("`"), strict=False)]


def _page_block(block: Block) -> PageBlock:
    if isinstance(block, Heading):
        return PageBlock("heading", block.text)
    if isinstance(block, str):
        return PageBlock("text", parts=coded(block))
    if isinstance(block, Bullets):
        return PageBlock("list", entries=[coded(item) for item in block.items])
    rows = [[cell if isinstance(cell, Text) else Text(cell) for cell in row.cells] for row in block.rows]
    return PageBlock("table", block.caption, header=block.header, rows=rows)
