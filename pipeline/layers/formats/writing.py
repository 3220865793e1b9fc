"""Vector files through GDAL: atomic writes, and large layers in parts."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import pyarrow as pa
import pyogrio
from pyogrio.errors import DataLayerError, DataSourceError
from rasterio.errors import RasterioError

from pipeline.layers.columns import LAYERS
from pipeline.private_interfaces import raster_copy_error
from pipeline.storage import atomic
from pipeline.storage.vector_sources import writable_name

ROWS_AT_ONCE = 65_536
ROWS_AS_WKB = 8_192
"""Of a large layer so many rows exist a second time while it is written: 10 MB of land cover's polygons."""


_DRIVER_FAILURES = (RasterioError, raster_copy_error(), DataSourceError, DataLayerError, sqlite3.Error)


def replacing(path: Path) -> AbstractContextManager[Path]:
    """`atomic.replacing` for what GDAL and SQLite write."""
    return atomic.replacing(path, *_DRIVER_FAILURES)


def write_vector(layer: gpd.GeoDataFrame, target: Path | BytesIO, driver: str, /, **options: Any) -> None:
    """Write a layer by a driver of GDAL; `options` are those of pyogrio.

    An empty layer has the geometry type of `LAYERS`, by its name `layer`; polygons if it is not there.
    Of a large layer only `ROWS_AS_WKB` rows exist a second time, as WKB.
    """
    if isinstance(target, Path):
        with writable_name(target) as name:
            _write(layer, str(name), driver, **options)
    else:
        _write(layer, target, driver, **options)


def _write(layer: gpd.GeoDataFrame, target: str | BytesIO, driver: str, /, **options: Any) -> None:
    if len(layer) <= ROWS_AT_ONCE:
        declared = LAYERS.get(options.get("layer", ""))
        kind = None if len(layer) else declared.geometry if declared else "Polygon"
        pyogrio.write_dataframe(layer, target, driver=driver, geometry_type=kind, **options)
        return

    def table(rows: gpd.GeoDataFrame) -> pa.Table:
        return pa.table(rows.to_arrow(index=False))

    kinds = layer.geom_type.unique()
    schema = with_types_of_all(table(layer.iloc[:0]).schema, layer)
    pyogrio.write_arrow(
        pa.RecordBatchReader.from_batches(
            schema,
            (batch for rows in slices(layer, ROWS_AS_WKB) for batch in table(rows).cast(schema).to_batches()),
        ),
        target,
        driver=driver,
        geometry_name=layer.geometry.name,
        geometry_type=kinds[0] if len(kinds) == 1 else "Unknown",
        crs=layer.crs.to_wkt() if layer.crs else None,
        **options,
    )
    pa.default_memory_pool().release_unused()  # which it would keep: 80 MB of a granule's land cover


def with_types_of_all(schema: pa.Schema, layer: gpd.GeoDataFrame) -> pa.Schema:
    """Return the schema of some rows of a layer with the types that all rows need.

    Python objects have no type without a value: a column of missing values, or of none, is text.
    """
    for name, dtype in layer.dtypes.items():
        if not (pd.api.types.is_object_dtype(dtype) or isinstance(dtype, pd.StringDtype)):
            continue
        kind = pa.infer_type(layer[name], from_pandas=True)
        if pa.types.is_null(kind) or pa.types.is_large_string(kind):
            kind = pa.string()
        at = schema.get_field_index(name)
        schema = schema.set(at, schema.field(at).with_type(kind))
    return schema


def slices(layer: gpd.GeoDataFrame, length: int) -> Iterator[gpd.GeoDataFrame]:
    """Yield a layer in parts of `length` rows."""
    return (layer.iloc[start : start + length] for start in range(0, len(layer), length))
