"""What a person sees while runs go on: live bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.table import Column

from bench.cli.console import duration, is_logged, is_quiet, log, out

WIDE = 110  # columns from which a bar has room beside names and numbers

if TYPE_CHECKING:
    from bench.records.run_record import Record
    from bench.runs.request import Event, RunProgress


def outcome_line(record: Record) -> str:
    """One run's end in one line."""
    if record.status == "done" and record.test is None:  # a trial of a sweep, which sees no test image
        return f"done: {record.run_id}"
    if record.status != "done" or record.test is None:
        reason = record.failure.message if record.failure else "no reason given"
        return f"{record.status}: {record.run_id}: {reason}"
    auc, acc = record.test["auc"], record.test["acc"]
    scores = f"test AUC {auc:.3f}, ACC {acc:.3f}" if auc is not None and acc is not None else "scored"
    took = "" if record.train_seconds is None else f", {duration(record.train_seconds)}"
    return f"done: {record.run_id}: {scores}{took}"


class PlainProgress:
    """Progress for logs: a line for each start and end, and one a minute between."""

    def __init__(self, total: int, write: Callable[[str], None]) -> None:
        self.total, self.ended, self.write = total, 0, write
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
            self.write(f"[{self.ended}/{self.total}] {_end(event)}")
        elif event.progress is not None and time.monotonic() - self.last.setdefault(run_id, time.monotonic()) > 60:
            self.last[run_id] = time.monotonic()
            self.write(f"  {run_id}: {_position(event.progress)}")


def _end(event: Event) -> str:
    return outcome_line(event.record) if event.record else f"done elsewhere: {event.request.run.run_id}"


def _position(at: RunProgress) -> str:
    place = f"{at.stage} {at.step}/{at.steps}" if at.stage else f"{_epoch(at)}, step {at.step}/{at.steps}"
    return f"{place}, {at.images_per_second:.0f} images/s"


def _epoch(at: RunProgress) -> str:
    return f"epoch {at.epoch + 1}/{at.epochs}"


class LiveProgress:
    """Progress for a terminal: all runs in one line, each running one in its own, with images/s and time left.

    A line is never wrapped: where a terminal is narrow there is no bar, and a long name ends in an ellipsis.
    """

    def __init__(self, total: int, console: Console = out) -> None:
        name = Column(ratio=1, no_wrap=True, overflow="ellipsis")
        bar = (BarColumn(bar_width=24),) if console.width >= WIDE else ()
        columns = (
            TextColumn("{task.description}", table_column=name),
            *bar,
            TaskProgressColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True)),
        )
        self.bars = Progress(*columns, console=console, expand=True)
        self.total = self.bars.add_task(f"0 of {total} runs", total=total, note="")
        self.ended, self.number = 0, total
        self.running: dict[str, TaskID] = {}
        self.started: dict[str, tuple[float, int]] = {}

    def __enter__(self) -> LiveProgress:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        run = event.request.run
        if event.kind == "started":
            if run.run_id not in self.running:
                name = f"  {run.model} {run.dataset} s{run.seed}"
                self.running[run.run_id] = self.bars.add_task(name, total=None, note="preparing")
        elif event.progress is not None:
            self._advance(run.run_id, event.progress)
        elif event.kind == "finished":
            self.bars.remove_task(self.running.pop(run.run_id))
            self.started = {key: at for key, at in self.started.items() if not key.startswith(run.run_id)}
            self.ended += 1
            self.bars.update(self.total, advance=1, description=f"{self.ended} of {self.number} runs")
            self.bars.console.print(_end(event), markup=False)

    def _advance(self, run_id: str, at: RunProgress) -> None:
        total = at.epochs * at.steps
        done = at.epoch * at.steps + at.step
        now = time.monotonic()
        began, first = self.started.setdefault(run_id + at.stage, (now, done))  # a resumed run does not begin at 0
        left = (now - began) * (total - done) / (done - first) if done > first else None
        note = f"{at.stage or _epoch(at)}, {at.images_per_second:.0f}/s, {duration(left)} left"
        self.bars.update(self.running[run_id], total=total, completed=done, note=note)


class Together:
    """Several ways to show progress as one; none is one, too."""

    def __init__(self, *parts: PlainProgress | LiveProgress) -> None:
        self.parts = parts
        self.stack = contextlib.ExitStack()

    def __enter__(self) -> Together:
        for part in self.parts:
            self.stack.enter_context(part)
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        for part in self.parts:
            part(event)


def progress_for(total: int) -> Together:
    """Live lines in a terminal, plain ones elsewhere, nothing with `--quiet`; plain ones in a log file."""
    logged = [PlainProgress(total, log)] if is_logged() else []
    if is_quiet():
        return Together(*logged)
    shown = LiveProgress(total) if out.is_terminal else PlainProgress(total, _print_line)
    return Together(shown, *logged)


def _print_line(line: str) -> None:
    out.print(line, markup=False, soft_wrap=True)
