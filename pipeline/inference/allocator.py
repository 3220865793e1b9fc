"""How this process's allocator keeps the memory of tiles, which come and go by the hundred.

The settings are those of glibc; with another C library nothing happens.
"""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Names of settings in glibc's `malloc.h`; see mallopt(3)."""


def keep_memory_compact() -> None:
    """Let threads share one heap, and give images back at once.

    By default each thread keeps what it freed for itself: with tiles of ten bands that were 300 MB of 2900
    that nobody used. Blocks and bands stay in the heap, for fresh pages cost more than they save.
    """
    for setting, value in ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, 16 << 20), (_TRIM_THRESHOLD, 256 << 20)):
        _call("mallopt", setting, value)


def give_back_memory() -> None:
    """What is free in the heap goes back to the system."""
    _call("malloc_trim", 0)


def _call(name: str, *arguments: int) -> None:
    try:
        function = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError, TypeError):
        return
    function(*arguments)
