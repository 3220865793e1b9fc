"""Cache of decoded blocks of rasters. A run has its own; code outside of runs shares one of the process."""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import CancelledError, Future
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.scenes.raster.datasets import FileState
from pipeline.scenes.raster.spill import Spill
from pipeline.scenes.scene import Warp

DEFAULT_BUDGET = 256_000_000
"""Bytes of decoded blocks that are kept unless someone sets another budget."""
_MAX_DESCRIBED = 512
"""Rasters whose layout is remembered."""

_T = TypeVar("_T")


class Block(NamedTuple):
    """Name of a block: a version of a file, its bands (none: its mask), and the block's place."""

    href: str
    state: FileState
    bands: tuple[int, ...]
    row: int
    col: int
    warp: Warp | None = None


class BlockCache:
    """Decoded blocks, kept until others need the room. Safe to use from several threads.

    Given up first are blocks that no one has announced to need, the least recently used of them; then the one
    that is needed last (Belady, IBM Systems Journal 5(2):78, 1966). By time of use alone, windows
    read row by row would lose each block just before it is needed again. One that is still needed is put
    aside on disk: windows read row by row need a whole row of blocks again, 350 MB of a granule's.

    Memory: `budget` bytes and the blocks that are being decoded; the block decoded last is kept even if it
    alone is larger. Not shared with forked processes, which begin with an empty one.

        with BlockCache() as cache:
            ...  # reads in this context, and in copies of it, keep their blocks here; then they are dropped
    """

    def __init__(self, budget: int = DEFAULT_BUDGET) -> None:
        self._budget = budget
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._described: Callable[..., Any] = lru_cache(_MAX_DESCRIBED)(_call)
        self._kept: OrderedDict[Block, NDArray[np.generic]] = OrderedDict()
        self._next_use: dict[Block, int] = {}
        self._pending: dict[Block, Future[NDArray[np.generic]]] = {}
        self._spill = Spill()
        self._held = 0
        self._decoded = 0

    def __enter__(self) -> Self:
        self._token = _CURRENT.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        _CURRENT.reset(self._token)
        self.clear()

    @property
    def held(self) -> int:
        """Bytes kept now."""
        return self._held

    @property
    def decoded(self) -> int:
        """Number of blocks decoded so far."""
        return self._decoded

    @property
    def budget(self) -> int:
        """Limit in bytes; a smaller one drops blocks at once."""
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
        """Return the pixels of a block (bands, H, W), read-only; decoded by `decode` unless cached.

        A thread that requests a block while another one decodes it waits for it, and gets its error if it
        fails. The next request tries again.
        """
        while True:
            with self._lock:
                if block in self._kept:
                    self._kept.move_to_end(block)
                    return self._kept[block]
                back = self._spill.get(block)
                if back is not None:
                    return self._keep(block, back)
                pending = self._pending.get(block)
                if pending is None:
                    mine = self._pending[block] = Future()
                    break
            try:
                return pending.result()
            except CancelledError:  # the other thread was interrupted, which is no failure here
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

    def described(self, describe: Callable[..., _T], *raster: Hashable) -> _T:
        """Return `describe(*raster)`, or what it returned before; `raster` names a version of a file."""
        described: _T = self._described(describe, *raster)
        return described

    def announce(self, next_uses: Mapping[Block, int | None]) -> None:
        """Set the next use of blocks, as a number that grows with time; None for never again."""
        with self._lock:
            for block, next_use in next_uses.items():
                if next_use is None:
                    self._next_use.pop(block, None)
                    self._spill.drop(block)
                else:
                    self._next_use[block] = next_use

    def clear(self) -> None:
        """Drop all blocks, and the layout of all rasters: changes of those behind URLs go unnoticed."""
        self._described = lru_cache(_MAX_DESCRIBED)(_call)
        with self._lock:
            self._kept.clear()
            self._spill.close()
            self._spill = Spill()
            self._held = 0

    def _shrink(self) -> None:
        while self._held > self._budget and len(self._kept) > 1:
            latest = next(reversed(self._kept))
            others = (block for block in self._kept if block != latest)
            # Of equal ones `max` returns the first: the least recently used.
            last_needed = max(others, key=lambda block: self._next_use.get(block, math.inf))
            pixels = self._kept.pop(last_needed)
            self._held -= pixels.nbytes
            if last_needed in self._next_use:
                self._spill.put(last_needed, pixels)


def _call(function: Callable[..., _T], *arguments: Hashable) -> _T:
    return function(*arguments)


_CURRENT = ContextVar("_CURRENT", default=BlockCache())  # noqa: B039 (shared by all code outside of runs)


def current_cache() -> BlockCache:
    """Return the cache of this context: that of its run, or of the process."""
    cache = _CURRENT.get()
    if cache._pid != os.getpid():
        # A lock may be held by a thread that a forked process does not have.
        cache._start()
    return cache
