"""What a person sees: tables, JSON, one line per error."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shlex
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TextIO

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bench import __version__
from bench.errors import BenchError

GAP = 3  # columns between two columns of a table
LONG_WORD = 16  # letters of a word that may break where room is short
FILE_WIDTH = 10_000  # columns where there is no terminal: no word of a table in a file is cut
TEXT_WIDTH = 60  # columns of a text in such a table

out = Console(highlight=False, width=None if sys.stdout.isatty() else FILE_WIDTH)
err = Console(stderr=True, soft_wrap=True, highlight=False)


_quiet = _verbose = False
_log: TextIO | None = None  # where `--log-file` leads


def speak(*, quiet: bool = False, verbose: bool = False, log_file: Path | None = None) -> None:
    """How much the command says from now on, and where its log goes; each call anew.

    Raises:
        BenchError: If the log file cannot be written.
    """
    global _quiet, _verbose, _log
    if _log is not None:
        _log.close()
    _quiet, _verbose, _log = quiet, verbose, None
    if log_file is not None:
        try:
            _log = log_file.expanduser().open("a", encoding="utf-8", errors="backslashreplace", buffering=1)
        except OSError as error:
            raise BenchError(f"Cannot write the log file {log_file}: {error.strerror}; name another") from None
        log(f"medbench {__version__}: {shlex.join(sys.argv[1:])}")


def is_verbose() -> bool:
    """Whether whole tracebacks are wanted."""
    return _verbose


def is_quiet() -> bool:
    """Whether progress and notes are unwanted."""
    return _quiet


def is_logged() -> bool:
    """Whether there is a log file."""
    return _log is not None


def log(line: str) -> None:
    """A line of the log file, with the time in UTC; nothing without one. A full disk ends the log, not the work."""
    global _log
    if _log is not None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        try:
            _log.write(f"{now} {line}\n")
        except OSError as error:
            _log = None
            warn(f"the log file ends here: {error.strerror}")


def note(line: str) -> None:
    """What a person may want to know, on stderr; not with `--quiet`."""
    log(line)
    if not _quiet:
        err.print(line, markup=False, soft_wrap=True)


def warn(line: str) -> None:
    """What did not go as it should, on stderr, always."""
    log(line)
    err.print(line, markup=False, soft_wrap=True)


def complain(line: str, error: BaseException | None = None) -> None:
    """Why a command ends, in one line whatever names it holds; with `--verbose` where in the code, too."""
    line = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in line)
    log(f"error: {line}")
    if _verbose and error is not None:
        traceback.print_exception(error, file=sys.stderr)
    print(f"medbench: {line}", file=sys.stderr)


def flush() -> None:
    """Write out what was printed; where that fails, drop it, so that Python does not try again as it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


_for_json: TextIO | None = None  # where `print_json` writes while `json_alone` keeps stdout


def print_json(content: Any) -> None:
    """Machine-readable output on stdout, nothing else."""
    print(json.dumps(content, indent=1), file=_for_json, flush=True)


@contextlib.contextmanager
def json_alone() -> Iterator[None]:
    """Inside, `print_json` has stdout to itself; what models and libraries print there, in C too, goes to stderr."""
    global _for_json
    with contextlib.ExitStack() as stack:
        if sys.stdout is not None and sys.stderr is not None:
            sys.stdout.flush()
            _for_json = _apart(stack) if _is_descriptor_1(sys.stdout) else sys.stdout
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        try:
            yield
        finally:
            _for_json = None


def _is_descriptor_1(stream: TextIO) -> bool:
    try:
        return stream.fileno() == 1
    except (OSError, ValueError):  # a test's or a notebook's
        return False


def _apart(stack: contextlib.ExitStack) -> TextIO:
    """Another stream to where stdout goes, which goes to stderr until the stack ends."""
    kept = os.dup(1)
    stack.callback(os.close, kept)
    os.dup2(2, 1)
    stack.callback(os.dup2, kept, 1)
    return os.fdopen(kept, "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors, closefd=False)


def print_table(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows with equal keys as a table; numbers are flush right, an empty list is named as such.

    Where words would have to break, as in a narrow terminal, each row is a block of lines instead.
    """
    if not rows:
        out.print(f"{title}: none")
        return
    texts = {key: [_text(row[key]) for row in rows] for key in rows[0]}
    longest = {key: max(len(word) for text in (key, *texts[key]) for word in text.split() or [""]) for key in texts}
    for key in list(texts)[1:] if out.is_terminal else ():  # on a screen an address may break, a name may not
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
        widest = None if out.is_terminal else max(longest[key], TEXT_WIDTH)
        table.add_column(
            escape(key), justify=justify, overflow="fold", min_width=longest[key], max_width=widest, no_wrap=whole
        )
    for index in range(len(rows)):
        table.add_row(*[escape(texts[key][index]) for key in texts])  # `[run]` in a cell is text, not rich's markup
    out.print(table)


def _print_blocks(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A row as its first value and, below it, the others by name."""
    out.print(title, markup=False, style="italic")
    for row in rows:
        (_, head), *rest = row.items()
        out.print(_text(head), markup=False, style="bold", soft_wrap=True)
        text = "; ".join(f"{key} {_text(value)}" for key, value in rest if _text(value))
        out.print(Padding(Text(text), (0, 0, 0, 2)), markup=False)


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
