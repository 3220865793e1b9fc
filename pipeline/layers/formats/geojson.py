"""GeoJSON by RFC 7946, as GDAL writes it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from pyproj.exceptions import CRSError, ProjError
from shapely.geometry.base import BaseGeometry

from pipeline.errors import GeoreferenceError
from pipeline.layers.formats.writing import replacing, write_vector

_ID = "feature_id"
_OPTIONS = {"RFC7946": "YES", "WRITE_BBOX": "YES", "WRITE_NAME": "NO", "COORDINATE_PRECISION": "7"}
"""Seven decimals are about a centimetre."""


def write_geojson(layer: gpd.GeoDataFrame, path: Path) -> None:
    """Write a layer as GeoJSON by RFC 7946, one feature a line, the same bytes for the same layer.

    Coordinates are WGS 84 longitude and latitude with 7 decimals, exteriors counter-clockwise; there is no
    `crs` member. Features have a `bbox`, and so has the layer if it has features. A column `id` is the id of
    the features, too. Across the antimeridian geometries are cut (RFC 7946, 3.1.9), and the west of `bbox` is
    greater than its east (5.2). Missing values are null, times RFC 3339 in UTC.

    Raises
    ------
    GeoreferenceError
        If the layer's CRS is unknown or cannot be transformed to WGS 84.
    OutputError
        If the file cannot be written.
    """
    _check_place(layer, path.name)
    with replacing(path) as part:
        _write(layer, part)


def geojson_feature(geometry: BaseGeometry, crs: str, name: str) -> dict[str, Any]:
    """Return a GeoJSON feature of a geometry, with its `bbox`, as `write_geojson` writes it.

    `name` is the subject of messages.

    Raises
    ------
    GeoreferenceError
        If the CRS cannot be transformed to WGS 84.
    """
    layer = gpd.GeoDataFrame(geometry=[geometry], crs=crs)
    _check_place(layer, name)
    buffer = BytesIO()
    _write(layer, buffer)
    return dict(json.loads(buffer.getvalue())["features"][0])


def lonlat_bbox(boxes: Sequence[Sequence[float]]) -> list[float]:
    """Return the smallest box around boxes of west, south, east, north, in degrees.

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
    return [round(float(edge), 7) for edge in turned]


def _write(layer: gpd.GeoDataFrame, target: Path | BytesIO) -> None:
    options = dict(_OPTIONS)
    if "id" in layer:  # GDAL takes the field of the ids out of the properties
        layer, options["ID_FIELD"] = layer.assign(**{_ID: layer["id"]}), _ID
    write_vector(layer, target, "GeoJSON", layer_options=options)


def _check_place(layer: gpd.GeoDataFrame, name: str) -> None:
    if layer.crs is None:
        raise GeoreferenceError(f"{name} needs a place on Earth, but the scene has no CRS.")
    try:
        bounds = gpd.GeoSeries([shapely.box(*layer.total_bounds)], crs=layer.crs).to_crs("EPSG:4326")
    except (CRSError, ProjError) as error:
        raise GeoreferenceError(f"The scene's CRS cannot be transformed to WGS 84: {error}") from error
    if len(layer) and not np.isfinite(shapely.get_coordinates(bounds)).all():
        raise GeoreferenceError(
            f"{name}: places are outside of where the CRS {layer.crs.name} is defined; check the scene's "
            "geotransform."
        )
