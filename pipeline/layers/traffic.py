"""Traffic on roads: segments of the network, the trucks on them by direction, their speed and flow.

A picture shows all trucks of a road at one moment, so their number over a length is the density of traffic
k, the plain mean of their speeds is its space-mean speed v, and the flow is q = k v (Wardrop, "Some
theoretical aspects of road traffic research", 1952; Edie, "Discussion of traffic stream measurements and
definitions", 1963).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import rasterio
import shapely
from numpy.typing import NDArray
from scipy import stats

from pipeline import config
from pipeline.inference.predictions import LOOKED_AT
from pipeline.layers.trucks import DELAY_SIGMA
from pipeline.roads import driving_side as sides
from pipeline.roads.segments import measured_lines, points_along, split_roads
from pipeline.scenes.scene import Scene
from pipeline.storage.atomic import replacing

DrivingSide = Literal["right", "left"]
Seen = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.bool_]]
"""Whether places, given as x and y in the scene's CRS, were looked at."""

MAX_ANGLE_DEG = 30.0
"""A truck whose axis is further off a road's is not on it."""

AXIS_SIGMA_DEG = 5.0
"""How far a road's azimuth and a truck's may differ by themselves: bends, changes of lane, drawn lines."""

SURE_SIGMAS = 2.0
"""Standard deviations of place between a truck and where the other direction would begin."""

SPEED_SPREAD_KMH = 8.0
"""Standard deviation of speed from truck to truck, for the error of a mean of few."""

FALLBACK_SPEED_KMH, FALLBACK_SIGMA_KMH = 80.0, 10.0
"""For flows of scenes in which no truck has a speed."""

_TANGENT_M = 10.0
_SAMPLE_M = 5.0
_SEGMENTS_AT_A_TIME = 20_000
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Recall:
    """The share of trucks that a detector finds, 0-1, and its 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of_card(cls, quality: Mapping[str, Any], near_roads: bool = True) -> Recall | None:
        """That of a model card's labelled places, or of its simulated scenes; None where it tells none."""
        area = "near_roads" if near_roads else "everywhere"
        for place in ("labelled_places_together", "simulated_held_out"):
            try:
                value, (low, high) = (
                    quality[place][area]["recall"],
                    quality[place][area]["interval_95"]["recall"],
                )
                if value > 0:
                    return cls(float(value), max(float(low), 0.01), float(high))
            except (KeyError, TypeError, ValueError):  # cards are free in what they tell of quality
                continue
        return None


@dataclass(frozen=True)
class Snapped:
    """Trucks on the segments of a network."""

    trucks: gpd.GeoDataFrame
    """As given, with `segment_id`, and the road and heading that follow from it."""
    segment: NDArray[np.int64]
    """(N,) row of the segment a truck is on; -1 where it is on none."""
    direction: NDArray[np.int8]
    """(N,) 1 along the segment's line, -1 against it, 0 where that is not sure; on a one-way road it is."""


@dataclass(frozen=True)
class Traffic:
    """What a scene tells of the traffic on its roads."""

    trucks: gpd.GeoDataFrame
    segments: gpd.GeoDataFrame
    """The layer `road_segments`."""
    table: pa.Table
    """The scene's part of `traffic.parquet`."""


def road_traffic(
    trucks: gpd.GeoDataFrame,
    roads: gpd.GeoDataFrame,
    scene: Scene,
    status: Path,
    settings: config.Traffic,
    *,
    buffer_m: float,
    model: str,
    quality: Mapping[str, Any],
    attribution: str | None = None,
) -> Traffic:
    """The traffic on `roads` (as of `read_roads`, in the scene's CRS) that `trucks` are.

    `status` is a raster of the scene's grid as in `pipeline.inference.predictions`, of which a byte a pixel
    is held; `buffer_m` is how far a truck may be from its road, `quality` that of the detector's card.
    """
    box = scene.grid.extent.boundingbox
    segments = split_roads(roads, settings.segment_km * 1000, (box.left, box.bottom, box.right, box.top))
    side: DrivingSide | None
    if settings.driving_side == "auto":
        centre = scene.grid.geographic_extent.centroid.coords[0]
        side = sides.driving_side(*centre)
    else:
        side = settings.driving_side
    snapped = snap_trucks(
        trucks, segments, buffer_m=buffer_m, position_sigma_m=settings.position_sigma_m, driving_side=side
    )
    if settings.recall is None:
        recall = Recall.of_card(quality)
    else:
        recall = Recall(settings.recall, settings.recall, settings.recall)
    seen_m = seen_length(segments, _looked_at(status))
    rows = observe(snapped, segments, seen_m, recall)
    table = traffic_table(
        rows, segments, scene_id=scene.id, acquired=scene.acquired, model=model, attribution=attribution
    )
    return Traffic(snapped.trucks, segment_layer(rows, segments, seen_m, recall), table)


