"""The leaderboard page: what it says, that it escapes, and that it works from disk in a browser."""

from __future__ import annotations

import html
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bench.check.compare.folders import compare_folders
from bench.records.card import read_card, write_card
from bench.records.names import Run
from bench.report.analysis.analyse import analyse
from bench.report.evidence import gather
from bench.report.figures.style import Caption
from bench.report.site.figures import inline, page_figures
from bench.report.site.page import render
from tests.check.test_trust import ROW
from tests.making import make_rerun, make_run
from tests.report.rows import only
from tests.test_layers import HEAVY

ROOT = Path(__file__).parents[2]
CHROMIUM = Path("/usr/bin/chromium")
EVIL = "<script>alert(1)</script>"
OURS = Run("smoke", "medspectralnet", "breastmnist", 0)
RESNETS = [Run("smoke", "resnet18_28", "breastmnist", seed) for seed in (1, 2)]
FLOOR = Run("smoke", "floor/prior", "breastmnist", 0)
MADE = Run("smoke", "resnet18_28", "synthetic-breastmnist", 0)
SVG = """<?xml version="1.0" encoding="utf-8" standalone="no"?><!-- medbench report | x -->
<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">
<svg xmlns:xlink="http://www.w3.org/1999/xlink" width="240pt" height="120pt" viewBox="0 0 240 120" xmlns="http://www.w3.org/2000/svg">
 <title>name</title>
 <metadata><a>b</a></metadata>
 <defs><style type="text/css">*{stroke-linejoin: round}</style></defs>
 <defs><clipPath id="p1"><rect id="r" width="240"/></clipPath></defs>
 <g id="axes_1"><use xlink:href="#r" clip-path="url(#p1)"/><text>A &amp; B</text></g>
</svg>
"""
FIGURES = {
    "figures/fig05_confusion__medspectralnet__breastmnist__smoke.svg": SVG.encode(),
    "figures/fig05_confusion__medspectralnet__breastmnist__smoke.pdf": b"%PDF",
    "figures/forest__smoke.svg": SVG.encode(),
}
CAPTIONS = {
    "forest__smoke": Caption("Forest", "differences"),
    "fig05_confusion__medspectralnet__breastmnist__smoke": Caption("Confusion matrix", f"of {EVIL}", "breastmnist"),
}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    for run in (OURS, *RESNETS, FLOOR, MADE):
        make_run(folder, run)
    return folder


def page(results: Path, *, synthetic: bool = False, figures: dict[str, bytes] | None = None) -> str:
    evidence = gather(results)
    analysis = analyse(evidence, synthetic=synthetic)
    captions = {} if synthetic else CAPTIONS
    found = render(evidence, analysis, synthetic=synthetic, figures=figures or {}, captions=captions)
    assert list(found) == ["SYNTHETIC_index.html" if synthetic else "index.html"]
    return found.popitem()[1].decode()


class Outline(HTMLParser):
    """Headings, ids, links, tables and open tags of a page; scripts are text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.hrefs: list[str] = []
        self.loads: list[str] = []
        self.rows: list[list[str]] = []
        self.captions = 0
        self.tables = 0
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in ("meta", "link", "br", "wbr", "input", "use", "rect", "path"):
            self.open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        self.tables += tag == "table"
        self.captions += tag == "caption"
        self.ids += [given["id"] or ""] if "id" in given else []
        if tag == "a":
            self.hrefs.append(given.get("href") or "")
        elif "href" in given and tag == "link":
            self.loads.append(given["href"] or "")
        self.loads += [given["src"] or ""] if "src" in given else []
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("use", "rect", "path"):
            assert self.open.pop() == tag, f"{tag} closes another tag"

    def handle_data(self, data: str) -> None:
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += " ".join(data.split()) + (" " if data.strip() else "")


def row_of(text: str, *words: str, place: int = 0) -> list[str]:
    """The first table row whose first cells are these, or a later one: twin-free, then the data set's table."""
    found = [row for row in Outline(text).rows if [cell.replace(" ", "") for cell in row[: len(words)]] == list(words)]
    assert len(found) > place, f"no row {words}"
    return [cell.strip() for cell in found[place]]


def test_the_same_records_give_the_same_bytes(results: Path) -> None:
    """Twice, and in a process of its own, without torch, medmnist and IPython; line one is the digest's."""
    text = page(results, figures=FIGURES)
    assert text == page(results, figures=FIGURES)
    first = text.splitlines()[0]
    assert re.fullmatch(r"<!-- medbench report \| medspectral-bench \S+ \| 4 records [0-9a-f]{16} -->", first)
    code = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY | {"IPython"}!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Block())
