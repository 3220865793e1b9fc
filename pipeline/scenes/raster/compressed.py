"""Check compressed blocks of local GeoTIFFs by what their compression has: a checksum, a length, an end.

libtiff stops where a block has all its pixels, so that damage before its end is decoded without an error.
"""

from __future__ import annotations

import logging
import re
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from io import RawIOBase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.scenes.raster.datasets import FileState
from pipeline.scenes.raster.tiff import Layout, tiff_of

_DEFLATE, _PACKBITS, _JPEG = (8, 32946), 32773, 7
_CHECKED = {*_DEFLATE, _PACKBITS, _JPEG}
"""Numbers of the compressions that are checked; others have nothing to compare, or libtiff does it."""
_CHUNK = 2**20
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7]")
"""Markers of JPEG that can't stand within entropy-coded data."""


def damaged_block(
    href: str,
    state: FileState,
    band: int | None,
    extent: tuple[slice, slice],
    pixels: NDArray[np.generic] | None = None,
) -> tuple[int, int, tuple[slice, slice]] | None:
    """Return row, column and extent of a damaged block of a local GeoTIFF in some rows and columns, or None.

    `band` is its number; None for the file's mask. `pixels` (bands, H, W) are those of the extent, if they
    are at hand: with them the checksum of deflate costs a fifth of decoding, otherwise as much. Blocks at the
    right and lower border are decompressed in any case.
    """
    layout = _layout(href, state, band is None)
    if layout is None or layout.compression not in _CHECKED:
        return None
    (height, width), plane = layout.block, 0 if band is None else layout.plane(band)
    with Path(href).open("rb", buffering=0) as file:
        for row, col in layout.blocks(*extent):
            rows = slice(row * height, min((row + 1) * height, layout.shape[0]))
            cols = slice(col * width, min((col + 1) * width, layout.shape[1]))
            if not layout.sizes[plane, row, col]:
                continue
            if pixels is not None and layout.compression in _DEFLATE:
                top, left = extent[0].start, extent[1].start
                known = pixels[:, rows.start - top : rows.stop - top, cols.start - left : cols.stop - left]
                stored = _as_stored(layout, known)
                if stored is not None and zlib.adler32(stored.data) == _checksum(
                    file, layout, plane, row, col
                ):
                    continue
            if _is_damaged(href, state, plane, (row, col), band is None):
                return row, col, (rows, cols)
    return None


@lru_cache(4096)
def _is_damaged(href: str, state: FileState, plane: int, place: tuple[int, int], in_mask: bool) -> bool:
    layout = _layout(href, state, in_mask)
    if layout is None:
        return False
    with Path(href).open("rb") as file:
        file.seek(int(layout.offsets[plane, *place]))
        data = file.read(int(layout.sizes[plane, *place]))
    if layout.compression in _DEFLATE:
        return not _is_deflate(data)
    if layout.compression == _JPEG:
        return not _is_jpeg(data)
    rows, cols = layout.block
    least = rows if layout.is_tiled else min(rows, layout.shape[0] - place[0] * rows)
    bytes_a_row = -(-cols * layout.samples * layout.bits // 8)
    return _unpacked(data) not in (least * bytes_a_row, rows * bytes_a_row)


@contextmanager
def complaints() -> Iterator[list[str]]:
    """Collect what libjpeg reports of damaged images in this thread: libtiff makes no errors of it."""
    found: list[str] = []
    handler, thread = logging.Handler(logging.WARNING), threading.get_ident()

    def collect(record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.thread == thread and "JPEGLib" in text:
            found.append(text)

    handler.emit = collect  # type: ignore[method-assign]
    logger = logging.getLogger("rasterio._err")
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)


def _layout(href: str, state: FileState, in_mask: bool) -> Layout | None:
    tiff = tiff_of(href, state)
    return None if tiff is None else tiff.mask if in_mask else tiff.image


def _as_stored(layout: Layout, pixels: NDArray[np.generic]) -> NDArray[np.generic] | None:
    """Return the pixels (bands, H, W) of a block as they were compressed; None if they can't be known."""
    count, rows, cols = pixels.shape
    is_complete = cols == layout.block[1] and (rows == layout.block[0] or not layout.is_tiled)
    if not is_complete or count != layout.samples or layout.bits != 8 * pixels.itemsize:
        return None
    if layout.predictor not in (1, 2):
        return None
    numbers = pixels[0] if count == 1 else np.moveaxis(pixels, 0, -1)
    numbers = np.ascontiguousarray(numbers).view(f"u{pixels.itemsize}")
    if layout.predictor == 2:
        differences = numbers.copy()
        np.subtract(numbers[:, 1:], numbers[:, :-1], out=differences[:, 1:])
        numbers = differences
    return numbers.astype(numbers.dtype.newbyteorder(layout.order), copy=False)


def _checksum(file: RawIOBase, layout: Layout, plane: int, row: int, col: int) -> int | None:
    file.seek(int(layout.offsets[plane, row, col] + layout.sizes[plane, row, col]) - 4)
    text = file.read(4) or b""
    return int.from_bytes(text, "big") if len(text) == 4 else None


def _is_deflate(data: bytes) -> bool:
    """Return whether data are a complete zlib stream (RFC 1950) whose checksum is right."""
    stream = zlib.decompressobj()
    try:
        while data and not stream.eof:
            stream.decompress(data, _CHUNK)
            data = stream.unconsumed_tail
    except zlib.error:
        return False
    return stream.eof


def _unpacked(data: bytes) -> int:
    """Return the bytes that PackBits data unpack to."""
    at, total, end = 0, 0, len(data)
    while at < end:
        head = data[at]
        if head < 128:
            total += min(head + 1, end - at - 1)
            at += head + 2
        else:
            total += 257 - head if head > 128 and at + 1 < end else 0
            at += 2 if head > 128 else 1
    return total


def _is_jpeg(data: bytes) -> bool:
    """Return whether data begin and end as a JPEG image, without markers in its last scan."""
    data = data.rstrip(b"\x00")
    scan = data.rfind(b"\xff\xda")
    return (
        data[:2] == b"\xff\xd8"
        and data[-2:] == b"\xff\xd9"
        and scan > 0
        and _MARKER.search(data, scan + 2, len(data) - 2) is None
    )
