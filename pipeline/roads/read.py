"""Road lines from any file, with an id, a class and their traffic rules."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pyproj
import pyproj.exceptions
import shapely

from pipeline.errors import RoadsError
from pipeline.storage.untrusted_vectors import read_layer, split_layer, vector_source

ROAD_COLUMNS = ("road_id", "road_class", "name", "ref", "oneway", "lanes", "maxspeed", "geometry")

TRUCK_HIGHWAYS = tuple(
    kind + link for kind in ("motorway", "trunk", "primary", "secondary") for link in ("", "_link")
)
"""Values of OpenStreetMap's `highway` that are read. Lower classes have few trucks, and narrow roads between
fields look like them."""

LAYERS = ("roads", "road_segments")
"""Layers of a file of several that are roads by their names."""

_OSM_SUFFIXES = (".osm", ".pbf", ".osm.gz", ".osm.xml", ".osm.xml.gz")
_ID_COLUMNS = ("road_id", "osm_id", "osm_way_id", "id")
_CLASS_COLUMNS = ("road_class", "highway", "fclass")
_OSM_CLASS_COLUMNS = ("highway", "fclass")
_ONEWAY = {
    **dict.fromkeys(("yes", "true", "1", "f"), 1),
    **dict.fromkeys(("-1", "reverse", "t"), -1),
}
"""Values of `oneway` in OpenStreetMap, and in Geofabrik's Shapefiles: F along the line, T against it."""


def read_roads(
    path: Path, crs: Any, bounds: tuple[float, float, float, float] | None = None
) -> gpd.GeoDataFrame:
    """Read road lines of a GeoPackage, GeoJSON, Shapefile or OpenStreetMap file, in `crs`: `ROAD_COLUMNS`.

    `path` is `FILE` or `FILE:LAYER`; without a layer it is one of `LAYERS`, else the only one of lines.
    From OpenStreetMap files (`.osm.pbf`, `.osm`, `.osm.gz`, `.osm.xml.gz`) only `TRUCK_HIGHWAYS` are read;
    from other files all lines. `road_id` is OpenStreetMap's if the file has it, else a hash of the line in
    the file. `road_class` is the column `road_class`, `highway` or `fclass`. `oneway` is 1
    along the line, -1 against it and 0 both ways; where the class is OpenStreetMap's, a motorway or
    roundabout without it is one-way. `name`, `ref`, `lanes` (a whole number) and `maxspeed` (as tagged) are
    null if unknown. `bounds` (x_min, y_min, x_max, y_max, in `crs`) leaves out distant roads.

    Memory: the roads within the bounds, and for OpenStreetMap files GDAL's index of nodes, of which it keeps
    100 MB in memory and the rest in a temporary file.

    Raises
    ------
    RoadsError, VectorFileError
        As `vector_source`, or if the file has no CRS or holds anything but lines.
    """
    file, layer = split_layer(path)
    if file.name.lower().endswith(_OSM_SUFFIXES) and layer in (None, "lines"):
        with vector_source(file, "Roads") as source:
            roads = _read_osm(source, crs, bounds)
    else:
        box_in = None if bounds is None else partial(_box_in, crs=crs, bounds=bounds)
        roads = read_layer(path, "Roads", "lines", LAYERS, box_in)
    if not isinstance(roads, gpd.GeoDataFrame):
        raise RoadsError(f"Roads are lines; {path} has no geometry.")
    if roads.crs is None:
        raise RoadsError(f"Roads without a coordinate reference system can't be placed; set it in {path}.")
    roads = roads[~(roads.geometry.isna() | roads.geometry.is_empty)]
    others = sorted(set(roads.geom_type) - {"LineString", "MultiLineString"})
    if others:
        raise RoadsError(f"Roads are lines; {path} holds: {', '.join(others)}.")
    try:
        placed = roads.geometry.to_crs(crs)
    except pyproj.exceptions.ProjError as error:
        raise RoadsError(f"Roads can't be reprojected from {roads.crs.to_string()}: {path}") from error
    near = np.ones(len(roads), bool) if bounds is None else placed.intersects(shapely.box(*bounds)).to_numpy()
    roads, placed = roads[near], placed[near]
    return gpd.GeoDataFrame(
        {
            "road_id": _text(_ids(roads)),
            "road_class": _text(_classes(roads)),
            "name": _text(_optional(roads, "name")),
            "ref": _text(_optional(roads, "ref")),
            "oneway": np.array(_oneway(roads), dtype=np.int8),
            "lanes": pd.array(_lanes(_optional(roads, "lanes")), dtype="Int64"),
            "maxspeed": _text(_optional(roads, "maxspeed")),
        },
        geometry=shapely.force_2d(placed.to_numpy()),
        crs=placed.crs,
    )


