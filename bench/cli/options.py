"""Options and small parsers that the commands share, and those that every command takes."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from bench.machine import cpu_isa
from bench.machine.cpu_isa import CpuIsa


def at_home(path: Path) -> Path:
    """A path with `~` as the home folder: a shell leaves `--results=~/mine` alone."""
    return Path(os.path.expanduser(path))


Results = Annotated[Path, typer.Option(help="The results folder.", callback=at_home)]
Models = Annotated[str, typer.Option(help="Model names, separated by commas; shell patterns are taken.")]
Datasets = Annotated[str, typer.Option(help="MedMNIST flags, synthetic-<flag>, or card.toml files, by commas.")]
Protocols = Annotated[
    str, typer.Option("--protocol", "--protocols", help="Protocol names or TOML files, separated by commas.")
]
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


FLAGS = ("-q", "--quiet", "-v", "--verbose")
LOG_FILE = "--log-file"
# What would change a number: it belongs to a protocol, which has a name and a digest.
RULES = ("--set", "--override", "--lr", "--learning-rate", "--epochs", "--batch-size", "--optimizer", "--weight-decay")


class Anywhere(TyperGroup):
    """A group whose own options may stand anywhere: `medbench run -q` is `medbench -q run`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Click's, with the group's options first."""
        return super().parse_args(ctx, own_first(args))


def own_first(args: Sequence[str]) -> list[str]:
    """Arguments with the options of `medbench` itself before the command; what stands behind `--` stays there."""
    own: list[str] = []
    rest: list[str] = []
    waiting = list(args)
    while waiting:
        argument = waiting.pop(0)
        if argument == "--":
            rest += [argument, *waiting]
            break
        if argument == LOG_FILE and waiting:
            own += [argument, waiting.pop(0)]
        elif argument in FLAGS or argument.startswith(f"{LOG_FILE}="):
            own.append(argument)
        else:
            rest.append(argument)
    return own + rest


def show_version(wanted: bool) -> None:
    """Print the suite's version and end."""
    if wanted:
        from bench import __version__

        print(f"medbench {__version__}")
        raise typer.Exit


def habits(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=show_version, help="Show the version and end.")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress and no notes; results and errors.")] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Whole tracebacks of errors and failed runs.")
    ] = False,
    log_file: Annotated[
        Path | None, typer.Option(LOG_FILE, help="Append command, progress, notes and errors to a file, with times.")
    ] = None,
) -> None:
    """Is MedSpectralNet better than the models it was compared with? Plan, run, verify, report."""
    from bench.cli.console import speak

    speak(quiet=quiet, verbose=verbose, log_file=log_file)


def pointer(message: str) -> str:
    """Where to go instead of an option that no command takes, "" for any other mistake.

    Args:
        message: Click's, `No such option: --set`.
    """
    option = message.partition("No such option: ")[2].split(" ")[0].rstrip(".")
    if option not in RULES:
        return ""
    return (
        f"{option} would change numbers under an old name; write a protocol of its own name (medbench protocol new "
        "my.toml --extends lite-96 --set KEY=VALUE) and give it to --protocol; docs/protocols.md"
    )
