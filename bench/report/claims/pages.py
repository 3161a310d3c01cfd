"""The audit as Markdown and as CSV: one content, two writers; its page is the site's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from textwrap import shorten
from typing import Any

import pandas as pd

from bench.report.analysis_plan import MARGIN
from bench.report.claims.judge import facts
from bench.report.claims.values import Need, Printed, Source, unique
from bench.report.claims.verdict import NOT_TESTABLE, UNDECIDED, VERDICTS, Judged, Outcome, settled
from bench.report.evidence import Evidence, first_line
from bench.report.formats import NOTHING, Block, Bullets, Heading, Row, Table, Text, markdown, quoted
from bench.report.tables.missing import Command
from bench.report.tidy import csv_bytes
from bench.stats.power import POWER

COLUMNS = ["id", "verdict", "kind", "fact", "expected", "found", "evidence"]
TITLE = "The claims of the MedSpectralNet paper, checked"
ABOUT = (
    "Each claim is quoted from Afrin et al. 2026, PLoS One 21(4): e0346128 (CC BY 4.0), with what was checked, what "
    "was found, and where that stands, so that a reader can redo the line. A check computes every verdict; nobody "
    "writes one. A verdict is about the sentence as printed and the evidence at hand, and about nothing else.",
    "Claims about MedSpectralNet's size and cost are judged on `medspectralnet`, the paper's text as registered with "
    "the whole ResNet-18 trunk; counts of `medspectralnet_8m5`, which is near the printed size, stand beside. A "
    "printed number agrees when ours rounds to the printed digits. A GFLOP of the literature is a GMAC here.",
    "One model is more accurate than another where the 95 % interval of the difference lies on one side of 0, and not "
    "worse where the 90 % interval keeps the analysis plan's margin, whether the accuracies were measured here or "
    "printed by others; a difference that the test images cannot tell from 0 decides nothing. A subtraction of printed "
    "numbers is judged as a subtraction, and says so.",
)
MEANING = {
    "holds": "what was found is what the claim says, under the reading that stands with it",
    "fails": "what was found is something else",
    "undecided": "the evidence at hand does not decide; a command that would, or may, is given, or why none is left",
    "not testable": "no run, count or published number could decide; the reason is given",
}
MEANINGS = [f"{name}: {text}" for name, text in MEANING.items()]
KIND_MEANING = {
    "arithmetic": "the paper's own numbers against each other",
    "data": "data sets as measured, else medmnist's INFO",
    "costs": "counted parameters and multiply-accumulates",
    "timing": "measured throughput and memory",
    "published": "numbers that others printed",
    "records": "runs of this suite, with intervals",
    "granularity": "whether so many test images can give the printed digits",
    "not testable": "no check",
}


def pages(judged: Sequence[Judged], evidence: Evidence) -> dict[str, bytes]:
    """`claims.md` and `claims.csv` of claims that were judged."""
    line = first_line(evidence.finished(synthetic=False))
    return {
        "claims.md": markdown_page(judged, line),
        "claims.csv": csv_page(judged, line),
    }


def markdown_page(judged: Sequence[Judged], first_line: str) -> bytes:
    """Counts first, then the claims by section; those that nothing can test in a table at a section's end."""
    blocks: list[Block] = [
        Heading(TITLE, 1),
        *ABOUT,
        _verdict_table(judged),
        decided_text(judged),
        Bullets(MEANINGS),
        Heading("All claims at a glance"),
    ]
    blocks.append(_glance(judged))
    same = repeated(judged)
    for section, items in _sections(judged):
        blocks.append(Heading(section))
        checked = [item for item in items if item.kind != NOT_TESTABLE]
        bare = [item for item in items if item.kind == NOT_TESTABLE]
        for item in checked:
            blocks += _claim_blocks(item, same)
        if bare:
            caption = "Nothing to check here:" if checked else ""
            rows = [Row([item.claim.id, f"“{quoted(item.claim.quote)}”", item.outcome.why, ""]) for item in bare]
            blocks.append(Table(caption, ["id", "quote", "not testable, because it", "authors' response"], rows))
    return markdown(blocks, first_line)


def _verdict_table(judged: Sequence[Judged]) -> Table:
    """Kinds of the deciding check x verdicts, sentences and, where fewer, facts."""
    kinds = [kind for kind in KIND_MEANING if any(item.kind == kind for item in judged)]
    rows = []
    for kind in kinds:
        own = [item for item in judged if item.kind == kind]
        name = f"{kind}: {KIND_MEANING[kind]}" if kind != NOT_TESTABLE else "no check"
        rows.append(Row([name, *numbers_text(own)]))
    rows.append(Row([Text(cell, strong=True) for cell in ("all claims", *numbers_text(judged))]))
    return Table("", ["deciding check", *VERDICTS, "claims"], rows, right=frozenset(range(1, 6)))


def numbers_text(judged: Sequence[Judged]) -> list[str]:
    """By verdict, then all: `10 (4)` for 10 sentences that state 4 facts."""
    groups = [[item for item in judged if item.outcome.verdict == name] for name in VERDICTS]
    texts = []
    for group in (*groups, judged):
        number = len(facts(group))
        texts.append(NOTHING if not group else str(number) if number == len(group) else f"{len(group)} ({number})")
    return texts


def decided_text(judged: Sequence[Judged]) -> str:
    """What the table's rows come to: how much of each kind of evidence has decided."""
    own = [item for item in judged if item.kind == "records"]
    done = sum(map(settled, own))
    return (
        f"In brackets: facts, where a fact that several sentences repeat counts once (same check, same evidence). Of "
        f"{len(own)} claims that runs of this suite must decide ({len(facts(own))} facts), {done} "
        f"{'is' if done == 1 else 'are'} decided; all other verdicts rest on the text, the data sets, counts and "
        "published numbers."
    )


