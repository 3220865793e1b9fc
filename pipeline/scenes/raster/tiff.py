"""Layout of a local TIFF file: where its blocks are, and how they are compressed (TIFF 6.0 and BigTIFF)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CorruptImageError
from pipeline.scenes.raster.datasets import FileState

Order = Literal["<", ">"]
"""Byte order of numbers: least significant byte first, or last."""
_SIZES = dict(zip((*range(1, 14), 16, 17, 18), (1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 8, 8, 8), strict=True))
"""Bytes of a value, by its type in the directory."""
_INTEGERS = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
_WIDTH, _LENGTH, _BITS, _COMPRESSION, _FILL_ORDER = 256, 257, 258, 259, 266
_SAMPLES, _ROWS_PER_STRIP, _PLANAR, _PREDICTOR, _SUBFILE = 277, 278, 284, 317, 254
_TILE_WIDTH, _TILE_LENGTH = 322, 323
_STRIPS, _TILES = (273, 279), (324, 325)
_MASK = 4
_MOST_DIRECTORIES = 64
_MOST_ENTRIES = 4096


class _BrokenError(Exception):
    """Reason why a file is not a complete TIFF."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Blocks (tiles or strips) of one image of a file."""

    shape: tuple[int, int]
    block: tuple[int, int]
    """Rows and columns."""
    is_tiled: bool
    compression: int
    """TIFF's number; 0 where bits are in the other order."""
    predictor: int
    bits: int
    samples: int
    """Bands that are in one block: all, or one where each has its own blocks."""
    order: Order
    """Byte order of numbers, `<` or `>`."""
    offsets: NDArray[np.uint64]
    """(planes, down, across), bytes from the start of the file; 0 for a block that is not there."""
    sizes: NDArray[np.uint64]

    def plane(self, index: int) -> int:
        """Return the plane with the blocks of band `index`, which counts from 1."""
        return index - 1 if len(self.offsets) > 1 else 0

    def missing(self, index: int) -> float:
        """Return the share of the blocks of a band that are not in the file, as sparse files leave out."""
        return float((self.offsets[self.plane(index)] == 0).mean())

    def blocks(self, rows: slice, cols: slice) -> Iterator[tuple[int, int]]:
        """Yield row and column of each block that a rectangle touches."""
        height, width = self.block
        for row in range(rows.start // height, (rows.stop - 1) // height + 1):
            for col in range(cols.start // width, (cols.stop - 1) // width + 1):
                yield row, col


@dataclass(frozen=True, eq=False)
class Tiff:
    """The first image of a file, which GDAL opens, and its internal mask."""

    image: Layout
    mask: Layout | None = None


@lru_cache(32)
def tiff_of(href: str, state: FileState) -> Tiff | None:
    """Return the layout of a local file, of which `state` is the version; None if it is no TIFF or in a zip.

    Raises CorruptImageError if the file ends before its directory or a block of the image or mask, or lacks
    blocks. Memory: 16 bytes for each block.
    """
    path = Path(href)
    if state is None or href.startswith("/vsi") or not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            return _read(file, path.stat().st_size)
    except (_BrokenError, struct.error) as error:
        raise CorruptImageError(f"{href} is truncated or damaged: {error}. Fetch it again.") from None
    except OSError:
        return None  # an error of opening it


def _read(file: IO[bytes], size: int) -> Tiff | None:
    begin = file.read(16)
    if begin[:2] not in (b"II", b"MM") or len(begin) < 8:
        return None
    order: Order = "<" if begin[:2] == b"II" else ">"
    (version,) = struct.unpack(order + "H", begin[2:4])
    if version not in (42, 43):
        return None
    is_big = version == 43
    (at,) = struct.unpack(order + ("Q" if is_big else "I"), begin[8:16] if is_big else begin[4:8])
    image = None
    seen: set[int] = set()
    while at and at not in seen and len(seen) < _MOST_DIRECTORIES:
        seen.add(at)
        try:
            directory = _Directory(file, size, order, is_big, at)
        except (_BrokenError, struct.error):
            if image is None:
                raise
            break  # overviews are not used
        if image is None:
            directory.check_values()
            image = _layout(directory)
            if image is None:
                return None
        elif directory.number(_SUBFILE, 0) & _MASK and directory.shape == image.shape:
            return Tiff(image, _layout(directory))
        at = directory.following
    return Tiff(image) if image else None


class _Directory:
    """Tags of one image."""

    def __init__(self, file: IO[bytes], size: int, order: Order, is_big: bool, at: int) -> None:
        self._file, self.size, self.order = file, size, order
        self._inline, form, self._entry = (8, "Q", "HHQ") if is_big else (4, "I", "HHI")
        (count,) = struct.unpack(order + ("Q" if is_big else "H"), self._bytes(at, 8 if is_big else 2))
        if count > _MOST_ENTRIES:
            raise _BrokenError(f"its directory at byte {at} has {count} tags")
        start, length = at + (8 if is_big else 2), struct.calcsize(order + self._entry) + self._inline
        text = self._bytes(start, count * length)
        self._entries: dict[int, tuple[int, int, bytes]] = {}
        for first in range(0, count * length, length):
            head = text[first : first + length - self._inline]
            tag, kind, number = struct.unpack(order + self._entry, head)
            self._entries.setdefault(
                tag, (kind, number, text[first + length - self._inline : first + length])
            )
        end = start + count * length
        # Some writers end the file with the last directory, without the address of another one.
        rest = self._bytes(end, self._inline) if end + self._inline <= size else bytes(self._inline)
        (self.following,) = struct.unpack(order + form, rest)
        self._form = form

    @property
    def shape(self) -> tuple[int, int]:
        return self.number(_LENGTH, 0), self.number(_WIDTH, 0)

    def number(self, tag: int, default: int) -> int:
        found = self.numbers(tag)
        return default if found is None or not len(found) else int(found[0])

    def numbers(self, tag: int) -> NDArray[np.uint64] | None:
        """Return the values of a tag; None if it is not there or holds no integers."""
        kind, count, inline = self._entries.get(tag, (0, 0, b""))
        if kind not in _INTEGERS:
            return None
        length = count * _SIZES[kind]
        if length <= self._inline:
            text = inline[:length]
        else:
            (at,) = struct.unpack(self.order + self._form, inline)
            text = self._bytes(at, length)
        return np.frombuffer(text, self.order + _INTEGERS[kind]).astype(np.uint64)

    def check_values(self) -> None:
        """Raise _BrokenError if values of a tag are not in the file: GDAL would ignore the tag."""
        for kind, count, inline in self._entries.values():
            length = count * _SIZES.get(kind, 0)
            if length > self._inline:
                self._check_place(struct.unpack(self.order + self._form, inline)[0], length)

    def _check_place(self, at: int, count: int) -> None:
        if at + count > self.size:
            raise _BrokenError(f"its directory needs the bytes {at} to {at + count} of {self.size}")

    def _bytes(self, at: int, count: int) -> bytes:
        self._check_place(at, count)
        self._file.seek(at)
        return self._file.read(count)


def _layout(directory: _Directory) -> Layout | None:
    """Return the layout of an image; None for what GDAL does not open either. Raises _BrokenError."""
    rows, cols = directory.shape
    is_tiled = directory.numbers(_TILES[0]) is not None
    height = directory.number(_TILE_LENGTH if is_tiled else _ROWS_PER_STRIP, rows)
    width = directory.number(_TILE_WIDTH, cols) if is_tiled else cols
    samples = directory.number(_SAMPLES, 1)
    if min(rows, cols, height, width, samples) < 1:
        return None
    height = height if is_tiled else min(height, rows)
    planes = samples if directory.number(_PLANAR, 1) == 2 else 1
    down, across = -(-rows // height), -(-cols // width)
    offsets, sizes = (directory.numbers(tag) for tag in (_TILES if is_tiled else _STRIPS))
    if offsets is None or sizes is None:
        return None
    if min(len(offsets), len(sizes)) < planes * down * across:
        raise _BrokenError(
            f"it has {planes * down * across} blocks but the places of {min(len(offsets), len(sizes))}"
        )
    shape = planes, down, across
    offsets, sizes = (numbers[: planes * down * across].reshape(shape) for numbers in (offsets, sizes))
    _check_places(offsets, sizes, directory.size)
    return Layout(
        (rows, cols),
        (height, width),
        is_tiled,
        directory.number(_COMPRESSION, 1) if directory.number(_FILL_ORDER, 1) == 1 else 0,
        directory.number(_PREDICTOR, 1),
        directory.number(_BITS, 1),
        1 if planes > 1 else samples,
        directory.order,
        offsets,
        sizes,
    )


def _check_places(offsets: NDArray[np.uint64], sizes: NDArray[np.uint64], size: int) -> None:
    beyond = (offsets > size) | (sizes > size) | (offsets + sizes > size)
    broken = beyond | ((offsets == 0) != (sizes == 0))
    if broken.any():
        plane, row, col = (int(number) for number in np.argwhere(broken)[0])
        raise _BrokenError(
            f"{int(broken.sum())} of {broken.size} blocks are not in it, first that in row {row}, column "
            f"{col} of band {plane + 1} (bytes {offsets[plane, row, col]} to "
            f"{int(offsets[plane, row, col]) + int(sizes[plane, row, col])} of {size})"
        )
