"""Names by which pyogrio opens an untrusted vector file, its archive or folder, and nothing else."""

from __future__ import annotations

import gzip
import os
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path, PurePath, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO
from xml.etree.ElementTree import ParseError
from xml.parsers import expat

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse

from pipeline.errors import VectorFileError
from pipeline.storage.beside import deciding_files
from pipeline.storage.geojson import check_crs
from pipeline.storage.geopackage import check_rows, check_tables, without_log
from pipeline.storage.geoparquet import MAGIC, Parts
from pipeline.storage.vector_drivers import only_safe_drivers

MOST_UNPACKED = 2**30
"""Limit of bytes of an unpacked file, unless the archive has a hundredth of them."""
_MOST_RATIO = 100
_CHUNK = 2**22
_HEAD_BYTES = 2**16
_SQLITE, _FLATGEOBUF, _SHAPEFILE = b"SQLite format 3\0", b"fgb\x03", b"\0\0\x27\x0a"
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_JSON = b"{"
_BEFORE_TEXT = b"\xef\xbb\xbf\x1e \t\r\n"
_RECIPES = (b"<ogrvrtdatasource", b"<ogrwfsdatasource", b"gdal_streamed_alg")
"""Markers by which GDAL recognises files that refer to other files or servers."""
_MOST_MEMBERS = 1000
_DEEPEST = 16
"""Elements around one of XML; OpenStreetMap's have up to four."""
_PLAIN = re.compile(r"[\w/ .,=@~+-]*")
"""Paths without characters that have a meaning for pyogrio or GDAL, such as `!`, `;`, `?` and `{`."""
_PARTS = (".shx", ".dbf", ".prj", ".cpg")
"""Files beside a `.shp` that are read. Indexes are not: one that is out of date hides features."""
_SUFFIXES = (".geojson", ".geojsonl", ".geojsons", ".json", ".fgb", ".osm", ".pbf")
"""Endings of names by which GDAL may open a file."""
_DAMAGED = (
    *(RuntimeError, OSError, EOFError, IndexError, UnicodeError),
    *(expat.ExpatError, zlib.error, zipfile.BadZipFile),
)
"""Errors of pyogrio, XML and archives. `RuntimeError` is from pyogrio, and from a zip with a password."""


@dataclass(frozen=True)
class Source:
    """A vector file as pyogrio opens it."""

    name: str
    failed: str
    """Begin of messages: which file can't be read."""
    database: Path | None = None
    """The file of a GeoPackage."""

    def check_rows(self, layer: str) -> None:
        """Raise VectorFileError if a layer is a view that is too large or never ends."""
        if self.database is not None:
            check_rows(self.database, layer, self.failed)


@contextmanager
def opened_source(path: Path, what: str) -> Iterator[Source | Parts]:
    """Check a vector file and yield it as pyogrio opens it, or as the parts of GeoParquet.

    Within the context pyogrio has safe drivers only. `what` names the file in messages ("Roads").

    Raises
    ------
    VectorFileError
        If the file is missing, of another format, refers to other files or servers, or unpacks to more than
        `MOST_UNPACKED`; or if reading fails within the context.
    """
    failed = f"{what} can't be read: {path}"
    scratch = ""
    try:
        with TemporaryDirectory(prefix="truckscape-") as scratch:
            source = _source(path, what, Path(scratch))
            # NaN, infinity and 1e308 as coordinates
            with only_safe_drivers(), np.errstate(invalid="ignore", over="ignore"):
                yield source
    except _DAMAGED as error:
        why = " ".join(str(error).replace(f"{scratch}/", "").split())
        raise VectorFileError(f"{failed} is damaged or incomplete ({why}).") from error


@contextmanager
def writable_name(path: Path) -> Iterator[Path]:
    """Yield a path by which pyogrio writes a file of any name: itself, or a link that leads to it.

    Raises
    ------
    VectorFileError
        If a link is needed and can't be made.
    """
    if _is_plain(path.absolute()):
        yield path
        return
    with TemporaryDirectory(prefix="truckscape-") as scratch:
        yield _link(path.absolute(), Path(scratch) / f"layer{path.suffix}")


