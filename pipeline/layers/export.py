"""Vector layers as files: GeoJSON, GeoPackage with its styles, GeoParquet, FlatGeobuf."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyogrio
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError
from pyproj.exceptions import CRSError, ProjError
from rasterio._err import CPLE_BaseError  # the only name under which a failing raster copy can be caught
from rasterio.errors import RasterioError

from pipeline import files
from pipeline.config import ExportFormat
from pipeline.errors import GeoreferenceError

GEOJSON_DECIMALS = 7
"""About a centimetre."""
_ROWS_AT_ONCE = 65_536
_FEATURES_AT_ONCE = 10_000
_SUFFIXES: Mapping[ExportFormat, str] = {"parquet": ".parquet", "flatgeobuf": ".fgb", "geojson": ".geojson"}
_LAYER_STYLES = """
CREATE TABLE layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256), f_table_schema TEXT(256),
    f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT,
    useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30),
    update_time DATETIME DEFAULT CURRENT_TIMESTAMP
)"""


_DRIVER_FAILURES = (RasterioError, CPLE_BaseError, DataSourceError, DataLayerError, sqlite3.Error)


def replacing(path: Path) -> AbstractContextManager[Path]:
    """`files.replacing` for what GDAL and SQLite write."""
    return files.replacing(path, *_DRIVER_FAILURES)


def write_trucks_geojson(trucks: gpd.GeoDataFrame, path: Path) -> None:
    """The trucks as GeoJSON, each with its `id` as the feature's; see `write_geojson`."""
    write_geojson(trucks, path, id_column="id")


def write_geojson(layer: gpd.GeoDataFrame, path: Path, id_column: str | None = None) -> None:
    """A layer of polygons as GeoJSON by RFC 7946, one feature a line, the same bytes for the same layer.

    WGS 84 longitude and latitude with 7 decimals, exteriors counter-clockwise, no `crs` member; polygons
    across the antimeridian are cut there (RFC 7946, 3.1.9). What is missing or not finite is null, times
    are RFC 3339 in UTC.

    Raises
    ------
    GeoreferenceError
        If the layer's CRS is unknown or cannot be transformed to WGS 84.
    OutputError
        If the file cannot be written.
    """
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="\n") as file:
        file.write('{"type":"FeatureCollection","features":[\n')
        for start in range(0, max(1, len(layer)), _FEATURES_AT_ONCE):
            features = _features(layer.iloc[start : start + _FEATURES_AT_ONCE], path.name, id_column)
            file.write((",\n" if start else "") + ",\n".join(features))
        file.write("\n]}\n")


def _features(layer: gpd.GeoDataFrame, name: str, id_column: str | None) -> Iterator[str]:
    geometries = shapely.to_geojson(_lonlat(layer, name)).tolist()
    names = [column for column in layer.columns if column != layer.geometry.name]
    rows = zip(*([_json_value(value) for value in layer[column].tolist()] for column in names), strict=True)
    records = [dict(zip(names, row, strict=True)) for row in rows] if names else [{} for _ in geometries]
    for properties, geometry in zip(records, geometries, strict=True):
        head = '{"type":"Feature",' + (f'"id":{_dump(properties[id_column])},' if id_column else "")
        yield f'{head}"geometry":{geometry},"properties":{_dump(properties)}}}'


