"""A person reads display names; what has to be typed, and CSV, keeps the registered ones."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bench.records.names import Run
from bench.records.own_models import own_models
from bench.report.build import build
from bench.report.published.names import DATASETS, MODELS, model_name, name_in_sentence, shown_name
from models import get_spec, list_models
from tests.making import make_run

CODE = re.compile(r"<!--.*?-->|```.*?```|`[^`]*`|\]\([^)]*\)|https?://\S+", flags=re.DOTALL)
REGISTERED = {*MODELS, *DATASETS}
PLANNERS = "pins no public ImageNet-1k weights for"  # as the command line says it


def of_the_registry() -> set[str]:
    """What models say of their own code: sources, deviations, notes."""
    fields = (value for name in list_models() for value in vars(get_spec(name)).values())
    return {text.rstrip(".") for text in fields if isinstance(text, str) and " " in text}


class Shown(HTMLParser):
    """The text of a page outside code, with what is read aloud."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.silent = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.silent += tag in ("code", "pre", "style", "script")
        self.lines += [value or "" for name, value in attrs if name in ("title", "aria-label", "data-tip", "alt")]

    def handle_endtag(self, tag: str) -> None:
        self.silent -= tag in ("code", "pre", "style", "script")

    def handle_data(self, data: str) -> None:
        self.lines += [] if self.silent else data.splitlines()


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a comparison, a lost run, a lost seed, Table 2 and real runs of most kinds of model."""
    folder = tmp_path_factory.mktemp("names")
    for model in ("medspectralnet", "medspectralnet_no_gate", "resnet18", "floor/knn1", "sklearn/logistic"):
        make_run(folder / "results", Run("lite-96", model, "breastmnist", 0))
    for protocol in ("breast-ablation-adam-plain", "breast-ablation-adam-cutmix"):
        for model in ("medspectralnet", "resnet18"):
            make_run(folder / "results", Run(protocol, model, "breastmnist", 0))
    failure = {"kind": "oom", "message": "out of memory"}
    lost = {"status": "failed", "failure": failure, "val": None, "test": None, "test_twin_free": None}
    make_run(folder / "results", Run("lite-96", "swin_t", "breastmnist", 0), **lost)
    make_run(folder / "results", Run("lite-96", "resnet18", "breastmnist", 1), **lost)
    build(folder / "results", folder / "reports")
    return folder / "reports"


def test_no_page_shows_a_registered_name_outside_code(reports: Path) -> None:
    """Tables, captions, headings, lists and what is read aloud, in Markdown and HTML."""
    found, own = [], of_the_registry()
    pages = [path for path in sorted(reports.rglob("*")) if path.suffix in (".md", ".html")]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        lines = Shown(text).lines if page.suffix == ".html" else CODE.sub("", text).replace("\\", "").splitlines()
        for line in lines:
            names = REGISTERED.intersection(re.findall(r"[A-Za-z0-9_/]+", line))
            if names and not any(text in line for text in (PLANNERS, *own)):
                found.append(f"{page.name}: {line.strip()}")
    assert len(pages) > 40
    assert found == []


def test_what_is_typed_keeps_the_registered_name(reports: Path) -> None:
    """A command, a card's registered name, and the files that programs read."""
    text = (reports / "table3.md").read_text(encoding="utf-8")
    assert re.search(r"`medbench run --protocol \S+ --models \S*medmamba_t", text)
    assert "`resnet18`" in (reports / "models" / "resnet18.md").read_text(encoding="utf-8")
    table = (reports / "table3.csv").read_text(encoding="utf-8")
    assert "medspectralnet,breastmnist" in table
    assert "MedSpectralNet," not in table


def test_every_model_of_the_suite_has_a_name() -> None:
    """Shown as itself is only what is not the suite's; a sentence has articles where a name is none."""
    assert {name for name in own_models() if model_name(name) == name} == set()
    assert name_in_sentence("floor/prior") == "the majority class"
    assert name_in_sentence("resnet18") == shown_name("resnet18") == "ResNet-18"
    assert shown_name("breastmnist") == "BreastMNIST"
    assert shown_name("their_net") == "their_net"
