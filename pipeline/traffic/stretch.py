"""The stretch of a carriageway around a counter, up to the junctions on either side."""

from __future__ import annotations

from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import Point

from pipeline.errors import CountsError
from pipeline.traffic.roads import is_apart

FARTHEST_M = 150.0
"""Largest distance of a station from its carriageway."""
REACH_M = 3000.0
"""Distance along the road within which segments belong to the stretch."""
MAX_ANGLE_DEG = 60.0
"""Largest angle between a carriageway and the direction of a counter, which may be a point of the compass."""
_TANGENT_M = 10.0
_SAME_PLACE_M = 0.01


@dataclass(frozen=True)
class Stretch:
    """Segments of one carriageway, and the direction in which the counted vehicles drive."""

    segments: NDArray[np.intp]
    """(K,): rows of the network, that of the station first."""
    way: NDArray[np.int8]
    """(K,): 1 where they drive along the line, -1 against it."""
    distance_m: float
    """Distance of the station from the road's line."""


def find_stretch(
    network: gpd.GeoDataFrame, lon: float, lat: float, bearing_deg: float, ref: str | None = None
) -> Stretch:
    """Find the nearest carriageway that leads in a direction, and follow it both ways.

    `network` has segments as in the layer `road_segments`, in metres. Ramps, service roads and hidden
    segments are no candidates. With `ref`, roads of this number are preferred, if there are any. The stretch
    ends at `REACH_M`, where another road of the network meets it, and where its number, name or class
    changes: beyond that, traffic may be another.

    Raises
    ------
    CountsError
        If there is no such carriageway within `FARTHEST_M`.
    """
    place = gpd.GeoSeries([Point(lon, lat)], crs=4326).to_crs(network.crs).iloc[0]
    lines = network.geometry.to_numpy()
    fits = ~is_apart(network["road_class"]) & network["hidden"].isna().to_numpy()
    near = np.flatnonzero(fits & (shapely.distance(lines, place) <= FARTHEST_M))
    of_ref = near[[_same(each, ref) for each in network["ref"].iloc[near]]]
    near = of_ref if len(of_ref) else near
    along = shapely.line_locate_point(lines[near], place)
    length = shapely.length(lines[near])
    ends = (
        shapely.get_coordinates(shapely.line_interpolate_point(lines[near], at))
        for at in (np.maximum(along - _TANGENT_M, 0), np.minimum(along + _TANGENT_M, length))
    )
    start, end = ends
    azimuth = np.degrees(np.arctan2(*(end - start).T))
    turned = np.abs((azimuth - bearing_deg + 180) % 360 - 180)
    oneway = network["oneway"].to_numpy(np.int8)[near]
    way = np.where(turned <= 90, 1, -1)
    angle = np.where(way > 0, turned, 180 - turned)
    usable = np.flatnonzero((oneway * way >= 0) & (angle <= MAX_ANGLE_DEG))
    if not len(usable):
        raise CountsError(
            f"No road within {FARTHEST_M:.0f} m of {lon:g},{lat:g} leads to {bearing_deg:.0f} degrees "
            f"({len(near)} roads lead elsewhere). Check --station LON,LAT and the direction of the counter."
        )
    distance = shapely.distance(lines[near[usable]], place)
    best = usable[np.argmin(distance)]
    return _followed(network, int(near[best]), int(way[best]), float(along[best]), float(distance.min()))


def _same(given: object, ref: str | None) -> bool:
    if ref is None or not isinstance(given, str):
        return False
    return "".join(ref.split()).upper() in {"".join(each.split()).upper() for each in given.split(";")}


def _followed(network: gpd.GeoDataFrame, first: int, way: int, along: float, distance: float) -> Stretch:
    lines = network.geometry.to_numpy()
    length = shapely.length(lines)
    ends = np.stack([shapely.get_coordinates(shapely.get_point(lines, index)) for index in (0, -1)], axis=1)
    _, node = np.unique(np.round(ends.reshape(-1, 2) / _SAME_PLACE_M), axis=0, return_inverse=True)
    node = node.reshape(-1, 2)
    names = list(zip(*(network[name].fillna("") for name in ("ref", "name", "road_class")), strict=True))
    oneway = network["oneway"].to_numpy(np.int8)
    segments, ways = [first], [way]
    for forward in (True, False):
        at, towards = first, way
        gone = length[first] - along if (way > 0) == forward else along
        while gone < REACH_M:
            end = node[at, 1 if (towards > 0) == forward else 0]
            here = np.flatnonzero((node == end).any(axis=1))
            others = here[here != at]
            if len(others) != 1 or names[others[0]] != names[at] or others[0] in segments:
                break
            at = int(others[0])
            towards = 1 if (node[at, 0] == end) == forward else -1
            if oneway[at] * towards < 0:
                break
            segments.append(at)
            ways.append(towards)
            gone += length[at]
    return Stretch(np.array(segments, np.intp), np.array(ways, np.int8), distance)
