"""The claims audit: the quotes are the given ones, verdicts are computed, and each number stands in the paper."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from bench.errors import RecordError
from bench.report.analysis.resolution import TEST_IMAGES
from bench.report.claims import terms, values
from bench.report.claims.judge import KIND_WORDS, facts, headline, judge, judge_claim
from bench.report.claims.pages import csv_page, markdown_page, pages
from bench.report.claims.paper import CHECKS, SUBJECTS
from bench.report.claims.paper.untestable import REASONS
from bench.report.claims.registry import claim as register
from bench.report.claims.sources import FOLDER, INFO_SOURCE, Sources, collect
from bench.report.claims.values import Quantity, printed
from bench.report.claims.verdict import KINDS, Judged, Outcome
from bench.report.evidence import Evidence, first_line
from bench.report.site.claims import claims_page
from bench.report.tables.missing import Command
from tests.report.claim_sources import CLAIMS, EMPTY, judged, verdict, without_runs

# SHA-256 of the given list's ids and quotes, `id<tab>quote` a line.
QUOTES = "898c9b03342b0dee235f9fe25c88f35b7791af735c2c4a3954b299825547b7af"


@pytest.fixture
def sources() -> Sources:
    return without_runs()


def test_the_quotes_are_the_given_ones() -> None:
    """All 174 ids are there once, with the quote of the given list."""
    assert list(CLAIMS) == [f"C{number:03d}" for number in range(1, 175)]
    text = "\n".join(f"{claim.id}\t{claim.quote}" for claim in CLAIMS.values())
    assert hashlib.sha256(text.encode()).hexdigest() == QUOTES


def test_every_claim_has_one_check_or_one_reason() -> None:
    """No claim is left out, none is judged twice."""
    assert {*CHECKS, *REASONS} == set(CLAIMS)
    assert not set(CHECKS) & set(REASONS)
    with pytest.raises(AssertionError, match="C001 has two checks"):
        register("C001")(lambda sources: iter(()))


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_quotes_the_claim_that_it_judges(name: str) -> None:
    """What stands in quotation marks in a function's docstring stands in the claim's quote, word for word."""
    quotes = re.findall("“(.*?)”", CHECKS[name].parts.__doc__ or "")
    assert quotes
    for quote in quotes:
        assert quote in CLAIMS[name].quote


def test_claims_with_a_number_and_those_of_the_abstract_have_a_check() -> None:
    """Only prose is listed in bulk."""
    numbered = {claim.id for claim in CLAIMS.values() if any(sign.isdigit() for sign in claim.quote)}
    # Digits in names (ResNet-18, class 4, 2D-MedMNIST) and in references, a DOI, and advice on prevalence.
    names = {"C023", "C031", "C039", "C054", "C057", "C073", "C074", "C092", "C093", "C147"}
    assert numbered & set(REASONS) <= names
    assert not {claim.id for claim in CLAIMS.values() if claim.section == "Abstract"} & set(REASONS)


# id, verdict, the formula or number that a reader gets by hand
BY_HAND = [
    ("C005", "fails", "13.213020 M"),  # 13,213,020 counted, 8.5 printed
    ("C006", "fails", "(14.5 − 8.5) / 14.5 = 41.38 % fewer"),  # 6 / 14.5 = 0.41379; 60 printed
    ("C007", "holds", "14.458760 M"),  # rounds to 14.5
    ("C024", "holds", "11,180,616 − 11,180,103 − 1 = 512 channels"),
    ("C036", "fails", "512 / 3 = 170.7"),
    ("C042", "holds", "17,092 images"),  # 11,959 + 1,712 + 3,421
    ("C043", "fails", "2 classes"),
    ("C045", "fails", "1 channels"),
    ("C058", "fails", "2 × 4.454808 = 8.910 GMACs"),
    ("C068", "holds", "100 × 1,819 / (22.33 / 100 × 8,216) = 99.15"),  # 1,834.6 images at most
    ("C069", "not testable", "= 6,465"),  # at most 0.937 x 8,216 = 7,698.392
    ("C090", "not testable", "72 + 39 + 19 = 130"),  # at most 0.169 x 8,827 = 1,491.763
    ("C101", "fails", "label 0 is “malignant”"),
    ("C013", "holds", "= 16"),  # 784 tokens against 196, squared
    ("C119", "not testable", "PneumoniaMNIST 94.2 − 89.9 = 4.3 points (95 %: 1.31 to 7.29)"),  # 1.96 x 1.527
    ("C119", "not testable", "BloodMNIST 98.0 − 97.8 = 0.2 points (95 %: −0.479 to 0.879)"),  # 1.96 x 0.346
    ("C129", "not testable", "86.5 − 89.6 = −3.1 points (90 %: −9.13 to 2.93)"),  # 1.645 x 3.669; margin 2
    ("C136", "holds", "94.2 − 88.4 = 5.8 points"),
    ("C142", "holds", "83.1 − 67.2 = 15.9 points"),
    ("C145", "fails", "93.7"),  # between 97.2 and 99.9
    ("C148", "fails", "1.905417 GMACs"),
    ("C169", "fails", "66.88 / ((100 − 66.88) / (7 − 1)) = 12.12"),  # 33.12 / 6 = 5.52
    ("C149", "fails", "(4.47 − 2.00) / 4.47 = 55.26 % fewer"),  # 2.47 / 4.47 = 0.55257; 55.6 printed
    ("C150", "fails", "(4.50 − 2.00) / 4.50 = 55.56 % fewer"),  # 2.5 / 4.5; 55.1 printed
    ("C158", "fails", "(27.5 − 8.5) / 27.5 = 69.09 % fewer"),
    ("C173", "fails", "(14.5 − 8.5) / 14.5 = 41.38 % fewer"),
]


@pytest.mark.parametrize(("claim", "expected", "found"), BY_HAND)
def test_verdicts_worked_out_by_hand(sources: Sources, claim: str, expected: str, found: str) -> None:
    """The arithmetic in the audit is the one on paper."""
    item = judged(sources, claim)
    assert item.outcome.verdict == expected
    assert found in item.outcome.found


def test_size_is_judged_on_the_text_s_design_and_the_near_fit_stands_beside(sources: Sources) -> None:
    """8.49 M of the 8.5 M variant stand beside and decide no claim about MedSpectralNet."""
    assert any("8.492380 M" in line for line in judged(sources, "C005").beside)
    without = {key: record for key, record in sources.costs.items() if "8m5" not in key[0]}
    assert len(without) < len(sources.costs)
    bare = dataclasses.replace(sources, costs=without)
    for before, after in zip(judge(sources), judge(bare), strict=True):
        assert before.outcome.found == after.outcome.found, before.claim.id


def test_data_facts_are_the_card_s_or_medmnist_s(sources: Sources) -> None:
    """BreastMNIST is binary with label 0 malignant by its card; OrganCMNIST is gray; INFO is what medmnist says."""
    breast = sources.data["breastmnist"]
    assert breast.class_names == ("malignant", "normal, benign")
    assert "results/data/breastmnist.json" in breast.source
    assert sources.data["organcmnist"].num_channels == 1
    medmnist = pytest.importorskip("medmnist")
    table = pd.read_csv(FOLDER / "info.csv", dtype=str)
    assert medmnist.__version__ in INFO_SOURCE
    for row in table.to_dict("records"):
        info = medmnist.INFO[row["dataset"]]
        assert row["class_names"].split("; ") == [info["label"][str(k)] for k in range(len(info["label"]))]
        assert int(row["num_channels"]) == info["n_channels"]
        assert row["task"] == info["task"]
        assert {split: int(row[split]) for split in ("train", "val", "test")} == info["n_samples"]
        assert int(row["test"]) == TEST_IMAGES[row["dataset"]]


def test_remarks_of_the_list_never_enter_a_verdict(sources: Sources) -> None:
    """`arithmetic_consistent` and `note` may say anything."""
    for claim in CLAIMS.values():
        changed = dataclasses.replace(claim, consistent="yes" if claim.consistent == "no" else "no", note="x")
        assert judge_claim(changed, sources).outcome == judged(sources, claim.id).outcome


# ---- what the paper prints


def _prints(quote: str, text: str) -> bool:
    """Whether a quote prints a number, whole: 8.5 is neither 8 nor 5."""
    return bool(re.search(rf"(?<![\d.]){re.escape(text)}(?!\d|\.\d)", quote, re.IGNORECASE))


class Paper:
    """Stands for `printed` wherever checks use it: keeps what was taken, and may print another number."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, other: dict[tuple[str, str], str] | None = None) -> None:
        self.taken: set[tuple[str, str]] = set()
        self.other = other or {}
        for module in (values, terms, *SUBJECTS):
            if hasattr(module, "printed"):
                monkeypatch.setattr(module, "printed", self.printed)

    def printed(self, text: str, claim: str) -> Quantity:
        self.taken.add((text, claim))
        return printed(self.other.get((text, claim), text), claim)


