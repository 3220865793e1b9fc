"""Untrusted vector files: only formats that contain their own features are opened, and the layer that fits.

GDAL detects formats by content, not by name. Some formats refer to other files or servers (VRT, WFS, GDALG),
some download references (GML), and tables of an SQLite database can read any file of this machine
(VirtualOGR) unless it is opened as a GeoPackage.
"""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Literal
from xml.etree.ElementTree import ParseError

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import shapely
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse

from pipeline.errors import VectorFileError
from pipeline.storage.geoparquet import MAGIC, Parts, read_geoparquet
from pipeline.storage.vector_places import check_coordinates

Kind = Literal["polygons", "lines", "points"]
"""Geometries that a reader needs."""
Bounds = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max."""

_KINDS: dict[Kind, tuple[str, ...]] = {
    "polygons": ("Polygon", "Surface", "Triangle", "TIN"),
    "lines": ("LineString", "CircularString", "CompoundCurve", "MultiCurve"),
    "points": ("Point",),
}
"""Parts of GDAL's names of geometry types."""
_SAMPLE = 1000
_MOST_LISTED = 12
_HEAD_BYTES = 2**16
_SQLITE, _FLATGEOBUF, _SHAPEFILE = b"SQLite format 3\0", b"fgb\x03", b"\0\0\x27\x0a"
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_JSON = b"{"
_BEFORE_TEXT = b"\xef\xbb\xbf\x1e \t\r\n"
_RECIPES = (b"<ogrvrtdatasource", b"<ogrwfsdatasource", b"gdal_streamed_alg")
"""Markers by which GDAL recognises files that refer to other files or servers."""
_MOST_MEMBERS = 1000
_SPECIAL, _SPECIAL_IN_GPKG = '!"{};', '"'
"""Characters with a special meaning in names for pyogrio or GDAL."""
_DAMAGED = (RuntimeError, OSError, EOFError, IndexError, zlib.error, zipfile.BadZipFile)
"""Errors of pyogrio and of archives. `RuntimeError` is from pyogrio, and from a zip with a password."""


@contextmanager
def vector_source(path: Path | str, what: str) -> Iterator[str]:
    """Check a vector file and yield a name by which pyogrio opens this file only.

    Formats: GeoPackage, GeoJSON, FlatGeobuf, Shapefile, OpenStreetMap XML and PBF, also gzipped or in a zip.
    A zip or folder may hold several Shapefiles as layers. `what` names the file in messages ("Roads").

    Raises
    ------
    VectorFileError
        If the file is missing or of another format, or reading fails within the context.
    """
    with _opened(Path(path), what) as source:
        if not isinstance(source, str):
            raise VectorFileError(
                f"{what} can't be read: {path} is GeoParquet. Rename it to end in .parquet."
            )
        yield source


@contextmanager
def _opened(path: Path, what: str) -> Iterator[str | Parts]:
    """Do as `vector_source`, but yield the parts of GeoParquet, which pyogrio does not open."""
    try:
        with np.errstate(invalid="ignore", over="ignore"):  # NaN, infinity and 1e308 as coordinates
            yield _source(path, what)
    except _DAMAGED as error:
        why = " ".join(str(error).split())
        raise VectorFileError(f"{what} can't be read: {path} is damaged or incomplete ({why}).") from error


def split_layer(path: Path | str) -> tuple[Path, str | None]:
    """Split `FILE:LAYER` into the file and the name of the layer, which is None without one.

    A path that exists is a file, whatever colons it has.
    """
    path, text = Path(path), str(path)
    if path.exists():
        return path, None
    for at in range(len(text) - 1, 1, -1):  # from 2, since C: is a drive
        if text[at] == ":" and (file := Path(text[:at])).exists():
            layer = text[at + 1 :]
            if file.is_file() or not {"/", "\\"} & set(layer):
                return file, layer
    return path, None


def file_of(path: Path | str) -> Path:
    """Return the file of `FILE` or `FILE:LAYER`."""
    return split_layer(path)[0]


def layer_names(path: Path | str, what: str) -> list[str]:
    """Return the names of a vector file's layers. Raises VectorFileError as `vector_source`."""
    file = file_of(path)
    with _opened(file, what) as source:
        if not isinstance(source, str):
            return [file.stem]
        return [str(name) for name in pyogrio.list_layers(source)[:, 0]]


