"""The one template environment of all generated pages: `bench/report/templates/`."""

from __future__ import annotations

import re
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape

__all__ = ["template"]


def template(name: str) -> Template:
    """A template by its file name; what it shows is escaped, but in Markdown."""
    return _environment().get_template(name)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("bench.report"),
        autoescape=lambda name: name is not None and not name.endswith(".md.jinja"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["anchor"] = _anchor
    environment.filters["breakable"] = _breakable
    return environment


def _anchor(text: str) -> str:
    """A name as an id."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-").lower()


def _breakable(name: str) -> Markup:
    """A name that may end a line behind `/` and `_`."""
    return Markup(re.sub(r"([/_])", r"\1<wbr>", str(escape(name))))
