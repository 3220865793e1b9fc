"""GDAL datasets of rasters, local and remote: open once a thread, reopened when their file has changed."""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import rasterio
from rasterio.enums import Interleaving
from rasterio.errors import RasterioError, RasterioIOError
from rasterio.io import DatasetReader

from pipeline.config import Engine
from pipeline.deadline import Deadline
from pipeline.errors import CorruptImageError, IncompleteReadError, NotAProductError, RefusedReadError
from pipeline.redaction import redacted, without_secrets
from pipeline.scenes import refusals
from pipeline.scenes.raster.grids import warped
from pipeline.scenes.scene import Warp

_T = TypeVar("_T")

FileState = tuple[int, ...] | None
"""Version of a local file; None if unknown."""

DRIVERS = ["GTiff", "JP2OpenJPEG"]
"""GDAL's drivers that may open a raster; others (VRT, WMS) follow addresses in a file."""

REMOTE_OPTIONS: Mapping[str, Any] = {
    "GDAL_INGESTED_BYTES_AT_OPEN": 32768,  # a header of a COG in one request
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MULTIPLEX": "YES",
    "GDAL_HTTP_VERSION": "2TLS",
    "GDAL_HTTP_MAX_RETRY": 2,
    "GDAL_HTTP_RETRY_DELAY": 0.5,
    "GDAL_HTTP_CONNECTTIMEOUT": 10,
    # A hanging transfer ends, a slow one continues.
    "GDAL_HTTP_LOW_SPEED_LIMIT": 100,
    "GDAL_HTTP_LOW_SPEED_TIME": 15,
    "VSI_CACHE": True,
}
"""GDAL settings for rasters behind a URL; the environment's have priority."""

