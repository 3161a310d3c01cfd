"""MkDocs hook: pages of docs/ link to files of the repository as they do on disk, and the site takes these along.

`../results/bands.toml` on a page is `repository/results/bands.toml` in the site. A linked Markdown file becomes a page,
with its own links treated alike; a folder is shown as its path, since a site has no listing.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def _linked(page: Path) -> set[Path]:
    """Files of the repository outside docs/ that a Markdown page links to."""
    targets = (
        page.parent / match[3] for match in LINK.finditer(page.read_text(encoding="utf-8")) if "://" not in match[3]
    )
    inside = (target.resolve() for target in targets)
    return {path for path in inside if path.is_relative_to(ROOT) and not path.is_relative_to(ROOT / "docs")}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what the pages link to, and what these pages link to in turn."""
    waiting = [Path(file.abs_src_path or "") for file in files.documentation_pages()]
    waiting = [path for path in waiting if path.suffix == ".md"]
    seen: set[Path] = set()
    while waiting:
        for path in sorted(_linked(waiting.pop())):
            if path in seen or not path.is_file():
                continue
            seen.add(path)
            name = f"repository/{path.relative_to(ROOT).as_posix()}"
            files.append(File.generated(config, name, abs_src_path=str(path)))
            if path.suffix == ".md":
                waiting.append(path)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links that leave docs/ (or come from outside it) lead to the copy in the site."""
    source = Path(page.file.abs_src_path or "")
    if source.suffix != ".md":
        return markdown

    def relative(match: re.Match[str]) -> str:
        mark, text, target, anchor = match[1], match[2], match[3], match[4] or ""
        if "://" in target:
            return match[0]
        path = (source.parent / target).resolve()
        if path.is_dir() or not path.suffix:  # a listing or a file without a type is no page of a site
            return f"`{path.relative_to(ROOT).as_posix()}`"
        docs = ROOT / "docs"
        name = path.relative_to(docs if path.is_relative_to(docs) else ROOT).as_posix()
        name = name if path.is_relative_to(docs) else f"repository/{name}"
        up = "../" * (len(Path(page.file.src_uri).parts) - 1)
        return f"{mark}[{text}]({up}{name}{anchor})"

    return LINK.sub(relative, markdown)
