"""Places of vector features: coordinates outside of their CRS, and features elsewhere than a scene."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyproj
import pyproj.exceptions
import shapely
from numpy.typing import NDArray

from pipeline.errors import VectorFileError
from pipeline.input_warnings import warn

_LONGITUDE, _LATITUDE = np.radians([360.0, 90.0 + 1e-6])
"""Largest absolute values. Features beyond the antimeridian may count on from 180 degrees."""
_FARTHEST_M = 1e8
"""Largest absolute projected coordinate: 2.5 times around the Earth. Eastings with a zone before them have up
to 6.5e7 m. Some projections return a longitude for any number."""
_NEAR_M = 200_000.0
"""Distance in a scene's own CRS up to which it is a true one."""
_MOST_VERTICES = 100_000
_WINDS = ("north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west")


def check_coordinates(frame: gpd.GeoDataFrame, what: str, path: Path | str) -> None:
    """Check that a file has coordinates of its CRS; `what` names the file in messages ("Roads").

    Raises
    ------
    VectorFileError
        If no feature has, as where metres are called degrees or the other way round, or if the CRS has no
        longitude and latitude.
    """
    shapes = frame.geometry.to_numpy()
    shapes = shapes[~(shapely.is_missing(shapes) | shapely.is_empty(shapes))]
    xy = shapely.get_coordinates(shapes)
    finite = xy[np.isfinite(xy).all(axis=1)]
    if not len(xy):
        return
    if not len(finite):
        raise VectorFileError(f"{what} can't be placed: the coordinates in {path} are no finite numbers.")
    if frame.crs is None:
        return
    crs, largest = frame.crs, np.abs(finite).max(axis=0)
    if not _has_degrees(crs):
        raise VectorFileError(
            f"{what} can't be placed: the CRS of {path}, {_name(crs)}, is no map of the Earth (a local, "
            "vertical or geocentric one), or PROJ can't transform it. Reproject the file, or assign the CRS "
            "that its coordinates are in, e.g. with QGIS or ogr2ogr -a_srs EPSG:32632."
        )
    advice = "Set the CRS that the coordinates are in, e.g. with QGIS or ogr2ogr -a_srs EPSG:32632."
    if outside_of_crs(frame).sum() == len(shapes):
        valid = " (longitude -180 to 180, latitude -90 to 90)" if crs.is_geographic else ""
        if crs.is_geographic and largest[0] <= 90 and largest[1] <= 180:
            advice = "Longitude comes first; x and y seem to be swapped."
        raise VectorFileError(
            f"{what} can't be placed: coordinates in {path}, up to {_number(largest.max())}, are outside of "
            f"its CRS, {_name(crs)}{valid}. {advice}"
        )
    if largest[0] <= 180 and largest[1] <= 90 and _misses_area_of_use(finite, crs):
        raise VectorFileError(
            f"{what} can't be placed: coordinates in {path}, up to {_number(largest.max())}, look like "
            f"degrees, but its CRS, {_name(crs)}, is in {crs.axis_info[0].unit_name}s. {advice}"
        )


def outside_of_crs(frame: gpd.GeoDataFrame) -> NDArray[np.bool_]:
    """Return (N,): True for a feature with a coordinate that is not finite, or that its CRS does not have."""
    shapes, crs = frame.geometry.to_numpy(), frame.crs
    xy, index = shapely.get_coordinates(shapes, return_index=True)
    outside = np.zeros(len(shapes), dtype=bool)
    outside[index[~np.isfinite(xy).all(axis=1)]] = True
    rows = np.flatnonzero(~(shapely.is_missing(shapes) | shapely.is_empty(shapes) | outside))
    if crs is None or not len(rows) or not (crs.is_geographic or crs.is_projected):
        return outside
    corners = shapely.bounds(shapes[rows]).reshape(-1, 2)
    units = np.abs(corners) * crs.axis_info[0].unit_conversion_factor
    limits = (_LONGITUDE, _LATITUDE) if crs.is_geographic else (_FARTHEST_M, _FARTHEST_M)
    outside[rows] = (units > limits).any(axis=1).reshape(-1, 2).any(axis=1)
    if crs.is_projected:
        nowhere = ~np.isfinite(_degrees(corners, crs)).all(axis=1).reshape(-1, 2).all(axis=1)
        # The corners around a large feature may be beyond the edge of a projection, and none of its vertices.
        xy, index = shapely.get_coordinates(shapes[rows[nowhere]], return_index=True)
        outside[rows[nowhere][index[~np.isfinite(_degrees(xy, crs)).all(axis=1)]]] = True
    return outside


def without_strays(frame: gpd.GeoDataFrame, what: str, path: Path | str) -> gpd.GeoDataFrame:
    """Return the features that are not `outside_of_crs`; a warning counts the others and names the first."""
    outside = outside_of_crs(frame)
    if outside.any():
        warn(
            f"{what}: {outside.sum()} of {len(frame)} features of {path} have coordinates that are not "
            f"finite, or outside of their CRS; left out. The first: {first_of(frame, outside)}."
        )
    return frame[~outside]


def first_of(frame: gpd.GeoDataFrame, marked: NDArray[np.bool_]) -> str:
    """Return the place of the first marked feature and its id, if it has one."""
    row = int(np.argmax(marked))
    west, south, east, north = shapely.bounds(frame.geometry.to_numpy()[row])
    ids = [f"id {str(frame[name].iloc[row])[:40]}, " for name in ("id", "osm_id", "road_id") if name in frame]
    return f"{''.join(ids[:1])}x {west:.9g} to {east:.9g}, y {south:.9g} to {north:.9g}"


