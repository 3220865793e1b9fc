"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from pipeline.errors import OutputError


@contextmanager
def replacing(path: Path, *failures: type[Exception]) -> Iterator[Path]:
    """A temporary name in the folder of `path`; what was written there replaces `path` once it is whole.

    `failures` are what the writer raises besides OSError when it can't write.

    Raises
    ------
    OutputError
        If writing fails; then `path` is as it was and nothing else stays.
    """
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
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
