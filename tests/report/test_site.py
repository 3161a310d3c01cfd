"""The site: what its pages say, that they escape, and that each is one whole document; in a browser: the next file."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bench.check.compare.folders import compare_folders
from bench.records.card import read_card, write_card
from bench.records.names import Run
from bench.report.analysis.analyse import analyse
from bench.report.analysis.resolution import Resolution
from bench.report.evidence import gather
from bench.report.figures.style import Caption
from bench.report.site.answer import answer, forest, headline
from bench.report.site.figures import page_figures
from bench.report.site.pages import render
from bench.report.site.tracks import TRACKS, tracks
from bench.stats.seed_variance import SeedVariance
from bench.stats.uncertainty import Uncertainty
from tests.check.test_trust import ROW
from tests.making import make_rerun, make_run
from tests.report.rows import make_pair, only
from tests.test_layers import HEAVY

ROOT = Path(__file__).parents[2]
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
DRAWN = ("use", "rect", "path", "line", "circle", "polyline")  # close themselves in a drawing


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    for run in (OURS, *RESNETS, FLOOR, MADE):
        make_run(folder, run)
    return folder


def pages(results: Path, *, synthetic: bool = False, figures: dict[str, bytes] | None = None) -> dict[str, str]:
    """The pages by their paths below `reports/`."""
    evidence = gather(results)
    analysis = analyse(evidence, synthetic=synthetic)
    captions = {} if synthetic else CAPTIONS
    files = render(evidence, analysis, synthetic=synthetic, figures=figures or {}, captions=captions)
    return {name: content.decode() for name, content in files.items() if name.endswith(".html")}


def page(results: Path, name: str = "datasets/breastmnist.html", **options: Any) -> str:
    """One of them; by default that of the set with runs."""
    return pages(results, **options)[name]


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
        if tag not in ("meta", "link", "br", "wbr", "input", "img", *DRAWN):
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
        if tag not in DRAWN:
            assert self.open.pop() == tag, f"{tag} closes another tag"

    def handle_data(self, data: str) -> None:
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += " ".join(data.split()) + (" " if data.strip() else "")


def row_of(text: str, *words: str) -> list[str]:
    """The first table row whose first cells are these."""
    found = [row for row in Outline(text).rows if [cell.strip() for cell in row[: len(words)]] == list(words)]
    assert found, f"no row {words}"
    return [cell.strip() for cell in found[0]]


def test_the_same_records_give_the_same_bytes(results: Path) -> None:
    """Twice, and in a process of its own, without torch and medmnist; line one is the digest's."""
    text = page(results, "index.html")
    assert pages(results, figures=FIGURES) == pages(results, figures=FIGURES)
    first = text.splitlines()[0]
    assert re.fullmatch(r"<!-- medbench report \| medspectral-bench \S+ \| 4 records [0-9a-f]{16} -->", first)
    code = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Block())
from pathlib import Path
from bench.report.analysis.analyse import analyse
from bench.report.evidence import gather
from bench.report.site.pages import render
evidence = gather(Path({str(results)!r}))
found = render(evidence, analyse(evidence, synthetic=False), synthetic=False, figures={{}}, captions={{}})
sys.stdout.buffer.write(found["index.html"])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode() == text


def test_every_page_is_one_whole_accessible_document(results: Path) -> None:
    """Tags close, ids are unique, headings go down step by step, links within the page lead somewhere."""
    for name, text in pages(results, figures=FIGURES).items():
        outline = Outline(text)
        assert outline.open == []
        assert len(outline.ids) == len(set(outline.ids)), name
        steps = [later - earlier for earlier, later in zip(outline.headings, outline.headings[1:], strict=False)]
        assert outline.headings[0] == 1
        assert outline.headings.count(1) == 1
        assert max(steps, default=0) <= 1, name
        assert '<html lang="en">' in text
        for href in outline.hrefs:
            if href.startswith("#"):
                assert href[1:] in outline.ids, (name, href)
            elif "/results/records/" in href:
                assert (results.parent / "reports" / Path(name).parent / href).resolve().exists(), (name, href)
        assert [load for load in outline.loads if "//" in load] == []


