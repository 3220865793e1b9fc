"""Land cover as layers: a Cloud Optimized GeoTIFF, and polygons that form a valid coverage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import rasterio.shutil
from rasterio.enums import ColorInterp

from pipeline.layers.columns import LANDCOVER
from pipeline.layers.formats.writing import replacing
from pipeline.layers.polygonise.outline import outline
from pipeline.layers.polygonise.regions import absorb_small, label_regions, read_strips
from pipeline.layers.styles import rgb
from pipeline.models.legend import LegendClass

NODATA = 255
"""Value of land-cover pixels without a class."""
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
    with (
        replacing(destination) as part,
        TemporaryDirectory() as scratch,
        rasterio.Env(GDAL_CACHEMAX=_COG_CACHE_MB),
    ):
        dressed = Path(scratch) / "legend.vrt"
        rasterio.shutil.copy(source_raster.resolve(), dressed, driver="VRT")
        with rasterio.open(dressed, "r+") as vrt:
            vrt.nodata = NODATA
            vrt.colorinterp = [ColorInterp.palette]
            vrt.write_colormap(1, {entry.value: (*rgb(entry.colour), 255) for entry in legend})
            vrt.set_band_description(1, "land cover")
            vrt.update_tags(1, **{f"CLASS_{entry.value}": entry.name for entry in legend})
        rasterio.shutil.copy(
            dressed,
            part,
            driver="COG",
            compress="DEFLATE",
            blocksize=512,
            overview_resampling="MODE",
            bigtiff="IF_SAFER",
            num_threads=2,  # to compress; the bytes are the same
        )


def polygonise(
    raster: Path, legend: Sequence[LegendClass], min_area_m2: float = 0.0, simplify_m: float = 0.0
) -> gpd.GeoDataFrame:
    """Polygonise the regions of a class raster as a valid coverage, in the raster's CRS.

    Columns `class`, `name`, `colour`, `area_m2` and geometry, one row a 4-connected region, in the order of
    their first pixels. Regions below `min_area_m2` are merged into their largest neighbour (see
    `regions.absorb_small`). With `simplify_m` 0 the polygons follow pixel edges and have exactly the area of
    their pixels. Above 0 the inner borders are simplified, block by block (see `outline` and `simplify`): the
    coverage stays valid, its outer border is unchanged, and each polygon, so each class, keeps its area to
    0.02 %. Borders for which this is impossible stay on pixel edges. `area_m2` is the area of the pixels.

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
    areas = gpd.GeoDataFrame(
        {
            "class": values.astype(np.int64),
            "name": pd.array([entry.name for entry in legend], dtype="str").take(rows),
            "colour": pd.array([entry.colour for entry in legend], dtype="str").take(rows),
            "area_m2": regions.sizes * pixel_area,
        },
        geometry=gpd.GeoSeries(polygons, crs=crs),
        crs=crs,
    )
    return LANDCOVER.conform(areas)
