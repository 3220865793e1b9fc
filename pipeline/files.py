"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import platform
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from pipeline.errors import OutputError

_HOST = re.sub(r"\W", "_", platform.node())
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
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # somebody else's process, alive
        return False
    return False


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
