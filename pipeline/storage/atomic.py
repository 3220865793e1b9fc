"""Files that appear whole or not at all, and outputs of a former run that are stale."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

import psutil

from pipeline.errors import OutputError
from pipeline.processes import host_name

_HOST = re.sub(r"\W", "_", host_name())
_TEMPORARY = re.compile(r"^\..*\.(?P<host>\w*)-(?P<process>\d+)\.part")
_ABANDONED_AFTER_S = 24 * 3600


def temporary(path: Path) -> Path:
    """A hidden name beside `path`, for this process alone, which tells its host and number."""
    return path.with_name(f".{path.stem}.{_HOST}-{os.getpid()}.part{path.suffix}")


def remove_abandoned(folder: Path) -> None:
    """Remove what processes that were killed left in a folder under temporary names.

    What a process of this host left goes once the process is gone. Of another host, which may share the
    folder, nobody here knows that: what it left goes when it is a day old.
    """
    for left in folder.glob(".*.part*"):
        found = _TEMPORARY.match(left.name)
        with suppress(OSError):  # another run tidies the same folder
            if not found or not _is_abandoned(left, found["host"], int(found["process"])):
                continue
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()


def _is_abandoned(left: Path, host: str, process: int) -> bool:
    if host != _HOST:
        return time.time() - left.stat().st_mtime > _ABANDONED_AFTER_S
    return not psutil.pid_exists(process)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, where they are not there yet.

    Raises
    ------
    OutputError
        If it can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {folder} can't be made ({error.strerror}).") from error


@contextmanager
def replacing(path: Path, *failures: type[Exception]) -> Iterator[Path]:
    """A temporary name in the folder of `path`; what was written there replaces `path` once it is whole.

    `failures` are what the writer raises besides OSError when it can't write.

    Raises
    ------
    OutputError
        If writing fails; then `path` is as it was and nothing else stays.
    """
    part = temporary(path)
    with suppress(OSError):
        part.unlink()
    try:
        yield part
        part.replace(path)
    except (OSError, *failures) as error:  # type: ignore[misc]
        raise OutputError(f"{path} cannot be written: {' '.join(str(error).split())}") from error
    finally:
        with suppress(OSError):
            for left in path.parent.glob(f"{escape(part.name)}*"):  # with the drivers' journals and the like
                left.unlink()


def set_aside(record: Path, previous: Path) -> None:
    """Move a run's record to `previous`, where it stays until `remove_stale_outputs` is called.

    Without a record what lies there stays. Raises OutputError if it can't be moved.
    """
    try:
        with suppress(FileNotFoundError):
            record.replace(previous)
    except OSError as error:
        raise OutputError(f"{record} can't be replaced ({error.strerror}); choose another --out.") from error


def remove_stale_outputs(folder: Path, previous: Path, made: Iterable[str]) -> list[str]:
    """Remove the `outputs` that the record `previous` names and that are not in `made`, then the record.

    Names are relative to `folder`, and only files in it go; what users put there stays. Returns what went.
    """
    try:
        named = json.loads(previous.read_text(encoding="utf-8")).get("outputs", [])
    except (OSError, ValueError, AttributeError):  # no previous run, or a record of somebody else
        return []
    root, gone = folder.resolve(), []
    for name in sorted({str(name) for name in named} - set(made)):
        file = root / name
        if file.parent.resolve().is_relative_to(root) and file.is_file():
            file.unlink()
            gone.append(name)
    previous.unlink(missing_ok=True)
    return gone
