"""Prefetching of blocks for windows, and dropping them after their last use."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Self

from rasterio.windows import Window

from pipeline.errors import CorruptImageError
from pipeline.scenes.raster.blocks import Raster, blocks_of, decoded, raster_of
from pipeline.scenes.raster.cache import Block, current_cache
from pipeline.scenes.raster.read import rectangles
from pipeline.scenes.scene import BandSource, Scene

_Needed = dict[Block, tuple[Raster, BandSource]]


def prefetch(
    scene: Scene, window: Window, bands: Iterable[str], pool: ThreadPoolExecutor
) -> list[Future[None]]:
    """Let `pool` decode the blocks of a window that are not decoded yet, one future a block.

    `bands` may hold SCL. A block that can't be decoded is no error here: reading it raises that. Opens
    rasters that no one has read yet, in the calling thread. Raises MissingBandError, and CorruptImageError
    if a raster can't be opened.
    """
    return _submit(_needed(scene, window, bands), pool)


def bytes_of(scene: Scene, window: Window, bands: Iterable[str]) -> int:
    """Return the bytes of all blocks that a window touches. Errors as `prefetch`."""
    return _size(_needed(scene, window, bands))


class Sweep:
    """A sequence of windows of a scene, whose blocks are kept while later windows need them.

        with Sweep(scene, windows, bands) as sweep:
            sweep.prefetch(0, pool)
            ...  # read window 0
            sweep.done(0)

    `bands` are those that are read in every window, including SCL. Errors as `prefetch`. Thread-safe.
    """

    def __init__(self, scene: Scene, windows: Sequence[Window], bands: Sequence[str]) -> None:
        self._cache = current_cache()
        self._needed = [_needed(scene, window, bands) for window in windows]
        self._lock = threading.Lock()
        # The remaining windows that need a block, in order.
        self._uses: dict[Block, list[int]] = {}
        for number, needed in enumerate(self._needed):
            for block in needed:
                self._uses.setdefault(block, []).append(number)

    def __enter__(self) -> Self:
        # At once, so that the first windows don't displace blocks of an earlier sweep that later ones need.
        self._cache.announce({block: numbers[0] for block, numbers in self._uses.items()})
        return self

    def __exit__(self, *_: object) -> None:
        """Release blocks of windows that were not read."""
        self._cache.announce(dict.fromkeys(self._uses))

    def prefetch(self, number: int, pool: ThreadPoolExecutor) -> list[Future[None]]:
        """Let `pool` decode the blocks of window `number`; see the function `prefetch`."""
        self._announce(number)
        return _submit(self._needed[number], pool)

    def done(self, number: int) -> None:
        """Mark window `number` as finished: its blocks are kept for other windows only."""
        self._announce(number, read=True)

    def _announce(self, number: int, read: bool = False) -> None:
        with self._lock:
            for block in self._needed[number] if read else ():
                if number in self._uses[block]:
                    self._uses[block].remove(number)
            next_uses = {block: next(iter(self._uses[block]), None) for block in self._needed[number]}
            self._cache.announce(next_uses)

    def bytes_needed(self, ahead: int = 1) -> int:
        """Return the budget with which each block is decoded once (`BlockCache.budget`).

        `ahead` is the number of windows by which prefetching and reading may be ahead of the first unfinished
        window.
        """
        last_use = {block: number for number, needed in enumerate(self._needed) for block in needed}
        live: _Needed = {}
        most = size = 0
        for number in range(-ahead, len(self._needed)):
            coming = self._needed[number + ahead] if number + ahead < len(self._needed) else {}
            fresh = {block: raster for block, raster in coming.items() if block not in live}
            live |= fresh
            size += _size(fresh)
            most = max(most, size)
            if number >= 0:
                over = {block: live[block] for block in self._needed[number] if last_use[block] == number}
                live = {block: raster for block, raster in live.items() if block not in over}
                size -= _size(over)
        return most


def _needed(scene: Scene, window: Window, bands: Iterable[str]) -> _Needed:
    needed: _Needed = {}
    for source, rows, cols in rectangles(scene, window, bands):
        raster = raster_of(source)
        needed |= dict.fromkeys(blocks_of(raster, source, rows, cols), (raster, source))
    return needed


def _size(needed: _Needed) -> int:
    return sum(raster.nbytes(block) for block, (raster, _) in needed.items())


def _submit(needed: _Needed, pool: ThreadPoolExecutor) -> list[Future[None]]:
    cache = current_cache()
    return [
        pool.submit(copy_context().run, _decode, raster, source, block)
        for block, (raster, source) in needed.items()
        if block not in cache
    ]


def _decode(raster: Raster, source: BandSource, block: Block) -> None:
    try:
        decoded(raster, source, block)
    except CorruptImageError:
        # Nothing was cached, so reading the block raises the same error, with its traceback.
        return
