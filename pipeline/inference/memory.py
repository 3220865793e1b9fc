"""How this process's allocator keeps the memory of tiles, which come and go by the hundred."""

from __future__ import annotations

import contextlib
import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Names of settings in glibc's `malloc.h`; see mallopt(3)."""


def keep_memory_compact() -> None:
    """Let threads share one heap, and give images back at once; where the C library is not glibc, nothing.

    By default each thread keeps what it freed for itself: with tiles of ten bands that were 300 MB of 2900
    that nobody used. Blocks and bands stay in the heap, for fresh pages cost more than they save.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_ARENA_MAX, 1)
    mallopt(_MMAP_THRESHOLD, 16 << 20)
    mallopt(_TRIM_THRESHOLD, 256 << 20)


def give_back_memory() -> None:
    """What is free in the heap goes back to the system; where the C library is not glibc, nothing."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
