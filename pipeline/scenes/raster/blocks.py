"""Decoded blocks of a scene's rasters, each decoded once for all who share a cache."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Interleaving, MaskFlags
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from pipeline.errors import CorruptImageError
from pipeline.redaction import redacted
from pipeline.scenes.raster.cache import Block, current_cache
from pipeline.scenes.raster.codestream import check_complete
from pipeline.scenes.raster.compressed import complaints, damaged_block
from pipeline.scenes.raster.datasets import FileState, file_state, is_remote, unreadable, with_dataset
from pipeline.scenes.raster.grids import source_extent
from pipeline.scenes.raster.tiff import tiff_of
from pipeline.scenes.scene import BandSource, Warp

_SMALL_PX = 256
_GROUP_PX = 512
_GROUP_BYTES = 8_000_000
_REMOTE_PX = 2048
_WHY = "is truncated or damaged; fetch it again."
_Extent = tuple[slice, slice]
"""Rows and columns."""


@dataclass(frozen=True)
class Raster:
    """One version of a raster file, and its division into blocks.

    A block of ours is the file's own if that is at least 256 px a side; else as many of them as make up 512
    px, but not more than 8 MB, since single strips and small blocks cost more to look up than to decode.
    Behind a URL it is 2048 px wide: neighbours in a row are adjacent in the file, and come with one request.
    """

    href: str
    state: FileState
    shape: tuple[int, int]
    """Rows and columns."""
    transform: Affine
    native: tuple[int, int]
    """Rows and columns of the file's own blocks."""
    dtypes: tuple[str, ...]
    masked: tuple[bool, ...]
    """For each band, whether the file's internal mask applies to it."""
    interleaved: bool
    """Whether decoding one band decodes all."""
    nodata_declared: tuple[bool, ...] = ()
    """For each band, whether the file declares a number without data."""
    crs: str = ""
    """The CRS as WKT; empty without one."""
    warp: Warp | None = None
    """The grid to which it is warped; shape, transform and blocks are then those of the warped raster."""

    @property
    def block_shape(self) -> tuple[int, int]:
        """Rows and columns of a block, except for those cut by the raster's border."""
        rows, cols = (
            side if side >= _SMALL_PX else math.ceil(_GROUP_PX / side) * side for side in self.native
        )
        if is_remote(self.href):
            cols = math.ceil(_REMOTE_PX / self.native[1]) * self.native[1]
            rows = max(self.native[0], _SMALL_PX // self.native[0] * self.native[0])
        cols = min(cols, self.shape[1])
        bytes_a_row = cols * sum(np.dtype(self.dtypes[index - 1]).itemsize for index in self.decoded_with(1))
        at_most = max(1, _GROUP_BYTES // (self.native[0] * bytes_a_row)) * self.native[0]
        return min(rows, at_most, self.shape[0]), cols

    def decoded_with(self, index: int) -> tuple[int, ...]:
        """Return the bands that are decoded together with band `index`."""
        return tuple(range(1, len(self.dtypes) + 1)) if self.interleaved else (index,)

    def blocks(self, bands: tuple[int, ...], rows: slice, cols: slice) -> Iterator[Block]:
        """Yield the blocks that a rectangle touches, row by row."""
        height, width = self.block_shape
        for row in range(rows.start // height, (rows.stop - 1) // height + 1):
            for col in range(cols.start // width, (cols.stop - 1) // width + 1):
                yield Block(self.href, self.state, bands, row, col, self.warp)

    def extent(self, block: Block) -> tuple[slice, slice]:
        """Return the rows and columns of the raster that a block covers."""
        height, width = self.block_shape
        return (
            slice(block.row * height, min((block.row + 1) * height, self.shape[0])),
            slice(block.col * width, min((block.col + 1) * width, self.shape[1])),
        )

    def nbytes(self, block: Block) -> int:
        """Return the bytes of a decoded block."""
        rows, cols = self.extent(block)
        depth = sum(np.dtype(self.dtypes[index - 1]).itemsize for index in block.bands) or 1
        return (rows.stop - rows.start) * (cols.stop - cols.start) * depth


def raster_of(source: BandSource) -> Raster:
    """Return the raster of a band in its present version. Raises CorruptImageError if it can't be opened."""
    state = file_state(source.href)
    return current_cache().described(_described, source.href, state, f"Band {source.name}", source.warp)


def _described(href: str, state: FileState, what: str, warp: Warp | None) -> Raster:
    check_complete(href, what)
    tiff_of(href, state)  # raises if blocks are not there
    return with_dataset(href, what, state, partial(_describe, href, state, warp), warp)


def _describe(href: str, state: FileState, warp: Warp | None, dataset: DatasetReader) -> Raster:
    # GDAL takes the fourth of four 8-bit bands for opacity; here it is near infrared.
    masked = tuple(
        MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags for flags in dataset.mask_flag_enums
    )
    together = dataset.count > 1 and dataset.interleaving is Interleaving.pixel
    return Raster(
        href,
        state,
        dataset.shape,
        Affine(*dataset.transform[:6]),
        dataset.block_shapes[0],
        tuple(dataset.dtypes),
        masked,
        interleaved=together and len(set(dataset.dtypes)) == 1 and len(set(dataset.block_shapes)) == 1,
        nodata_declared=tuple(number is not None for number in dataset.nodatavals),
        crs=str(dataset.crs.to_wkt()) if dataset.crs else "",
        warp=warp,
    )


def blocks_of(raster: Raster, source: BandSource, rows: slice, cols: slice) -> Iterator[Block]:
    """Yield all blocks that `read` needs for a rectangle of a band, its mask included."""
    yield from raster.blocks(raster.decoded_with(source.index), rows, cols)
    if raster.masked[source.index - 1]:
        yield from raster.blocks((), rows, cols)


def read(
    source: BandSource, rows: slice, cols: slice
) -> tuple[NDArray[np.generic], NDArray[np.bool_] | None]:
    """Read digital numbers (H, W) of a rectangle of a raster's own grid, and its masks as one if it has any.

    Both are read-only: they may be views of cached blocks. Masks are that of the file, and `source.mask`.

    Raises
    ------
    CorruptImageError
        If a block can't be decoded, naming file, band and block. JPEG 2000 has no checksums: what is
        truncated, missing or not a codestream is found, bits that changed inside one are not.
    """
    raster = raster_of(source)
    bands = raster.decoded_with(source.index)
    numbers = _assemble(raster, source, bands, rows, cols)
    masks = []
    if raster.masked[source.index - 1]:
        masks.append(_assemble(raster, source, (), rows, cols).astype(np.bool_, copy=False))
    if source.mask:
        values, more = read(source.mask, rows, cols)
        masks += [np.greater(values, 0), *([] if more is None else [more])]
    return numbers, np.logical_and.reduce(masks) if masks else None


def _assemble(
    raster: Raster, source: BandSource, bands: tuple[int, ...], rows: slice, cols: slice
) -> NDArray[np.generic]:
    blocks = list(raster.blocks(bands, rows, cols))
    plane = bands.index(source.index) if bands else 0
    whole: NDArray[np.generic] | None = None
    for block in blocks:
        pixels = decoded(raster, source, block)[plane]
        there = raster.extent(block)
        top, bottom = max(rows.start, there[0].start), min(rows.stop, there[0].stop)
        left, right = max(cols.start, there[1].start), min(cols.stop, there[1].stop)
        part = pixels[
            top - there[0].start : bottom - there[0].start, left - there[1].start : right - there[1].start
        ]
        if len(blocks) == 1:
            return part
        if whole is None:
            whole = np.empty((rows.stop - rows.start, cols.stop - cols.start), part.dtype)
        whole[top - rows.start : bottom - rows.start, left - cols.start : right - cols.start] = part
    if whole is None:
        raise ValueError(f"A rectangle has at least one pixel. Received: {rows=}, {cols=}")
    return whole


def decoded(raster: Raster, source: BandSource, block: Block) -> NDArray[np.generic]:
    """Return the pixels of a block (bands, H, W) from the current cache. Errors as `read`."""
    return current_cache().get(block, partial(_decode, raster, source, block))


def _decode(raster: Raster, source: BandSource, block: Block) -> NDArray[np.generic]:
    extent = raster.extent(block)

    def decode(rows: slice, cols: slice, dataset: DatasetReader) -> NDArray[np.generic]:
        window = Window.from_slices(rows, cols)
        if block.bands:
            return np.asarray(dataset.read(list(block.bands), window=window))
        return np.asarray(dataset.read_masks(raster.masked.index(True) + 1, window=window)[None] != 0)

    what = f"Band {source.name}"
    try:
        with complaints() as complained:
            pixels = with_dataset(raster.href, what, raster.state, partial(decode, *extent), raster.warp)
    except RasterioError as error:
        failed = _failed(what, *_damaged(raster, what, extent, decode))
        raise unreadable(raster.href, failed, _WHY, error) from redacted(error)
    place = _wrong(raster, source, block, pixels)
    if complained and not place:
        place = block.row, block.col, extent
    if place:
        raise CorruptImageError(f"{_failed(what, *place)}: {raster.href} {_WHY}")
    return pixels


def _failed(what: str, row: int, col: int, extent: _Extent) -> str:
    rows, cols = extent
    return (
        f"{what} can't be decoded in block row {row}, column {col} (pixel rows {rows.start}-{rows.stop}, "
        f"columns {cols.start}-{cols.stop})"
    )


def _wrong(
    raster: Raster, source: BandSource, block: Block, pixels: NDArray[np.generic]
) -> tuple[int, int, _Extent] | None:
    """Find a block of a local GeoTIFF that was decoded without an error but is damaged."""
    band = source.index if block.bands else None
    extent = raster.extent(block)
    if not raster.warp:
        known = pixels if block.bands else None
        return damaged_block(raster.href, raster.state, band, extent, known)
    if tiff_of(raster.href, raster.state) is None:
        return None
    place = partial(source_extent, *extent)
    needed = with_dataset(raster.href, f"Band {source.name}", raster.state, place, raster.warp)
    return needed and damaged_block(raster.href, raster.state, band, needed)


def _damaged(
    raster: Raster,
    what: str,
    extent: _Extent,
    decode: Callable[[slice, slice, DatasetReader], NDArray[np.generic]],
) -> tuple[int, int, _Extent]:
    """Find row, column and extent of the file's own block in `extent` that can't be decoded."""
    height, width = raster.native
    first = extent[0].start // height, extent[1].start // width, extent
    if is_remote(raster.href):  # each attempt would be repeated, and the network may be the cause
        return first
    for top in range(extent[0].start, extent[0].stop, height):
        for left in range(extent[1].start, extent[1].stop, width):
            rows, cols = (
                slice(top, min(top + height, raster.shape[0])),
                slice(left, min(left + width, raster.shape[1])),
            )
            if (rows, cols) == extent:
                return first
            try:
                with_dataset(raster.href, what, raster.state, partial(decode, rows, cols), raster.warp)
            except RasterioError:
                return top // height, left // width, (rows, cols)
    return first