def _looked_at(status: Path) -> Seen:
    with rasterio.open(status) as source:
        looked_at, backwards = np.isin(source.read(1), LOOKED_AT), ~source.transform

    def seen(xs: NDArray[np.float64], ys: NDArray[np.float64]) -> NDArray[np.bool_]:
        cols, rows = (np.floor(pixels).astype(np.intp) for pixels in backwards @ (xs, ys))
        inside = (rows >= 0) & (rows < looked_at.shape[0]) & (cols >= 0) & (cols < looked_at.shape[1])
        found = np.zeros(len(xs), np.bool_)
        found[inside] = looked_at[rows[inside], cols[inside]]
        return found

    return seen


# --- segments -------------------------------------------------------------------------------------------


def seen_length(segments: gpd.GeoDataFrame, seen: Seen) -> NDArray[np.float64]:
    """Metres (S,) of each segment that were looked at.

    A segment is asked for in equal steps of at most `_SAMPLE_M`, at their middles: where its view begins or
    ends, half a step can be wrong. Memory: some 50 bytes a step of `_SEGMENTS_AT_A_TIME` segments.
    """
    metres = np.zeros(len(segments))
    lines = segments.geometry.to_numpy()
    for start in range(0, len(lines), _SEGMENTS_AT_A_TIME):
        some = lines[start : start + _SEGMENTS_AT_A_TIME]
        xy, line, along = measured_lines(some)
        first = np.searchsorted(line, np.arange(len(some)))
        length = shapely.length(some)
        steps = np.maximum(np.ceil(length / _SAMPLE_M), 1).astype(np.int64)
        of = np.repeat(np.arange(len(some)), steps)
        number = np.arange(len(of)) - np.repeat(np.cumsum(steps) - steps, steps)
        at = along[first][of] + (number + 0.5) * (length / steps)[of]
        looked_at = seen(*points_along(at, xy, along).T)
        metres[start : start + len(some)] = np.bincount(of, looked_at, len(some)) / steps * length
    return metres


# --- trucks on segments ---------------------------------------------------------------------------------


def snap_trucks(
    trucks: gpd.GeoDataFrame,
    segments: gpd.GeoDataFrame,
    *,
    buffer_m: float,
    position_sigma_m: float,
    driving_side: DrivingSide | None = None,
) -> Snapped:
    """Put each truck on the segment and direction that fit its place and axis best.

    Within `buffer_m` of its centre, and with an azimuth that differs by at most `MAX_ANGLE_DEG` from its
    heading (from its axis where that is all that is known; a truck without either takes the nearest road),
    the segment of the least (distance / position sigma)^2 + (angle / axis sigma)^2. Nothing drives against
    a one-way road.

    Where only the axis is known, the direction is that of a one-way road, or follows from the side of a
    two-way road on which the truck is, but only if it is `SURE_SIGMAS` of `position_sigma_m` away from where
    the other direction begins: the line of the road itself, or the middle between two roads. Then
    `heading_deg` is filled, and `heading_source` says `oneway` or `driving_side`; `position_sigma_m` is
    that of trucks against the lines of roads, in metres across.
    """
    segment = np.full(len(trucks), -1, np.int64)
    direction = np.zeros(len(trucks), np.int8)
    heading, axis = (_numbers(trucks, name) for name in ("heading_deg", "axis_deg"))
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
    """A row for each truck, segment near it, and direction of that segment which the truck may drive.

    `right` is how far the truck is to the right of the segment's line, looking along it, in metres.
    """
    lines, points = segments.geometry.to_numpy(), trucks.geometry.centroid.to_numpy()
    truck, segment = shapely.STRtree(lines).query(points, predicate="dwithin", distance=buffer_m)
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


def _numbers(trucks: gpd.GeoDataFrame, name: str) -> NDArray[np.float64]:
    """A column of one's own, NaN where it is null."""
    return trucks[name].to_numpy(np.float64, na_value=np.nan, copy=True)


