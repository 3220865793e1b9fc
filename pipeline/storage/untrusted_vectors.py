"""Untrusted vector files: only formats that contain their own features are opened.

GDAL detects formats by content, not by name. Some formats refer to other files or servers (VRT, WFS, GDALG),
some download references (GML), and tables of an SQLite database can read any file of this machine
(VirtualOGR) unless it is opened as a GeoPackage.
"""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import ParseError

import pandas as pd
import pyogrio
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse

from pipeline.errors import VectorFileError

_HEAD_BYTES = 2**16
_SQLITE, _FLATGEOBUF, _SHAPEFILE = b"SQLite format 3\0", b"fgb\x03", b"\0\0\x27\x0a"
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_JSON = b"{"
_BEFORE_TEXT = b"\xef\xbb\xbf\x1e \t\r\n"
_RECIPES = (b"<ogrvrtdatasource", b"<ogrwfsdatasource", b"gdal_streamed_alg")
"""Markers by which GDAL recognises files that refer to other files or servers."""
_MOST_MEMBERS = 1000
_SPECIAL = '!"{};?'
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
    try:
        yield _source(Path(path), what)
    except _DAMAGED as error:
        why = " ".join(str(error).split())
        raise VectorFileError(f"{what} can't be read: {path} is damaged or incomplete ({why}).") from error


def layer_names(path: Path | str, what: str) -> list[str]:
    """Return the names of a vector file's layers. Raises VectorFileError as `vector_source`."""
    with vector_source(path, what) as source:
        return [str(name) for name in pyogrio.list_layers(source)[:, 0]]


def read_layer(path: Path | str, what: str, layer: str | None = None) -> pd.DataFrame:
    """Read the named layer, or the first if it doesn't exist; a GeoDataFrame if it has geometry.

    Raises VectorFileError as `vector_source`.
    """
    names = layer_names(path, what)
    with vector_source(path, what) as source:
        return pyogrio.read_dataframe(source, layer=layer if layer in names else names[0])


def _source(path: Path, what: str) -> str:
    if not path.exists():
        raise VectorFileError(f"{what} not found: {path}")
    place = path.absolute().as_posix()
    if set(_SPECIAL) & set(place):
        raise VectorFileError(
            f"{what} can't be read: path {path} has one of the characters {_SPECIAL}. Rename it."
        )
    if path.is_dir():
        head = _SHAPEFILE if any(path.glob("*.shp")) else b""
    else:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    if head.startswith(_GZIP):
        with gzip.open(path) as packed:
            place, head = f"/vsigzip/{place}", packed.read(_HEAD_BYTES)
    elif head.startswith(_ZIP):
        member, head = _member_of_zip(path, what)
        place = f"/vsizip/{{{place}}}/{member}"
    if not _holds_features(head):
        raise VectorFileError(
            f"{what} can't be read: {path} is not a GeoPackage, GeoJSON, FlatGeobuf, Shapefile or "
            "OpenStreetMap file, or is XML with a document type. Other formats may refer to further files "
            "and servers, so they are refused. Convert the file, e.g. with ogr2ogr."
        )
    return f'GPKG:"{place}"' if head.startswith(_SQLITE) else place


def _holds_features(head: bytes) -> bool:
    if any(mark in head.lower() for mark in _RECIPES):
        return False
    return (
        head.startswith((_SQLITE, _FLATGEOBUF, _SHAPEFILE))
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