def test_every_page_leads_to_the_others(results: Path) -> None:
    """The same way on each, with the page itself marked; what is led to is generated."""
    found = pages(results)
    made = {*found, "table2.html", "ablation.html", "table4.html"}  # by the tables' own modules
    for name, text in found.items():
        way = text[text.index("<nav") : text.index("</nav>")]
        places = [(Path(name).parent / href).as_posix() for href in re.findall(r'href="([^"]+)"', way)]
        resolved = {Path(place).as_posix() for place in places}
        assert {re.sub(r"^[a-z]+/\.\./", "", place) for place in resolved} <= made
        assert way.count('aria-current="page"') == 1


def test_numbers_by_hand(results: Path) -> None:
    """Mean ± standard deviation over seeds, its interval below, printed numbers in columns of their own."""
    text = page(results)
    aucs = [json.loads(run.path(results).read_bytes())["test"]["auc"] for run in RESNETS]
    shown = f"{sum(aucs) / 2:.3f} ± {abs(aucs[0] - aucs[1]) / 2**0.5:.3f}"
    row = row_of(text, "ResNet-18 (28 px)")
    scores = analyse(gather(results), synthetic=False).scores
    score = only(scores, model="resnet18_28", dataset="breastmnist", part="test", metric="auc")
    interval = f"{score.ci_low:.3f}–{score.ci_high:.3f}"
    assert row[1].split() == [*shown.split(), "may", "be", "best", interval]
    assert row[6:9] == ["2", "0.901", "0.863"]
    assert row[9].startswith("re-scored")
    tip = f"95 % interval {score.ci_low:.4f} to {score.ci_high:.4f} over test images and seeds, 2 seeds"
    matrix = page(results, "index.html")
    assert tip in text
    assert tip in matrix
    cell = row_of(matrix, "ResNet-18 (28 px)")[2]
    assert cell.split() == [*shown.split(), "may", "be", "best", "0.901", "printed"]


def test_printed_numbers_stand_without_a_run(results: Path) -> None:
    """In the matrix, below the dash of a set that nobody ran: the paper prints an accuracy of 78.4 % on DermaMNIST."""
    rows = [row for row in Outline(page(results, "index.html")).rows if row and row[0].strip() == "MedSpectralNet"]
    by_measure = [row[3].split() for row in rows if len(row) == 7]
    assert by_measure == [["–"], ["–", "0.784", "printed"]]


def test_own_data_is_led_to(results: Path) -> None:
    """From the first page, where there is any."""
    evidence = gather(results)
    analysis = analyse(evidence, synthetic=False)
    for own in ([], evidence.records[:1]):
        files = render(replace(evidence, own=own), analysis, synthetic=False, figures={}, captions={})
        assert (b'href="own_data.html"' in files["index.html"]) == bool(own)


def test_ties_are_not_drawn_as_wins(results: Path) -> None:
    """Two models that no test separates may both be the best; the floor below them may not."""
    text = page(results, "index.html")
    for model in ("MedSpectralNet", "ResNet-18 (28 px)"):
        assert "may be best" in row_of(text, model)[2]
    body = text[text.index('<table class="matrix') : text.index("</section>", text.index('<table class="matrix'))]
    assert 'class="mark best">' not in body[: body.index("</table>")]


def test_missing_cells_tell_why(results: Path) -> None:
    """A failed run and one that nobody ran are named with their reasons, not left out; unrun protocols take a line."""
    failure = {"kind": "oom", "message": "out of memory on the host"}
    run = Run("smoke", "resnet50_28", "breastmnist", 0)
    make_run(results, run, status="failed", failure=failure, val=None, test=None, test_twin_free=None)
    make_run(results, Run("smoke", "resnet50_28", "dermamnist", 0), num_classes=7)
    found = pages(results)
    assert "<li>failed: out of memory on the host (ResNet-50 (28 px))</li>" in found["datasets/breastmnist.html"]
    unrun = found["datasets/bloodmnist.html"]
    assert "No finished run" in unrun
    (line,) = re.findall(r"<li><strong>lite-96</strong>, not run: (.*)</li>", unrun)
    assert "MedSpectralNet" in line
    assert "<table" not in unrun