def test_no_number_enters_a_check_by_memory(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a check takes for printed stands in the quote that it names, whole."""
    paper = Paper(monkeypatch)
    judge(sources)
    assert len(paper.taken) > len(CHECKS) / 2
    assert [taken for taken in sorted(paper.taken) if not _prints(CLAIMS[taken[1]].quote, taken[0])] == []
    assert not any(_prints(CLAIMS["C005"].quote, text) for text in ("8.4", "8", "5"))


def test_what_a_quote_does_not_list_is_not_counted(sources: Sources) -> None:
    """Neither a thing that the sentence does not name nor a set whose accuracy the text does not print."""
    lists = [line for item in judge(sources) for line in item.outcome.sources if str(line).startswith("listed by ")]
    assert len(lists) == 3
    for line in lists:
        claim, _, names = str(line).removeprefix("listed by ").partition(": ")
        assert [name for name in names.split(", ") if name not in CLAIMS[claim].quote] == []
    item = judged(sources, "C001")
    assert (item.outcome.verdict, item.outcome.found) == ("holds", "6 data sets")
    gone = dataclasses.replace(sources, quotes={**sources.quotes, "C116": "another set with 78.4%"})
    assert verdict(gone, "C001") == "fails"


@pytest.mark.parametrize(
    ("claim", "old", "new", "before", "after"),
    [
        ("C006", "60", "40", "fails", "holds"),
        ("C149", "55.6", "55.3", "fails", "holds"),
        ("C173", "60", "41", "fails", "holds"),
        ("C145", "93.7", "98.7", "fails", "holds"),
        ("C136", "5.8", "5.7", "holds", "fails"),
        ("C109", "three", "five", "holds", "fails"),
        ("C070", "71", "711", "not testable", "fails"),
        ("C030", "3", "7", "not testable", "not testable"),  # 7 tiles the map, 5 still does not
        ("C066", "93", "91", "not testable", "fails"),  # 93.7 is 2.7 points above, the margin is 2
        ("C085", "80", "83", "not testable", "fails"),  # above the plateau's 82
        ("C085", "75", "81", "not testable", "fails"),  # above the plateau's 80
        ("C086", "85", "82", "not testable", "fails"),  # not above the plateau's 82
        ("C086", "87", "81", "not testable", "fails"),
        ("C105", "6", "3", "not testable", "fails"),  # one column has no second
        ("C087", "80", "86", "not testable", "fails"),  # 83.1 lies below 84
        ("C050", "10", "20", "not testable", "undecided"),  # the suite's protocol would have to be mended
    ],
)
def test_another_printed_number_turns_an_arithmetic_check(
    sources: Sources, monkeypatch: pytest.MonkeyPatch, claim: str, old: str, new: str, before: str, after: str
) -> None:
    """The paper's own numbers decide, not the list of expected verdicts."""
    assert verdict(sources, claim) == before
    Paper(monkeypatch, {(old, claim): new})
    assert verdict(sources, claim) == after


def test_evidence_that_decides_nothing_is_marked(sources: Sources) -> None:
    """What stands beside does not look like the ground of a verdict."""
    for line in judged(sources, "C127").outcome.sources:
        assert ("paper table" in str(line)) == str(line).endswith(" (beside)"), line


def test_a_check_that_asks_for_what_no_file_holds_is_named(sources: Sources) -> None:
    """One line that names the claim and the number that is missing."""
    gone = dataclasses.replace(
        sources, scores=tuple(score for score in sources.scores if score.name != "auto-sklearn (28 px)")
    )
    with pytest.raises(RecordError, match=r"the check of C137: no acc of auto-sklearn \(28 px\) on pneumoniamnist"):
        judged(gone, "C137")


# ---- the pages


@pytest.fixture(scope="module")
def everything() -> list[Judged]:
    return judge(without_runs())


def test_the_headline_splits_by_verdict_and_by_check(everything: list[Judged]) -> None:
    """The four verdicts add up to all claims, and each kind says how many of its own are decided."""
    text = headline(everything)
    verdicts = Counter(item.outcome.verdict for item in everything)
    assert sum(verdicts.values()) == len(CLAIMS)
    assert text.startswith(
        f"Of {len(CLAIMS)} sentences ({len(facts(everything))} different facts) {verdicts['holds']} hold, "
        f"{verdicts['fails']} fail, {verdicts['undecided']} are undecided, {verdicts['not testable']} cannot be "
        "tested; decided by "
    )
    decided = Counter(item.kind for item in everything if item.outcome.verdict in ("holds", "fails"))
    for kind, number in Counter(item.kind for item in everything).items():
        if kind in KINDS:
            assert f"{KIND_WORDS[kind]} {decided[kind]} of {number}" in text


def test_a_fact_that_several_sentences_repeat_counts_once(everything: list[Judged]) -> None:
    """The same check of the same evidence is one fact; another printed number, or no check, is another."""
    groups = [{item.claim.id for item in group} for group in facts(everything)]
    for same in ({"C011", "C018", "C019", "C160"}, {"C010", "C015", "C035", "C163"}, {"C002", "C081", "C113"}):
        assert same in groups
    for apart in ({"C041", "C075"}, {"C148", "C165"}, {"C169", "C170"}, {"C073", "C074"}, {"C113", "C114"}):
        assert not any(apart <= group for group in groups), apart
    assert sum(map(len, groups)) == len(CLAIMS)
    text = markdown_page(everything, "line").decode()
    assert "same fact as: C018, C019, C160" in text


def test_open_and_untestable_claims_say_what_or_why(everything: list[Judged]) -> None:
    """Undecided names a command, not testable a reason, the others what was expected and found, with evidence."""
    for item in everything:
        outcome = item.outcome
        if outcome.verdict == "undecided":
            assert outcome.needs or outcome.why, item.claim.id
            assert all(isinstance(need, Command) for need in outcome.needs), item.claim.id
        elif outcome.verdict == "not testable":
            assert outcome.why, item.claim.id
        else:
            assert outcome.expected, item.claim.id
            assert outcome.found, item.claim.id
            assert outcome.sources, item.claim.id


def test_two_files_of_real_records_and_none_of_synthetic_ones(tmp_path: Path) -> None:
    """Line one is the report's; the same evidence gives the same bytes; synthetic data never judge a claim."""
    evidence = Evidence(tmp_path)
    found = judge(collect(evidence, EMPTY))
    files = pages(found, evidence)
    assert set(files) == {"claims.md", "claims.csv"}
    line = first_line([])
    assert [content.split(b"\n")[0].decode() for content in files.values()] == [
        f"<!-- {line} -->",
        f"# {line}",
    ]
    assert pages(judge(collect(evidence, EMPTY)), evidence) == files
    assert len(found) == len(CLAIMS)


def test_the_csv_has_a_row_a_claim(everything: list[Judged], tmp_path: Path) -> None:
    """The expected columns, the ids in the list's order."""
    path = tmp_path / "claims.csv"
    path.write_bytes(csv_page(everything, "line"))
    frame = pd.read_csv(path, skiprows=1, keep_default_na=False)
    assert list(frame.columns) == ["id", "verdict", "kind", "fact", "expected", "found", "evidence"]
    assert list(frame["id"]) == list(CLAIMS)
    assert frame.set_index("id")["fact"]["C160"] == "C011"
    assert frame["fact"].nunique() == len(facts(everything))
    assert set(frame["kind"]) <= {*KINDS, "not testable"}


def test_pages_hold_every_quote_and_no_markup_of_it(everything: list[Judged]) -> None:
    """A quote with markup stays text; the page requests nothing from a network; the file has room for a response."""
    bad = dataclasses.replace(CLAIMS["C005"], quote="<script>alert('x')</script> `a` | b")
    outcome = Outcome("fails", "<b>1</b>", "<img alt=x>", ("<i>file</i>",))
    planted = [*everything, Judged(bad, "costs", outcome)]
    html, text = claims_page(planted, "line")["claims.html"].decode(), markdown_page(planted, "line").decode()
    for sign in ("<script>", "<img", "<b>", "<i>", 'href="http', 'src="http', "@import", "url("):
        assert sign not in html.lower(), sign
    assert "<script" not in text.replace("\\<", "")
    assert "&lt;script&gt;" in html
    assert html.count('<details class="claim" id=') == len(planted)
    assert text.count("authors' response") >= len([item for item in everything if item.kind != "not testable"])
    for claim in CLAIMS.values():
        assert claim.id in text
        assert claim.quote.split("`")[0][:40].replace("&", "&amp;").replace("<", "&lt;").split("'")[0] in html
