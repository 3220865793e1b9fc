"""Files that a folder's previous run made and its next one no longer does."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pipeline.errors import OutputError


def set_aside(record: Path, previous: Path) -> None:
    """Move a run's record to `previous`, where it stays until `remove_leftovers`, even if the next run dies.

    Without a record what lies there stays. Raises OutputError if it can't be moved.
    """
    try:
        with suppress(FileNotFoundError):
            record.replace(previous)
    except OSError as error:
        raise OutputError(f"{record} can't be replaced ({error.strerror}); choose another --out.") from error


def remove_leftovers(folder: Path, previous: Path, made: Iterable[str]) -> list[str]:
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
