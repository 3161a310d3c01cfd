"""One content, two writers: what a table says, as Markdown and as LaTeX. Names and messages are escaped here.

A cell that is a registered name is shown by its display name.
Text is plain, with one mark: what stands between backticks is code. `quoted` makes foreign text safe for that.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.report.published.names import shown_name

NOTHING = "–"
MARKDOWN_SIGNS = re.compile(r"([\\`*\[\]<>|~$&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
TEX_SIGNS = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{sign: f"{{{sign}}}" for sign in "[]*"},  # after a row's end they would be read as its options
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    '"': "{''}",
    "±": r"$\pm$",
    "−": "$-$",
    "≈": r"$\approx$",
    "≥": r"$\geq$",
    "×": r"$\times$",
    "–": "--",
    "Δ": r"$\Delta$",
}
BREAK = r",\allowbreak{}"  # a command's long lists may end a line at a comma
# A file that compiles alone and can be \input into a paper as it is: in a document that has begun, LaTeX's own
# \@nodocument is \relax, and the preamble is skipped. A paper needs booktabs and longtable.
TEX_HEAD = r"""\makeatletter
\let\medbenchend\relax
\ifx\@nodocument\relax\else
\documentclass[a4paper]{article}
\usepackage[landscape,margin=15mm]{geometry}
\usepackage{booktabs,longtable}
\def\medbenchend{\end{document}}
\begin{document}
\fi
\makeatother
\begingroup\footnotesize\sloppy\setlength{\tabcolsep}{4pt}\setlength{\LTleft}{0pt}\setlength{\parindent}{0pt}"""
TEX_TAIL = r"""\par\endgroup
\medbenchend"""
ROUNDING = 1e-9  # less than that is what sums of floats leave of 0


@dataclass(frozen=True)
class Text:
    """A table's cell: plain text, where its evidence stands (Markdown only), and whether it stands out."""

    text: str
    link: str = ""
    strong: bool = False


@dataclass(frozen=True)
class Row:
    """A table's row; `comment` is for readers of the LaTeX source: the runs that it comes from."""

    cells: Sequence[Text | str]
    comment: str = ""


