"""Road lines from any file, with an id, a class and their traffic rules."""

from __future__ import annotations

import hashlib
from collections import Counter
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
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from pipeline.errors import RoadsError
from pipeline.input_warnings import warn
from pipeline.roads import tags
from pipeline.roads.duplicates import merge_duplicates
from pipeline.roads.overture import with_osm_columns
from pipeline.storage.untrusted_vectors import read_extent, read_layer, split_layer, vector_source
from pipeline.storage.vector_places import without_strays
from pipeline.storage.vector_shapes import tangled
from pipeline.storage.vector_texts import read_frame

ROAD_COLUMNS = (
    *("road_id", "road_class", "name", "ref", "oneway", "lanes", "maxspeed", "hidden", "geometry"),
)
LAYERS = ("roads", "road_segments")
"""Layers of a file of several that are roads by their names."""

_COLLECTION, _LAST_SINGLE = 7, 3
"""Shapely's numbers of types: a collection, and the last of a single geometry."""
_RADIUS_M, _EQUATOR_M = 6_378_137.0, 40_075_017.0
_MOST_VERTICES = 500_000
"""OpenStreetMap's ways have 2000 at most, and a road across a continent some 100,000."""
_MOST_M, _MOST_M_A_VERTEX = 2e9, 2000.0
"""Length of all roads, and of all roads for each of their vertices, of which one must hold: a scene and what
is around it have less than a hundredth, and OpenStreetMap's lines 60 m a vertex."""
_OSM_SUFFIXES = (".osm", ".pbf", ".osm.gz", ".osm.xml", ".osm.xml.gz")
_TRUCK_ROADS = "highway IN ({})".format(", ".join(f"'{kind}'" for kind in tags.TRUCK_HIGHWAYS))


def read_roads(
    path: Path, crs: Any, bounds: tuple[float, float, float, float] | None = None
) -> gpd.GeoDataFrame:
    """Read road lines of any vector file, in `crs`: `ROAD_COLUMNS`.

    `path` is `FILE` or `FILE:LAYER`; without a layer it is one of `LAYERS`, else the only one of lines.
    From OpenStreetMap files (`.osm.pbf`, `.osm`, `.osm.gz`, `.osm.xml.gz`) only `TRUCK_HIGHWAYS` are read;
    from other files all lines but ferries, areas and roads that are not in use. `road_id` is OpenStreetMap's
    if the file has it, else a hash of the line in the file. `road_class` is the column `road_class`,
    `highway` or `fclass`, else `class` or `type` if it has values of `highway`; segments of Overture Maps
    have their own columns. `oneway` is 1 along the line, -1 against it and 0 both ways; where the class is
    OpenStreetMap's, a motorway or roundabout without it is one-way. `name`, `ref`, `lanes` (a whole number)
    and `maxspeed` (as tagged) are null if unknown. `hidden` is `tunnel` or `covered` where a road can't be
    seen, else null. Values that are not understood are named by a warning, see `pipeline.roads.tags`. Lines
    that lie on each other are one road, see `merge_duplicates`. `bounds` (x_min, y_min, x_max, y_max, in
    `crs`) leaves out distant roads.

    Memory: the roads within the bounds, and for OpenStreetMap files GDAL's index of nodes, of which it keeps
    100 MB in memory and the rest in a temporary file.

    Raises
    ------
    RoadsError, VectorFileError
        As `vector_source`, or if the file has no CRS or holds anything but lines.
    """
    roads = _lines(path, crs, bounds)
    placed = _placed(roads, crs)
    near = np.asarray(
        np.isfinite(shapely.bounds(placed.to_numpy())).all(axis=1)
    )  # elsewhere the CRS has no coordinates
    if bounds is not None:
        near[near] = shapely.intersects(placed.to_numpy()[near], shapely.box(*bounds))
    roads, placed = roads[near], placed[near]
    possible = _possible_shapes(placed, path)
    roads, placed = roads[possible], placed[possible]
    columns = tags.columns(roads)
    used = tags.in_use(columns)
    roads, placed, columns = roads[used], placed[used], columns[used]
    return merge_duplicates(
        gpd.GeoDataFrame(
            {
                "road_id": _text(_ids(roads, tags.ids(columns))),
                "road_class": _text(tags.classes(columns)),
                "name": _text(tags.of(columns, "name")),
                "ref": _text(tags.of(columns, "ref")),
                "oneway": np.array(tags.oneways(columns), dtype=np.int8),
                "lanes": pd.array(tags.lanes(tags.of(columns, "lanes")), dtype="Int64"),
                "maxspeed": _text(tags.speed_limits(tags.of(columns, "maxspeed"))),
                "hidden": _text(tags.hidden(columns)),
            },
            geometry=placed.to_numpy(),
            crs=placed.crs,
        )
    )


