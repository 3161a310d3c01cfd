"""The site in a browser, from disk: what a reviewer sees of the committed records, on a desk and on a telephone."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from bench.records.own_models import own_models
from bench.report.analysis.analyse import Analysis, analyse
from bench.report.claims.judge import judge
from bench.report.claims.sources import collect
from bench.report.draws import table as draws_table
from bench.report.evidence import Evidence, gather
from bench.report.published.names import model_name
from bench.report.site import pages
from bench.report.tables import ablation, initialisation, model_cards, table2, table4, twins
from tests.report.browser import READY, launched, opened, until
from tests.report.rows import make_pair

ROOT = Path(__file__).parents[2]
WIDTHS = (1440, 390)
SITE_BYTES = 2_000_000
TALLEST = 12_000  # px at the wider window
# One page of each kind; the site has more of the same.
PAGES = (
    "index.html",
    "datasets/breastmnist.html",
    "datasets/bloodmnist.html",
    "claims.html",
    "table2.html",
    "ablation.html",
    "table4.html",
    "models/index.html",
    "models/medspectralnet.html",
    "tracks.html",
    "twins.html",
    "efficiency.html",
    "trust.html",
    "run.html",
)
# As many planned comparisons as the first view is made for, by their difference in AUC, its interval and p: the first
# page of another store is longer or shorter. On PneumoniaMNIST one is comparable.
SEPARATED = dict.fromkeys(("mobilenetv4_s", "floor/prior", "floor/knn1", "edgenext_s"), (0.2, 0.1, 0.3, 1e-6))
OPEN = dict.fromkeys(("efficientformerv2_s0", "resnet18", "sklearn/logistic"), (0.01, -0.05, 0.07, 0.5))
OPEN |= {"sklearn/hist_gradient_boosting": (0.01, -0.05, 0.07, 0.5)}
OPEN_ON_BREAST = dict.fromkeys(("convnext_t", "medmamba_t", "medvit_t", "resnet50", "swin_t"), (0.02, -0.1, 0.14, 0.6))
COMPARABLE = {"sklearn/hist_gradient_boosting": (0.001, -0.01, 0.012, 0.8)}
# Text in a drawing stands on the page's own ground, which axe does not look through a drawing for.
DRAWN_CONTRAST = """() => {
  const parts = (colour) => colour.match(/[0-9.]+/g).slice(0, 3).map((part) => part / 255);
  const light = (colour) => parts(colour).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = light(getComputedStyle(document.body).backgroundColor);
  const ratios = [...document.querySelectorAll("svg text")].map((text) => {
    const ink = light(getComputedStyle(text).fill);
    return (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
  });
  return ratios.length ? Math.min(...ratios) : null;
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as the checkout's records give it, beside the committed figures."""
    folder = tmp_path_factory.mktemp("checkout") / "reports"
    evidence = gather(ROOT / "results")
    analysis = analyse(evidence, synthetic=False)
    figures = {f"figures/{path.name}": path.read_bytes() for path in (ROOT / "reports" / "figures").glob("*.svg")}
    files = dict(figures)
    for table in (ablation, table2, table4, model_cards, twins, draws_table, initialisation):
        files |= table.render(evidence, analysis, synthetic=False)
    judged = judge(collect(evidence, analysis))
    files |= pages.render(
        evidence, analysis, synthetic=False, figures=figures, captions={}, judged=judged, names=list(files)
    )
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def first_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first page of made-up comparisons: thirteen baselines on one set, eight of them on another."""
    folder = tmp_path_factory.mktemp("made-up")
    measured = {"breastmnist": SEPARATED | OPEN | OPEN_ON_BREAST, "pneumoniamnist": SEPARATED | OPEN | COMPARABLE}
    pairs = tuple(
        make_pair(
            baseline, *numbers, protocol="lite-96", dataset=dataset, tests=13, corrected=min(1.0, 13 * numbers[3])
        )
        for dataset, baselines in measured.items()
        for baseline, numbers in baselines.items()
    )
    files = pages.render(Evidence(folder), Analysis(pairs=pairs), synthetic=False, figures={}, captions={})
    for name in ("index.html", "site.css", "site.js"):
        (folder / name).write_bytes(files[name])
    return folder / "index.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as started:
        yield started


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_and_asks_nobody(site: Path, browser: Any, name: str) -> None:
    """At both widths: no sideways scroll, no complaint, no request but for files beside it, not too tall on a desk."""
    with opened(browser, (site / name).as_uri(), width=max(WIDTHS)) as tab:
        assert tab.evaluate("document.documentElement.scrollHeight") <= TALLEST
        for width in WIDTHS:
            tab.set_viewport_size({"width": width, "height": 844})
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.complaints == []
        assert all(url.startswith((site.as_uri(), "data:")) for url in tab.requests), tab.requests


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing(site: Path, browser: Any, name: str) -> None:
    """No violation in either scheme; contrast is computed for every text, so wide a window that nothing is cut off."""
    if importlib.util.find_spec("axe_playwright_python") is None:
        pytest.skip("axe-playwright-python is not installed")
    from axe_playwright_python.sync_playwright import Axe

    with opened(browser, (site / name).as_uri(), width=2600, checked=True) as tab:
        for scheme, rules in (("light", {}), ("dark", {"runOnly": ["color-contrast"]})):
            tab.emulate_media(color_scheme=scheme)
            found = Axe().run(tab, options={"resultTypes": ["violations", "incomplete"], **rules}).response
            assert [(rule["id"], rule["nodes"][0]["html"]) for rule in found["violations"]] == []
            unsure = [(rule["id"], node["html"]) for rule in found["incomplete"] for node in rule["nodes"]]
            assert [item for item in unsure if not item[1].startswith("<text")] == []
            drawn = tab.evaluate(DRAWN_CONTRAST)
            assert drawn is None or drawn >= 4.5


@pytest.mark.parametrize("width", WIDTHS)
def test_the_first_view_holds_the_answer_and_the_forest_plot(first_page: Path, browser: Any, width: int) -> None:
    """Both sentences and every row of the plot, before anybody scrolls."""
    with opened(browser, first_page.as_uri(), width=width) as tab:
        assert tab.locator("table.forest tbody tr").count() == 13
        height = tab.viewport_size["height"]
        assert tab.locator(".lead").count() == 2
        for place in (".lead >> nth=0", ".lead >> nth=1", "table.forest"):
            box = tab.locator(place).bounding_box()
            assert box is not None
            assert box["y"] >= 0
            assert box["y"] + box["height"] <= height


def test_no_column_of_the_scores_is_cut_off(site: Path, browser: Any) -> None:
    """From a small desk's window up the trust of a row is seen beside its scores."""
    for width in (1280, 1440, 1920):
        with opened(browser, (site / "datasets" / "breastmnist.html").as_uri(), width=width) as tab:
            boxes = tab.locator(".scroll:has(table.scores)")
            assert boxes.count() > 1
            assert all(boxes.evaluate_all("boxes => boxes.map(box => box.scrollWidth <= box.clientWidth)")), width


def test_the_first_paint_comes_within_a_second(site: Path, browser: Any) -> None:
    """Of the first page and of the longest ones, as the browser measures it; the best of three on a busy machine."""
    for name in ("index.html", "claims.html", "datasets/breastmnist.html"):
        assert min(_first_paint(browser, (site / name).as_uri()) for _ in range(3)) < 1000


def _first_paint(browser: Any, address: str) -> float:
    """Milliseconds until something shows."""
    with opened(browser, address) as tab:
        until(tab, "performance.getEntriesByName('first-contentful-paint').length > 0")
        return float(tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))


def test_the_menu_shows_where_the_reader_is(site: Path, browser: Any) -> None:
    """On a telephone, where it scrolls, the entry of the page is in sight; a track's table belongs to the tracks."""
    for name, title in (("trust.html", "Trust"), ("twins.html", "Tracks"), ("models/resnet18.html", "Models")):
        with opened(browser, (site / name).as_uri(), width=min(WIDTHS)) as tab:
            entry = tab.locator("nav [aria-current]")
            assert entry.inner_text() == title
            box = entry.bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= min(WIDTHS)


def test_the_site_is_light(site: Path) -> None:
    """All pages with their style and script; and the heaviest page with every figure that it shows."""
    paths = [path for path in site.rglob("*") if path.suffix in (".html", ".css", ".js")]
    assert len(paths) > len(PAGES)
    assert sum(path.stat().st_size for path in paths) < SITE_BYTES
    shared = sum((site / name).stat().st_size for name in ("site.css", "site.js"))
    for path in paths:
        text = path.read_text(encoding="utf-8")
        shown = [picture for picture in (site / "figures").glob("*.svg") if f'figures/{picture.name}"' in text]
        assert path.stat().st_size + shared + sum(picture.stat().st_size for picture in shown) < SITE_BYTES, path.name


def test_the_choice_of_the_matrix_lives_in_the_address(site: Path, browser: Any) -> None:
    """A switch changes table, plot and address together; the address alone brings the same view back."""
    with opened(browser, (site / "index.html").as_uri()) as tab:
        seen = tab.locator(".panel[data-set='table3']:visible")
        assert (seen.get_attribute("data-metric"), seen.get_attribute("data-protocol")) == ("auc", "lite-96")
        tab.get_by_role("form", name="What the matrix shows").get_by_label("ACC").check()
        tab.select_option("select[name='protocol']", "medmnist-28")
        assert (seen.get_attribute("data-metric"), seen.get_attribute("data-protocol")) == ("acc", "medmnist-28")
        assert tab.locator(".panel[data-set='cost']:visible").get_attribute("data-metric") == "acc"
        address = tab.url
    assert urlsplit(address).query == "metric=acc&protocol=medmnist-28"
    with opened(browser, address) as tab:
        seen = tab.locator(".panel[data-set='table3']:visible")
        assert (seen.get_attribute("data-metric"), seen.get_attribute("data-protocol")) == ("acc", "medmnist-28")


def test_the_claims_filter_by_verdict_kind_and_words(site: Path, browser: Any) -> None:
    """What is chosen narrows the list and stands in the address; a number of the table above leads to its claims."""
    with opened(browser, (site / "claims.html").as_uri()) as tab:
        claims = tab.locator("details.claim:visible")
        every = claims.count()
        tab.select_option("select[name='verdict']", "fails")
        failed = claims.count()
        assert 0 < failed < every
        assert set(claims.evaluate_all("items => items.map(item => item.dataset.verdict)")) == {"fails"}
        tab.select_option("select[name='kind']", "costs")
        tab.get_by_label("Search").fill("gflops")
        assert 0 < claims.count() < failed
        assert tab.get_by_role("status").inner_text() == f"{claims.count()} of {every} claims"
        assert urlsplit(tab.url).query == "verdict=fails&kind=costs&search=gflops"
        tab.goto((site / "claims.html").as_uri())
        number = tab.locator("tr.total a").nth(1)
        expected = number.inner_text().split()[0]  # of the sentences; the facts stand in brackets
        number.click()
        tab.wait_for_url("**verdict=fails*")
        until(tab, READY)
        assert tab.locator("select[name='verdict']").input_value() == "fails"
        assert str(claims.count()) == expected


def test_an_address_opens_its_claim(site: Path, browser: Any) -> None:
    """`claims.html#C002`, as a citation leads there."""
    with opened(browser, f"{(site / 'claims.html').as_uri()}#C002") as tab:
        assert tab.locator("#C002").get_attribute("open") is not None


def test_the_keyboard_reaches_everything(site: Path, browser: Any) -> None:
    """By tab alone, in the order of the page: every link, choice, number with an interval and box that scrolls."""
    wanted = "a[href], button, select, input, summary, [tabindex='0']"
    reachable = f"""() => [...document.querySelectorAll("{wanted}")].filter((item) =>
      item.checkVisibility() && !(item.type === "radio" && !item.checked)).length"""
    for name in ("index.html", "run.html"):
        with opened(browser, (site / name).as_uri()) as tab:
            number = tab.evaluate(reachable)
            seen = set()
            for _ in range(number):
                tab.keyboard.press("Tab")
                seen.add(tab.evaluate(f"[...document.querySelectorAll(`{wanted}`)].indexOf(document.activeElement)"))
            assert -1 not in seen
            assert len(seen) == number


def test_an_interval_shows_on_hover_and_focus(site: Path, browser: Any) -> None:
    """In the matrix, the forest plot and the plot of costs; Escape puts it away."""
    with opened(browser, (site / "index.html").as_uri()) as tab:
        tip = tab.locator("#tip")
        for place, text in ((".matrix .tip", "95 % interval"), (".forest .tip", "corrected p"), (".point", "GMACs")):
            element = tab.locator(f"{place}:visible").first
            element.focus()
            assert text in tip.inner_text()
            assert element.get_attribute("aria-describedby") == "tip"
            tab.keyboard.press("Escape")
            assert tip.is_hidden()
            element.hover()
            assert text in tip.inner_text()


def test_a_column_sorts_within_its_data_set(site: Path, browser: Any) -> None:
    """Highest first, then lowest first, by number; nothing of another set or protocol is among the rows."""
    with opened(browser, (site / "index.html").as_uri()) as tab:
        table = tab.locator("table.matrix:visible")
        head = table.get_by_role("button", name="Sort by BreastMNIST")
        order = "rows => rows.map(row => Number(row.cells[2].dataset.order))"
        for falling in (True, False):
            head.click()
            values = table.locator("tbody tr").evaluate_all(order)
            assert values == sorted(values, reverse=falling)
            assert len(set(values)) > 2


def test_the_command_of_a_row_follows_its_link(site: Path, browser: Any) -> None:
    """A row leads to its own command and to its protocol's file, which is there to download."""
    with opened(browser, (site / "datasets" / "breastmnist.html").as_uri()) as tab:
        tab.get_by_label("Run ResNet-50, lite-96 yourself").click()
        tab.wait_for_url("**/run.html*")
        command = "medbench run --protocol lite-96 --models resnet50 --datasets breastmnist --seeds 0-2 --results mine"
        assert tab.locator("#command").inner_text() == command
        link = tab.locator("#protocol").get_attribute("href")
        assert (site / link).is_file()


def test_a_model_leads_to_its_card_from_everywhere(site: Path, browser: Any) -> None:
    """On the first page the name of every model of the suite is a link, and its card is there."""
    with opened(browser, (site / "index.html").as_uri()) as tab:
        names = tab.locator("tbody th a")
        links = set(names.evaluate_all("links => links.map(link => link.getAttribute('href'))"))
        assert len(links) > 10
        assert all((site / link).is_file() for link in links)
        without = set(tab.locator("tbody th:not(:has(a))").all_inner_texts())
        assert not without & {model_name(name) for name in own_models()}
