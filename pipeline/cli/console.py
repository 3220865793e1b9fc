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

if TYPE_CHECKING:
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


def say(what: Any, **options: Any) -> None:
    """Print to standard output."""
    from rich.console import Console

    Console(highlight=False, soft_wrap=True).print(what, **options)


def say_page(page: Any) -> None:
    """Print a page with wide tables; files and pipes get their full width."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 150)
    console.print(page)


def note(text: str) -> None:
    """Print the current step to standard error, and log it."""
    from rich.console import Console

    log.info(text)
    Console(stderr=True, highlight=False, soft_wrap=True).print(text, markup=False)


def say_path(what: str, path: Path) -> None:
    """Print a file or folder with its title."""
    from rich.text import Text

    say(Text.assemble((what, "bold"), f"  {path}"))


@contextmanager
def status(text: str) -> Iterator[None]:
    """Show the current step on a terminal while the block runs."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(text):
        yield


@contextmanager
def progress(job: Job) -> Iterator[tuple[Callable[[str], None], Callable[[int], None]]]:
    """Show the progress of a job: a bar on a terminal, a line for every tenth of the tiles elsewhere.

    Returns what to call with the current step, and with a number of tiles that are done.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    total = sum(len(job.shards[index]) for index in job.missing())
    lock = Lock()  # shards may run in several threads
    console = Console(stderr=True, highlight=False)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("tiles"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as bar:
        line, done = bar.add_task(job.scene.id, total=total), 0

        def on_tile(count: int) -> None:
            nonlocal done
            with lock:
                before, done = done, done + count
                bar.update(line, completed=done)
                if not console.is_terminal and before * 10 // max(1, total) != done * 10 // max(1, total):
                    console.print(f"{done} of {total} tiles")

        def say(text: str) -> None:
            log.info(text)
            bar.update(line, description=text)
            if not console.is_terminal:
                console.print(text, markup=False)

        yield say, on_tile


def print_result(result: Result) -> None:
    """Print the results and paths of a run."""
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    if result.run["simulated"]:
        table.add_row("scene", f"{result.run['scene']} (simulated)")
    else:
        table.add_row("scene", result.run["scene"])
    for name, value in result.summary().items():
        table.add_row(name, value)
    say(table)
    say("")
    say_path("layers", result.folder)
    say_path("report", result.report)


def print_scores(metrics: dict[str, Any], out: Path) -> None:
    """Print the scores of an evaluation and the path of its report."""
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in metrics.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            low, high = (metrics.get("interval_95") or {}).get(name) or (None, None)
            ends = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
            shown = f"{value:.3f}{ends}" if isinstance(value, float) else str(value)
            table.add_row(name.replace("_", " "), shown)
        elif name == "note":
            table.add_row(name, str(value))
    say(table)
    say_path("report", out / "report.html")