def _lines(path: Path, crs: Any, bounds: tuple[float, float, float, float] | None) -> gpd.GeoDataFrame:
    """Read lines with all columns, in the CRS of the file; errors as `read_roads`."""
    if _is_osm(path):
        with vector_source(split_layer(path)[0], "Roads") as source:
            roads = _read_osm(source, path, crs, bounds)
    else:
        box_in = None if bounds is None else partial(_box_in, crs=crs, bounds=bounds)
        roads = read_layer(path, "Roads", "lines", LAYERS, box_in)
    if not isinstance(roads, gpd.GeoDataFrame):
        raise RoadsError(f"Roads are lines; {path} has no geometry.")
    if crs is None:
        raise RoadsError(f"Roads can't be placed on a scene without coordinate reference system: {path}")
    if roads.crs is None:
        raise RoadsError(f"Roads without a coordinate reference system can't be placed; set it in {path}.")
    roads = roads[~(roads.geometry.isna() | roads.geometry.is_empty)]
    roads = _only_lines(without_strays(roads, "Roads", path), path)
    try:
        pyproj.Transformer.from_crs(roads.crs, crs)
    except pyproj.exceptions.ProjError as error:
        raise RoadsError(f"Roads can't be reprojected from {roads.crs.to_string()}: {path}") from error
    return with_osm_columns(roads)


def _only_lines(roads: gpd.GeoDataFrame, path: Path) -> gpd.GeoDataFrame:
    """Return lines, also those in collections. Others are a warning, or RoadsError if there is no line."""
    shapes = roads.geometry.to_numpy().copy()
    for row in np.flatnonzero(shapely.get_type_id(shapes) == _COLLECTION):
        parts = _parts(shapes[row])
        lines = [part for part in parts if isinstance(part, shapely.LineString)]
        shapes[row] = shapely.MultiLineString(lines) if len(lines) == len(parts) else shapes[row]
    roads = roads.set_geometry(gpd.GeoSeries(shapes, index=roads.index, crs=roads.crs))
    kinds = roads.geom_type
    lines = kinds.isin(["LineString", "MultiLineString"])
    others = kinds[~lines].value_counts()
    held = ", ".join(f"{count} {kind}" for kind, count in others.items())
    if len(others) and not lines.any():
        raise RoadsError(f"Roads are lines; {path} holds: {held}.")
    if len(others):
        warn(f"Roads: {others.sum()} of {len(roads)} features of {path} are no lines ({held}); left out.")
    return roads[lines]


def _parts(shape: BaseGeometry) -> list[BaseGeometry]:
    """Return the single geometries of a collection of collections."""
    parts = [shape]
    while any(shapely.get_type_id(parts) > _LAST_SINGLE):
        parts = shapely.get_parts(parts).tolist()
    return parts


def _placed(roads: gpd.GeoDataFrame, crs: Any) -> gpd.GeoSeries:
    """Return flat lines in a CRS. A height that is no number would make the place none."""
    flat = shapely.force_2d(roads.geometry.to_numpy())
    return gpd.GeoSeries(flat, index=roads.index, crs=roads.crs).to_crs(crs)


