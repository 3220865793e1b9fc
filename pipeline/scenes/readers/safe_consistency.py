"""Contradictions in a product: its metadata, the names of its files and its images describe one tile."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from xml.etree.ElementTree import Element

from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.io import DatasetReader

from pipeline.errors import GeoreferenceError, MetadataError
from pipeline.input_warnings import warn
from pipeline.scenes.msi import number
from pipeline.scenes.readers.naming import datastrip_start, parse_time
from pipeline.scenes.readers.safe_metadata import (
    FIRST_WITH_OFFSET,
    OF_NO_BASELINE,
    baseline_of,
    text,
    text_or_empty,
)

_PRODUCT_NAME = re.compile(
    r"(?P<platform>S2[A-Z])_MSI(?P<level>L1C|L2A)_(?P<time>\d{8}T\d{6})_N(?P<baseline>\d{4})_R\d{3}"
    r"_T(?P<tile>\d\d[A-Z]{3})(?:_|$)"
)
_TILE_ID = re.compile(r"^(?P<platform>S2[A-Z])_.*_T(?P<tile>\d\d[A-Z]{3})_N(?P<baseline>\d\d\.\d\d)$")
_GRANULE = re.compile(r"_T(?P<tile>\d\d[A-Z]{3})_")
_IMAGE = re.compile(r"(?:^|_)T(?P<tile>\d\d[A-Z]{3})_(?P<time>\d{8}T\d{6})_")
_LONGEST_DATATAKE = timedelta(hours=1)
"""A name has the start of its datatake, which takes up to 40 minutes; the next pass is 100 minutes later."""
_TOLERANCE = 1e-3
_AGAIN = "Download the product again."

Statement = tuple[str, str, str]
"""A statement: its key in the regular expressions above, its value, and its place."""


def check_consistent(
    metadata: Element, tile: Element, level: str, folder: str, images: Mapping[str, str]
) -> None:
    """Raise MetadataError if parts of a product belong to different tiles, times, satellites or levels.

    `folder` is the name of the `.SAFE` folder, which users may have changed, `images` are the paths of the
    images that are used, by band.
    """
    said = list(_statements(metadata, tile, level, folder, images.values()))
    for kind in ("tile", "platform", "level", "datastrip"):
        _check_equal(kind, [(value, where) for what, value, where in said if what == kind])
    _check_times([(value, where) for what, value, where in said if what == "time"])
    _check_baselines([(value, where) for what, value, where in said if what == "baseline"])


def check_place(tile: Element, dataset: DatasetReader) -> None:
    """Raise GeoreferenceError if an image at 10 m lies elsewhere than `MTD_TL.xml` says.

    Warns if it covers only a part of the tile, as one that was cut.
    """
    name = dataset.name
    code = text(tile, "HORIZONTAL_CS_CODE")
    try:
        crs = CRS.from_string(code[:80])
    except CRSError as error:
        raise MetadataError(f"HORIZONTAL_CS_CODE in MTD_TL.xml is no CRS: {code[:80]!r}") from error
    if crs != dataset.crs:
        raise GeoreferenceError(
            f"{name} is in {dataset.crs.to_string()[:80]}, MTD_TL.xml says {code[:80]}. {_AGAIN}"
        )
    left, top, rows, cols = _place(tile)
    theirs = dataset.transform
    col, row = (theirs.c - left) / 10, (top - theirs.f) / 10
    is_on_grid = all(abs(each - round(each)) < _TOLERANCE for each in (row, col))
    is_inside = min(row, col) >= 0 and row + dataset.height <= rows and col + dataset.width <= cols
    if not (is_on_grid and is_inside and abs(theirs.a - 10) + abs(theirs.e + 10) < _TOLERANCE):
        raise GeoreferenceError(
            f"{name} has pixels of {theirs.a:g} m, {dataset.width} x {dataset.height} of them from "
            f"{theirs.c:.10g}, {theirs.f:.10g}; MTD_TL.xml says 10 m, {cols:g} x {rows:g} from {left:.10g}, "
            f"{top:.10g}. {_AGAIN}"
        )
    if math.isfinite(rows) and (dataset.height, dataset.width) != (rows, cols):
        warn(
            f"{name} has {dataset.width} x {dataset.height} pixels, the tile has {cols:g} x {rows:g}: the "
            "product was cut, and what is outside of the part is not searched."
        )


def _place(tile: Element) -> tuple[float, float, float, float]:
    """Return left, top, rows and columns of the tile at 10 m; infinite sizes where they are not said."""
    at = {element.get("resolution"): element for element in tile.iter("Geoposition")}.get("10")
    if at is None:
        raise MetadataError(f"Geoposition at 10 m is missing in MTD_TL.xml. {_AGAIN}")
    left, top = (number(at.findtext(key), f"{key} in MTD_TL.xml") for key in ("ULX", "ULY"))
    size = {element.get("resolution"): element for element in tile.iter("Size")}.get("10")
    if size is None:
        return left, top, math.inf, math.inf
    rows, cols = (number(size.findtext(key), f"{key} in MTD_TL.xml") for key in ("NROWS", "NCOLS"))
    return left, top, rows, cols


def _statements(
    metadata: Element, tile: Element, level: str, folder: str, images: Iterable[str]
) -> Iterator[Statement]:
    identifier = text(tile, "TILE_ID")
    yield "level", level, "the name of the metadata"
    yield "platform", f"S2{text(metadata, 'SPACECRAFT_NAME')[-1].upper()}", "SPACECRAFT_NAME"
    yield "baseline", baseline_of(metadata), "PROCESSING_BASELINE"
    yield "time", text(metadata, "PRODUCT_START_TIME"), "PRODUCT_START_TIME"
    yield "time", text(tile, "SENSING_TIME"), "SENSING_TIME in MTD_TL.xml"
    uri = text_or_empty(metadata, "PRODUCT_URI")
    yield from _in_name(_TILE_ID, identifier, "TILE_ID in MTD_TL.xml")
    yield from _in_name(_PRODUCT_NAME, uri, "PRODUCT_URI")
    yield from _in_name(_PRODUCT_NAME, folder, "the folder's name")
    for image in images:
        path = PurePosixPath(image)
        yield from _in_name(_IMAGE, path.name, path.name)
        yield from _in_name(_GRANULE, path.parts[1], f"the folder {path.parts[1]}")
    for listed in metadata.iter("IMAGE_FILE"):
        yield from _in_name(_IMAGE, PurePosixPath((listed.text or "").strip()).name, "IMAGE_FILE")
    for granule in metadata.iter("Granule"):
        yield from _in_name(_TILE_ID, granule.get("granuleIdentifier", ""), "granuleIdentifier")
        if strip := datastrip_start(granule.get("datastripIdentifier", "")):
            yield "datastrip", strip, "datastripIdentifier"
    if strip := datastrip_start(text_or_empty(tile, "DATASTRIP_ID")):
        yield "datastrip", strip, "DATASTRIP_ID in MTD_TL.xml"


def _in_name(pattern: re.Pattern[str], name: str, where: str) -> Iterator[Statement]:
    match = pattern.search(name)
    for kind, value in match.groupdict().items() if match else ():
        yield kind, f"{value[:2]}.{value[2:]}" if kind == "baseline" and "." not in value else value, where


def _check_equal(kind: str, values: list[tuple[str, str]]) -> None:
    for value, where in values:
        if value != values[0][0]:
            raise _contradiction(kind, values[0], (value, where))


def _check_times(values: list[tuple[str, str]]) -> None:
    times = []
    for value, where in values:
        moment = parse_time(value)
        if not isinstance(moment, datetime):
            raise MetadataError(f"{where} is a date, not a time: {value[:80]!r}. {_AGAIN}")
        times.append((moment, (value, where)))
    first, last = min(times), max(times)
    if last[0] - first[0] > _LONGEST_DATATAKE:
        raise _contradiction("time of acquisition", first[1], last[1])


def _check_baselines(values: list[tuple[str, str]]) -> None:
    """Only those count that disagree about the offset: names keep the baseline of what they were made of."""
    stated = [each for each in values if each[0] != OF_NO_BASELINE]
    if stated and (min(stated)[0] < FIRST_WITH_OFFSET <= max(stated)[0]):
        raise _contradiction("baseline", min(stated), max(stated))


def _contradiction(kind: str, one: tuple[str, str], other: tuple[str, str]) -> MetadataError:
    return MetadataError(
        f"Parts of the product are of different {kind}: {one[1]} has {one[0][:80]}, {other[1]} has "
        f"{other[0][:80]}. {_AGAIN}"
    )
