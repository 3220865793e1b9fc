"""Atomic writes of files, and removal of stale outputs of a former run."""

from __future__ import annotations

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
from pipeline.safe_json import read_json_object
from pipeline.storage.out_folder import MOST_RECORD_BYTES, is_address_for_gdal, is_record_of

_HOST = re.sub(r"\W", "_", host_name())
_TEMPORARY = re.compile(r"^\..*\.(?P<host>\w*)-(?P<process>\d+)\.part")
_ABANDONED_AFTER_S = 24 * 3600


def temporary(path: Path) -> Path:
    """Return a hidden name beside `path` for this process; it contains the host and process number."""
    return path.with_name(f".{path.stem}.{_HOST}-{os.getpid()}.part{path.suffix}")


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder.

    Files of this host are removed once their process has ended. Another host may share the folder, and its
    processes are unknown here: its files are removed when they are a day old. A link is not followed.
    """
    if folder.is_symlink():
        return
    for left in folder.glob(".*.part*"):
        found = _TEMPORARY.match(left.name)
        with suppress(OSError):  # another run may remove the same file
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
    """Create a folder and its parents if they don't exist.

    Raises
    ------
    OutputError
        If it can't be created.
    """
    if is_address_for_gdal(folder):
        raise OutputError(f"Folder {folder} can't be created: GDAL takes its name for an address.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"Folder {folder} can't be created ({error.strerror}). Choose another folder."
        ) from error


@contextmanager
def replacing(path: Path, *failures: type[Exception]) -> Iterator[Path]:
    """Yield a temporary name in the folder of `path`; the file written there replaces `path` when complete.

    `failures` are errors besides OSError by which the writer reports that it can't write.

    Raises
    ------
    OutputError
        If writing fails; then `path` is unchanged and the temporary file is removed.
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
            for left in path.parent.glob(f"{escape(part.name)}*"):  # also the drivers' journals
                left.unlink()


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield a new hidden folder beside `folder`; when complete it takes its place, if that is free or empty.

    Raises
    ------
    OutputError
        If writing fails, or `folder` has files in the end; then it is unchanged.
    """
    part = temporary(folder)
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
        with suppress(FileNotFoundError):
            folder.rmdir()
        part.replace(folder)
    except OSError as error:
        raise OutputError(f"{folder} can't be written ({error.strerror}).") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def set_aside(record: Path, previous: Path) -> None:
    """Move a run's record to `previous`, where it stays until `remove_stale_outputs` is called.

    A folder without a record is not changed. Raises OutputError if the record can't be moved.
    """
    try:
        with suppress(FileNotFoundError):
            record.replace(previous)
    except OSError as error:
        raise OutputError(f"{record} can't be replaced ({error.strerror}). Choose another --out.") from error


def remove_stale_outputs(folder: Path, previous: Path, made: Iterable[str]) -> list[str]:
    """Remove the `outputs` that the record `previous` lists and that are not in `made`, then the record.

    The record may be somebody else's: it counts if it is of the scene that the folder is named after. Names
    are relative to `folder`. Only files in it are removed, and no link is followed; files of users stay.
    Returns the removed names.
    """
    try:
        record = read_json_object(previous, MOST_RECORD_BYTES)
    except (OSError, ValueError):  # no previous run, or a foreign file
        return []
    named = record.get("outputs")
    if not is_record_of(record, folder.name) or not isinstance(named, list):
        return []
    kept = {name.casefold() for name in made}
    gone = [
        name
        for name in sorted({name for name in named if isinstance(name, str)})
        if name.casefold() not in kept and _removed(folder, name)
    ]
    previous.unlink(missing_ok=True)
    return gone


def _removed(folder: Path, name: str) -> bool:
    """Remove a file by its path below a folder; return False if it is not there, or is no such path."""
    try:
        file, root = folder / name, folder.resolve()
        if Path(name).as_posix() != name or ".." in Path(name).parts:
            return False
        if not file.parent.resolve().is_relative_to(root) or not file.is_file():
            return False
        file.unlink()
    except (OSError, RuntimeError, ValueError):  # a name that no file can have
        return False
    return True
