"""The area of a search: a box in degrees, or the polygons of a file."""

from __future__ import annotations

import json
from typing import Any

import geopandas as gpd
import numpy as np
import pyproj.exceptions
import shapely
from shapely.affinity import translate

from pipeline.errors import AreaError, ConfigError, LabelsError
from pipeline.evaluation.features import usable_polygons
from pipeline.input_warnings import warn
from pipeline.storage.untrusted_vectors import file_of

_LAYERS = ("area", "aoi")
_EXPECTED = "An area is west,south,east,north in degrees, or a file of polygons (FILE or FILE:LAYER)."
_HALF = 180.0


def search_place(area: str) -> dict[str, Any]:
    """Return an area as argument of a STAC search: `bbox`, or `intersects` with the polygons of a file.

    The west of a `bbox` is greater than its east where it crosses the antimeridian. Polygons are valid, in
    degrees, and cut at the antimeridian.

    Raises
    ------
    ConfigError
        If the text is neither a file nor a box in degrees.
    AreaError, VectorFileError
        If the file can't be read, has no CRS, or no polygon with an area.
    """
    if file_of(area).exists():
        return {"intersects": json.loads(shapely.to_geojson(_polygons(area)))}
    try:
        west, south, east, north = (float(part) for part in area.split(","))
    except ValueError as error:
        raise ConfigError(f"{_EXPECTED} Received: {area}, which is no file.") from error
    if not (abs(west) <= _HALF and abs(east) <= _HALF and -90 <= south < north <= 90 and west != east):
        raise ConfigError(
            "An area is west,south,east,north in degrees, longitude -180 to 180 and latitude -90 to 90, "
            f"south first. Received: {area}"
        )
    if east < west < east + _HALF:
        raise ConfigError(
            f"The area {area} has its west, {west:g}, east of its east, {east:g}. Write "
            f"west,south,east,north: {east:g},{south:g},{west:g},{north:g}"
        )
    return {"bbox": [west, south, east, north]}


def _polygons(area: str) -> shapely.Geometry:
    """Return the polygons of a file as one geometry in degrees."""
    try:
        frame, _ = usable_polygons(area, "The area", layers=_LAYERS)
    except LabelsError as error:
        raise AreaError(str(error)) from error
    if frame.empty:
        raise AreaError(f"The area: {area} has no polygon with an area. Draw at least one.")
    try:
        placed = frame.to_crs("EPSG:4326").geometry.to_numpy()
    except pyproj.exceptions.ProjError as error:
        raise AreaError(f"The area: {area} can't be reprojected to degrees.") from error
    if not np.isfinite(shapely.bounds(placed)).all():
        raise AreaError(f"The area: {area} has places without longitude and latitude.")
    parts = [_within_half_circle(part) for part in _along_the_ground(placed, frame, area)]
    whole = shapely.union_all([shapely.make_valid(part, method="structure") for part in parts])
    return shapely.force_2d(whole)


def _along_the_ground(placed: Any, frame: gpd.GeoDataFrame, area: str) -> list[shapely.Geometry]:
    """Return polygons without those that reach around the world because they cross the antimeridian."""
    found = []
    for each in shapely.get_parts(placed):
        shape, (west, _, east, _) = each, shapely.bounds(each)
        if _HALF < east - west < 359:
            if frame.crs.is_projected:
                shape = shapely.transform(shape, lambda xy: xy + [[360, 0]] * (xy[:, :1] < 0))
            else:
                warn(
                    f"{area}: a polygon of the area reaches over {east - west:.0f} degrees of longitude. "
                    "If it is meant to cross the antimeridian, cut it there, or draw it beyond 180 degrees."
                )
        found.append(shape)
    return found


def _within_half_circle(shape: shapely.Geometry) -> shapely.Geometry:
    """Cut a polygon at the antimeridian, and move what is beyond it to the other side of the world."""
    west, _, east, _ = shapely.bounds(shape)
    if west >= -_HALF and east <= _HALF:
        return shape
    turns = [
        translate(
            shapely.intersection(shape, shapely.box(-_HALF - 360 * turn, -90, _HALF - 360 * turn, 90)),
            360 * turn,
        )
        for turn in (-1, 0, 1)
    ]
    return shapely.union_all([part for part in turns if part.area > 0])
