"""Traffic on roads as a layer and a table: trucks by segment and direction, their speed and flow.

An image shows all trucks of a road at one moment. Their number over a length is the density of traffic k,
the mean of their speeds is its space-mean speed v, and the flow is q = k v (Wardrop, "Some
theoretical aspects of road traffic research", 1952; Edie, "Discussion of traffic stream measurements and
definitions", 1963).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import rasterio
import shapely
from numpy.typing import NDArray

from pipeline import config
from pipeline.inference.predictions import CLOUD, LOOKED_AT, NODATA, SHADOW
from pipeline.layers.columns import DETECTIONS, ROAD_SEGMENTS
from pipeline.layers.expected import Shares
from pipeline.layers.flow import RoadCounts, flow_interval, observe
from pipeline.layers.snapping import DrivingSide, snap_trucks
from pipeline.roads import driving_side as sides
from pipeline.roads.segments import measured_lines, points_along, split_roads
from pipeline.scenes.clouds import has_clouds_information
from pipeline.scenes.scene import Scene, date_text
from pipeline.storage.atomic import replacing

Seen = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.bool_]]
"""Function from places, as x and y in the scene's CRS, to whether they were searched."""


_SAMPLE_M = 5.0
_SEGMENTS_AT_A_TIME = 20_000


@dataclass(frozen=True)
class Traffic:
    """Traffic on the roads of one scene."""

    candidates: gpd.GeoDataFrame
    """All that was given, with `segment_id`, and the road and heading that follow from it."""
    segments: gpd.GeoDataFrame
    """The layer `road_segments`."""
    table: pa.Table
    """The scene's part of `traffic.parquet`."""
    detections: gpd.GeoDataFrame
    """All that was counted, as `columns.DETECTIONS`."""


def road_traffic(
    candidates: gpd.GeoDataFrame,
    shares: Shares,
    roads: gpd.GeoDataFrame,
    scene: Scene,
    status: Path,
    settings: config.TrafficSettings,
    *,
    buffer_m: float,
    model: str,
    attribution: str | None = None,
) -> Traffic:
    """Compute the traffic on `roads` (from `read_roads`, in the scene's CRS).

    `candidates` are rows of the layer of trucks, also below the threshold; `shares` is what they contribute.
    `status` is a raster of the scene's grid as in `pipeline.inference.predictions`. `buffer_m` is the largest
    distance of a truck from its road. Memory: a byte a pixel.
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
        candidates, segments, buffer_m=buffer_m, position_sigma_m=settings.position_sigma_m, driving_side=side
    )
    place = _status_at(status)
    seen_m = seen_length(segments, lambda xs, ys: np.isin(place(xs, ys), LOOKED_AT))
    cloud_m = np.full(len(segments), np.nan)
    if has_clouds_information(scene):
        cloud_m = seen_length(segments, lambda xs, ys: np.isin(place(xs, ys), (CLOUD, SHADOW)))
    counts = RoadCounts.of(snapped, len(segments), shares)
    rows = observe(counts, segments, seen_m)
    table = traffic_table(
        rows, segments, scene_id=scene.id, acquired=scene.acquired, model=model, attribution=attribution
    )
    layer = segment_layer(rows, segments, seen_m, counts, cloud_m)
    return Traffic(snapped.trucks, layer, table, detection_layer(counts))


def detection_layer(counts: RoadCounts) -> gpd.GeoDataFrame:
    """Return what counts are made of, from which `pipeline.traffic` counts again."""
    shares = counts.shares
    off_road = counts.snapped.segment < 0
    return DETECTIONS.conform(
        counts.snapped.trucks.assign(
            direction=pd.Series(counts.snapped.direction, dtype="Int64").mask(off_road),
            counted=shares.counted,
            chance=shares.chance,
            recall=shares.recall,
            recall_group=shares.group,
            recall_error=shares.errors[shares.group],
        )
    )


def _status_at(status: Path) -> Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.uint8]]:
    with rasterio.open(status) as source:
        codes, backwards = source.read(1), ~source.transform

    def at(xs: NDArray[np.float64], ys: NDArray[np.float64]) -> NDArray[np.uint8]:
        cols, rows = (np.floor(pixels).astype(np.intp) for pixels in backwards @ (xs, ys))
        inside = (rows >= 0) & (rows < codes.shape[0]) & (cols >= 0) & (cols < codes.shape[1])
        found = np.full(len(xs), NODATA, np.uint8)
        found[inside] = codes[rows[inside], cols[inside]]
        return found

    return at


# --- segments -------------------------------------------------------------------------------------------


def seen_length(segments: gpd.GeoDataFrame, seen: Seen) -> NDArray[np.float64]:
    """Return the searched metres (S,) of each segment; 0 where it is hidden.

    Samples a segment at the middles of equal steps of at most `_SAMPLE_M`. The error at each end of the
    search area is half a step. Memory: about 50 bytes a step of `_SEGMENTS_AT_A_TIME` segments.
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
    metres[segments["hidden"].notna().to_numpy()] = 0.0
    return metres