def _source(path: Path, what: str, scratch: Path) -> Source | Parts:
    if not path.exists():
        raise VectorFileError(f"{what} not found: {path}")
    failed = f"{what} can't be read: {path}"
    if not path.is_dir() and not path.is_file():
        raise VectorFileError(f"{failed} is no file but a pipe, socket or device.")
    if path.is_dir():
        if any(path.glob("*.[sS][hH][pP]")):
            return Source(str(_linked_parts(path, scratch)), failed)
        if parts := sorted(path.rglob("*.parquet"))[:_MOST_MEMBERS]:
            return parts
        raise _other_format(failed)
    head = _head(path)
    if head.startswith(_GZIP):
        with gzip.open(path) as packed:
            path = _unpack(packed, path.stat().st_size, _target(path.with_suffix(""), scratch), failed)
        return _of_file(path, failed, scratch)
    if head.startswith(_ZIP):
        return _of_zip(path, failed, scratch)
    return _of_file(path, failed, scratch)


def _of_file(path: Path, failed: str, scratch: Path) -> Source | Parts:
    """Return the source of a file that is no archive."""
    head = _head(path)
    if not _holds_features(head):
        raise _other_format(failed)
    if head.startswith(MAGIC):
        return [path]
    if head.startswith(_SHAPEFILE):
        return Source(str(_linked_parts(path, scratch)), failed)
    if head.startswith(_SQLITE):
        check_tables(path, failed)
        path = without_log(path, scratch, failed)
        return Source(f'GPKG:"{_linked(path, ".gpkg", scratch)}"', failed, path)
    if head.lstrip(_BEFORE_TEXT).startswith(_JSON):
        with path.open("rb") as file:
            check_crs(iter(partial(file.read, _CHUNK), b""), failed)
    if _is_osm_xml(head):
        _check_nesting(path, failed)
    return Source(str(_linked(path, "", scratch)), failed)


def _of_zip(path: Path, failed: str, scratch: Path) -> Source | Parts:
    """Return the source of the only vector file in a zip, or of the folder of its Shapefiles."""
    found: dict[str, zipfile.ZipInfo] = {}
    shapefiles = 0
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()[:_MOST_MEMBERS]
        for member in members:
            if member.filename.lower().endswith(".shx"):  # the index of a Shapefile, which has the same head
                continue
            with archive.open(member) as file:
                head = file.read(_HEAD_BYTES)
            if _holds_features(head):
                found[member.filename] = member
                shapefiles += head.startswith(_SHAPEFILE)
        if len(found) == 1 and not shapefiles and len(members) < _MOST_MEMBERS:
            ((name, member),) = found.items()
            with archive.open(member) as packed:
                target = _target(PurePosixPath(name), scratch)
                unpacked = _unpack(packed, member.compress_size, target, failed)
            return _of_file(unpacked, failed, scratch)
    folders = {str(PurePosixPath(name.replace("\\", "/")).parent) for name in found}  # some are of Windows
    if not (len(folders) == 1 and shapefiles == len(found)):
        raise VectorFileError(f"{failed} holds {len(found)} vector files. Unpack it and choose one.")
    names = Counter(member.filename.casefold() for member in members)
    folder = folders.pop()
    if names.most_common(1)[0][1] > 1 or ".." in PurePosixPath(folder).parts or folder.startswith("/"):
        raise VectorFileError(f"{failed} has members of the same name or outside of it. Pack it again.")
    inside = scratch / "unpacked"
    inside.mkdir()
    with zipfile.ZipFile(path) as archive:  # compares the CRC-32 of each, as GDAL does not
        left = max(MOST_UNPACKED, _MOST_RATIO * path.stat().st_size)
        for member in members:
            place = PurePosixPath(member.filename.replace("\\", "/"))
            if str(place.parent) != folder or place.suffix.lower() not in (".shp", *_PARTS):
                continue
            with archive.open(member) as packed:
                unpacked = _unpack(packed, member.compress_size, inside / place.name, failed)
            left -= unpacked.stat().st_size
            if left < 0:
                raise _too_large(failed)
    return Source(str(_linked_parts(inside, scratch)), failed)


def _target(path: PurePath, scratch: Path) -> Path:
    suffix = path.suffix.lower() if path.suffix.lower() in _SUFFIXES else ".data"
    return scratch / f"{_plain_name(path)}{suffix}"