def test_a_stale_record_is_a_note(results: Path) -> None:
    """It enters no table, and the page of notes says so."""
    make_run(results, FLOOR, model_fingerprint="1" * 64)
    found = pages(results)
    assert f"left out as stale: {FLOOR.run_id}" in html.unescape(found["trust.html"])
    with pytest.raises(AssertionError, match="no row"):
        row_of(found["datasets/breastmnist.html"], "Majority class")


def test_names_and_messages_are_escaped(results: Path) -> None:
    """Text from records, cards, captions and contributions is text, wherever it lands."""
    failure = {"kind": "error", "message": EVIL}
    run = Run("smoke", "floor/prior", "pneumoniamnist", 0)
    make_run(results, run, status="failed", failure=failure, val=None, test=None, test_twin_free=None)
    make_run(results, Run("smoke", "resnet18_28", "pneumoniamnist", 0))
    card = read_card(results, "breastmnist")
    assert card is not None
    names = [EVIL, *card.class_names[1:]]
    write_card(results, card.model_copy(update={"class_names": names, "citation": EVIL, "license": EVIL}))
    (results / "self_reported").mkdir()
    row = {**ROW, "model": EVIL, "author": '"><img src=x onerror=alert(1)>', "note": "' onclick='x"}
    (results / "self_reported" / "evil.json").write_text(json.dumps(row), encoding="utf-8")
    found = pages(results, figures=FIGURES)
    assert EVIL not in "".join(found.values())
    assert "<img src=x" not in "".join(found.values())
    escaped = {name: text.count(html.escape(EVIL)) for name, text in found.items() if html.escape(EVIL) in text}
    # Class, citation, licence, caption; the failure; the self-reported model.
    assert escaped == {"datasets/breastmnist.html": 4, "datasets/pneumoniamnist.html": 1, "trust.html": 1}


def test_self_reported_rows_stand_apart(results: Path) -> None:
    """They are in no ranked table, whatever they claim."""
    (results / "self_reported").mkdir()
    (results / "self_reported" / "some.json").write_text(json.dumps({**ROW, "acc": 1.0}), encoding="utf-8")
    found = pages(results)
    assert [name for name, text in found.items() if "SomeNet" in text] == ["trust.html"]
    assert row_of(found["trust.html"], "SomeNet", "BreastMNIST")[3] == "1.000"


def test_scores_that_predictions_do_not_give_leave_the_tables(results: Path) -> None:
    """A record sealed anew with a better accuracy is shown as somebody's word, without a mark."""
    record = make_run(results, FLOOR)
    make_run(results, FLOOR, test={**(record.test or {}), "acc": 0.99})
    found = pages(results)
    assert "the stored predictions do not give these scores" in row_of(found["trust.html"], "Majority class")[5]
    for name in ("index.html", "datasets/breastmnist.html"):
        with pytest.raises(AssertionError, match="no row"):
            row_of(found[name], "Majority class")


def test_a_re_run_shows(results: Path, tmp_path: Path) -> None:
    """The level of a cell whose every seed was run again, and of one of two seeds."""
    make_rerun(tmp_path / "mine", OURS, lambda table: table)
    make_rerun(tmp_path / "mine", RESNETS[0], lambda table: table)
    compare_folders(results, tmp_path / "mine", record=True)
    text = page(results)
    assert row_of(text, "MedSpectralNet")[9].startswith("re-run")
    other = row_of(text, "ResNet-18 (28 px)")[9]
    assert other.startswith("re-scored")
    assert other.endswith("1 of 2 seeds re-run")