def _axis_sigma(trucks: gpd.GeoDataFrame) -> NDArray[np.float64]:
    """Degrees (N,) from the speed's sigma: its part by displacement is the same across the axis as along."""
    speed, sigma = (_numbers(trucks, name) for name in ("speed_kmh", "speed_kmh_sigma"))
    across = np.sqrt(np.maximum(sigma**2 - (DELAY_SIGMA * speed) ** 2, 0.0))
    return np.nan_to_num(np.degrees(np.arctan2(across, speed)))


def side_of(driving_side: DrivingSide | None) -> int:
    """1 where traffic keeps right, -1 where it keeps left, 0 where that is unknown."""
    return {"right": 1, "left": -1, None: 0}[driving_side]


def _by_side(
    ways: pd.DataFrame,
    best: pd.DataFrame,
    heading: NDArray[np.float64],
    axis: NDArray[np.float64],
    driving_side: DrivingSide | None,
    sure_m: float,
) -> pd.DataFrame:
    """Direction and azimuth of trucks of which only the axis is known, where their place tells them."""
    open_ = best[np.isnan(heading[best["truck"]]) & np.isfinite(axis[best["truck"]])]
    two_way = open_["oneway"] == 0
    if driving_side is None:
        open_ = open_[~two_way]
        two_way = two_way[~two_way]
    # `right` looks along the line, so the direction whose side the truck is on is its sign.
    side = np.sign(open_["right"]) * side_of(driving_side)
    flipped = two_way & (side != open_["direction"])
    open_ = open_.assign(
        direction=np.where(flipped, -open_["direction"], open_["direction"]),
        azimuth=np.where(flipped, (open_["azimuth"] + 180) % 360, open_["azimuth"]),
        margin=np.where(two_way, open_["right"].abs(), np.inf),
    )
    others = ways.join(open_[["segment", "azimuth", "x", "y"]], on="truck", rsuffix="_best", how="inner")
    turned = np.abs((others["azimuth"] - others["azimuth_best"] + 180) % 360 - 180) > 90
    others = others[turned & (others["segment"] != others["segment_best"])]
    across = np.radians(others["azimuth_best"])
    theirs = others["x"] * np.cos(across) - others["y"] * np.sin(across)
    own = others["x_best"] * np.cos(across) - others["y_best"] * np.sin(across)
    # The other direction begins midway between two roads, or at the line of the other road where that is
    # two-way and the truck is on its near side, as beside the next segment of the same road.
    midway = (theirs + own).abs() / 2 * np.sign(theirs.abs() - own.abs())
    near_side = (others["oneway"] == 0) & (theirs * side_of(driving_side) > 0)
    begins = midway.where(~near_side, theirs.abs())
    margin = np.minimum(
        open_["margin"], begins.groupby(others["truck"]).min().reindex(open_.index).fillna(np.inf)
    )
    return open_[margin >= sure_m]


# --- density, speed and flow ----------------------------------------------------------------------------


def observe(
    snapped: Snapped, segments: gpd.GeoDataFrame, seen_m: NDArray[np.float64], recall: Recall | None
) -> pd.DataFrame:
    """A row for each direction of each segment of which something was seen: `segment` and figures.

    `count` trucks have this direction, `count_unresolved` are on the segment without a sure one; the flow of
    each direction takes half of these.

        flow = (count + unresolved / 2) / seen length / recall x speed

    with the mean speed of the trucks of this direction (and unresolved ones); where none has a speed, that
    of the road class in this scene, of the scene, or `FALLBACK_SPEED_KMH`. Trucks weigh by the inverse of
    their variance, which is that of their speed and `SPEED_SPREAD_KMH`.

    The interval is of 95 %: of the count by Garwood ("Fiducial limits for the Poisson distribution", 1936),
    its lower end without the unresolved, its upper with all of them; of the recall as given; of the speed by
    its standard error. They are joined on the logarithmic scale by MOVER (Zou and Donner, "Construction of
    confidence limits about effect measures", 2008). False alarms are not taken out.
    """
    seen = np.flatnonzero(seen_m > 0)
    oneway = segments["oneway"].to_numpy()[seen]
    rows = pd.concat(
        [
            pd.DataFrame({"segment": seen[oneway * direction >= 0], "direction": direction})
            for direction in (1, -1)
        ],
        ignore_index=True,
    ).sort_values(["segment", "direction"], ascending=[True, False], ignore_index=True)
    segment, direction = rows["segment"].to_numpy(), rows["direction"].to_numpy()
    size = len(segments)
    counts = {
        way: np.bincount(snapped.segment[(snapped.segment >= 0) & (snapped.direction == way)], minlength=size)
        for way in (1, -1, 0)
    }
    rows["count"] = np.where(direction > 0, counts[1][segment], counts[-1][segment])
    rows["count_unresolved"] = counts[0][segment]
    rows["seen_km"] = seen_m[segment] / 1000
    expected = rows["count"] + rows["count_unresolved"] / 2
    rows["trucks_per_km"] = expected / rows["seen_km"]
    speed, error = _speeds(snapped, segments, segment, direction)
    rows["mean_speed_kmh"], rows["speed_se_kmh"] = speed["own"], error["own"]
    rows["flow_speed_kmh"], rows["flow_speed_se_kmh"] = speed["used"], error["used"]
    found = Recall(1.0, 1.0, 1.0) if recall is None else recall
    per_truck = rows["flow_speed_kmh"] / rows["seen_km"] / found.value
    rows["flow_per_hour"] = expected * per_truck
    rows["flow_low"], rows["flow_high"] = _flow_interval(
        rows["count"].to_numpy(np.float64),
        expected.to_numpy(np.float64),
        (rows["count"] + rows["count_unresolved"]).to_numpy(np.float64),
        per_truck.to_numpy(),
        error["used"] / speed["used"],
        found,
    )
    rows["recall_used"] = np.nan if recall is None else recall.value
    return rows