# GDAL's own threads swallow decoding errors of JPEG 2000: blocks that fail come back as zeros (seen with
# GDAL 3.10). Parallel reading is left to the caller's threads.
# Overviews, masks and metadata beside a raster (.ovr, .msk, .aux.xml) are ignored: GDAL opens them with any
# driver, and a VRT there reads any file of this machine.
_OPTIONS: Mapping[str, Any] = {"GDAL_NUM_THREADS": "1", "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}
_REMOTE_PAUSES_S = (0.2, 0.4, 0.8)
_PATIENCE_S = 60.0
"""No attempt at a remote raster begins later. One takes 45 s at most without progress: three requests of
GDAL (see `REMOTE_OPTIONS`)."""
_OPEN_PER_THREAD = 32
_LARGE_BYTES = 2**26
"""Size of decoded blocks from which one is decoded at a time, and GDAL keeps nothing of it."""
_SHARE_OF_BLOCK = 8
"""Memory of a run by that of its largest block. While blocks are decoded and put aside, five of them are in
memory; the rest is for networks and tiles. A file of some kilobytes can claim more."""
_MEMORY_MB = ContextVar("_MEMORY_MB", default=Engine().memory_mb)


@contextmanager
def within_memory(memory_mb: int) -> Iterator[None]:
    """Refuse rasters in this context whose blocks need more than a run with `memory_mb` has for them."""
    token = _MEMORY_MB.set(memory_mb)
    try:
        yield
    finally:
        _MEMORY_MB.reset(token)


def remote_options() -> dict[str, Any]:
    """Return `REMOTE_OPTIONS` without those that the environment sets."""
    return {name: value for name, value in REMOTE_OPTIONS.items() if name not in os.environ}


def is_remote(href: str) -> bool:
    """Return whether GDAL reads `href` over the network."""
    return href.startswith(("/vsicurl/", "/vsis3/", "/vsigs/", "/vsiaz/"))


def unreadable(href: str, failed: str, why: str, error: RasterioError) -> CorruptImageError:
    """Return the error for a raster that can't be read; behind a URL it is transient, unless refused there.

    GDAL's errors don't tell bytes that never came from bytes that can't be decoded. `failed` names what could
    not be done, `why` the cause where the file is on this machine, `error` is what rasterio raised.
    """
    if not is_remote(href):
        return CorruptImageError(f"{failed}: {href} {why}")
    refusal = refusals.gdal_refusal(href, error)
    if refusal:
        return RefusedReadError(f"{failed}: {refusals.address(href)} ({refusal})")
    said = f" ({error})" if str(error).startswith(("CURL error", "HTTP response")) else ""
    return IncompleteReadError(
        f"{failed}: incomplete read of {href}: server or network error, or the file there is damaged{said}."
    )


def local_file(href: str) -> Path | None:
    """Return the local file behind `href`: itself, or the zip around it; None if remote."""
    if href.startswith("/vsizip/"):
        archive, _, _ = href.removeprefix("/vsizip/").removeprefix("{").partition("}")
        return Path(archive)
    return None if href.startswith("/vsi") else Path(href)


def file_state(href: str) -> FileState:
    """Return the present version of the local file behind `href`.

    It includes the time of change of its inode, so that copies with the same time of modification are
    noticed.
    """
    path = local_file(href)
    try:
        status = os.stat(path) if path else None  # noqa: PTH116 (asked for at every read)
    except OSError:
        return None
    return status and (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)


def open_raster(href: str, what: str, warp: Warp | None = None) -> DatasetReader:
    """Open a rasterio dataset, warped to another grid with `warp`.

    `what` names it in the CorruptImageError raised if it can't be opened, or has too large blocks (see
    `within_memory`): RefusedReadError if a server refuses it, IncompleteReadError if that fails.
    NotAProductError if its numbers are complex.
    """

    if not href.startswith("/vsi") and Path(f"{href}.msk").exists():
        raise CorruptImageError(
            f"{what} can't be opened: its mask is in another file, {href}.msk, which is not read. Write both "
            "as one, e.g. gdal_translate -of COG."
        )

    def open_it() -> DatasetReader:
        with _environment(href):
            dataset = DatasetReader(href, driver=DRIVERS)  # rasterio.open takes one driver only
            _check_numbers(dataset)
            return warped(dataset, warp) if warp else dataset

    try:
        return _persistently(href, open_it)
    except RasterioIOError as error:
        why = "is not there, not a raster, truncated or damaged."
        raise unreadable(href, f"{what} can't be opened", why, error) from redacted(error)


def _check_numbers(dataset: DatasetReader) -> None:
    """Refuse complex numbers, and blocks that are too large for the memory."""
    name = without_secrets(dataset.name)
    if any(dtype.startswith("complex") for dtype in dataset.dtypes):
        raise NotAProductError(
            f"{name} has complex numbers; those of a scene are real. Write it as such, e.g. gdal_translate "
            "-ot Float32."
        )
    size_mb, most_mb = _block_bytes(dataset) / 1e6, _MEMORY_MB.get() / _SHARE_OF_BLOCK
    if size_mb > most_mb:
        rows, cols = dataset.block_shapes[0]
        raise CorruptImageError(
            f"{name} has blocks of {cols} x {rows} pixels, {size_mb:.0f} MB each, of which a run has memory "
            f"for {most_mb:.0f} MB. Write it again in tiles, e.g. gdal_translate -of COG, or set "
            f"engine.memory_mb={math.ceil(size_mb * _SHARE_OF_BLOCK)}."
        )


def _block_bytes(dataset: DatasetReader) -> int:
    """Return the bytes that GDAL decodes at once: a block, of all bands where they alternate."""
    source: DatasetReader = getattr(dataset, "src_dataset", dataset)
    rows, cols = source.block_shapes[0]
    is_jpeg_2000 = source.driver == "JP2OpenJPEG"
    together = source.count if is_jpeg_2000 or source.interleaving is Interleaving.pixel else 1
    sizes = [np.dtype(dtype).itemsize for dtype in source.dtypes[:together]]
    # OpenJPEG decodes to 32 bits.
    return int(rows) * int(cols) * (sum(sizes) + (4 * together if is_jpeg_2000 else 0))


def local_raster(path: Path | str, what: str) -> str:
    """Return the absolute path of a raster that has to be a file of this machine, such as labels or a map.

    GDAL and rasterio take other texts for addresses (`/vsicurl/`, `zip+https://`, `GTIFF_DIR:`), so that a
    server would be asked. Raises CorruptImageError if there is no such file.
    """
    place = Path(path).absolute()
    if not place.is_file():
        raise CorruptImageError(f"{what} can't be opened: {path} is no file of this machine.")
    return str(place)


def with_dataset(
    href: str, what: str, state: FileState, action: Callable[[DatasetReader], _T], warp: Warp | None = None
) -> _T:
    """Return `action` of this thread's dataset of `href`, with a few attempts behind a URL.

    `state` is the wanted version of the file: a dataset of an older one is closed.

    Raises
    ------
    RasterioError
        If `action` raises it, the last time. The dataset is closed then.
    CorruptImageError
        If the raster can't be opened.
    """
    datasets = _Datasets.of_this_thread()

    def act() -> _T:
        try:
            with _environment(href):
                dataset, size = datasets.get(href, what, state, warp)
                if size < _LARGE_BYTES:
                    return action(dataset)
                with _one_at_a_time:
                    done = action(dataset)
                if warp is None:  # each window of a warp needs the block again
                    datasets.drop(href, warp)
                return done
        except RasterioError:
            datasets.drop(href, warp)
            raise

    return _persistently(href, act)


def _persistently(href: str, action: Callable[[], _T]) -> _T:
    """Return the result of `action`, with a few attempts behind a URL.

    GDAL repeats failed requests, but not when a body was cut short. A refusal is final. A server without
    progress is given up within 105 s: no attempt begins after the first minute.
    """
    deadline = Deadline(_PATIENCE_S)
    for pause in _REMOTE_PAUSES_S if is_remote(href) else ():
        try:
            return action()
        except RasterioError as error:
            if refusals.gdal_refusal(href, error) or not deadline.pause(pause):
                raise
    return action()


def _environment(href: str) -> rasterio.Env:
    if not is_remote(href):
        return rasterio.Env(**_OPTIONS)
    # Otherwise GDAL would cache the broken answer, and reopening would return it again.
    return rasterio.Env(**_OPTIONS, **remote_options(), CPL_VSIL_CURL_NON_CACHED=href)


class _Datasets(threading.local):
    """Open rasters of this thread; the least recently used is closed first.

    GDAL datasets are not safe to share between threads, nor across a fork; and opening a JPEG 2000 file for
    every window costs more than decoding it.
    """

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._open: OrderedDict[tuple[str, Warp | None], tuple[FileState, DatasetReader, int]] = OrderedDict()

    @staticmethod
    def of_this_thread() -> _Datasets:
        if _datasets._pid != os.getpid():
            _datasets._start()
        return _datasets

    def get(self, href: str, what: str, state: FileState, warp: Warp | None) -> tuple[DatasetReader, int]:
        """Return an open raster, and the bytes that it decodes at once."""
        name = href, warp
        if name in self._open and self._open[name][0] != state:
            self.drop(*name)
        if name not in self._open:
            while len(self._open) >= _OPEN_PER_THREAD:
                self._open.popitem(last=False)[1][1].close()
            dataset = open_raster(href, what, warp)
            self._open[name] = (state, dataset, _block_bytes(dataset))
        self._open.move_to_end(name)
        return self._open[name][1:]

    def drop(self, href: str, warp: Warp | None) -> None:
        if (href, warp) in self._open:
            self._open.pop((href, warp))[1].close()


_datasets = _Datasets()
_one_at_a_time = threading.Lock()