def test_synthetic_never_meets_real(results: Path) -> None:
    """Runs on synthetic data have pages of their own, stamped in name, title, heading and every table."""
    real, made = pages(results), pages(results, synthetic=True)
    assert not real.keys() & made.keys()
    assert all(Path(name).name.startswith("SYNTHETIC_") for name in made)
    for text in real.values():
        assert "synthetic-breastmnist" not in text
        assert "SYNTHETIC" not in text
    for text in made.values():
        assert text.startswith("<!-- SYNTHETIC | medbench report")
        assert "<title>SYNTHETIC: " in text
        assert "<h1>SYNTHETIC: " in text
        assert 'class="stamp"' in text
        assert "medspectralnet__breastmnist" not in text
        assert all(Path(href).name.startswith("SYNTHETIC_") for href in Outline(text).hrefs if href.endswith(".html"))
    captions = re.findall(r"<caption><span>(\S+)", made["datasets/SYNTHETIC_synthetic-breastmnist.html"])
    assert set(captions) == {"SYNTHETIC:", "Images"}


def test_an_empty_folder_gives_a_page(tmp_path: Path) -> None:
    """No records yet is a sentence, not a crash."""
    (tmp_path / "results" / "records").mkdir(parents=True)
    text = page(tmp_path / "results", "index.html")
    assert "No records yet." in text
    assert "Nothing is measured yet" in text


def test_data_problems_and_licence_are_told(results: Path) -> None:
    """Twins that leak into the test set, and under what licence the images stand."""
    text = page(results)
    assert "train and test: 2 pairs of near twins (pixel correlation ≥ 0.99)" in text
    assert "2 of 24 test images have a near twin" in text
    assert "<dd>CC BY 4.0</dd>" in text
    assert "Not for diagnosis" in text
    assert (
        "Smallest difference that the comparisons find with a power of 0.8, their median: official test (24 images)"
        in text
    )


def test_figures_stand_with_their_data_set_in_the_order_of_the_captions(results: Path) -> None:
    """What names a data set stands on its page, as a file of its own; numbers and PDF are linked."""
    assert [figure.name.split("__")[0] for figure in page_figures(FIGURES, CAPTIONS)] == ["forest", "fig05_confusion"]
    found = pages(results, figures=FIGURES)
    name = "fig05_confusion__medspectralnet__breastmnist__smoke"
    assert [page for page, text in found.items() if name in text] == ["datasets/breastmnist.html"]
    for link in (f"figures/{name}.svg", f"figures/{name}.pdf", f"figures/data/{name}.csv"):
        assert f'"../{link}"' in found["datasets/breastmnist.html"]
    assert 'width="320" height="160"' in found["datasets/breastmnist.html"]  # 240 x 120 points


def test_a_track_shows_what_there_is_of_it(results: Path) -> None:
    """A section each, in order; table and figures by their names; without any it says so."""
    pictures = page_figures({"figures/reliability__lite-96.svg": SVG.encode()}, {})
    shown = tracks({"calibration.md", "calibration.csv", "table3.md"}, pictures)
    assert [item.track for item in shown] == list(TRACKS)
    found = only(shown, track=next(track for track in TRACKS if track.table == "calibration"))
    assert found.tables == ["calibration.md", "calibration.csv"]
    assert [figure.name for figure in found.figures] == ["reliability__lite-96"]
    text = page(results, "tracks.html")
    assert text.count("No record yet.") == len(TRACKS) == len(re.findall("<h2", text))


def test_the_answer_names_who_is_separated_where() -> None:
    """Higher, lower and open ones, each with its sets where not all are meant, and what no run gives."""
    seeds = Uncertainty(0.0001, (SeedVariance(0.0001, 4.0),))
    made = [
        make_pair("resnet18", 0.1, 0.05, 0.15, 1e-9, protocol="lite-96"),
        make_pair("resnet18", 0.1, 0.05, 0.15, 1e-9, protocol="lite-96", dataset="pneumoniamnist"),
        make_pair("swin_t", -0.2, -0.3, -0.1, 1e-9, protocol="lite-96", uncertainty=seeds),
        make_pair("swin_t", 0.05, -0.1, 0.2, 0.4, protocol="lite-96", dataset="pneumoniamnist"),
    ]
    found = answer(made, synthetic=False)
    assert found.separated == (
        "On two of the six data sets (BreastMNIST and PneumoniaMNIST), MedSpectralNet's AUC is higher than that of "
        "ResNet-18 (both) and lower than that of Swin-T (BreastMNIST): 3 of 4 comparisons."
    )
    assert found.caveats == (
        "On PneumoniaMNIST no network has two seeds: verdicts are about these weights. "
        "On BreastMNIST several images are of one patient: intervals are too narrow, p-values too small."
    )
    assert found.open == (
        "It is not separated from that of Swin-T (PneumoniaMNIST), which is no evidence that they are equal."
    )
    assert found.missing.startswith("98 of 102 planned comparisons have no finished run: ")
    assert "MedSpectralNet on BloodMNIST, DermaMNIST, OrganCMNIST and OrganSMNIST" in found.missing
    assert "paper-224-imagenet" in found.missing
    assert "paper-224-imagenet" not in answer(made, have={"paper-224-imagenet"}, synthetic=False).missing


