"""What a person sees: tables, live progress, one line per error."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from bench.records.run_record import Record
    from bench.runs.engine_local import Event

GAP = 3  # columns between two columns of a table
LONG_WORD = 16  # letters of a word that may break where room is short
LOG_WIDTH = 160  # columns of tables where there is no terminal to ask

out = Console(highlight=False, width=None if sys.stdout.isatty() else LOG_WIDTH)
err = Console(stderr=True, soft_wrap=True, highlight=False)


def print_json(content: Any) -> None:
    """Machine-readable output on stdout, nothing else."""
    print(json.dumps(content, indent=1, ensure_ascii=False))


def print_table(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows with equal keys as a table; numbers are flush right, an empty list is said to be empty.

    Where words would have to break, as in a narrow terminal, each row is a block of lines instead.
    """
    if not rows:
        out.print(f"{title}: none")
        return
    texts = {key: [_text(row[key]) for row in rows] for key in rows[0]}
    longest = {key: max(len(word) for text in (key, *texts[key]) for word in text.split() or [""]) for key in texts}
    for key in list(texts)[1:]:  # an address may break, a name may not
        longest[key] = min(longest[key], max(LONG_WORD, len(key)))
    if sum(longest.values()) + GAP * (len(texts) - 1) > out.width:
        _print_blocks(title, rows)
        return
    table = Table(title=title, title_justify="left", header_style="bold", show_edge=False, pad_edge=False)
    for key in texts:
        numeric = all(isinstance(row[key], int | float) or row[key] in (None, "") for row in rows)
        whole = (
            max(len(text) for text in (key, *texts[key])) <= longest[key]
        )  # else rich shrinks it, then crops the row
        justify: Literal["left", "right"] = "right" if numeric else "left"
        table.add_column(escape(key), justify=justify, overflow="fold", min_width=longest[key], no_wrap=whole)
    for place in range(len(rows)):
        table.add_row(*[escape(texts[key][place]) for key in texts])  # `[run]` in a cell is text, not rich's markup
    out.print(table)


def _print_blocks(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A row as its first value and, below it, the others by name."""
    out.print(title, markup=False, style="italic")
    for row in rows:
        (_, head), *rest = row.items()
        out.print(_text(head), markup=False, style="bold", soft_wrap=True)
        told = "; ".join(f"{key} {_text(value)}" for key, value in rest if _text(value))
        out.print(Padding(Text(told), (0, 0, 0, 2)), markup=False)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def duration(seconds: float | None) -> str:
    """`75.0` -> `1 min 15 s`; None -> `unknown`."""
    if seconds is None:
        return "unknown"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def outcome_line(record: Record) -> str:
    """One run's end in one line."""
    if record.status != "done" or record.test is None:
        reason = record.failure.message if record.failure else "no reason given"
        return f"{record.status}: {record.run_id}: {reason}"
    auc, acc = record.test["auc"], record.test["acc"]
    scores = f"test AUC {auc:.3f}, ACC {acc:.3f}" if auc is not None and acc is not None else "scored"
    took = "" if record.train_seconds is None else f", {duration(record.train_seconds)}"
    return f"done: {record.run_id}: {scores}{took}"


class PlainProgress:
    """Progress for logs: a line for each start and end, and one a minute between."""

    def __init__(self, total: int) -> None:
        self.total, self.ended = total, 0
        self.last: dict[str, float] = {}

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __call__(self, event: Event) -> None:
        """Show an event."""
        run_id = event.request.run.run_id
        if event.kind == "finished":
            self.ended += 1
            line = outcome_line(event.record) if event.record else f"done elsewhere: {run_id}"
            out.print(f"[{self.ended}/{self.total}] {line}", markup=False, soft_wrap=True)
        elif event.kind == "progress" and time.monotonic() - self.last.setdefault(run_id, time.monotonic()) > 60:
            self.last[run_id] = time.monotonic()
            out.print(f"  {run_id}: {_position(event.progress)}", markup=False, soft_wrap=True)


def _position(progress: Mapping[str, Any]) -> str:
    epoch, epochs, steps = progress["epoch"], progress["epochs"], progress["steps"]
    rate = progress["images_per_second"]
    return f"epoch {epoch + 1}/{epochs}, step {progress['step']}/{steps}, {rate:.0f} images/s"


class LiveProgress:
    """Progress for a terminal: all runs in one bar, each running one in its own, with images/s and time left."""

    def __init__(self, total: int) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
        )
        self.bars = Progress(*columns, console=out)
        self.total = self.bars.add_task("runs", total=total, note="")
        self.running: dict[str, TaskID] = {}
        self.started: dict[str, tuple[float, int]] = {}

    def __enter__(self) -> LiveProgress:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        run_id = event.request.run.run_id
        if event.kind == "started":
            if run_id not in self.running:
                self.running[run_id] = self.bars.add_task(f"  {run_id}", total=None, note="preparing")
        elif event.kind == "progress":
            self._advance(run_id, event.progress)
        elif event.kind == "finished":
            self.bars.remove_task(self.running.pop(run_id))
            self.started.pop(run_id, None)
            self.bars.advance(self.total)
            line = outcome_line(event.record) if event.record else f"done elsewhere: {run_id}"
            self.bars.console.print(line, markup=False)

    def _advance(self, run_id: str, progress: Mapping[str, Any]) -> None:
        total = progress["epochs"] * progress["steps"]
        done = progress["epoch"] * progress["steps"] + progress["step"]
        now = time.monotonic()
        began, first = self.started.setdefault(run_id, (now, done))  # a resumed run does not begin at 0
        left = (now - began) * (total - done) / (done - first) if done > first else None
        note = f"epoch {progress['epoch'] + 1}/{progress['epochs']}, {progress['images_per_second']:.0f} images/s"
        self.bars.update(self.running[run_id], total=total, completed=done, note=f"{note}, {duration(left)} left")


def progress_for(total: int) -> PlainProgress | LiveProgress:
    """Live bars in a terminal, plain lines elsewhere."""
    return LiveProgress(total) if out.is_terminal else PlainProgress(total)
