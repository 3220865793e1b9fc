"""The command `truckscape` as a process: its lines as messages and progress, its error as one line.

Nothing of QGIS is imported here, and nothing of truckscape: it lives in another Python.
"""

from __future__ import annotations

import os
import queue
import re
import shutil
import subprocess
import threading
from collections.abc import Sequence
from typing import IO, Protocol

COMMAND = "truckscape"
_NOT_FOUND = (
    "Install truckscape, then name its command in Settings > Options > Processing > Providers > truckscape."
)
_OF_QGIS = (
    "PYTHONHOME",
    "PYTHONPATH",
    "PROJ_LIB",
    "PROJ_DATA",
    "GDAL_DATA",
    "GDAL_DRIVER_PATH",
    "GDAL_PYTHON_DRIVER_PATH",
)
"""Variables that QGIS sets for its own Python, GDAL and PROJ; truckscape has others."""
_TILES = re.compile(r"(\d+) of (\d+) tiles")
_POLL_S = 0.2
_GRACE_S = 15.0
"""Seconds that a cancelled command has for what it started."""


class Feedback(Protocol):
    """The methods of `QgsProcessingFeedback` that a command needs."""

    def isCanceled(self) -> bool:  # noqa: N802
        """Return whether the user has asked to stop."""

    def setProgress(self, progress: float) -> None:  # noqa: N802
        """Show a percentage."""

    def pushInfo(self, info: str) -> None:  # noqa: N802
        """Show a line."""

    def pushCommandInfo(self, info: str) -> None:  # noqa: N802
        """Show a line of a command."""


class CommandError(Exception):
    """The command is missing, or has failed; the text is one line."""


def find_command(named: str = "") -> str:
    """Return the path of the command: the one that is named in the settings, or that on the PATH."""
    wanted = os.path.expanduser(named.strip())  # noqa: PTH111 a name without a folder is searched
    found = shutil.which(wanted or COMMAND)
    if found:
        return found
    if wanted:
        raise CommandError(f"{wanted} is not a program that can be started. {_NOT_FOUND}")
    raise CommandError(f"{COMMAND} is not on the PATH. {_NOT_FOUND}")


def run_command(command: Sequence[str], feedback: Feedback) -> list[str]:
    """Run a command, pass its lines on, and return them; none if the user cancels.

    Raises
    ------
    CommandError
        If it can't be started or fails, with its own error as the text.
    """
    feedback.pushCommandInfo(subprocess.list2cmdline(command))
    try:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_environment(),
            encoding="utf-8",
            errors="replace",
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except OSError as error:
        raise CommandError(f"{command[0]} can't be started: {error.strerror}. {_NOT_FOUND}") from error
    lines: list[str] = []
    arriving: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_read, args=(process.stdout, arriving), daemon=True).start()
    while True:
        if feedback.isCanceled():
            _end(process)
            return []
        try:
            line = arriving.get(timeout=_POLL_S)
        except queue.Empty:
            continue
        if line is None:
            break
        lines.append(line)
        _show(line, feedback)
    status = process.wait()
    if status:
        raise CommandError(_error_of(lines, status))
    return lines


def path_after(lines: Sequence[str], what: str) -> str:
    """Return the path that the command has printed last under a title, such as `layers`; empty if none."""
    found = [line for line in lines if line.startswith(f"{what} ")]
    return found[-1][len(what) :].strip() if found else ""


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _OF_QGIS}
    return {**kept, "PYTHONUTF8": "1", "NO_COLOR": "1"}


def _read(stream: IO[str], arriving: queue.Queue[str | None]) -> None:
    with stream:
        for line in stream:
            arriving.put(line.rstrip())
    arriving.put(None)


def _show(line: str, feedback: Feedback) -> None:
    tiles = _TILES.fullmatch(line)
    if tiles:
        feedback.setProgress(100 * int(tiles[1]) / max(1, int(tiles[2])))
    if line:
        feedback.pushInfo(line)


def _end(process: subprocess.Popen[str]) -> None:
    """End a process, which ends what it has started."""
    process.terminate()
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _error_of(lines: Sequence[str], status: int) -> str:
    """Return the error that a command has printed: a line, or for a wrong option a box."""
    errors = [line for line in lines if line.startswith("error: ")]
    if errors:
        return errors[-1][len("error: ") :]
    boxed = " ".join(line.strip("│ ") for line in lines if line.startswith("│"))
    last = next((line for line in reversed(lines) if line), "It printed nothing.")
    return boxed or f"{COMMAND} ended with exit status {status}. {last}"
