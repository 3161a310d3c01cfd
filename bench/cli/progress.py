"""What a person sees while runs go on: live bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from bench.cli.console import duration, out

if TYPE_CHECKING:
    from bench.records.run_record import Record
    from bench.runs.request import Event, RunProgress


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
        elif event.progress is not None and time.monotonic() - self.last.setdefault(run_id, time.monotonic()) > 60:
            self.last[run_id] = time.monotonic()
            out.print(f"  {run_id}: {_position(event.progress)}", markup=False, soft_wrap=True)


def _position(at: RunProgress) -> str:
    place = f"{at.stage} {at.step}/{at.steps}" if at.stage else f"{_epoch(at)}, step {at.step}/{at.steps}"
    return f"{place}, {at.images_per_second:.0f} images/s"


def _epoch(at: RunProgress) -> str:
    return f"epoch {at.epoch + 1}/{at.epochs}"


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
        elif event.progress is not None:
            self._advance(run_id, event.progress)
        elif event.kind == "finished":
            self.bars.remove_task(self.running.pop(run_id))
            self.started = {key: value for key, value in self.started.items() if not key.startswith(run_id)}
            self.bars.advance(self.total)
            line = outcome_line(event.record) if event.record else f"done elsewhere: {run_id}"
            self.bars.console.print(line, markup=False)

    def _advance(self, run_id: str, at: RunProgress) -> None:
        total = at.epochs * at.steps
        done = at.epoch * at.steps + at.step
        now = time.monotonic()
        began, first = self.started.setdefault(run_id + at.stage, (now, done))  # a resumed run does not begin at 0
        left = (now - began) * (total - done) / (done - first) if done > first else None
        note = f"{at.stage or _epoch(at)}, {at.images_per_second:.0f} images/s"
        self.bars.update(self.running[run_id], total=total, completed=done, note=f"{note}, {duration(left)} left")


def progress_for(total: int) -> PlainProgress | LiveProgress:
    """Live bars in a terminal, plain lines elsewhere."""
    return LiveProgress(total) if out.is_terminal else PlainProgress(total)
