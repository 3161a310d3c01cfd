"""The command `medbench`: parse, call, print, exit code. Heavy imports stand inside the commands."""

from __future__ import annotations

import contextlib
import errno
import sys
from typing import TYPE_CHECKING, Any

import typer

from bench.cli.gradcam import gradcam
from bench.cli.inspect import check, doctor, list_
from bench.cli.measure import data_app, measure_app
from bench.cli.options import Anywhere, habits, pointer
from bench.cli.own.predict import predict
from bench.cli.own.protocol import protocol_app
from bench.cli.own.tune import tune
from bench.cli.report import explain, export, report
from bench.cli.run import merge, plan, run
from bench.cli.track import track
from bench.cli.verify import compare, verify
from bench.cli.weights import weights_app

if TYPE_CHECKING:
    from bench.errors import Interrupted

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    cls=Anywhere,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback()(habits)
app.add_typer(measure_app, name="measure")
app.add_typer(data_app, name="data")
app.add_typer(weights_app, name="weights")
app.add_typer(protocol_app, name="protocol")
app.command("plan")(plan)
app.command("run")(run)
app.command("tune")(tune)
app.command("track")(track)
app.command("merge")(merge)
app.command("gradcam")(gradcam)
app.command("predict")(predict)
for reading in (report, verify, compare, explain, export):
    app.command()(reading)
app.command("list")(list_)
app.command("check")(check)
app.command("doctor")(doctor)


FIXABLE = {errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR}
FIXABLE |= {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def main() -> None:
    """Entry point: one line and exit code 2 for what a user can fix, 130 or 143 for an interruption."""
    from bench.cli.console import flush, json_alone, log, speak
    from bench.errors import Interrupted
    from bench.machine import cpu_isa, provenance, surroundings
    from bench.machine.signals import interruptible

    provenance.quiet_threads()
    cpu_isa.pin()
    surroundings.complete()
    speak()
    try:
        with interruptible(), json_alone() if "--json" in sys.argv else contextlib.nullcontext():
            code = app(prog_name="medbench", standalone_mode=False)
        flush()
    except (Exception, Interrupted) as error:
        code = _explain(error)
        with contextlib.suppress(OSError):
            flush()
    code = code if isinstance(code, int) else 0
    log(f"exit code {code}")
    sys.exit(code)


def _explain(error: Exception | Interrupted) -> int:
    from bench.cli.console import complain
    from bench.errors import BenchError, Interrupted
    from bench.machine.memory import is_out_of_memory
    from models.catalog import ModelError
    from models.loading import RUN_ADVICE

    if isinstance(error, Interrupted):
        complain(error.line)
        return 128 + error.signum
    if isinstance(error, (BenchError, ModelError)):
        complain(str(error), error)
        return 2
    if isinstance(error, ModuleNotFoundError):
        complain(f"the package {error.name!r} is not installed: {RUN_ADVICE}", error)
        return 2
    if isinstance(error, typer.Abort):
        if isinstance(error.__cause__, EOFError):  # not a person's answer, but a file or pipe that ended
            raise error.__cause__
        complain("nothing was run")
        return 1
    if hasattr(error, "format_message"):  # what typer refuses; it has its own copy of click's class
        return _explain_usage(error)
    if isinstance(error, BrokenPipeError):  # of the flush; typer ends as quietly where a command prints into one
        return 1
    if isinstance(error, FileNotFoundError) and error.filename is None:  # what os.getcwd raises
        complain("the current folder was removed; change into one that is there", error)
        return 2
    if isinstance(error, OSError) and error.errno in FIXABLE:
        where = f": {str(error.filename)[:100]}" if error.filename else ""
        complain(f"{error.strerror}{where}", error)
        return 2
    if is_out_of_memory(error):
        complain("out of memory; free some, or raise the limit that `ulimit -v` shows", error)
        return 2
    raise error


def _explain_usage(error: Any) -> int:
    """One line for a mistyped command; the help where nothing was typed."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return 2
    from bench.cli.console import complain

    called = error.ctx.command_path.split()[1:] if error.ctx else []
    message = " ".join(error.format_message().split()).rstrip(".")
    complain(pointer(message) or f"{message}; {' '.join(['medbench', *called, '--help'])} lists what it takes")
    return 2
