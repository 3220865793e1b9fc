"""Decoded blocks of a scene's rasters, each decoded once for the whole process."""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Interleaving, MaskFlags
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from pipeline.redaction import told
from pipeline.scenes.aside import Aside
from pipeline.scenes.datasets import FileState, file_state, is_remote, unreadable, with_dataset
from pipeline.scenes.grids import Warp
from pipeline.scenes.scene import BandSource

DEFAULT_BUDGET = 256_000_000
"""Bytes of decoded blocks that are kept unless someone sets another budget."""

_SMALL_PX = 256
_GROUP_PX = 512
_GROUP_BYTES = 8_000_000
_REMOTE_PX = 2048


class Block(NamedTuple):
    """What names a block: a version of a file, its bands (none: its mask), and the block's place."""

    href: str
    state: FileState
    bands: tuple[int, ...]
    row: int
    col: int
    warp: Warp | None = None


@dataclass(frozen=True)
class Raster:
    """One version of a raster file, and how it is cut into blocks.

    A block of ours is the file's own where that is at least 256 px a side; else as many of them as make up
    512 px, but not more than 8 MB: single strips and small blocks cost more to look up than to decode. Behind
    a URL it is 2048 px wide: neighbours in a row lie behind each other, and come with one request.
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
    """Of each band, whether the file's internal mask holds for it."""
    interleaved: bool
    """Whether decoding one band decodes all."""
    warp: Warp | None = None
    """What it is seen through: then shape, transform and blocks are those of the warped raster."""

    @property
    def block_shape(self) -> tuple[int, int]:
        """Rows and columns of a block, but for those cut by the raster's border."""
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
        """The bands whose blocks come out of the decoder together with those of band `index`."""
        return tuple(range(1, len(self.dtypes) + 1)) if self.interleaved else (index,)

    def blocks(self, bands: tuple[int, ...], rows: slice, cols: slice) -> Iterator[Block]:
        """The blocks that a rectangle touches, row by row."""
        height, width = self.block_shape
        for row in range(rows.start // height, (rows.stop - 1) // height + 1):
            for col in range(cols.start // width, (cols.stop - 1) // width + 1):
                yield Block(self.href, self.state, bands, row, col, self.warp)

    def extent(self, block: Block) -> tuple[slice, slice]:
        """The rows and columns of the raster that a block covers."""
        height, width = self.block_shape
        return (
            slice(block.row * height, min((block.row + 1) * height, self.shape[0])),
            slice(block.col * width, min((block.col + 1) * width, self.shape[1])),
        )

    def nbytes(self, block: Block) -> int:
        """Bytes that a block takes when decoded."""
        rows, cols = self.extent(block)
        depth = sum(np.dtype(self.dtypes[index - 1]).itemsize for index in block.bands) or 1
        return (rows.stop - rows.start) * (cols.stop - cols.start) * depth


class BlockCache:
    """Decoded blocks, kept until others need the room. Safe to use from several threads.

    Given up first are blocks that no one has announced to need, the least recently used of them; then the one
    that is needed last (Belady, IBM Systems Journal 5(2):78, 1966). By time of use alone, windows
    read row by row would lose each block just before it is needed again. One that is still needed is put
    aside on disk: windows read row by row need a whole row of blocks again, 350 MB of a granule's.

    Memory: `budget` bytes and the blocks that are being decoded; the block decoded last is kept even if it
    alone is larger. Not shared with forked processes, which begin with an empty one.
    """

    def __init__(self, budget: int = DEFAULT_BUDGET) -> None:
        self._budget = budget
        self._start()

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Block, NDArray[np.generic]] = OrderedDict()
        self._next_use: dict[Block, int] = {}
        self._pending: dict[Block, Future[NDArray[np.generic]]] = {}
        self._aside = Aside()
        self._held = 0
        self._decoded = 0

    @property
    def held(self) -> int:
        """Bytes kept now."""
        return self._held

    @property
    def decoded(self) -> int:
        """How many blocks have been decoded so far."""
        return self._decoded

    @property
    def budget(self) -> int:
        """Bytes that are kept at most; setting a smaller one gives up blocks at once."""
        return self._budget

    @budget.setter
    def budget(self, number: int) -> None:
        with self._lock:
            self._budget = number
            self._shrink()

    def __contains__(self, block: Block) -> bool:
        with self._lock:
            return block in self._kept

    def get(self, block: Block, decode: Callable[[], NDArray[np.generic]]) -> NDArray[np.generic]:
        """The pixels of a block (bands, H, W), read-only; decoded by `decode` unless they are kept.

        Whoever asks while another thread decodes the block waits for it, and gets its error if it fails;
        the next one to ask tries again.
        """
        while True:
            with self._lock:
                if block in self._kept:
                    self._kept.move_to_end(block)
                    return self._kept[block]
                back = self._aside.get(block)
                if back is not None:
                    return self._keep(block, back)
                pending = self._pending.get(block)
                if pending is None:
                    mine = self._pending[block] = Future()
                    break
            try:
                return pending.result()
            except CancelledError:  # the other thread was interrupted: that is no reason to fail here
                continue
        return self._decode(block, decode, mine)

    def _decode(
        self, block: Block, decode: Callable[[], NDArray[np.generic]], pending: Future[NDArray[np.generic]]
    ) -> NDArray[np.generic]:
        try:
            pixels = decode()
        except BaseException as error:
            with self._lock:
                self._pending.pop(block, None)
            if isinstance(error, Exception):
                pending.set_exception(error)
            else:
                pending.cancel()
            raise
        with self._lock:
            self._pending.pop(block, None)
            self._decoded += 1
            self._keep(block, pixels)
        pending.set_result(pixels)
        return pixels

    def _keep(self, block: Block, pixels: NDArray[np.generic]) -> NDArray[np.generic]:
        pixels.flags.writeable = False
        self._kept[block] = pixels
        self._held += pixels.nbytes
        self._shrink()
        return pixels

    def announce(self, next_uses: Mapping[Block, int | None]) -> None:
        """When blocks will be needed next, as a number that grows with time; None for never again."""
        with self._lock:
            for block, next_use in next_uses.items():
                if next_use is None:
                    self._next_use.pop(block, None)
                    self._aside.drop(block)
                else:
                    self._next_use[block] = next_use

    def clear(self) -> None:
        """Give up all blocks, and what is known about rasters behind URLs, whose changes go unnoticed."""
        with self._lock:
            self._kept.clear()
            self._aside.close()
            self._aside = Aside()
            self._held = 0
        _raster.cache_clear()

    def _shrink(self) -> None:
        while self._held > self._budget and len(self._kept) > 1:
            latest = next(reversed(self._kept))
            others = (block for block in self._kept if block != latest)
            # Of equals `max` takes the first: the least recently used.
            last_needed = max(others, key=lambda block: self._next_use.get(block, math.inf))
            pixels = self._kept.pop(last_needed)
            self._held -= pixels.nbytes
            if last_needed in self._next_use:
                self._aside.put(last_needed, pixels)


CACHE = BlockCache()
"""The blocks of this process."""
if hasattr(os, "register_at_fork"):
    # A lock may be held by a thread that the child does not have.
    os.register_at_fork(after_in_child=CACHE._start)


def raster_of(source: BandSource) -> Raster:
    """The raster of a band as it is now. Raises CorruptImageError if it can't be opened."""
    return _raster(source.href, file_state(source.href), f"Band {source.name}", source.warp)


@lru_cache(maxsize=512)
def _raster(href: str, state: FileState, what: str, warp: Warp | None) -> Raster:
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
        warp=warp,
    )


