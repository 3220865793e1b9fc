"""Decoded blocks spilled to disk: reading one back costs a hundredth of decoding it again."""

from __future__ import annotations

import math
import os
import tempfile
from collections import defaultdict
from collections.abc import Hashable
from io import FileIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_FOLDER = Path("/var/tmp")  # noqa: S108 (files there have no name)
"""Folder for large temporary files without TMPDIR; `/tmp` is often in memory."""


def temporary_folder() -> Path | None:
    """Return the folder for large temporary files; None for Python's default."""
    return None if "TMPDIR" in os.environ or not _FOLDER.is_dir() else _FOLDER


class Spill:
    """Arrays in an unnamed temporary file that ends with the process. Not thread-safe.

    Freed space is used for arrays of the same size. After a disk error nothing is spilled.
    """

    def __init__(self) -> None:
        self._file: FileIO | None = None
        self._end = 0
        self._where: dict[Hashable, tuple[int, tuple[int, ...], np.dtype]] = {}
        self._room: defaultdict[int, list[int]] = defaultdict(list)

    def put(self, name: Hashable, array: NDArray[np.generic]) -> None:
        """Keep an array, unless it is present or the disk is full."""
        if name in self._where:
            return
        room = self._room[array.nbytes]
        offset = room.pop() if room else self._end
        self._end = max(self._end, offset + array.nbytes)
        try:
            written = self._at(offset).write(np.ascontiguousarray(array).data)
        except OSError:
            written = 0
        if written == array.nbytes:
            self._where[name] = (offset, array.shape, array.dtype)
        else:
            self._room[array.nbytes].append(offset)

    def get(self, name: Hashable) -> NDArray[np.generic] | None:
        """Return an array and keep it; None if it is missing or unreadable."""
        if name not in self._where:
            return None
        offset, shape, dtype = self._where[name]
        array = np.empty(shape, dtype)
        try:
            read = self._at(offset).readinto(array.data)
        except OSError:
            return None
        return array if read == array.nbytes else None

    def drop(self, name: Hashable) -> None:
        """Drop an array."""
        if name in self._where:
            offset, shape, dtype = self._where.pop(name)
            self._room[math.prod(shape) * dtype.itemsize].append(offset)

    def close(self) -> None:
        """Free the disk space."""
        if self._file:
            self._file.close()

    def _at(self, offset: int) -> FileIO:
        if self._file is None:
            # Windows wraps the file, Linux returns it bare: both are unbuffered.
            self._file = tempfile.TemporaryFile(dir=temporary_folder(), buffering=0)  # noqa: SIM115
        self._file.seek(offset)
        return self._file