from pathlib import Path
from bench.report.analysis.analyse import analyse
from bench.report.evidence import gather
from bench.report.site.page import render
evidence = gather(Path({str(results)!r}))
found = render(evidence, analyse(evidence, synthetic=False), synthetic=False, figures={{}}, captions={{}})
sys.stdout.buffer.write(found["index.html"])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode() == page(results)


def test_the_page_is_one_whole_accessible_document(results: Path) -> None:
    """Tags close, ids are unique, headings go down step by step, tables have captions, links lead somewhere."""
    text = page(results, figures=FIGURES)
    outline = Outline(text)
    assert outline.open == []
    assert len(outline.ids) == len(set(outline.ids))
    steps = [later - earlier for earlier, later in zip(outline.headings, outline.headings[1:], strict=False)]
    assert outline.headings[0] == 1
    assert outline.headings.count(1) == 1
    assert max(steps) <= 1
    assert outline.captions == outline.tables > 0
    assert '<html lang="en">' in text
    for href in outline.hrefs:
        if href.startswith("#"):
            assert href[1:] in outline.ids, href
        elif href.startswith("../results/records/"):
            assert (results.parent / "reports" / href).resolve().exists(), href
    assert [load for load in outline.loads if not load.startswith("data:")] == []


def test_numbers_by_hand(results: Path) -> None:
    """Mean ± standard deviation over seeds, its interval below, published numbers in columns of their own."""
    text = page(results)
    aucs = [json.loads(run.path(results).read_bytes())["test"]["auc"] for run in RESNETS]
    shown = f"{sum(aucs) / 2:.3f} ± {abs(aucs[0] - aucs[1]) / 2**0.5:.3f}"
    row = row_of(text, "resnet18_28", "breastmnist")
    assert row[2].startswith(shown)
    assert row[4:7] == ["smoke", "official 24", "2"]
    assert row[7:] == ["0.901", "0.863", "re-scored"]
    scores = analyse(gather(results), synthetic=False).scores
    score = only(scores, model="resnet18_28", dataset="breastmnist", part="test", metric="auc")
    interval = f"{score.ci_low:.3f}–{score.ci_high:.3f}"
    assert f"{shown} {interval}" in row_of(text, "resnet18_28", place=2)[1]
    assert f"95 % interval {score.ci_low:.4f} to {score.ci_high:.4f} over test images and seeds, 2 seeds" in text


def test_ties_are_not_drawn_as_wins(results: Path) -> None:
    """Two models that no test separates are both called not separated; the floor below them is neither."""
    text = page(results)
    for model in ("medspectralnet", "resnet18_28"):
        assert "not separated" in row_of(text, model, "breastmnist")[2]
    body = text[text.index('<table id="leaderboard"') : text.index("</table>")]
    assert 'class="mark best"' not in body
    assert body.count('class="mark tie"') >= 4


def test_missing_cells_tell_why(results: Path) -> None:
    """A failed run and one that nobody ran are named with their reasons, not left out."""
    failure = {"kind": "oom", "message": "out of memory on the host"}
    run = Run("smoke", "resnet50_28", "breastmnist", 0)
    make_run(results, run, status="failed", failure=failure, val=None, test=None, test_twin_free=None)
    make_run(results, Run("smoke", "resnet50_28", "dermamnist", 0), num_classes=7)
    text = page(results)
    assert "<li>failed: out of memory on the host (resnet50_28)</li>" in text
    part = text[text.index('id="bloodmnist"') : text.index('id="breastmnist"')]
    assert "No finished run" in part
    assert re.search(r"<li>not run \([^)]*medspectralnet, resnet18_28, resnet50_28\)</li>", part)


def test_a_stale_record_is_a_note(results: Path) -> None:
    """It enters no table, and the page says so."""
    make_run(results, FLOOR, model_fingerprint="1" * 64)
    text = page(results)
    assert f"left out as stale: {FLOOR.run_id}" in html.unescape(text)
    with pytest.raises(AssertionError, match="no row"):
        row_of(text, "floor/prior", "breastmnist")


def test_names_and_messages_are_escaped(results: Path) -> None:
    """Text from records, cards, captions and contributions is text, wherever it lands."""
    failure = {"kind": "error", "message": EVIL}
    run = Run("smoke", "floor/prior", "pneumoniamnist", 0)
    make_run(results, run, status="failed", failure=failure, val=None, test=None, test_twin_free=None)
    card = read_card(results, "breastmnist")
    assert card is not None
    names = [EVIL, *card.class_names[1:]]
    write_card(results, card.model_copy(update={"class_names": names, "citation": EVIL, "license": EVIL}))
    (results / "self_reported").mkdir()
    row = {**ROW, "model": EVIL, "author": '"><img src=x onerror=alert(1)>', "note": "' onclick='x"}
    (results / "self_reported" / "evil.json").write_text(json.dumps(row), encoding="utf-8")
    text = page(results, figures=FIGURES)
    assert EVIL not in text
    assert "<img" not in text
    assert text.count(html.escape(EVIL)) == 6  # class, citation, licence, failure, self-reported model, caption
    Outline(text)