def warn_if_elsewhere(
    frame: gpd.GeoDataFrame,
    crs: Any,
    bounds: tuple[float, float, float, float],
    what: str,
    consequence: str,
    *,
    is_extent: bool = False,
) -> bool:
    """Warn if features, in any CRS, do not meet a scene; return True if they don't.

    `bounds` are those of the scene in its `crs`, in metres. The warning has the distance to the nearest
    feature, its direction, and the `consequence` ("no truck is searched"). `frame` may be the extent of a
    file instead of its features.
    """
    shapes = frame.geometry[~(frame.geometry.isna() | frame.geometry.is_empty)]
    if shapes.empty or shapes.crs is None:
        return False
    scene = shapely.box(*bounds)
    placed = shapes.to_crs(crs).to_numpy()
    placed = placed[np.isfinite(shapely.bounds(placed)).all(axis=1)]
    if shapely.intersects(placed, scene).any():
        return False
    xy = shapely.get_coordinates(shapes.to_numpy())
    xy = xy[:: -(-len(xy) // _MOST_VERTICES)]
    metres, wind = _way(_degrees(xy, shapes.crs), crs, bounds)
    beside = float(shapely.distance(placed, scene).min()) if len(placed) else np.inf
    metres = beside if beside < _NEAR_M else metres
    far = "far away" if not np.isfinite(metres) else f"{_number(metres / 1000)} km to the {wind}"
    none = "no feature meets" if is_extent else f"0 of {len(shapes)} features meet"
    warn(
        f"{what}: {none} the scene; the nearest is {far}, "
        f"so {consequence}. {_advice(xy, shapes.crs, crs, scene)}"
    )
    return True


def _way(
    lonlat: NDArray[np.float64], crs: Any, bounds: tuple[float, float, float, float]
) -> tuple[float, str]:
    """Return the distance in metres and the direction from a scene's centre to the nearest of some places."""
    lonlat = lonlat[np.isfinite(lonlat).all(axis=1)]
    centre = np.array([[(bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2]])
    ((lon, lat),) = _degrees(centre, pyproj.CRS.from_user_input(crs))
    if not (len(lonlat) and np.isfinite([lon, lat]).all()):
        return float("inf"), ""
    here = np.full(len(lonlat), lon), np.full(len(lonlat), lat)
    azimuth, _, distance = pyproj.Geod(ellps="WGS84").inv(*here, *lonlat.T)
    nearest = int(np.argmin(distance))
    return float(distance[nearest]), _WINDS[round(float(azimuth[nearest]) % 360 / 45) % 8]


def _advice(xy: NDArray[np.float64], theirs: pyproj.CRS, crs: Any, scene: shapely.Geometry) -> str:
    """Return the likely cause, or what to check."""
    corners = np.array(shapely.bounds(scene)).reshape(2, 2)
    west, south, east, north = (float(v) for v in _degrees(corners, pyproj.CRS.from_user_input(crs)).ravel())
    longitude, latitude = _degrees(xy, theirs).T
    if ((west <= latitude) & (latitude <= east) & (south <= longitude) & (longitude <= north)).any():
        return "With longitude and latitude swapped they would be on it."
    swapped = pyproj.Transformer.from_crs(theirs, crs, always_xy=True).transform(xy[:, 1], xy[:, 0])
    if shapely.contains_xy(scene, *swapped).any():
        return "With x and y swapped they would be on it."
    if ((west <= xy[:, 0]) & (xy[:, 0] <= east) & (south <= xy[:, 1]) & (xy[:, 1] <= north)).any():
        return f"The coordinates look like degrees, but the CRS of the file is {_name(theirs)}."
    return f"Check that both are of the same place, and the CRS of the file ({_name(theirs)})."


def _degrees(xy: NDArray[np.float64], crs: pyproj.CRS) -> NDArray[np.float64]:
    """Return (N, 2) longitude and latitude of places in a CRS; not finite where there are none."""
    try:
        transformer = pyproj.Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)
        return np.stack(transformer.transform(*xy.T), axis=1)
    except pyproj.exceptions.ProjError:
        return np.full(xy.shape, np.inf)


def _has_degrees(crs: pyproj.CRS) -> bool:
    """Return True if places of a CRS have a longitude and latitude."""
    if not (crs.is_geographic or crs.is_projected):
        return False
    try:
        pyproj.Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)
    except pyproj.exceptions.ProjError:
        return False
    return True


def _misses_area_of_use(xy: NDArray[np.float64], crs: pyproj.CRS) -> bool:
    """Return True if no place of a projected CRS is where it is meant to be used."""
    area = crs.area_of_use
    if area is None or not crs.is_projected:
        return False
    longitude, latitude = _degrees(xy, crs).T
    past = longitude < area.west
    longitude = np.where((area.west > area.east) & past, longitude + 360, longitude)
    east = area.east + 360 * (area.west > area.east)
    within = (longitude >= area.west) & (longitude <= east)
    return not (within & (latitude >= area.south) & (latitude <= area.north)).any()


def _name(crs: pyproj.CRS) -> str:
    """Return the code of a CRS, or its name."""
    authority = crs.to_authority(min_confidence=100)
    return ":".join(authority) if authority else " ".join(crs.name.split())[:40]


def _number(value: float) -> str:
    if value >= 1e12:
        return f"{value:.3g}"
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
