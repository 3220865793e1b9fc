"""The area searched for trucks, and the rest with the reason: no silent holes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio

from pipeline.inference.predictions import LOOKED_AT, SEEN, STATUS_NAMES, Detections
from pipeline.layers import columns
from pipeline.layers.polygonise.outline import outline
from pipeline.layers.polygonise.regions import label_regions, read_strips
from pipeline.layers.surroundings import values_at

_NO_CODE = 255


class SeenLayers(NamedTuple):
    """The searched area and the rest; each pixel of the scene is in one of them."""

    seen: gpd.GeoDataFrame
    not_seen: gpd.GeoDataFrame
    fraction: float
    """Searched share of the scene's pixels, 0-1."""


def seen_layers(status_raster: Path) -> SeenLayers:
    """Polygonise the searched area (`status`, `area_m2`), and the rest (`reason`, `area_m2`).

    `status` is `seen`, or `screened` where a screener rejected the place and the detector did not run;
    `reason` is `nodata`, `cloud`, `shadow` (of a cloud) or `no_road`. One row a 4-connected region, in the
    raster's CRS, along pixel edges; both layers together cover the scene once and share their nodes. Read
    strip by strip.
    """
    with rasterio.open(status_raster) as source:
        transform, crs = source.transform, source.crs
        regions = label_regions(read_strips(source), _NO_CODE)
    polygons, area = outline(regions, transform), regions.sizes * abs(transform.determinant)
    names = np.array([STATUS_NAMES[code] for code in regions.values.tolist()], dtype=object)

    def layer(kind: columns.Layer, column: str, rows: np.ndarray) -> gpd.GeoDataFrame:
        frame = gpd.GeoDataFrame(
            {column: pd.Series(names[rows], dtype="str"), "area_m2": area[rows].astype(np.float64)},
            geometry=gpd.GeoSeries(polygons[rows], crs=crs),
            crs=crs,
        )
        return kind.conform(frame)

    looked_at = np.isin(regions.values, LOOKED_AT)
    fraction = int(regions.sizes[looked_at].sum()) / int(regions.sizes.sum())
    return SeenLayers(
        layer(columns.SEEN, "status", looked_at),
        layer(columns.NOT_SEEN, "reason", ~looked_at),
        fraction,
    )


def where_seen(detections: Detections, status_raster: Path) -> Detections:
    """Return the detections, in pixels of the raster, whose centre is on a searched pixel."""
    with rasterio.open(status_raster) as source:
        affine = source.transform
    cols, rows = (detections.pixels + 0.5).T
    return detections.take(
        values_at(status_raster, affine.c + cols * affine.a, affine.f + rows * affine.e) == SEEN
    )
