"""The command `medbench`: parse, call, print, exit code."""

from __future__ import annotations

import sys

from bench.errors import Interrupted
from bench.machine.signals import interruptible
from bench.machine.surroundings import open_streams


def main() -> None:
    """Entry point; loads the command when it is called, which an interruption ends with one line too."""
    open_streams()
    try:
        with interruptible():
            from bench.cli.app import main as run

            run()
    except Interrupted as error:
        print(f"medbench: {error.line}", file=sys.stderr)
        sys.exit(128 + error.signum)