# --- results --------------------------------------------------------------------------------------------

_TEXT, _NUMBER, _COUNT = pa.string(), pa.float64(), pa.int32()
TABLE_FIELDS: Mapping[str, tuple[pa.DataType, str]] = {
    "scene_id": (_TEXT, "id of the scene"),
    "acquired": (pa.timestamp("ms", tz="UTC"), "time of acquisition, UTC; null if the source has none"),
    "acquired_date": (_TEXT, "its date, YYYY-MM-DD, UTC; also where the source has no time"),
    "segment_id": (_TEXT, "the segment, as in the layer road_segments"),
    "road_id": (_TEXT, "its road: the way of OpenStreetMap if the roads are from there"),
    "road_class": (_TEXT, "its class, e.g. motorway"),
    "direction": (_TEXT, "forward along the segment's line as drawn, backward against it"),
    "azimuth_deg": (
        _NUMBER,
        "azimuth of that direction from end to end, degrees clockwise from grid north; null for a ring",
    ),
    "count": (_COUNT, "detected trucks that drive in this direction"),
    "count_unresolved": (
        _COUNT,
        "detected trucks on the segment with uncertain direction, the same in both rows",
    ),
    "seen_km": (_NUMBER, "searched length of the segment, km: with data, without cloud"),
    "trucks_per_km": (
        _NUMBER,
        "density of detections: count plus half of the unresolved, divided by seen_km",
    ),
    "expected": (_NUMBER, "expected number of trucks: probabilities of detections over recall"),
    "expected_low": (_NUMBER, "lower end of its 95 % interval: of the trucks that were there"),
    "expected_high": (_NUMBER, "upper end of its 95 % interval"),
    "mean_speed_kmh": (_NUMBER, "space-mean speed of those trucks, km/h; null if none has a speed"),
    "speed_se_kmh": (_NUMBER, "its standard error, km/h"),
    "flow_speed_kmh": (_NUMBER, "speed used for the flow: the mean or, without one, that of similar roads"),
    "flow_per_hour": (
        _NUMBER,
        "trucks per hour in this direction: expected, divided by visible and seen_km, times speed",
    ),
    "flow_low": (_NUMBER, "lower end of the flow's 95 % interval, trucks per hour"),
    "flow_high": (_NUMBER, "upper end of the flow's 95 % interval, trucks per hour"),
    "recall_used": (_NUMBER, "mean recall of these trucks, 0-1; null if unknown, then without correction"),
    "model": (_TEXT, "the detector, id and version"),
}
"""Columns of `traffic.parquet`: type, and meaning with its unit."""


