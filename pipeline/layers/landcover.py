"""Land cover as layers: Cloud Optimized GeoTIFFs, and polygons that form a valid coverage."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from pipeline.inference.predictions import NO_CLASS, PROBABILITY_STEPS
from pipeline.layers.columns import LANDCOVER, LANDCOVER_WITH_CONFIDENCE
from pipeline.layers.formats.writing import replacing
from pipeline.layers.polygonise.outline import outline
from pipeline.layers.polygonise.regions import (
    OUTSIDE,
    STRIP_ROWS,
    Regions,
    absorb_small,
    label_regions,
    read_strips,
)
from pipeline.layers.styles import rgb
from pipeline.models.legend import LegendClass

NODATA = NO_CLASS
"""Value of land-cover pixels without a class."""
PROBABILITY_SCALE = 1 / PROBABILITY_STEPS
"""Probability of one step of a raster of probabilities."""
_COG_CACHE_MB = 64


def write_cog(source_raster: Path, destination: Path, legend: Sequence[LegendClass]) -> None:
    """Write a class raster (uint8, one band, tiled GeoTIFF) as a COG with colours and names of its classes.

    Overviews have the most frequent class; 255 is nodata. The colour table is that of the legend; the name of
    each class is a tag of the band, `CLASS_<value>`. Memory: below 100 MB for any size of raster, since GDAL
    copies block by block. The file appears when it is complete.

    Raises
    ------
    OutputError
        If the destination cannot be written.
    """

    def dress(vrt: rasterio.io.DatasetWriter) -> None:
        vrt.colorinterp = [ColorInterp.palette]
        vrt.write_colormap(1, {entry.value: (*rgb(entry.colour), 255) for entry in legend})
        vrt.set_band_description(1, "land cover")
        vrt.update_tags(1, **{f"CLASS_{entry.value}": entry.name for entry in legend})

    _write_cog(source_raster, destination, dress, overview_resampling="MODE")


def write_probability_cog(source_raster: Path, destination: Path, legend: Sequence[LegendClass]) -> None:
    """Write a raster of probabilities (uint8, a band for each class, tiled GeoTIFF) as a COG.

    Bands are named by their classes and have the scale `PROBABILITY_SCALE`: probability = value * scale.
    Overviews have the mean; 255 is nodata. Memory, appearance and errors as `write_cog`.
    """

    def dress(vrt: rasterio.io.DatasetWriter) -> None:
        vrt.colorinterp = [ColorInterp.gray, *[ColorInterp.undefined] * (vrt.count - 1)]
        vrt.descriptions = [entry.name for entry in legend]
        vrt.scales = [PROBABILITY_SCALE] * vrt.count

    # Level 6 takes twice as long, for 3 % of the size.
    _write_cog(source_raster, destination, dress, overview_resampling="AVERAGE", predictor="YES", level="1")


def _write_cog(
    source_raster: Path, destination: Path, dress: Callable[[rasterio.io.DatasetWriter], None], **options: str
) -> None:
    """Copy a raster to a COG; `dress` adds what its values mean."""
    with (
        replacing(destination) as part,
        TemporaryDirectory() as scratch,
        rasterio.Env(GDAL_CACHEMAX=_COG_CACHE_MB),
    ):
        dressed = Path(scratch) / "legend.vrt"
        rasterio.shutil.copy(source_raster.resolve(), dressed, driver="VRT")
        with rasterio.open(dressed, "r+") as vrt:
            vrt.nodata = NODATA
            dress(vrt)
        rasterio.shutil.copy(
            dressed,
            part,
            driver="COG",
            compress="DEFLATE",
            blocksize=512,
            bigtiff="IF_SAFER",
            num_threads=2,  # to compress; the bytes are the same
            **options,
        )


def polygonise(
    raster: Path,
    legend: Sequence[LegendClass],
    min_area_m2: float = 0.0,
    simplify_m: float = 0.0,
    probabilities: Path | None = None,
) -> gpd.GeoDataFrame:
    """Polygonise the regions of a class raster as a valid coverage, in the raster's CRS.

    Columns `class`, `name`, `colour`, `area_m2` and geometry, one row a 4-connected region, in the order of
    their first pixels. Regions below `min_area_m2` are merged into their largest neighbour (see
    `regions.absorb_small`). With `simplify_m` 0 the polygons follow pixel edges and have exactly the area of
    their pixels. Above 0 the inner borders are simplified, block by block (see `outline` and `simplify`): the
    coverage stays valid, its outer border is unchanged, and each polygon, so each class, keeps its area to
    0.02 %. Borders for which this is impossible stay on pixel edges. `area_m2` is the area of the pixels.

    With a raster of `probabilities` there is also the column `confidence`: the mean probability of the
    polygon's class over all its pixels, those of merged regions included, 0-1.

    Reads the raster strip by strip. Memory: about 10 bytes a run of equal pixels and 16 a polygon's corner,
    beside the polygons; time grows with pixels and corners.

    Raises
    ------
    ValueError
        If the raster has a class that is not in the legend.
    """
    with rasterio.open(raster) as source:
        transform, crs = source.transform, source.crs
        regions = label_regions(read_strips(source), NODATA)
    pixel_area = abs(transform.determinant)
    regions = absorb_small(regions, math.ceil(min_area_m2 / pixel_area))
    known = {entry.value for entry in legend}
    unknown = sorted(set(np.unique(regions.values).tolist()) - known)
    if unknown:
        raise ValueError(f"The legend has classes {sorted(known)}. Received in {raster.name}: {unknown}")
    polygons, values = outline(regions, transform, simplify_m), regions.values
    entry_of = np.zeros(256, dtype=np.intp)
    entry_of[[entry.value for entry in legend]] = np.arange(len(legend))
    rows = entry_of[values]
    layer, confidence = LANDCOVER, {}
    if probabilities is not None:
        layer = LANDCOVER_WITH_CONFIDENCE
        confidence["confidence"] = mean_probabilities(regions, rows, probabilities)
    areas = gpd.GeoDataFrame(
        {
            "class": values.astype(np.int64),
            "name": pd.array([entry.name for entry in legend], dtype="str").take(rows),
            "colour": pd.array([entry.colour for entry in legend], dtype="str").take(rows),
            "area_m2": regions.sizes * pixel_area,
            **confidence,
        },
        geometry=gpd.GeoSeries(polygons, crs=crs),
        crs=crs,
    )
    return layer.conform(areas)


def mean_probabilities(regions: Regions, bands: NDArray[np.intp], probabilities: Path) -> NDArray[np.float64]:
    """Return (K,): the mean probability of each region's class over its pixels, 0-1, to 3 decimals.

    `bands` (K,) are the bands of the regions' classes in the raster, from 0. Memory: 30 bytes a pixel of a
    strip of rows, and 8 a region.
    """
    sums = np.zeros(len(regions))
    band_of = np.append(bands, NODATA).astype(np.uint8)  # OUTSIDE is the last
    with rasterio.open(probabilities) as source:
        for first in range(0, source.height, STRIP_ROWS):
            stop = min(first + STRIP_ROWS, source.height)
            labels = regions.labels(first, stop)
            wanted = band_of[labels]
            own = np.zeros(labels.shape, np.uint8)
            for band in np.unique(wanted[wanted != NODATA]).tolist():
                steps = source.read(band + 1, window=Window(0, first, source.width, stop - first))
                np.copyto(own, steps, where=wanted == band)
            inside = labels != OUTSIDE
            sums += np.bincount(labels[inside], own[inside], len(regions))
    means: NDArray[np.float64] = (sums * PROBABILITY_SCALE / regions.sizes).round(3)
    return means
