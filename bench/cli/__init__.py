"""The command `medbench`: parse, call, print, exit code."""

from __future__ import annotations


def main() -> None:
    """Entry point; loads the command when it is called."""
    from bench.cli.app import main as run

    run()
