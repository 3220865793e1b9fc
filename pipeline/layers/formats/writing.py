"""What all writers of vector files share: atomic writes, slices of large layers."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import geopandas as gpd
from pyogrio.errors import DataLayerError, DataSourceError
from rasterio._err import CPLE_BaseError  # the only name under which a failing raster copy can be caught
from rasterio.errors import RasterioError

from pipeline.storage import atomic

ROWS_AT_ONCE = 65_536
ROWS_AS_WKB = 8_192
"""Of a large layer so many rows exist a second time while it is written: 10 MB of land cover's polygons."""


_DRIVER_FAILURES = (RasterioError, CPLE_BaseError, DataSourceError, DataLayerError, sqlite3.Error)


def replacing(path: Path) -> AbstractContextManager[Path]:
    """`atomic.replacing` for what GDAL and SQLite write."""
    return atomic.replacing(path, *_DRIVER_FAILURES)


def slices(layer: gpd.GeoDataFrame, length: int) -> Iterator[gpd.GeoDataFrame]:
    """Yield a layer in parts of `length` rows."""
    return (layer.iloc[start : start + length] for start in range(0, len(layer), length))
