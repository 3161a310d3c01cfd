"""What a contribution changes on the leaderboard: new rows, rows that move, differences, trust. For a pull request."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from bench.check.trust import MEANING, read_reruns
from bench.report.analysis.analyse import analyse
from bench.report.analysis.pairs import Pair
from bench.report.analysis_plan import OURS
from bench.report.evidence import gather
from bench.report.formats import NOTHING, Block, Bullets, Heading, Row, Table, markdown_text
from bench.report.published.names import model_name
from bench.report.site.rows import Cell, Entry, entries
from bench.report.tables.score_cells import difference_cells

MARKS = {"best": " (best)", "tie": " ≈"}
COLUMNS = (("test", "auc"), ("test", "acc"), ("test_twin_free", "auc"))
HEADER = ["model", "protocol", "data set", "n", "AUC", "ACC", "AUC, twin-free", "trust"]


def changes_text(base: Path, results: Path) -> str:
    """Markdown: what stands in `results` and not, or otherwise, in `base`; real records alone.

    Args:
        base: The results folder that stands.
        results: The one that would replace it.

    Raises:
        RecordError: If a folder is not there, or predictions are missing or damaged.
    """
    (before, old_pairs), (after, pairs) = _rows(base), _rows(results)
    new = [entry for key, entry in after.items() if key not in before]
    both = [(before[key], entry) for key, entry in after.items() if key in before]
    moved = [(old, entry) for old, entry in both if _shown(old) != _shown(entry)]
    intervals = sum(_texts(old) != _texts(entry) for old, entry in both) - len(moved)
    gone = [f"{old.model}, {old.protocol}, {old.dataset}" for key, old in before.items() if key not in after]
    blocks: list[Block] = [Heading("What changes on the leaderboard")]
    blocks += [Table("New rows:", HEADER, [Row(_texts(entry)) for entry in new])] if new else ["No new row."]
    if moved:
        rows = [Row(_beside(old, entry)) for old, entry in moved]
        blocks.append(Table("Rows whose seeds, values or marks change, before → after:", HEADER, rows))
    if intervals:
        blocks.append(
            f"Of {intervals} other rows only intervals move: the variance over seeds is pooled over networks."
        )
    blocks += ["Rows that no record gives any more:", Bullets(gone)] if gone else []
    others = {_key(entry) for entry in [*new, *(entry for old, entry in both if old.run_ids != entry.run_ids)]}
    blocks += _differences(old_pairs, pairs, others)
    levels = dict.fromkeys(entry.trust.level for entry in new)
    blocks += [Bullets([f"{level}: {MEANING[level]}" for level in levels])] if levels else []
    return markdown_text(blocks)


def _rows(results: Path) -> tuple[dict[Cell, Entry], list[Pair]]:
    """The cells, and MedSpectralNet's AUC against the others on the official test."""
    evidence = gather(results)
    analysis = analyse(evidence, synthetic=False)
    rows = entries(evidence, analysis, read_reruns(results)[0], synthetic=False)
    pairs = [pair for pair in analysis.pairs if (pair.model, pair.part, pair.metric) == (OURS, "test", "auc")]
    return {_key(entry): entry for entry in rows}, pairs


def _key(entry: Entry) -> Cell:
    return entry.protocol, entry.dataset, entry.model


def _shown(entry: Entry) -> list[str]:
    """A row without its intervals."""
    values = [entry.value(*column) for column in COLUMNS]
    shown = [f"{value.text}{MARKS.get(value.mark, '')}" for value in values]
    return [entry.model, entry.protocol, entry.dataset, entry.seeds, *shown, entry.trust.level]


def _texts(entry: Entry) -> list[str]:
    """A row."""
    intervals = ["", "", "", "", *(entry.value(*column).interval for column in COLUMNS), ""]
    return [f"{text} {interval}".strip() for text, interval in zip(_shown(entry), intervals, strict=True)]


def _beside(old: Entry, entry: Entry) -> list[str]:
    """Both rows where they show another value."""
    pairs = zip(_shown(old), _shown(entry), strict=True)
    return [after if before == after else f"{before} → {after}" for before, after in pairs]


def _differences(old: Iterable[Pair], pairs: Iterable[Pair], changed: set[Cell]) -> list[Block]:
    """Comparisons with models of new or other runs, and every other comparison whose verdict turns."""
    verdicts = {_pair_key(pair): pair.verdict for pair in old}
    rows = []
    for pair in pairs:
        before = verdicts.get(_pair_key(pair), pair.verdict)
        turned = f"{before} → " if before != pair.verdict else ""
        if turned or _pair_key(pair) in changed:
            p = pair.p_corrected if pair.family == "primary" else pair.p
            probability = NOTHING if math.isnan(p) else f"{p:.3g}"
            start = [pair.baseline, pair.protocol, pair.dataset, *difference_cells(pair)]
            rows.append(Row([*start, probability, f"{turned}{pair.verdict}", pair.family]))
    header = ["minus", "protocol", "data set", "difference", "95 %", "p", "verdict", "family"]
    caption = f"AUC of {model_name(OURS)} minus that of others, official test; p of primary comparisons is corrected:"
    return [Table(caption, header, rows)] if rows else []


def _pair_key(pair: Pair) -> Cell:
    return pair.protocol, pair.dataset, pair.baseline