def blocks_of(raster: Raster, source: BandSource, rows: slice, cols: slice) -> Iterator[Block]:
    """All blocks that `read` needs for a rectangle of a band, its mask's included."""
    yield from raster.blocks(raster.decoded_with(source.index), rows, cols)
    if raster.masked[source.index - 1]:
        yield from raster.blocks((), rows, cols)


def read(
    source: BandSource, rows: slice, cols: slice
) -> tuple[NDArray[np.generic], NDArray[np.bool_] | None]:
    """Digital numbers (H, W) of a rectangle of a raster's own grid, and its internal mask if it has one.

    Neither may be written to: they may be parts of what is kept.

    Raises
    ------
    CorruptImageError
        If a block can't be decoded, naming file, band and block. JPEG 2000 has no checksums: what is
        truncated, missing or not a codestream is found, bits that changed inside one are not.
    """
    raster = raster_of(source)
    bands = raster.decoded_with(source.index)
    numbers = _assemble(raster, source, bands, rows, cols)
    if not raster.masked[source.index - 1]:
        return numbers, None
    return numbers, _assemble(raster, source, (), rows, cols).astype(np.bool_, copy=False)


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
    """The pixels of a block (bands, H, W) from the process's cache. Raises CorruptImageError as `read`."""
    return CACHE.get(block, partial(_decode, raster, source, block))


def _decode(raster: Raster, source: BandSource, block: Block) -> NDArray[np.generic]:
    extent = raster.extent(block)

    def decode(rows: slice, cols: slice, dataset: DatasetReader) -> NDArray[np.generic]:
        window = Window.from_slices(rows, cols)
        if block.bands:
            return np.asarray(dataset.read(list(block.bands), window=window))
        return np.asarray(dataset.read_masks(raster.masked.index(True) + 1, window=window)[None] != 0)

    what = f"Band {source.name}"
    try:
        return with_dataset(raster.href, what, raster.state, partial(decode, *extent), raster.warp)
    except RasterioError as error:
        row, col, (rows, cols) = _damaged(raster, what, extent, decode)
        failed = (
            f"{what} can't be decoded in block row {row}, column {col} (pixel rows {rows.start}-{rows.stop}, "
            f"columns {cols.start}-{cols.stop})"
        )
        why = "is truncated or damaged; fetch it again."
        raise unreadable(raster.href, failed, why, raster.warp, partial(decode, *extent)) from told(error)


def _damaged(
    raster: Raster,
    what: str,
    extent: tuple[slice, slice],
    decode: Callable[[slice, slice, DatasetReader], NDArray[np.generic]],
) -> tuple[int, int, tuple[slice, slice]]:
    """Row, column and extent of the file's own block in `extent` that can't be decoded."""
    height, width = raster.native
    first = extent[0].start // height, extent[1].start // width, extent
    if is_remote(raster.href):  # each trial would be repeated, and the fault may well be the network's
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
