"""Options and small parsers that the commands share."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from bench.machine import cpu_isa
from bench.machine.cpu_isa import CpuIsa


def at_home(path: Path) -> Path:
    """A path with `~` as the home folder: a shell leaves `--results=~/mine` alone."""
    return Path(os.path.expanduser(path))


Results = Annotated[Path, typer.Option(help="The results folder.", callback=at_home)]
Models = Annotated[str, typer.Option(help="Model names, separated by commas; shell patterns are taken.")]
Datasets = Annotated[str, typer.Option(help="MedMNIST flags, synthetic-<flag>, or card.toml files, by commas.")]
Protocols = Annotated[str, typer.Option("--protocol", help="Protocol names or TOML files, separated by commas.")]
Seeds = Annotated[str, typer.Option(help="Seeds, for instance 0-2,5; seed 0 if left out.", show_default=False)]
StudyName = Annotated[str, typer.Option("--study", help="A study's name or TOML file, instead of the next four.")]
Plugins = Annotated[list[Path], typer.Option("--plugin", help="A Python file with registered models.")]
Isa = Annotated[CpuIsa, typer.Option("--cpu-isa", help="The CPU's arithmetic; the same bits everywhere with avx2.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def pin_cpu(chosen: CpuIsa) -> CpuIsa:
    """Pin the arithmetic before anything numeric is loaded; a machine that lacks it runs native, with a note."""
    isa = cpu_isa.pin(chosen)
    if isa != chosen:
        line = f"note: this CPU has no {chosen.upper()}; runs are native, and their bits are those of this kind of CPU"
        print(line, file=sys.stderr)
    return isa


def load_plugins(files: Iterable[str | Path]) -> list[str]:
    """Register the models of Python files; returns their names.

    Raises:
        ModelError: If a file cannot be loaded.
    """
    from models import load_plugin

    return [name for file in files for name in load_plugin(file)]


def chosen_names(text: str, option: str) -> list[str]:
    """The names of an option that selects; one at least.

    Raises:
        BenchError: If there is none.
    """
    from bench.errors import BenchError

    names = split_names(text)
    if not names:
        raise BenchError(f"{option} {text!r} names nothing; write names separated by commas")
    return names


def check_seconds(seconds: float | None, option: str) -> None:
    """Refuse a time limit that is none.

    Raises:
        BenchError: If it is not finite and above 0.
    """
    from bench.errors import BenchError

    if seconds is not None and not 0 < seconds < math.inf:
        raise BenchError(f"{option} {seconds:g} is refused; give seconds above 0")


def split_names(text: str) -> list[str]:
    """`a, b` -> [`a`, `b`]."""
    return [part.strip() for part in text.split(",") if part.strip()]


def split_numbers(text: str, option: str, least: int = 1) -> list[int]:
    """`1,32` -> [1, 32].

    Raises:
        BenchError: If it is no list of whole numbers from `least`; `option` is named.
    """
    from bench.errors import BenchError

    parts = split_names(text)
    if not all(part.isascii() and part.isdigit() and len(part) < 10 and int(part) >= least for part in parts):
        raise BenchError(f"{option} {text[:40]!r} is refused; write whole numbers from {least}, separated by commas")
    return [int(part) for part in parts]


def match_models(patterns: str) -> list[str]:
    """Model names of a comma-separated list, in which shell patterns stand for what they match.

    Raises:
        BenchError: If a pattern matches nothing.
    """
    from bench.plan import selection

    return selection.match_models(chosen_names(patterns, "--models"))
