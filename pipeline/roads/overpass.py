"""Roads of OpenStreetMap from an Overpass server, cached as files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pyproj
import requests
from odc.geo.geobox import GeoBox
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from pipeline.errors import RoadsError, RoadsUnreachableError
from pipeline.roads.read import TRUCK_HIGHWAYS
from pipeline.storage.atomic import replacing

OVERPASS_URL = "https://overpass-api.de/api/interpreter"
_SERVER_SECONDS = 180
"""Time limit for the server's work; its own default."""
_TIMEOUT_S = (10.0, _SERVER_SECONDS + 30.0)
"""To connect, and between two chunks of the answer."""
_BUSY = (429, 502, 503, 504)
_CHUNK = 1 << 20
_TAIL = 4096
"""Bytes at the end of an answer that show whether it is complete."""


def overpass_roads(
    grid: GeoBox, folder: Path, *, margin_m: float = 0.0, url: str = OVERPASS_URL, backoff_s: float = 5.0
) -> Path:
    """Fetch the roads on `grid` and up to `margin_m` around it as an OpenStreetMap XML file for `read_roads`.

    Ways of `TRUCK_HIGHWAYS`, (c) OpenStreetMap contributors, ODbL. The file is in `folder`, named by the
    hash of the query, and is used again for the same query; delete it for newer roads. A busy server (429,
    502, 503, 504) gets five retries, with growing pauses or those that it asks for.

    Raises
    ------
    RoadsError
        If the grid has no CRS, the server can't be reached, or its answer is incomplete or no OpenStreetMap
        data: out of time or memory, Overpass answers with status 200 and a remark.
        RoadsUnreachableError if the error is transient.
    OutputError
        If the file can't be written.
    """
    query = _query(_boxes(grid, margin_m))
    path = folder / f"{hashlib.sha256(query.encode()).hexdigest()[:16]}.osm"
    if path.is_file():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with requests.Session() as session:
        retries = Retry(
            total=5,
            backoff_factor=backoff_s,
            status_forcelist=_BUSY,
            allowed_methods=("POST",),
            raise_on_status=False,
        )
        for scheme in ("https://", "http://"):
            session.mount(scheme, HTTPAdapter(max_retries=retries))
        session.headers["User-Agent"] = f"truckscape/{version('truckscape')}"
        with replacing(path) as part:
            _download(session, url, query, part)
    return path


def _download(session: requests.Session, url: str, query: str, part: Path) -> None:
    tail = b""
    try:
        with session.post(url, data={"data": query}, timeout=_TIMEOUT_S, stream=True) as answer:
            if not answer.ok:
                kind = RoadsUnreachableError if answer.status_code in _BUSY else RoadsError
                raise kind(
                    f"Roads can't be fetched: {url} answers with HTTP status {answer.status_code}; try "
                    "later, or give --roads a file."
                )
            with part.open("wb") as file:
                for chunk in answer.iter_content(_CHUNK):
                    file.write(chunk)
                    tail = (tail + chunk)[-_TAIL:]
    except requests.RequestException as error:
        raise RoadsUnreachableError(
            f"Roads can't be fetched: {url} doesn't answer ({type(error).__name__}); try later, or give "
            "--roads a file."
        ) from error
    if not tail.rstrip().endswith(b"</osm>") or b"<remark>" in tail:
        raise RoadsUnreachableError(
            f"Roads can't be fetched: the answer of {url} is incomplete; try later, or give --roads a file."
        )


def _query(boxes: Sequence[tuple[float, float, float, float]]) -> str:
    """Return Overpass QL for the ways in any of the boxes (west, south, east, north), and their nodes."""
    classes = "|".join(TRUCK_HIGHWAYS)
    ways = "".join(
        f'way["highway"~"^({classes})$"]({south:.5f},{west:.5f},{north:.5f},{east:.5f});'
        for west, south, east, north in boxes
    )
    return f"[out:xml][timeout:{_SERVER_SECONDS}];({ways});(._;>;);out body;"


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
