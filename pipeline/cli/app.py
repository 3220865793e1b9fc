"""The application: its options, and the exit status of errors."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from pipeline import __version__
from pipeline.errors import TruckscapeError
from pipeline.logs import PlainLines
from pipeline.printable import printable
from pipeline.processes import configure_process
from pipeline.redaction import shown, without_secrets
from pipeline.stopping import as_parent, end_now, end_on_signals, end_with_parent, exit_status

log = logging.getLogger("pipeline.cli")
_WHERE = "truckscape --debug ... shows where"

# Worker processes import the command's main module first; before their first task come seconds of imports.
end_with_parent()

app = typer.Typer(
    help="Detect moving trucks and map land cover in Sentinel-2 scenes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"truckscape {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and the log of Prefect.")] = False,
    log: Annotated[
        Path | None,
        typer.Option(
            "--log",
            envvar="TRUCKSCAPE_LOG",
            help="Append logs to this file, as JSON lines; `-` is standard error.",
        ),
    ] = None,
) -> None:
    if debug:
        os.environ["TRUCKSCAPE_DEBUG"] = "1"
    if log:
        context.with_resource(_logged(log))


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Append the log of a command, and its failure, to a file."""
    from pipeline.logs import log_to

    with log_to(None if str(path) == "-" else path):
        try:
            yield
        except Exception as error:
            if not isinstance(error, typer.Exit | typer.Abort):
                known = isinstance(error, TruckscapeError)
                log.error("failed: %s", error, exc_info=None if known else error)
            raise


def main() -> None:
    """Entry point: exit status 0 done, 1 failed with one clear message, 2 wrong usage, 128 + signal."""
    os.environ.update(as_parent())
    end_on_signals()
    try:
        _run()
    finally:
        if status := exit_status():
            end_now(status)  # threads of Prefect may wait for its server


def _run() -> None:
    configure_process()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # output in ASCII, say, must not end a run
    if logging.lastResort:
        logging.lastResort.setFormatter(PlainLines())  # of warnings
    try:
        app()
    except TruckscapeError as error:
        _fail(str(error))
    except OSError as error:
        if error.filename is None:
            _fail(f"unexpected {type(error).__name__}: {error} ({_WHERE})")
        _fail(f"{shown(str(error.filename))} can't be used: {error.strerror}. ({_WHERE})")
    except Exception as error:  # noqa: BLE001 unexpected errors are one line, too
        _fail(f"unexpected {type(error).__name__}: {error} ({_WHERE})")


def _fail(message: str) -> None:
    if os.environ.get("TRUCKSCAPE_DEBUG"):
        raise  # noqa: PLE0704 called while an exception is handled
    # Not by Rich, whose import takes a tenth of the time until a mistyped path is reported.
    color = False if "NO_COLOR" in os.environ else None  # None: on a terminal
    typer.secho("error: ", fg="red", bold=True, nl=False, err=True, color=color)
    typer.echo(printable(" ".join(without_secrets(message).split())), err=True)
    sys.exit(1)