def test_self_reported_rows_stand_apart(results: Path) -> None:
    """They are in no ranked table, whatever they claim."""
    (results / "self_reported").mkdir()
    (results / "self_reported" / "some.json").write_text(json.dumps({**ROW, "acc": 1.0}), encoding="utf-8")
    text = page(results)
    assert text.index("SomeNet") > text.index("<h3>Self-reported</h3>")
    assert row_of(text, "SomeNet", "breastmnist")[3] == "1.000"


def test_scores_that_predictions_do_not_give_leave_the_leaderboard(results: Path) -> None:
    """A record sealed anew with a better accuracy is shown as somebody's word, without a mark."""
    record = make_run(results, FLOOR)
    make_run(results, FLOOR, test={**(record.test or {}), "acc": 0.99})
    text = page(results)
    assert text.count("the stored predictions do not give these scores") == 1
    with pytest.raises(AssertionError, match="no row"):
        row_of(text, "floor/prior", "breastmnist", "0.990")
    assert text.index(">floor/prior<") > text.index("<h3>Self-reported</h3>")


def test_a_re_run_shows(results: Path, tmp_path: Path) -> None:
    """The level of a cell whose every seed was run again, and of one of two seeds."""
    make_rerun(tmp_path / "mine", OURS, lambda table: table)
    make_rerun(tmp_path / "mine", RESNETS[0], lambda table: table)
    compare_folders(results, tmp_path / "mine", record=True)
    text = page(results)
    assert row_of(text, "medspectralnet", "breastmnist")[9] == "re-run"
    assert row_of(text, "resnet18_28", "breastmnist")[9] == "re-scored"
    assert "1 of 2 seeds re-run" in text


def test_synthetic_never_meets_real(results: Path) -> None:
    """Runs on synthetic data have a page of their own, stamped in title, heading and every table."""
    real, made = page(results), page(results, synthetic=True)
    assert "synthetic-breastmnist" not in real
    assert "SYNTHETIC" not in re.sub(r"<style>.*?</style>", "", real, flags=re.DOTALL)
    assert made.startswith("<!-- SYNTHETIC | medbench report")
    assert "<title>SYNTHETIC: " in made
    assert 'class="stamp"' in made
    scores = re.findall(r'<table[^>]*class="scores">\s*<caption><span>(\S+)', made)
    assert scores
    assert set(scores) == {"SYNTHETIC:"}
    assert "medspectralnet__breastmnist" not in made


def test_an_empty_folder_gives_a_page(tmp_path: Path) -> None:
    """No records yet is a sentence, not a crash."""
    (tmp_path / "results" / "records").mkdir(parents=True)
    assert "No records yet." in page(tmp_path / "results")


def test_data_problems_and_licence_are_told(results: Path) -> None:
    """Twins that leak into the test set, and under what licence the images stand."""
    text = page(results)
    assert "train and test: 2 pairs of near twins (pixel correlation ≥ 0.99)" in text
    assert "2 of 24 test images have a near twin" in text
    assert "<dd>CC BY 4.0</dd>" in text
    assert "Not for diagnosis" in text
    assert "Smallest difference that the comparisons find with a power of 0.8: official test (24 images)" in text


def test_inlined_figures_keep_to_themselves() -> None:
    """Ids and references get the figure's name, the style its scope; declaration, title and metadata go."""
    svg = str(inline(SVG, "a__b", 'A "label"'))
    assert svg.startswith("<svg ")
    for gone in ("<?xml", "DOCTYPE", "<title", "metadata", "<!--"):
        assert gone not in svg
    assert 'id="figure-a__b-p1"' in svg
    assert 'xlink:href="#figure-a__b-r"' in svg
    assert "url(#figure-a__b-p1)" in svg
    assert "#figure-a__b *{stroke-linejoin" in svg
    assert 'id="figure-a__b" role="img" aria-label="A &#34;label&#34;"' in svg
    assert 'width="240"' in svg  # of the rectangle
    assert "240pt" not in svg


