"""Vector files through GDAL: atomic writes, and large layers in parts."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from typing import Any

import geopandas as gpd
import pyarrow as pa
import pyogrio
from pyogrio.errors import DataLayerError, DataSourceError
from rasterio.errors import RasterioError

from pipeline.private_interfaces import raster_copy_error
from pipeline.storage import atomic

ROWS_AT_ONCE = 65_536
ROWS_AS_WKB = 8_192
"""Of a large layer so many rows exist a second time while it is written: 10 MB of land cover's polygons."""


_DRIVER_FAILURES = (RasterioError, raster_copy_error(), DataSourceError, DataLayerError, sqlite3.Error)


def replacing(path: Path) -> AbstractContextManager[Path]:
    """`atomic.replacing` for what GDAL and SQLite write."""
    return atomic.replacing(path, *_DRIVER_FAILURES)


def write_vector(layer: gpd.GeoDataFrame, target: Path | BytesIO, driver: str, /, **options: Any) -> None:
    """Write a layer by a driver of GDAL; `options` are those of pyogrio.

    Of a large layer only `ROWS_AS_WKB` rows exist a second time, as WKB.
    """
    if len(layer) <= ROWS_AT_ONCE:
        kind = None if len(layer) else "Polygon"
        pyogrio.write_dataframe(layer, target, driver=driver, geometry_type=kind, **options)
        return

    def table(rows: gpd.GeoDataFrame) -> pa.Table:
        return pa.table(rows.to_arrow(index=False))

    kinds = layer.geom_type.unique()
    pyogrio.write_arrow(
        pa.RecordBatchReader.from_batches(
            table(layer.iloc[:0]).schema,
            (batch for rows in slices(layer, ROWS_AS_WKB) for batch in table(rows).to_batches()),
        ),
        target,
        driver=driver,
        geometry_name=layer.geometry.name,
        geometry_type=kinds[0] if len(kinds) == 1 else "Unknown",
        crs=layer.crs.to_wkt() if layer.crs else None,
        **options,
    )
    pa.default_memory_pool().release_unused()  # which it would keep: 80 MB of a granule's land cover


def slices(layer: gpd.GeoDataFrame, length: int) -> Iterator[gpd.GeoDataFrame]:
    """Yield a layer in parts of `length` rows."""
    return (layer.iloc[start : start + length] for start in range(0, len(layer), length))