def traffic_table(
    rows: pd.DataFrame,
    segments: gpd.GeoDataFrame,
    *,
    scene_id: str,
    acquired: date | None,
    model: str,
    attribution: str | None = None,
) -> pa.Table:
    """Return the figures of `observe` as `TABLE_FIELDS`: a row a segment, direction and acquisition.

    Each column has its description as metadata; the table has the attribution of the roads.
    """
    of = segments.iloc[rows["segment"]]
    forward = rows["direction"].to_numpy() > 0
    azimuth = of["azimuth_deg"].to_numpy()
    moment = pd.Timestamp(acquired) if isinstance(acquired, datetime) else None
    if moment is not None:
        moment = moment.tz_localize(UTC) if moment.tzinfo is None else moment.tz_convert(UTC)
    whole: dict[str, Any] = {
        **{name: of[name].to_numpy(object) for name in ("segment_id", "road_id", "road_class")},
        "scene_id": [scene_id] * len(rows),
        "acquired": [moment] * len(rows),
        "acquired_date": [date_text(acquired)] * len(rows),
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
    """Write the table as `<scene>.<model>.parquet` in `folder`, replacing an old one; return the file.

    The folder is the table of all scenes: pandas, PyArrow and Polars read it by its name, DuckDB as
    `folder/*.parquet`. Simultaneous runs write different files, and a repeated run replaces its own, so there
    are no locks and no duplicate rows. Each file has all columns.

    Raises
    ------
    OutputError
        If it can't be written.
    """
    plain = f"{scene_id}.{model}"
    name = re.sub(r"[^\w.-]", "_", plain)
    if name != plain:  # "a #1" and "a ?1" are two scenes
        name += "-" + hashlib.sha256(plain.encode()).hexdigest()[:8]
    path = folder / f"{name}.parquet"
    with replacing(path, pa.ArrowException) as part:
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, part)
    return path


def segment_layer(
    rows: pd.DataFrame,
    segments: gpd.GeoDataFrame,
    seen_m: NDArray[np.float64],
    counts: RoadCounts,
    cloud_m: NDArray[np.float64] | None = None,
) -> gpd.GeoDataFrame:
    """Return the segments with the figures of `observe` for both directions together; null if not searched.

    The flow is the sum over directions; its interval is computed from the trucks of both. `cloud_m` are the
    metres (S,) under cloud or its shadow, unknown without. Kilometres,
    densities and expected numbers have three decimals, other figures one; further digits are noise.
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
    expected, (expected_low, expected_high) = counts.together.expected, counts.together.interval
    flow, low, high = _flow_of_both(counts, total, column, directions)
    # The mean of both means, weighted by inverse variance.
    weight = np.nan_to_num(column("speed_se_kmh") ** -2.0)
    weights = total(weight)
    weights[weights == 0] = np.nan
    nothing = seen_m <= 0
    whole = {
        "count": count,
        "count_forward": np.where(oneway < 0, np.nan, total(column("count"), forward)),
        "count_backward": np.where(oneway > 0, np.nan, total(column("count"), ~forward)),
        "count_unresolved": unresolved,
    }
    numbers = {
        "trucks_per_km": total(column("trucks_per_km")),
        "expected": expected,
        "expected_low": expected_low,
        "expected_high": expected_high,
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
    figured = segments.assign(
        length_m=segments["length_m"].round(1),
        azimuth_deg=segments["azimuth_deg"].round(1),
        seen_km=np.round(seen_m / 1000, 3),
        cloud_km=np.nan if cloud_m is None else np.round(cloud_m / 1000, 3),
        **{name: np.where(nothing, np.nan, some) for name, some in whole.items()},
        **{name: np.where(nothing, np.nan, np.round(some, 3)) for name, some in numbers.items()},
        **{name: np.where(nothing, np.nan, np.round(some, 1)) for name, some in figures.items()},
    )
    return ROAD_SEGMENTS.conform(figured)


def _flow_of_both(
    counts: RoadCounts,
    total: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    column: Callable[[str], NDArray[np.float64]],
    directions: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the flow (S,) of both directions of segments, and the ends of its 95 % interval."""
    both, flow = counts.together, total(column("flow_per_hour"))
    each = column("flow_speed_kmh") / column("seen_km")
    per_truck = np.divide(flow, both.expected, out=total(each) / directions, where=both.expected > 0)
    error = total((column("flow_speed_se_kmh") / column("flow_speed_kmh")) ** 2) ** 0.5 / directions
    fewest, most = both.mean_interval
    return flow, *flow_interval(fewest, both.expected, most, per_truck, error)
