"""Output for people: progress, notes, tables."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from pipeline.environment import give_prefect_a_home
from pipeline.printable import printable_lines

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline.run import Job, Result


log = logging.getLogger("pipeline.cli")


def quiet_prefect() -> None:
    """Turn off Prefect's statistics and tracebacks (`main` reports errors); find it a home folder."""
    warning = give_prefect_a_home()
    if warning:
        note(warning)
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    # Its own server starts within seconds; on a busy machine it takes longer.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
    if not os.environ.get("TRUCKSCAPE_DEBUG"):
        os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
        os.environ.setdefault("PREFECT_LOGGING_INTERNAL_LEVEL", "CRITICAL")  # of events that were not sent


def console(**options: Any) -> Console:
    """Return a console that prints text as it is: names may look like markup or emoji codes of Rich."""
    from rich.console import Console
    from rich.segment import Segment

    class PlainConsole(Console):
        """Console that does not send control characters of files and servers to the terminal."""

        def render(self, renderable: Any, options: Any = None) -> Iterator[Segment]:
            """Yield what is to be written; `control` is of Rich itself."""
            for text, style, control in super().render(renderable, options):
                yield Segment(text if control else printable_lines(text), style, control)

    return PlainConsole(highlight=False, markup=False, emoji=False, **options)


def say(what: Any, **options: Any) -> None:
    """Print to standard output."""
    console(soft_wrap=True).print(what, **options)


def say_page(page: Any) -> None:
    """Print a page with wide tables; files and pipes get their full width."""
    output = console()
    if not output.is_terminal:
        output.width = max(output.width, 150)
    output.print(page)


def note(text: str) -> None:
    """Print the current step to standard error, and log it."""
    log.info(text)
    console(stderr=True, soft_wrap=True).print(text)


def say_path(what: str, path: Path) -> None:
    """Print a file or folder with its title."""
    from rich.text import Text

    say(Text.assemble((what, "bold"), f"  {path}"))


@contextmanager
def status(text: str) -> Iterator[None]:
    """Show the current step on a terminal while the block runs."""
    from rich.text import Text

    output = console(stderr=True)
    if not output.is_terminal:
        yield
        return
    with output.status(Text(text)):
        yield


@contextmanager
def progress(job: Job) -> Iterator[tuple[Callable[[str], None], Callable[[int], None]]]:
    """Show the progress of a job: a bar on a terminal, a line for every tenth of the tiles elsewhere.

    Returns what to call with the current step, and with a number of tiles that are done.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    total = sum(len(job.shards[index]) for index in job.missing())
    lock = Lock()  # shards may run in several threads
    output = console(stderr=True, soft_wrap=True)
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("tiles"),
        TimeElapsedColumn(),
        console=output,
        disable=not output.is_terminal,
    ) as bar:
        line, done = bar.add_task(job.scene.id, total=total), 0

        def on_tile(count: int) -> None:
            nonlocal done
            with lock:
                before, done = done, done + count
                bar.update(line, completed=done)
                if not output.is_terminal and before * 10 // max(1, total) != done * 10 // max(1, total):
                    output.print(f"{done} of {total} tiles")

        def say(text: str) -> None:
            log.info(text)
            bar.update(line, description=text)
            if not output.is_terminal:
                output.print(text)

        yield say, on_tile


def print_result(result: Result) -> None:
    """Print the results and paths of a run."""
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    if result.run["simulated"]:
        table.add_row("scene", f"{result.run['scene']} (simulated)")
    else:
        table.add_row("scene", result.run["scene"])
    for name, value in result.summary().items():
        table.add_row(name, value)
    say_page(table)
    say("")
    say_path("layers", result.folder)
    say_path("report", result.report)


def print_scores(metrics: dict[str, Any], out: Path) -> None:
    """Print the scores of an evaluation and the path of its report."""
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in metrics.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            low, high = (metrics.get("interval_95") or {}).get(name) or (None, None)
            ends = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
            shown = f"{value:.3f}{ends}" if isinstance(value, float) else str(value)
            table.add_row(name.replace("_", " "), shown)
        elif name == "note":
            table.add_row(name, str(value))
    say_page(table)
    say_path("report", out / "report.html")