def _unpack(packed: IO[bytes] | gzip.GzipFile, size: int, target: Path, failed: str) -> Path:
    """Unpack a member of an archive, of `size` bytes in it, within the limits."""
    with target.open("wb") as file:
        for chunk in iter(partial(packed.read, _CHUNK), b""):
            file.write(chunk)
            _check_size(file.tell(), size, failed)
    return target


def _check_size(unpacked: int, packed: int, failed: str) -> None:
    if unpacked > max(MOST_UNPACKED, _MOST_RATIO * packed):
        raise _too_large(failed)


def _too_large(failed: str) -> VectorFileError:
    return VectorFileError(
        f"{failed} unpacks to more than {MOST_UNPACKED >> 20} MB and {_MOST_RATIO} times its size, which "
        "no file of features does. Unpack it and choose one."
    )


def _linked(path: Path, suffix: str, scratch: Path) -> str:
    """Return the path of a file, or of a link to it where its path has a meaning for pyogrio or GDAL.

    The name ends in `suffix`, or in one of `_SUFFIXES` if that is empty. Raises VectorFileError if a link is
    needed and can't be made.
    """
    place = path.absolute()
    suffix = suffix or (place.suffix.lower() if place.suffix.lower() in _SUFFIXES else ".data")
    if _is_plain(place) and place.suffix.lower() == suffix:
        return place.as_posix()
    return _link(place, scratch / f"{_plain_name(place)}{suffix}").as_posix()


def _linked_parts(path: Path, scratch: Path) -> Path:
    """Return a Shapefile, or a folder of them, of links to its parts: those that `_PARTS` lists."""
    folder = scratch / "shapefiles"
    folder.mkdir()
    inside = path.is_dir()
    parts = {path} if not inside else set()
    # Those of the very name of a Shapefile come last, and take the place of others.
    for part in sorted(deciding_files(path), key=lambda part: part.stem == path.stem):
        if part.suffix.lower() in (".shp", *_PARTS):
            parts.add(part)
    links: dict[str, Path] = {}
    for part in parts:
        suffix = ".shp" if part == path else part.suffix.lower()
        links[f"{part.stem if inside else _plain_name(path)}{suffix}"] = part
    for name, part in links.items():
        _link(part.absolute(), folder / name)
    return folder if inside else folder / f"{_plain_name(path)}.shp"


def _link(place: Path, link: Path) -> Path:
    for make in (os.symlink, os.link):  # Windows allows the first to administrators
        try:
            make(place, link)
        except OSError as error:
            failed = error
        else:
            return link
    if _is_plain(place):
        return place
    raise VectorFileError(
        f"{place} can't be used: its name has characters with a meaning for GDAL, and no link to it can be "
        f"made in the temporary folder ({failed.strerror}). Rename it."
    ) from failed


def _is_plain(place: Path) -> bool:
    return _PLAIN.fullmatch("/".join(place.parts[1:])) is not None


def _plain_name(path: PurePath) -> str:
    """Return the name of a file without its ending, by which GDAL names the layer of some formats."""
    stem = path.name.removesuffix(path.suffix)
    return stem if stem and _PLAIN.fullmatch(stem) else "source"


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)


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


def _check_nesting(path: Path, failed: str) -> None:
    """Refuse XML of any depth, for which GDAL takes 150 bytes an element; takes 3 s for 100 MB."""
    depth = 0

    def begin(*_: object) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST:
            raise VectorFileError(
                f"{failed} has XML elements within {_DEEPEST} others: no OpenStreetMap file."
            )

    def end(_: str) -> None:
        nonlocal depth
        depth -= 1

    parser = expat.ParserCreate()
    parser.ordered_attributes = True  # faster than dictionaries
    parser.StartElementHandler, parser.EndElementHandler = begin, end
    with path.open("rb") as file:
        parser.ParseFile(file)


def _other_format(failed: str) -> VectorFileError:
    return VectorFileError(
        f"{failed} is not a GeoPackage, GeoJSON, GeoParquet, FlatGeobuf, "
        "Shapefile or OpenStreetMap file, or is XML with a document type. Other formats may refer to "
        "further files and servers, so they are refused. Convert the file, e.g. with ogr2ogr."
    )
