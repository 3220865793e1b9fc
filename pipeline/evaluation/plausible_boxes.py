"""Boxes that no truck has: larger than a vehicle, or more than fit into a place."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.evaluation import columns

_RADIUS_M = 6_378_137.0
_LARGEST_M, _ODD_M = 1000.0, 200.0
"""Side from which a box is left out, and median side from which boxes are a warning: a road train has 53 m,
and boxes around moving trucks have 30 to 60 m."""
_PLACE_M, _FITTING = 20.0, 16
"""Side of a square, and boxes whose centres are in it: twice as many as lorries fit there side by side."""


def too_large(frame: gpd.GeoDataFrame) -> NDArray[np.bool_]:
    """Return (N,): True for boxes with a side of more than 1 km, as areas among the labels have."""
    return _sides_m(frame) > _LARGEST_M


def too_many(frame: gpd.GeoDataFrame) -> NDArray[np.bool_]:
    """Return (N,): True for boxes after the first 16 with their centre in one square of 20 m, of a scene."""
    bounds = _metres(frame)
    square = np.floor((bounds[:, :2] + bounds[:, 2:]) / 2 / _PLACE_M)
    places = pd.DataFrame(square, columns=["x", "y"], index=frame.index)
    places["scene"] = columns.text_or_none(frame["scene_id"]).fillna("") if "scene_id" in frame else ""
    return np.asarray(places.groupby(["x", "y", "scene"]).cumcount() >= _FITTING)


def odd_sizes(frame: gpd.GeoDataFrame) -> list[str]:
    """Return a line if most boxes are much larger than a truck."""
    side = float(np.median(_sides_m(frame))) if len(frame) else 0.0
    if side <= _ODD_M:
        return []
    return [f"boxes are {side:.0f} m across (median); a box is drawn around one truck, 30 to 60 m."]


def _metres(frame: gpd.GeoDataFrame) -> NDArray[np.float64]:
    """Return (N, 4) bounds in metres; degrees are metres along their meridian and parallel, roughly."""
    bounds = frame.geometry.bounds.to_numpy(dtype=np.float64).reshape(-1, 4)
    unit = float(frame.crs.axis_info[0].unit_conversion_factor)
    if not frame.crs.is_geographic:
        return bounds * unit
    east = np.cos(np.clip((bounds[:, 1] + bounds[:, 3]) / 2 * unit, -1.57, 1.57))
    return bounds * unit * _RADIUS_M * np.stack([east, np.ones(len(bounds))] * 2, axis=1)


def _sides_m(frame: gpd.GeoDataFrame) -> NDArray[np.float64]:
    """Return the longer side (N,) of the bounds of each polygon, in metres."""
    bounds = _metres(frame)
    return np.asarray((bounds[:, 2:] - bounds[:, :2]).max(axis=1, initial=0.0))