def read_layer(
    path: Path | str,
    what: str,
    kind: Kind,
    names: Sequence[str] = (),
    box_in: Callable[[str], Bounds | None] | None = None,
) -> pd.DataFrame:
    """Read one layer of a vector file; a GeoDataFrame if it has geometry.

    `path` is `FILE` or `FILE:LAYER`. Without a layer it is the one named in `names`, else the only one with
    geometries of this `kind`; geometries of other kinds in it are not left out. `box_in` returns, for the
    file's CRS, the bounds that matter: features elsewhere may be left out.

    Raises
    ------
    VectorFileError
        As `vector_source` and `check_coordinates`; or if the layer does not exist, or if no layer or several
        fit.
    """
    file, layer = split_layer(path)
    with _opened(file, what) as source:
        if isinstance(source, str):
            layer = _chosen(source, f"{what}: {file}", layer, kind, names)
            box = None
            if box_in is not None and (crs := pyogrio.read_info(source, layer=layer)["crs"]):
                box = box_in(crs)
            frame = pyogrio.read_dataframe(source, layer=layer, bbox=box, on_invalid="fix")
            extent = _extent(source, layer) if box is not None and frame.empty else frame
        else:
            extent = frame = _parquet(source, file, layer, what, box_in)
    if isinstance(extent, gpd.GeoDataFrame):
        check_coordinates(extent, what, file)
    return frame


def read_extent(path: Path | str, what: str, kind: Kind, names: Sequence[str] = ()) -> gpd.GeoDataFrame:
    """Return the bounds of the layer that `read_layer` reads, as one box in the file's CRS, or no feature.

    Raises VectorFileError as `read_layer`.
    """
    file, layer = split_layer(path)
    with _opened(file, what) as source:
        if isinstance(source, str):
            return _extent(source, _chosen(source, f"{what}: {file}", layer, kind, names))
        frame = _parquet(source, file, layer, what)
    there = np.isfinite(frame.total_bounds).all()
    return gpd.GeoDataFrame(geometry=[shapely.box(*frame.total_bounds)] if there else [], crs=frame.crs)


def _parquet(
    source: Parts,
    file: Path,
    layer: str | None,
    what: str,
    box_in: Callable[[str], Bounds | None] | None = None,
) -> gpd.GeoDataFrame:
    if layer not in (None, file.stem):
        raise VectorFileError(f"{what}: {file} has no layer {_short(layer or '')!r}. It has: {file.stem}.")
    return read_geoparquet(source, f"{what}: {file}", box_in)


def _extent(source: str, layer: str) -> gpd.GeoDataFrame:
    info = pyogrio.read_info(source, layer=layer, force_total_bounds=True)
    bounds = info["total_bounds"]
    there = bounds is not None and info["features"] != 0
    return gpd.GeoDataFrame(geometry=[shapely.box(*bounds)] if there else [], crs=info["crs"])


def _chosen(source: str, file: str, layer: str | None, kind: Kind, names: Sequence[str]) -> str:
    """Return the name of the layer to read; `file` names the file in messages."""
    found = [(str(name), geometry) for name, geometry in pyogrio.list_layers(source)]
    if layer is not None:
        same = [name for name, _ in found if name == layer]
        same = same or [name for name, _ in found if name.casefold() == layer.casefold()]
        if len(same) != 1:
            raise VectorFileError(f"{file} has no layer {_short(layer)!r}. It has: {_listed(found)}.")
        return same[0]
    if len(found) == 1:
        return found[0][0]
    named = [name for name, geometry in found if geometry and name.casefold() in names]
    if len(named) == 1:
        return named[0]
    fitting = [(name, geometry) for name, geometry in found if _fits(source, name, geometry, kind)]
    if len(fitting) > 1:  # an empty one does not count beside others
        filled = [each for each in fitting if pyogrio.read_info(source, layer=each[0])["features"]]
        fitting = filled or fitting
    if len(fitting) != 1:
        which = f"{len(fitting)} layers" if fitting else "no layer"
        raise VectorFileError(
            f"{file} has {which} of {kind}. It has: {_listed(found)}. "
            f"Choose one with {file.split(': ', 1)[1]}:LAYER"
        )
    return fitting[0][0]


