"""Roads of OpenStreetMap from an Overpass server, cached as files."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any

import pyproj
import requests
from odc.geo.geobox import GeoBox

from pipeline.errors import RoadsError, RoadsUnreachableError, VectorFileError
from pipeline.roads.tags import TRUCK_HIGHWAYS
from pipeline.scenes.download import close_redirect
from pipeline.storage.atomic import replacing
from pipeline.storage.untrusted_vectors import vector_source

log = logging.getLogger(__name__)

OVERPASS_URL = "https://overpass-api.de/api/interpreter"
WAIT_S = 30.0
"""Longest wait for the first byte. A server sends nothing until its query is done."""
_QUERY_S = 5.0
"""The server gets so many seconds less for the query, so that its own word on a timeout arrives."""
_SLOWEST = 10_000.0
"""Bytes a second that an answer must keep up after the first wait."""
_WHOLE_S = 600.0
_MOST_BYTES = 2**29
"""Limit of an answer: the roads of a granule have some 100 MB."""
_BUSY_S = 120.0
"""Longest time for all attempts at a busy server together, without the last answer."""
_ATTEMPTS = 6
_BUSY = (429, 502, 503, 504)
_CHUNK = 1 << 12
_WAITING = 256
"""Chunks of an answer in memory, so that a fast server waits for a slow disk."""
_TAIL = 4096
"""Bytes at the end of an answer that show whether it is complete."""
_INSTEAD = "try later, set traffic.overpass_url to another server, or give --roads a file"


def overpass_roads(
    grid: GeoBox,
    folder: Path,
    *,
    margin_m: float = 0.0,
    url: str = OVERPASS_URL,
    wait_s: float = WAIT_S,
    backoff_s: float = 5.0,
    busy_s: float = _BUSY_S,
) -> Path:
    """Fetch the roads on `grid` and up to `margin_m` around it as an OpenStreetMap XML file for `read_roads`.

    Ways of `TRUCK_HIGHWAYS`, (c) OpenStreetMap contributors, ODbL. The file is in `folder`, named by the
    hash of the query, and is used again for the same query; delete it for newer roads. The answer begins
    within `wait_s`, keeps up 10 kB/s from then on, and ends within ten minutes or `wait_s`, the longer of
    both. A busy server (429, 502, 503, 504) gets five retries, with growing pauses or those that it asks for,
    for `busy_s` in total.

    Raises
    ------
    RoadsError
        If the grid has no CRS, the server can't be reached in time, or its answer is incomplete, larger than
        512 MB or no OpenStreetMap data: out of time or memory, Overpass answers with status 200 and a remark.
        RoadsUnreachableError if the error is transient.
    OutputError
        If the file can't be written.
    """
    query = _query(_boxes(grid, margin_m))
    path = folder / f"{hashlib.sha256(query.encode()).hexdigest()[:16]}.osm"
    if path.is_file():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    server_s = max(1, round(wait_s - _QUERY_S))
    log.info("roads: asking %s, for %g s at most", url, wait_s)
    with replacing(path) as part:
        _download(url, f"[out:xml][timeout:{server_s}];{query}", part, wait_s, backoff_s, busy_s)
    return path


def _download(url: str, query: str, part: Path, wait_s: float, backoff_s: float, busy_s: float) -> None:
    begun = time.monotonic()
    for attempt in range(_ATTEMPTS):
        answer = _Answer(url, query, wait_s)
        if answer.status not in _BUSY:
            break
        pause_s = _pause(answer.retry_after, backoff_s * 2**attempt)
        if attempt == _ATTEMPTS - 1 or time.monotonic() - begun + pause_s > busy_s:
            raise RoadsUnreachableError(
                f"Roads can't be fetched: {url} is busy, it answers with HTTP status {answer.status}; "
                f"{_INSTEAD}."
            )
        log.warning("roads: %s is busy (HTTP status %d); next attempt in %g s", url, answer.status, pause_s)
        time.sleep(pause_s)
    if answer.status != requests.codes.ok:
        raise RoadsError(
            f"Roads can't be fetched: {url} answers with HTTP status {answer.status}. Check "
            "traffic.overpass_url, or give --roads a file."
        )
    tail = b""
    with part.open("wb") as file:
        for chunk in answer.body():
            file.write(chunk)
            tail = (tail + chunk)[-_TAIL:]
    if b"<remark>" in tail and b"timed out" in tail:
        raise RoadsUnreachableError(
            f"Roads can't be fetched: {url} ran out of time. Raise traffic.overpass_wait_s ({wait_s:g} s), "
            f"or {_INSTEAD}."
        )
    if not tail.rstrip().endswith(b"</osm>") or b"<remark>" in tail or not _is_readable(part):
        raise RoadsUnreachableError(f"Roads can't be fetched: the answer of {url} is incomplete; {_INSTEAD}.")


def _is_readable(part: Path) -> bool:
    """Return False for an answer that no run could read; it is not kept, or the next run would find it."""
    with part.open("rb") as file:
        is_xml = file.read(_TAIL).lstrip().startswith(b"<")
    try:
        with vector_source(part, "Roads"):
            return is_xml
    except VectorFileError:
        return False


def _pause(asked: str | None, own_s: float) -> float:
    """Return the pause that a server asks for in seconds, else our own."""
    return float(asked) if asked is not None and asked.strip().isdecimal() else own_s


class _Answer:
    """Answer to a query, with a limit for all of it.

    A thread of its own reads it: the time limits of sockets are for each address and each packet, so a server
    that sends a byte now and then would never reach them.
    """

    def __init__(self, url: str, query: str, wait_s: float) -> None:
        self._url, self._wait_s, self._begun, self._size = url, wait_s, time.monotonic(), 0
        self._came: Queue[Any] = Queue(_WAITING)
        self._abandoned = Event()
        Thread(target=self._ask, args=(query,), daemon=True, name="overpass").start()
        self.status: int
        self.retry_after: str | None
        self.status, self.retry_after = self._next()

    def body(self) -> Iterator[bytes]:
        """Yield the body; RoadsUnreachableError if it breaks off or is too slow."""
        while (chunk := self._next()) is not None:
            self._size += len(chunk)
            if self._size > _MOST_BYTES:
                self._abandoned.set()
                raise RoadsError(
                    f"Roads can't be fetched: the answer of {self._url} is larger than "
                    f"{_MOST_BYTES >> 20} MB. Check traffic.overpass_url, or give --roads a file."
                )
            yield chunk

    def _next(self) -> Any:
        limit_s = min(self._wait_s + self._size / _SLOWEST, max(_WHOLE_S, self._wait_s))
        try:
            found = self._came.get(timeout=max(0.0, self._begun + limit_s - time.monotonic()))
        except Empty:
            found = requests.Timeout()
        if isinstance(found, requests.Timeout):  # ours, or that of the socket, which may come first
            self._abandoned.set()
            raise RoadsUnreachableError(
                f"Roads can't be fetched: {self._url} didn't answer in {round(limit_s, 1):g} s "
                f"({self._size} bytes came); raise traffic.overpass_wait_s, {_INSTEAD}."
            ) from None
        if isinstance(found, Exception):
            raise RoadsUnreachableError(
                f"Roads can't be fetched: {self._url} doesn't answer ({type(found).__name__}); {_INSTEAD}."
            ) from found
        return found

    def _ask(self, query: str) -> None:
        headers = {"User-Agent": f"truckscape/{version('truckscape')}"}
        try:
            with requests.post(
                self._url,
                data={"data": query},
                headers=headers,
                timeout=self._wait_s,
                stream=True,
                hooks={"response": close_redirect},
            ) as answer:
                self._put((answer.status_code, answer.headers.get("Retry-After")))
                for chunk in answer.iter_content(_CHUNK) if answer.ok else ():
                    if not self._put(chunk):
                        return
            self._put(None)
        except Exception as error:  # noqa: BLE001 - the other thread raises it
            self._put(error)

    def _put(self, found: Any) -> bool:
        """Hand over a part of the answer; False once nobody waits for it."""
        while not self._abandoned.is_set():
            try:
                self._came.put(found, timeout=1)
            except Full:
                continue
            return True
        return False


def _query(boxes: Sequence[tuple[float, float, float, float]]) -> str:
    """Return Overpass QL for the ways in any of the boxes (west, south, east, north), and their nodes."""
    classes = "|".join(TRUCK_HIGHWAYS)
    ways = "".join(
        f'way["highway"~"^({classes})$"]({south:.5f},{west:.5f},{north:.5f},{east:.5f});'
        for west, south, east, north in boxes
    )
    return f"({ways});(._;>;);out body;"


def _boxes(grid: GeoBox, margin_m: float) -> list[tuple[float, float, float, float]]:
    """Return boxes in degrees around the grid; two if it crosses the antimeridian."""
    if grid.crs is None:
        raise RoadsError("Roads can't be fetched for a scene without CRS; give --roads a file.")
    box = grid.extent.boundingbox
    transformer = pyproj.Transformer.from_crs(grid.crs.proj, "EPSG:4326", always_xy=True)
    west, south, east, north = transformer.transform_bounds(
        box.left - margin_m, box.bottom - margin_m, box.right + margin_m, box.top + margin_m, densify_pts=41
    )
    if west <= east:
        return [(west, south, east, north)]
    return [(west, south, 180.0, north), (-180.0, south, east, north)]
