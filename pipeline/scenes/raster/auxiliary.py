"""GDAL's `.aux.xml` beside a raster: it is not read, so a warning names what it sets."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from affine import Affine
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.io import DatasetReader

from pipeline.input_warnings import warn
from pipeline.scenes.raster.datasets import open_raster
from pipeline.scenes.scene import BandSource

_MOST_BYTES = 2**22
_SAME = 1e-9


def warn_of_auxiliary(sources: Iterable[BandSource]) -> None:
    """Warn of files beside rasters that set other values, CRS or geotransform than the rasters themselves.

    Statistics, histograms and other metadata are no reason for a warning.
    """
    by_file: dict[str, list[BandSource]] = {}
    for source in sources:
        by_file.setdefault(source.href, []).append(source)
    for href, its_sources in by_file.items():
        beside = Path(f"{href}.aux.xml")
        if href.startswith("/vsi") or not beside.is_file():
            continue
        root = _parsed(beside)
        ignored = [] if root is None else [*_values(root, its_sources), *_place(root, href)]
        if ignored:
            warn(
                f"{beside} sets {', '.join(ignored)}, which is not read. Write it into the file, e.g. "
                "gdal_translate -of COG OLD NEW.tif, or give --nodata, --scale or --offset."
            )


def _parsed(beside: Path) -> Element | None:
    try:
        with beside.open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
        if len(text) > _MOST_BYTES:
            warn(f"{beside} is larger than {_MOST_BYTES >> 20} MB; it is not read, nor what it sets.")
            return None
        root: Element = fromstring(text, forbid_dtd=True)
    except (DefusedXmlException, ParseError, LookupError, ValueError, OSError):
        return None  # GDAL would not read it either
    return root


def _values(root: Element, sources: Iterable[BandSource]) -> Iterator[str]:
    """Yield the numbers that differ from those of the bands."""
    elements = {element.get("band", "1"): element for element in root.findall("PAMRasterBand")}
    found: dict[str, None] = {}
    for source in sources:
        own_nodata = source.warp.nodata if source.warp and source.nodata is None else source.nodata
        of_band = elements.get(str(source.index))
        for tag, name, own in (
            ("NoDataValue", "nodata", own_nodata),
            ("Scale", "scale", source.scale),
            ("Offset", "offset", source.offset),
        ):
            number = None if of_band is None else _number(of_band.findtext(tag))
            if number is not None and (own is None or not math.isclose(number, own, rel_tol=1e-6)):
                found[f"{name} {number:g}"] = None
    yield from found


def _place(root: Element, href: str) -> Iterator[str]:
    """Yield CRS and geotransform that differ from those of the raster."""
    crs, transform = root.findtext("SRS"), root.findtext("GeoTransform")
    if crs is None and transform is None:
        return
    with open_raster(href, "The raster") as dataset:
        if crs and not _is_crs_of(dataset, crs):
            yield "a CRS"
        if transform and not _is_transform_of(dataset, transform):
            yield "a geotransform"


def _is_crs_of(dataset: DatasetReader, text: str) -> bool:
    with contextlib.suppress(CRSError):
        return bool(CRS.from_wkt(text) == dataset.crs)
    return True


def _is_transform_of(dataset: DatasetReader, text: str) -> bool:
    numbers = [_number(part) for part in text.split(",")]
    if len(numbers) != 6 or None in numbers:
        return True
    beside = Affine.from_gdal(*(number for number in numbers if number is not None))
    return bool(beside.almost_equals(Affine(*dataset.transform[:6]), precision=_SAME))


def _number(text: str | None) -> float | None:
    """Return a finite number; None for other text, also for the NaN that never has data."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None