def write_gpkg(path: Path, layers: Mapping[str, gpd.GeoDataFrame], styles: Mapping[str, str]) -> None:
    """Layers by name as one GeoPackage 1.2, with QGIS styles (QML by layer name) that load by themselves.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    with replacing(path) as part:
        for number, (name, layer) in enumerate(layers.items()):
            creation = {} if number else {"dataset_options": {"VERSION": "1.2"}}
            if len(layer) > _ROWS_AT_ONCE:
                _write_in_parts(layer, part, layer_name=name, append=number > 0, **creation)
            else:
                pyogrio.write_dataframe(
                    layer,
                    part,
                    driver="GPKG",
                    layer=name,
                    append=number > 0,
                    geometry_type=None if len(layer) else "Polygon",
                    **creation,
                )
        _store_styles(part, {name: styles[name] for name in layers if name in styles})


def write_formats(
    layers: Mapping[str, gpd.GeoDataFrame], folder: Path, formats: Iterable[ExportFormat]
) -> dict[str, Path]:
    """Every layer in every one of the formats, as `folder/<layer>.<suffix>`; the paths by file name.

    Raises
    ------
    OutputError
        If a file cannot be written.
    GeoreferenceError
        For GeoJSON, if a layer's CRS cannot be transformed to WGS 84.
    """
    paths: dict[str, Path] = {}
    for kind in formats:
        for name, layer in layers.items():
            path = folder / f"{name}{_SUFFIXES[kind]}"
            if kind == "geojson":
                write_geojson(layer, path, id_column="id" if "id" in layer else None)
            else:
                _write_format(layer, name, path, kind)
            paths[path.name] = path
    return paths


def _write_format(layer: gpd.GeoDataFrame, name: str, path: Path, kind: ExportFormat) -> None:
    with replacing(path) as part:
        if kind == "parquet":
            layer.to_parquet(part, index=False)
        else:
            kinds = None if len(layer) else "Polygon"
            pyogrio.write_dataframe(layer, part, driver="FlatGeobuf", layer=name, geometry_type=kinds)


def _write_in_parts(layer: gpd.GeoDataFrame, gpkg: Path, layer_name: str, **options: Any) -> None:
    """A large layer of polygons through Arrow, so that only some rows exist a second time, as WKB."""

    def table(rows: slice) -> pa.Table:
        return pa.table(layer.iloc[rows].to_arrow(index=False))

    starts = range(0, len(layer), _ROWS_AT_ONCE)
    batches = (batch for start in starts for batch in table(slice(start, start + _ROWS_AT_ONCE)).to_batches())
    pyogrio.write_arrow(
        pa.RecordBatchReader.from_batches(table(slice(0)).schema, batches),
        gpkg,
        driver="GPKG",
        layer=layer_name,
        geometry_name=layer.geometry.name,
        geometry_type="Polygon",
        crs=layer.crs.to_wkt() if layer.crs else None,
        **options,
    )


def _store_styles(gpkg: Path, styles: Mapping[str, str]) -> None:
    """The table in which QGIS keeps styles, registered as an attributes table of the GeoPackage."""
    with closing(sqlite3.connect(gpkg)) as database, database:
        database.execute(_LAYER_STYLES)
        database.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, srs_id) "
            "VALUES ('layer_styles', 'attributes', 'layer_styles', '', 0)"
        )
        for name, qml in styles.items():
            database.execute(
                "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, "
                "styleName, styleQML, styleSLD, useAsDefault, description, owner) "
                "SELECT '', '', table_name, column_name, table_name, ?, '', 1, '', '' "
                "FROM gpkg_geometry_columns WHERE table_name = ?",
                (qml, name),
            )


def _lonlat(layer: gpd.GeoDataFrame, name: str) -> NDArray[np.object_]:
    """Polygons in WGS 84, rounded, cut at the antimeridian, exteriors counter-clockwise."""
    if layer.crs is None:
        raise GeoreferenceError(f"{name} needs a place on Earth, but the scene has no CRS.")
    try:
        geometries = layer.geometry.to_crs("EPSG:4326").to_numpy()
    except (CRSError, ProjError) as error:
        raise GeoreferenceError(f"The scene's CRS cannot be transformed to WGS 84: {error}") from error
    if not np.isfinite(shapely.get_coordinates(geometries)).all():
        raise GeoreferenceError(
            f"{name}: places lie outside of where the CRS {layer.crs.name} is defined; check the scene's "
            "geotransform."
        )
    bounds = shapely.bounds(geometries)
    for index in np.flatnonzero(bounds[:, 2] - bounds[:, 0] > 180):
        geometries[index] = _cut_at_antimeridian(geometries[index])
    rounded = shapely.transform(geometries, lambda places: np.round(places, GEOJSON_DECIMALS))
    return np.asarray(shapely.orient_polygons(rounded), dtype=object)


def _cut_at_antimeridian(polygon: shapely.Polygon) -> shapely.MultiPolygon:
    """A polygon whose longitudes jump from 180 to -180, as its parts on either side."""
    whole = shapely.transform(polygon, lambda places: places + np.where(places < 0, [360.0, 0.0], 0.0))
    west = shapely.intersection(whole, shapely.box(0, -90, 180, 90))
    east = shapely.transform(
        shapely.intersection(whole, shapely.box(180, -90, 360, 90)), lambda places: places - [360.0, 0.0]
    )
    return shapely.MultiPolygon([part for side in (west, east) for part in shapely.get_parts(side)])


def _json_value(value: Any) -> Any:
    if isinstance(value, datetime) and not pd.isna(value):
        moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        exact = moment.isoformat(timespec="milliseconds" if moment.microsecond else "seconds")
        return exact.replace("+00:00", "Z")
    if value is None or value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value.item() if isinstance(value, np.generic) else value


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
