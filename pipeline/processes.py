"""Settings of this process, and facts about processes that any operating system answers."""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import platform
import warnings
from functools import cache
from pathlib import Path

import psutil

from pipeline.environment import repair_environment
from pipeline.redaction import keep_secrets

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Names of settings in glibc's `malloc.h`; see mallopt(3)."""
_OBJECTS_UNTIL_COLLECTION = 200_000
"""Python's own 700 makes the collector a seventh of the time of imports, of which nothing is garbage. What
runs leave in cycles is small: with no collection at all the peak memory of a chip was the same."""
_EXPECTED_WARNINGS = (
    # Openers raise GeoreferenceError instead.
    r"Dataset has no geotransform|Could not get geotransform|The given matrix is equal to Affine\.identity",
    # OpenVINO's own converter traces too, and PyTorch has nothing else yet that takes images of any size.
    r"`torch\.jit\.trace",
    # A URL that is no STAC API raises an error.
    r"Server does not advertise any conformance classes",
)
_WITH_OWN_MESSAGES = r"pyogrio\."
"""Modules whose warnings users never see: readers of vector files report what is odd in them."""


@cache
def configure_process() -> None:
    """Configure the environment, memory, logs and warnings of other packages for this process, once.

    The command line and workers call it before they import rasterio. Importing truckscape changes nothing;
    importing `flows`, which workers do first, calls it.
    """
    gc.set_threshold(_OBJECTS_UNTIL_COLLECTION)
    repair_environment()
    # Decoded blocks are kept in `BlockCache`, so GDAL, which would take 5 % of the machine, needs little:
    # COGs, overviews and rasters written by strips took no longer with 16 MB than with 256 MB.
    # Not in a `rasterio.Env`: leaving an environment that sets it empties the cache.
    os.environ.setdefault("GDAL_CACHEMAX", "32")
    for package in ("rasterio", "urllib3"):
        keep_secrets(package)
    for message in _EXPECTED_WARNINGS:  # not `catch_warnings`, which is not safe in threads
        warnings.filterwarnings("ignore", message)
    warnings.filterwarnings("ignore", module=_WITH_OWN_MESSAGES)
    # By default each thread keeps what it freed for itself: with tiles of ten bands that were 300 MB of 2900
    # that nobody used. Threads share one heap instead, and give images back at once. Blocks and bands stay in
    # the heap, for fresh pages cost more than they save.
    for setting, value in ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, 16 << 20), (_TRIM_THRESHOLD, 256 << 20)):
        _call_allocator("mallopt", setting, value)


def give_back_memory() -> None:
    """Return the free part of the heap to the system."""
    _call_allocator("malloc_trim", 0)


def _call_allocator(name: str, *arguments: int) -> None:
    """Call a function of glibc; with another C library nothing happens."""
    try:
        function = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError, TypeError):
        return
    function(*arguments)


def host_name() -> str:
    """Return a name for the machine; on Linux with the namespace of its processes.

    Containers may share the machine's name, and each counts its processes from 1.
    """
    try:
        namespace = Path("/proc/self/ns/pid").readlink().name
    except OSError:
        namespace = ""
    return f"{platform.node()} {namespace}".strip()


def start_of(process: int) -> int | None:
    """Return the start of a process in hundredths of a second, which a reused number does not share.

    None if the process has ended. 0 if the system does not say. On Linux the time counts from the start of
    the machine, so that setting the clock does not move it.
    """
    try:
        found = psutil.Process(process)
        if found.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
        return round((found.create_time() - (psutil.boot_time() if psutil.LINUX else 0)) * 100)
    except psutil.NoSuchProcess:
        return None
    except (psutil.Error, OSError):  # of another user, or hidden
        return 0 if psutil.pid_exists(process) else None


def peak_memory_mb() -> int:
    """Return the largest resident memory (MiB) of this process or of a child that has ended.

    Windows does not report that of children. Where a system reports no peak, the memory of now counts.
    """
    try:
        usage = importlib.import_module("resource")
    except ImportError:
        memory = psutil.Process().memory_info()
        return round(getattr(memory, "peak_wset", memory.rss) / 2**20)
    peak = max(usage.getrusage(who).ru_maxrss for who in (usage.RUSAGE_SELF, usage.RUSAGE_CHILDREN))
    return round(peak / (2**20 if psutil.MACOS else 2**10))
