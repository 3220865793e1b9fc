"""Trucks on road segments: candidates, side of the road, direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from pipeline.layers.trucks import DELAY_SIGMA

DrivingSide = Literal["right", "left"]
MAX_ANGLE_DEG = 30.0
"""Largest angle between the axis of a truck and its road."""


AXIS_SIGMA_DEG = 5.0
"""Standard deviation of the angle between a road and its trucks: bends, lane changes, inexact lines."""


SURE_SIGMAS = 2.0
"""Minimum distance of a truck from the area of the other direction, in standard deviations of position."""


_TANGENT_M = 10.0


@dataclass(frozen=True)
class Snapped:
    """Trucks on the segments of a network."""

    trucks: gpd.GeoDataFrame
    """The given trucks with `segment_id`, and the road and heading that follow from it."""
    segment: NDArray[np.int64]
    """(N,) row of a truck's segment; -1 without one."""
    direction: NDArray[np.int8]
    """(N,) 1 along the segment's line, -1 against it, 0 if uncertain; never 0 on a one-way road."""


def snap_trucks(
    trucks: gpd.GeoDataFrame,
    segments: gpd.GeoDataFrame,
    *,
    buffer_m: float,
    position_sigma_m: float,
    driving_side: DrivingSide | None = None,
) -> Snapped:
    """Assign each truck to the segment and direction that fit its place and axis best.

    Candidates are not hidden, within `buffer_m` of its centre, and differ by at most `MAX_ANGLE_DEG` from its
    heading (or from its axis if the heading is unknown; without both the nearest road wins). The best one has
    the least (distance / position sigma)^2 + (angle / axis sigma)^2. No truck drives against a one-way road.

    If only the axis is known, the direction is that of a one-way road, or follows from the truck's side of a
    two-way road. The latter holds only at `SURE_SIGMAS` of `position_sigma_m` from the area of the other
    direction, which begins at the road's line or midway between two roads. Then `heading_deg` is filled, and
    `heading_source` is `oneway` or `driving_side`. `position_sigma_m` is the standard deviation of trucks
    across the lines of roads, in metres.
    """
    segment = np.full(len(trucks), -1, np.int64)
    direction = np.zeros(len(trucks), np.int8)
    heading, axis = (numbers(trucks, name) for name in ("heading_deg", "axis_deg"))
    source = trucks["heading_source"].to_numpy(object).copy()
    ways = _candidates(trucks, segments, heading, axis, buffer_m, position_sigma_m)
    if len(ways):
        best = ways.sort_values(["truck", "cost", "segment"], kind="stable").drop_duplicates("truck")
        best = best.set_index("truck", drop=False)
        truck = best["truck"].to_numpy()
        segment[truck] = best["segment"]
        direction[truck] = np.where(np.isfinite(heading[truck]), best["direction"], best["oneway"])
        sure = _by_side(ways, best, heading, axis, driving_side, SURE_SIGMAS * position_sigma_m)
        found = sure.index.to_numpy()
        direction[found] = sure["direction"]
        towards = np.abs((axis[found] - sure["azimuth"] + 180) % 360 - 180) <= 90
        heading[found] = np.round(np.where(towards, axis[found], axis[found] + 180) % 360, 1)
        source[found] = np.where(sure["oneway"] != 0, "oneway", "driving_side")
    on_road = segment >= 0
    names = {}
    for name in ("segment_id", "road_id", "road_class"):
        values = trucks[name].to_numpy(object).copy()
        values[on_road] = segments[name].to_numpy(object)[segment[on_road]]
        names[name] = pd.Series(values, dtype=object, index=trucks.index)
    sources = pd.Series(source, dtype=object, index=trucks.index)
    return Snapped(trucks.assign(heading_deg=heading, heading_source=sources, **names), segment, direction)