def poisson_interval(count: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The exact 95 % interval of a Poisson mean, given counts (N,) (Garwood, 1936)."""
    tail = (1 - _CONFIDENCE) / 2
    low = np.where(count > 0, stats.chi2.ppf(tail, np.maximum(2 * count, 1)) / 2, 0.0)
    return low, np.asarray(stats.chi2.ppf(1 - tail, 2 * (count + 1)) / 2)


def _flow_interval(
    least: NDArray[np.float64],
    expected: NDArray[np.float64],
    most: NDArray[np.float64],
    per_truck: NDArray[np.float64],
    speed_error: NDArray[np.float64],
    recall: Recall,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ends (N,) of the flow: counts between `least` and `most`, `per_truck` the flow for each truck."""
    speed = (stats.norm.ppf((1 + _CONFIDENCE) / 2) * speed_error) ** 2
    fewest, most_of_all = poisson_interval(least)[0], poisson_interval(most)[1]
    some = np.where(expected > 0, expected, 1.0)
    down = np.sqrt(
        np.log(np.where(fewest > 0, fewest, 1.0) / some) ** 2
        + np.log(recall.high / recall.value) ** 2
        + speed
    )
    wider = np.log(recall.value / recall.low) ** 2 + speed
    up = np.sqrt(np.log(most_of_all / some) ** 2 + wider)
    low = np.where(fewest > 0, expected * np.exp(-down), 0.0)
    # No truck has no logarithm: its upper count takes the other errors on top.
    high = np.where(expected > 0, expected * np.exp(up), most_of_all * np.exp(np.sqrt(wider)))
    return low * per_truck, high * per_truck


def _speeds(
    snapped: Snapped, segments: gpd.GeoDataFrame, segment: NDArray[np.int64], direction: NDArray[np.int64]
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
    """Mean speeds and their standard errors by row: `own` (NaN where no truck has one), and `used`."""
    speed, sigma = (_numbers(snapped.trucks, name) for name in ("speed_kmh", "speed_kmh_sigma"))
    known = (snapped.segment >= 0) & np.isfinite(speed) & np.isfinite(sigma)
    weight = np.where(known, 1 / (np.nan_to_num(sigma) ** 2 + SPEED_SPREAD_KMH**2), 0.0)
    moved = weight * np.nan_to_num(speed)
    size = len(segments)

    def sums(values: NDArray[np.float64], way: int) -> NDArray[np.float64]:
        here = known & (snapped.direction == way)
        return np.bincount(snapped.segment[here], values[here], size).astype(np.float64)

    def by_row(values: NDArray[np.float64]) -> NDArray[np.float64]:
        each = {way: sums(values, way) for way in (1, -1, 0)}
        return np.where(direction > 0, each[1][segment], each[-1][segment]) + each[0][segment]

    def mean(total: NDArray[np.float64], of: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.divide(total, of, out=np.full(len(of), np.nan), where=of > 0)

    weights = by_row(weight)
    own, own_error = mean(by_row(moved), weights), mean(np.ones(len(weights)), np.sqrt(weights))
    _, kind = np.unique(segments["road_class"].astype(object).fillna("").to_numpy(str), return_inverse=True)
    used, used_error = own, own_error
    everywhere = np.zeros(size, np.intp)
    for group in (kind, everywhere):
        of, total = (
            np.bincount(group[snapped.segment[known]], values[known], size).astype(np.float64)
            for values in (weight, moved)
        )
        theirs, theirs_error = (
            mean(total, of)[group[segment]],
            mean(np.ones(size), np.sqrt(of))[group[segment]],
        )
        lacks = np.isnan(used)
        used = np.where(lacks, theirs, used)
        used_error = np.where(lacks, np.hypot(theirs_error, SPEED_SPREAD_KMH), used_error)
    lacks = np.isnan(used)
    used = np.where(lacks, FALLBACK_SPEED_KMH, used)
    used_error = np.where(lacks, FALLBACK_SIGMA_KMH, used_error)
    return {"own": own, "used": used}, {"own": own_error, "used": used_error}


# --- what is handed over --------------------------------------------------------------------------------

_TEXT, _NUMBER, _COUNT = pa.string(), pa.float64(), pa.int32()
TABLE_FIELDS: Mapping[str, tuple[pa.DataType, str]] = {
    "scene_id": (_TEXT, "the scene's id"),
    "acquired": (
        pa.timestamp("ms", tz="UTC"),
        "when the scene was seen, UTC; null where the source tells no time",
    ),
    "segment_id": (_TEXT, "the segment, as in the layer road_segments"),
    "road_id": (_TEXT, "its road: OpenStreetMap's way where the roads come from there"),
    "road_class": (_TEXT, "its class, e.g. motorway"),
    "direction": (_TEXT, "forward along the segment's line as drawn, backward against it"),
    "azimuth_deg": (
        _NUMBER,
        "of that direction from end to end, degrees clockwise from grid north; null for a ring",
    ),
    "count": (_COUNT, "trucks found whose direction is this one"),
    "count_unresolved": (
        _COUNT,
        "trucks found on the segment whose direction is not sure, the same in both rows",
    ),
    "seen_km": (_NUMBER, "kilometres of the segment that were looked at: with data, without cloud"),
    "trucks_per_km": (_NUMBER, "density as found: count, and half of the unresolved, over seen_km"),
    "mean_speed_kmh": (_NUMBER, "space-mean speed of those trucks, km/h; null where none has a speed"),
    "speed_se_kmh": (_NUMBER, "its standard error, km/h"),
    "flow_speed_kmh": (
        _NUMBER,
        "speed that the flow is made with: the mean or, without one, that of similar roads",
    ),
    "flow_per_hour": (_NUMBER, "trucks an hour in this direction: density over recall times speed"),
    "flow_low": (_NUMBER, "lower end of the flow's 95 % interval, trucks an hour"),
    "flow_high": (_NUMBER, "upper end of the flow's 95 % interval, trucks an hour"),
    "recall_used": (
        _NUMBER,
        "share of trucks that the detector finds, 0-1; null where unknown and not corrected for",
    ),
    "model": (_TEXT, "the detector, id and version"),
}
"""Columns of `traffic.parquet`: type, and what it is with its unit."""

SEGMENT_COLUMNS = (
    *("segment_id", "road_id", "road_class", "name", "ref", "oneway", "lanes", "maxspeed"),
    *("length_m", "azimuth_deg", "seen_km", "count", "count_forward", "count_backward", "count_unresolved"),
    *("trucks_per_km", "mean_speed_kmh", "speed_se_kmh"),
    *("flow_per_hour", "flow_low", "flow_high", "flow_forward", "flow_backward", "geometry"),
)


def traffic_table(
    rows: pd.DataFrame,
    segments: gpd.GeoDataFrame,
    *,
    scene_id: str,
    acquired: datetime | None,
    model: str,
    attribution: str | None = None,
) -> pa.Table:
    """What `observe` tells as a table of `TABLE_FIELDS`: a row for a segment, direction and acquisition.

    Every column says in its metadata what it is, and the table to whom its roads are owed.
    """
    of = segments.iloc[rows["segment"]]
    forward = rows["direction"].to_numpy() > 0
    azimuth = of["azimuth_deg"].to_numpy()
    moment = None if acquired is None else pd.Timestamp(acquired)
    if moment is not None:
        moment = moment.tz_localize(UTC) if moment.tzinfo is None else moment.tz_convert(UTC)
    whole: dict[str, Any] = {
        **{name: of[name].to_numpy(object) for name in ("segment_id", "road_id", "road_class")},
        "scene_id": [scene_id] * len(rows),
        "acquired": [moment] * len(rows),
        "direction": np.where(forward, "forward", "backward"),
        "azimuth_deg": np.round(np.where(forward, azimuth, (azimuth + 180) % 360), 1),
        "model": [model] * len(rows),
    }
    schema = pa.schema(
        [pa.field(name, kind, metadata={"description": text}) for name, (kind, text) in TABLE_FIELDS.items()],
        metadata={"attribution": attribution} if attribution else None,
    )
    columns = [
        pa.array(whole.get(name, rows.get(name)), kind, from_pandas=True)
        for name, (kind, _) in TABLE_FIELDS.items()
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def write_traffic(table: pa.Table, folder: Path, scene_id: str, model: str) -> Path:
    """The table as `<scene>.<model>.parquet` in `folder`, in place of what was there; returns the file.

    The folder is the table over all scenes: pandas, PyArrow and Polars read it by its name, DuckDB as
    `folder/*.parquet`. Runs at the same time write different files, and a repeated one replaces its own, so
    that there is nothing to lock and no row twice; all columns are in each file, so that one is whole alone.

    Raises
    ------
    OutputError
        If it can't be written.
    """
    path = folder / (re.sub(r"[^\w.-]", "_", f"{scene_id}.{model}") + ".parquet")
    with replacing(path, pa.ArrowException) as part:
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, part)
    return path


def segment_layer(
    rows: pd.DataFrame, segments: gpd.GeoDataFrame, seen_m: NDArray[np.float64], recall: Recall | None
) -> gpd.GeoDataFrame:
    """The segments with what `observe` tells of both directions together; null where nothing was seen.

    The flow is the sum of the directions', its interval made as theirs from the count of both. Kilometres
    and densities have three decimals, all else one: beyond that there is only noise.
    """
    size = len(segments)
    at, forward = rows["segment"].to_numpy(), rows["direction"].to_numpy() > 0
    oneway = segments["oneway"].to_numpy()

    def total(values: NDArray[np.float64], chosen: NDArray[np.bool_] | slice = slice(None)) -> Any:
        return np.bincount(at[chosen], values[chosen], size).astype(np.float64)

    def column(name: str) -> NDArray[np.float64]:
        return rows[name].to_numpy(np.float64)

    directions = np.maximum(total(np.ones(len(rows))), 1)
    unresolved = total(column("count_unresolved")) / directions
    count = total(column("count")) + unresolved
    flow = total(column("flow_per_hour"))
    each = column("flow_speed_kmh") / column("seen_km") / (1.0 if recall is None else recall.value)
    per_truck = np.where(count > 0, flow / np.maximum(count, 1), total(each) / directions)
    error = total((column("flow_speed_se_kmh") / column("flow_speed_kmh")) ** 2) ** 0.5 / directions
    low, high = _flow_interval(count, count, count, per_truck, error, recall or Recall(1.0, 1.0, 1.0))
    # A mean of two means, each by the inverse of its variance.
    weight = np.nan_to_num(column("speed_se_kmh") ** -2.0)
    weights = total(weight)
    weights[weights == 0] = np.nan
    nothing = seen_m <= 0
    counts = {
        "count": count,
        "count_forward": np.where(oneway < 0, np.nan, total(column("count"), forward)),
        "count_backward": np.where(oneway > 0, np.nan, total(column("count"), ~forward)),
        "count_unresolved": unresolved,
    }
    figures = {
        "mean_speed_kmh": total(weight * np.nan_to_num(column("mean_speed_kmh"))) / weights,
        "speed_se_kmh": weights**-0.5,
        "flow_per_hour": flow,
        "flow_low": low,
        "flow_high": high,
        "flow_forward": np.where(oneway < 0, np.nan, total(column("flow_per_hour"), forward)),
        "flow_backward": np.where(oneway > 0, np.nan, total(column("flow_per_hour"), ~forward)),
    }
    return segments.assign(
        length_m=segments["length_m"].round(1),
        azimuth_deg=segments["azimuth_deg"].round(1),
        seen_km=np.round(seen_m / 1000, 3),
        **{name: pd.array(np.where(nothing, np.nan, some), dtype="Int64") for name, some in counts.items()},
        trucks_per_km=np.where(nothing, np.nan, np.round(total(column("trucks_per_km")), 3)),
        **{name: np.where(nothing, np.nan, np.round(some, 1)) for name, some in figures.items()},
    )[list(SEGMENT_COLUMNS)]