def _possible_shapes(placed: gpd.GeoSeries, path: Path) -> NDArray[np.bool_]:
    """Return (N,): False for features with a line that no road has, which a warning counts by reason.

    Raises
    ------
    RoadsError
        If all lines are together longer than roads can be, which would be cut into millions of segments.
    """
    lines, row = shapely.get_parts(placed.to_numpy(), return_index=True)
    metres, vertices = shapely.length(lines) * _metres(placed.crs), shapely.get_num_coordinates(lines)
    impossible = {
        "a line longer than the equator": metres > _EQUATOR_M,
        f"a line of more than {_MOST_VERTICES:,} vertices": vertices > _MOST_VERTICES,
    }
    rest = ~np.logical_or.reduce(list(impossible.values()))
    impossible["a line that crosses itself hundreds of times"] = np.zeros(len(lines), bool)
    impossible["a line that crosses itself hundreds of times"][rest] = tangled(lines[rest])
    possible = np.ones(len(placed), bool)
    for reason, bad in impossible.items():
        rows = np.unique(row[bad])
        possible[rows] = False
        if len(rows):
            warn(
                f"Roads: {len(rows)} of {len(placed)} features of {path} have {reason}, as no road has; "
                "left out."
            )
    total = metres[possible[row]].sum()
    if total > max(_MOST_M, _MOST_M_A_VERTEX * vertices.sum()):
        raise RoadsError(
            f"Roads: the lines of {path} near the scene are {total / 1000:,.0f} km long together, and no "
            "network of roads is. Check the file for lines across countries."
        )
    return possible


def _metres(crs: Any) -> float:
    """Return the metres of a unit of length of a CRS, roughly if it is an angle."""
    return float(crs.axis_info[0].unit_conversion_factor) * (_RADIUS_M if crs.is_geographic else 1.0)


def in_view(roads: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Return the roads that can be seen from above: no tunnels, none under a roof."""
    return roads[roads["hidden"].isna()].reset_index(drop=True)


def unread_classes(path: Path, crs: Any, bounds: tuple[float, float, float, float]) -> Counter[str]:
    """Return the number of lines within the bounds by class that are not read from an OpenStreetMap file."""
    file, _ = split_layer(path)
    if not _is_osm(path):
        return Counter()
    with vector_source(file, "Roads") as source:
        ways = read_frame(
            source,
            f"Roads: {path}",
            layer="lines",
            columns=["highway"],
            where="highway IS NOT NULL",
            bbox=_box_in("EPSG:4326", crs, bounds),
            read_geometry=False,
        )
    return Counter(ways["highway"])


def road_extent(path: Path) -> gpd.GeoDataFrame:
    """Return the bounds of a file of roads as one box in its CRS; no row if it has no road."""
    if not _is_osm(path):
        return read_extent(path, "Roads", "lines", LAYERS)
    with vector_source(split_layer(path)[0], "Roads") as source:
        _, bounds = pyogrio.read_bounds(source, layer="lines", where=_TRUCK_ROADS)
    boxes = [shapely.box(*bounds[:2].min(axis=1), *bounds[2:].max(axis=1))] if bounds.size else []
    return gpd.GeoDataFrame(geometry=boxes, crs="EPSG:4326")


def _is_osm(path: Path) -> bool:
    """Return True for OpenStreetMap's own formats, which are read by class."""
    file, layer = split_layer(path)
    return file.name.lower().endswith(_OSM_SUFFIXES) and layer in (None, "lines")


def _read_osm(
    source: str, path: Path, crs: Any, bounds: tuple[float, float, float, float] | None
) -> gpd.GeoDataFrame:
    """Read the ways of `TRUCK_HIGHWAYS`; GDAL drops ways with fewer than two nodes."""
    return read_frame(
        source,
        f"Roads: {path}",
        layer="lines",
        columns=["osm_id", "name", "highway", "other_tags"],
        where=_TRUCK_ROADS,
        bbox=None if bounds is None else _box_in("EPSG:4326", crs, bounds),
        TAGS_FORMAT="JSON",
    )


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


def _text(values: tags.Texts) -> pd.Series:
    return pd.Series(values, dtype=object)


def _ids(roads: gpd.GeoDataFrame, known: tags.Texts) -> tags.Texts:
    """Return the known ids, else hashes of the lines in the file."""
    lines = shapely.to_wkb(roads.geometry.to_numpy())
    return [
        known_id or hashlib.sha256(line).hexdigest()[:12] for known_id, line in zip(known, lines, strict=True)
    ]