def test_the_answer_says_what_weakens_it() -> None:
    """Networks below the floor, the plan's first correction, and comparisons that could never find a difference.

    By hand: of a family of 102, 0.0004 x 102 = 0.041 and 0.0006 x 101 = 0.061; without the floor nothing is below it.
    """
    blind = Uncertainty(0.25)  # 2.8 standard errors of 0.5
    resolution = Resolution(
        *("lite-96", "breastmnist", "test", "auc", 156, 0.9, 0.05, 4),
        correlation=0.5,
        smallest_difference=0.1,
        smallest_corrected=0.2,
        tests=13,
        note="",
    )
    made = [
        make_pair("floor/knn1", 0.13, 0.05, 0.2, 0.0004, protocol="lite-96"),
        make_pair("edgenext_s", 0.15, 0.05, 0.25, 0.0006, protocol="lite-96"),
        make_pair("resnet18", 0.12, 0.05, 0.2, 0.5, protocol="lite-96"),
        make_pair("swin_t", 0.1, -0.1, 0.3, 0.3, protocol="lite-96", uncertainty=blind),
    ]
    found = answer(made, [resolution], synthetic=False)
    assert "In the mean, EdgeNeXt-S scores below the nearest neighbour" in found.caveats
    assert (
        "By the plan's first rule (Holm over all 102), replaced with the p-values known: the nearest neighbour alone."
        in found.caveats
    )
    assert found.resolution.endswith("Too few seeds to find any: Swin-T.")
    assert "below the nearest" not in answer(made[1:], synthetic=False).caveats


def test_the_forest_plot_has_one_axis_for_all_sets() -> None:
    """A row a baseline, a column a data set in the paper's order; zero and the ends stand where the axis says."""
    made = [
        make_pair("resnet18", 0.1, 0.0, 0.2, 0.5, protocol="lite-96", dataset="pneumoniamnist"),
        make_pair("resnet18", -0.1, -0.2, 0.0, 0.5, protocol="lite-96"),
        make_pair("floor/prior", 0.2, 0.1, 0.3, 0.5, protocol="lite-96"),
        make_pair("resnet18_28", 0.9, 0.8, 0.95, 0.5, protocol="medmnist-28"),
    ]
    plot = forest(headline(made))
    assert plot is not None
    assert (plot.protocol, plot.datasets) == ("lite-96", ("breastmnist", "pneumoniamnist"))
    assert list(plot.rows) == ["floor/prior", "resnet18"]
    assert plot.rows["floor/prior"][1] is None
    assert [tick.text for tick in plot.ticks] == ["0", "+0.4"]
    assert plot.zero == "33.33%"
    left, right = plot.rows["resnet18"]
    assert left is not None
    assert right is not None
    assert (left.low, left.middle, left.high) == ("0.00%", "16.67%", "33.33%")
    assert (right.low, right.middle, right.high) == ("33.33%", "50.00%", "66.67%")


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
    both, page_alone = ("page", "band"), ("page",)
    grounds = {"ink": both, "quiet": both, "accent": both, "alert": page_alone}
    grounds |= dict.fromkeys(("holds", "fails", "open"), both)
    pairs = [(text, ground) for text, found in grounds.items() for ground in found]
    for text, ground in [*pairs, ("on-accent", "accent")]:
        low, high = sorted(_luminance(colours[name]) for name in (text, ground))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)
