"""Reader of GeoTIFFs: one file with all bands, each described as a Sentinel-2 band."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp
from rasterio.io import DatasetReader

from pipeline.config import USUAL_SCALE
from pipeline.errors import NotAProductError
from pipeline.redaction import is_url
from pipeline.scenes.raster.datasets import open_raster
from pipeline.scenes.raster.grids import on_grid, scene_grid
from pipeline.scenes.readers.naming import (
    acquired_in_name,
    baseline_in_name,
    level_in_name,
    platform_in_name,
    tile_in_name,
)
from pipeline.scenes.readers.reader import Reader
from pipeline.scenes.readers.stack import MASK, SCL, band_names, has_classes, tags_of
from pipeline.scenes.scene import BAND_NAMES, BandSource, Radiometry, Scene

DEFAULT_SCALE = USUAL_SCALE
"""Reflectance of one digital number in Sentinel-2 products."""
OFFSET_SINCE_0400 = -0.1
"""Reflectance offset of every product since baseline 04.00: -1000 / 10000."""
BLANKS = (0.0, 65535.0)
"""Numbers without data of files that need not say so: those of no swath, and the largest of 16 bits."""


def open_geotiff(path: Path, bands: Sequence[str] | None = None) -> Scene:
    """Open a multi-band GeoTIFF whose band descriptions are Sentinel-2 band names.

    `bands` names each band of the file if descriptions are missing or wrong: a band of Sentinel-2, `SCL`,
    `mask` for a data mask, or `-` to leave it out. Bands with another description are left out. Opacity and
    data masks mask all bands; SCL gives clouds. GDAL's scale, offset and nodata are honoured. Without a
    scale, 16-bit integers are reflectance x 10000 and floats are reflectance. Without a nodata value, 0 is
    nodata in 16-bit integers, and a pixel that is 0 or 65535 in all bands has no data. Acquisition time,
    level and platform come from tags, else from the file's name.

    Raises
    ------
    CorruptImageError, GeoreferenceError, NotAProductError
        If the file can't be opened, is not georeferenced, or names no band.
    ConfigError
        If `bands` does not fit the file.
    """
    with open_raster(str(path), "The scene") as dataset:
        names = band_names(dataset, bands)
        grid = scene_grid(dataset)
        wkt = str(dataset.crs.to_wkt())
        mask = mask_source(
            str(path), [index for index, name in enumerate(names, 1) if name == MASK], wkt, grid
        )
        sources = {
            name: replace(on_grid(band_source(dataset, name, str(path), index), wkt, grid), mask=mask)
            for index, name in enumerate(names, 1)
            if name in BAND_NAMES
        }
        index = names.index(SCL) + 1 if SCL in names else 0
        scl = scl_source(str(path), index, wkt, grid) if index and has_classes(dataset, index) else None
        tags = tags_of(dataset)
        radiometry = radiometry_of(dataset)
    return Scene(
        id=path.stem,
        href=str(path),
        grid=grid,
        bands=sources,
        acquired=acquired_in_name(tags, path.name),
        platform=platform_in_name(tags, path.name),
        level=level_in_name(tags, path.name, sources) or ("L2A" if scl else None),
        baseline=baseline_in_name(tags, path.name),
        tile=tile_in_name(path.name),
        scl=scl,
        files=(path,),
        radiometry=radiometry,
        other_offset=other_offset(baseline_in_name(tags, path.name), radiometry),
        blanks=BLANKS,
    )


def band_source(dataset: DatasetReader, name: str, href: str, index: int) -> BandSource:
    """Return the source of one band of an open raster, with the scale, offset and nodata of its tags.

    The scale is NaN if it is unknown: 8 bits without a scale, or a scale of NaN. Raises NotAProductError for
    numbers of a colour table.
    """
    _check_colours(dataset, name, index)
    dtype = np.dtype(dataset.dtypes[index - 1])
    scale, offset, nodata = (
        float(dataset.scales[index - 1]),
        float(dataset.offsets[index - 1]),
        dataset.nodatavals[index - 1],  # None, too, for a value that the type can't have
    )
    if scale == 1.0 and dtype.kind in "iu":
        scale = math.nan if dtype.itemsize == 1 else DEFAULT_SCALE
    if nodata is not None and not math.isfinite(nodata):
        nodata = None  # values that are not finite are never valid
    if nodata is None and dtype.kind in "iu" and dtype.itemsize > 1:
        nodata = 0.0
    return BandSource(name, href, index, scale, offset, nodata, gsd=round(float(dataset.transform.a), 3))


def _check_colours(dataset: DatasetReader, name: str, index: int) -> None:
    """Raise NotAProductError if the numbers of a band are those of a colour table."""
    if name in BAND_NAMES and dataset.colorinterp[index - 1] is ColorInterp.palette:
        raise NotAProductError(
            f"Band {name} of {dataset.name} has a colour table, so its numbers are no reflectance. Write the "
            "original values, or leave that band out."
        )


def mask_source(href: str, indices: Iterable[int], crs: str, grid: GeoBox) -> BandSource | None:
    """Return the source of data masks of a raster, each the mask of the one after it; None without any."""
    mask: BandSource | None = None
    for index in indices:
        own = BandSource(MASK, href, index, scale=1.0, nodata=0.0)
        mask = replace(on_grid(own, crs, grid, is_classes=True), mask=mask)
    return mask


def scl_source(href: str, index: int, crs: str, grid: GeoBox, gsd: float = 10.0) -> BandSource:
    """Return the source of the scene classification in a raster."""
    return on_grid(BandSource(SCL, href, index, scale=1.0, nodata=0.0, gsd=gsd), crs, grid, is_classes=True)


def radiometry_of(dataset: DatasetReader) -> Radiometry:
    """Return whether tags of a raster state scale or offset."""
    stated = {*dataset.scales, 1.0} != {1.0} or {*dataset.offsets, 0.0} != {0.0}
    return "tags" if stated else "assumed"


def other_offset(baseline: str | None, radiometry: Radiometry) -> float | None:
    """Return the offset of a baseline since 04.00 if no tag states one; else None.

    Software that writes such files takes the offset off, or not. Sen2Cor outside of ESA calls its baseline
    99.99, as in BigEarthNet; it says nothing about the offset.
    """
    has_offset = baseline is not None and "04.00" <= baseline < "90.00"
    return OFFSET_SINCE_0400 if has_offset and radiometry == "assumed" else None


READER = Reader(
    "a GeoTIFF with band descriptions",
    lambda href: (
        not is_url(href) and Path(href).suffix.lower() in (".tif", ".tiff") and not Path(href).is_dir()
    ),
    lambda href, bands: open_geotiff(Path(href), bands),
    names_bands=True,
)