def _glance(judged: Sequence[Judged]) -> Table:
    rows = [
        Row([item.claim.id, item.outcome.verdict, _kind(item), f"“{quoted(_start(item.claim.quote))}”"])
        for item in judged
    ]
    return Table("", ["id", "verdict", "deciding check", "quote"], rows)


def _start(quote: str, most: int = 90) -> str:
    """The first words of a quote: the list's own remark on a claim is no part of the paper."""
    return shorten(quote, most, placeholder=" …", break_on_hyphens=False)


def _kind(item: Judged) -> str:
    return NOTHING if item.kind == NOT_TESTABLE else item.kind


def _sections(judged: Sequence[Judged]) -> list[tuple[str, list[Judged]]]:
    """Claims by the paper's sections, in the order of the list."""
    names = list(dict.fromkeys(item.claim.section for item in judged))
    return [(name, [item for item in judged if item.claim.section == name]) for name in names]


def repeated(judged: Sequence[Judged]) -> dict[str, str]:
    """Id -> the ids of other claims that state the same fact, where there are any."""
    groups = [[item.claim.id for item in group] for group in facts(judged)]
    return {name: ", ".join(other for other in ids if other != name) for ids in groups for name in ids if ids[1:]}


def _claim_blocks(item: Judged, same: Mapping[str, str]) -> list[Block]:
    heading = Heading(f"{item.claim.id}: {item.outcome.verdict} ({item.kind})", 3)
    lines = [f"{name}: {text}" for name, text in details(item, same)]
    return [heading, f"“{quoted(item.claim.quote)}”", Bullets([*lines, "authors' response: "])]


def details(item: Judged, same: Mapping[str, str]) -> list[tuple[str, str]]:
    """What stands with a claim, by name: reading, expected, found, beside, why, what would decide, evidence.

    Args:
        item: The claim.
        same: Id -> other claims that state the same fact.
    """
    outcome = item.outcome
    commands = [f"`{need}`" if isinstance(need, Command) else need for need in merged_commands(outcome.needs)]
    open_, untestable = outcome.verdict == UNDECIDED, outcome.verdict == NOT_TESTABLE
    wanted = [
        ("same fact as", same.get(item.claim.id, "")),
        ("judged", item.reading),
        ("expected", outcome.expected),
        ("found", outcome.found),
        ("beside, decides nothing", "; ".join(item.beside)),
        ("not testable", outcome.why if untestable else ""),
        (_promise(outcome), "; ".join(commands) if open_ else ""),
        ("power", _power(outcome) if open_ else ""),
        ("left open", outcome.why if open_ else ""),
        ("evidence", "; ".join(merged_sources(outcome.sources))),
    ]
    return [(name, text) for name, text in wanted if text]


def _promise(outcome: Outcome) -> str:
    """Whether the command decides, or may leave the claim open: what may yet lower a power promises nothing."""
    enough = all(p.value is not None and p.value >= POWER and not p.at_most for p in outcome.powers)
    return "would decide" if enough else "may decide"


def _power(outcome: Outcome) -> str:
    """How likely the command finds a difference of the margin, data set by data set."""
    texts = ", ".join(power.text for power in outcome.powers)
    return f"to find a difference of {MARGIN} with the planned seeds: {texts}" if texts else ""


def csv_page(judged: Sequence[Judged], first_line: str) -> bytes:
    """`id, verdict, kind, fact, expected, found, evidence`; `fact` is the first claim that states the same.

    What is missing, or why nothing can be tested, is in `evidence`.
    """
    first = {item.claim.id: group[0].claim.id for group in facts(judged) for item in group}
    rows = []
    for item in judged:
        outcome = item.outcome
        lines = list(merged_sources(outcome.sources))
        if outcome.verdict == UNDECIDED:
            lines += [f"{_promise(outcome)}: {need}" for need in merged_commands(outcome.needs)]
            lines += [f"power {_power(outcome)}"] if outcome.powers else []
        if outcome.why:
            lines.append(f"{'not testable' if outcome.verdict == NOT_TESTABLE else 'left open'}: {outcome.why}")
        names = (item.claim.id, outcome.verdict, item.kind, first[item.claim.id])
        rows.append((*names, outcome.expected, outcome.found, "; ".join(lines)))
    return f"# {first_line}\n".encode() + csv_bytes(pd.DataFrame(rows, columns=COLUMNS))


def merged_commands(needs: Iterable[Need]) -> tuple[Need, ...]:
    """Commands that differ in one list of names alone, as one command; what is no command stays as it is."""
    merged = unique(needs)
    for names in ("datasets", "models"):
        groups: dict[Need, list[str]] = {}
        for need in merged:
            own = getattr(need, names, ())
            groups.setdefault(_renamed(need, names, ()), []).extend(own)
        merged = tuple(_renamed(need, names, unique(group)) for need, group in groups.items())
    return merged


def _renamed(need: Need, names: str, values: tuple[str, ...]) -> Need:
    changes: dict[str, Any] = {names: values}
    return replace(need, **changes) if isinstance(need, Command) else need


def merged_sources(sources: Iterable[Source]) -> tuple[str, ...]:
    """The numbers that one quote prints as one line: `C069 prints 731, 396`."""
    groups: dict[str, list[str]] = {}
    for source in unique(sources):
        key = f"{source.claim} prints" if isinstance(source, Printed) else source
        groups.setdefault(key, []).extend([f"{source.text}{source.remark}"] if isinstance(source, Printed) else [])
    return tuple(f"{key} {', '.join(texts)}" if texts else key for key, texts in groups.items())