def _read_osm(source: str, crs: Any, bounds: tuple[float, float, float, float] | None) -> gpd.GeoDataFrame:
    """Read the ways of `TRUCK_HIGHWAYS`, tags as columns; GDAL drops ways with fewer than two nodes."""
    classes = ", ".join(f"'{kind}'" for kind in TRUCK_HIGHWAYS)
    ways = pyogrio.read_dataframe(
        source,
        layer="lines",
        columns=["osm_id", "name", "highway", "other_tags"],
        where=f"highway IN ({classes})",
        bbox=None if bounds is None else _box_in("EPSG:4326", crs, bounds),
        TAGS_FORMAT="JSON",
    )
    tags = [_tags(value) for value in ways.pop("other_tags")]
    return ways.assign(
        **{key: [tag.get(key) for tag in tags] for key in ("ref", "oneway", "lanes", "maxspeed", "junction")}
    )


def _tags(value: Any) -> dict[str, str]:
    """Parse the other tags of a way: a mapping, its text (pyogrio before 0.12), or nothing."""
    if isinstance(value, str):
        value = json.loads(value)
    return value if isinstance(value, dict) else {}


def _box_in(
    theirs: Any, crs: Any, bounds: tuple[float, float, float, float]
) -> tuple[float, float, float, float] | None:
    """Return the bounds in a file's CRS, a little wider; None if undefined, as across the antimeridian."""
    try:
        transformer = pyproj.Transformer.from_crs(crs, theirs, always_xy=True)
        west, south, east, north = transformer.transform_bounds(*bounds, densify_pts=41)
    except pyproj.exceptions.ProjError:
        return None
    margin_x, margin_y = 0.01 * (east - west), 0.01 * (north - south)
    if not (np.isfinite([west, south, east, north]).all() and margin_x >= 0 and margin_y >= 0):
        return None
    return west - margin_x, south - margin_y, east + margin_x, north + margin_y


def _text(values: Iterable[str | None]) -> pd.Series:
    return pd.Series(list(values), dtype=object)


def _optional(roads: gpd.GeoDataFrame, column: str) -> list[str | None]:
    """Return a column as text; None where a value, or the column, is missing."""
    if column not in roads:
        return [None] * len(roads)
    return [None if pd.isna(value) else str(value) for value in roads[column]]


def _ids(roads: gpd.GeoDataFrame) -> list[str]:
    for column in _ID_COLUMNS:
        if column in roads and roads[column].notna().all():
            return [str(value) for value in roads[column]]
    lines = shapely.to_wkb(roads.geometry.to_numpy())
    return [hashlib.sha256(line).hexdigest()[:12] for line in lines]


def _classes(roads: gpd.GeoDataFrame) -> list[str | None]:
    for column in _CLASS_COLUMNS:
        if column in roads:
            return _optional(roads, column)
    return [None] * len(roads)


def _oneway(roads: gpd.GeoDataFrame) -> list[int]:
    """Return 1 along the line, -1 against it, 0 both ways (OpenStreetMap wiki, Key:oneway)."""
    implied = np.zeros(len(roads), bool)
    for column in _OSM_CLASS_COLUMNS:
        if column in roads:
            implied |= (roads[column] == "motorway").to_numpy(dtype=bool)
            implied |= np.array([value == "roundabout" for value in _optional(roads, "junction")], bool)
    return [
        int(default) if value is None else _ONEWAY.get(value.lower(), 0)
        for value, default in zip(_optional(roads, "oneway"), implied, strict=True)
    ]


def _lanes(values: list[str | None]) -> list[int | None]:
    numbers = pd.to_numeric(pd.Series(values, dtype=object), errors="coerce")
    return [int(number) if number > 0 and number == number // 1 else None for number in numbers]
