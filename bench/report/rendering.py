"""The one template environment of all generated pages: `bench/report/templates/`."""

from __future__ import annotations

import re
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from bench.report.links import card_path
from bench.report.published.names import dataset_name, model_name, shown_name

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
    environment.filters |= {"model_name": model_name, "dataset_name": dataset_name, "shown_name": shown_name}
    environment.filters["card"] = card_path
    return environment


def _anchor(text: str) -> str:
    """A name as an id."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-").lower()