def _candidates(
    trucks: gpd.GeoDataFrame,
    segments: gpd.GeoDataFrame,
    heading: NDArray[np.float64],
    axis: NDArray[np.float64],
    buffer_m: float,
    position_sigma_m: float,
) -> pd.DataFrame:
    """Return a row for each truck, segment near it, and direction that the truck may have on that segment.

    `right` is the distance of the truck to the right of the segment's line, looking along it, in metres.
    """
    lines, points = segments.geometry.to_numpy(), trucks.geometry.centroid.to_numpy()
    truck, segment = shapely.STRtree(lines).query(points, predicate="dwithin", distance=buffer_m)
    in_view = segments["hidden"].isna().to_numpy()[segment]
    truck, segment = truck[in_view], segment[in_view]
    near, at = lines[segment], points[truck]
    along = shapely.line_locate_point(near, at)
    ahead = _on(near, np.minimum(along + _TANGENT_M, shapely.length(near)))
    tangent = ahead - _on(near, np.maximum(along - _TANGENT_M, 0.0))
    tangent /= np.maximum(np.hypot(*tangent.T), 1e-9)[:, None]
    off = shapely.get_coordinates(at) - _on(near, along)
    pairs = pd.DataFrame(
        {
            "truck": truck,
            "segment": segment,
            "distance": np.hypot(*off.T),
            "right": off[:, 0] * tangent[:, 1] - off[:, 1] * tangent[:, 0],
            "x": off[:, 0],
            "y": off[:, 1],
            "azimuth": np.degrees(np.arctan2(*tangent.T)) % 360,
            "oneway": segments["oneway"].to_numpy()[segment],
        }
    )
    ways = pd.concat(
        [pairs[pairs["oneway"] >= 0].assign(direction=1), pairs[pairs["oneway"] <= 0].assign(direction=-1)],
        ignore_index=True,
    )
    ways["azimuth"] = (ways["azimuth"] + np.where(ways["direction"] > 0, 0, 180)) % 360
    turned = np.abs((heading[ways["truck"]] - ways["azimuth"] + 180) % 360 - 180)
    bent = np.abs((axis[ways["truck"]] - ways["azimuth"] + 90) % 180 - 90)
    angle = np.where(np.isfinite(turned), turned, np.where(np.isfinite(bent), bent, 0.0))
    axis_sigma = np.hypot(AXIS_SIGMA_DEG, _axis_sigma(trucks))[ways["truck"]]
    ways["cost"] = (ways["distance"] / position_sigma_m) ** 2 + (angle / axis_sigma) ** 2
    return ways[angle <= MAX_ANGLE_DEG]


def _on(lines: NDArray[np.object_], along: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(shapely.get_coordinates(shapely.line_interpolate_point(lines, along)))


def numbers(trucks: gpd.GeoDataFrame, name: str) -> NDArray[np.float64]:
    """Return a column as a writable array, NaN where it is null."""
    return trucks[name].to_numpy(np.float64, na_value=np.nan, copy=True)


def _axis_sigma(trucks: gpd.GeoDataFrame) -> NDArray[np.float64]:
    """Return the axis sigma (N,) in degrees from the speed sigma: displacement errors are isotropic."""
    speed, sigma = (numbers(trucks, name) for name in ("speed_kmh", "speed_kmh_sigma"))
    across = np.sqrt(np.maximum(sigma**2 - (DELAY_SIGMA * speed) ** 2, 0.0))
    return np.nan_to_num(np.degrees(np.arctan2(across, speed)))


def side_of(driving_side: DrivingSide | None) -> int:
    """Return 1 if traffic keeps right, -1 if it keeps left, 0 if unknown."""
    return {"right": 1, "left": -1, None: 0}[driving_side]


def _by_side(
    ways: pd.DataFrame,
    best: pd.DataFrame,
    heading: NDArray[np.float64],
    axis: NDArray[np.float64],
    driving_side: DrivingSide | None,
    sure_m: float,
) -> pd.DataFrame:
    """Return direction and azimuth of trucks with an axis only, where the side of the road decides."""
    open_ = best[np.isnan(heading[best["truck"]]) & np.isfinite(axis[best["truck"]])]
    two_way = open_["oneway"] == 0
    if driving_side is None:
        open_ = open_[~two_way]
        two_way = two_way[~two_way]
    # `right` looks along the line, so its sign is the direction of that side.
    side = np.sign(open_["right"]) * side_of(driving_side)
    flipped = two_way & (side != open_["direction"])
    open_ = open_.assign(
        direction=np.where(flipped, -open_["direction"], open_["direction"]),
        azimuth=np.where(flipped, (open_["azimuth"] + 180) % 360, open_["azimuth"]),
        margin=np.where(two_way, open_["right"].abs(), np.inf),
    )
    others = ways.join(open_[["segment", "azimuth", "x", "y"]].add_suffix("_best"), on="truck", how="inner")
    turned = np.abs((others["azimuth"] - others["azimuth_best"] + 180) % 360 - 180) > 90
    others = others[turned & (others["segment"] != others["segment_best"])]
    across = np.radians(others["azimuth_best"])
    theirs = others["x"] * np.cos(across) - others["y"] * np.sin(across)
    own = others["x_best"] * np.cos(across) - others["y_best"] * np.sin(across)
    # The other direction begins midway between two roads, or at the line of the other road if that is
    # two-way and the truck is on its near side, as beside the next segment of the same road.
    midway = (theirs + own).abs() / 2 * np.sign(theirs.abs() - own.abs())
    near_side = (others["oneway"] == 0) & (theirs * side_of(driving_side) > 0)
    begins = midway.where(~near_side, theirs.abs())
    margin = np.minimum(
        open_["margin"], begins.groupby(others["truck"]).min().reindex(open_.index).fillna(np.inf)
    )
    return open_[margin >= sure_m]
