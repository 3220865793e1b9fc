"""Boxes of detections and references as arrays: centres, columns, angles."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import ArrayLike, NDArray


def centres(frame: gpd.GeoDataFrame) -> NDArray[np.float64]:
    """Return (N, 2): x, y of the middle of each geometry's bounds."""
    bounds = frame.geometry.bounds.to_numpy(dtype=np.float64).reshape(-1, 4)
    return (bounds[:, :2] + bounds[:, 2:]) / 2


def to_metres(frame: gpd.GeoDataFrame, other: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Return the frame in its own CRS if that is in metres, else in the other's, else in its UTM zone."""
    for crs in (frame.crs, other.crs):
        if crs is not None and crs.is_projected and crs.axis_info[0].unit_name in ("metre", "meter"):
            return frame.to_crs(crs)
    located = next((part for part in (frame, other) if len(part)), None)
    return frame if located is None else frame.to_crs(located.estimate_utm_crs())


def angle_between(a: ArrayLike, b: ArrayLike, period: float = 360.0) -> NDArray[np.float64]:
    """Return the smallest angle between directions, in degrees; `period` is 180 for axes."""
    half = period / 2
    return np.abs((np.asarray(a, dtype=float) - np.asarray(b, dtype=float) + half) % period - half)


def column(frame: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """Return a column of numbers, (N,); NaN where it or a value is missing."""
    if name not in frame:
        return np.full(len(frame), np.nan)
    return pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def within(xy: NDArray[np.float64], areas: NDArray[np.object_]) -> NDArray[np.bool_]:
    """Return (N,): True for each place (N, 2) in any of the areas."""
    inside = np.zeros(len(xy), dtype=bool)
    # The tree holds the points, not the areas: a few large areas would make a poor index.
    points = shapely.STRtree(np.asarray(shapely.points(xy)))
    inside[points.query(areas, predicate="intersects")[1]] = True
    return inside


def median_of(values: NDArray[np.float64]) -> float:
    """Return the median of values (N,); NaN without any."""
    return float(np.median(values)) if len(values) else float("nan")


def share(part: int, whole: int) -> float:
    """Return part / whole; NaN of nothing."""
    return part / whole if whole else float("nan")
