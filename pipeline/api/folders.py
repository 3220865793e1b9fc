"""Private folders of calls that leave nothing on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import OutputError


@contextmanager
def private_folder() -> Iterator[Path]:
    """Make a temporary folder, and remove it with all that is in it at the end of the block.

    Raises OutputError if there is no place for it.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="truckscape-", ignore_cleanup_errors=True)
    except OSError as error:
        raise OutputError(f"There is no temporary folder ({error}). Set TMPDIR to one with room.") from error
    with folder as name:
        yield Path(name)