@dataclass(frozen=True)
class Table:
    """A table; columns are aligned left but those in `right`, widths in mm are for long text in LaTeX."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Row]
    right: frozenset[int] = frozenset()
    widths: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the title."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Bullets:
    """A list."""

    items: Sequence[str]


Block = Heading | str | Bullets | Table


def quoted(text: object) -> str:
    """Foreign text (a failure's message, say) on one line, without the mark for code."""
    return " ".join(str(text).replace("`", "'").split())


def signed(value: float, digits: int = 3) -> str:
    """`+0.028`, `−0.070`, `−0.000` for what lies below 0 by less than is printed; nothing for what is not known."""
    if value != value:
        return ""
    return f"{value:+.{digits}f}".replace("-", "−") if abs(value) > ROUNDING else f"{0:.{digits}f}"


def markdown(blocks: Sequence[Block], first_line: str) -> bytes:
    """A Markdown file; line one says what it was made from."""
    return f"<!-- {first_line} -->\n{markdown_text(blocks)}\n".encode()


def markdown_text(blocks: Sequence[Block]) -> str:
    """Blocks as Markdown, for a page that has its own first line."""
    lines = [line for block in blocks for line in [*_markdown_block(block), ""]]
    return "\n".join(lines).rstrip("\n")


def _markdown_block(block: Block) -> list[str]:
    if isinstance(block, Heading):
        return [f"{'#' * block.level} {_markdown_text(block.text)}"]
    if isinstance(block, Bullets):
        return [f"- {_markdown_text(item)}" for item in block.items]
    if isinstance(block, str):
        return [_markdown_text(block)]
    rows = [[_markdown_cell(cell) for cell in cells] for cells in (block.header, *(row.cells for row in block.rows))]
    widths = [max(3, *(len(row[i]) for row in rows)) for i in range(len(block.header))]
    rule = ["-" * (width - 1) + (":" if i in block.right else "-") for i, width in enumerate(widths)]
    lines = ["| " + " | ".join(_aligned(block, row, widths)) + " |" for row in rows]
    above = [_markdown_text(block.caption), ""] if block.caption else []
    return [*above, lines[0], "| " + " | ".join(rule) + " |", *lines[1:]]


def _aligned(table: Table, row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    for i, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.rjust(width) if i in table.right else cell.ljust(width)


def _markdown_cell(cell: Text | str) -> str:
    cell = cell if isinstance(cell, Text) else Text(cell)
    text = _markdown_text(shown_name(cell.text))
    text = f"**{text}**" if cell.strong else text
    return f"[{text}]({cell.link})" if cell.link else text


def _markdown_text(text: str) -> str:
    """Signs escaped, code left between its backticks."""
    parts = text.split("`")
    return "".join(f"`{part}`" if i % 2 else MARKDOWN_SIGNS.sub(r"\\\1", part) for i, part in enumerate(parts))


def latex(blocks: Sequence[Block], first_line: str) -> bytes:
    """A LaTeX file that compiles alone or inside a paper; line one says what it was made from."""
    lines = [f"% {first_line}", "% Compiles alone; \\input into a paper it needs booktabs and longtable.", TEX_HEAD]
    for block in blocks:
        lines += _latex_block(block)
    return "\n".join([*lines, TEX_TAIL, ""]).encode()


def _latex_block(block: Block) -> list[str]:
    if isinstance(block, Heading):
        size = r"\large" if block.level == 1 else r"\normalsize"
        keep = r"\vskip 0pt plus 30mm\penalty-200\vskip 0pt plus -30mm"  # no heading at the foot of a page
        return [rf"\par{keep}\medskip{{{size}\bfseries {_latex_text(block.text)}}}\par\smallskip\nopagebreak"]
    if isinstance(block, Bullets):
        items = [rf"\item {_latex_text(item)}" for item in block.items]
        return [r"\begin{itemize}\setlength{\itemsep}{0pt}", *items, r"\end{itemize}"]
    if isinstance(block, str):
        return [rf"{_latex_text(block)}\par\smallskip"]
    widths = dict(block.widths)
    columns = [
        rf"p{{{widths[i]}mm}}" if i in widths else "r" if i in block.right else "l" for i in range(len(block.header))
    ]
    head = [*_latex_row(Row(block.header)), r"\midrule"]
    caption = rf"\caption{{{_latex_text(block.caption)}}}\\"
    body = [line for row in block.rows for line in _latex_row(row)]
    return [
        rf"\begin{{longtable}}{{@{{}}{''.join(columns)}@{{}}}}",
        *([caption] if block.caption else []),
        *(r"\toprule", *head, r"\endfirsthead", r"\toprule", *head, r"\endhead"),
        *(*body, r"\bottomrule", r"\end{longtable}"),
    ]


def _latex_row(row: Row) -> list[str]:
    cells = [cell if isinstance(cell, Text) else Text(cell) for cell in row.cells]
    names = [_latex_text(shown_name(cell.text)) for cell in cells]
    texts = [rf"\textbf{{{name}}}" if cell.strong else name for cell, name in zip(cells, names, strict=True)]
    comment = [f"% {quoted(row.comment)}"] if row.comment else []
    return [" & ".join(texts) + r" \\", *comment]


def _latex_text(text: str) -> str:
    """Signs escaped, code in typewriter letters; letters that pdflatex has not are spelled without their marks."""
    parts = text.split("`")
    return "".join(
        rf"\texttt{{{_latex_signs(part).replace('-', '-{}').replace(',', BREAK)}}}" if i % 2 else _latex_signs(part)
        for i, part in enumerate(parts)
    )


def _latex_signs(text: str) -> str:
    return "".join(TEX_SIGNS.get(sign) or _ascii(sign) for sign in re.sub(r"\s", " ", text))


def _ascii(sign: str) -> str:
    plain = unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode()
    return "".join(TEX_SIGNS.get(letter, letter) for letter in plain if letter.isprintable()) or "?"