def test_figures_stand_with_their_data_set_in_the_order_of_the_captions(results: Path) -> None:
    """What names a data set stands in its part, the rest at the end; numbers and PDF are linked."""
    assert [figure.name.split("__")[0] for figure in page_figures(FIGURES, CAPTIONS)] == ["forest", "fig05_confusion"]
    text = page(results, figures=FIGURES)
    place = text.index('aria-label="Confusion matrix"')
    assert text.index('id="breastmnist"') < place < text.index('id="dermamnist"')
    assert text.index('aria-label="Forest"') > text.index('id="figures"')
    assert 'href="figures/data/forest__smoke.csv"' in text


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_contrast(scheme: int) -> None:
    """Every text colour on every ground it stands on has at least 4.5 to 1 (WCAG AA)."""
    css = (ROOT / "bench" / "report" / "templates" / "site.css.jinja").read_text(encoding="utf-8")
    block = re.findall(r":root \{(.*?)\}", css, re.DOTALL)[scheme]
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block))
    grounds = {"ink": ("page", "band"), "quiet": ("page", "band"), "accent": ("page", "band"), "alert": ("page",)}
    pairs = [(text, ground) for text, found in grounds.items() for ground in found]
    for text, ground in [*pairs, ("on-accent", "accent")]:
        low, high = sorted(_luminance(colours[name]) for name in (text, ground))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)


@pytest.fixture
def opened(results: Path) -> Iterator[Any]:
    """The page from disk; anything that would leave the machine fails, and every complaint is kept."""
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}")
    from playwright.sync_api import sync_playwright

    path = results.parent / "reports" / "index.html"
    path.parent.mkdir()
    path.write_text(page(results, figures=FIGURES), encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        tab: Any = browser.new_page(viewport={"width": 1440, "height": 900})
        tab.complaints = []
        tab.on("console", lambda message: tab.complaints.append(message.text) if message.type != "log" else None)
        tab.on("pageerror", lambda error: tab.complaints.append(str(error)))

        def gate(route: Any) -> None:
            if route.request.url.startswith(("file:", "data:", "blob:")):
                route.continue_()
            else:
                tab.complaints.append(f"asked for {route.request.url}")
                route.abort()

        tab.route("**/*", gate)
        tab.goto(path.as_uri())
        tab.wait_for_function("document.documentElement.dataset.ready === 'yes'", timeout=20_000)
        yield tab
        browser.close()


def _column(tab: Any, number: int) -> list[str]:
    return [text.split()[0] for text in tab.locator(f"#leaderboard tbody tr > *:nth-child({number})").all_inner_texts()]


def _soon(tab: Any, is_so: Callable[[], bool]) -> bool:
    """Whether it becomes so within ten seconds."""
    for _ in range(200):
        if is_so():
            return True
        tab.wait_for_timeout(50)
    return False


def test_the_page_works_from_disk_in_a_browser(opened: Any) -> None:
    """Sorts numbers as numbers, filters, searches, shows tips by keyboard, fits a telephone; requests nothing."""
    rows = opened.locator("#leaderboard tbody tr")
    assert rows.count() == 3  # the official test is chosen at first
    head = opened.locator("#leaderboard thead th")
    falling = sorted((float(text) for text in _column(opened, 3)), reverse=True)
    for wanted in (falling, falling[::-1]):  # the table sorts after the click has returned
        head.nth(2).click()
        assert _soon(opened, lambda wanted=wanted: [float(text) for text in _column(opened, 3)] == wanted)
    opened.select_option("select[data-column='5']", "")
    assert _soon(opened, lambda: rows.count() == 6)
    opened.select_option("select[data-column='5']", "twin-free")
    assert _soon(opened, lambda: set(_column(opened, 6)) == {"twin-free"})
    opened.locator(".dt-search input").fill("resnet18_28")
    assert _soon(opened, lambda: _column(opened, 1) == ["resnet18_28"])
    opened.locator(".dt-search input").fill("")
    assert _soon(opened, lambda: rows.count() > 1)
    opened.locator("#leaderboard .tip").first.focus()
    tip = opened.locator("#tip")
    assert _soon(opened, lambda: "95 % interval" in tip.inner_text())
    opened.keyboard.press("Escape")
    assert _soon(opened, tip.is_hidden)
    opened.locator("#leaderboard .tip").nth(1).hover()
    assert _soon(opened, lambda: "test images" in tip.inner_text())
    for width in (1440, 390):  # wide tables scroll in their box, the page never sideways
        opened.set_viewport_size({"width": width, "height": 844})
        assert opened.evaluate("document.documentElement.scrollWidth") <= width
    box = opened.get_by_role("region", name="Leaderboard").locator("#leaderboard").locator("..")
    assert box.evaluate("box => box.scrollWidth > box.clientWidth && box.tabIndex === 0")
    assert opened.complaints == []