def _fits(source: str, layer: str, geometry: str | None, kind: Kind) -> bool:
    """Return True if a layer has geometries of a kind; where it may have any, look at the first of them."""
    if geometry is None:
        return False
    if geometry not in ("Unknown", "GeometryCollection"):
        return any(word in geometry for word in _KINDS[kind])
    first = pyogrio.read_dataframe(source, layer=layer, columns=[], max_features=_SAMPLE, on_invalid="ignore")
    held = first.geometry.geom_type.dropna()
    return any(word in name for name in set(held) for word in _KINDS[kind])


def _listed(layers: Sequence[tuple[str, str | None]]) -> str:
    shown = [f"{_short(name)} ({geometry or 'no geometry'})" for name, geometry in layers[:_MOST_LISTED]]
    return ", ".join(shown) + (", ..." if len(layers) > _MOST_LISTED else "")


def _short(name: str) -> str:
    """Return a name from a file for a message: one line, and not too long."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in name).split())[:60]


def _source(path: Path, what: str) -> str | Parts:
    if not path.exists():
        raise VectorFileError(f"{what} not found: {path}")
    place = path.absolute().as_posix()
    if path.is_dir():
        head = _SHAPEFILE if any(path.glob("*.shp")) else b""
        if not head and (parts := sorted(path.rglob("*.parquet"))[:_MOST_MEMBERS]):
            return parts
    else:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    if head.startswith(_GZIP):
        with gzip.open(path) as packed:
            place, head = f"/vsigzip/{place}", packed.read(_HEAD_BYTES)
            if head.startswith(MAGIC):
                return [head + packed.read()]
    elif head.startswith(_ZIP):
        member, head = _member_of_zip(path, what)
        if head.startswith(MAGIC):
            with zipfile.ZipFile(path) as archive:
                return [archive.read(member)]
        place = f"/vsizip/{{{place}}}/{member}"
    elif head.startswith(MAGIC):
        return [path]
    if not _holds_features(head):
        raise VectorFileError(
            f"{what} can't be read: {path} is not a GeoPackage, GeoJSON, GeoParquet, FlatGeobuf, "
            "Shapefile or OpenStreetMap file, or is XML with a document type. Other formats may refer to "
            "further files and servers, so they are refused. Convert the file, e.g. with ogr2ogr."
        )
    name = f'GPKG:"{place}"' if head.startswith(_SQLITE) else place
    special = _SPECIAL_IN_GPKG if name == f'GPKG:"{path.absolute().as_posix()}"' else _SPECIAL
    if set(special) & set(path.absolute().as_posix()):
        raise VectorFileError(
            f"{what} can't be read: path {path} has one of the characters {special}. Rename it."
        )
    return name


def _holds_features(head: bytes) -> bool:
    if any(mark in head.lower() for mark in _RECIPES):
        return False
    return (
        head.startswith((_SQLITE, _FLATGEOBUF, _SHAPEFILE, MAGIC))
        or head.lstrip(_BEFORE_TEXT).startswith(_JSON)
        or b"OSMHeader" in head[:64]
        or _is_osm_xml(head)
    )


def _is_osm_xml(head: bytes) -> bool:
    """Return True if the root of the XML is `osm`; GDAL would expand entities of a document type."""
    try:
        _, root = next(iterparse(BytesIO(head), events=("start",), forbid_dtd=True))
    except (DefusedXmlException, ParseError, StopIteration):
        return False
    return bool(root.tag == "osm")


def _member_of_zip(path: Path, what: str) -> tuple[str, bytes]:
    """Return the name and head of the only vector file in a zip, or of the folder of its Shapefiles."""
    found: dict[PurePosixPath, bytes] = {}
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()[:_MOST_MEMBERS]
        for member in members:
            name = PurePosixPath(member.filename)
            if name.suffix.lower() == ".shx":  # the index of a Shapefile, which has the same head
                continue
            with archive.open(member) as file:
                if _holds_features(head := file.read(_HEAD_BYTES)):
                    found[name] = head
    folders = {name.parent for name in found}
    if len(found) == 1 and len(members) < _MOST_MEMBERS:
        ((name, head),) = found.items()
    elif len(folders) == 1 and all(head.startswith(_SHAPEFILE) for head in found.values()):
        name, head = folders.pop(), _SHAPEFILE
    else:
        raise VectorFileError(
            f"{what} can't be read: {path} holds {len(found)} vector files. Unpack it and choose one."
        )
    return ("" if name == PurePosixPath() else str(name)), head
