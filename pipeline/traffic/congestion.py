"""Congestion of roads in one scene: slow trucks, or a dense row of vehicles that do not move."""

from __future__ import annotations

import re

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from pipeline.layers.flow import RoadCounts
from pipeline.layers.snapping import numbers

FREE_KMH = {
    **{"motorway": 84.0, "trunk": 78.0, "primary": 70.0, "secondary": 66.0},
    **{"tertiary": 60.0, "unclassified": 55.0, "residential": 40.0},
}
"""Usual free speeds of trucks by class of road; a lower limit replaces them."""
SLOW = 0.6
"""Share of the free speed below which traffic is congested."""
ROW_M, ROW_OF = 150.0, 5
"""A row: slow vehicles, each within this distance of the next, and how many at least."""

_Z = 1.96
_KMH_PER_MPH = 1.609344

Array = NDArray[np.float64]


def free_speeds(segments: gpd.GeoDataFrame, road: NDArray[np.int64], size: int) -> Array:
    """Return the free speed of trucks (R,) on roads, km/h, a mean by length; NaN where it is unknown.

    `road` (S,) is the road of each segment, -1 for none.
    """
    by_class = segments["road_class"].map(FREE_KMH).to_numpy(np.float64)
    limit = np.array([_limit_kmh(text) for text in segments["maxspeed"]], np.float64)
    speed = np.fmin(by_class, limit)
    known = (road >= 0) & np.isfinite(speed)
    metres = segments["length_m"].to_numpy(np.float64)[known]
    total = np.bincount(road[known], metres, size)
    weighted = np.bincount(road[known], metres * speed[known], size)
    return np.divide(weighted, total, out=np.full(size, np.nan), where=total > 0)


def congested(counts: RoadCounts, rows: pd.DataFrame, free_kmh: Array) -> pd.Series:
    """Return for each row of `observe_directions` whether traffic is congested; null if nothing is known.

    It is where the 95 % interval of the mean speed is below `SLOW` of the free speed, or where trucks
    stand in a row: without measurable motion, each with such an interval. It is not where that of the mean
    is above. An empty road is unknown: trucks in a jam may not be detected.
    """
    road, direction = rows["segment"].to_numpy(), rows["direction"].to_numpy()
    slow_kmh = SLOW * free_kmh
    slow = slow_kmh[road]
    speed, error = (rows[name].to_numpy(np.float64) for name in ("mean_speed_kmh", "speed_se_kmh"))
    below, above = speed + _Z * error < slow, speed - _Z * error >= slow
    jam = below | _has_row(counts, slow_kmh, road, direction)
    return pd.Series(jam, dtype="boolean").mask(~jam & ~above)


def _has_row(
    counts: RoadCounts, slow_kmh: Array, road: NDArray[np.int64], direction: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return for each road and direction whether a row of vehicles stands on it."""
    snapped = counts.snapped
    there = np.flatnonzero((snapped.segment >= 0) & counts.shares.counted)
    axis, speed, sigma = (
        numbers(snapped.trucks, name)[there] for name in ("axis_deg", "speed_kmh", "speed_kmh_sigma")
    )
    still = there[np.isnan(axis) & (speed + _Z * sigma < slow_kmh[snapped.segment[there]])]
    if len(still) < ROW_OF:
        return np.zeros(len(road), np.bool_)
    centres = snapped.trucks.geometry.iloc[still].centroid
    pairs = cKDTree(np.column_stack([centres.x, centres.y])).query_pairs(ROW_M, output_type="ndarray")
    on = pd.DataFrame({"road": snapped.segment[still], "direction": snapped.direction[still]})
    same = (on.iloc[pairs[:, 0]].to_numpy() == on.iloc[pairs[:, 1]].to_numpy()).all(axis=1)
    graph = coo_array((np.ones(same.sum(), np.int8), pairs[same].T), shape=(len(still), len(still)))
    _, on["row"] = connected_components(graph, directed=False)
    rows = on.groupby(["road", "direction", "row"]).size()
    jams = {key[:2] for key in rows[rows >= ROW_OF].index}
    return np.array(
        [(r, d) in jams or (r, 0) in jams for r, d in zip(road, direction, strict=True)], np.bool_
    )


def _limit_kmh(text: object) -> float:
    """Return a speed limit in km/h; NaN if it is none or no number, as `DE:urban`."""
    found = (
        re.fullmatch(r"(\d+(?:\.\d+)?)\s*(km/h|kmh|mph)?", text.strip()) if isinstance(text, str) else None
    )
    if not found:
        return np.nan
    return float(found[1]) * (_KMH_PER_MPH if found[2] == "mph" else 1.0)
