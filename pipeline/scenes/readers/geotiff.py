"""Reader of GeoTIFFs: one file with all bands, each described as a Sentinel-2 band."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rasterio.io import DatasetReader

from pipeline.errors import (
    ConfigError,
    MetadataError,
    NotAProductError,
)
from pipeline.redaction import is_url
from pipeline.scenes.raster.datasets import open_raster
from pipeline.scenes.raster.grids import on_grid, scene_grid
from pipeline.scenes.readers.naming import (
    acquired_in_name,
    band_name,
    level_in_name,
    platform_in_name,
    tile_in_name,
)
from pipeline.scenes.readers.reader import Reader
from pipeline.scenes.scene import (
    BAND_NAMES,
    BandSource,
    Scene,
)

DEFAULT_SCALE = 1e-4
"""Reflectance of one digital number in Sentinel-2 products."""


def open_geotiff(path: Path, bands: Sequence[str] | None = None) -> Scene:
    """Open a multi-band GeoTIFF whose band descriptions are Sentinel-2 band names.

    `bands` names each band of the file if descriptions are missing or wrong. Bands with another description
    are left out. GDAL's scale, offset and nodata are honoured. Without a scale, 16-bit integers are
    reflectance x 10000 and floats are reflectance; without a nodata value, 0 is nodata in 16-bit integers.
    Acquisition time, level and platform come from the tags `acquired`, `level` and `platform`, else from the
    file's name.

    Raises
    ------
    CorruptImageError, GeoreferenceError, NotAProductError
        If the file can't be opened, is not georeferenced, or names no band.
    MetadataError
        If it has 8 bits and no scale, so that its reflectance is unknown.
    ConfigError
        If `bands` does not fit the file.
    """
    with open_raster(str(path), "The scene") as dataset:
        names = _band_names(dataset, bands)
        grid = scene_grid(dataset)
        sources = {
            name: on_grid(band_source(dataset, name, str(path), index), dataset.crs.to_wkt(), grid)
            for index, name in enumerate(names, 1)
            if name
        }
        tags = {key.lower(): value for key, value in dataset.tags().items()}
    return Scene(
        id=path.stem,
        href=str(path),
        grid=grid,
        bands=sources,
        acquired=acquired_in_name(tags, path.name),
        platform=platform_in_name(tags, path.name),
        level=level_in_name(tags, path.name, sources),
        tile=tile_in_name(path.name),
        files=(path,),
    )


def _band_names(dataset: DatasetReader, given: Sequence[str] | None) -> list[str | None]:
    if given is None:
        names = [band_name(description) for description in dataset.descriptions]
        if not any(names):
            raise NotAProductError(
                f"No band of {dataset.name} is described as a Sentinel-2 band (B02, B03...). Name all "
                f"{dataset.count}: --bands B04,B03,..."
            )
    else:
        names = [band_name(text) for text in given]
        if None in names or len(names) != dataset.count:
            raise ConfigError(
                f"--bands must name each of the {dataset.count} bands of {dataset.name} as one of "
                f"{', '.join(BAND_NAMES)}. Received: {','.join(given)}"
            )
    known = [name for name in names if name]
    if len(set(known)) < len(known):
        raise (ConfigError if given else NotAProductError)(
            f"A band is named twice in {dataset.name}: {', '.join(known)}"
        )
    return names


def band_source(dataset: DatasetReader, name: str, href: str, index: int) -> BandSource:
    """Return the source of one band of an open raster, with the scale, offset and nodata of its tags.

    Raises MetadataError if it has 8 bits and no scale.
    """
    dtype = np.dtype(dataset.dtypes[index - 1])
    scale, offset, nodata = (
        float(dataset.scales[index - 1]),
        float(dataset.offsets[index - 1]),
        dataset.nodatavals[index - 1],
    )
    if (scale, offset) == (1.0, 0.0) and dtype.kind in "iu":
        if dtype.itemsize == 1:
            raise MetadataError(
                f"{href} has 8 bits and no scale, so its reflectance is unknown; set it, "
                "e.g. gdal_edit.py -scale 0.00392157 FILE."
            )
        scale = DEFAULT_SCALE
    if nodata is not None and not math.isfinite(nodata):
        nodata = None  # values that are not finite are never valid
    if nodata is None and dtype.kind in "iu" and dtype.itemsize > 1:
        nodata = 0.0
    return BandSource(name, href, index, scale, offset, nodata, gsd=round(float(dataset.transform.a), 3))


READER = Reader(
    "a GeoTIFF with band descriptions",
    lambda href: (
        not is_url(href) and Path(href).suffix.lower() in (".tif", ".tiff") and not Path(href).is_dir()
    ),
    lambda href, bands: open_geotiff(Path(href), bands),
    names_bands=True,
)
