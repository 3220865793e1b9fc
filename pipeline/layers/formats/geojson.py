"""GeoJSON by RFC 7946."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import ArrayLike, NDArray
from pyproj.exceptions import CRSError, ProjError
from shapely.geometry.base import BaseGeometry

from pipeline.errors import GeoreferenceError
from pipeline.layers.formats.writing import replacing, slices

GEOJSON_DECIMALS = 7
"""About a centimetre."""


FEATURES_AT_ONCE = 10_000
_COLLECTIONS: tuple[Callable[[Any], BaseGeometry], ...] = (
    shapely.MultiPoint,
    shapely.MultiLineString,
    shapely.MultiPolygon,
)


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
        for rows in slices(layer, FEATURES_AT_ONCE):
            geometries = to_lonlat(rows.geometry, path.name)
            file.write((",\n" if boxes else "") + ",\n".join(geojson_features(rows, geometries, id_column)))
            boxes.append(lonlat_bbox(shapely.bounds(shapely.get_parts(geometries))))
        file.write("\n]" + (f',"bbox":{_dump(lonlat_bbox(boxes))}' if boxes else "") + "}\n")


def geojson_features(
    layer: gpd.GeoDataFrame, geometries: NDArray[np.object_], id_column: str | None = None
) -> Iterator[str]:
    """Yield each row as the text of a GeoJSON feature."""
    names = [column for column in layer.columns if column != layer.geometry.name]
    rows = zip(*([_json_value(value) for value in layer[column].tolist()] for column in names), strict=True)
    records = [dict(zip(names, row, strict=True)) for row in rows] if names else [{} for _ in geometries]
    for properties, geometry in zip(records, shapely.to_geojson(geometries).tolist(), strict=True):
        head = '{"type":"Feature",' + (f'"id":{_dump(properties[id_column])},' if id_column else "")
        yield f'{head}"geometry":{geometry},"properties":{_dump(properties)}}}'


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
